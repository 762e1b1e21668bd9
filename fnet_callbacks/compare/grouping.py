"""Whether runs that were trained alike are alike: maps, trees and scores of a matrix of distances between them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform
from sklearn.manifold import smacof

from fnet_callbacks.compare import _kernels
from fnet_callbacks.errors import FnetError

_PERMUTATIONS = 1999
_AT_ONCE = 2**20  # distances that are looked at together


@dataclass(frozen=True, slots=True)
class Score:
    """How well distances tell groups apart, and how often shuffled names do as well.

    Attributes:
        value: The score.
        chance: Its mean over shuffled names.
        p: Share of the shuffled names, these ones among them, with a score at least as high.
    """

    value: float
    chance: float
    p: float


@dataclass(frozen=True, slots=True)
class Grouping:
    """What a matrix of distances between runs says about their groups.

    Attributes:
        linkage: ``[R - 1, 4]``, average linkage, as SciPy's dendrogram takes it.
        clusters: ``[R]``, the cluster of each run when the tree is cut into as many as there are groups.
        map: ``[R, 2]``, where metric multidimensional scaling puts the runs.
        stress: Of the map, Kruskal's stress-1: 0 is perfect, above 0.2 poor.
        scores: ``ari``, ``purity``, ``silhouette`` and ``nearest_neighbour``.
    """

    linkage: np.ndarray
    clusters: np.ndarray
    map: np.ndarray
    stress: float
    scores: Mapping[str, Score]


def grouping(distances: np.ndarray, groups: Sequence[str], *, seed: int = 0) -> Grouping:
    """Maps and clusters runs by their distances and scores that against the groups' names.

    Scores, each tested by shuffling the names over the runs: the adjusted Rand index and the purity of the
    clusters that average linkage finds, as many as there are groups; the mean silhouette of the groups; the share
    of runs whose nearest neighbour is of their group (leave-one-out; several as near count by their share).

    Args:
        distances: ``[R, R]``, symmetric, zero on the diagonal.
        groups: Name of each run's group, R entries.
        seed: Of the shuffling.

    Raises:
        FnetError: The matrix is no such matrix, there are fewer than three runs, or fewer than two groups, or no
            group has two runs.

    Reference: for clusterings of runs by their diagrams Zhang et al. (2022), arXiv 2205.11702.
    Cost: O(2000 R²) for the shuffles, at 30 runs some tens of milliseconds, at 200 half a second.
    """
    distances = _checked(distances, len(groups))
    _, labels = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    n_groups = labels.max() + 1
    if len(labels) < 3 or n_groups < 2 or n_groups == len(labels):
        raise FnetError(
            f"`groups` names {n_groups} groups of {len(labels)} runs; it takes three runs, two groups, and two runs "
            "in one of them"
        )
    linkage = hierarchy.average(squareform(distances, checks=False))
    clusters = hierarchy.cut_tree(linkage, n_clusters=n_groups).ravel()
    points = _map(distances)
    # The names as they are, and shuffled.
    generator = np.random.default_rng(seed)
    named = np.stack([labels, *(generator.permutation(labels) for _ in range(_PERMUTATIONS))])
    sizes = np.bincount(labels)
    rows = max(1, _AT_ONCE // max(len(labels), n_groups) ** 2)
    parts = [_scores(named[k : k + rows], sizes, clusters, distances) for k in range(0, len(named), rows)]
    scores = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Grouping(
        linkage, clusters, points, _stress(points, distances), {k: _tested(v) for k, v in scores.items()}
    )


def _tested(scores: np.ndarray) -> Score:
    """From the scores of the names, first as they are, then shuffled."""
    value = float(scores[0])
    return Score(value, float(scores[1:].mean()), float((scores >= value - 1e-9).mean()))


def _scores(
    named: np.ndarray, sizes: np.ndarray, clusters: np.ndarray, distances: np.ndarray
) -> dict[str, np.ndarray]:
    """Of many namings at once, ``[P, R]``, the number of each run's group; groups are as large in all of them."""
    table = _tables(named, clusters, len(sizes))
    return {
        "ari": _adjusted_rand(table),
        "purity": table.max(axis=2).sum(axis=1) / len(clusters),
        "silhouette": _silhouette(named, sizes, distances),
        "nearest_neighbour": _nearest_share(named, distances),
    }


def _tables(named: np.ndarray, clusters: np.ndarray, n_groups: int) -> np.ndarray:
    """How many runs of each group are in each cluster, ``[P, K, G]``."""
    n_clusters = clusters.max() + 1
    cells = (np.arange(len(named))[:, None] * n_clusters + clusters) * n_groups + named
    counts = np.bincount(cells.ravel(), minlength=len(named) * n_clusters * n_groups)
    return counts.reshape(len(named), n_clusters, n_groups)


def _adjusted_rand(table: np.ndarray) -> np.ndarray:
    """Hubert & Arabie (1985), Comparing partitions."""
    together, rows, columns = (
        (n * (n - 1) / 2).sum(axis) for n, axis in ((table, (1, 2)), (table.sum(2), 1), (table.sum(1), 1))
    )
    n = table[0].sum()
    chance = rows * columns / (n * (n - 1) / 2)
    return (together - chance) / ((rows + columns) / 2 - chance)


def _silhouette(named: np.ndarray, sizes: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Rousseeuw (1987), Silhouettes; 0 for a run that is alone in its group."""
    return _kernels.silhouettes(named, sizes, distances)


def _nearest_share(named: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Of the runs whose nearest other is of their group; of several as near each counts by its share."""
    others = distances + np.diag(np.full(len(distances), math.inf))
    nearest = others == others.min(axis=1, keepdims=True)
    one, other = np.nonzero(nearest)
    shares = (1 / nearest.sum(axis=1))[one]
    return (named[:, one] == named[:, other]) @ shares / len(distances)


def _map(distances: np.ndarray) -> np.ndarray:
    """Metric scaling from the classical solution, whose axes it turns to the directions of largest spread."""
    n = len(distances)
    if not distances.any():
        return np.zeros((n, 2))
    centre = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-0.5 * centre @ distances**2 @ centre)
    start = vectors[:, -2:][:, ::-1] * np.sqrt(np.clip(values[-2:][::-1], 0, None))
    points = np.asarray(smacof(distances, n_components=2, init=start, n_init=1, random_state=0)[0])
    points = points - points.mean(axis=0)
    _, _, axes = np.linalg.svd(points, full_matrices=False)
    points = points @ axes.T
    signs = np.sign((points * start).sum(axis=0))
    return points * np.where(signs == 0, 1, signs)


def _stress(points: np.ndarray, distances: np.ndarray) -> float:
    found = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    total = float((distances**2).sum())
    return math.sqrt(float(((found - distances) ** 2).sum()) / total) if total else 0.0


def _checked(distances: np.ndarray, n: int) -> np.ndarray:
    distances = np.asarray(distances, dtype=np.float64)
    if distances.shape != (n, n):
        raise FnetError(
            f"`distances` has shape {distances.shape}; it should be [{n}, {n}], as there are groups"
        )
    if not np.isfinite(distances).all() or (distances < 0).any():
        raise FnetError("`distances` should be finite and at least 0")
    if not np.allclose(distances, distances.T) or distances.diagonal().any():
        raise FnetError("`distances` should be symmetric, and 0 on the diagonal")
    return (distances + distances.T) / 2
