"""The functional network: an unweighted, undirected, simple graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from fnet_callbacks.checks import checked_array, checked_integer, short_repr
from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional import _kernels

if TYPE_CHECKING:
    import networkx as nx

_MOST_NODES = 2**31 - 1  # nodes are numbered by 32 bits


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """An unweighted, undirected, simple graph; build it with `from_adjacency` or `from_edges`.

    Two graphs are equal when they have the same number of nodes and the same edges.

    Attributes:
        edges: ``[E, 2]`` int32, i < j in each row, rows sorted by (i, j).
        rows: ``[N, ceil(N / 64)]`` uint64, bit-packed adjacency: bit ``j % 64`` of ``rows[i, j // 64]``.
        indptr: ``[N + 1]`` int64; the neighbours of i are ``indices[indptr[i]:indptr[i + 1]]``.
        indices: ``[2 E]`` int32, neighbours of each node in ascending order.
    """

    edges: np.ndarray
    rows: np.ndarray
    indptr: np.ndarray
    indices: np.ndarray

    @classmethod
    def from_adjacency(cls, adjacency: np.ndarray) -> Self:
        """The graph of a symmetric boolean matrix.

        Args:
            adjacency: ``[N, N]``; whatever is non-zero is an edge.

        Raises:
            FnetError: ``adjacency`` is not square, not symmetric, or joins a node to itself.

        Example:
            >>> Graph.from_adjacency(np.array([[0, 1], [1, 0]], dtype=bool)).n_edges
            1
        """
        joined = checked_array("adjacency", adjacency, "").astype(bool)
        if joined.ndim != 2 or joined.shape[0] != joined.shape[1]:
            raise FnetError(f"adjacency must be a square matrix [N, N], got shape {joined.shape}")
        if not np.array_equal(joined, joined.T):
            raise FnetError("adjacency must be symmetric: the graph is undirected")
        if joined.diagonal().any():
            raise FnetError("adjacency must have a zero diagonal: the graph has no self loops")
        return cls.from_sorted_edges(len(joined), np.argwhere(np.triu(joined)).astype(np.int32))

    @classmethod
    def from_edges(cls, n_nodes: int, edges: np.ndarray) -> Self:
        """The graph with the given edges.

        Args:
            n_nodes: Number of nodes, N.
            edges: ``[E, 2]``, integers in [0, N), in any order and orientation; a repeated edge counts once.

        Raises:
            FnetError: ``edges`` has another shape or type, names a node outside [0, N), or holds a self loop.

        Example:
            >>> Graph.from_edges(3, np.array([[2, 0], [0, 2], [0, 1]])).edges.tolist()
            [[0, 1], [0, 2]]
        """
        pairs = checked_array("edges", edges, "", kind="integer")
        n_nodes = checked_integer("n_nodes", n_nodes, at_least=0, at_most=_MOST_NODES)
        if pairs.size == 0:
            return cls.from_sorted_edges(n_nodes, np.empty((0, 2), np.int32))
        if pairs.ndim != 2 or pairs.shape[1] != 2:
            raise FnetError(f"edges must be integers of shape [E, 2], got shape {pairs.shape}")
        low, high = pairs.min(axis=1).astype(np.int64), pairs.max(axis=1).astype(np.int64)
        if low.min() < 0 or high.max() >= n_nodes:
            raise FnetError(
                f"edges must name nodes from 0 to {n_nodes - 1}, as n_nodes={n_nodes}, got {low.min()} to {high.max()}"
            )
        if (low == high).any():
            raise FnetError("edges must join two different nodes: the graph has no self loops")
        keys = np.unique(low * n_nodes + high)
        return cls.from_sorted_edges(n_nodes, np.stack(np.divmod(keys, n_nodes), axis=1))

    @classmethod
    def from_sorted_edges(cls, n_nodes: int, edges: np.ndarray) -> Self:
        """The graph of edges ``[E, 2]`` that are known to be in [0, N), i < j, sorted by (i, j), each once."""
        edges = np.ascontiguousarray(edges, np.int32)
        return cls(edges, *_kernels.adjacency(edges, n_nodes))

    @property
    def n_nodes(self) -> int:
        """Number of nodes, N."""
        return len(self.rows)

    @property
    def n_edges(self) -> int:
        """Number of edges, E."""
        return len(self.edges)

    @property
    def degrees(self) -> np.ndarray:
        """Number of neighbours of each node, ``[N]`` int64."""
        return np.diff(self.indptr)

    def to_networkx(
        self,
        *,
        layers: Sequence[str] | np.ndarray | None = None,
        neurons: np.ndarray | None = None,
        communities: np.ndarray | None = None,
        correlation: np.ndarray | None = None,
    ) -> nx.Graph:
        """The same graph for NetworkX, nodes 0 to N - 1, each with its ``degree``.

        Args:
            layers: ``[N]``, becomes the attribute ``layer`` of each node: a name or a number.
            neurons: ``[N]`` integers, becomes ``index``: which neuron a node is.
            communities: ``[N]`` integers, becomes ``community``.
            correlation: ``[N, N]``; gives each edge its ``correlation``, r, and its ``weight``, ``|r|``.

        Raises:
            FnetError: An argument has other than N entries.

        Example:
            >>> graph = Graph.from_edges(2, np.array([[0, 1]])).to_networkx(layers=["net.1", "net.3"])
            >>> graph.nodes[1]
            {'degree': 1, 'layer': 'net.3'}
        """
        import networkx as nx

        graph = nx.empty_graph(self.n_nodes)
        pairs = self.edges.tolist()
        graph.add_edges_from(pairs)
        nx.set_node_attributes(graph, dict(enumerate(self.degrees.tolist())), "degree")
        of_nodes = {"layers": layers, "neurons": neurons, "communities": communities}
        for (argument, values), name in zip(of_nodes.items(), ("layer", "index", "community"), strict=True):
            if values is None:
                continue
            listed = np.asarray(values).tolist()
            if not isinstance(listed, list) or len(listed) != self.n_nodes:
                raise FnetError(
                    f"{argument} must have one entry a node, {self.n_nodes}, got {short_repr(values)}"
                )
            nx.set_node_attributes(graph, dict(enumerate(listed)), name)
        if correlation is not None:
            matrix = checked_array("correlation", correlation, "[N, N]")
            if matrix.shape != (self.n_nodes, self.n_nodes):
                raise FnetError(f"correlation must be of {self.n_nodes} nodes, got shape {matrix.shape}")
            weights = matrix[self.edges[:, 0], self.edges[:, 1]].tolist()
            attributes = ({"correlation": r, "weight": abs(r)} for r in weights)
            nx.set_edge_attributes(graph, dict(zip(map(tuple, pairs), attributes, strict=True)))
        return graph

    def __eq__(self, other: object) -> bool:
        """Same number of nodes, same edges."""
        if not isinstance(other, Graph):
            return NotImplemented
        return self.n_nodes == other.n_nodes and np.array_equal(self.edges, other.edges)

    __hash__ = None  # type: ignore[assignment]  # arrays are mutable


def checked_graph(graph: Graph, argument: str = "graph") -> Graph:
    """A graph of this package, and nothing that looks like one.

    Raises:
        FnetError: It is another thing, such as an adjacency matrix.
    """
    if not isinstance(graph, Graph):
        raise FnetError(
            f"{argument} must be a Graph, as of Graph.from_adjacency or Graph.from_edges, got {short_repr(graph)}"
        )
    return graph


def connected_components(graph: Graph) -> np.ndarray:
    """Component of each node.

    Args:
        graph: The functional network, N nodes.

    Returns:
        ``[N]`` integers from 0, numbered by the smallest node in them.

    Cost: O(N + E).

    Example:
        >>> connected_components(Graph.from_edges(4, np.array([[0, 2]]))).tolist()
        [0, 1, 0, 2]
    """
    if checked_graph(graph).n_nodes == 0:
        return np.empty(0, np.int64)
    return _kernels.components(graph.indptr, graph.indices)


def edge_turnover(graph: Graph | np.ndarray, previous: Graph | np.ndarray) -> float:
    """Share of the edges of two graphs that only one of them has (Jaccard distance).

    Args:
        graph: The functional network now, or its edges: ``[E, 2]`` integers below 2^31, i < j, sorted by (i, j).
        previous: The functional network before, over the same nodes, or its edges.

    Returns:
        ``1 - |A ∩ B| / |A ∪ B|`` in [0, 1]; 0 for two graphs without edges.

    Raises:
        FnetError: The graphs differ in their number of nodes, or edges are no such array or not sorted.

    Cost: O(E).
    """
    if isinstance(graph, Graph) and isinstance(previous, Graph) and graph.n_nodes != previous.n_nodes:
        raise FnetError(f"previous must have the {graph.n_nodes} nodes of graph, got {previous.n_nodes}")
    now, before = _edges_of(graph, "graph"), _edges_of(previous, "previous")
    shared = _kernels.shared_edges(now, before)
    if shared < 0:
        raise FnetError(
            "the edges of graph and previous must be sorted by (i, j), each once; Graph.from_edges sorts them"
        )
    union = len(now) + len(before) - shared
    return 1.0 - shared / union if union else 0.0


def _edges_of(graph: Graph | np.ndarray, argument: str) -> np.ndarray:
    if isinstance(graph, Graph):
        return graph.edges
    edges = checked_array(argument, graph, "", kind="integer")
    if edges.shape[1:] != (2,):
        raise FnetError(f"{argument} must be a Graph, or its edges [E, 2], got shape {edges.shape}")
    return np.ascontiguousarray(edges, np.int32)
