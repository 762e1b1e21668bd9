"""How far apart two topologies are."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from gudhi import hera
from numpy.typing import ArrayLike
from tqdm.auto import tqdm

from fnet_callbacks import functional as F
from fnet_callbacks.errors import FnetError


def wasserstein(a: np.ndarray, b: np.ndarray, *, order: float = 2.0, error: float = 0.01) -> float:
    r"""Wasserstein distance of two persistence diagrams, :math:`W_q = (\min_\gamma \sum \|x-\gamma(x)\|_2^q)^{1/q}`.

    Args:
        a: ``[K, 2]``, birth and death; features that never die are left out.
        b: ``[M, 2]``, the same.
        order: q, at least 1.
        error: The result is between the distance and ``1 + error`` times that.

    Raises:
        FnetError: A diagram is not ``[K, 2]``, or ``order`` below 1.

    Reference: Kerber, Morozov & Nigmetov (2017), Geometry helps to compare persistence diagrams.
    Cost: at 500 features each some tens of milliseconds, at 1,900 one to two seconds.
    """
    if order < 1:
        raise FnetError(f"`order={order}` should be at least 1")
    return float(hera.wasserstein_distance(_closed(a), _closed(b), order=order, internal_p=2.0, delta=error))


def bottleneck(a: np.ndarray, b: np.ndarray) -> float:
    """Bottleneck distance of two persistence diagrams, exact: the longest of the shortest moves that match them.

    Args:
        a: ``[K, 2]``, birth and death; features that never die are left out.
        b: ``[M, 2]``, the same.

    Raises:
        FnetError: A diagram is not ``[K, 2]``.
    """
    return float(hera.bottleneck_distance(_closed(a), _closed(b), delta=0.0))


def betti_distance(a: np.ndarray, b: np.ndarray) -> float:
    r""":math:`L_2` distance of two Betti curves, :math:`(\int(\beta_a(s)-\beta_b(s))^2 ds)^{1/2}`, exact.

    Args:
        a: Diagram, ``[K, 2]``, birth and death; features that never die are left out.
        b: The same.

    Raises:
        FnetError: A diagram is not ``[K, 2]``.

    Cost: O((K + M) log(K + M)).
    """
    a, b = _closed(a), _closed(b)
    scales = np.unique(np.concatenate([a.ravel(), b.ravel()]))
    if len(scales) < 2:
        return 0.0
    difference = F.betti_curve(a, scales[:-1]) - F.betti_curve(b, scales[:-1])
    return float(np.sqrt(np.sum(difference.astype(float) ** 2 * np.diff(scales))))


def graph_filtration_distance(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> float:
    r"""Wasserstein distance of two graph filtrations, in closed form.

    As weak edges are removed first, a component is born at each weight of the maximum spanning tree, and a cycle dies
    at each of the other weights; of sorted numbers the best match is in order:
    :math:`W_2^2 = \sum_i (b_i - b'_i)^2 + \sum_i (d_i - d'_i)^2`.

    Args:
        a: The tree's weights, ``[n - 1]``, and how many pairs have which weight, ``[B]``: bin k holds those from
            ``k / (B - 1)`` on, pairs that are in none weigh nothing.
        b: The same of the other; where the numbers of nodes differ, as many quantiles are matched as the larger has.

    Returns:
        Exact in the births, within a bin's width for each death.

    Raises:
        FnetError: Counts have other lengths, or there are fewer than three nodes.

    Reference: Songdechakraiwut & Chung (2023), Topological learning for brain networks; for functional connectomes
        of neural networks Songdechakraiwut & Wu (2025), arXiv 2412.15279.
    Cost: O(n log n + B).
    """
    if a[1].shape != b[1].shape:
        raise FnetError(
            f"weights are counted in {len(a[1])} and in {len(b[1])} bins; they should be the same"
        )
    if min(len(a[0]), len(b[0])) < 2:
        raise FnetError("a graph filtration should be of at least three nodes, else it has no cycle")
    births = _matched(*((np.sort(tree), np.ones(len(tree))) for tree, _ in (a, b)))
    return float(np.sqrt(births + _matched(_deaths(*a), _deaths(*b))))


def _deaths(tree: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights beyond the tree, ascending, and how many there are of each."""
    n_bins, n = len(counts), len(tree) + 1
    others = counts - np.bincount((np.minimum(tree, 1.0) * (n_bins - 1)).astype(np.int64), minlength=n_bins)
    weights = np.minimum((np.arange(n_bins) + 0.5) / (n_bins - 1), 1.0)
    return np.append(0.0, weights), np.append((n - 1) * (n - 2) // 2 - others.sum(), others)


def _matched(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> float:
    """Sum of squared differences of two sorted samples, given as values and counts, quantile by quantile."""
    ends = [np.cumsum(counts) for _, counts in (a, b)]
    sizes = [float(end[-1]) if len(end) else 0.0 for end in ends]
    shares = [end / size for end, size in zip(ends, sizes, strict=True)]
    cuts = np.unique(np.concatenate([[0.0], *shares]))
    middles = (cuts[1:] + cuts[:-1]) / 2
    ours, theirs = (
        values[np.searchsorted(share, middles)] for (values, _), share in zip((a, b), shares, strict=True)
    )
    return float(max(sizes) * (np.diff(cuts) * (ours - theirs) ** 2).sum())


def measure_distance(values: ArrayLike) -> np.ndarray:
    """Euclidean distances of runs as vectors of measures, each in units of its standard deviation over the runs.

    Args:
        values: ``[R, M]``; a measure that is not finite in all runs or does not vary counts for nothing.

    Returns:
        ``[R, R]``, divided by the root of the number of measures that count.

    Raises:
        FnetError: No measure is left.
    """
    found = np.asarray(values, float)
    spread = found.std(axis=0)
    counts = np.isfinite(spread) & (spread > 0)
    if not counts.any():
        raise FnetError("`values`: no measure is finite in all runs and varies between them")
    z = (found[:, counts] - found[:, counts].mean(axis=0)) / spread[counts]
    return np.sqrt(((z[:, None] - z[None]) ** 2).mean(axis=-1))


def pairwise(things: Sequence[Any], distance: Callable[[Any, Any], float]) -> np.ndarray:
    """The distance of each to each, ``[R, R]``; R (R - 1) / 2 calls, side by side in threads.

    A bar is shown on a terminal where it takes more than two seconds.
    """
    n = len(things)
    pairs = [(i, j) for i in range(n) for j in range(i)]
    found = np.zeros((n, n))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # gudhi's distances let go of the interpreter
        values = pool.map(lambda pair: distance(things[pair[0]], things[pair[1]]), pairs)
        bar = tqdm(values, total=len(pairs), desc="distances", delay=2.0, leave=False, disable=None)
        for (i, j), value in zip(pairs, bar, strict=True):
            found[i, j] = found[j, i] = value
    return found


def _closed(diagram: np.ndarray) -> np.ndarray:
    """Those features that die, and later than they are born."""
    diagram = np.asarray(diagram, dtype=np.float64)
    if diagram.ndim != 2 or diagram.shape[1] != 2:
        raise FnetError(f"a diagram must be [features, 2], birth and death; got shape {diagram.shape}")
    return np.ascontiguousarray(diagram[np.isfinite(diagram).all(axis=1) & (diagram[:, 1] > diagram[:, 0])])
