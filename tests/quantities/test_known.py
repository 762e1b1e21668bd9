"""All quantities of the package have words of their own, and are found by kind and name."""

import numpy as np
import pytest
from planted_networks import activations, labels_of, network_of

from fnet_callbacks import functional as F
from fnet_callbacks.network import GraphSettings
from fnet_callbacks.quantities.codes import departure, of_layer
from fnet_callbacks.quantities.known import known
from fnet_callbacks.quantities.lesions import LESIONS
from fnet_callbacks.quantities.monitor import MONITOR
from fnet_callbacks.quantities.networks import MEASURES, N_SAMPLES, measure
from fnet_callbacks.quantities.quantity import Quantity
from fnet_callbacks.quantities.regions import REGIONS
from fnet_callbacks.quantities.robustness import attacked, of_attacks
from fnet_callbacks.quantities.specialization import QUESTIONS, of_groups

BY_KIND: dict[str, tuple[Quantity, ...]] = {
    "FunctionalNetwork": (*MEASURES, N_SAMPLES),
    "Robustness": of_attacks(["fgsm", "pgd"], [8 / 255, 0.5]),
    "Lesions": LESIONS,
    "LocalSpecialization": of_groups(QUESTIONS, has_z=True),
    "ReLURegions": REGIONS,
    "FunctionalCodes": (
        *of_layer(is_labelled=True, attacks=["fgsm", "pgd"]),
        departure("fgsm"),
        departure("pgd"),
    ),
    "Monitor": MONITOR,
}


@pytest.mark.parametrize("kind", BY_KIND)
def test_the_quantities_of_an_instrument_have_names_and_labels_of_their_own(kind: str) -> None:
    own = BY_KIND[kind]
    assert len({q.name for q in own}) == len({q.label for q in own}) == len(own)
    for q in own:
        assert "_" not in q.label
        assert q.definition.endswith(".")
        assert q.definition[0].isupper() or not q.definition[0].isalpha()
        assert known(kind, q.name) == q


def test_an_attack_has_the_words_of_its_name_and_size() -> None:
    accuracy, zeros = attacked("pgd", 8 / 255)
    assert (accuracy.name, zeros.name) == ("pgd_0.03137_accuracy", "pgd_0.03137_zero_gradients")
    assert accuracy.label == "accuracy under PGD, ε = 0.03137"
    assert zeros.label == "zero gradients under PGD, ε = 0.03137"
    assert known("Robustness", "fgsm_1e-05_accuracy") == attacked("fgsm", 1e-5)[0]
    assert known("Robustness", "fgsm_1e+05_zero_gradients") == attacked("fgsm", 1e5)[1]


def test_what_is_not_of_the_package_is_not_known() -> None:
    assert known("FunctionalNetwork", "hub_share") is None
    assert known("Sentiment", "modularity") is None
    assert known("FunctionalNetwork", "pgd_0.1_accuracy") is None


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("density", [0.05, 0.3])
def test_values_of_networks_are_in_their_ranges(seed: int, density: float) -> None:
    settings = GraphSettings(F.GraphRule(density=density), nulls=2)
    layers = np.arange(100) // 60
    previous = None
    for k in range(2):
        values = activations(n_dead=3, seed=10 * seed + k)
        network = network_of(values, labels_of(values), layers=layers, settings=settings, previous=previous)
        for name, value in measure(network, MEASURES, on_error="raise").items():
            bounds = known("FunctionalNetwork", name).range  # type: ignore[union-attr]
            if bounds is not None and np.isfinite(value):
                low, high = bounds
                assert low is None or value >= low - 1e-9, name
                assert high is None or value <= high + 1e-9, name
        previous = network.to_previous()
