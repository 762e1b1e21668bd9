"""Every public function takes an odd argument or refuses it by name; no error of NumPy, SciPy or Numba comes out."""

import inspect

import numpy as np
import pytest
import torch
from odd_arguments import raw_errors

from fnet_callbacks import functional as F
from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional.correlation import live_block

ROWS = np.random.default_rng(0).normal(size=(40, 12))
LABELS = np.arange(40) % 3
R = F.correlation_matrix(ROWS)
GRAPH = F.graph_from_correlation(R, density=0.3)
TREE = F.spanning_tree(R)
PARTITION = F.communities(GRAPH)
NAMES = F.trace(np.stack([PARTITION, PARTITION], axis=1))
SHARE = F.class_active_share(ROWS, LABELS, 3)
DIAGRAMS = F.persistence(F.correlation_distance(R), backend="native")
ADJACENCY = np.abs(R) - np.eye(12)
OPTIONS = {"method": "mst", "density": 0.2, "threshold": None, "sign": "absolute"}

CALLS = {
    "activation_entropy": {"active_share": SHARE[0]},
    "active_share": {"activations": ROWS},
    "adjusted_mutual_information": {"a": PARTITION, "b": PARTITION},
    "allegiance": {"names": NAMES},
    "attack_curve": {"graph": GRAPH, "order": np.arange(12), "measure": "efficiency", "points": 5, "seed": 0},
    "bates_p": {"p": np.array([0.5, 0.25])},
    "betti_curve": {"diagram": DIAGRAMS[1], "grid": np.linspace(0, 1, 5)},
    "betti_numbers": {"diagrams": DIAGRAMS, "at": 0.5},
    "binary_entropy": {"probability": SHARE},
    "class_active_share": {"activations": ROWS, "labels": LABELS, "num_classes": 3},
    "class_affinity": {"values": ROWS[:, 0], "labels": LABELS, "bins": 8},
    "clusterability": {
        "adjacency": ADJACENCY, "shuffle": lambda _: ADJACENCY, "k": 3, "shuffles": 2, "partition": PARTITION,
        "seed": 0,
    },
    "clustering_coefficient": {"graph": GRAPH},
    "communities": {"graph": GRAPH, "initial": PARTITION, "seed": 0},
    "community_entropy": {"partition": PARTITION},
    "composition": {"partition": PARTITION, "layers": np.arange(12) % 2},
    "connected_components": {"graph": GRAPH},
    "correlation_distance": {"correlation": R},
    "correlation_from_moments": {
        "count": 40, "total": ROWS.sum(0), "products": ROWS.T @ ROWS, "shift": np.zeros(12),
        "peak": np.abs(ROWS).max(0),
    },
    "correlation_matrix": {"activations": ROWS, "method": "spearman"},
    "degree_entropy": {"degrees": GRAPH.degrees},
    "distance_histogram": {"graph": GRAPH},
    "edge_turnover": {"graph": GRAPH, "previous": GRAPH.edges},
    "effective_rank": {"correlation": R},
    "eigengap": {"adjacency": ADJACENCY, "max_clusters": 6},
    "events": {"before": PARTITION, "after": PARTITION},
    "fault_tolerance": {"graph": GRAPH, "order": "random", "measure": "efficiency", "points": 5, "seed": 0},
    "fisher_p": {"p": np.array([0.5, 0.25]), "n_references": 19},
    "flexibility": {"names": NAMES},
    "follow": {"partition": PARTITION, "before": PARTITION, "first_new": 0},
    "functional_persistence": {"diagram": DIAGRAMS[1]},
    "global_efficiency": {"graph": GRAPH},
    "graph_from_correlation": {"correlation": R, **OPTIONS, "tree": TREE},
    "graph_scale": {"correlation": R, "graph": GRAPH, "tree": TREE},
    "h0_from_tree": {"tree_weights": np.array([0.75, 1.0, 0.5])},
    "histogram_entropies": {"activations": ROWS, "bins": 8},
    "histogram_entropy": {"activations": ROWS, "bins": 8},
    "hqs_null": {"correlation": R, "seed": 0},
    "layer_entropy": {"counts": np.ones((3, 2), int)},
    "lifetimes": {"names": NAMES},
    "live_units": {"correlation": R},
    "local_clustering": {"graph": GRAPH},
    "local_efficiency": {"graph": GRAPH},
    "mean_abs_correlation": {"correlation": R},
    "modularity": {"graph": GRAPH, "partition": PARTITION, "resolution": 1.0},
    "modularity_z": {"graph": GRAPH, "value": 0.3, "nulls": 2, "seed": 0, "starts": 1},
    "ncut": {"adjacency": ADJACENCY, "partition": PARTITION},
    "null_graphs": {"graph": GRAPH, "nulls": 2, "seed": 0},
    "null_modularity": {"nulls": [GRAPH, GRAPH], "starts": 1, "seed": 0},
    "participation_coefficient": {"graph": GRAPH, "partition": PARTITION},
    "path_length": {"graph": GRAPH},
    "persistence": {"distance": 1 - np.abs(np.round(R, 2)), "max_dim": 1, "threshold": 0.9, "backend": "native"},
    "persistent_entropy": {"diagram": DIAGRAMS[1]},
    "preferred_class": {"class_active_share": SHARE},
    "promiscuity": {"names": NAMES},
    "reference_p": {
        "value": 0.2, "references": np.array([0.1, 0.5]), "tail": "low", "generator": np.random.default_rng(0),
    },
    "relative_effect": {"value": 0.2, "references": np.array([0.1, 0.5])},
    "removal_order": {"graph": GRAPH, "order": "random", "seed": 0},
    "rewire": {"graph": GRAPH, "seed": 0, "swaps_per_edge": 2},
    "select": {"correlation": R, **OPTIONS},
    "selectivity_entropies": {"class_active_share": SHARE},
    "selectivity_entropy": {"class_active_share": SHARE},
    "small_world": {"graph": GRAPH, "nulls": 2, "seed": 0},
    "small_world_hqs": {"correlation": R, "graph": GRAPH, "nulls": 2, "seed": 0, "rule": F.GraphRule(**OPTIONS)},
    "spanning_tree": {"correlation": R, "sign": "absolute"},
    "spectral_clusters": {"adjacency": ADJACENCY, "k": 12, "max_clusters": 6, "seed": 0},
    "spring_layout": {"graph": GRAPH, "start": ROWS[:12, :2], "iterations": 2},
    "trace": {"partitions": NAMES},
    "wiring": {"graph": GRAPH},
    "within_module_z": {"graph": GRAPH, "partition": PARTITION},
    "z_score": {"value": 0.2, "mean": 0.1, "spread": 0.1},
}  # fmt: skip


def test_every_public_function_is_tried():
    assert set(CALLS) == {name for name in F.__all__ if inspect.isfunction(getattr(F, name))}


@pytest.mark.parametrize("name", CALLS)
def test_an_odd_argument_is_taken_or_refused_by_name(name):
    assert raw_errors(getattr(F, name), CALLS[name]) == []


@pytest.mark.parametrize("method, arguments", [
    (F.Graph.from_adjacency, {"adjacency": ADJACENCY > 0.3}),
    (F.Graph.from_edges, {"n_nodes": 12, "edges": GRAPH.edges}),
    (live_block, {"correlation": R}),
    (F.select, {"correlation": R, "method": "threshold", "threshold": 0.3}),
    (F.persistence, {"distance": F.correlation_distance(R), "max_dim": 1, "threshold": 0.9, "backend": "gudhi"}),
    (F.spectral_clusters, {"adjacency": ADJACENCY, "k": None}),
])  # fmt: skip
def test_so_are_those_of_other_ways_to_call(method, arguments):
    assert raw_errors(method, arguments) == []


COUNTS = {
    "bins": lambda bins: F.histogram_entropy(ROWS, bins=bins),
    "num_classes": lambda num_classes: F.class_active_share(ROWS, LABELS, num_classes),
    "max_clusters": lambda most: F.eigengap(ADJACENCY, max_clusters=most),
    "k": lambda k: F.spectral_clusters(ADJACENCY, k),
    "points": lambda points: F.attack_curve(GRAPH, points=points).remaining,
    "swaps_per_edge": lambda swaps_per_edge: F.rewire(GRAPH, seed=0, swaps_per_edge=swaps_per_edge).edges,
    "nulls": lambda nulls: F.small_world(GRAPH, nulls=nulls).sigma,
    "starts": lambda starts: F.null_modularity([GRAPH, GRAPH], starts=starts),
    "seed": lambda seed: F.communities(GRAPH, seed=seed),
    "first_new": lambda first_new: F.follow(PARTITION, PARTITION - 9, first_new=first_new),
    "iterations": lambda iterations: F.spring_layout(GRAPH, ROWS[:12, :2], iterations=iterations),
    "count": lambda count: F.correlation_from_moments(count, np.zeros(2), np.eye(2), np.zeros(2), np.ones(2)),
    "n_references": lambda n_references: F.fisher_p([0.25, 0.5], n_references=n_references),
    "n_nodes": lambda n_nodes: F.Graph.from_edges(n_nodes, np.array([[0, 1]])).degrees,
}
NUMBERS = {
    "density": lambda density: F.graph_from_correlation(R, density=density).edges,
    "threshold": lambda threshold: F.select(R, method="threshold", threshold=threshold).edges,
    "resolution": lambda resolution: F.modularity(GRAPH, PARTITION, resolution=resolution),
    "at": lambda at: F.betti_numbers(DIAGRAMS, at),
    "value": lambda value: F.z_score(value, 0.0, 1.0),
}


@pytest.mark.parametrize("argument", COUNTS)
@pytest.mark.parametrize("value", [2.5, 3.0, "3", True, np.bool_(True), np.nan, -1, [3], np.float64(3), 1j])
def test_what_is_no_count_is_refused(argument, value):
    with pytest.raises(FnetError, match=rf"{argument}(=| must be|\[0\] must be)"):
        COUNTS[argument](value)


@pytest.mark.parametrize("argument", COUNTS)
def test_integers_of_numpy_and_torch_are_counts(argument):
    for three in (np.int64(3), np.uint8(3), np.array(3), torch.tensor(3), torch.tensor(3, dtype=torch.uint8)):
        np.testing.assert_array_equal(COUNTS[argument](three), COUNTS[argument](3))


@pytest.mark.parametrize("argument", NUMBERS)
@pytest.mark.parametrize("value", ["0.25", True, [0.25], np.full(2, 0.25), 1j, object()])
def test_what_is_no_number_is_refused(argument, value):
    with pytest.raises(FnetError, match=f"{argument} must be a number"):
        NUMBERS[argument](value)


@pytest.mark.parametrize("argument", NUMBERS)
def test_scalars_of_numpy_and_torch_are_numbers(argument):
    for quarter in (np.float32(0.25), np.float16(0.25), np.array(0.25), torch.tensor(0.25)):
        np.testing.assert_array_equal(NUMBERS[argument](quarter), NUMBERS[argument](0.25))


def test_what_is_wrong_is_said_with_what_would_be_right():
    with pytest.raises(FnetError, match=r"^bins must be an integer of at least 1, got 2\.5$"):
        F.histogram_entropy(ROWS, bins=2.5)  # type: ignore[arg-type]
    with pytest.raises(
        FnetError, match=r"^adjacency must be a square matrix \[N, N\], got shape \(2, 2, 2\)$"
    ):
        F.ncut(np.ones((2, 2, 2)), np.zeros(2, int))
    with pytest.raises(
        FnetError, match=r"^graph must be a Graph, as of Graph.from_adjacency .*ndarray of shape"
    ):
        F.modularity(ADJACENCY, PARTITION)  # type: ignore[arg-type]
    with pytest.raises(FnetError, match=r"^density must be a number from 0 to 1, got 5$"):
        F.select(R, density=5)
    with pytest.raises(
        FnetError, match=r"^products must have shape \(12, 12\), as total has 12 units, got \(24, 24\)$"
    ):
        F.correlation_from_moments(40, np.zeros(12), np.zeros((24, 24)), np.zeros(12), np.ones(12))
    with pytest.raises(FnetError, match="adjacency must have edges"):
        F.spectral_clusters(np.zeros((4, 4)))
    with pytest.raises(FnetError, match=r"tree_weights must be \|r\| of a correlation"):
        F.h0_from_tree(np.array([0.5, 1.7]))
    with pytest.raises(FnetError, match=r"class_active_share must lie in \[0, 1\], got 0 to 3"):
        F.selectivity_entropy(np.array([[0.0, 3.0], [1.0, 1.0]]))
    with pytest.raises(FnetError, match="what shuffle gives must have the 12 nodes of adjacency, got 3"):
        F.clusterability(ADJACENCY, lambda _: np.ones((3, 3)), 2, shuffles=2)


def test_a_seed_may_be_as_large_as_numpy_takes():
    assert F.rewire(GRAPH, seed=10**30).n_edges == GRAPH.n_edges
    with pytest.raises(FnetError, match="seed must be an integer from 0 to 4294967295"):
        F.spectral_clusters(ADJACENCY, 3, seed=2**32)  # scikit-learn's are of 32 bits
