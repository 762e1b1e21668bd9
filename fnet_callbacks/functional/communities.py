"""Communities of the functional network: Louvain, modularity and its null, how partitions differ."""

from collections.abc import Sequence

import numpy as np
import scipy  # which loads a part of it when that is used

from fnet_callbacks.checks import checked_array, checked_integer, checked_number, checked_seed, short_repr
from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional import _kernels
from fnet_callbacks.functional.graph import Graph, checked_graph
from fnet_callbacks.functional.references import z_score
from fnet_callbacks.functional.small_world import nulls_of
from fnet_callbacks.functional.streams import in_threads
from fnet_callbacks.functional.terms import entropy_terms


def communities(graph: Graph, *, initial: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """Communities by Louvain: the partition of highest modularity that is found.

    Nodes move to the community that gains most, communities become the nodes of a coarser graph, and so on
    up; then the nodes of each finer level move again on the way down. What no edge joins within a community is split.
    This is repeated until modularity stays.

    Args:
        graph: The functional network, N nodes.
        initial: A partition to start from, ``[N]`` integers, e.g. of the last snapshot. A cold start is made
            beside it, and the one with the higher modularity wins, the warm one where they are equal.
        seed: Of the order in which nodes are visited, an integer of 0 or more.

    Returns:
        ``[N]`` int64 from 0 to K - 1, by decreasing size of the community, equal sizes by their smallest
        node. Each is connected by edges within it: an isolated node is a community of its own.

    Raises:
        FnetError: ``initial`` is not ``[N]`` integers, or ``seed`` is negative.

    Reference: Blondel et al. (2008), J. Stat. Mech., P10008; the way down: Rotta & Noack (2011), J. Exp.
        Algorithmics 16, 2.3; communities that are not connected: Traag, Waltman & van Eck (2019), Sci. Rep. 9,
        5233. That Mostafa & Mondal (arXiv:2106.04693) use Louvain is our assumption.
    Cost: O(E) per sweep over the nodes, of which some ten are needed.

    Example:
        >>> two_triangles = np.array([[0, 1], [1, 2], [0, 2], [3, 4], [4, 5], [3, 5], [2, 3]])
        >>> communities(Graph.from_edges(6, two_triangles)).tolist()
        [0, 0, 0, 1, 1, 1]
    """
    quality, labels = _best_cold_start(checked_graph(graph), 1, seed)
    if initial is not None:
        start, generator = _start(graph, initial), np.random.default_rng(checked_seed(seed))
        warm_quality, warm_labels = _louvain(graph, start, generator)
        if warm_quality >= quality:
            labels = warm_labels
    return _canonical(labels)


def modularity(graph: Graph, partition: np.ndarray, *, resolution: float = 1.0) -> float:
    """Newman's modularity of a partition.

    Args:
        graph: The functional network, N nodes.
        partition: Community of each node, ``[N]``, integer.
        resolution: Larger values favour smaller communities; dimensionless.

    Returns:
        Q in [-0.5, 1] at ``resolution=1``; 0 for a graph without edges.

    Raises:
        FnetError: ``partition`` is not ``[N]`` integers.

    Reference: Newman & Girvan (2004), Phys. Rev. E 69, 026113, eq. 5.
    Cost: O(N log N + E).

    Example:
        >>> modularity(Graph.from_edges(4, np.array([[0, 1], [2, 3]])), np.array([7, 7, 5, 5]))
        0.5
    """
    labels = checked_partition(partition, "partition", checked_graph(graph).n_nodes)
    resolution = checked_number("resolution", resolution)
    if graph.n_edges == 0:
        return 0.0
    held = np.bincount(labels, weights=graph.degrees)
    i, j = graph.edges.T
    inside, total = 2 * np.count_nonzero(labels[i] == labels[j]), 2 * graph.n_edges
    return float(inside / total - resolution * (held @ held) / total**2)


def modularity_z(
    graph: Graph,
    *,
    value: float | None = None,
    nulls: int | Sequence[Graph] = 10,
    seed: int = 0,
    starts: int = 1,
) -> float:
    """How many standard deviations the modularity lies above that of random graphs with the same degrees.

    Sparse random graphs have high modularity too, and more starts find more of it: the nulls get as many
    starts as the graph did.

    Args:
        graph: The functional network.
        value: Its modularity, where it is known: the best of ``starts`` runs of Louvain (two for
            `communities` with ``initial``). None: it is found here.
        nulls: How many null graphs, or the null graphs, e.g. of `null_graphs`.
        seed: Of the null graphs and the runs of Louvain.
        starts: Runs of Louvain on each graph, the best of which counts.

    Returns:
        ``(Q - mean) / std`` over the nulls (sample standard deviation); NaN where all nulls are alike, so for
        fewer than two nulls, and for a graph without edges.

    Raises:
        FnetError: ``starts`` is below 1, or ``seed`` or ``nulls`` is negative.

    Reference: Guimerà, Sales-Pardo & Amaral (2004), Phys. Rev. E 70, 025101.
    Cost: that of ``nulls`` rewirings and ``nulls * starts`` runs of `communities`.
    """
    starts = checked_integer("starts", starts, at_least=1)
    graphs = nulls_of(checked_graph(graph), nulls, seed)
    if len(graphs) < 2 or graph.n_edges == 0:
        return float("nan")
    value = _best_modularity(graph, starts, seed) if value is None else checked_number("value", value)
    mean, spread = null_modularity(graphs, starts=starts, seed=seed)
    return z_score(value, mean, spread)


def null_modularity(nulls: Sequence[Graph], *, starts: int = 1, seed: int = 0) -> tuple[float, float]:
    """Mean and standard deviation of the modularity of null graphs, each the best of several runs of Louvain.

    Args:
        nulls: The null graphs, e.g. of `null_graphs`, at least two.
        starts: Runs of Louvain on each.
        seed: Of the runs.

    Returns:
        Mean and sample standard deviation; NaN for fewer than two graphs.

    Raises:
        FnetError: ``starts`` is below 1, or ``seed`` is negative.

    Cost: ``starts`` runs of `communities` on each.
    """
    starts, seed = checked_integer("starts", starts, at_least=1), checked_seed(seed)
    if not isinstance(nulls, Sequence) or isinstance(nulls, str):
        raise FnetError(f"nulls must be graphs, as of null_graphs, got {short_repr(nulls)}")
    nulls = [checked_graph(null, f"nulls[{k}]") for k, null in enumerate(nulls)]
    if len(nulls) < 2:
        return float("nan"), float("nan")
    found = in_threads(lambda null: _best_modularity(null, starts, seed), nulls)
    return float(np.mean(found)), float(np.std(found, ddof=1))


def adjusted_mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """How much two partitions agree, beyond what chance gives.

    Args:
        a: Community of each node, ``[N]``, integer.
        b: Another partition of the same nodes, ``[N]``, integer.

    Returns:
        1 for equal partitions, also of one community or of one per node, and for no nodes; about 0 for independent
        ones, possibly a little below.

    Raises:
        FnetError: ``a`` and ``b`` are not integers of the same length.

    Reference: Vinh, Epps & Bailey (2010), J. Mach. Learn. Res. 11, 2837: their expected mutual
        information, and the arithmetic mean of the entropies.
    Cost: O(K_a N) at worst.
    """
    a = checked_partition(a, "a")
    b = checked_partition(b, "b", a.size)
    shape = (a.max(initial=-1) + 1, b.max(initial=-1) + 1)
    table = np.bincount(a * shape[1] + b, minlength=shape[0] * shape[1]).reshape(shape)
    if np.count_nonzero(table) == shape[0] == shape[1]:
        return 1.0
    if 1 in shape:
        return 0.0
    h_a, h_b, h_both = (entropy_terms(sizes / a.size).sum() for sizes in (table.sum(1), table.sum(0), table))
    chance = _kernels.expected_information(
        table.sum(1), table.sum(0), scipy.special.gammaln(np.arange(a.size + 1) + 1.0)
    )
    return float((h_a + h_b - h_both - chance) / ((h_a + h_b) / 2 - chance))


def community_entropy(partition: np.ndarray) -> float:
    """Shannon entropy of the community sizes, in nats; its exponential is an effective number of them.

    Args:
        partition: Community of each node, ``[N]``, integer.

    Returns:
        In [0, log N]: 0 for one community, log K for K communities of one size; NaN for no nodes.

    Raises:
        FnetError: ``partition`` is not a vector of integers.

    Reference: Shannon (1948), Bell System Technical Journal 27, 379.
    Cost: O(N log N).
    """
    labels = checked_partition(partition, "partition")
    if labels.size == 0:
        return float("nan")
    share = np.bincount(labels) / labels.size
    return float(abs((share * np.log(share)).sum()))  # abs: a lone community would give -0.0


def checked_partition(partition: np.ndarray, name: str, n_nodes: int | None = None) -> np.ndarray:
    """Any integer labels, of so many nodes where that is known, as 0 .. K - 1."""
    labels = checked_array(name, partition, "[nodes]", kind="integer")
    if n_nodes is not None and len(labels) != n_nodes:
        raise FnetError(f"{name} must be integers of shape ({n_nodes},), got shape {labels.shape}")
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _start(graph: Graph, initial: np.ndarray) -> np.ndarray:
    """The given partition with isolated nodes split off."""
    labels = checked_partition(initial, "initial", graph.n_nodes)
    isolated = np.flatnonzero(graph.degrees == 0)
    labels[isolated] = graph.n_nodes + isolated
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _best_modularity(graph: Graph, starts: int, seed: int) -> float:
    return modularity(graph, _best_cold_start(graph, starts, seed)[1])


def _best_cold_start(graph: Graph, starts: int, seed: int) -> tuple[int, np.ndarray]:
    starts, seed = checked_integer("starts", starts, at_least=1), checked_seed(seed)
    alone = np.arange(graph.n_nodes)
    runs = (_louvain(graph, alone, np.random.default_rng((seed, start))) for start in range(starts))
    return max(runs, key=lambda run: run[0])


def _louvain(graph: Graph, labels: np.ndarray, generator: np.random.Generator) -> tuple[int, np.ndarray]:
    return _kernels.run_louvain(graph.indptr, graph.indices, labels, generator)


def _canonical(labels: np.ndarray) -> np.ndarray:
    """Labels 0 .. K - 1 by decreasing size, equal sizes by their smallest node."""
    _, first, inverse, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    return np.lexsort((first, -sizes)).argsort()[inverse]
