"""The quantities of a functional network: which there are, which a user chose, and measuring them.

What several of them need (the graph, its null graphs, the diagrams) is a property of the network and charged to its own
name.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

from fnet_callbacks.arguments import plain
from fnet_callbacks.errors import FnetError
from fnet_callbacks.imports import import_path
from fnet_callbacks.network import Network, NoValueError
from fnet_callbacks.quantities.communities import COMMUNITIES
from fnet_callbacks.quantities.loops import LOOPS
from fnet_callbacks.quantities.neurons import NEURONS
from fnet_callbacks.quantities.quantity import TIERS, Quantity
from fnet_callbacks.quantities.wiring import WIRING

Measures = str | Quantity | Sequence[str | Quantity]

SECTIONS: Mapping[str, tuple[Quantity, ...]] = {
    "Neurons and their activity": NEURONS,
    "Wiring": WIRING,
    "Communities": COMMUNITIES,
    "Loops": LOOPS,
}
MEASURES: tuple[Quantity, ...] = tuple(
    sorted((q for section in SECTIONS.values() for q in section), key=lambda q: TIERS.index(q.tier))
)
BY_NAME: Mapping[str, Quantity] = {q.name: q for q in MEASURES}

N_SAMPLES = Quantity(
    "n_samples",
    "samples",
    "Number of samples that the correlation is over: inputs, or tokens.",
    (0, None),
    "fast",
)
_RESERVED = (*TIERS, N_SAMPLES.name, "step")


def quantities_of(
    measures: Any, *, argument: str = "measures", beside: Iterable[Quantity] = ()
) -> tuple[Quantity, ...]:
    """The quantities that a user chose: those of the package in its order, then the user's own in theirs.

    Args:
        measures: A tier, a name, a quantity with a function, the dotted path of one, or a list of such.
        argument: What an error calls it.
        beside: Quantities that are measured too.

    Raises:
        FnetError: One is none of these, two have one name, or a quantity has no function.
    """
    value = plain(argument, measures)
    listed = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(one, str | Quantity) for one in listed):
        raise FnetError(
            f"`{argument}={measures!r}` should be a tier, or a list of tiers, names and quantities; [] is none"
        )
    chosen, names = list[Quantity](), set[str]()
    for one in listed:
        if isinstance(one, str) and "." in one:
            chosen.append(_imported(one, argument))
        elif isinstance(one, str):
            names.add(one)
        else:
            chosen.append(one)
    if unknown := sorted(names - set(TIERS) - set(BY_NAME)):
        raise FnetError(
            f"`{argument}`: {', '.join(map(repr, unknown))} is neither a tier ({', '.join(TIERS)}) nor a "
            f"measure ({', '.join(BY_NAME)}); a measure of your own is a Quantity, or its dotted path"
        )
    own = own_quantities(chosen, argument=argument)
    own_quantities([*beside, *own], argument=argument)  # no two have one name
    names |= {q.name for q in chosen if q not in own}
    depth = max((TIERS.index(t) for t in TIERS if t in names), default=-1)
    return (*(q for q in MEASURES if q.name in names or TIERS.index(q.tier) <= depth), *own)


def names_of(measures: Any, *, argument: str = "measures") -> tuple[str, ...]:
    """The names of the quantities that a user chose; see `quantities_of`."""
    return tuple(q.name for q in quantities_of(measures, argument=argument))


def own_quantities(quantities: Iterable[Quantity], *, argument: str = "measures") -> tuple[Quantity, ...]:
    """Those of some quantities that are the user's own, each once.

    Raises:
        FnetError: One has no function or the name of another quantity.
    """
    found: dict[str, Quantity] = {}
    for q in quantities:
        if q in MEASURES:
            continue
        if q.name in BY_NAME or q.name in _RESERVED or found.get(q.name, q) != q:
            raise FnetError(
                f"`{argument}`: there are two quantities {q.name!r}; choose another `name` for yours"
            )
        if q.function is None:
            raise FnetError(f"`{argument}`: the quantity {q.name!r} has no `function` to measure it by")
        found[q.name] = q
    return tuple(found.values())


def by_name(own: Iterable[Quantity] = ()) -> dict[str, Quantity]:
    """The package's quantities of a network and a user's own, by name."""
    return {**BY_NAME, **{q.name: q for q in own}}


def needs_inline(quantities: Iterable[Quantity]) -> list[str]:
    """Names of the user's own quantities that no other process can import: they are measured on the training thread."""
    return [q.name for q in own_quantities(quantities) if import_path(q.function) is None]


def of_same_diagrams(quantity: Quantity, quantities: Iterable[Quantity]) -> list[str]:
    """Names of a quantity and of those among some that are made of the same diagrams, where it is made of them."""
    if quantity.needs != "diagrams":
        return [quantity.name]
    return [q.name for q in quantities if q.needs == "diagrams"]


def measure(
    network: Network,
    quantities: Iterable[Quantity | str],
    *,
    on_error: Literal["warn", "raise"] = "warn",
    around: Callable[[str], AbstractContextManager[object]] = nullcontext,
    given_up: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """Measures a network.

    A quantity without a value here gives NaN, its reason in ``network.notes``. One that fails gives NaN too, the
    error in ``network.notes`` behind ``"failed: "``, unless ``on_error="raise"``. Where homology was bounded,
    the notes of its quantities say so. Costs go to ``network.stopwatch``.

    Args:
        network: The network.
        quantities: Quantities with a function, or names of the package's.
        on_error: What to do where a function raises.
        around: From the name of a quantity to what it is measured in.
        given_up: Quantities that are taken as failed without being tried, and why.

    Returns:
        Name to value.
    """
    values: dict[str, float] = {}
    for each in quantities:
        quantity = BY_NAME[each] if isinstance(each, str) else each
        name = quantity.name
        values[name] = math.nan
        try:
            if given_up and name in given_up:
                raise TimeoutError(given_up[name])
            with around(name), network.stopwatch.part(name):
                assert quantity.function is not None
                values[name] = float(quantity.function(network))
        except NoValueError as reason:
            network.notes[name] = str(reason)
        except Exception as error:
            if on_error == "raise":
                raise
            network.notes[name] = f"failed: {type(error).__name__}: {error}"
        if math.isinf(values[name]):  # which JSON does not have: loggers and record are to say the same
            values[name] = math.nan
            network.notes[name] = "infinite"
        if math.isnan(values[name]):
            network.notes.setdefault(name, "not defined for this network")
        elif quantity.needs == "diagrams" and network.homology_bound:
            network.notes[name] = network.homology_bound
    return values


def _imported(path: str, argument: str) -> Quantity:
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise FnetError(f"`{argument}`: {path!r} is no importable 'package.module.quantity'") from error
    if not isinstance(found, Quantity):
        raise FnetError(f"`{argument}`: {path!r} names a {type(found).__name__}; it should be a Quantity")
    return found
