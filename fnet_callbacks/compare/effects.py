"""How much two groups of runs differ in one number, and how surely so few runs can tell."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from fnet_callbacks.checks import (
    checked_array,
    checked_flag,
    checked_integer,
    checked_number,
    checked_seed,
)
from fnet_callbacks.compare.resampling import pairings, resamples, signs, splits, sums_in_order, sums_of
from fnet_callbacks.compare.rounding import ROUNDING, varies
from fnet_callbacks.errors import FnetError

LEVEL = 0.95
_FEW = 10  # below it the bootstrap covers far less than it says
_RESAMPLES = 50_000  # all splits of nine against nine are 48,620
_BOOTSTRAPS = _SIGNS = 9_999


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over runs and where it may be.

    Attributes:
        mean: NaN where there is no run.
        low: Lower end of the interval at ``LEVEL``; NaN where there are fewer than two runs.
        high: Upper end.
        n: Runs that have a value.
    """

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Effect:
    """A group of runs against a baseline, in one number.

    Attributes:
        difference: Mean of the group less mean of the baseline, with its interval; ``n`` is that of the smaller.
        g: Hedges' g.
        p: Of the permutation test, two-sided; NaN where either has fewer than two runs.
        smallest_p: What so many runs can reach at the least.
    """

    difference: Interval
    g: float
    p: float
    smallest_p: float


def mean_interval(values: ArrayLike, *, seed: int = 0) -> Interval:
    """The mean over runs with its interval at ``LEVEL``.

    Student's t below ten runs, the bias-corrected and accelerated bootstrap from ten on.

    Args:
        values: ``[R]``, one a run; those that are not finite are left out.
        seed: Of the bootstrap.

    Raises:
        FnetError: ``values`` is no vector of numbers, or ``seed`` no integer of 0 or more.

    Cost: a millisecond.
    """
    found, seed = _finite("values", values), checked_seed(seed)
    n = len(found)
    mean = float(found.mean()) if n else math.nan
    if n < 2:
        return Interval(mean, math.nan, math.nan, n)
    if not varies(found):
        return Interval(mean, mean, mean, n)
    if n < _FEW:
        half = float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) * float(found.std(ddof=1)) / math.sqrt(n)
        return Interval(mean, mean - half, mean + half, n)
    return Interval(mean, *_bootstrap_interval(found, seed), n)


def mean_band(values: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean over runs at every step, and its interval by Student's t.

    Args:
        values: ``[R, T]``, one row a run; those that are not finite are left out.

    Returns:
        Mean, lower and upper end, ``[T]`` each; the ends are NaN where fewer than two runs have a value.

    Raises:
        FnetError: ``values`` is not ``[R, T]``.
    """
    found = checked_array("values", values, "[runs, steps]").astype(np.float64)
    known = np.isfinite(found)
    n = known.sum(axis=0)
    mean = np.divide(np.where(known, found, 0).sum(axis=0), n, out=np.full(n.shape, np.nan), where=n > 0)
    squares = np.where(known, (found - mean) ** 2, 0).sum(axis=0)
    some = np.maximum(n, 2)
    half = special.stdtrit(some - 1, (1 + LEVEL) / 2) * np.sqrt(squares / (some - 1) / some)
    half[n < 2] = np.nan
    return mean, mean - half, mean + half


def effect(treated: ArrayLike, baseline: ArrayLike) -> Effect:
    """Compares runs with a baseline.

    The interval of the difference is Welch's, which does not take the two to scatter alike. Under the hypothesis of the
    test which run is in which group makes no difference.

    Args:
        treated: ``[R]``, one a run; values that are not finite are left out.
        baseline: ``[B]``, the same.

    Raises:
        FnetError: ``treated`` or ``baseline`` is no vector of numbers.

    Cost: some ten milliseconds with eight runs in each, for 12,870 splits.
    """
    ours, theirs = _finite("treated", treated), _finite("baseline", baseline)
    n = min(len(ours), len(theirs))
    if not n:
        return Effect(Interval(math.nan, math.nan, math.nan, 0), math.nan, math.nan, math.nan)
    low, high = _difference_interval(ours, theirs)
    return Effect(
        difference=Interval(_difference(ours, theirs), low, high, n),
        g=hedges_g(ours, theirs),
        p=permutation_p(ours, theirs),
        smallest_p=smallest_p(len(ours), len(theirs)),
    )


def hedges_g(treated: ArrayLike, baseline: ArrayLike) -> float:
    r"""The difference of two means in units of the pooled standard deviation, its bias removed.

    :math:`g = J(\nu)\,(\bar x - \bar y)/s` with :math:`\nu = n + m - 2` and
    :math:`J(\nu) = \Gamma(\nu/2)/(\sqrt{\nu/2}\,\Gamma((\nu-1)/2))`.

    Returns:
        0 where all values are the same, infinite where they differ between the groups alone, both but for rounding;
        NaN where there are fewer than three values or a group has none.

    Raises:
        FnetError: ``treated`` or ``baseline`` is no vector of numbers.

    Reference: Hedges (1981), Distribution theory for Glass's estimator of effect size, eq. 6e.
    """
    ours, theirs = _finite("treated", treated), _finite("baseline", baseline)
    freedom = len(ours) + len(theirs) - 2
    if freedom < 1 or not len(ours) or not len(theirs):
        return math.nan
    difference = _difference(ours, theirs)
    squares = sum(_variance(group) * (len(group) - 1) for group in (ours, theirs))
    if squares == 0:
        return math.copysign(math.inf, difference) if difference else 0.0
    if freedom == 1:
        return math.nan  # the correction is 0 / inf: one degree of freedom has no unbiased g
    half = freedom / 2
    correction = math.exp(special.gammaln(half) - special.gammaln(half - 0.5)) / math.sqrt(half)
    return correction * difference / math.sqrt(squares / freedom)


def permutation_p(treated: ArrayLike, baseline: ArrayLike, *, seed: int = 0) -> float:
    """How often a split of the runs at random has means at least as far apart; two-sided.

    Exact up to nine runs in each, where all splits are looked at; above that from 50,000 of them. Splits whose means
    are as far apart but for rounding count as such: accuracies are often the same counts in another order.

    Returns:
        In (0, 1]; NaN where either has fewer than two runs.

    Raises:
        FnetError: ``treated`` or ``baseline`` is no vector of numbers, or ``seed`` no integer of 0 or more.
    """
    ours, theirs, seed = _finite("treated", treated), _finite("baseline", baseline), checked_seed(seed)
    if min(len(ours), len(theirs)) < 2:
        return math.nan
    if not varies(np.concatenate([ours, theirs])):
        return 1.0
    values, n, m = np.concatenate([ours, theirs]), len(ours), len(theirs)
    found = splits(n, m, _RESAMPLES, seed)
    sums = sums_of(found, values)
    differences = sums / n - (values.sum() - sums) / m
    difference, rounding = ours.mean() - theirs.mean(), ROUNDING * float(np.abs(values).max())
    # Where splits are drawn, the one that was found is one more.
    sample = int(len(found) < math.comb(n + m, n))
    tails = (differences >= difference - rounding).sum(), (differences <= difference + rounding).sum()
    return min(1.0, 2 * float(min(tails) + sample) / (len(found) + sample))


def smallest_p(n_treated: int, n_baseline: int) -> float:
    """The smallest p that a two-sided permutation test of so many runs can find; NaN below two in either.

    Raises:
        FnetError: A number of runs is no integer, or negative.
    """
    n_treated = checked_integer("n_treated", n_treated, at_least=0)
    n_baseline = checked_integer("n_baseline", n_baseline, at_least=0)
    if min(n_treated, n_baseline) < 2:
        return math.nan
    return min(1.0, 2 / min(math.comb(n_treated + n_baseline, n_treated), _RESAMPLES + 1))


def false_discovery_rate(p: ArrayLike) -> np.ndarray:
    """The p-values of a family of tests, adjusted: of those at most q, a share q is false on average, or less.

    Args:
        p: ``[M]``; NaN stays NaN and does not count.

    Raises:
        FnetError: ``p`` is no vector of values in [0, 1].

    Reference: Benjamini & Hochberg (1995), Controlling the false discovery rate.
    """
    p = checked_array("p", p, "[tests]").astype(np.float64)
    known = np.isfinite(p)
    if (p[known] < 0).any() or (p[known] > 1).any():
        raise FnetError(f"p must be in [0, 1], got {p[known].min():.4g} to {p[known].max():.4g}")
    adjusted = np.full(p.shape, np.nan)
    if known.any():
        adjusted[known] = stats.false_discovery_control(p[known])
    return adjusted


def rank_correlation(x: ArrayLike, y: ArrayLike, *, tested: bool = True) -> tuple[float, float]:
    """Spearman's rho of pairs, and its two-sided p by permutation.

    Args:
        x: ``[R]``.
        y: ``[R]``; a pair of which either is not finite is left out.
        tested: Whether p is looked for; else it is NaN.

    Returns:
        NaN where fewer than four pairs are left or either does not vary, but for rounding; what differs by that is a
        tie.

    Raises:
        FnetError: They are not vectors of numbers of one length.
    """
    ours, theirs = (checked_array(name, v, "[runs]").astype(np.float64) for name, v in (("x", x), ("y", y)))
    if ours.shape != theirs.shape:
        raise FnetError(f"`y` has shape {theirs.shape}; it should be that of `x`, {ours.shape}")
    both = np.isfinite(ours) & np.isfinite(theirs)
    ours, theirs = ranks_of(ours[both]), ranks_of(theirs[both])
    if len(ours) < 4 or np.ptp(ours) == 0 or np.ptp(theirs) == 0:
        return math.nan, math.nan
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    norm = math.sqrt((ours @ ours) * (theirs @ theirs))
    if not checked_flag("tested", tested):
        return float(ours @ theirs / norm), math.nan
    found = pairings(len(ours), _RESAMPLES // 5, 0)
    rhos, rho = sums_in_order(found, ours, theirs) / norm, float(ours @ theirs / norm)
    rounding = ROUNDING * abs(rho)
    sample = int(len(found) < math.factorial(len(ours)))
    tails = (rhos >= rho - rounding).sum(), (rhos <= rho + rounding).sum()
    return rho, min(1.0, 2 * float(min(tails) + sample) / (len(found) + sample))


def rank_correlation_interval(rho: float, n: int) -> Interval:
    r"""Where Spearman's rho may be at ``LEVEL``, by Fisher's transformation with variance :math:`(1+\rho^2/2)/(n-3)`.

    Args:
        rho: That of the sample.
        n: Pairs.

    Returns:
        Its ends are NaN below four pairs, and where rho is NaN; where it is 1 or -1 they are that.

    Raises:
        FnetError: ``rho`` is not in [-1, 1], or ``n`` no integer of 0 or more.

    Reference: Bonett & Wright (2000), Psychometrika 65, 23.
    """
    rho = checked_number("rho", rho, at_least=-1, at_most=1, allows_nan=True)
    n = checked_integer("n", n, at_least=0)
    if n < 4 or not math.isfinite(rho):
        return Interval(rho, math.nan, math.nan, n)
    half = special.ndtri((1 + LEVEL) / 2) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    low, high = np.tanh(np.arctanh(np.clip(rho, -1 + 1e-15, 1 - 1e-15)) + np.array([-half, half]))
    return Interval(rho, rho if abs(rho) == 1 else float(low), rho if abs(rho) == 1 else float(high), n)


def signs_p(values: ArrayLike) -> float:
    """How often signs at random give a mean as far from 0: a two-sided test that values lie about 0 symmetrically.

    Args:
        values: ``[R]``, one a run; those that are not finite are left out.

    Returns:
        Exact up to twelve values, else from 9,999 draws; NaN for fewer than two.

    Raises:
        FnetError: ``values`` is no vector of numbers.
    """
    found = _finite("values", values)
    n = len(found)
    if n < 2:
        return math.nan
    bound = abs(found.sum()) - ROUNDING * float(np.abs(found).sum())
    if n <= 12:
        every = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float((np.abs(every @ found) >= bound).mean())
    sample = sums_of(signs(n, _SIGNS, 0), found)
    return float((1 + (np.abs(sample) >= bound).sum()) / (_SIGNS + 1))


def _bootstrap_interval(values: np.ndarray, seed: int) -> tuple[float, float]:
    """Efron & Tibshirani (1993), An Introduction to the Bootstrap, 14.3: bias-corrected and accelerated."""
    means = values[resamples(len(values), _BOOTSTRAPS, seed)].mean(axis=1)
    mean = values.mean()
    bias = special.ndtri(((means < mean).sum() + (means <= mean).sum()) / (2 * len(means)))
    without = values - mean  # as the means of all but one are apart, times how many these are
    acceleration = (without**3).sum() / (6 * (without**2).sum() ** 1.5)
    ends = bias + special.ndtri([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    low, high = np.quantile(means, special.ndtr(bias + ends / (1 - acceleration * ends)))
    return float(low), float(high)


def _difference_interval(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Welch's; SciPy's own warns where a measure is nearly the same in all runs."""
    n = np.array([len(ours), len(theirs)])
    if n.min() < 2:
        return math.nan, math.nan
    difference = _difference(ours, theirs)
    squares = np.array([_variance(ours), _variance(theirs)]) / n
    if not squares.any():
        return difference, difference
    freedom = squares.sum() ** 2 / (squares**2 / (n - 1)).sum()
    half = float(special.stdtrit(freedom, (1 + LEVEL) / 2) * math.sqrt(squares.sum()))
    return difference - half, difference + half


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Of the means; 0 where all values are the same but for rounding, whose means may round differently."""
    return float(ours.mean() - theirs.mean()) if varies(np.concatenate([ours, theirs])) else 0.0


def _variance(values: np.ndarray) -> float:
    """0 where all values are the same but for rounding, whose mean need not be that value to the bit."""
    return float(values.var(ddof=1)) if varies(values) else 0.0


def ranks_of(values: np.ndarray) -> np.ndarray:
    """Mean ranks, where values that follow each other by no more than rounding are the same."""
    if not len(values):
        return values
    order = np.argsort(values, kind="stable")
    steps = np.diff(values[order]) > ROUNDING * np.abs(values).max()
    level = np.empty(len(values), np.int64)
    level[order] = np.append(0, np.cumsum(steps))
    counts = np.bincount(level)
    return (np.cumsum(counts) - (counts - 1) / 2)[level]


def _finite(argument: str, values: ArrayLike) -> np.ndarray:
    found = checked_array(argument, values, "[runs]").astype(np.float64)
    return found[np.isfinite(found)]
