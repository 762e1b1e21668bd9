import math

import networkx as nx
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional.graph import Graph
from fnet_callbacks.functional.random_correlations import hqs_null
from fnet_callbacks.functional.selection import GraphRule, graph_from_correlation
from fnet_callbacks.functional.small_world import (
    clustering_coefficient,
    distance_histogram,
    global_efficiency,
    local_clustering,
    local_efficiency,
    null_graphs,
    path_length,
    rewire,
    small_world,
    small_world_hqs,
    wiring,
)


def from_networkx(graph):
    graph = nx.convert_node_labels_to_integers(graph)
    return Graph.from_edges(len(graph), np.array(graph.edges, int).reshape(-1, 2))


def random_networkx(kind, seed):
    n_nodes = 5 + 7 * (seed % 13)
    if kind == "erdos_renyi":
        return nx.gnp_random_graph(n_nodes, 0.15, seed=seed)
    if kind == "watts_strogatz":
        return nx.watts_strogatz_graph(n_nodes, 4, 0.2, seed=seed)
    if kind == "barabasi_albert":
        return nx.barabasi_albert_graph(n_nodes, 3, seed=seed)
    if kind == "disconnected":
        halves = [nx.gnp_random_graph(n_nodes // 2, 0.2, seed=seed + part) for part in range(2)]
        return nx.disjoint_union(*halves)
    return nx.gnp_random_graph(n_nodes // 2, 0.8, seed=seed)


def networkx_path_length(graph):
    """Mean over the pairs that are connected."""
    lengths = [d for _, row in nx.all_pairs_shortest_path_length(graph) for d in row.values() if d]
    return sum(lengths) / len(lengths) if lengths else math.nan


KINDS = ["erdos_renyi", "watts_strogatz", "barabasi_albert", "disconnected", "dense"]


@pytest.mark.parametrize("kind", KINDS)
def test_measures_equal_networkxs_on_forty_graphs_of_each_kind(kind):
    for seed in range(40):
        expected = random_networkx(kind, seed)
        graph = from_networkx(expected)
        local = list(nx.clustering(expected).values())
        np.testing.assert_allclose(local_clustering(graph), local, rtol=0, atol=1e-12)
        ours = [f(graph) for f in (clustering_coefficient, path_length, global_efficiency, local_efficiency)]
        theirs = [
            nx.average_clustering(expected),
            networkx_path_length(expected),
            nx.global_efficiency(expected),
            nx.local_efficiency(expected),
        ]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


NAN = math.nan
TWO_TRIANGLES = nx.disjoint_union(nx.complete_graph(3), nx.complete_graph(3))


@pytest.mark.parametrize(
    "expected, histogram, clustering, length, efficiency, local",
    [
        (nx.empty_graph(0), [0], NAN, NAN, NAN, NAN),
        (nx.empty_graph(1), [1], 0, NAN, NAN, 0),
        (nx.empty_graph(3), [3], 0, NAN, 0, 0),
        (nx.path_graph(2), [2, 2], 0, 1, 1, 0),
        (nx.path_graph(4), [4, 6, 4, 2], 0, 20 / 12, (6 + 4 / 2 + 2 / 3) / 12, 0),
        (nx.cycle_graph(6), [6, 12, 12, 6], 0, 54 / 30, (12 + 12 / 2 + 6 / 3) / 30, 0),
        (nx.star_graph(4), [5, 8, 12], 0, 32 / 20, (8 + 12 / 2) / 20, 0),
        (nx.complete_graph(5), [5, 20], 1, 1, 1, 1),
        (nx.complete_graph(65), [65, 65 * 64], 1, 1, 1, 1),
        (TWO_TRIANGLES, [6, 12], 1, 1, 12 / 30, 1),
    ],
    ids=["empty", "one", "edgeless", "pair", "path", "ring", "star", "complete", "complete65", "two_cliques"],
)
def test_measures_computed_by_hand(expected, histogram, clustering, length, efficiency, local):
    graph = from_networkx(expected)
    assert distance_histogram(graph).tolist() == histogram
    values = [f(graph) for f in (clustering_coefficient, path_length, global_efficiency, local_efficiency)]
    assert values == pytest.approx([clustering, length, efficiency, local], nan_ok=True)
    together = wiring(graph)
    assert [together.clustering, together.path_length, together.efficiency] == pytest.approx(
        values[:3], nan_ok=True
    )


def test_long_paths_are_searched_to_their_end():
    histogram = distance_histogram(from_networkx(nx.path_graph(200)))
    assert histogram.tolist() == [200, *range(398, 0, -2)]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 70), st.floats(0.02, 0.9))
def test_relabelling_nodes_changes_nothing(seed, n_nodes, density):
    graph = from_networkx(nx.gnp_random_graph(n_nodes, density, seed=seed))
    order = np.random.default_rng(seed).permutation(n_nodes)
    relabelled = Graph.from_edges(n_nodes, order[graph.edges])
    assert np.array_equal(distance_histogram(relabelled), distance_histogram(graph))
    np.testing.assert_array_equal(local_clustering(relabelled)[order], local_clustering(graph))
    assert local_efficiency(relabelled) == pytest.approx(local_efficiency(graph), abs=1e-12)


class TestRewiring:
    @settings(deadline=None, max_examples=25)
    @given(st.integers(0, 10_000), st.integers(0, 70), st.floats(0, 1))
    def test_keeps_degrees_and_stays_simple(self, seed, n_nodes, density):
        graph = from_networkx(nx.gnp_random_graph(n_nodes, density, seed=seed))
        null = rewire(graph, seed=seed)
        assert null.n_edges == graph.n_edges
        assert np.array_equal(null.degrees, graph.degrees)
        assert (null.edges[:, 0] < null.edges[:, 1]).all()
        assert null == Graph.from_edges(n_nodes, null.edges)

    def test_mixes(self):
        ring = from_networkx(nx.watts_strogatz_graph(200, 10, 0, seed=0))
        nulls = null_graphs(ring, 20, seed=1)
        shared = [
            len({*map(tuple, null.edges.tolist())} & {*map(tuple, ring.edges.tolist())}) for null in nulls
        ]
        # A random graph of this density shares about 1000 * 10 / 199 = 50 edges with any given one.
        assert 35 < np.mean(shared) < 65
        clustering = np.mean([clustering_coefficient(null) for null in nulls])
        assert clustering == pytest.approx(
            9 / 199, rel=0.3
        )  # that of the configuration model; the ring has 2/3
        assert len({null.edges.tobytes() for null in nulls}) == 20

    def test_every_edge_set_of_a_small_graph_is_reached(self):
        """The three perfect matchings of four nodes turn up equally often."""
        matching = Graph.from_edges(4, np.array([[0, 1], [2, 3]]))
        found = [rewire(matching, seed=seed).edges.tobytes() for seed in range(600)]
        counts = [found.count(each) for each in set(found)]
        assert len(counts) == 3
        assert min(counts) > 150

    def test_no_swap_leaves_the_graph(self):
        star = from_networkx(nx.star_graph(5))
        assert rewire(star, seed=0) == star
        ring = from_networkx(nx.cycle_graph(9))
        assert rewire(ring, seed=0, swaps_per_edge=0) == ring

    def test_stream_of_a_null_depends_on_seed_and_place_alone(self, monkeypatch):
        graph = from_networkx(nx.gnp_random_graph(60, 0.2, seed=0))
        many = null_graphs(graph, 6, seed=3)
        assert null_graphs(graph, 2, seed=3) == many[:2]
        assert rewire(graph, seed=3) == many[0]
        assert null_graphs(graph, 6, seed=4)[0] != many[0]
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 1)
        assert null_graphs(graph, 6, seed=3) == many

    @pytest.mark.parametrize("arguments", [{"seed": -1}, {"seed": 0, "swaps_per_edge": -1}])
    def test_refuses_negative_numbers(self, arguments):
        with pytest.raises(FnetError, match="must be an integer of 0 or more"):
            rewire(from_networkx(nx.cycle_graph(4)), **arguments)


class TestSmallWorld:
    def test_is_the_ratio_of_ratios_to_the_nulls(self):
        graph = from_networkx(nx.watts_strogatz_graph(120, 8, 0.1, seed=0))
        nulls = null_graphs(graph, 10, seed=5)
        result = small_world(graph, seed=5)
        assert result == small_world(graph, nulls=nulls)
        assert result.clustering == clustering_coefficient(graph)
        assert result.path_length == path_length(graph)
        assert result.efficiency == global_efficiency(graph)
        assert result.null_clustering == pytest.approx(np.mean([clustering_coefficient(n) for n in nulls]))
        assert result.null_path_length == pytest.approx(np.mean([path_length(n) for n in nulls]))
        ratios = result.clustering / result.null_clustering, result.path_length / result.null_path_length
        assert result.sigma == pytest.approx(ratios[0] / ratios[1])

    def test_tells_small_worlds_from_random_graphs(self):
        assert small_world(from_networkx(nx.watts_strogatz_graph(200, 8, 0.05, seed=0))).sigma > 5
        assert small_world(from_networkx(nx.gnp_random_graph(200, 0.1, seed=0))).sigma == pytest.approx(
            1, abs=0.1
        )

    @pytest.mark.parametrize(
        "graph",
        [nx.empty_graph(0), nx.empty_graph(1), nx.empty_graph(4), nx.star_graph(4), nx.cycle_graph(4)],
    )
    def test_sigma_is_nan_where_a_ratio_is_undefined(self, graph):
        assert math.isnan(small_world(from_networkx(graph)).sigma)

    def test_sigma_of_a_complete_graph_is_one(self):
        assert small_world(from_networkx(nx.complete_graph(8))).sigma == 1.0

    def test_needs_a_null(self):
        with pytest.raises(FnetError, match="nulls"):
            small_world(from_networkx(nx.complete_graph(4)), nulls=0)


def planted_correlation(n_nodes, samples, shared, seed=0):
    """Correlated noise: every unit sees the same signal, at strength ``shared``."""
    generator = np.random.default_rng(seed)
    signal = generator.standard_normal((samples, 1))
    return np.corrcoef(shared * signal + generator.standard_normal((samples, n_nodes)), rowvar=False)


def off_diagonal(matrix):
    return matrix[~np.eye(len(matrix), dtype=bool)]


class TestHqs:
    @pytest.mark.parametrize(
        "samples, shared", [(20, 0.0), (30, 0.5), (60, 0.7), (500, 0.0), (10_000, 0.0), (4096, 0.3)]
    )
    def test_null_keeps_mean_and_variance(self, samples, shared):
        correlation = planted_correlation(150, samples, shared)
        nulls = [off_diagonal(hqs_null(correlation, seed=seed)) for seed in range(30)]
        expected = off_diagonal(correlation)
        assert np.mean([null.mean() for null in nulls]) == pytest.approx(max(expected.mean(), 0), abs=0.03)
        assert np.mean([null.var() for null in nulls]) == pytest.approx(expected.var(), rel=0.2)

    def test_null_is_a_correlation_matrix_of_its_seed(self):
        correlation = planted_correlation(40, 30, 0.5)
        null = hqs_null(correlation, seed=1)
        assert np.array_equal(null, null.T)
        assert (null.diagonal() == 1).all()
        assert np.abs(null).max() <= 1
        assert np.linalg.eigvalsh(null).min() > -1e-10
        assert np.array_equal(null, hqs_null(correlation, seed=1))
        assert not np.array_equal(null, hqs_null(correlation, seed=2))

    def test_rank_is_at_least_two_and_at_most_n(self):
        signs = np.where(np.arange(20) < 10, 1.0, -1.0)
        assert np.linalg.matrix_rank(hqs_null(np.outer(signs, signs), seed=0)) == 2
        weak = planted_correlation(20, 100_000, 0.0)
        assert np.linalg.matrix_rank(hqs_null(weak, seed=0)) == 20

    def test_negative_mean_is_taken_as_zero(self):
        correlation = np.array([[1, -0.6, -0.4], [-0.6, 1, -0.3], [-0.4, -0.3, 1]])
        means = [off_diagonal(hqs_null(correlation, seed=seed)).mean() for seed in range(400)]
        assert np.mean(means) == pytest.approx(0, abs=0.06)

    @pytest.mark.parametrize("correlation", [np.ones((5, 5)), np.eye(5), np.eye(2), np.eye(1), np.eye(0)])
    def test_no_variance_gives_nan(self, correlation):
        assert np.isnan(hqs_null(correlation, seed=0)).all()
        graph = graph_from_correlation(correlation)
        assert math.isnan(small_world_hqs(correlation, graph))

    def test_sigma_is_built_from_nulls_of_the_same_construction(self, monkeypatch):
        correlation = planted_correlation(80, 40, 0.3)
        options = {"method": "density", "density": 0.1, "sign": "positive"}
        graph = graph_from_correlation(correlation, **options)
        first = graph_from_correlation(hqs_null(correlation, seed=7), **options)
        sigma = small_world_hqs(correlation, graph, nulls=1, seed=7, rule=GraphRule(**options))
        ratio = clustering_coefficient(graph) / clustering_coefficient(first)
        assert sigma == pytest.approx(ratio / (path_length(graph) / path_length(first)))
        several = small_world_hqs(correlation, graph, seed=7, rule=GraphRule(**options))
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 1)
        assert small_world_hqs(correlation, graph, seed=7, rule=GraphRule(**options)) == several

    def test_independent_noise_is_no_small_world_against_it(self):
        correlation = planted_correlation(120, 50, 0.0)
        graph = graph_from_correlation(correlation, density=0.1)
        assert small_world(graph).sigma > 1.4
        assert small_world_hqs(correlation, graph, rule=GraphRule(density=0.1)) < 1.2

    def test_wrong_input_is_refused(self):
        correlation = planted_correlation(6, 20, 0.0)
        graph = graph_from_correlation(correlation)
        with pytest.raises(FnetError, match="square"):
            hqs_null(np.zeros((2, 3)), seed=0)
        with pytest.raises(FnetError, match="seed"):
            hqs_null(correlation, seed=-1)
        with pytest.raises(FnetError, match="nulls"):
            small_world_hqs(correlation, graph, nulls=0)
        with pytest.raises(FnetError, match="5 nodes"):
            small_world_hqs(correlation[:5, :5], graph)
        with pytest.raises(FnetError, match="NaN"):
            hqs_null(np.full((3, 3), np.nan), seed=0)
