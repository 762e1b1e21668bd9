"""How far apart two topologies are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gudhi import hera
from numpy.typing import ArrayLike

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
    Cost: at 500 features each some tens of milliseconds.
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
    """The distance of each to each, ``[R, R]``; R (R - 1) / 2 calls."""
    n = len(things)
    found = np.zeros((n, n))
    for i in range(n):
        for j in range(i):
            found[i, j] = found[j, i] = distance(things[i], things[j])
    return found


def _closed(diagram: np.ndarray) -> np.ndarray:
    """Those features that die, and later than they are born."""
    diagram = np.asarray(diagram, dtype=np.float64)
    if diagram.ndim != 2 or diagram.shape[1] != 2:
        raise FnetError(f"a diagram must be [features, 2], birth and death; got shape {diagram.shape}")
    return np.ascontiguousarray(diagram[np.isfinite(diagram).all(axis=1) & (diagram[:, 1] > diagram[:, 0])])
