"""Clusters of a weighted graph by its spectrum: n-cut, spectral clustering, and whether a graph has clusters at all."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import scipy  # which loads a part of it when that is used

from fnet_callbacks.checks import checked_array, checked_integer, short_repr
from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional.references import z_score

Adjacency: TypeAlias = "np.ndarray | scipy.sparse.csr_array"
_DENSE = 2000  # nodes up to which all eigenvalues are found at once


@dataclass(frozen=True, slots=True)
class Clusterability:
    """A graph's n-cut against that of its shuffles.

    Attributes:
        ncut: Of the graph, as `ncut` of its `spectral_clusters`.
        mean: Of the shuffled graphs.
        std: Of the shuffled graphs, sample standard deviation.
        z: ``(ncut - mean) / std``: below 0 for a graph that falls apart better than its shuffles; NaN where these are
            all alike.
        p: Share of all, the graph among them, whose n-cut is as low.
    """

    ncut: float
    mean: float
    std: float
    z: float
    p: float


def ncut(adjacency: Adjacency, partition: np.ndarray) -> float:
    r"""Normalised cut of a partition, :math:`\sum_c \mathrm{cut}(c, \mathrm{rest}) / \mathrm{vol}(c)`.

    Args:
        adjacency: Weights of the edges, ``[N, N]``, symmetric, 0 or more; an array or a sparse array.
        partition: Cluster of each node, ``[N]`` integers; nodes below 0 are left out of the graph.

    Returns:
        In [0, K]: 0 where no edge joins two clusters. A cluster without edges adds nothing.

    Raises:
        FnetError: Shapes do not fit, or a weight is negative or not finite.

    Reference: Shi & Malik (2000), IEEE Trans. Pattern Anal. Mach. Intell. 22, 888, eq. 2, for K clusters.
    Cost: O(edges + N K).

    >>> ncut(np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]]), np.array([0, 0, 1]))
    1.333...
    """
    weights = _checked(adjacency)
    labels = _checked_partition(partition, _n_nodes(weights))
    kept = np.flatnonzero(labels >= 0)
    if not len(kept):
        return 0.0
    _, own = np.unique(labels[kept], return_inverse=True)
    members = scipy.sparse.csr_array((np.ones(len(kept)), (np.arange(len(kept)), own)))
    between = (members.T @ weights[kept][:, kept] @ members).toarray()
    volume = between.sum(1)
    return float(((volume - between.diagonal()) / np.where(volume > 0, volume, 1)).sum())


def spectral_clusters(
    adjacency: Adjacency, k: int | None = None, *, max_clusters: int = 32, seed: int = 0
) -> np.ndarray:
    """Clusters by the eigenvectors of the symmetric normalised Laplacian, and k-means on these.

    Args:
        adjacency: See `ncut`. Nodes without edges are in no cluster.
        k: Clusters; None takes as many as `eigengap` says.
        max_clusters: The most that it may say.
        seed: Of k-means, the best of 25 starts, and of the eigenvalue solver.

    Returns:
        ``[N]`` int64 from 0 to k - 1, -1 for a node without edges.

    Raises:
        FnetError: ``k`` is below 1 or above the number of nodes with edges, or there is none; ``max_clusters`` is below
            2, ``seed`` not of 32 bits; else see `ncut`.

    Reference: Shi & Malik (2000); von Luxburg (2007), Stat. Comput. 17, 395. With the settings of Hod et al. (2021),
        arXiv 2110.08058, whose clustering is scikit-learn's.
    Cost: the k lowest eigenvectors; 1,000 nodes take about a second.
    """
    from sklearn.cluster import SpectralClustering  # heavy, and needed here only

    weights = _checked(adjacency)
    joined = np.flatnonzero(weights.sum(1) > 0)
    max_clusters = checked_integer("max_clusters", max_clusters, at_least=2)
    seed = checked_integer("seed", seed, at_least=0, at_most=2**32 - 1)
    if not len(joined):
        raise FnetError("adjacency must have edges: a node without one is in no cluster")
    k = eigengap(weights, max_clusters=max_clusters) if k is None else checked_integer("k", k)
    if not 1 <= k <= len(joined):
        raise FnetError(f"`k={k}` should be from 1 to {len(joined)}, the number of nodes that have edges")
    labels = np.full(_n_nodes(weights), -1)
    inside = _narrow(weights[joined][:, joined])
    if k in (1, len(joined)):
        labels[joined] = np.arange(len(joined)) % k
        return labels
    small = len(joined) <= k + 1  # where ARPACK finds no k eigenvectors of so few
    clustering = SpectralClustering(
        k,
        affinity="precomputed",
        eigen_solver="lobpcg" if small else "arpack",
        assign_labels="kmeans",
        n_init=25,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # Clusters that no edge joins are what is looked for.
        warnings.filterwarnings("ignore", "Graph is not fully connected", UserWarning)
        labels[joined] = clustering.fit_predict(inside)
    return labels


def eigengap(adjacency: Adjacency, *, max_clusters: int = 32) -> int:
    """How many clusters a graph has by the largest gap between successive eigenvalues of its normalised Laplacian.

    The gap above the lowest is left out: it is large in any graph that hangs together, and one cluster is none.

    Args:
        adjacency: See `ncut`.
        max_clusters: The most that are considered.

    Returns:
        From 2 to ``max_clusters``: the number of eigenvalues below the gap, the smallest of several; at most one less
        than the nodes with edges, and 1 for fewer than three of these.

    Raises:
        FnetError: ``max_clusters`` is below 2; else see `ncut`.

    Reference: von Luxburg (2007), Stat. Comput. 17, 395, section 8.3.
    Cost: all eigenvalues up to 2,000 nodes, beyond that the ``max_clusters + 1`` lowest.
    """
    from scipy.sparse.linalg import eigsh

    max_clusters = checked_integer("max_clusters", max_clusters, at_least=2)
    weights = _checked(adjacency)
    degrees = weights.sum(1)
    joined = np.flatnonzero(degrees > 0)
    n = len(joined)
    if n < 3:
        return 1
    scale = scipy.sparse.diags_array(1 / np.sqrt(degrees[joined]))
    similar = scale @ weights[joined][:, joined] @ scale  # 1 less its eigenvalues are the Laplacian's
    n_values = min(max_clusters + 1, n)
    if n <= _DENSE or n_values >= n:
        values = np.linalg.eigvalsh(similar.toarray())[::-1][:n_values]
    else:
        values = np.sort(eigsh(similar, k=n_values, which="LA", v0=np.ones(n), return_eigenvectors=False))[
            ::-1
        ]
    gaps = values[1:-1] - values[2:]
    return int(np.argmax(np.round(gaps, 12))) + 2


def clusterability(
    adjacency: Adjacency,
    shuffle: Callable[[np.random.Generator], Adjacency],
    k: int | None = None,
    *,
    shuffles: int = 50,
    partition: np.ndarray | None = None,
    seed: int = 0,
) -> Clusterability:
    """Whether a graph falls into clusters better than what its shuffles fall into.

    Args:
        adjacency: See `ncut`.
        shuffle: Gives a shuffled graph, such as one whose weights are permuted within layers; called with a generator
            of its own each time.
        k: Clusters; None for as many as `partition` has, else see `spectral_clusters`.
        shuffles: How many.
        partition: That of the graph, where it is known. Nodes below 0 in it are left out of the shuffled graphs too.
        seed: Of all that is drawn.

    Raises:
        FnetError: ``shuffles`` is below 2, ``partition`` is not of the graph's nodes or leaves out all of them, or
            ``shuffle`` gives no graph of as many nodes; else see `spectral_clusters`.

    Reference: Filan et al. (2021), Clusterability in neural networks, arXiv 2103.03386.
    Cost: ``shuffles + 1`` times `spectral_clusters`.
    """
    shuffles = checked_integer("shuffles", shuffles, at_least=2)
    seed = checked_integer("seed", seed, at_least=0, at_most=2**32 - 1)
    if not callable(shuffle):
        raise FnetError(f"shuffle must be a function from a generator to a graph, got {short_repr(shuffle)}")
    weights = _checked(adjacency)
    n_nodes = _n_nodes(weights)
    left = slice(None)
    if partition is None:
        labels = spectral_clusters(weights, k, seed=seed)
    else:
        labels = _checked_partition(partition, n_nodes)
        left = np.flatnonzero(labels >= 0)
        if not len(left):
            raise FnetError("partition must have a node in a cluster, all of them are below 0")
    own = ncut(weights, labels)
    k = len(np.unique(labels[labels >= 0])) if k is None else k
    found = []
    for stream in np.random.default_rng(seed).spawn(shuffles):
        shuffled = _checked(shuffle(stream), "what shuffle gives")
        if _n_nodes(shuffled) != n_nodes:
            raise FnetError(
                f"what shuffle gives must have the {n_nodes} nodes of adjacency, got {_n_nodes(shuffled)}"
            )
        shuffled = shuffled[left][:, left]
        found.append(ncut(shuffled, spectral_clusters(shuffled, k, seed=seed)))
    mean, std = float(np.mean(found)), float(np.std(found, ddof=1))
    p = (1 + sum(value <= own for value in found)) / (shuffles + 1)
    return Clusterability(own, mean, std, z_score(own, mean, std), p)


def _checked(adjacency: Adjacency, argument: str = "adjacency") -> scipy.sparse.csr_array:
    found: Any = adjacency if scipy.sparse.issparse(adjacency) else checked_array(argument, adjacency, "")
    if found.ndim != 2 or found.shape[0] != found.shape[1]:
        raise FnetError(f"{argument} must be a square matrix [N, N], got shape {found.shape}")
    if found.dtype.kind not in "biuf":
        raise FnetError(f"{argument} must be real numbers, got {found.dtype}")
    weights = scipy.sparse.csr_array(found.astype(np.float64))
    if weights.nnz and (not np.isfinite(weights.data).all() or weights.data.min() < 0):
        raise FnetError(f"{argument} must have weights of 0 or more, all of them finite")
    if weights.nnz and abs(weights - weights.T).max() > 1e-9 * max(1.0, abs(weights).max()):
        raise FnetError(f"{argument} must be symmetric: the graph is undirected")
    return weights


def _checked_partition(partition: np.ndarray, n_nodes: int) -> np.ndarray:
    """As it is, with nodes below 0, which are left out."""
    labels = checked_array("partition", partition, "[nodes]", kind="integer")
    if len(labels) != n_nodes:
        raise FnetError(f"partition must be integers of shape ({n_nodes},), got shape {labels.shape}")
    return labels


def _n_nodes(weights: scipy.sparse.csr_array) -> int:
    return len(weights.indptr) - 1


def _narrow(weights: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """With the 32-bit indices that scikit-learn takes."""
    parts = weights.data, weights.indices.astype(np.int32), weights.indptr.astype(np.int32)
    return scipy.sparse.csr_array(parts, shape=weights.shape)
