import math

import networkx as nx
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_mutual_info_score

from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional.communities import (
    adjusted_mutual_information,
    communities,
    community_entropy,
    modularity,
    modularity_z,
    null_modularity,
)
from fnet_callbacks.functional.evolution import Event, events, follow
from fnet_callbacks.functional.graph import Graph
from fnet_callbacks.functional.small_world import null_graphs


def from_networkx(graph):
    graph = nx.convert_node_labels_to_integers(graph)
    return Graph.from_edges(len(graph), np.array(graph.edges, int).reshape(-1, 2))


def sets_of(partition):
    return [set(np.flatnonzero(partition == label).tolist()) for label in np.unique(partition)]


def planted(groups, size, inside, outside, seed=0):
    graph = nx.planted_partition_graph(groups, size, inside, outside, seed=seed)
    return from_networkx(graph), np.repeat(np.arange(groups), size)


def two_cliques(size):
    graph = nx.disjoint_union(nx.complete_graph(size), nx.complete_graph(size))
    graph.add_edge(0, size)
    return from_networkx(graph)


BENCHMARKS = {
    "karate": from_networkx(nx.karate_club_graph()),
    "les_miserables": from_networkx(nx.les_miserables_graph()),
    "planted": planted(4, 32, 0.4, 0.05)[0],
    "planted_weak": planted(8, 20, 0.45, 0.06)[0],
}


class TestCommunities:
    @pytest.mark.parametrize("name", BENCHMARKS)
    def test_within_one_percent_of_the_best_of_networkxs_twenty_seeds(self, name):
        graph = BENCHMARKS[name]
        peer = graph.to_networkx()
        best = max(
            nx.community.modularity(peer, nx.community.louvain_communities(peer, seed=seed))
            for seed in range(20)
        )
        found = [modularity(graph, communities(graph, seed=seed)) for seed in range(20)]
        assert found[0] >= 0.99 * best
        assert np.median(found) >= 0.99 * best
        assert max(found) >= best - 1e-12

    @pytest.mark.parametrize(
        "groups, size, inside, outside", [(4, 32, 0.5, 0.02), (6, 25, 0.6, 0.05), (2, 70, 0.3, 0.02)]
    )
    def test_planted_partition_is_recovered(self, groups, size, inside, outside):
        for seed in range(5):
            graph, truth = planted(groups, size, inside, outside, seed)
            assert adjusted_mutual_information(communities(graph, seed=seed), truth) == pytest.approx(1)

    @pytest.mark.parametrize(
        "graph, expected",
        [
            (nx.empty_graph(0), []),
            (nx.empty_graph(1), [0]),
            (nx.empty_graph(3), [0, 1, 2]),
            (nx.complete_graph(6), [0] * 6),
            (nx.star_graph(4), [0] * 5),
            (nx.path_graph(4), [0, 0, 1, 1]),
            (nx.disjoint_union(nx.complete_graph(3), nx.complete_graph(4)), [1, 1, 1, 0, 0, 0, 0]),
            (nx.disjoint_union(nx.empty_graph(1), nx.complete_graph(3)), [1, 0, 0, 0]),
        ],
        ids=["empty", "one", "edgeless", "complete", "star", "path", "two_cliques", "isolated"],
    )
    def test_known_partitions(self, graph, expected):
        partition = communities(from_networkx(graph))
        assert partition.dtype == np.int64
        assert partition.tolist() == expected

    def test_ring_of_cliques_gives_the_cliques(self):
        graph = from_networkx(nx.ring_of_cliques(8, 6))
        assert communities(graph).tolist() == np.repeat(np.arange(8), 6).tolist()

    def test_same_seed_gives_the_same_partition(self):
        graph = BENCHMARKS["planted_weak"]
        assert np.array_equal(communities(graph, seed=3), communities(graph, seed=3))

    @settings(deadline=None, max_examples=25)
    @given(st.integers(0, 10_000), st.integers(1, 60), st.floats(0, 0.6))
    def test_result_is_canonical_and_no_single_move_improves_it(self, seed, n_nodes, density):
        graph = from_networkx(nx.gnp_random_graph(n_nodes, density, seed=seed))
        partition = communities(graph, seed=seed)
        sizes = np.bincount(partition)
        smallest = [int(np.flatnonzero(partition == label)[0]) for label in range(len(sizes))]
        assert list(zip(-sizes, smallest, strict=True)) == sorted(zip(-sizes, smallest, strict=True))
        isolated = graph.degrees == 0
        assert (sizes[partition[isolated]] == 1).all()
        best = modularity(graph, partition)
        for node in np.random.default_rng(seed).integers(n_nodes, size=5):
            for label in range(len(sizes) + 1):
                moved = partition.copy()
                moved[node] = label
                assert modularity(graph, moved) <= best + 1e-12

    @settings(deadline=None, max_examples=25)
    @given(st.integers(0, 10_000), st.integers(1, 60), st.floats(0, 0.6))
    def test_warm_start_is_never_worse_than_what_it_started_from_nor_than_cold(self, seed, n_nodes, density):
        graph = from_networkx(nx.gnp_random_graph(n_nodes, density, seed=seed))
        initial = np.random.default_rng(seed).integers(-5, 5, n_nodes)
        warm = modularity(graph, communities(graph, initial=initial, seed=seed))
        # They are compared as integers; as floats two equal ones may round apart.
        assert warm >= modularity(graph, initial) - 1e-12
        assert warm >= modularity(graph, communities(graph, seed=seed)) - 1e-12

    def test_good_initial_partition_is_kept(self):
        graph, truth = planted(4, 32, 0.5, 0.02)
        assert communities(graph, initial=truth * 10 - 7).tolist() == truth.tolist()

    def test_warm_start_beats_a_worse_cold_one(self):
        graph = BENCHMARKS["karate"]
        found = [communities(graph, seed=seed) for seed in range(60)]
        quality = [modularity(graph, partition) for partition in found]
        best, worst = int(np.argmax(quality)), int(np.argmin(quality))
        assert quality[worst] < quality[best]
        warm = communities(graph, initial=found[best], seed=worst)
        assert np.array_equal(warm, found[best])

    def test_isolated_nodes_leave_the_initial_community(self):
        graph = Graph.from_edges(5, np.array([[0, 1], [0, 2], [1, 2]]))
        assert communities(graph, initial=np.zeros(5, int)).tolist() == [0, 0, 0, 1, 2]

    @pytest.mark.parametrize("initial", [np.zeros(3, int), np.zeros(34), np.zeros((34, 1), int)])
    def test_bad_initial_partition_is_refused(self, initial):
        with pytest.raises(FnetError, match="initial"):
            communities(BENCHMARKS["karate"], initial=initial)

    def test_negative_seed_is_refused(self):
        with pytest.raises(FnetError, match="seed"):
            communities(BENCHMARKS["karate"], seed=-1)


def sparse(n_nodes, degree, case):
    """A random graph of a mean degree, with the stream that it was drawn from."""
    rng = np.random.default_rng((n_nodes, degree * 10, case))
    n_edges = n_nodes * degree // 2
    pairs = rng.integers(0, n_nodes, (3 * n_edges, 2))
    return Graph.from_edges(n_nodes, pairs[pairs[:, 0] != pairs[:, 1]][:n_edges]), rng


def hang_together(graph, partition):
    peer = graph.to_networkx()
    return all(nx.is_connected(peer.subgraph(nodes)) for nodes in sets_of(partition))


class TestConnection:
    """Local moving leaves communities behind that no edge holds together (Traag, Waltman & van Eck, 2019)."""

    # Those of two hundred cases where it does, the first from cold, the others from warm with the next seed.
    @pytest.mark.parametrize("n_nodes, degree, case", [(200, 3, 6), (60, 2, 7), (60, 2, 10), (200, 3, 1)])
    def test_every_community_is_connected_from_cold_and_from_warm(self, n_nodes, degree, case):
        graph, rng = sparse(n_nodes, degree, case)
        for initial in (None, rng.integers(0, 5, n_nodes), np.arange(n_nodes) % 2, np.zeros(n_nodes, int)):
            for seed in (case, case + 1):
                partition = communities(graph, initial=initial, seed=seed)
                assert hang_together(graph, partition)
                assert np.array_equal(partition, communities(graph, initial=initial, seed=seed))

    def test_modularity_is_that_of_the_parts(self):
        graph, _ = sparse(200, 3, 6)
        found = modularity(graph, communities(graph, seed=6))
        assert found == pytest.approx(0.6210418449619386, rel=1e-14)  # 0.61795 with a community in two pieces

    def test_nulls_are_split_as_the_graph_is(self):
        nulls = [sparse(200, 3, case)[0] for case in (6, 7, 8)]
        values = [modularity(null, communities(null, seed=6)) for null in nulls]
        assert values[0] == pytest.approx(0.6210418449619386, rel=1e-14)
        expected = np.mean(values), np.std(values, ddof=1)
        assert null_modularity(nulls, seed=6) == pytest.approx(expected, rel=1e-12)
        z = (values[1] - expected[0]) / expected[1]
        assert modularity_z(nulls[1], nulls=nulls, seed=6) == pytest.approx(z, rel=1e-9)

    def test_a_community_that_came_apart_goes_on_under_its_name_and_a_new_one(self):
        cliques = nx.disjoint_union_all([nx.complete_graph(size) for size in (6, 4, 5)])
        cliques.add_edges_from([(0, 10), (6, 14)])  # the first and the second only by way of the third
        before = np.repeat([0, 0, 1], [6, 4, 5])
        now = communities(from_networkx(cliques), initial=before)
        names = follow(now, before)
        assert names.tolist() == np.repeat([0, 2, 1], [6, 4, 5]).tolist()
        assert events(before, names) == [Event("split", (0,), (0, 2))]


class TestModularity:
    @settings(deadline=None, max_examples=25)
    @given(st.integers(0, 10_000), st.integers(2, 40), st.floats(0.1, 1), st.floats(0.2, 3))
    def test_equals_networkxs(self, seed, n_nodes, density, resolution):
        graph = from_networkx(nx.gnp_random_graph(n_nodes, density, seed=seed))
        partition = np.random.default_rng(seed).integers(-3, 3, n_nodes)
        ours = modularity(graph, partition, resolution=resolution)
        if graph.n_edges == 0:
            assert ours == 0
        else:
            theirs = nx.community.modularity(graph.to_networkx(), sets_of(partition), resolution=resolution)
            assert ours == pytest.approx(theirs, abs=1e-12)

    def test_by_hand(self):
        cliques = two_cliques(3)  # 7 edges, 6 of them inside; seven ends on either side
        assert modularity(cliques, np.array([0, 0, 0, 1, 1, 1])) == pytest.approx(6 / 7 - 1 / 2)
        assert modularity(cliques, np.zeros(6, int)) == 0
        pair = Graph.from_edges(2, np.array([[0, 1]]))
        assert modularity(pair, np.array([0, 1])) == -0.5
        assert modularity(Graph.from_edges(3, np.empty((0, 2), int)), np.arange(3)) == 0

    def test_refuses_another_length(self):
        with pytest.raises(FnetError, match="partition"):
            modularity(two_cliques(3), np.zeros(5, int))


class TestModularityZ:
    def test_is_the_distance_to_the_nulls_in_standard_deviations(self):
        graph = BENCHMARKS["les_miserables"]
        nulls = null_graphs(graph, 6, seed=2)
        reference = [modularity(null, communities(null, seed=2)) for null in nulls]
        value = modularity(graph, communities(graph, seed=2))
        expected = (value - np.mean(reference)) / np.std(reference, ddof=1)
        assert modularity_z(graph, nulls=6, seed=2) == pytest.approx(expected)
        assert modularity_z(graph, value=value, nulls=nulls, seed=2) == pytest.approx(expected)

    def test_nulls_get_as_many_starts(self):
        """The mean over the nulls, read off two scores, rises with the starts that each null gets."""
        graph = BENCHMARKS["les_miserables"]
        nulls = null_graphs(graph, 12)

        def null_mean(starts):
            at_zero = modularity_z(graph, value=0.0, nulls=nulls, starts=starts)
            at_one = modularity_z(graph, value=1.0, nulls=nulls, starts=starts)
            return -at_zero / (at_one - at_zero)

        assert null_mean(8) > null_mean(1)

    def test_tells_modules_from_none(self):
        assert modularity_z(planted(4, 25, 0.5, 0.02)[0]) > 10
        assert abs(modularity_z(from_networkx(nx.gnp_random_graph(100, 0.1, seed=1)))) < 4

    def test_does_not_depend_on_threads(self, monkeypatch):
        graph = BENCHMARKS["karate"]
        several = modularity_z(graph, starts=2)
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 1)
        assert modularity_z(graph, starts=2) == several

    @pytest.mark.parametrize("graph", [nx.empty_graph(0), nx.empty_graph(4), nx.complete_graph(5)])
    def test_is_nan_where_all_nulls_are_alike(self, graph):
        assert math.isnan(modularity_z(from_networkx(graph)))

    def test_is_nan_where_nulls_are_alike_but_for_rounding(self):
        edges = nx.Graph([(2 * i, 2 * i + 1) for i in range(7)])  # whatever is rewired is seven edges again
        assert math.isnan(modularity_z(from_networkx(edges)))

    def test_is_nan_for_a_single_null(self):
        assert math.isnan(modularity_z(BENCHMARKS["karate"], nulls=1))

    def test_needs_a_start(self):
        with pytest.raises(FnetError, match="starts"):
            modularity_z(BENCHMARKS["karate"], starts=0)


class TestComparingPartitions:
    def test_agreement_is_one_for_renamed_and_about_zero_for_random_partitions(self):
        generator = np.random.default_rng(0)
        a, b = generator.integers(5, size=2000), generator.integers(5, size=2000)
        assert adjusted_mutual_information(a, 10 - 3 * a) == pytest.approx(1)
        assert adjusted_mutual_information(a, b) == pytest.approx(0, abs=0.01)

    def test_by_hand(self):
        # H = log 2 for both, mutual information 0; expected information of 2 + 2 over 2 + 2 is log(2) / 3.
        expected = (0 - math.log(2) / 3) / (math.log(2) - math.log(2) / 3)
        assert adjusted_mutual_information([0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx(expected)

    @settings(deadline=None, max_examples=40)
    @given(st.integers(1, 60), st.integers(1, 8), st.integers(1, 8), st.integers(0, 1000))
    def test_equals_scikit_learns(self, n_nodes, n_a, n_b, seed):
        generator = np.random.default_rng(seed)
        a, b = generator.integers(n_a, size=n_nodes), generator.integers(n_b, size=n_nodes)
        expected = adjusted_mutual_info_score(a, b)
        assert adjusted_mutual_information(a, b) == pytest.approx(expected, rel=1e-9, abs=1e-12)

    @pytest.mark.parametrize(
        "partition", [np.zeros(4, int), np.arange(4), np.zeros(1, int), np.zeros(0, int)]
    )
    def test_degenerate_partitions_agree_with_themselves(self, partition):
        assert adjusted_mutual_information(partition, partition) == 1.0

    def test_lengths_must_agree(self):
        with pytest.raises(FnetError, match="b must be"):
            adjusted_mutual_information(np.zeros(3, int), np.zeros(4, int))


@pytest.mark.parametrize(
    "partition, expected",
    [
        ([7, 7, 7], 0),
        ([0, 1, 2, 3], math.log(4)),
        ([-1, -1, 5, 5], math.log(2)),
        ([0, 0, 0, 1], -0.75 * math.log(0.75) - 0.25 * math.log(0.25)),
        ([], math.nan),
    ],
)
def test_community_entropy_by_hand(partition, expected):
    assert community_entropy(np.array(partition, int)) == pytest.approx(expected, nan_ok=True)


def test_entropy_of_one_community_is_not_minus_zero():
    assert math.copysign(1, community_entropy(np.zeros(3, int))) == 1


def test_entropy_refuses_a_matrix():
    with pytest.raises(FnetError, match="partition"):
        community_entropy(np.zeros((2, 2), int))
