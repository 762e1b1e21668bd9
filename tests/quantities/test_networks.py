"""Quantities of a network: what a tier holds, what each is, and measures of one's own."""

import math
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from own_measures import HUBS, NAMED
from planted_networks import activations, activity_of, labels_of, network_of

from fnet_callbacks import functional as F
from fnet_callbacks.errors import FnetError
from fnet_callbacks.history import Previous
from fnet_callbacks.network import Activity, GraphSettings, Network
from fnet_callbacks.quantities.networks import (
    BY_NAME,
    MEASURES,
    measure,
    names_of,
    needs_inline,
    quantities_of,
)
from fnet_callbacks.quantities.quantity import Quantity
from fnet_callbacks.stopwatch import Stopwatch

FAST = (
    "n_neurons",
    "dead_fraction",
    "mean_abs_correlation",
    "effective_rank",
    "activation_entropy",
    "histogram_entropy",
    "selectivity_entropy",
    "tree_mean",
    "tree_std",
    "clustering",
    "path_length",
    "global_efficiency",
    "degree_entropy",
    "edge_turnover",
    "modularity",
    "n_communities",
    "community_entropy",
    "partition_ami",
    "flexibility",
    "participation",
)
STANDARD = (
    *FAST,
    "sigma_hqs",
    "sigma",
    "births",
    "deaths",
    "splits",
    "merges",
    "layer_ami",
    "layer_entropy",
    "class_ami",
    "class_affinity",
    "modularity_z",
    "betti_0",
    "betti_1",
    "loops",
    "functional_persistence",
    "persistent_entropy",
)
FULL = (*STANDARD, "local_efficiency", "fault_tolerance_random", "fault_tolerance_degree")


# Names. -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tier", "names"), [("fast", FAST), ("standard", STANDARD), ("full", FULL)])
def test_a_tier_holds_what_the_design_says(tier, names):
    assert names_of(tier) == names


def test_names_and_tiers_can_be_mixed_and_come_in_one_order_without_repeats():
    assert names_of(["sigma", "n_neurons", "sigma"]) == ("n_neurons", "sigma")
    assert names_of(["local_efficiency", "fast", "path_length"]) == (*FAST, "local_efficiency")
    assert names_of([]) == ()


@pytest.mark.parametrize("wrong", ["sigmaa", ["fast", "sigmaa"]])
def test_an_unknown_name_leads_to_those_there_are(wrong):
    with pytest.raises(
        FnetError, match=r"`measures`: 'sigmaa' is neither a tier \(fast, .* nor a measure \(n_neu"
    ):
        names_of(wrong)


# Measures of one's own. ---------------------------------------------------------------------


def test_measures_of_ones_own_come_last_each_once():
    chosen = quantities_of(["fast", HUBS, "own_measures.HUBS", "sigma"])
    assert tuple(q.name for q in chosen) == (*FAST, "sigma", "hub_share")
    assert quantities_of(HUBS) == quantities_of("own_measures.HUBS") == (HUBS,)
    assert quantities_of([MEASURES[0], HUBS]) == (MEASURES[0], HUBS)
    network = network_of(activations())
    degrees = network.graph.degrees
    assert measure(network, [HUBS], on_error="raise") == {"hub_share": degrees.max() / degrees.sum()}
    assert "hub_share" in network.stopwatch.ms
    assert "hub_share" not in BY_NAME


@pytest.mark.parametrize(
    ("measures", "message"),
    [
        ([HUBS, replace(HUBS, label="other")], "two quantities 'hub_share'"),
        ([replace(HUBS, name="sigma")], "two quantities 'sigma'"),
        ([replace(HUBS, name="fast")], "two quantities 'fast'"),
        ([replace(HUBS, name="n_samples")], "two quantities 'n_samples'"),
        ([replace(HUBS, function=None)], "'hub_share' has no `function`"),
        (["own_measures.A_FUNCTION"], "'own_measures.A_FUNCTION' names a function; it should be a Quantity"),
        (["own_measures.GONE"], "'own_measures.GONE' is no importable 'package.module.quantity'"),
        (["nowhere.GONE"], "'nowhere.GONE' is no importable"),
        ([F.modularity], "should be a tier, or a list of tiers, names and quantities"),
        (3, "=3` should be a tier"),
    ],
)
def test_what_is_no_measure_is_refused(measures, message):
    with pytest.raises(FnetError, match=f"`measures.*{message}"):
        quantities_of(measures)


def test_two_of_one_name_for_the_whole_and_for_layers_are_refused():
    with pytest.raises(FnetError, match="`layer_measures`: there are two quantities 'hub_share'"):
        quantities_of(replace(HUBS, label="other"), argument="layer_measures", beside=[HUBS])
    assert quantities_of(HUBS, argument="layer_measures", beside=[HUBS]) == (HUBS,)


def test_those_that_no_other_process_can_import_are_named():
    assert needs_inline(quantities_of(["full", HUBS])) == []
    assert needs_inline(quantities_of(["full", HUBS, NAMED])) == ["mean_r2"]


# Values. ------------------------------------------------------------------------------------


def test_every_measure_is_that_function_of_the_live_neurons():
    values = activations(n_dead=4)
    labels, live = labels_of(values), slice(0, 96)
    settings = GraphSettings(seed=3)
    before = network_of(activations(n_dead=4, seed=1), settings=settings).to_previous()
    correlation = F.correlation_matrix(values)[live, live]
    tree = F.spanning_tree(correlation)
    graph = F.graph_from_correlation(correlation, tree=tree)
    partition = F.communities(graph, initial=before.partition[live], seed=3)
    lengths = 1 - np.abs(correlation[tree[:, 0], tree[:, 1]])
    diagrams = F.persistence(F.correlation_distance(correlation), backend="ripser")
    betti = F.betti_numbers(diagrams, F.graph_scale(correlation, graph, tree))
    activity = activity_of(values, labels)
    names = F.trace(np.stack([before.partition[live], partition], axis=1))
    happened = [event.kind for event in F.events(names[:, 0], names[:, 1])]
    layers, sizes = np.arange(100) // 60, np.bincount(partition)
    preferred = F.preferred_class(activity.class_active_share[:, live])
    sums = np.stack([values[:, live][:, partition == k].sum(1) for k in range(len(sizes))], axis=1)
    expected = {
        "n_neurons": 96,
        "dead_fraction": 0.04,
        "mean_abs_correlation": F.mean_abs_correlation(correlation),
        "effective_rank": F.effective_rank(correlation),
        "activation_entropy": F.activation_entropy(activity.active_share[live]),
        "histogram_entropy": F.histogram_entropy(values[:, live]),
        "selectivity_entropy": F.selectivity_entropy(activity.class_active_share[:, live]),
        "clustering": F.clustering_coefficient(graph),
        "path_length": F.path_length(graph),
        "global_efficiency": F.global_efficiency(graph),
        "degree_entropy": F.degree_entropy(graph.degrees),
        "modularity": F.modularity(graph, partition),
        "n_communities": len(np.unique(partition)),
        "community_entropy": F.community_entropy(partition),
        "partition_ami": F.adjusted_mutual_information(before.partition[live], partition),
        "flexibility": (names[:, 0] != names[:, 1]).mean(),
        "participation": F.participation_coefficient(graph, partition).mean(),
        "edge_turnover": F.edge_turnover(graph, F.Graph.from_edges(96, before.edges)),
        "tree_mean": lengths.mean(),
        "tree_std": lengths.std(),
        "births": happened.count("birth"),
        "deaths": happened.count("death"),
        "splits": happened.count("split"),
        "merges": happened.count("merge"),
        "layer_ami": F.adjusted_mutual_information(partition, layers[live]),
        "layer_entropy": F.layer_entropy(F.composition(partition, layers[live])) @ sizes / 96,
        "class_ami": F.adjusted_mutual_information(partition, preferred),
        "class_affinity": F.class_affinity(sums, labels) @ sizes / 96,
        "sigma_hqs": F.small_world_hqs(correlation, graph, nulls=10, seed=3),
        "sigma": F.small_world(graph, nulls=10, seed=3).sigma,
        "modularity_z": F.modularity_z(graph, value=F.modularity(graph, partition), seed=3, starts=2),
        "betti_0": betti[0],
        "betti_1": betti[1],
        "loops": len(diagrams[1]),
        "functional_persistence": F.functional_persistence(diagrams[1]),
        "persistent_entropy": F.persistent_entropy(diagrams[1]),
        "local_efficiency": F.local_efficiency(graph),
        "fault_tolerance_random": F.fault_tolerance(graph, order="random", seed=3),
        "fault_tolerance_degree": F.fault_tolerance(graph, order="degree", seed=3),
    }
    scope = network_of(values, labels, layers=layers, previous=before, settings=settings)
    found = measure(scope, FULL, on_error="raise")
    assert set(found) == set(expected)
    assert sizes.min() > 1
    assert found == pytest.approx(expected, rel=1e-4)  # ripser rounds to float32
    assert scope.notes == {}


def test_the_first_snapshot_has_nothing_to_be_compared_with():
    scope = network_of(activations())
    found = measure(scope, ["partition_ami", "edge_turnover"])
    assert all(map(math.isnan, found.values()))
    assert set(scope.notes.values()) == {"no snapshot before this one"}


def test_an_unchanged_network_agrees_with_the_last():
    previous = network_of(activations()).to_previous()
    found = measure(network_of(activations(), previous=previous), ["partition_ami", "edge_turnover"])
    assert found == {"partition_ami": 1, "edge_turnover": 0}


def test_neurons_that_died_or_came_alive_are_left_out_of_the_comparison_of_partitions():
    before = activations()
    now = before.copy()
    before[:, :10], now[:, 90:] = 0, 0
    previous = network_of(before).to_previous()
    assert (previous.partition < 0).nonzero()[0].tolist() == list(range(10))
    scope = network_of(now, previous=previous)
    found = measure(scope, ["partition_ami", "edge_turnover"], on_error="raise")
    both = np.arange(10, 90)
    expected = F.adjusted_mutual_information(previous.partition[both], scope.to_previous().partition[both])
    assert found["partition_ami"] == pytest.approx(expected)
    assert 0 < found["edge_turnover"] < 1


def test_without_a_neuron_alive_in_both_snapshots_partitions_cannot_be_compared():
    before, now = activations(4), activations(4)
    before[:, :2], now[:, 2:] = 0, 0
    scope = network_of(now, previous=network_of(before).to_previous())
    assert math.isnan(measure(scope, ["partition_ami"])["partition_ami"])
    assert scope.notes == {"partition_ami": "no neuron was alive in both snapshots"}
    assert measure(scope, ["edge_turnover"]) == {"edge_turnover": 1}


def test_where_the_tree_is_most_of_the_edges_what_it_dictates_is_nan_with_the_reason():
    scope = network_of(activations(30))  # 29 of the tree, 22 at a density of 5 %
    found = measure(scope, FULL)
    by_tree = {
        name for name, note in scope.notes.items() if note.endswith("the spanning tree is 29 of 29 edges")
    }
    assert by_tree == {"clustering", "sigma", "sigma_hqs", "modularity_z"}
    assert all(math.isnan(found[name]) for name in by_tree)
    assert not math.isnan(found["path_length"])
    denser = network_of(activations(30), settings=GraphSettings(F.GraphRule(density=0.3)))
    assert not any(math.isnan(v) for v in measure(denser, by_tree).values())


def test_without_a_tree_small_networks_have_a_clustering():
    scope = network_of(activations(30), settings=GraphSettings(F.GraphRule(method="density")))
    assert not math.isnan(measure(scope, ["clustering"])["clustering"])


# Failure and cost. --------------------------------------------------------------------------


@pytest.fixture
def failing(monkeypatch):
    def fail(scope: Network) -> float:
        raise ZeroDivisionError("by design")

    registry = {q.name: q for q in MEASURES} | {
        "sigma": Quantity("sigma", "broken", "Broken.", tier="standard", function=fail)
    }
    monkeypatch.setattr("fnet_callbacks.quantities.networks.BY_NAME", registry)


@pytest.mark.usefixtures("failing")
def test_a_measure_that_fails_is_nan_and_the_others_go_on():
    scope = network_of(activations())
    found = measure(scope, ["n_neurons", "sigma", "modularity"])
    assert math.isnan(found["sigma"])
    assert scope.notes == {"sigma": "failed: ZeroDivisionError: by design"}
    assert not math.isnan(found["modularity"])


@pytest.mark.usefixtures("failing")
def test_a_measure_that_fails_raises_where_the_user_asked_for_it():
    with pytest.raises(ZeroDivisionError):
        measure(network_of(activations()), ["sigma"], on_error="raise")


def test_the_time_of_a_part_inside_another_is_counted_once(monkeypatch):
    clock = iter(
        [0.0, 1.0, 3.0, 10.0, 20.0, 25.0]
    )  # outer from 0 to 10, inner from 1 to 3, outer again for 5
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    watch = Stopwatch()
    with watch.part("outer"), watch.part("inner"):
        pass
    with watch.part("outer"):
        pass
    assert watch.ms == {"inner": 2_000, "outer": 8_000 + 5_000}


def test_shared_parts_are_computed_once_and_charged_to_their_own_name():
    scope = network_of(activations())
    measure(scope, STANDARD)
    parts = {"graph", "communities", "wiring", "null_graphs", "homology"}
    assert parts | set(STANDARD) <= set(scope.stopwatch.ms)
    before = {name: scope.stopwatch.ms[name] for name in parts}
    measure(scope, STANDARD)
    assert {name: scope.stopwatch.ms[name] for name in parts} == before


def test_only_what_a_measure_needs_is_computed():
    scope = network_of(activations())
    measure(scope, ["path_length"])
    assert "wiring" in vars(scope)
    assert scope.known_diagrams == []
    assert "partition" not in vars(scope)


def test_what_is_carried_on_is_by_neuron():
    values = activations(6)
    values[:, 1] = 0
    carried = network_of(values).to_previous()
    assert isinstance(carried, Previous)
    assert carried.partition[1] == -1
    assert (carried.partition[[0, 2, 3, 4, 5]] >= 0).all()
    assert 1 not in carried.edges
    assert carried.edges.max() == 5


def test_each_measure_is_taken_in_what_was_given():
    begun, ended = [], []

    @contextmanager
    def around(name):
        begun.append(name)
        try:
            yield
        finally:
            ended.append(name)

    scope = Network(np.eye(3), Activity(np.full(3, 0.5)))
    values = measure(scope, ["n_neurons", "sigma", "modularity"], around=around)
    assert list(values) == begun == ended == ["n_neurons", "sigma", "modularity"]


def test_a_measure_that_was_given_up_is_not_tried():
    scope = Network(np.eye(3), Activity(np.full(3, 0.5)))
    values = measure(scope, ["n_neurons", "modularity"], given_up={"n_neurons": "too long"})
    assert np.isnan(values["n_neurons"])
    assert scope.notes["n_neurons"] == "failed: TimeoutError: too long"
    assert "n_neurons" not in scope.stopwatch.ms
    with pytest.raises(TimeoutError, match="too long"):
        measure(scope, ["n_neurons"], given_up={"n_neurons": "too long"}, on_error="raise")
