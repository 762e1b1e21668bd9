"""How a correlation becomes a graph: the live neurons, their spanning tree, the strongest edges, a scale."""

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from fnet_callbacks.checks import checked_array, checked_choice, checked_number, short_repr
from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional import _kernels
from fnet_callbacks.functional.correlation import checked_correlation
from fnet_callbacks.functional.graph import Graph, checked_graph

Method = Literal["mst", "density", "threshold"]
Sign = Literal["absolute", "positive"]

_NO_TREE = np.empty((0, 2), np.int32)


@dataclass(frozen=True, slots=True)
class GraphRule:
    """Which pairs of neurons are edges; checks itself.

    Attributes:
        method: ``"mst"``: the maximum spanning tree, then the strongest other edges up to
            ``E = max(N - 1, round(density N(N-1)/2))``; ``"density"``: the ``round(density N(N-1)/2)`` strongest;
            ``"threshold"``: every pair whose weight is at least ``threshold``.
        density: Share of all pairs that are edges, in [0, 1]; not used by ``"threshold"``.
        threshold: Smallest weight of an edge, in [0, 1]; ``"threshold"`` only, and required there.
        sign: The weight is ``|r|`` (``"absolute"``), or r (``"positive"``).

    Raises:
        FnetError: One of them is out of range; the message names it.

    Reference: Zhang, Dong, Zhang & Lin (2022), arXiv:2205.11702, and its published code (``"mst"`` at 5 %).

    >>> GraphRule(method="threshold", threshold=0.5).graph(np.array([[1.0, 0.9], [0.9, 1.0]])).edges.tolist()
    [[0, 1]]
    """

    method: Method = "mst"
    density: float = 0.05
    threshold: float | None = None
    sign: Sign = "absolute"

    def __post_init__(self) -> None:
        checked_choice("method", self.method, ("mst", "density", "threshold"))
        object.__setattr__(self, "density", checked_number("density", self.density, at_least=0, at_most=1))
        if self.threshold is not None:
            threshold = checked_number("threshold", self.threshold, at_least=0, at_most=1)
            object.__setattr__(self, "threshold", threshold)
        if (self.threshold is None) == (self.method == "threshold"):
            raise FnetError(
                f"threshold belongs to method='threshold', got {self.threshold} with {self.method!r}"
            )
        checked_choice("sign", self.sign, ("absolute", "positive"))

    @property
    def is_absolute(self) -> bool:
        """Whether weights are ``|r|``."""
        return self.sign == "absolute"

    def graph(self, correlation: np.ndarray) -> Graph:
        """The functional network of a correlation matrix; see `graph_from_correlation`."""
        return graph_from_correlation(correlation, **asdict(self))

    def select(self, correlation: np.ndarray) -> "Selection":
        """All that measures of a graph need of a correlation matrix; see `select`."""
        return select(correlation, **asdict(self))


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """All that measures of a graph need of a correlation matrix; N counts all neurons, n the live ones.

    Attributes:
        n_neurons: N.
        nodes: Neuron of each node, ``[n]`` int64, ascending.
        tree: The maximum spanning tree, ``[max(n - 1, 0), 2]`` int32, by node, i < j, sorted by (i, j).
        tree_weights: ``|r|`` along the tree, ``[max(n - 1, 0)]`` float64.
        edges: ``[E, 2]`` int32, by node, i < j, sorted by (i, j).
        edge_weights: ``|r|`` of each, ``[E]`` float64.
        scale: The radius on ``1 - |r|`` at which a Vietoris-Rips complex has the graph's edges; see `graph_scale`.
        mean_abs_correlation: See `mean_abs_correlation`.
        effective_rank: See `effective_rank`.
        weight_counts: How many pairs have which weight, ``|r|`` or a positive r, ``[4096]`` int64: in bin k those from
            k / 4095 on.
    """

    n_neurons: int
    nodes: np.ndarray
    tree: np.ndarray
    tree_weights: np.ndarray
    edges: np.ndarray
    edge_weights: np.ndarray
    scale: float
    mean_abs_correlation: float
    effective_rank: float
    weight_counts: np.ndarray


def select(
    correlation: np.ndarray,
    *,
    method: Method = "mst",
    density: float = 0.05,
    threshold: float | None = None,
    sign: Sign = "absolute",
) -> Selection:
    """All that measures of a graph need of a correlation matrix, read off it in a few passes.

    The tree is that of `spanning_tree`, the edges those of `graph_from_correlation`, and so on, of the live
    neurons.

    Args:
        correlation: ``[N, N]``, symmetric, NaN in the rows and columns of dead units.
        method: See `graph_from_correlation`.
        density: See `graph_from_correlation`.
        threshold: See `graph_from_correlation`.
        sign: See `graph_from_correlation`.

    Raises:
        FnetError: As `graph_from_correlation`, of the live neurons' block.

    Cost: O(N²) time; no array of that size, but a copy of the matrix where a neuron is dead or it is not contiguous.
    """
    rule = GraphRule(method, density, threshold, sign)
    absolute = rule.is_absolute
    matrix = checked_correlation(correlation)
    n_neurons, nodes = len(matrix), np.flatnonzero(~np.isnan(matrix.diagonal()))
    n_live = len(nodes)
    if n_live < n_neurons:
        matrix = matrix[np.ix_(nodes, nodes)]
    counts, strength, squares = _kernels.survey(matrix, absolute)
    tree = _tree(matrix, absolute)
    tree_weights = np.abs(matrix[tree[:, 0], tree[:, 1]]).astype(np.float64, copy=False)
    edges, weakest = _edges(matrix, counts, tree if rule.method == "mst" else None, rule)
    if len(edges) and not np.isfinite(weakest):
        weakest = tree_weights.min()
    return Selection(
        n_neurons=n_neurons,
        nodes=nodes,
        tree=tree,
        tree_weights=tree_weights,
        edges=edges,
        edge_weights=np.abs(matrix[edges[:, 0], edges[:, 1]]).astype(np.float64, copy=False),
        scale=_scale(matrix, weakest) if len(edges) else 0.0,
        mean_abs_correlation=min(strength / (n_live * (n_live - 1) / 2), 1.0) if n_live > 1 else float("nan"),
        effective_rank=max(n_live**2 / (2 * squares + float((matrix.diagonal() ** 2).sum())), 1.0)
        if n_live
        else float("nan"),
        weight_counts=counts,
    )


def spanning_tree(correlation: np.ndarray, *, sign: Sign = "absolute") -> np.ndarray:
    """Maximum spanning tree of a correlation matrix.

    Edges are ordered by weight, strongest first, and equal weights by (i, j), i < j. The tree is the one that
    Kruskal's algorithm takes in this order, which is unique: it depends on the matrix alone.

    Args:
        correlation: ``[N, N]``, symmetric with unit diagonal, float32 or float64 (other types are converted).
        sign: The weight is ``|r|`` (``"absolute"``) or r (``"positive"``).

    Returns:
        ``[max(N - 1, 0), 2]`` int32, i < j, sorted by (i, j).

    Raises:
        FnetError: ``correlation`` is none (a covariance, Fisher's z) or holds NaN, or ``sign`` is unknown.

    Reference: Prim (1957), Bell System Technical Journal 36, 1389.
    Cost: O(N²).

    Example:
        >>> spanning_tree(np.array([[1.0, 0.9, 0.1], [0.9, 1.0, -0.5], [0.1, -0.5, 1.0]])).tolist()
        [[0, 1], [1, 2]]
    """
    absolute = _is_absolute(sign)
    return _tree(checked_correlation(correlation, has_dead=False), absolute)


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
        correlation: ``[N, N]``, symmetric with unit diagonal, float32 or float64 (other types are converted).
        method: Which edges are kept, see above.
        density: Share of all pairs that is joined, in [0, 1]; not used by ``"threshold"``.
        threshold: Smallest weight that is an edge, in [0, 1]; ``"threshold"`` only, and required there.
        sign: The weight is ``|r|`` (``"absolute"``), or r (``"positive"``). With ``"positive"`` only pairs with r
            > 0 are joined, apart from the tree, so that there may be fewer edges than ``density`` asks for.
        tree: The result of `spanning_tree` for this matrix and sign, where it is known already; ``"mst"``
            only.

    Returns:
        The graph; without edges for N of 0 or 1.

    Raises:
        FnetError: ``correlation`` is none (a covariance, Fisher's z) or holds NaN; an option is unknown or out of
            range.

    Reference: Zhang, Dong, Zhang & Lin (2022), arXiv:2205.11702, and its published code (``"mst"`` at 5 %).
    Cost: O(N²).

    Example:
        >>> r = np.array([[1.0, 0.9, 0.1], [0.9, 1.0, -0.5], [0.1, -0.5, 1.0]])
        >>> graph_from_correlation(r, method="threshold", threshold=0.5, sign="positive").edges.tolist()
        [[0, 1]]
    """
    rule = GraphRule(method, density, threshold, sign)
    matrix = checked_correlation(correlation, has_dead=False)
    if method == "mst" and tree is not None:
        return graph_of(matrix, rule, _checked_tree(tree, len(matrix)))
    return graph_of(matrix, rule)


def graph_of(matrix: np.ndarray, rule: GraphRule, tree: np.ndarray | None = None) -> Graph:
    """The graph of a matrix that is known to be a correlation without dead units; its ``tree`` where that is known."""
    counts, *_ = _kernels.survey(matrix, rule.is_absolute)
    if rule.method == "mst" and tree is None:
        tree = _tree(matrix, rule.is_absolute)
    return Graph.from_sorted_edges(len(matrix), _edges(matrix, counts, tree, rule)[0])


def graph_scale(correlation: np.ndarray, graph: Graph, tree: np.ndarray | None = None) -> float:
    """The radius on the distance ``1 - |r|`` at which a Vietoris-Rips complex has the edges of the graph.

    ``1 - m``, where m lies midway between the weakest ``|r|`` kept beyond the tree and the next smaller ``|r|`` of
    any pair. Where the graph is its tree alone, the weakest tree edge takes the first place. The few edges
    that only the tree has kept are weaker and so not in the complex.

    Args:
        correlation: ``[N, N]``, symmetric: the matrix that the graph was built from.
        graph: The functional network, N nodes.
        tree: ``[N - 1, 2]``, its spanning tree; None for a graph that was built without one.

    Returns:
        eps in [0, 1]; 0 for a graph without edges. Where no pair is weaker (a complete graph) the next
        smaller ``|r|`` is taken as 0.

    Raises:
        FnetError: ``correlation`` is none (a covariance, Fisher's z) or holds NaN, or the sizes differ.

    Cost: O(N²).
    """
    matrix = checked_correlation(correlation, has_dead=False)
    n_nodes = checked_graph(graph).n_nodes
    if len(matrix) != n_nodes:
        raise FnetError(f"correlation has {len(matrix)} nodes, graph has {n_nodes}")
    if graph.n_edges == 0:
        return 0.0
    edges = graph.edges
    if tree is not None:
        in_tree = np.isin(_keys(edges, n_nodes), _keys(_checked_tree(tree, n_nodes), n_nodes))
        edges = edges if in_tree.all() else edges[~in_tree]
    return _scale(matrix, np.abs(matrix[edges[:, 0], edges[:, 1]]).min())


def checked_rule(rule: GraphRule | None) -> GraphRule:
    """A rule; the one by default where there is none.

    Raises:
        FnetError: It is something else.
    """
    if rule is not None and not isinstance(rule, GraphRule):
        raise FnetError(f"rule must be a GraphRule, such as GraphRule(density=0.1), got {short_repr(rule)}")
    return rule or GraphRule()


def _is_absolute(sign: str) -> bool:
    return checked_choice("sign", sign, ("absolute", "positive")) == "absolute"


def _tree(matrix: np.ndarray, absolute: bool) -> np.ndarray:
    tree = _kernels.prim(matrix, absolute)
    return tree[np.lexsort((tree[:, 1], tree[:, 0]))]


def _checked_tree(tree: np.ndarray, n_nodes: int) -> np.ndarray:
    tree = np.ascontiguousarray(checked_array("tree", tree, "[N - 1, 2]", kind="integer"), np.int32)
    fits = tree.shape == (max(n_nodes - 1, 0), 2)
    fits = fits and bool(((tree[:, 0] >= 0) & (tree[:, 0] < tree[:, 1]) & (tree[:, 1] < n_nodes)).all())
    if not fits or (np.diff(_keys(tree, n_nodes)) <= 0).any():
        raise FnetError(
            f"tree must be that of spanning_tree for N={n_nodes}, [N - 1, 2], rows i < j in order, got {tree.shape}"
        )
    return tree


def _keys(edges: np.ndarray, n_nodes: int) -> np.ndarray:
    return edges[:, 0].astype(np.int64) * n_nodes + edges[:, 1]


def _edges(
    matrix: np.ndarray, counts: np.ndarray, tree: np.ndarray | None, rule: GraphRule
) -> tuple[np.ndarray, float]:
    """The edges, and the smallest weight beyond the tree; infinite where there is none."""
    absolute = rule.is_absolute
    n_pairs = len(matrix) * (len(matrix) - 1) // 2
    beyond = 0 if tree is None else len(tree)
    tree = _NO_TREE if tree is None else tree
    others = _kernels.counts_beyond(counts, matrix, absolute, tree)
    if rule.threshold is not None:
        weakest = matrix.dtype.type(rule.threshold)
        if not absolute:  # where the sign counts a weight of 0 is no edge
            weakest = max(weakest, np.nextafter(matrix.dtype.type(0), matrix.dtype.type(1)))
        ties = n_pairs
        size = int(others[_kernels.bin_of(weakest) :].sum())
    else:
        size = min(max(round(rule.density * n_pairs) - beyond, 0), int(others.sum()))
        weakest, ties = _cut(matrix, absolute, others, tree, size)
    return _kernels.strongest_edges(matrix, absolute, tree, float(weakest), ties, len(tree) + size)


def _cut(
    matrix: np.ndarray, absolute: bool, others: np.ndarray, tree: np.ndarray, size: int
) -> tuple[float, int]:
    """The weight of the last of the ``size`` strongest edges beyond a tree, and how many of that weight are taken."""
    if size == 0:
        return np.inf, 0
    above = np.cumsum(others[::-1])[::-1]  # pairs in this bin and those above
    last = int(np.flatnonzero(above >= size)[-1])
    weights = _kernels.weights_in_bin(matrix, absolute, tree, last, others[last])
    taken = size - int(above[last] - others[last])
    weakest = np.partition(weights, len(weights) - taken)[len(weights) - taken]
    return float(weakest), taken - int(np.count_nonzero(weights > weakest))


def _scale(matrix: np.ndarray, weakest: float) -> float:
    """One less the mean of a weight and the next smaller |r|."""
    strength = np.asarray(weakest, matrix.dtype)
    integer = np.int64 if matrix.dtype == np.float64 else np.int32
    bits = _kernels.next_below(matrix.view(integer), np.int64(strength.view(integer)))
    return max(0.0, 1.0 - (float(weakest) + float(np.asarray(bits, integer).view(matrix.dtype))) / 2)
