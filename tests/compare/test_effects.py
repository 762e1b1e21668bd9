"""Intervals, effects and p-values against SciPy, by hand, and over many simulated sweeps."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fnet_callbacks.compare.effects import (
    effect,
    false_discovery_rate,
    hedges_g,
    mean_interval,
    permutation_p,
    rank_correlation,
    rank_correlation_interval,
    signs_p,
    smallest_p,
)
from fnet_callbacks.errors import FnetError

GENERATOR = np.random.default_rng(0)


def test_below_ten_runs_the_interval_is_students():
    values = GENERATOR.normal(size=6)
    found = mean_interval([*values, math.nan, math.inf])
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), low, high))
    assert found.n == 6


@pytest.mark.parametrize("n", [3, 5, 9, 10, 15])
def test_intervals_cover_what_they_say(n):
    generator = np.random.default_rng(n)
    draws = generator.normal(size=(400, n))
    hits = sum(i.low <= 0 <= i.high for i in map(mean_interval, draws))
    assert hits / len(draws) > (0.92 if n < 10 else 0.88)  # the bootstrap of ten is still a little short


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], (math.nan,) * 3), ([math.nan], (math.nan,) * 3), ([2.0], (2.0, math.nan, math.nan)),
     ([2.0, 2.0], (2.0, 2.0, 2.0)), ([3.0] * 12, (3.0, 3.0, 3.0))],
)  # fmt: skip
def test_intervals_of_hardly_anything(values, expected):
    found = mean_interval(values)
    assert (found.mean, found.low, found.high) == pytest.approx(expected, nan_ok=True)


def test_g_by_hand():
    # Means 4 and 2, pooled variance 1, four degrees of freedom: J = Gamma(2) / (sqrt(2) Gamma(1.5)).
    correction = 1 / (math.sqrt(2) * math.gamma(1.5))
    assert hedges_g([3, 4, 5], [1, 2, 3]) == pytest.approx(2 * correction)


def test_g_is_unbiased():
    generator = np.random.default_rng(1)
    draws = generator.normal(size=(4000, 8))
    found = np.mean([hedges_g(row[:4] + 1.5, row[4:]) for row in draws])
    assert found == pytest.approx(1.5, abs=0.05)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [([1, 1], [1, 1], 0.0), ([2, 2], [1, 1], math.inf), ([0, 0], [1, 1], -math.inf), ([1], [2], math.nan),
     ([], [1, 2], math.nan), ([1, 2], [3], math.nan)],
)  # fmt: skip
def test_g_of_hardly_anything(ours, theirs, expected):
    assert hedges_g(ours, theirs) == pytest.approx(expected, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(-5, 5), min_size=2, max_size=4), st.lists(st.integers(-5, 5), min_size=2, max_size=4)
)
def test_p_counts_all_splits(ours, theirs):
    pooled = np.array([*ours, *theirs], float)
    found = np.mean(ours) - np.mean(theirs)
    differences = []
    for chosen in itertools.combinations(range(len(pooled)), len(ours)):
        rest = np.setdiff1d(range(len(pooled)), chosen)
        differences.append(pooled[list(chosen)].mean() - pooled[rest].mean())
    tails = [np.mean(np.array(differences) >= found - 1e-9), np.mean(np.array(differences) <= found + 1e-9)]
    assert permutation_p(ours, theirs) == pytest.approx(min(1.0, 2 * min(tails)))


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 3), (5, 5), (3, 6), (8, 8)])
def test_the_smallest_p_is_reached_by_groups_that_do_not_overlap(n, m):
    assert permutation_p(np.arange(n) + 100.0, np.arange(m)) == pytest.approx(smallest_p(n, m))


def test_of_one_run_no_test_is_claimed():
    assert math.isnan(permutation_p([1.0], [2.0, 3.0]))
    assert math.isnan(smallest_p(1, 5))
    found = effect([5.0], [1.0])
    assert found.difference.mean == 4.0
    assert all(map(math.isnan, (found.p, found.g, found.difference.low)))
    assert math.isnan(effect([], [1.0]).difference.mean)


def test_the_difference_has_welchs_interval():
    ours, theirs = GENERATOR.normal(size=5), GENERATOR.normal(3, 4, size=7)
    found = effect(ours, theirs).difference
    expected = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.n == 5
    same = effect([2.0, 2.0], [1.0, 1.0]).difference
    assert (same.low, same.mean, same.high) == (1.0, 1.0, 1.0)


def test_the_false_discovery_rate_is_scipys_and_leaves_out_what_is_missing():
    p = np.array([0.01, np.nan, 0.02, 0.8])
    found = false_discovery_rate(p)
    assert found[[0, 2, 3]] == pytest.approx(stats.false_discovery_control(p[[0, 2, 3]]))
    assert np.isnan(found[1])
    assert np.isnan(false_discovery_rate([np.nan])).all()


def test_rho_is_spearmans_and_p_counts_the_orders():
    x, y = np.array([1.0, 2.0, 2.0, 4.0, 5.0]), np.array([2.0, 1.0, 3.0, 5.0, 4.0])
    rho, p = rank_correlation([*x, np.nan], [*y, 1.0])
    assert rho == pytest.approx(stats.spearmanr(x, y)[0])
    orders = [stats.spearmanr(x, y[list(order)])[0] for order in itertools.permutations(range(5))]
    tails = [np.mean(np.array(orders) >= rho - 1e-9), np.mean(np.array(orders) <= rho + 1e-9)]
    assert p == pytest.approx(min(1.0, 2 * min(tails)))
    assert math.isnan(rank_correlation(x, y, tested=False)[1])


def test_rho_of_hardly_anything_is_none():
    assert all(map(math.isnan, rank_correlation([1, 2, 3], [1, 2, 3])))
    assert all(map(math.isnan, rank_correlation([1, 1, 1, 1], [1, 2, 3, 4])))
    with pytest.raises(FnetError, match="`y` has shape"):
        rank_correlation([1, 2], [1])


def test_values_that_are_the_same_differ_by_nothing_however_their_means_are_rounded():
    same = effect([5 / 360] * 3, [5 / 360] * 5)
    assert (same.difference.mean, same.g, same.p) == (0.0, 0.0, 1.0)
    apart = effect([0.1] * 3, [0.2] * 3)
    assert apart.g == -math.inf
    assert apart.difference.low == apart.difference.high == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("ours", "theirs", "g"),
    [
        ([0.3] * 3, [0.1 + 0.2] * 3, 0.0),
        ([0.1 + 0.2] * 4, [0.3] * 2, 0.0),
        ([0.3, 0.1 + 0.2, 0.3], [0.1 + 0.2, 0.3], 0.0),
        ([1e9 + 1e-7, 1e9], [1e9, 1e9 - 1e-7], 0.0),
        ([0.3, 0.1 + 0.2], [0.7, 0.7], -math.inf),
        ([0.1 + 0.2, 0.3], [0.1, 0.1], math.inf),
    ],
)
def test_what_differs_by_rounding_is_the_same(ours, theirs, g):
    assert hedges_g(ours, theirs) == g
    found = effect(ours, theirs)
    assert (found.g, found.difference.mean == 0) == (g, g == 0)
    assert (found.p == 1.0) == (g == 0)
    assert found.difference.low == found.difference.mean == found.difference.high
    interval = mean_interval(ours * 4)
    assert interval.low == interval.mean == interval.high


def test_a_spread_beyond_rounding_counts():
    assert hedges_g([1.0, 1.0 + 1e-9], [1.0, 1.0 + 3e-9]) == pytest.approx(hedges_g([0, 1], [0, 3]), rel=1e-5)


def test_ranks_that_differ_by_rounding_are_tied():
    x, y = np.array([1.0, 0.1 + 0.2, 0.3, 2.0, 0.0]), np.array([4.0, 1.0, 2.0, 5.0, 3.0])
    assert rank_correlation(x, y) == rank_correlation(x.round(9), y)
    assert all(map(math.isnan, rank_correlation([0.3, 0.1 + 0.2, 0.3, 0.3], [1.0, 2.0, 3.0, 4.0])))


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_the_interval_of_a_rank_correlation_covers_as_often_as_it_says(rho):
    generator = np.random.default_rng(0)
    slope = 2 * math.sin(math.pi * rho / 6)  # Pearson's of a normal pair with that rank correlation
    covered = 0
    for _ in range(400):
        x = generator.normal(size=20)
        y = slope * x + math.sqrt(1 - slope**2) * generator.normal(size=20)
        found = rank_correlation_interval(rank_correlation(x, y, tested=False)[0], 20)
        covered += found.low <= rho <= found.high
    assert covered / 400 == pytest.approx(0.95, abs=0.03)


def test_the_interval_of_a_rank_correlation_of_few_pairs_or_of_1_is_told():
    assert math.isnan(rank_correlation_interval(0.5, 3).low)
    assert math.isnan(rank_correlation_interval(math.nan, 30).high)
    certain = rank_correlation_interval(1.0, 10)
    assert (certain.low, certain.mean, certain.high) == (1, 1, 1)


def test_signs_by_hand():
    assert signs_p([1.0, 2.0, 3.0]) == 0.25  # all of one sign: two of eight
    assert signs_p([1.0, -1.0]) == 1.0
    assert math.isnan(signs_p([1.0, math.nan]))
    many = signs_p(np.full(20, 1.0))
    assert many == pytest.approx(1e-4)


@pytest.mark.parametrize("of", [300, 359, 10_000])
def test_splits_that_tie_but_for_rounding_are_as_far_apart(of):
    ours, theirs = np.array([295, 291, 292, 293, 292]), np.array([291, 292, 290, 290, 290])
    assert (
        permutation_p(ours / of, theirs / of)
        == permutation_p(ours, theirs)
        == pytest.approx(0.0556, abs=5e-5)
    )
    generator = np.random.default_rng(0)
    for _ in range(20):
        ours, theirs = generator.integers(of - 30, of, (2, 5))
        assert permutation_p(ours / of, theirs / of) == permutation_p(ours, theirs)


def test_signs_that_tie_but_for_rounding_count():
    values = np.array([3, -1, 2, 2, 1]) * 1e6 / 7
    assert signs_p(values) == signs_p([3, -1, 2, 2, 1])
