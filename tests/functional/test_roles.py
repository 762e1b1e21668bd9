"""What a node is to its community and to the others."""

import networkx as nx
import numpy as np
import pytest

from fnet_callbacks import FnetError
from fnet_callbacks import functional as F

PATH = F.Graph.from_edges(4, np.array([[0, 1], [1, 2]]))


@pytest.mark.parametrize("seed", range(5))
def test_roles_of_a_random_graph_are_those_counted_node_by_node(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = nx.gnp_random_graph(30, 0.15, seed=seed)
    graph = F.Graph.from_adjacency(nx.to_numpy_array(network, dtype=bool))
    partition = rng.choice([2, 5, 11], 30)
    participation, z = F.participation_coefficient(graph, partition), F.within_module_z(graph, partition)
    inside = {i: sum(partition[j] == partition[i] for j in network[i]) for i in network}
    for i in network:
        into = [sum(partition[j] == c for j in network[i]) for c in (2, 5, 11)]
        expected = 1 - sum((k / sum(into)) ** 2 for k in into) if sum(into) else 0
        assert participation[i] == pytest.approx(expected)
        own = [inside[j] for j in network if partition[j] == partition[i]]
        assert z[i] == pytest.approx((inside[i] - np.mean(own)) / np.std(own) if np.std(own) else 0)


def test_without_edges_and_in_one_community_there_is_nothing_to_tell() -> None:
    empty = F.Graph.from_edges(3, np.empty((0, 2), int))
    for role in (F.participation_coefficient, F.within_module_z):
        assert role(empty, np.arange(3)).tolist() == [0, 0, 0]
        assert role(F.Graph.from_edges(0, np.empty((0, 2), int)), np.empty(0, int)).shape == (0,)
    assert F.participation_coefficient(PATH, np.zeros(4, int)).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("role", [F.participation_coefficient, F.within_module_z])
def test_a_partition_of_other_nodes_is_named(role) -> None:
    with pytest.raises(FnetError, match=r"partition must be integers of shape \(4,\)"):
        role(PATH, np.zeros(3, int))
