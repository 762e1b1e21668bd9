import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional.correlation import correlation_from_moments, correlation_matrix, live_units
from fnet_callbacks.metrics import RunningCorrelation


def mixed(n_samples=300, n_units=10, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(n_samples, n_units)) @ rng.normal(size=(n_units, n_units)))


def running(batches):
    metric = RunningCorrelation(batches[0].shape[1])
    for batch in batches:
        metric.update(batch)
    return metric.compute()


def assert_same(matrix, expected, atol=1e-6):
    np.testing.assert_array_equal(live_units(matrix), live_units(expected))
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_allclose(matrix, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_batches", [1, 7, 100])
def test_batches_in_any_order_equal_numpy_in_one_shot(n_batches, dtype, offset):
    activations = (mixed() + offset).to(dtype)
    expected = np.corrcoef(activations.double().numpy().T)
    batches = activations.tensor_split(n_batches)
    assert_same(running(batches), expected, atol=1e-9)
    assert_same(running(batches[::-1]), expected, atol=1e-9)


def test_a_mean_far_from_the_first_batch_keeps_six_digits():
    activations = mixed() / mixed().std(dim=0)
    activations[20:] += 1e4
    assert_same(running(activations.split(20)), correlation_matrix(activations.numpy()))


@pytest.mark.parametrize("n_samples", [0, 1, 2, 300])
@pytest.mark.parametrize("n_units", [0, 1, 10, 700])  # the last is more than are mirrored at once
def test_tensor_and_array_have_the_bits_of_the_function_of_moments(n_units, n_samples):
    activations = mixed(n_samples, n_units) + 1e4
    activations[:, 5:7] = 3.0
    activations[n_samples // 2 :, 3:4] = torch.inf
    activations[::2, 8:9], activations[1::2, 8:9] = 1e153, -1e153  # the sum of many squares is not finite
    metric = RunningCorrelation(n_units)
    for batch in activations.tensor_split(2):
        metric.update(batch)
    sums = (metric.total, metric.products, metric.shift, metric.peak)
    expected = correlation_from_moments(int(metric.count), *(s.numpy() for s in sums))
    tensor = metric.correlation()
    assert (tensor.dtype, tensor.device) == (torch.float64, metric.device)
    np.testing.assert_array_equal(tensor, expected, strict=True)
    np.testing.assert_array_equal(metric.compute(), expected, strict=True)


def test_sums_go_on_whatever_is_done_to_the_tensor():
    metric = RunningCorrelation(10)
    metric.update(mixed()[:100])
    metric.correlation().zero_()
    metric.update(mixed()[100:])
    assert_same(metric.compute(), correlation_matrix(mixed().numpy()))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 60), max_size=6))
def test_any_split_equals_one_batch(seed, cuts):
    activations = mixed(60, 4, seed)
    batches = activations.tensor_split(sorted(cuts))  # empty ones among them
    assert_same(running(batches), correlation_matrix(activations.numpy()), atol=1e-9)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("row", [0, 150, 299])
def test_non_finite_unit_is_dead_and_touches_no_other(bad, row):
    activations = mixed()
    expected = correlation_matrix(activations.numpy())
    activations[row, 3] = bad
    expected[3, :] = expected[:, 3] = np.nan
    assert_same(running(activations.split(50)), expected, atol=1e-12)


def test_shift_is_settled_by_a_first_batch_that_is_not_finite():
    metric = RunningCorrelation(2)
    metric.update(torch.tensor([[float("nan"), float("inf")]]))
    assert metric.shift.isfinite().all()
    metric.update(torch.ones(1, 2))
    assert np.isnan(metric.compute()).all()


def test_constant_unit_is_dead_whatever_the_batches():
    activations = mixed()
    activations[:, 2] = 0.1
    activations[:, 5] = 0.0
    expected = correlation_matrix(activations.numpy())
    assert not live_units(expected)[[2, 5]].any()
    assert_same(running(activations.split(7)), expected)


def test_unit_that_varies_between_batches_only_is_live():
    activations = mixed()
    activations[:, 2] = (torch.arange(300) // 150).double()
    assert_same(running(activations.split(150)), correlation_matrix(activations.numpy()))


@pytest.mark.parametrize("n_samples", [0, 1])
def test_fewer_than_two_samples_have_no_correlation(n_samples):
    matrix = running([mixed(n_samples, 3)])
    assert matrix.shape == (3, 3)
    assert np.isnan(matrix).all()


def test_two_samples_in_two_batches():
    assert_same(running(list(mixed(2, 3).split(1))), correlation_matrix(mixed(2, 3).numpy()))


def test_first_batch_may_be_empty():
    activations = mixed() + 1e4
    batches = [activations[:0], *activations.split(100)]
    assert_same(running(batches), np.corrcoef(activations.numpy().T), atol=1e-9)


@pytest.mark.parametrize("n_units", [0, 1])
def test_shape_is_kept_for_no_unit_and_one_unit(n_units):
    np.testing.assert_array_equal(running([mixed(5, 10)[:, :n_units]]), np.ones((n_units, n_units)))


def test_half_precision_is_summed_in_float64():
    activations = mixed().bfloat16()
    assert_same(running(activations.split(50)), np.corrcoef(activations.double().numpy().T), atol=1e-9)


def test_autocast_changes_nothing():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        matrix = running(mixed().float().split(50))
    np.testing.assert_array_equal(matrix, running(mixed().float().split(50)))


def test_inference_mode_and_gradients_may_alternate():
    first, second, third = mixed().split(100)
    metric = RunningCorrelation(10)
    with torch.inference_mode():
        metric.reset()
        metric.update(first * 1)
    metric.update(second.requires_grad_())
    with torch.inference_mode():
        metric.update(third)
    assert not metric.products.requires_grad
    assert_same(metric.compute(), correlation_matrix(mixed().numpy()))


def test_reset_forgets_everything_the_shift_included():
    metric = RunningCorrelation(10)
    metric.update(mixed() + 1e9)
    metric.reset()
    for batch in mixed().split(100):
        metric.update(batch)
    np.testing.assert_array_equal(metric.compute(), running(mixed().split(100)))


def test_forward_gives_the_batch_and_keeps_the_sum():
    metric = RunningCorrelation(10)
    activations = torch.cat([mixed(), mixed(seed=1) + 1e4])
    for batch in activations.split(150):
        np.testing.assert_allclose(metric(batch), correlation_matrix(batch.numpy()), atol=1e-9)
    assert_same(metric.compute(), correlation_matrix(activations.numpy()))


@pytest.mark.parametrize("carry", ["pickle", "state_dict"])
def test_accumulation_goes_on_after_being_stored(carry):
    metric = RunningCorrelation(10)
    metric.persistent(True)
    first, second = (mixed() + 1e4).tensor_split(2)
    metric.update(first)
    if carry == "pickle":
        restored = pickle.loads(pickle.dumps(metric))
    else:
        restored = RunningCorrelation(10)
        restored.load_state_dict(metric.state_dict())
    for one in (metric, restored):
        one.update(second)
    np.testing.assert_array_equal(restored.compute(), metric.compute())


def test_moving_and_casting_leaves_the_sums_in_float64():
    metric = RunningCorrelation(10)
    metric.update(mixed()[:100])
    metric.to("cpu").half()
    metric.update(mixed()[100:])
    assert metric.products.dtype == torch.float64
    assert_same(metric.compute(), correlation_matrix(mixed().numpy()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_sums_on_an_accelerator_equal_those_on_the_cpu():
    metric = RunningCorrelation(10).to("cuda")
    with torch.autocast("cuda", dtype=torch.float16):
        for batch in (mixed() + 1e4).split(50):
            metric.update(batch.cuda())
    assert metric.products.is_cuda
    assert metric.correlation().is_cuda
    np.testing.assert_array_equal(metric.correlation().cpu(), metric.compute())
    assert_same(metric.compute(), np.corrcoef((mixed() + 1e4).numpy().T), atol=1e-9)


def test_arguments_are_left_as_they_were():
    activations = mixed()
    running([activations])
    torch.testing.assert_close(activations, mixed(), rtol=0, atol=0)


def test_compute_before_any_batch_warns_and_is_nan():
    metric = RunningCorrelation(2)
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert np.isnan(metric.compute()).all()


@pytest.mark.parametrize(
    ("activations", "message"),
    [
        (torch.ones(4, 3), r"\[samples, 2\]"),
        (torch.ones(2), r"\[samples, 2\]"),
        (torch.ones(4, 2, dtype=torch.int64), "floating point"),
        (torch.ones(4, 2, dtype=torch.complex64), "floating point"),
    ],
)
def test_wrong_input_is_named_and_adds_nothing(activations, message):
    metric = RunningCorrelation(2)
    with pytest.raises(FnetError, match=f"activations must be {message}"):
        metric.update(activations)
    assert int(metric.count) == 0


def test_negative_number_of_units_is_named():
    with pytest.raises(FnetError, match="num_units"):
        RunningCorrelation(-1)
