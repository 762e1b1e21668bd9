"""What a node is to its community and to the others: a hub of its own, or a bridge."""

import numpy as np

from fnet_callbacks.functional.communities import checked_partition
from fnet_callbacks.functional.graph import Graph, checked_graph


def participation_coefficient(graph: Graph, partition: np.ndarray) -> np.ndarray:
    r"""How evenly the edges of each node are spread over communities, :math:`P_i = 1 - \sum_c (k_{ic} / k_i)^2`.

    Args:
        graph: The functional network, N nodes.
        partition: Community of each node, ``[N]``, integer.

    Returns:
        ``[N]`` in [0, 1): 0 for a node whose neighbours are all in one community, and for an isolated one.

    Raises:
        FnetError: ``partition`` is not ``[N]`` integers.

    Reference: Guimerà & Amaral (2005), Nature 433, 895, eq. 2.
    Cost: O(N log N + E).

    >>> path = Graph.from_edges(3, np.array([[0, 1], [1, 2]]))
    >>> participation_coefficient(path, np.array([0, 0, 1])).tolist()
    [0.0, 0.5, 0.0]
    """
    labels = checked_partition(partition, "partition", checked_graph(graph).n_nodes)
    edges = _edges_into(graph, labels)
    degrees = np.maximum(graph.degrees, 1)
    return np.where(graph.degrees > 0, 1 - ((edges / degrees[:, None]) ** 2).sum(1), 0.0)


def within_module_z(graph: Graph, partition: np.ndarray) -> np.ndarray:
    """How well each node is connected within its community, in standard deviations of that community's nodes.

    Args:
        graph: The functional network, N nodes.
        partition: Community of each node, ``[N]``, integer.

    Returns:
        ``[N]``; 0 in a community whose nodes all have as many edges within it (population standard deviation).

    Raises:
        FnetError: ``partition`` is not ``[N]`` integers.

    Reference: Guimerà & Amaral (2005), Nature 433, 895, eq. 1.
    Cost: O(N log N + E).

    >>> star = Graph.from_edges(4, np.array([[0, 1], [0, 2], [0, 3]]))
    >>> within_module_z(star, np.zeros(4, int)).round(3).tolist()
    [1.732, -0.577, -0.577, -0.577]
    """
    labels = checked_partition(partition, "partition", checked_graph(graph).n_nodes)
    within = _edges_into(graph, labels)[np.arange(graph.n_nodes), labels]
    sizes = np.bincount(labels)
    mean = np.bincount(labels, within) / sizes
    spread = np.sqrt(np.bincount(labels, (within - mean[labels]) ** 2) / sizes)
    return np.divide(
        within - mean[labels], spread[labels], where=spread[labels] > 0, out=np.zeros(len(labels))
    )


def _edges_into(graph: Graph, labels: np.ndarray) -> np.ndarray:
    """Edges of each node into each community, ``[N, K]``."""
    found = np.zeros((graph.n_nodes, int(labels.max(initial=-1)) + 1))
    i, j = graph.edges.T
    np.add.at(found, (i, labels[j]), 1)
    np.add.at(found, (j, labels[i]), 1)
    return found
