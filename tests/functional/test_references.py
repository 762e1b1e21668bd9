"""A group's score against random groups, and many such answers together."""

import math

import numpy as np
import pytest
from scipy import stats

from fnet_callbacks import FnetError
from fnet_callbacks import functional as F


@pytest.mark.parametrize(("tail", "p"), [("low", 0.2), ("high", 1.0)])
def test_the_rank_of_a_value(tail, p):
    assert F.reference_p(0.0, [1.0, 2.0, 3.0, 4.0], tail=tail) == p


def test_ties_err_towards_chance_or_are_broken_at_random():
    assert F.reference_p(1.0, [1.0] * 19, tail="low") == 1.0
    generator = np.random.default_rng(0)
    drawn = [F.reference_p(1.0, [1.0] * 19, tail="low", generator=generator) for _ in range(4000)]
    counts = np.bincount(np.round(np.array(drawn) * 20).astype(int), minlength=21)[1:]
    assert stats.chisquare(counts).pvalue > 0.01


def test_a_score_that_is_not_finite_has_no_p():
    assert math.isnan(F.reference_p(math.nan, [1.0], tail="low"))
    assert math.isnan(F.reference_p(1.0, [math.inf, 1.0], tail="low"))


@pytest.mark.parametrize(
    ("value", "references", "effect"),
    [(-1.0, [-1.0, -1.0], 1.0), (-2.0, [0.0], 2.0), (0.0, [-1.0], 0.0), (3.0, [1.0], 1.5)],
)
def test_effects_by_hand(value, references, effect):
    assert F.relative_effect(value, references) == pytest.approx(effect)


@pytest.mark.parametrize(("value", "references"), [(1.0, [-2.0]), (0.0, [0.0]), (math.nan, [1.0]), (1.0, [])])
def test_effects_that_mean_nothing(value, references):
    assert math.isnan(F.relative_effect(value, references))


def test_fishers_method_is_that_of_the_closed_form():
    p = np.array([0.05, 0.3, 1.0, math.nan])
    statistic = -2 * np.log(p[:3] - 0.025).sum()
    assert F.fisher_p(p, n_references=19) == pytest.approx(stats.chi2.sf(statistic, 6))
    assert math.isnan(F.fisher_p([math.nan], n_references=19))


def test_under_chance_fishers_p_is_nearly_uniform_and_errs_towards_chance():
    generator = np.random.default_rng(0)
    found = [F.fisher_p(generator.integers(1, 21, 30) / 20, n_references=19) for _ in range(2000)]
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.055
    assert np.mean(found) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("n", [1, 2, 5, 20, 21, 40])
def test_the_mean_of_uniform_numbers(n):
    generator = np.random.default_rng(n)
    means = generator.random((100_000, n)).mean(1)
    for quantile in (0.01, 0.1, 0.5, 0.9):
        at = float(np.quantile(means, quantile))
        assert F.bates_p([at] * n) == pytest.approx(quantile, abs=0.01)
    assert F.bates_p([0.0] * n) == pytest.approx(0.0, abs=1e-9)
    assert F.bates_p([1.0] * n) == pytest.approx(1.0)


def test_five_runs_against_the_irwin_hall_distribution_of_scipy():
    if not hasattr(stats, "irwinhall"):
        pytest.skip("this SciPy has no Irwin-Hall distribution")
    p = [0.02, 0.4, 0.1, 0.25, 0.6]
    assert F.bates_p([*p, math.nan]) == pytest.approx(stats.irwinhall(5).cdf(sum(p)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.reference_p(1.0, [], tail="low"), "references are empty"),
        (lambda: F.reference_p(1.0, [1.0], tail="left"), "tail must be .* got 'left'"),
        (lambda: F.fisher_p([0.01], n_references=19), "n_references=19"),
        (lambda: F.fisher_p([1.1], n_references=19), "n_references=19"),
        (lambda: F.bates_p([-0.1]), "from 0 to 1"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(FnetError, match=message):
        call()
