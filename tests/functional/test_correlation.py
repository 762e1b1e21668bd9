import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from fnet_callbacks import functional as F
from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional.correlation import (
    checked_correlation,
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


def loaded(n_samples=200):
    """Activations that one direction drives, of units whose scales differ by a factor of 300."""
    return (mixed(n_samples) / 12 + mixed(n_samples, seed=1)[:, :1]) * np.geomspace(0.1, 30, 12)


def no_correlations():
    values = loaded()
    r = np.corrcoef(values.T)
    off = r - np.eye(12)
    z = np.arctanh(off)
    sure = np.arctanh(np.clip(r, -0.999999, 0.999999))
    one_sided = r.copy()
    one_sided[0, 3] += 0.01
    two_by_two = np.kron(np.eye(6), [[1, 1.02], [1.02, 1]])
    with_dead = np.nan_to_num(correlation_matrix(np.insert(values, 4, 7.0, axis=1)))
    unknown, endless = r.copy(), r.copy()
    unknown[2, 5] = unknown[5, 2] = np.nan
    endless[2, 5] = endless[5, 2] = np.inf
    return {
        "covariance": (np.cov(values.T), "diagonal of 1"),
        "covariance of small values": (np.cov(values.T / 1e3), "diagonal of 1"),
        "covariance of standardised values, over S - 1": (
            np.cov(((values - values.mean(0)) / values.std(0)).T),
            "got 1.005 at 0.*divide a covariance",
        ),
        "Fisher's z": (z, "diagonal of 1.*np.tanh"),
        "Fisher's z of small correlations": (z / 50, "diagonal of 1"),
        "Fisher's z with a clipped diagonal": (sure, "diagonal of 1"),
        "Fisher's z with an infinite diagonal": (np.where(np.eye(12) > 0, np.inf, z), "diagonal of 1"),
        "Fisher's z with a diagonal of 1": (2 * z + np.eye(12), r"\[-1, 1\]"),
        "more than 1 off the diagonal": (two_by_two, r"\[-1, 1\], got entries up to 1.02"),
        "diagonal of 0": (off, "diagonal of 1"),
        "diagonal of 0 for a dead unit": (with_dead, "NaN for a dead unit, got 0 at 4"),
        "distance": (1 - np.abs(r), "diagonal of 1"),
        "one triangle": (np.triu(r), "symmetric"),
        "one entry beside its mirror": (one_sided, "symmetric, got entries that differ by 0.01"),
        "NaN among live units": (unknown, "NaN"),
        "infinite entries": (endless, "infinite"),
        "complex": (r * (1 + 0j), "real numbers"),
        "text": (r.astype(str), "real numbers"),
        "half of it": (r[:6], "square"),
    }


OF_A_CORRELATION = {
    "mean_abs_correlation": F.mean_abs_correlation,
    "effective_rank": F.effective_rank,
    "correlation_distance": F.correlation_distance,
    "live_block": live_block,
    "select": F.select,
    "spanning_tree": F.spanning_tree,
    "graph_from_correlation": F.graph_from_correlation,
    "graph_scale": lambda r: F.graph_scale(r, F.Graph.from_edges(len(r), np.array([[0, 1]]))),
    "hqs_null": lambda r: F.hqs_null(r, seed=0),
    "small_world_hqs": lambda r: F.small_world_hqs(
        r, F.Graph.from_edges(len(r), np.array([[0, 1]])), nulls=1
    ),
}


@pytest.mark.parametrize("measure", OF_A_CORRELATION)
@pytest.mark.parametrize("kind", no_correlations())
def test_what_is_no_correlation_is_refused(measure, kind):
    matrix, message = no_correlations()[kind]
    with pytest.raises(FnetError, match=f"^correlation must .*{message}|^correlation holds .*{message}"):
        OF_A_CORRELATION[measure](matrix)


@pytest.mark.parametrize("measure", OF_A_CORRELATION)
def test_what_rounding_leaves_of_a_correlation_is_taken(measure):
    values = loaded(2000)
    expected = np.corrcoef(values.T)
    narrow = ((values - values.mean(0)) / values.std(0)).astype(np.float32)
    narrow = np.einsum("si,sj->ij", narrow, narrow) / np.float32(len(values))  # one sum after the other
    assert np.abs(narrow.diagonal() - 1).max() > 2e-7
    for matrix in (
        expected,
        correlation_matrix(values),
        expected.astype(np.float32),
        narrow,
        expected.astype(np.float16),
        expected.tolist(),
        np.eye(12, dtype=int),
        np.ones((12, 12)),
        F.hqs_null(expected, seed=1),
    ):
        OF_A_CORRELATION[measure](matrix)


def test_of_a_correlation_that_rounds_above_one_measures_stay_in_their_range():
    above = np.full((4, 4), 1 + 5e-5)
    assert mean_abs_correlation(above) == 1.0
    assert F.effective_rank(above) == 1.0
    weaker = np.full((4, 4), 1 + 4e-5)  # beside the edge whose |r| is midway to theirs
    weaker[0, 1] = weaker[1, 0] = 1 + 5e-5
    assert F.graph_scale(weaker, F.Graph.from_edges(4, np.array([[0, 1]]))) == 0.0
    found = F.select(weaker, method="density", density=1 / 6)
    assert (found.scale, found.mean_abs_correlation, found.effective_rank) == (0.0, 1.0, 1.0)


def test_live_units_are_those_of_a_correlation():
    with pytest.raises(FnetError, match="diagonal of 1, NaN for a dead unit, got 4 at 1"):
        live_units(np.array([[1.0, 0.5], [0.5, 4.0]]))
    with pytest.raises(FnetError, match="square"):
        live_units(np.ones(3))


def test_a_correlation_that_is_contiguous_is_not_copied():
    matrix = correlation_matrix(mixed())
    assert checked_correlation(matrix) is matrix
    narrow = matrix.astype(np.float32)
    assert checked_correlation(narrow, has_dead=False) is narrow
