import pickle

import networkx as nx
import numpy as np
import pytest

from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional.graph import Graph, connected_components, edge_turnover


class TestGraph:
    @pytest.mark.parametrize("n_nodes", [0, 1, 2, 63, 64, 65, 130])
    def test_adjacency_edges_rows_and_csr_say_the_same(self, n_nodes):
        expected = nx.gnp_random_graph(n_nodes, 0.2, seed=n_nodes)
        adjacency = np.zeros((n_nodes, n_nodes), bool)
        for i, j in expected.edges:
            adjacency[i, j] = adjacency[j, i] = True
        graph = Graph.from_adjacency(adjacency)
        unpacked = np.unpackbits(graph.rows.view(np.uint8), axis=1, bitorder="little")[:, :n_nodes]
        assert np.array_equal(unpacked.astype(bool), adjacency)
        assert graph.edges.dtype == np.int32
        assert graph.edges.tolist() == sorted(sorted(edge) for edge in expected.edges)
        assert graph.degrees.tolist() == adjacency.sum(axis=0).tolist()
        for node in range(n_nodes):
            neighbours = graph.indices[graph.indptr[node] : graph.indptr[node + 1]]
            assert neighbours.tolist() == sorted(expected[node])
        nx.set_node_attributes(expected, dict(expected.degree), "degree")
        assert nx.utils.graphs_equal(graph.to_networkx(), expected)

    def test_networkx_gets_what_is_known_of_nodes_and_edges(self):
        graph = Graph.from_edges(3, np.array([[0, 1], [1, 2]]))
        correlation = np.array([[1, -0.8, 0.1], [-0.8, 1, 0.5], [0.1, 0.5, 1]])
        found = graph.to_networkx(
            layers=["a", "a", "b"],
            neurons=np.array([4, 7, 9]),
            communities=np.array([0, 0, 1]),
            correlation=correlation,
        )
        assert found.nodes[1] == {"degree": 2, "layer": "a", "index": 7, "community": 0}
        assert found.edges[1, 0] == {"correlation": -0.8, "weight": 0.8}
        assert nx.modularity_matrix(found).shape == (3, 3)
        assert all(type(value) in (int, str) for _, node in found.nodes(data=True) for value in node.values())
        assert nx.node_link_data(found)["edges"][1]["weight"] == 0.5

    @pytest.mark.parametrize(
        ("attributes", "message"),
        [
            ({"layers": ["a", "b"]}, "layers must have one entry a node, 3"),
            ({"neurons": 5}, "neurons must have one entry a node"),
            ({"communities": np.zeros(4, int)}, "communities must have one entry a node"),
            ({"correlation": np.eye(2)}, "correlation must be of 3 nodes"),
        ],
    )
    def test_attributes_of_other_nodes_are_refused(self, attributes, message):
        with pytest.raises(FnetError, match=message):
            Graph.from_edges(3, np.array([[0, 1]])).to_networkx(**attributes)

    def test_edges_come_in_any_order_orientation_and_number(self):
        graph = Graph.from_edges(4, np.array([[3, 1], [1, 3], [0, 2], [1, 3]]))
        assert graph.edges.tolist() == [[0, 2], [1, 3]]
        assert (graph.n_nodes, graph.n_edges) == (4, 2)

    def test_equality_is_that_of_nodes_and_edges(self):
        graph = Graph.from_edges(3, np.array([[0, 1]]))
        assert graph == Graph.from_edges(3, np.array([[1, 0]]))
        assert graph != Graph.from_edges(4, np.array([[0, 1]]))
        assert graph != Graph.from_edges(3, np.array([[0, 2]]))
        assert graph != "graph"

    def test_survives_pickling(self):
        graph = Graph.from_edges(70, np.array([[0, 69], [3, 4]]))
        assert pickle.loads(pickle.dumps(graph)) == graph

    @pytest.mark.parametrize(
        "adjacency, message",
        [
            (np.zeros((2, 3)), "square"),
            (np.array([[0, 1], [0, 0]]), "symmetric"),
            (np.eye(2), "diagonal"),
        ],
    )
    def test_bad_adjacency_is_refused(self, adjacency, message):
        with pytest.raises(FnetError, match=message):
            Graph.from_adjacency(adjacency)

    @pytest.mark.parametrize(
        "n_nodes, edges, message",
        [
            (2, [[0, 1, 2]], "shape"),
            (2, [[0.0, 1.0]], "integers"),
            (2, [[0, 2]], "0 to 1"),
            (2, [[-1, 1]], "0 to 1"),
            (2, [[1, 1]], "self loops"),
            (-1, [], "n_nodes"),
        ],
    )
    def test_bad_edges_are_refused(self, n_nodes, edges, message):
        with pytest.raises(FnetError, match=message):
            Graph.from_edges(n_nodes, np.array(edges))


@pytest.mark.parametrize("seed", range(5))
def test_components_equal_networkxs(seed):
    expected = nx.gnp_random_graph(80, 0.015, seed=seed)
    labels = connected_components(Graph.from_edges(80, np.array(expected.edges)))
    parts = sorted(nx.connected_components(expected), key=min)
    assert [set(np.flatnonzero(labels == label).tolist()) for label in range(labels.max() + 1)] == parts


def test_components_of_no_nodes():
    assert connected_components(Graph.from_edges(0, np.empty((0, 2), int))).shape == (0,)


def test_edge_turnover_is_the_jaccard_distance():
    graph = Graph.from_edges(4, np.array([[0, 1], [1, 2], [2, 3]]))
    other = Graph.from_edges(4, np.array([[0, 1], [1, 3]]))
    empty = Graph.from_edges(4, np.empty((0, 2), int))
    assert edge_turnover(graph, other) == edge_turnover(other, graph) == 0.75
    assert edge_turnover(graph, graph) == 0.0
    assert edge_turnover(graph, empty) == 1.0
    assert edge_turnover(empty, empty) == 0.0
    with pytest.raises(FnetError, match="previous"):
        edge_turnover(graph, Graph.from_edges(5, np.empty((0, 2), int)))


def test_edge_turnover_takes_sorted_edges_as_well():
    now, before = np.array([[0, 1], [1, 2], [2, 3]]), np.array([[0, 1], [1, 3]])
    assert edge_turnover(now, before) == edge_turnover(Graph.from_edges(4, now), before) == 0.75
    for unsorted in (now[::-1], np.repeat(now, 2, axis=0)):
        with pytest.raises(FnetError, match="sorted"):
            edge_turnover(before, unsorted)


@pytest.mark.parametrize("seed", range(5))
def test_edge_turnover_equals_that_of_sets(seed):
    now, before = (set(nx.gnp_random_graph(40, 0.1, seed=s).edges) for s in (seed, seed + 1))
    expected = len(now ^ before) / len(now | before)
    assert edge_turnover(np.array(sorted(now)), np.array(sorted(before))) == pytest.approx(expected)
