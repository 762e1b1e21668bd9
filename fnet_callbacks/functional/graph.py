"""The functional network, an unweighted, undirected, simple graph, and how a correlation becomes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components as _csgraph_components

from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional import _kernels

if TYPE_CHECKING:
    import networkx as nx

Method = Literal["mst", "density", "threshold"]
Sign = Literal["absolute", "positive"]

_ASYMMETRY_ALLOWED = 1e-6


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
        joined = np.asarray(adjacency).astype(bool)
        if joined.ndim != 2 or joined.shape[0] != joined.shape[1]:
            raise FnetError(f"adjacency must be a square matrix [N, N], got shape {joined.shape}")
        if not np.array_equal(joined, joined.T):
            raise FnetError("adjacency must be symmetric: the graph is undirected")
        if joined.diagonal().any():
            raise FnetError("adjacency must have a zero diagonal: the graph has no self loops")
        return cls._from_sorted(len(joined), np.argwhere(np.triu(joined)).astype(np.int32))

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
        pairs = np.asarray(edges)
        if n_nodes < 0:
            raise FnetError(f"n_nodes must be 0 or more, got {n_nodes}")
        if pairs.size == 0:
            return cls._from_sorted(n_nodes, np.empty((0, 2), np.int32))
        if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
            raise FnetError(f"edges must be integers of shape [E, 2], got {pairs.dtype} {pairs.shape}")
        low, high = pairs.min(axis=1).astype(np.int64), pairs.max(axis=1).astype(np.int64)
        if low.min() < 0 or high.max() >= n_nodes:
            raise FnetError(f"edges must name nodes from 0 to {n_nodes - 1}, got {low.min()} to {high.max()}")
        if (low == high).any():
            raise FnetError("edges must join two different nodes: the graph has no self loops")
        keys = np.unique(low * n_nodes + high)
        return cls._from_sorted(n_nodes, _pairs(keys, n_nodes))

    @classmethod
    def _from_sorted(cls, n_nodes: int, edges: np.ndarray) -> Self:
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

    def to_networkx(self) -> nx.Graph:
        """The same graph for NetworkX, nodes 0 to N - 1."""
        import networkx as nx

        graph = nx.empty_graph(self.n_nodes)
        graph.add_edges_from(self.edges.tolist())
        return graph

    def __eq__(self, other: object) -> bool:
        """Same number of nodes, same edges."""
        if not isinstance(other, Graph):
            return NotImplemented
        return self.n_nodes == other.n_nodes and np.array_equal(self.edges, other.edges)

    __hash__ = None  # type: ignore[assignment]  # arrays are mutable


def spanning_tree(correlation: np.ndarray, *, sign: Sign = "absolute") -> np.ndarray:
    """Maximum spanning tree of a correlation matrix.

    Edges are ordered by weight, strongest first, and equal weights by (i, j), i < j. The tree is the one that
    Kruskal's algorithm takes in this order, which is unique: it depends on the matrix alone.

    Args:
        correlation: ``[N, N]``, symmetric, float32 or float64 (other types are converted).
        sign: The weight is |r| (``"absolute"``) or r (``"positive"``).

    Returns:
        ``[max(N - 1, 0), 2]`` int32, i < j, sorted by (i, j).

    Raises:
        FnetError: ``correlation`` is not square, not symmetric or holds NaN, or ``sign`` is unknown.

    Reference: Prim (1957), Bell System Technical Journal 36, 1389.
    Cost: O(N²).

    Example:
        >>> spanning_tree(np.array([[1.0, 0.9, 0.1], [0.9, 1.0, -0.5], [0.1, -0.5, 1.0]])).tolist()
        [[0, 1], [1, 2]]
    """
    return _tree(_checked_correlation(correlation), _is_absolute(sign))


def graph_from_correlation(
    correlation: np.ndarray,
    *,
    method: Method = "mst",
    density: float = 0.05,
    threshold: float | None = None,
    sign: Sign = "absolute",
    tree: np.ndarray | None = None,
) -> Graph:
    """The functional network of a correlation matrix.

    - ``"mst"``: the maximum spanning tree, then the strongest other edges up to
      ``E = max(N - 1, round(density N(N-1)/2))``; always connected.
    - ``"density"``: the ``round(density N(N-1)/2)`` strongest edges.
    - ``"threshold"``: every edge whose weight is at least ``threshold``.

    Ties are broken by index: of equally strong edges the one with the smaller (i, j) is taken.

    Args:
        correlation: ``[N, N]``, symmetric, float32 or float64 (other types are converted); the diagonal is
            not read.
        method: Which edges are kept, see above.
        density: Share of all pairs that is joined, in [0, 1]; not used by ``"threshold"``.
        threshold: Smallest weight that is an edge, in [0, 1]; ``"threshold"`` only, and required there.
        sign: The weight is |r| (``"absolute"``), or r (``"positive"``). With ``"positive"`` only pairs with r
            > 0 are joined, apart from the tree, so that there may be fewer edges than ``density`` asks for.
        tree: The result of `spanning_tree` for this matrix and sign, where it is known already; ``"mst"``
            only.

    Returns:
        The graph; without edges for N of 0 or 1.

    Raises:
        FnetError: ``correlation`` is not square, not symmetric or holds NaN; an option is unknown or out of
            range.

    Reference: Zhang, Dong, Zhang & Lin (2022), arXiv:2205.11702, and its published code (``"mst"`` at 5 %).
    Cost: O(N²).

    Example:
        >>> r = np.array([[1.0, 0.9, 0.1], [0.9, 1.0, -0.5], [0.1, -0.5, 1.0]])
        >>> graph_from_correlation(r, method="threshold", threshold=0.5, sign="positive").edges.tolist()
        [[0, 1]]
    """
    correlation = _checked_correlation(correlation)
    absolute = _is_absolute(sign)
    if method not in ("mst", "density", "threshold"):
        raise FnetError(f"method must be 'mst', 'density' or 'threshold', got {method!r}")
    if not 0 <= density <= 1:
        raise FnetError(f"density must be in [0, 1], got {density}")
    if (threshold is None) == (method == "threshold"):
        raise FnetError(f"threshold belongs to method='threshold', got {threshold} with {method!r}")
    if threshold is not None and not 0 <= threshold <= 1:
        raise FnetError(f"threshold must be in [0, 1], got {threshold}")

    n_nodes = len(correlation)
    weights = _kernels.upper_weights(correlation, absolute)
    if method == "mst":
        tree = _tree(correlation, absolute) if tree is None else _checked_tree(tree, n_nodes)
        weights[_triangle_index(tree, n_nodes)] = np.inf
    if not absolute:
        weights[weights <= 0] = -np.inf
    if threshold is not None:
        chosen = np.flatnonzero(weights >= threshold)
    else:
        n_edges = round(density * weights.size)
        chosen = _strongest(weights, max(n_edges, n_nodes - 1) if method == "mst" else n_edges)
    return Graph._from_sorted(n_nodes, _triangle_pairs(chosen, n_nodes))


def graph_scale(correlation: np.ndarray, graph: Graph, tree: np.ndarray | None = None) -> float:
    """The radius on the distance ``1 - |r|`` at which a Vietoris-Rips complex has the edges of the graph.

    ``1 - m``, where m lies midway between the weakest |r| kept beyond the tree and the next smaller |r| of
    any pair. Where the graph is its tree alone, the weakest tree edge takes the first place. The few edges
    that only the tree has kept are weaker and so not in the complex.

    Args:
        correlation: ``[N, N]``, symmetric: the matrix that the graph was built from.
        graph: The functional network, N nodes.
        tree: ``[N - 1, 2]``, its spanning tree; None for a graph that was built without one.

    Returns:
        eps in [0, 1]; 0 for a graph without edges. Where no pair is weaker (a complete graph) the next
        smaller |r| is taken as 0.

    Raises:
        FnetError: ``correlation`` is not square, not symmetric or holds NaN, or the sizes differ.

    Cost: O(N²).
    """
    correlation = _checked_correlation(correlation)
    if len(correlation) != graph.n_nodes:
        raise FnetError(f"correlation has {len(correlation)} nodes, graph has {graph.n_nodes}")
    if graph.n_edges == 0:
        return 0.0
    edges = graph.edges
    if tree is not None:
        tree = _checked_tree(tree, graph.n_nodes)
        in_tree = np.isin(_keys(edges, graph.n_nodes), _keys(tree, graph.n_nodes))
        edges = edges if in_tree.all() else edges[~in_tree]
    weakest = float(np.abs(correlation[edges[:, 0], edges[:, 1]]).min())
    return 1.0 - (weakest + _kernels.next_below(correlation, weakest)) / 2


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
    if graph.n_nodes == 0:
        return np.empty(0, np.int64)
    ones = np.ones(len(graph.indices), np.int8)
    matrix = csr_array((ones, graph.indices, graph.indptr), shape=(graph.n_nodes, graph.n_nodes))
    labels = _csgraph_components(matrix, directed=False)[1]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return first.argsort().argsort()[inverse]


def edge_turnover(graph: Graph, previous: Graph) -> float:
    """Share of the edges of two graphs that only one of them has (Jaccard distance).

    Args:
        graph: The functional network now.
        previous: The functional network before, over the same N nodes.

    Returns:
        ``1 - |A ∩ B| / |A ∪ B|`` in [0, 1]; 0 for two graphs without edges.

    Raises:
        FnetError: The graphs differ in their number of nodes.

    Cost: O(E log E).
    """
    if graph.n_nodes != previous.n_nodes:
        raise FnetError(f"previous must have the {graph.n_nodes} nodes of graph, got {previous.n_nodes}")
    now, before = _keys(graph.edges, graph.n_nodes), _keys(previous.edges, graph.n_nodes)
    shared = len(np.intersect1d(now, before, assume_unique=True))
    union = len(now) + len(before) - shared
    return 1.0 - shared / union if union else 0.0


def _checked_correlation(correlation: np.ndarray) -> np.ndarray:
    """A C-contiguous float32 or float64 matrix, copied only where it is not one."""
    matrix = np.asarray(correlation)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise FnetError(f"correlation must be a square matrix [N, N], got shape {matrix.shape}")
    if matrix.dtype not in (np.float32, np.float64):
        matrix = matrix.astype(np.float64)
    matrix = np.ascontiguousarray(matrix)
    gap = _kernels.asymmetry(matrix)
    if np.isnan(gap):
        raise FnetError("correlation holds NaN or infinite values: drop units without one (dead units) first")
    if gap > _ASYMMETRY_ALLOWED:
        raise FnetError(f"correlation must be symmetric, got entries that differ by {gap:.3g}")
    return matrix


def _is_absolute(sign: str) -> bool:
    if sign not in ("absolute", "positive"):
        raise FnetError(f"sign must be 'absolute' or 'positive', got {sign!r}")
    return sign == "absolute"


def _checked_tree(tree: np.ndarray, n_nodes: int) -> np.ndarray:
    tree = np.asarray(tree)
    if tree.shape != (max(n_nodes - 1, 0), 2):
        raise FnetError(f"tree must be that of spanning_tree for N={n_nodes}, [N - 1, 2], got {tree.shape}")
    return tree


def _tree(correlation: np.ndarray, absolute: bool) -> np.ndarray:
    tree = _kernels.prim(correlation, absolute)
    return tree[np.lexsort((tree[:, 1], tree[:, 0]))]


def _strongest(weights: np.ndarray, count: int) -> np.ndarray:
    """Ascending positions of the ``count`` largest weights, equal ones by position; -inf is never taken."""
    if count == 0:
        return np.empty(0, np.int64)
    weakest = np.partition(weights, weights.size - count)[weights.size - count]
    chosen = np.flatnonzero(weights >= weakest)
    if chosen.size > count:
        ties = np.flatnonzero(weights[chosen] == weakest)
        chosen = np.delete(chosen, ties[count - chosen.size :])
    return chosen if weakest > -np.inf else chosen[weights[chosen] > -np.inf]


def _keys(edges: np.ndarray, n_nodes: int) -> np.ndarray:
    return edges[:, 0].astype(np.int64) * n_nodes + edges[:, 1]


def _pairs(keys: np.ndarray, n_nodes: int) -> np.ndarray:
    return np.stack(np.divmod(keys, n_nodes), axis=1).astype(np.int32)


def _triangle_index(edges: np.ndarray, n_nodes: int) -> np.ndarray:
    """Position of edges i < j in the upper triangle read row by row."""
    i, j = edges[:, 0].astype(np.int64), edges[:, 1].astype(np.int64)
    return i * (2 * n_nodes - i - 3) // 2 + j - 1


def _triangle_pairs(positions: np.ndarray, n_nodes: int) -> np.ndarray:
    """Inverse of `_triangle_index`."""
    first = np.arange(n_nodes, dtype=np.int64)
    row_start = first * (2 * n_nodes - first - 1) // 2
    i = np.searchsorted(row_start[:-1], positions, side="right") - 1 if n_nodes else positions
    return np.stack((i, positions - row_start[i] + i + 1), axis=1).astype(np.int32)
