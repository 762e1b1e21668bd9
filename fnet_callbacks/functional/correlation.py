"""From activations, or their running moments, to the correlation between units."""

from typing import Literal

import numpy as np
import scipy  # which loads a part of it when that is used

from fnet_callbacks.checks import checked_array, checked_choice, checked_integer
from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional import _kernels

# A unit is dead where its variance is no more than this share of mean² + max². Below it the variance is of
# the size of the rounding of the moments, whatever shift they were taken about.
DEAD_SHARE = 1e-12
# What a correlation of float32 sums over 100,000 samples may be off by, and what its two triangles may differ by.
ROUNDING = 1e-4
ASYMMETRY = 1e-6
_ADVICE = (
    ": divide a covariance by both standard deviations, take np.tanh of Fisher's z, set a diagonal of 0 to 1"
)


def correlation_matrix(
    activations: np.ndarray, *, method: Literal["pearson", "spearman"] = "pearson"
) -> np.ndarray:
    """Correlation between units over samples.

    A unit is dead where its variance is at most ``1e-12 (mean² + max²)`` or any of its values is not finite.
    A dead unit has NaN in its row and column, the diagonal included, and does not touch the others. The
    rule reads the activations themselves, so both methods call the same units dead.

    Args:
        activations: One row a sample, one column a unit, ``[S, N]``.
        method: ``"pearson"``, or ``"spearman"``: Pearson's of the ranks, ties given their mean rank.

    Returns:
        ``[N, N]`` float64 in [-1, 1], symmetric to the bit, with a diagonal of exactly 1. All NaN where
        there are fewer than two samples.

    Raises:
        FnetError: ``activations`` is not two-dimensional, or ``method`` is unknown.

    Reference: Zhang, Dong, Zhang & Lin (2022), arXiv 2205.11702 (Pearson); Hod et al. (2021), arXiv
        2110.08058 (Spearman).
    Cost: O(S N²) time; beside the result one float64 copy of ``activations`` (a few for Spearman).

    >>> correlation_matrix(np.array([[0.0, 1.0, 5.0], [1.0, 0.0, 5.0]]))
    array([[ 1., -1., nan],
           [-1.,  1., nan],
           [nan, nan, nan]])
    """
    values = checked_array("activations", activations, "[samples, units]")
    checked_choice("method", method, ("pearson", "spearman"))
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    count, n_units = values.shape
    if count < 2 or n_units == 0:
        return np.full((n_units, n_units), np.nan)
    if method == "spearman":
        from scipy.stats import rankdata  # takes as long to load as all the rest of this package

        values = values.astype(np.float64, copy=False)
        with np.errstate(invalid="ignore", over="ignore"):
            live = _live(values.var(axis=0), values.mean(axis=0), np.abs(values).max(axis=0))
            values = np.where(live, rankdata(values, axis=0), np.nan)
    centred, mean, rest, peak = _kernels.centred(np.ascontiguousarray(values))
    products = scipy.linalg.blas.dsyrk(1.0, centred.T, lower=True).T  # type: ignore[attr-defined]
    return _correlation(count, rest, products, mean, peak, out=products)


def correlation_from_moments(
    count: int, total: np.ndarray, products: np.ndarray, shift: np.ndarray, peak: np.ndarray
) -> np.ndarray:
    """Pearson correlation from the moments of samples about a fixed shift.

    The closer ``shift`` is to the mean, the fewer digits cancel: with the mean of any one batch, nothing is
    lost where the mean is many standard deviations from zero.

    Args:
        count: Number of samples S.
        total: ``Σ(x-s)``, ``[N]``.
        products: ``Σ(x-s)(x-s)ᵀ``, ``[N, N]``; the upper triangle is read.
        shift: ``s``, ``[N]``, in the units of x.
        peak: ``max|x|``, ``[N]``; with the mean it is the scale against which a variance counts as zero.

    Returns:
        ``[N, N]`` float64, as `correlation_matrix` describes it. A unit whose moments overflow counts as
        dead.

    Raises:
        FnetError: ``count`` is no integer or negative, or shapes do not fit.

    Cost: O(N²) time, one ``[N, N]`` buffer.

    >>> correlation_from_moments(2, np.zeros(2), np.array([[2.0, 2.0], [2.0, 2.0]]), np.zeros(2), np.ones(2))
    array([[1., 1.],
           [1., 1.]])
    """
    count = checked_integer("count", count, at_least=0)
    sums, cross, by, largest = (
        np.ascontiguousarray(checked_array(name, values, shape), np.float64)
        for name, values, shape in (
            ("total", total, "[units]"),
            ("products", products, "[units, units]"),
            ("shift", shift, "[units]"),
            ("peak", peak, "[units]"),
        )
    )
    n_units = len(sums)
    for name, found, shape in (
        ("products", cross, (n_units, n_units)),
        ("shift", by, (n_units,)),
        ("peak", largest, (n_units,)),
    ):
        if found.shape != shape:
            raise FnetError(
                f"{name} must have shape {shape}, as total has {n_units} units, got {found.shape}"
            )
    if count < 2:
        return np.full(cross.shape, np.nan)
    return _correlation(count, sums, cross, by, largest, out=np.empty(cross.shape))


def live_units(correlation: np.ndarray) -> np.ndarray:
    """Which units have a correlation at all.

    Args:
        correlation: ``[N, N]``, NaN on the diagonal of a dead unit.

    Returns:
        ``[N]`` bool.

    Raises:
        FnetError: ``correlation`` is not square, or its diagonal not of 1 and NaN.

    Cost: O(N).

    >>> live_units(np.array([[1.0, np.nan], [np.nan, np.nan]]))
    array([ True, False])
    """
    diagonal = _square(correlation).diagonal()
    _check_diagonal(diagonal, _allowed(diagonal.dtype))
    return ~np.isnan(diagonal)


def live_block(correlation: np.ndarray) -> np.ndarray:
    """The correlation among live units alone.

    Args:
        correlation: ``[N, N]``, NaN in the rows and columns of dead units.

    Returns:
        ``[M, M]`` for M live units: a copy, or ``correlation`` itself where all are live.

    Raises:
        FnetError: ``correlation`` is none, see `checked_correlation`.

    >>> live_block(np.array([[1.0, np.nan], [np.nan, np.nan]]))
    array([[1.]])
    """
    correlation = checked_correlation(correlation).astype(np.float64, copy=False)
    live = ~np.isnan(correlation.diagonal())
    return correlation if live.all() else correlation[np.ix_(live, live)]


def checked_correlation(correlation: np.ndarray, *, has_dead: bool = True) -> np.ndarray:
    """A correlation matrix, refused where it cannot be one.

    Among live units it is in [-1, 1] with a diagonal of 1 but for the rounding of float32 sums, 1e-4 (more for a matrix
    in half precision), symmetric within 1e-6, and finite. So a covariance, Fisher's z, a distance and an adjacency are
    refused; that the matrix has no negative eigenvalue is not looked at.

    Args:
        correlation: ``[N, N]``; with ``has_dead`` a unit may have NaN in its row, its column and on the diagonal.
        has_dead: Whether it may.

    Returns:
        The matrix, contiguous, float32 or float64: itself where it is that.

    Raises:
        FnetError: It is no correlation; the message says what it might be instead.

    Cost: O(N²): two milliseconds at 1,024 units, a thirtieth of the correlation's own.

    >>> checked_correlation(np.array([[4.0, 1.0], [1.0, 9.0]]))
    Traceback (most recent call last):
    fnet_callbacks.errors.FnetError: correlation must have a diagonal of 1, NaN for a dead unit, got 4 at 0: ...
    """
    matrix = _square(correlation)
    allowed = _allowed(matrix.dtype)
    asymmetry_allowed = max(ASYMMETRY, allowed if matrix.dtype == np.float16 else 0.0)
    if matrix.dtype not in (np.float32, np.float64):
        matrix = matrix.astype(np.float64)
    matrix = np.ascontiguousarray(matrix)
    asymmetry, strongest, off_one = _kernels.misfit(matrix)
    if np.isnan(asymmetry) or (not has_dead and np.isnan(matrix.diagonal()).any()):
        also = "; a dead unit has NaN in all of its row and column" if has_dead else ""
        raise FnetError(
            f"correlation holds NaN or infinite values: drop units without one (dead units) first{also}"
        )
    if asymmetry > asymmetry_allowed:
        raise FnetError(f"correlation must be symmetric, got entries that differ by {asymmetry:.3g}")
    if off_one > allowed:
        _check_diagonal(matrix.diagonal(), allowed)
    if strongest > 1 + allowed:
        raise FnetError(f"correlation must be in [-1, 1], got entries up to {strongest:.4g}{_ADVICE}")
    return matrix


def correlation_distance(correlation: np.ndarray) -> np.ndarray:
    """Distance ``1 - |r|`` between units.

    Args:
        correlation: ``[N, N]``; the upper triangle is read, so rounding may have left it asymmetric.

    Returns:
        ``[N, N]`` float64 in [0, 1], symmetric to the bit, with a diagonal of exactly 0. Between a dead unit
        and another the distance is NaN: drop dead units first (`live_block`).

    Raises:
        FnetError: ``correlation`` is none: a covariance, Fisher's z, not symmetric; see `checked_correlation`.

    Reference: Zhang, Dong, Zhang & Lin (2022), arXiv 2205.11702.
    Cost: O(N²).

    >>> correlation_distance(np.array([[1.0, -0.75], [-0.75, 1.0]]))
    array([[0.  , 0.25],
           [0.25, 0.  ]])
    """
    return _kernels.correlation_distances(checked_correlation(correlation).astype(np.float64, copy=False))


def mean_abs_correlation(correlation: np.ndarray) -> float:
    """Mean ``|r|`` over the pairs of different live units.

    Args:
        correlation: ``[N, N]``; dead units are left out.

    Returns:
        A value in [0, 1]; NaN where fewer than two units are live.

    Raises:
        FnetError: ``correlation`` is none: a covariance, Fisher's z, not symmetric; see `checked_correlation`.

    Cost: O(N²).

    >>> mean_abs_correlation(np.array([[1.0, -0.5], [-0.5, 1.0]]))
    0.5
    """
    strength = np.abs(live_block(correlation))
    n_live = len(strength)
    if n_live < 2:
        return float("nan")
    np.fill_diagonal(strength, 0.0)
    return min(float(strength.sum() / (n_live * (n_live - 1))), 1.0)


def _correlation(
    count: int,
    total: np.ndarray,
    products: np.ndarray,
    shift: np.ndarray,
    peak: np.ndarray,
    *,
    out: np.ndarray,
) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):  # a unit that is not finite is dead
        offset = total / count
        deviations = products.diagonal() - offset * total
        live = _live(deviations / count, shift + offset, peak)
        scale = np.where(live, 1.0 / np.sqrt(deviations), np.nan)
    _kernels.scaled(products, offset, np.ascontiguousarray(total), scale, out)
    return out


def _live(variance: np.ndarray, mean: np.ndarray, peak: np.ndarray) -> np.ndarray:
    # Written so that NaN anywhere means dead.
    return (variance > DEAD_SHARE * (mean**2 + peak**2)) & np.isfinite(variance)


def _square(correlation: np.ndarray) -> np.ndarray:
    matrix = checked_array("correlation", correlation, "")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise FnetError(f"correlation must be square, [units, units]; got shape {matrix.shape}")
    return matrix


def _allowed(dtype: np.dtype) -> float:
    return max(ROUNDING, 4 * float(np.finfo(dtype).eps)) if dtype.kind == "f" else ROUNDING


def _check_diagonal(diagonal: np.ndarray, allowed: float) -> None:
    wrong = np.flatnonzero(np.abs(diagonal - 1.0) > allowed)  # which NaN is not
    if len(wrong):
        raise FnetError(
            f"correlation must have a diagonal of 1, NaN for a dead unit, got {diagonal[wrong[0]]:.4g} at "
            f"{wrong[0]}{_ADVICE}"
        )
