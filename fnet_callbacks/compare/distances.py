"""How far apart two topologies are."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fnet_callbacks.checks import checked_array, checked_number, short_repr
from fnet_callbacks.compare import _kernels
from fnet_callbacks.compare.progress import tracked
from fnet_callbacks.compare.rounding import varies
from fnet_callbacks.errors import FnetError

_HIGHEST_ORDER = 100  # powers of short lives would vanish
_ABOVE_ONE = 1e-4  # what float32 sums round a correlation up to


def wasserstein(a: np.ndarray, b: np.ndarray, *, order: float = 2.0) -> float:
    r"""Wasserstein distance of two persistence diagrams, :math:`W_q = (\min_\gamma \sum \|x-\gamma(x)\|_2^q)^{1/q}`.

    Exact: of all pairs only those are looked at that are dearer apart, each matched with the diagonal, than together.

    Args:
        a: ``[K, 2]``, birth and death; features that never die are left out.
        b: ``[M, 2]``, the same.
        order: q, from 1 to 100.

    Raises:
        FnetError: A diagram is not ``[K, 2]``, or ``order`` out of range.

    Reference: Cohen-Steiner, Edelsbrunner, Harer & Mileyko (2010), Found. Comput. Math. 10, 127; the assignment by
        Jonker & Volgenant (1987).
    Cost: O(K M) for the pairs, then the sparse assignment: some tens of milliseconds at 800 features each, half a
        second at 1,900.

    >>> wasserstein(np.array([[0.0, 1.0], [0.3, 0.4]]), np.array([[0.0, 1.0]]))
    0.0707...
    """
    order = checked_number("order", order, allows_nan=True)
    if not 1 <= order <= _HIGHEST_ORDER:
        raise FnetError(
            f"`order={order}` should be from 1 to {_HIGHEST_ORDER}; beyond it there is `bottleneck`"
        )
    return float(_kernels.wasserstein(_closed("a", a), _closed("b", b), float(order)))


def bottleneck(a: np.ndarray, b: np.ndarray) -> float:
    """Bottleneck distance of two persistence diagrams, exact: the longest of the shortest moves that match them.

    Args:
        a: ``[K, 2]``, birth and death; features that never die are left out.
        b: ``[M, 2]``, the same.

    Raises:
        FnetError: A diagram is not ``[K, 2]``.
    """
    return float(_kernels.bottleneck(_closed("a", a), _closed("b", b)))


def betti_distance(a: np.ndarray, b: np.ndarray) -> float:
    r""":math:`L_2` distance of two Betti curves, :math:`(\int(\beta_a(s)-\beta_b(s))^2 ds)^{1/2}`, exact.

    Args:
        a: Diagram, ``[K, 2]``, birth and death; features that never die are left out.
        b: The same.

    Raises:
        FnetError: A diagram is not ``[K, 2]``.

    Cost: O((K + M) log(K + M)).
    """
    return _curve_distance(_steps("a", a), _steps("b", b))


def _steps(argument: str, diagram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the Betti number changes, ascending, and by how much."""
    closed = _closed(argument, diagram)
    order = np.argsort(closed.T.ravel(), kind="stable")
    return closed.T.ravel()[order], np.repeat([1.0, -1.0], len(closed))[order]


def _curve_distance(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> float:
    return float(_kernels.step_distance(*a, *b))


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
        FnetError: Counts have other lengths or are negative, weights are not in [0, 1], or there are fewer than three
            nodes.

    Reference: Songdechakraiwut & Chung (2023), Topological learning for brain networks; for functional connectomes
        of neural networks Songdechakraiwut & Wu (2025), arXiv 2412.15279.
    Cost: O(n log n + B).
    """
    a, b = _filtration("a", a), _filtration("b", b)
    if a[1].shape != b[1].shape:
        raise FnetError(
            f"the weights of a and b are counted in {len(a[1])} and in {len(b[1])} bins; they should be the same"
        )
    return _filtration_distance(_quantiles(a), _quantiles(b))


def _filtration(argument: str, filtration: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    try:
        weights, counts = filtration
    except (TypeError, ValueError):
        raise FnetError(
            f"{argument} must be the weights of a tree and how many pairs have which weight, got "
            f"{short_repr(filtration)}"
        ) from None
    tree = checked_array(f"{argument}[0]", weights, "[n - 1]").astype(np.float64)
    if not ((tree >= 0) & (tree <= 1 + _ABOVE_ONE)).all():
        raise FnetError(
            f"{argument}[0] must be the weights of a tree, |r| in [0, 1]; got a value outside, or NaN"
        )
    if len(tree) < 2:
        raise FnetError(
            f"{argument}: a graph filtration should be of at least three nodes, else it has no cycle"
        )
    counted = checked_array(f"{argument}[1]", counts, "[bins]", kind="integer").astype(np.int64)
    n_pairs = (len(tree) + 1) * len(tree) // 2
    if len(counted) < 2 or counted.min() < 0 or counted.sum() > n_pairs:
        raise FnetError(
            f"{argument}[1] must count the pairs of {len(tree) + 1} nodes, {n_pairs} at most, in two bins or more; got "
            f"{counted.sum()} in {len(counted)}"
        )
    return tree, counted


Quantiles = tuple[np.ndarray, np.ndarray, float]  # values, the share up to each, their number


def _quantiles(filtration: tuple[np.ndarray, np.ndarray]) -> tuple[Quantiles, Quantiles]:
    """Of a filtration's births, and of its deaths."""
    tree, _ = filtration
    found = []
    for values, counts in ((np.sort(tree), np.ones(len(tree))), _deaths(*filtration)):
        values, counts = values[counts > 0], counts[counts > 0]
        n = float(counts.sum())
        found.append((values, np.cumsum(counts) / max(n, 1), n))
    return found[0], found[1]


def _filtration_distance(a: tuple[Quantiles, Quantiles], b: tuple[Quantiles, Quantiles]) -> float:
    squared = 0.0
    for (ours, our_shares, n), (theirs, their_shares, m) in zip(a, b, strict=True):
        squared += max(n, m) * float(_kernels.quantile_distance(ours, our_shares, theirs, their_shares))
    return math.sqrt(squared)


def _deaths(tree: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights beyond the tree, ascending, and how many there are of each."""
    n_bins, n = len(counts), len(tree) + 1
    of_tree = np.bincount((np.minimum(tree, 1.0) * (n_bins - 1)).astype(np.int64), minlength=n_bins)
    # Where the sign counts, an edge of the tree whose r is negative is not among the pairs that are counted.
    others = np.maximum(counts - of_tree, 0)
    weights = np.minimum((np.arange(n_bins) + 0.5) / (n_bins - 1), 1.0)
    weightless = max((n - 1) * (n - 2) // 2 - int(others.sum()), 0)
    return np.append(0.0, weights), np.append(weightless, others)


def measure_distance(values: ArrayLike) -> np.ndarray:
    """Euclidean distances of runs as vectors of measures, each in units of its standard deviation over the runs.

    Args:
        values: ``[R, M]``; a measure that is not finite in all runs, or does not vary beyond rounding, counts for
            nothing.

    Returns:
        ``[R, R]``, divided by the root of the number of measures that count.

    Raises:
        FnetError: ``values`` is not ``[R, M]``, or no measure is left.
    """
    found = checked_array("values", values, "[runs, measures]").astype(np.float64)
    found = found[:, np.isfinite(found).all(axis=0)]
    found = found[:, varies(found)]
    if not found.shape[1]:
        raise FnetError("`values`: no measure is finite in all runs and varies between them")
    # By a power of 2, which changes no digit: the squares of very large and very small numbers are none.
    found = np.ldexp(found, -np.frexp(np.abs(found).max(axis=0))[1])
    z = (found - found.mean(axis=0)) / found.std(axis=0)
    return np.sqrt(((z[:, None] - z[None]) ** 2).mean(axis=-1))


def pairwise(things: Sequence[Any], distance: Callable[[Any, Any], float]) -> np.ndarray:
    """The distance of each to each, ``[R, R]``; R (R - 1) / 2 calls, side by side in threads.

    A bar is shown on a terminal where it takes more than two seconds.
    """
    if not callable(distance):
        raise FnetError(f"distance must be a function of two things, got {short_repr(distance)}")
    if distance in _PREPARED:  # what is asked of one thing is asked once, not at each pair
        prepared, distance = _PREPARED[distance]
        things = [prepared(thing) for thing in things]
    n = len(things)
    found = np.zeros((n, n))

    def to_those_before(i: int) -> list[float]:
        return [distance(things[i], things[j]) for j in range(i)]

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # kernels let go of the interpreter
        rows = tracked(pool.map(to_those_before, range(n)), "distances", total=n)
        for i, values in enumerate(rows):
            found[i, :i] = found[:i, i] = values
    return found


def _closed(argument: str, diagram: np.ndarray) -> np.ndarray:
    """Those features that die, and later than they are born."""
    diagram = checked_array(argument, diagram, "").astype(np.float64)
    if diagram.ndim != 2 or diagram.shape[1] != 2:
        raise FnetError(f"{argument} must be [features, 2], birth and death; got shape {diagram.shape}")
    return np.ascontiguousarray(diagram[np.isfinite(diagram).all(axis=1) & (diagram[:, 1] > diagram[:, 0])])


_PREPARED: Mapping[Any, tuple[Callable[[Any], Any], Callable[[Any, Any], float]]] = {
    wasserstein: (partial(_closed, "a diagram"), partial(_kernels.wasserstein, order=2.0)),
    bottleneck: (partial(_closed, "a diagram"), _kernels.bottleneck),
    betti_distance: (partial(_steps, "a diagram"), _curve_distance),
    graph_filtration_distance: (
        lambda filtration: _quantiles(_filtration("a filtration", filtration)),
        _filtration_distance,
    ),
}
