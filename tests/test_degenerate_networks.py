"""Networks that are hardly any: a written result for every measure."""

import math
import warnings

import numpy as np
import pytest
from planted_networks import activations, labels_of, network_of

from fnet_callbacks import functional as F
from fnet_callbacks.network import Activity, GraphSettings, Network
from fnet_callbacks.quantities.networks import measure, names_of

STANDARD, FULL = names_of("standard"), names_of("full")
nan, inf = math.nan, math.inf
DEGENERATE = {
    "no unit": np.empty((20, 0)),
    "no sample": np.empty((0, 5)),
    "one sample": np.ones((1, 5)),
    "all dead": np.zeros((20, 5)),
    "one live": np.eye(20, 5) * [1, 0, 0, 0, 0],
    "one unit": np.eye(20, 1),
    "two samples": np.array([[0.0, 1.0, 2.0, 5.0], [1.0, 0.0, 2.0, 7.0]]),
    "two units": activations(2),
    "two equal units": np.repeat(activations(1), 2, axis=1),
    "all equal": np.repeat(activations(1), 100, axis=1),
    "uncorrelated": np.vstack([np.eye(100), -np.eye(100)]),
    "not a number": np.where(np.arange(100) < 2, nan, activations()),
    "infinite": np.where(np.arange(100) < 2, inf, activations()),
    "all infinite": np.full((20, 5), -inf),
    "huge": activations() * 1e200,
    "tiny": activations() * 1e-200,
}


@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("with_previous", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        GraphSettings(),
        GraphSettings(F.GraphRule(method="density", sign="positive")),
        GraphSettings(F.GraphRule(method="threshold", threshold=0.5)),
    ],
    ids=lambda s: s.rule.method,
)
def test_a_degenerate_network_has_a_written_result_for_every_measure(case, with_previous, settings):
    values = DEGENERATE[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        previous = network_of(values, settings=settings).to_previous() if with_previous else None
        scope = network_of(values, labels_of(values), previous=previous, settings=settings)
        found = measure(scope, FULL, on_error="raise")
        scope.to_previous()
    assert tuple(found) == FULL
    assert not any(map(math.isinf, found.values()))
    assert {name for name, value in found.items() if math.isnan(value)} == set(scope.notes)


def test_a_network_without_a_live_neuron():
    scope = network_of(DEGENERATE["all dead"], labels_of(DEGENERATE["all dead"]))
    found = measure(scope, FULL)
    defined = {name: value for name, value in found.items() if not math.isnan(value)}
    assert defined == {
        "n_neurons": 0,
        "dead_fraction": 1,
        "n_communities": 0,
        "betti_0": 0,
        "betti_1": 0,
        "loops": 0,
        "functional_persistence": 0,
        "persistent_entropy": 0,
    }


def test_a_network_that_died_since_the_last_snapshot_counts_what_went():
    dead = np.zeros_like(activations())
    previous = network_of(activations()).to_previous()
    found = measure(network_of(dead, labels_of(dead), previous=previous), FULL)
    assert (found["edge_turnover"], found["births"]) == (1, 0)
    assert found["deaths"] == len(np.unique(previous.partition))
    assert all(math.isnan(found[name]) for name in ("modularity", "partition_ami", "sigma"))


def test_a_network_of_one_live_neuron():
    scope = network_of(DEGENERATE["one live"])
    found = measure(scope, STANDARD)
    assert (found["n_neurons"], found["effective_rank"], found["n_communities"], found["betti_0"]) == (
        1,
        1,
        1,
        1,
    )
    assert scope.notes["path_length"] == "1 live neurons; at least 2 are needed"


def test_units_that_are_not_finite_are_dead_and_the_others_measured():
    found = measure(network_of(DEGENERATE["infinite"]), FULL)
    finite = measure(network_of(activations()[:, 2:]), FULL)
    assert found["dead_fraction"] == pytest.approx(0.02)
    same = [name for name in FULL if name != "dead_fraction"]
    assert [found[n] for n in same] == pytest.approx([finite[n] for n in same], rel=1e-12, nan_ok=True)


def test_labels_and_values_that_were_not_gathered_are_the_reason():
    values = activations()
    scope = Network(F.correlation_matrix(values), Activity((values > 0).mean(0)))
    found = measure(scope, ["selectivity_entropy", "histogram_entropy", "activation_entropy"])
    assert scope.notes == {
        "selectivity_entropy": "the probe has no labels",
        "histogram_entropy": "not measured on live batches",
    }
    assert not math.isnan(found["activation_entropy"])
