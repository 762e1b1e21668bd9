"""What a scope is made of, and what it takes over from the last snapshot."""

import numpy as np
import pytest
from planted_networks import activations, activity_of, labels_of, network_of

from fnet_callbacks import functional as F
from fnet_callbacks.errors import FnetError
from fnet_callbacks.history import Previous
from fnet_callbacks.network import Activity, GraphSettings, Network
from fnet_callbacks.quantities.networks import measure, names_of

FULL, FAST = names_of("full"), names_of("fast")
NEEDS_MATRIX = {"sigma_hqs", "betti_0", "betti_1", "loops", "functional_persistence", "persistent_entropy"}
# What follows from the graph alone, and is charged to these names where it is computed.
OF_GRAPH = {"wiring", "null_graphs"}


def unchanged(values: np.ndarray, **options) -> Network:
    """A third scope with the graph of the two before it; the first had one start of Louvain, the others have two."""
    previous = None
    for _ in range(2):
        before = network_of(values, previous=previous, **options)
        measure(before, FULL)
        previous = before.to_previous()
    return network_of(values, previous=previous, **options)


def without_results(previous: Previous) -> Previous:
    return Previous(previous.partition, previous.edges, previous.history)


# A selection in place of the matrix. --------------------------------------------------------


@pytest.mark.parametrize("n_dead", [0, 4])
def test_a_selection_stands_for_the_correlation_in_what_needs_the_graph_alone(n_dead):
    values = activations(n_dead=n_dead)
    correlation, activity = F.correlation_matrix(values), activity_of(values, labels_of(values))
    previous = network_of(activations(n_dead=n_dead, seed=1)).to_previous()
    whole = Network(correlation, activity, previous=previous)
    selected = Network(None, activity, selection=F.select(correlation), previous=previous)
    names = [name for name in FULL if name not in NEEDS_MATRIX]
    assert measure(selected, names, on_error="raise") == measure(whole, names, on_error="raise")
    for name, array in whole.arrays().items():
        assert np.array_equal(selected.arrays()[name], array)
    assert selected.scale == whole.scale
    assert "graph" in selected.stopwatch.ms


def test_a_selection_is_taken_where_both_are_given():
    correlation = F.correlation_matrix(activations())
    selection = F.select(correlation, density=0.3)
    scope = Network(correlation, Activity(np.zeros(100)), selection=selection)
    assert len(scope.graph.edges) == len(selection.edges) == round(0.3 * 100 * 99 / 2)
    assert measure(scope, ["loops"], on_error="raise")["loops"] > 0


@pytest.mark.parametrize("name", sorted(NEEDS_MATRIX))
def test_what_needs_the_matrix_says_that_it_is_not_there(name):
    selection = F.select(F.correlation_matrix(activations()))
    scope = Network(None, Activity(np.zeros(100)), selection=selection)
    with pytest.raises(FnetError, match="correlation is needed"):
        measure(scope, [name], on_error="raise")


def test_a_scope_needs_one_of_both_and_both_of_the_same_neurons():
    with pytest.raises(FnetError, match="a correlation, or a selection"):
        Network(None, Activity(np.zeros(3)))
    with pytest.raises(FnetError, match="selection must be of the 3 neurons"):
        Network(np.eye(3), Activity(np.zeros(3)), selection=F.select(np.eye(4)))


def test_a_layers_scope_reads_its_block_of_the_whole_correlation():
    values = activations(n_dead=4)
    correlation, own = F.correlation_matrix(values), slice(20, 100)
    of_block = Network(correlation[own, own], activity_of(values).of(own))
    of_copy = Network(correlation[own, own].copy(), activity_of(values[:, own]))
    assert measure(of_block, FAST) == pytest.approx(measure(of_copy, FAST), nan_ok=True, rel=1e-12)


def test_histograms_are_counted_once_for_the_network_and_its_layers(monkeypatch):
    counted = []
    histograms = F.histogram_entropies
    monkeypatch.setattr(F, "histogram_entropies", lambda kept: counted.append(kept.shape) or histograms(kept))
    values = activations(n_dead=4)
    activity, correlation = activity_of(values), F.correlation_matrix(values)
    scopes = [
        Network(correlation, activity),
        *(Network(correlation[own, own], activity.of(own)) for own in (slice(0, 40), slice(40, 100))),
    ]
    found = [measure(scope, ["histogram_entropy"])["histogram_entropy"] for scope in scopes]
    assert counted == [(60, 100)]
    assert found == [F.histogram_entropy(part) for part in (values, values[:, :40], values[:, 40:])]


# A graph that did not change. ---------------------------------------------------------------


@pytest.mark.parametrize("n_dead", [0, 4])
def test_an_unchanged_graph_has_the_same_values_whether_or_not_they_were_taken_over(n_dead):
    scope = unchanged(activations(n_dead=n_dead))
    assert scope.previous is not None
    anew = network_of(activations(n_dead=n_dead), previous=without_results(scope.previous))
    assert measure(scope, FULL, on_error="raise") == measure(anew, FULL, on_error="raise")
    assert not OF_GRAPH & set(scope.stopwatch.ms) - {"sigma"}
    assert set(anew.stopwatch.ms) >= OF_GRAPH
    assert {"homology", "sigma_hqs"} <= set(scope.stopwatch.ms)


def test_what_is_taken_over_is_carried_on():
    scope = unchanged(activations())
    measure(scope, FULL)
    third = network_of(activations(), previous=scope.to_previous())
    measure(third, FULL)
    assert not OF_GRAPH & set(third.stopwatch.ms)


def test_communities_are_taken_over_once_they_are_what_louvain_started_from(monkeypatch):
    scope = unchanged(activations())
    for _ in range(3):
        scope = network_of(activations(), previous=scope.to_previous())
    previous = scope.to_previous()
    assert previous.is_settled
    anew = network_of(activations(), previous=without_results(previous)).partition
    monkeypatch.setattr(F, "communities", None)  # not called
    assert np.array_equal(network_of(activations(), previous=previous).partition, anew)


def moved_edge(values: np.ndarray, settings: GraphSettings) -> np.ndarray:
    """The correlation with its weakest edge a little weaker, the next pair in its place."""
    correlation = F.correlation_matrix(values)
    before = network_of(values, settings=settings)
    edges = before.graph.edges
    weakest = edges[np.argmin(np.abs(correlation[edges[:, 0], edges[:, 1]]))]
    i, j = weakest
    correlation[i, j] = correlation[j, i] = 0
    return correlation


def test_nothing_is_taken_over_when_one_edge_changes():
    values, settings = activations(), GraphSettings(F.GraphRule(method="density"))
    before = network_of(values, settings=settings)
    measure(before, FULL)
    previous = before.to_previous()
    correlation = moved_edge(values, settings)
    scope, anew = (
        Network(correlation, activity_of(values), previous=carried, settings=settings)
        for carried in (previous, without_results(previous))
    )
    assert measure(scope, FULL) == pytest.approx(measure(anew, FULL), nan_ok=True, rel=0, abs=0)
    turnover = measure(scope, ["edge_turnover"])["edge_turnover"]
    assert turnover == pytest.approx(1 - (len(before.edges) - 1) / (len(before.edges) + 1))
    assert set(scope.stopwatch.ms) == set(anew.stopwatch.ms)


@pytest.mark.parametrize("change", [{"seed": 1}, {"nulls": 4}])
def test_nothing_is_taken_over_that_another_setting_would_give(change):
    values = activations()
    before = network_of(values)
    measure(before, ["sigma", "modularity_z"])
    settings = GraphSettings(**change)
    scope = network_of(values, previous=before.to_previous(), settings=settings)
    anew = network_of(values, previous=without_results(before.to_previous()), settings=settings)
    assert measure(scope, ["sigma"]) == measure(anew, ["sigma"])


def test_a_neuron_that_died_beside_the_graph_is_a_change():
    values = activations(30)
    settings = GraphSettings(F.GraphRule(method="threshold", threshold=0.999))
    before = network_of(values, settings=settings)
    assert len(before.edges) == 0
    values[:, 0] = 0
    scope = network_of(values, previous=before.to_previous(), settings=settings)
    assert not scope.is_unchanged


# Homology up to the graph's own scale. ------------------------------------------------------


def test_a_filtration_can_end_at_the_graphs_own_scale():
    scope = network_of(activations(), settings=GraphSettings(homology_radius="graph"))
    found = measure(scope, ("betti_0", "betti_1", "loops"), on_error="raise")
    full = network_of(activations())
    distance = F.correlation_distance(full.correlation)
    expected = F.persistence(distance, threshold=full.scale)
    assert found["loops"] == len(expected[1])
    whole = measure(full, ("betti_0", "betti_1"))
    assert (found["betti_0"], found["betti_1"]) == (whole["betti_0"], whole["betti_1"])
    assert set(scope.notes.values()) == {f"homology of distances up to the graph's scale, {full.scale:.3f}"}


def test_the_history_is_what_the_whole_series_gives_also_where_neurons_die():
    rng = np.random.default_rng(0)
    previous, partitions, found = None, [], []
    for seed in (0, 1, 1, 2, 3):
        values = activations(seed=seed)
        values[:, rng.integers(0, 100, 6)] = 0
        scope = network_of(values, previous=previous)
        found.append(measure(scope, ["flexibility", "births", "splits"]))
        previous = scope.to_previous()
        partitions.append(previous.partition)
    names = F.trace(np.stack(partitions, axis=1))
    np.testing.assert_array_equal(previous.history.names, names[:, -1])
    assert previous.history.n_names == names.max() + 1
    expected = F.flexibility(names)[scope.nodes]
    assert found[-1]["flexibility"] == pytest.approx(np.nanmean(expected))
    np.testing.assert_array_equal(scope.arrays()["community"], names[scope.nodes, -1])
    happened = [event.kind for event in F.events(names[:, -2], names[:, -1])]
    assert [found[-1]["births"], found[-1]["splits"]] == [happened.count("birth"), happened.count("split")]
