import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional.correlation import (
    correlation_distance,
    correlation_from_moments,
    correlation_matrix,
    live_block,
    live_units,
    mean_abs_correlation,
)


def mixed(n_samples=200, n_units=12, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_samples, n_units)) @ rng.normal(size=(n_units, n_units))


def assert_is_correlation(matrix):
    live = np.flatnonzero(live_units(matrix))
    block = matrix[np.ix_(live, live)]
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(np.diag(block), 1.0)
    assert np.all(np.abs(block) <= 1.0)
    assert np.isnan(np.delete(matrix, live, axis=0)).all()
    assert np.isnan(np.delete(matrix, live, axis=1)).all()


def test_hand_computed_values():
    # Columns 0, 1, 2 and 1, 0, 0 have covariance -1 and sums of squares 2 and 2/3: r = -1 / sqrt(4/3).
    matrix = correlation_matrix(np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 0.0]]))
    np.testing.assert_allclose(matrix, [[1.0, -np.sqrt(0.75)], [-np.sqrt(0.75), 1.0]], rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_pearson_equals_numpy(dtype):
    activations = mixed().astype(dtype)
    matrix = correlation_matrix(activations)
    assert matrix.dtype == np.float64
    assert_is_correlation(matrix)
    np.testing.assert_allclose(matrix, np.corrcoef(activations.astype(np.float64).T), atol=1e-12)


def test_spearman_equals_scipy_with_ties():
    activations = np.maximum(mixed(), 0.0).round(1)
    matrix = correlation_matrix(activations, method="spearman")
    assert_is_correlation(matrix)
    np.testing.assert_allclose(matrix, spearmanr(activations).statistic, atol=1e-12)


def test_a_mean_of_ten_thousand_loses_nothing():
    activations = mixed()
    expected = np.corrcoef(activations.T)
    np.testing.assert_allclose(correlation_matrix(activations + 1e4), expected, atol=1e-9)


def test_moments_about_zero_keep_six_digits_at_a_mean_of_ten_thousand():
    activations = mixed() / 4 + 1e4
    zero = np.zeros(activations.shape[1])
    matrix = correlation_from_moments(
        len(activations),
        activations.sum(axis=0),
        activations.T @ activations,
        zero,
        np.abs(activations).max(axis=0),
    )
    np.testing.assert_allclose(matrix, np.corrcoef(activations.T), atol=1e-6)


def test_moments_are_left_as_they_were():
    activations = mixed(20, 3)
    total, products = activations.sum(axis=0), activations.T @ activations
    before = total.copy(), products.copy()
    correlation_from_moments(20, total, products, np.zeros(3), np.abs(activations).max(axis=0))
    np.testing.assert_array_equal(total, before[0])
    np.testing.assert_array_equal(products, before[1])


@pytest.mark.parametrize("method", ["pearson", "spearman"])
@pytest.mark.parametrize(
    "dead",
    [
        np.zeros(50),
        np.full(50, 0.1),
        1e6 + 1e-3 * np.arange(50) / 50,  # its variance is rounding beside its size
        np.r_[np.nan, np.arange(49)],
        np.r_[np.inf, np.arange(49)],
        np.r_[np.inf, -np.inf, np.arange(48)],
        np.full(50, np.nan),
    ],
    ids=["zero", "constant", "rounding", "nan", "inf", "both infinities", "all nan"],
)
def test_dead_unit_is_nan_and_touches_no_other(dead, method):
    activations = mixed(50, 4)
    with_dead = np.insert(activations, 1, dead, axis=1)
    matrix = correlation_matrix(with_dead, method=method)
    assert_is_correlation(matrix)
    np.testing.assert_array_equal(live_units(matrix), [True, False, True, True, True])
    others = np.delete(np.delete(matrix, 1, axis=0), 1, axis=1)
    np.testing.assert_allclose(others, correlation_matrix(activations, method=method), atol=1e-15)


def test_small_activations_are_not_dead():
    activations = 1e-12 * mixed(50, 3)
    assert live_units(correlation_matrix(activations)).all()


def test_unit_that_overflows_is_dead():
    activations = mixed(50, 2) * np.array([1.0, 1e200])
    np.testing.assert_array_equal(live_units(correlation_matrix(activations)), [True, False])


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_two_samples_correlate_fully(method):
    matrix = correlation_matrix(np.array([[0.0, 1.0, 3.0], [1.0, 0.0, 4.0]]), method=method)
    np.testing.assert_allclose(matrix, [[1, -1, 1], [-1, 1, -1], [1, -1, 1]], atol=1e-15)
    assert_is_correlation(matrix)


@pytest.mark.parametrize("n_samples", [0, 1])
def test_fewer_than_two_samples_have_no_correlation(n_samples):
    matrix = correlation_matrix(np.ones((n_samples, 3)))
    assert matrix.shape == (3, 3)
    assert np.isnan(matrix).all()


def test_no_unit_and_one_unit():
    assert correlation_matrix(np.ones((5, 0))).shape == (0, 0)
    np.testing.assert_array_equal(correlation_matrix(np.arange(5.0)[:, None]), [[1.0]])


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.1, 1e3), offset=st.floats(-1e3, 1e3))
def test_positive_scale_and_offset_change_nothing_and_units_may_be_reordered(seed, scale, offset):
    activations = mixed(40, 6, seed)
    matrix = correlation_matrix(activations)
    np.testing.assert_allclose(correlation_matrix(scale * activations + offset), matrix, atol=1e-6)
    order = np.random.default_rng(seed).permutation(6)
    np.testing.assert_allclose(
        correlation_matrix(activations[:, order]), matrix[np.ix_(order, order)], atol=1e-12
    )


def test_live_block_is_the_correlation_of_the_live_units():
    activations = mixed(50, 4)
    matrix = correlation_matrix(activations)
    assert live_block(matrix) is matrix
    with_dead = correlation_matrix(np.insert(activations, 2, 1.0, axis=1))
    np.testing.assert_allclose(live_block(with_dead), matrix, atol=1e-15)
    assert live_block(np.full((3, 3), np.nan)).shape == (0, 0)


def test_distance_is_symmetric_with_a_zero_diagonal():
    distance = correlation_distance(np.corrcoef(mixed().T))  # not symmetric to the bit
    np.testing.assert_array_equal(distance, distance.T)
    np.testing.assert_array_equal(np.diag(distance), 0.0)
    np.testing.assert_allclose(distance, 1 - np.abs(np.corrcoef(mixed().T)), atol=1e-15)


def test_distance_is_nowhere_negative_where_rounding_exceeds_one():
    distance = correlation_distance(np.array([[1.0, -1 - 1e-15], [-1 - 1e-15, 1.0]]))
    np.testing.assert_array_equal(distance, np.zeros((2, 2)))


def test_distance_to_a_dead_unit_is_nan_and_leaves_its_argument():
    matrix = np.array([[1.0, np.nan], [np.nan, np.nan]])
    np.testing.assert_array_equal(correlation_distance(matrix), [[0.0, np.nan], [np.nan, 0.0]])
    assert np.isnan(matrix[1, 1])


def test_mean_abs_correlation_is_over_pairs_of_live_units():
    matrix = np.array([[1.0, -0.5, 0.25], [-0.5, 1.0, 0.0], [0.25, 0.0, 1.0]])
    assert mean_abs_correlation(matrix) == pytest.approx(0.25)
    padded = np.full((4, 4), np.nan)
    padded[:3, :3] = matrix
    assert mean_abs_correlation(padded) == pytest.approx(0.25)


@pytest.mark.parametrize("matrix", [np.empty((0, 0)), np.eye(1), np.array([[1.0, np.nan], [np.nan, np.nan]])])
def test_mean_abs_correlation_needs_two_live_units(matrix):
    assert np.isnan(mean_abs_correlation(matrix))


def test_wrong_input_is_named():
    with pytest.raises(FnetError, match=r"activations must be \[samples, units\]"):
        correlation_matrix(np.ones(3))
    with pytest.raises(FnetError, match="method must be"):
        correlation_matrix(np.ones((3, 2)), method="kendall")  # type: ignore[arg-type]
    with pytest.raises(FnetError, match="correlation must be square"):
        correlation_distance(np.ones((3, 2)))
    with pytest.raises(FnetError, match="correlation must be square"):
        mean_abs_correlation(np.ones(3))
