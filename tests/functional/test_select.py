import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import minimum_spanning_tree

from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional.correlation import correlation_matrix, mean_abs_correlation
from fnet_callbacks.functional.entropy import effective_rank
from fnet_callbacks.functional.graph import Graph
from fnet_callbacks.functional.selection import graph_from_correlation, graph_scale, select, spanning_tree


def correlation_of(n_nodes, seed=0, samples=40):
    activations = np.random.default_rng(seed).standard_normal((samples, n_nodes))
    correlation = np.corrcoef(activations, rowvar=False)
    correlation = (correlation + correlation.T) / 2
    np.fill_diagonal(correlation, 1.0)
    return correlation


@st.composite
def tied_correlations(draw):
    n_nodes = draw(st.integers(2, 9))
    values = draw(st.lists(st.integers(-3, 3), min_size=n_nodes**2, max_size=n_nodes**2))
    upper = np.triu(np.reshape(values, (n_nodes, n_nodes)) / 4, 1)
    return upper + upper.T + np.eye(n_nodes)


def ordered_pairs(weights):
    """All pairs, strongest first, equal ones by (i, j)."""
    n_nodes = len(weights)
    pairs = [(i, j) for i in range(n_nodes) for j in range(i + 1, n_nodes)]
    return sorted(pairs, key=lambda pair: (-weights[pair], pair))


def kruskal(weights):
    component = list(range(len(weights)))
    tree = []
    for i, j in ordered_pairs(weights):
        if component[i] != component[j]:
            component = [component[i] if c == component[j] else c for c in component]
            tree.append((i, j))
    return tree


class TestSpanningTree:
    @settings(deadline=None, max_examples=60)
    @given(tied_correlations())
    def test_is_kruskals_tree_with_ties_by_index(self, correlation):
        assert spanning_tree(correlation).tolist() == sorted(map(list, kruskal(np.abs(correlation))))
        signed = spanning_tree(correlation, sign="positive")
        assert signed.tolist() == sorted(map(list, kruskal(correlation)))

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_equals_scipys(self, dtype):
        correlation = correlation_of(90).astype(dtype)
        expected = minimum_spanning_tree(1.5 - np.abs(correlation)).tocoo()
        pairs = np.sort(np.stack((expected.row, expected.col), axis=1), axis=1)
        assert spanning_tree(correlation).tolist() == sorted(pairs.tolist())

    @pytest.mark.parametrize("n_nodes", [0, 1])
    def test_of_fewer_than_two_nodes_is_empty(self, n_nodes):
        assert spanning_tree(np.ones((n_nodes, n_nodes))).shape == (0, 2)


class TestGraphFromCorrelation:
    @pytest.mark.parametrize("n_nodes, density", [(30, 0.05), (90, 0.05), (60, 0.3), (20, 0.0), (20, 1.0)])
    def test_mst_is_scipys_tree_and_the_strongest_others(self, n_nodes, density):
        correlation = correlation_of(n_nodes)
        tree = minimum_spanning_tree(1.5 - np.abs(correlation)).tocoo()
        expected = {(min(i, j), max(i, j)) for i, j in zip(tree.row.tolist(), tree.col.tolist(), strict=True)}
        n_edges = max(n_nodes - 1, round(density * n_nodes * (n_nodes - 1) / 2))
        for pair in ordered_pairs(np.abs(correlation)):
            if len(expected) < n_edges:
                expected.add(pair)
        graph = graph_from_correlation(correlation, density=density)
        assert graph.edges.tolist() == [list(pair) for pair in sorted(expected)]

    @settings(deadline=None, max_examples=60)
    @given(tied_correlations(), st.floats(0, 1), st.sampled_from(["absolute", "positive"]))
    def test_ties_go_to_the_smaller_index(self, correlation, density, sign):
        weights = np.abs(correlation) if sign == "absolute" else correlation
        order = ordered_pairs(weights)
        allowed = [pair for pair in order if sign == "absolute" or weights[pair] > 0]
        n_edges = round(density * len(order))
        graph = graph_from_correlation(correlation, method="density", density=density, sign=sign)
        assert graph.edges.tolist() == [list(pair) for pair in sorted(allowed[:n_edges])]
        expected = set(kruskal(weights))
        n_edges = max(n_edges, len(correlation) - 1)
        for pair in allowed:
            if len(expected) < n_edges:
                expected.add(pair)
        graph = graph_from_correlation(correlation, density=density, sign=sign)
        assert graph.edges.tolist() == [list(pair) for pair in sorted(expected)]

    def test_threshold_keeps_what_is_at_least_as_strong(self):
        correlation = np.array([[1, 0.5, -0.7], [0.5, 1, 0.4], [-0.7, 0.4, 1]])
        graph = graph_from_correlation(correlation, method="threshold", threshold=0.5)
        assert graph.edges.tolist() == [[0, 1], [0, 2]]
        graph = graph_from_correlation(correlation, method="threshold", threshold=0.5, sign="positive")
        assert graph.edges.tolist() == [[0, 1]]
        graph = graph_from_correlation(correlation, method="threshold", threshold=0.0, sign="positive")
        assert graph.edges.tolist() == [[0, 1], [1, 2]]

    def test_known_tree_changes_nothing(self):
        correlation = correlation_of(70)
        tree = spanning_tree(correlation)
        assert graph_from_correlation(correlation, tree=tree) == graph_from_correlation(correlation)

    @pytest.mark.parametrize(
        "tree", [[[1, 0], [2, 1]], [[0, 1], [0, 9]], [[-1, 1], [0, 2]], [[0, 2], [0, 1]], [[0, 1]]]
    )
    def test_what_is_no_tree_of_the_nodes_is_refused(self, tree):
        with pytest.raises(FnetError, match="tree must be that of spanning_tree"):
            graph_from_correlation(correlation_of(3), tree=np.array(tree))

    @pytest.mark.parametrize("method, n_edges", [("mst", 1), ("density", 0)])
    def test_two_nodes(self, method, n_edges):
        assert graph_from_correlation(np.array([[1, 0.1], [0.1, 1]]), method=method).n_edges == n_edges

    @pytest.mark.parametrize("method", ["mst", "density"])
    @pytest.mark.parametrize("n_nodes", [0, 1])
    def test_fewer_than_two_nodes_have_no_edge(self, n_nodes, method):
        graph = graph_from_correlation(np.ones((n_nodes, n_nodes)), method=method)
        assert (graph.n_nodes, graph.n_edges) == (n_nodes, 0)

    def test_layout_and_type_of_the_matrix_do_not_matter(self):
        correlation = correlation_of(50).astype(np.float32)
        expected = graph_from_correlation(correlation)
        locked = correlation.copy()
        locked.flags.writeable = False
        for same in (np.asfortranarray(correlation), correlation.astype(np.float64), locked):
            assert graph_from_correlation(same) == expected
        wide = np.zeros((100, 100), np.float32)
        wide[::2, ::2] = correlation
        assert graph_from_correlation(wide[::2, ::2]) == expected

    @settings(deadline=None, max_examples=20)
    @given(st.integers(0, 1000))
    def test_relabelling_nodes_relabels_edges(self, seed):
        correlation = correlation_of(25, seed)
        order = np.random.default_rng(seed).permutation(25)
        graph = graph_from_correlation(correlation, density=0.2)
        relabelled = graph_from_correlation(correlation[np.ix_(order, order)], density=0.2)
        assert Graph.from_edges(25, order[relabelled.edges]) == graph

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"method": "knn"}, "method"),
            ({"sign": "negative"}, "sign"),
            ({"density": 1.5}, "density"),
            ({"method": "threshold"}, "threshold"),
            ({"threshold": 0.5}, "threshold"),
            ({"method": "threshold", "threshold": 2.0}, "threshold"),
            ({"tree": np.zeros((7, 2), int)}, "tree"),
        ],
    )
    def test_wrong_options_are_refused(self, options, message):
        with pytest.raises(FnetError, match=message):
            graph_from_correlation(correlation_of(5), **options)

    def test_wrong_matrices_are_refused(self):
        with pytest.raises(FnetError, match="square"):
            graph_from_correlation(np.zeros((2, 3)))
        with pytest.raises(FnetError, match="symmetric"):
            graph_from_correlation(np.array([[1, 0.2], [0.3, 1]]))
        dead = correlation_of(5)
        dead[2] = dead[:, 2] = np.nan
        with pytest.raises(FnetError, match=r"NaN.*dead units"):
            graph_from_correlation(dead)


class TestGraphScale:
    correlation = np.eye(4)
    correlation[0, 1] = correlation[1, 0] = -0.9
    correlation[0, 2] = correlation[2, 0] = 0.8
    correlation[1, 2] = correlation[2, 1] = 0.6
    correlation[0, 3] = correlation[3, 0] = 0.1
    correlation[1, 3] = correlation[3, 1] = 0.02

    def test_lies_between_the_weakest_kept_and_the_next(self):
        tree = spanning_tree(self.correlation)
        assert tree.tolist() == [[0, 1], [0, 2], [0, 3]]
        tree_only = graph_from_correlation(self.correlation, density=0, tree=tree)
        assert graph_scale(self.correlation, tree_only, tree) == pytest.approx(1 - (0.1 + 0.02) / 2)
        one_more = graph_from_correlation(self.correlation, density=4 / 6, tree=tree)
        assert graph_scale(self.correlation, one_more, tree) == pytest.approx(1 - (0.6 + 0.1) / 2)
        without_tree = graph_from_correlation(self.correlation, method="density", density=0.5)
        assert graph_scale(self.correlation, without_tree) == pytest.approx(1 - (0.6 + 0.1) / 2)

    def test_of_complete_and_empty_graphs(self):
        full = np.full((3, 3), 0.4) + 0.6 * np.eye(3)
        assert graph_scale(full, graph_from_correlation(full, density=1)) == pytest.approx(1 - 0.4 / 2)
        assert graph_scale(full, Graph.from_edges(3, np.empty((0, 2), int))) == 0.0

    def test_refuses_another_size(self):
        with pytest.raises(FnetError, match="4 nodes, graph has 3"):
            graph_scale(self.correlation, Graph.from_edges(3, np.array([[0, 1]])))


class TestSelect:
    options = pytest.mark.parametrize(
        "options",
        [
            {},
            {"density": 0.0},
            {"density": 1.0, "sign": "positive"},
            {"method": "density", "density": 0.3},
            {"method": "density", "density": 0.0},
            {"method": "threshold", "threshold": 0.2, "sign": "positive"},
            {"method": "threshold", "threshold": 1.0},
        ],
        ids=str,
    )

    @options
    @pytest.mark.parametrize("n_dead", [0, 3])
    @pytest.mark.parametrize("round_to", [16, 1])
    def test_is_what_the_single_functions_say_of_the_live_neurons(self, options, n_dead, round_to):
        live = np.arange(60) % 19 >= n_dead
        correlation = correlation_of(60, samples=15).round(round_to)
        correlation[~live] = correlation[:, ~live] = np.nan
        block = correlation[np.ix_(live, live)]
        found = select(correlation, **options)
        sign = options.get("sign", "absolute")
        tree, graph = spanning_tree(block, sign=sign), graph_from_correlation(block, **options)
        assert found.n_neurons == 60
        assert np.array_equal(found.nodes, np.flatnonzero(live))
        assert np.array_equal(found.tree, tree)
        assert np.array_equal(found.tree_weights, np.abs(block[tree[:, 0], tree[:, 1]]))
        assert np.array_equal(found.edges, graph.edges)
        assert found.scale == graph_scale(block, graph, None if "method" in options else tree)
        assert found.mean_abs_correlation == pytest.approx(mean_abs_correlation(block), rel=1e-13)
        assert found.effective_rank == pytest.approx(effective_rank(block), rel=1e-13)

    @pytest.mark.parametrize("n_live", [0, 1])
    def test_of_hardly_any_live_neuron(self, n_live):
        correlation = np.full((3, 3), np.nan)
        correlation[:n_live, :n_live] = 1
        found = select(correlation)
        assert (found.nodes.tolist(), len(found.tree), len(found.edges)) == (list(range(n_live)), 0, 0)
        assert (found.tree.shape, found.edges.shape, found.scale) == ((0, 2), (0, 2), 0)

    def test_refuses_what_is_no_correlation_among_live_neurons(self):
        correlation = correlation_of(5)
        correlation[0, 1] = np.nan
        with pytest.raises(FnetError, match="NaN"):
            select(correlation)
        with pytest.raises(FnetError, match="density"):
            select(correlation_of(5), density=2)

    def test_makes_no_array_of_the_size_of_the_matrix(self):
        correlation = correlation_matrix(np.random.default_rng(0).normal(size=(50, 600)))
        select(correlation)  # compiles
        tracemalloc.start()
        select(correlation)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < correlation.nbytes / 2
