"""How the functional network holds together while neurons are removed."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from fnet_callbacks.checks import checked_array, checked_choice, checked_integer, checked_seed
from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional import _kernels
from fnet_callbacks.functional.graph import Graph, checked_graph

Order = Literal["random", "degree", "betweenness"]
AttackMeasure = Literal["giant_component", "efficiency"]
_SHARE_AT_A_TIME = 0.02


@dataclass(frozen=True, slots=True)
class AttackCurve:
    """What is left of a graph while its nodes are removed.

    Attributes:
        removed: ``[P]``, share of the nodes that is removed, from 0 to 1.
        remaining: ``[P]``, the measure relative to its value at the start, from 1 to 0.
    """

    removed: np.ndarray
    remaining: np.ndarray

    @property
    def area(self) -> float:
        """Under the curve, by the trapezoidal rule: the mean of what remains over the share that is removed."""
        return float(np.trapezoid(self.remaining, self.removed)) if len(self.removed) > 1 else float("nan")


def attack_curve(
    graph: Graph,
    *,
    order: Order | np.ndarray = "random",
    measure: AttackMeasure = "giant_component",
    points: int = 20,
    seed: int = 0,
) -> AttackCurve:
    """Remove the nodes of a graph one after the other and follow what is left.

    Args:
        graph: The functional network, N nodes.
        order: See `removal_order`; or what that returned, ``[N]``, where several curves share it.
        measure: ``"giant_component"``: size of the largest component. ``"efficiency"``: sum of 1 / distance
            over the pairs that are left, so that a removed node counts as unreachable.
        points: The curve is read after each ``1 / points`` of the nodes, and at the start.
        seed: Of the random order, an integer of 0 or more; used by ``"random"`` alone.

    Returns:
        The curve, ``min(points, N) + 1`` points. Without nodes, or for ``"efficiency"`` without edges,
        ``remaining`` is NaN.

    Raises:
        FnetError: An option is unknown or out of range.

    Reference: Albert, Jeong & Barabási (2000), Nature 406, 378. That Zhang et al. (arXiv:2205.11702) mean
        this by fault tolerance is our assumption.
    Cost: that of `removal_order`, and O(N + E), or ``points`` searches as in `distance_histogram`, to measure.
    """
    checked_choice("measure", measure, get_args(AttackMeasure))
    points = min(checked_integer("points", points, at_least=1), max(checked_graph(graph).n_nodes, 1))
    counts = np.unique(np.round(np.linspace(0, graph.n_nodes, points + 1)).astype(np.int64))
    if isinstance(order, str):
        nodes = removal_order(graph, order, seed=seed)
    else:
        nodes = checked_array("order", order, "[nodes]", kind="integer").astype(np.int64)
    if not np.array_equal(np.sort(nodes), np.arange(graph.n_nodes)):
        raise FnetError(f"order must name each of the {graph.n_nodes} nodes once")
    if measure == "giant_component":
        values = _kernels.giant_sizes(graph.indptr, graph.indices, nodes)[counts].astype(np.float64)
    else:
        values = np.array([_inverse_distances(graph, np.sort(nodes[count:])) for count in counts])
    remaining = values / values[0] if values[0] else np.full(len(counts), np.nan)
    return AttackCurve(counts / max(graph.n_nodes, 1), remaining)


def fault_tolerance(
    graph: Graph,
    *,
    order: Order = "random",
    measure: AttackMeasure = "giant_component",
    points: int = 20,
    seed: int = 0,
) -> float:
    """Area under the `attack_curve`.

    Args:
        graph: The functional network.
        order: See `attack_curve`.
        measure: See `attack_curve`.
        points: See `attack_curve`.
        seed: See `attack_curve`.

    Returns:
        In [0, 1]; 0.5 for the giant component of a complete graph, which only loses what is removed. NaN
        where the curve is.

    Raises:
        FnetError: An option is unknown or out of range.

    Reference: Zhang et al. (2022), arXiv:2205.11702, name the measure; this definition is our assumption.
    Cost: as `attack_curve`.

    Example:
        >>> pairs = np.array([[i, j] for i in range(10) for j in range(i)])
        >>> round(fault_tolerance(Graph.from_edges(10, pairs), order="degree"), 3)
        0.5
    """
    return attack_curve(graph, order=order, measure=measure, points=points, seed=seed).area


def removal_order(graph: Graph, order: Order, *, seed: int = 0) -> np.ndarray:
    """In which order the nodes of a graph go, ``[N]``.

    Args:
        graph: The functional network, N nodes.
        order: ``"random"``, or ``"degree"``: the node with the most neighbours left goes first, ties by
            index. ``"betweenness"``: those that lie on the most shortest paths, 2 % of the nodes at a time, then
            looked at anew.
        seed: Of the random order, an integer of 0 or more.

    Raises:
        FnetError: An option is unknown or out of range.

    Reference: Holme, Kim, Yoon & Han (2002), Attack vulnerability of complex networks; betweenness by Brandes (2001).
    Cost: O(N² + E) by degree; 50 searches O(N E) at most by betweenness, two seconds at 1,024 nodes and 5 % density.
    """
    checked_choice("order", order, get_args(Order))
    checked_graph(graph)
    seed = checked_seed(seed)
    if order == "degree":
        return _kernels.degree_order(graph.indptr, graph.indices)
    if order == "betweenness":
        return _betweenness_order(graph)
    return np.random.default_rng(seed).permutation(graph.n_nodes)


def _betweenness_order(graph: Graph) -> np.ndarray:
    n = graph.n_nodes
    at_a_time = max(1, round(_SHARE_AT_A_TIME * n))
    is_there = np.ones(n, bool)
    order = np.empty(n, np.int64)
    for start in range(0, n, at_a_time):
        there = np.zeros(graph.rows.shape[1] * 64, bool)
        there[:n] = is_there
        central = _kernels.betweenness(graph.rows, np.packbits(there, bitorder="little").view("<u8"))
        # What differs by rounding is a tie, by index.
        central = np.round(central / max(central.max(), 1.0), 10)
        central[~is_there] = -1
        gone = np.argsort(-central, kind="stable")[: min(at_a_time, n - start)]
        is_there[gone] = False
        order[start : start + at_a_time] = gone
    return order


def _inverse_distances(graph: Graph, nodes: np.ndarray) -> float:
    counts = _kernels.distance_counts(_kernels.induced(graph.rows, nodes.astype(np.int32)))
    return float((counts[1:] / np.arange(1, len(counts))).sum())
