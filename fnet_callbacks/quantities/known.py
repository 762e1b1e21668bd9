"""The package's quantities by kind of instrument and name, for records that say no more than that."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from fnet_callbacks.quantities.codes import departure, of_layer
from fnet_callbacks.quantities.lesions import LESIONS
from fnet_callbacks.quantities.monitor import MONITOR
from fnet_callbacks.quantities.networks import MEASURES, N_SAMPLES
from fnet_callbacks.quantities.quantity import Quantity
from fnet_callbacks.quantities.regions import REGIONS
from fnet_callbacks.quantities.robustness import CLEAN_ACCURACY, attacked
from fnet_callbacks.quantities.specialization import QUESTIONS, of_groups

_ATTACKS = ("fgsm", "pgd")
_ATTACKED = re.compile(r"([a-z0-9]+)_([0-9.eE+-]+)_(accuracy|zero_gradients)")


def known(kind: str, name: str) -> Quantity | None:
    """The package's own quantity of a kind of instrument, such as ``"Robustness"``; None where it has none.

    Of an attack the name is that of a key, such as ``pgd_0.03137_accuracy``.
    """
    if kind == "Robustness" and (found := _ATTACKED.fullmatch(name)):
        attack, epsilon, what = found.groups()
        return attacked(attack, epsilon)[what != "accuracy"]
    return _tables().get(kind, {}).get(name)


@cache
def _tables() -> Mapping[str, Mapping[str, Quantity]]:
    kinds = {
        "FunctionalNetwork": (*MEASURES, N_SAMPLES),
        "Robustness": (CLEAN_ACCURACY,),
        "Lesions": LESIONS,
        "LocalSpecialization": of_groups(QUESTIONS, has_z=True),
        "ReLURegions": REGIONS,
        "FunctionalCodes": (
            *of_layer(is_labelled=True, attacks=_ATTACKS),
            *(departure(attack) for attack in _ATTACKS),
        ),
        "Monitor": MONITOR,
    }
    return {kind: {q.name: q for q in quantities} for kind, quantities in kinds.items()}
