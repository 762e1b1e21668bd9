import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional.correlation import correlation_matrix
from fnet_callbacks.functional.entropy import (
    activation_entropy,
    active_share,
    binary_entropy,
    class_active_share,
    degree_entropy,
    effective_rank,
    histogram_entropies,
    histogram_entropy,
    selectivity_entropy,
)

nan = np.nan


def test_binary_entropy_equals_scipy():
    p = np.linspace(0, 1, 21)
    np.testing.assert_allclose(binary_entropy(p), entropy(np.stack([p, 1 - p])), atol=1e-15)


def test_binary_entropy_of_nan_is_nan():
    np.testing.assert_array_equal(binary_entropy(np.array([nan, 0.0])), [nan, 0.0])


def test_activation_entropy_is_a_mean_over_units():
    assert activation_entropy(np.array([0.5, 0.0, 1.0, 0.5])) == pytest.approx(np.log(2) / 2)
    assert np.isnan(activation_entropy(np.empty(0)))
    assert np.isnan(activation_entropy(np.array([nan])))


def numpy_histogram_entropy(activations, bins):
    columns = activations.astype(np.float64).T
    return np.mean([entropy(np.histogram(column, bins=bins)[0]) for column in columns])


@pytest.mark.parametrize("n_units", [1, 64, 150])
@pytest.mark.parametrize("bins", [1, 7, 32])
def test_histogram_entropy_equals_numpy_and_scipy(n_units, bins):
    activations = np.random.default_rng(0).gamma(2.0, size=(300, n_units)).astype(np.float32)
    expected = numpy_histogram_entropy(activations, bins)
    assert histogram_entropy(activations, bins=bins) == pytest.approx(expected, abs=1e-12)


def test_histogram_entropy_leaves_out_constant_and_non_finite_units():
    varied = np.random.default_rng(0).normal(size=(40, 1))
    others = np.column_stack(
        [np.zeros(40), np.full(40, 3.0), np.r_[nan, np.arange(39)], np.r_[np.inf, np.arange(39)]]
    )
    assert histogram_entropy(np.hstack([others, varied])) == histogram_entropy(varied)


@pytest.mark.parametrize("shape", [(0, 3), (5, 0), (1, 3), (5, 3)])
def test_histogram_entropy_without_a_varied_unit_is_nan(shape):
    assert np.isnan(histogram_entropy(np.ones(shape)))


def test_uniform_values_fill_the_histogram():
    assert histogram_entropy(np.arange(32.0)[:, None]) == pytest.approx(np.log(32))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), power=st.integers(-8, 8))
def test_histogram_entropy_depends_on_neither_scale_nor_order(seed, power):
    rng = np.random.default_rng(seed)
    activations = rng.normal(size=(30, 5))
    shuffled = rng.permutation(rng.permutation(activations, axis=0), axis=1) * 2.0**power  # exact
    assert histogram_entropy(shuffled) == pytest.approx(histogram_entropy(activations), abs=1e-12)


def test_selectivity_entropy_equals_scipy():
    share = np.random.default_rng(0).random((5, 20))
    expected = entropy(share, base=5).mean()  # scipy normalises each column
    assert selectivity_entropy(share) == pytest.approx(expected, rel=1e-12)


def test_selectivity_entropy_spans_zero_to_one():
    assert selectivity_entropy(np.eye(4)) == 0.0
    assert selectivity_entropy(np.full((4, 3), 0.2)) == pytest.approx(1.0)


def test_selectivity_entropy_leaves_out_silent_units_and_absent_classes():
    share = np.array([[0.5, 0.0, 0.2], [nan, nan, nan], [0.5, 0.0, 0.0]])
    assert selectivity_entropy(share) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "share", [None, np.ones((1, 3)), np.zeros((3, 3)), np.ones((3, 0)), np.full((2, 2), nan)]
)
def test_selectivity_entropy_without_labels_classes_or_activity_is_nan(share):
    assert np.isnan(selectivity_entropy(share))


def test_effective_rank_is_the_participation_ratio_of_the_eigenvalues():
    matrix = correlation_matrix(np.random.default_rng(0).normal(size=(20, 8)))
    eigenvalues = np.linalg.eigvalsh(matrix)
    assert effective_rank(matrix) == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum())


def test_effective_rank_of_equal_and_of_independent_units():
    assert effective_rank(np.ones((6, 6))) == 1.0
    assert effective_rank(np.eye(6)) == 6.0


def test_effective_rank_leaves_out_dead_units():
    matrix = np.full((4, 4), nan)
    matrix[1:, 1:] = np.eye(3)
    assert effective_rank(matrix) == 3.0
    assert np.isnan(effective_rank(np.full((2, 2), nan)))
    assert np.isnan(effective_rank(np.empty((0, 0))))


def test_degree_entropy_equals_scipy():
    degrees = np.array([1, 1, 2, 5, 5, 5, 0])
    assert degree_entropy(degrees) == pytest.approx(entropy([2, 1, 3, 1]))
    assert degree_entropy(np.full(7, 3)) == 0.0
    assert np.isnan(degree_entropy(np.empty(0, dtype=int)))


def test_wrong_input_is_named():
    with pytest.raises(FnetError, match="probability must lie in"):
        binary_entropy(np.array([1.5]))
    with pytest.raises(FnetError, match="activations must be"):
        histogram_entropy(np.ones(3))
    with pytest.raises(FnetError, match="bins must be"):
        histogram_entropy(np.ones((3, 2)), bins=0)
    with pytest.raises(FnetError, match="class_active_share must be"):
        selectivity_entropy(np.ones(3))
    with pytest.raises(FnetError, match="correlation must be square"):
        effective_rank(np.ones((2, 3)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shares_are_counts_above_zero(dtype):
    generator = np.random.default_rng(0)
    values = generator.normal(size=(50, 7)).clip(-0.5).astype(dtype)
    values[3, 2], values[4, 2], values[:, 5] = np.nan, np.inf, 0
    labels = generator.integers(0, 3, 50)
    assert np.array_equal(active_share(values), (values > 0).mean(0))
    found = class_active_share(values, labels, 4)
    assert np.array_equal(found[:3], np.stack([(values[labels == c] > 0).mean(0) for c in range(3)]))
    assert np.isnan(found[3]).all()


def test_shares_of_no_sample_are_nan():
    assert np.isnan(active_share(np.empty((0, 3)))).all()
    assert class_active_share(np.empty((0, 3)), np.empty(0, int), 2).shape == (2, 3)


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 3], [0, -1, 1], [0.0, 1.0, 1.0]])
def test_labels_that_are_not_classes_are_refused(labels):
    with pytest.raises(FnetError, match="labels must"):
        class_active_share(np.ones((3, 2)), np.array(labels), 3)


def test_entropies_of_units_are_those_of_each_alone():
    activations = np.random.default_rng(0).normal(size=(200, 70))
    activations[:, 3], activations[7, 66] = 1.0, np.nan
    entropies = histogram_entropies(activations)
    assert np.flatnonzero(np.isnan(entropies)).tolist() == [3, 66]
    alone = [histogram_entropy(column[:, None]) for column in activations.T]
    assert np.array_equal(entropies, alone, equal_nan=True)
