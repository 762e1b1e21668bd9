"""Random correlation matrices with the mean and variance of a given one: a null for what is built on correlations."""

import numpy as np
import scipy  # which loads a part of it when that is used

from fnet_callbacks.functional import _kernels
from fnet_callbacks.functional.correlation import checked_correlation
from fnet_callbacks.functional.streams import streams

NO_VARIANCE = 1e-12  # a spread of 1e-6, the accuracy of a correlation
_ROWS = 64  # of a matrix that are squared at a time
_MANY = 4  # times N: from there on what is left of a sum has the eigenvalues of a correlation matrix


def hqs_null(correlation: np.ndarray, *, seed: int) -> np.ndarray:
    """A random correlation matrix with about the mean and variance of the given one off the diagonal.

    With e and v the mean and variance off the diagonal: ``k = floor((1 - e²) / v)``,
    ``s² = -m² + sqrt(m⁴ + v / k)``, ``m = sqrt(e / k)``; ``L`` is ``[N, k]`` of normal draws with mean m and
    variance s², and ``L Lᵀ`` is scaled to a unit diagonal. A negative e is taken as 0; k is at least 2.
    Mean and variance are met before the scaling, which narrows the spread where e is large, by a quarter at 0.5.

    For k above 4 N entries are drawn from what these sums of k products come to, ``k m² + m s sqrt(k) (g_i + g_j) +
    s² sqrt(k) h_ij`` with g and h normal, which needs no ``L``.

    Args:
        correlation: ``[N, N]``, symmetric with unit diagonal.
        seed: Of the random stream, an integer of 0 or more.

    Returns:
        ``[N, N]`` float64, symmetric, unit diagonal, in [-1, 1]; all NaN where v is 0 (so for N < 3), for
        then nothing is left to be random.

    Raises:
        FnetError: ``correlation`` is none (a covariance, Fisher's z) or holds NaN; ``seed`` is negative.

    Reference: Hirschberger, Qi & Steuer (2007), Eur. J. Oper. Res. 177, 1610; as a null for correlation
        networks Zalesky, Fornito & Bullmore (2012), NeuroImage 60, 2096. The limit for many k is ours.
    Cost: O(min(k, 4 N) N²).
    """
    matrix = checked_correlation(correlation, has_dead=False)
    return drawn(len(matrix), moments_of(matrix), streams(seed, 1)[0])


def moments_of(matrix: np.ndarray) -> tuple[float, float]:
    """Mean and variance off the diagonal of a correlation; variance 0 where there is no pair."""
    matrix = matrix.astype(np.float64, copy=False)
    entries = matrix.size - len(matrix)
    if entries == 0:
        return 0.0, 0.0
    mean = (matrix.sum() - matrix.trace()) / entries
    squares = -np.square(matrix.diagonal() - mean).sum()
    for top in range(0, len(matrix), _ROWS):
        squares += np.square(matrix[top : top + _ROWS] - mean).sum()
    return float(mean), float(squares / entries)


def drawn(
    n_nodes: int, moments: tuple[float, float], stream: np.uint64, out: np.ndarray | None = None
) -> np.ndarray:
    """A matrix as `hqs_null` has it, from mean and variance off the diagonal; into ``out`` where given."""
    mean, variance = max(moments[0], 0.0), moments[1]
    if variance <= NO_VARIANCE:
        return np.full((n_nodes, n_nodes), np.nan)
    k = max(2, int((1 - mean**2) / variance))
    centre = np.sqrt(mean / k)
    spread = np.sqrt(np.sqrt(centre**4 + variance / k) - centre**2)
    generator = np.random.default_rng(stream)
    filled: np.ndarray = np.empty((n_nodes, n_nodes), order="F") if out is None else out
    if k > _MANY * n_nodes:
        squares = _sums_of_many(k, centre, spread, generator, filled)
    else:
        squares = np.zeros(n_nodes)
        for start in range(0, k, n_nodes):  # in parts, none of which is larger than the matrix
            part = generator.normal(centre, spread, (n_nodes, min(n_nodes, k - start)))
            squares += np.square(part).sum(axis=1)
            filled = scipy.linalg.blas.dsyrk(  # type: ignore[attr-defined]
                1.0, part.T, beta=float(start > 0), trans=True, lower=True, c=filled, overwrite_c=True
            )
    null, nothing = filled.T, np.zeros(n_nodes)
    _kernels.scaled(null, nothing, nothing, 1 / np.sqrt(squares), null)
    return null


def _sums_of_many(
    k: int, centre: float, spread: float, generator: np.random.Generator, out: np.ndarray
) -> np.ndarray:
    """What ``L Lᵀ`` comes to for many columns k, into ``out``, and its diagonal ``[N]``."""
    own, squared = generator.normal(size=(2, len(out)))
    shared = centre * spread * np.sqrt(k) * own
    out[:] = generator.normal(k * centre**2, spread**2 * np.sqrt(k), out.shape)
    out += shared
    out += shared[:, None]
    return k * centre**2 + 2 * shared + spread**2 * (k + np.sqrt(2 * k) * squared)
