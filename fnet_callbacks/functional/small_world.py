"""How the functional network is wired: clustering, path length, efficiency, nulls, small-worldness."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from fnet_callbacks.checks import checked_integer
from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional import _kernels
from fnet_callbacks.functional.correlation import checked_correlation
from fnet_callbacks.functional.graph import Graph, checked_graph
from fnet_callbacks.functional.random_correlations import NO_VARIANCE, drawn, moments_of
from fnet_callbacks.functional.selection import GraphRule, checked_rule, graph_of
from fnet_callbacks.functional.streams import in_threads, streams

_SWAPS_PER_EDGE = 10


@dataclass(frozen=True, slots=True)
class Wiring:
    """What one search of a graph tells: see `clustering_coefficient`, `path_length`, `global_efficiency`."""

    clustering: float
    path_length: float
    efficiency: float


@dataclass(frozen=True, slots=True)
class SmallWorld:
    """Small-worldness and what it is made of.

    Attributes:
        sigma: ``(C / C_null) / (L / L_null)``; above 1 where the graph is small-world.
        clustering: C, mean local clustering of the graph.
        path_length: L, mean distance over connected pairs.
        null_clustering: Mean of C over the null graphs.
        null_path_length: Mean of L over the null graphs.
        efficiency: Global efficiency of the graph.
    """

    sigma: float
    clustering: float
    path_length: float
    null_clustering: float
    null_path_length: float
    efficiency: float


def local_clustering(graph: Graph) -> np.ndarray:
    """Local clustering coefficient of each node: the share of pairs of neighbours that are joined.

    Args:
        graph: The functional network, N nodes.

    Returns:
        ``[N]`` in [0, 1]; 0 for a node with fewer than two neighbours.

    Reference: Watts & Strogatz (1998), Nature 393, 440.
    Cost: O(E N / 64).

    Example:
        >>> graph = Graph.from_edges(4, np.array([[0, 1], [1, 2], [0, 2], [2, 3]]))
        >>> local_clustering(graph).round(2).tolist()
        [1.0, 1.0, 0.33, 0.0]
    """
    pairs = checked_graph(graph).degrees * (graph.degrees - 1)
    return _kernels.neighbour_links(graph.edges, graph.rows) / np.maximum(pairs, 1)


def clustering_coefficient(graph: Graph) -> float:
    """Mean of `local_clustering` over all nodes; in [0, 1], NaN for a graph without nodes."""
    return float(local_clustering(graph).mean()) if checked_graph(graph).n_nodes else float("nan")


def distance_histogram(graph: Graph) -> np.ndarray:
    """Number of ordered pairs of nodes at each distance.

    Args:
        graph: The functional network, N nodes.

    Returns:
        ``[D + 1]`` int64 for the distances 0 to D, D the largest between two connected nodes. The first entry
        is N; what is missing from N² are the unreachable pairs. ``[0]`` for a graph without nodes.

    Cost: O(N E D / 64) word operations at most; nodes that have reached all others drop out early.

    Example:
        >>> distance_histogram(Graph.from_edges(3, np.array([[0, 1], [1, 2]]))).tolist()
        [3, 4, 2]
    """
    return _kernels.distance_counts(checked_graph(graph).rows)


def path_length(graph: Graph) -> float:
    """Mean distance over all connected pairs of nodes.

    Returns:
        At least 1; NaN where no two nodes are connected.

    Cost: as `distance_histogram`.
    """
    return _path_length(distance_histogram(graph))


def global_efficiency(graph: Graph) -> float:
    """Mean of 1 / distance over all pairs of nodes, 0 for unreachable ones.

    Returns:
        In [0, 1]; 0 for a graph without edges, NaN for fewer than two nodes, which form no pair.

    Reference: Latora & Marchiori (2001), Phys. Rev. Lett. 87, 198701, eq. 1.
    Cost: as `distance_histogram`.
    """
    return _efficiency(distance_histogram(graph))


def wiring(graph: Graph) -> Wiring:
    """Clustering, path length and global efficiency together; the last two share one search."""
    counts = distance_histogram(graph)
    return Wiring(clustering_coefficient(graph), _path_length(counts), _efficiency(counts))


def local_efficiency(graph: Graph) -> float:
    """Mean over nodes of the global efficiency among a node's neighbours.

    Returns:
        In [0, 1], where a node with fewer than two neighbours counts 0; NaN for a graph without nodes.

    Reference: Latora & Marchiori (2001), Phys. Rev. Lett. 87, 198701, eq. 3, for an unweighted graph.
    Cost: O(sum of squared degrees) and a small breadth-first search per node.
    """
    if checked_graph(graph).n_nodes == 0:
        return float("nan")
    return float(_kernels.neighbourhood_efficiencies(graph.rows, graph.indptr, graph.indices).mean())


def rewire(graph: Graph, *, seed: int, swaps_per_edge: int = _SWAPS_PER_EDGE) -> Graph:
    """A random graph with the degrees of this one, by double edge swaps.

    Two edges drawn at random exchange an end where that gives neither a loop nor a double edge.

    Args:
        graph: The functional network, E edges.
        seed: Of the random stream, an integer of 0 or more.
        swaps_per_edge: ``swaps_per_edge E`` swaps are attempted.

    Returns:
        A simple graph with the same degree at every node; the graph itself where no swap is possible.

    Raises:
        FnetError: ``seed`` or ``swaps_per_edge`` is negative.

    Reference: Maslov & Sneppen (2002), Science 296, 910.
    Cost: O(swaps_per_edge E).
    """
    return _rewired(graph, streams(seed, 1)[0], swaps_per_edge)


def null_graphs(graph: Graph, nulls: int = 10, seed: int = 0) -> list[Graph]:
    """Independent degree-preserving rewirings of a graph, made side by side in threads.

    The random stream of a null depends on ``seed`` and its place in the list alone: the first is that of
    `rewire`, and asking for more nulls changes none of those before.

    Args:
        graph: The functional network.
        nulls: How many.
        seed: Of the random streams, an integer of 0 or more.

    Raises:
        FnetError: An argument is negative.

    Cost: O(nulls E).
    """
    checked_graph(graph)
    return in_threads(lambda stream: _rewired(graph, stream, _SWAPS_PER_EDGE), streams(seed, nulls))


def nulls_of(graph: Graph, nulls: int | Sequence[Graph], seed: int) -> Sequence[Graph]:
    """The null graphs that are given, or so many of `null_graphs`."""
    if isinstance(nulls, Sequence) and not isinstance(nulls, str):
        return [checked_graph(null, f"nulls[{k}]") for k, null in enumerate(nulls)]
    return null_graphs(graph, nulls, seed)  # type: ignore[arg-type] - a text is refused there


def small_world(graph: Graph, *, nulls: int | Sequence[Graph] = 10, seed: int = 0) -> SmallWorld:
    """Small-worldness sigma against degree-preserving rewirings.

    Correlation graphs are clustered by construction, so that sigma lies above 1 for random activations too:
    read it beside `small_world_hqs` and its value before training.

    Args:
        graph: The functional network.
        nulls: How many null graphs, or the null graphs, e.g. of `null_graphs`.
        seed: Of the null graphs' random streams.

    Returns:
        Sigma and its parts. Sigma is NaN where a ratio is undefined: no two nodes connected, or nulls without
        triangles.

    Raises:
        FnetError: There is no null graph, or ``seed`` is negative.

    Reference: Humphries & Gurney (2008), PLoS ONE 3, e0002051, eq. 1-3. That Zhang et al. (arXiv:2205.11702)
        mean this measure, against this null, is our assumption.
    Cost: O(nulls (E + N E D / 64)).
    """
    graphs = nulls_of(checked_graph(graph), nulls, seed)
    own, null = wiring(graph), _mean(in_threads(wiring, graphs))
    return SmallWorld(
        sigma=_sigma(own, null),
        clustering=own.clustering,
        path_length=own.path_length,
        null_clustering=null.clustering,
        null_path_length=null.path_length,
        efficiency=own.efficiency,
    )


def small_world_hqs(
    correlation: np.ndarray,
    graph: Graph,
    *,
    nulls: int = 10,
    seed: int = 0,
    rule: GraphRule | None = None,
) -> float:
    """Small-worldness sigma against graphs of covariance-matched random correlations.

    Unlike rewirings these nulls are correlation matrices, so they share the clustering that every correlation
    graph has. The null graphs are built as the graph was, by the same ``rule``.

    Args:
        correlation: ``[N, N]``, the matrix that the graph was built from.
        graph: The functional network, N nodes.
        nulls: How many null matrices.
        seed: Of the null matrices' random streams.
        rule: That the graph was built by; None for ``GraphRule()``.

    Returns:
        Sigma, as in `small_world`; NaN also where `hqs_null` is.

    Raises:
        FnetError: ``correlation`` is refused by `graph_from_correlation`, ``rule`` is no `GraphRule`, ``nulls`` is
            below 1, or ``seed`` negative.

    Reference: Zalesky, Fornito & Bullmore (2012), NeuroImage 60, 2096.
    Cost: ``nulls`` times that of `hqs_null` and of a graph.
    """
    matrix = checked_correlation(correlation, has_dead=False)
    moments, n_nodes = moments_of(matrix), len(matrix)
    if n_nodes != checked_graph(graph).n_nodes:
        raise FnetError(f"correlation has {n_nodes} nodes, graph has {graph.n_nodes}")
    own_streams = streams(seed, nulls)
    build = checked_rule(rule)
    if moments[1] <= NO_VARIANCE:
        return float("nan")

    spare: list[np.ndarray] = []  # one matrix a thread: its first touch is dearer than what is computed in it

    def null_wiring(stream: np.uint64) -> Wiring:
        null = drawn(n_nodes, moments, stream, spare.pop() if spare else None)
        # A draw of few neurons may leave one without a variance, which is refused there.
        is_whole = not np.isnan(null.diagonal()).any()
        graph = graph_of(null, build) if is_whole else build.graph(null)
        spare.append(null.T)
        return wiring(graph)

    return _sigma(wiring(graph), _mean(in_threads(null_wiring, own_streams)))


def _rewired(graph: Graph, stream: np.uint64, swaps_per_edge: int) -> Graph:
    swaps_per_edge = checked_integer("swaps_per_edge", swaps_per_edge, at_least=0)
    rows = checked_graph(graph).rows.copy()
    _kernels.rewire(graph.edges.copy(), rows, swaps_per_edge * graph.n_edges, stream)
    return Graph.from_sorted_edges(graph.n_nodes, _kernels.edges_of(rows, graph.n_edges))


def _path_length(counts: np.ndarray) -> float:
    pairs = counts[1:].sum()
    return float(np.arange(len(counts)) @ counts / pairs) if pairs else float("nan")


def _efficiency(counts: np.ndarray) -> float:
    n_nodes = int(counts[0])
    if n_nodes < 2:
        return float("nan")
    return float((counts[1:] / np.arange(1, len(counts))).sum() / (n_nodes * (n_nodes - 1)))


def _mean(wirings: list[Wiring]) -> Wiring:
    if not wirings:
        raise FnetError("nulls must be at least 1: sigma is a ratio to null graphs")
    return Wiring(*np.mean([astuple(each) for each in wirings], axis=0).tolist())


def _sigma(own: Wiring, null: Wiring) -> float:
    if not null.clustering > 0:
        return float("nan")
    return (own.clustering / null.clustering) / (own.path_length / null.path_length)
