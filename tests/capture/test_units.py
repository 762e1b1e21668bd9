"""From activations to rows: means by hand, padding, tokens, and the draw of the neurons."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fnet_callbacks.capture.layers import Layer
from fnet_callbacks.capture.units import draw_neurons, draw_tokens, rows_of_units, samples_first
from fnet_callbacks.errors import CaptureError, FnetError

UNITS = torch.tensor([0, 2])


def layer(n_units: int, *, batch_axis: int = 0, unit_axis: int = 1, is_folded: bool = False) -> Layer:
    return Layer("act", "act", 0, 1, False, batch_axis, unit_axis, n_units, is_folded)


def test_a_matrix_gives_the_chosen_columns():
    values = torch.arange(6.0).reshape(2, 3)
    assert rows_of_units(values, UNITS).tolist() == [[0, 2], [3, 5]]


def test_spatial_axes_are_averaged():
    activation = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    values = samples_first(activation, layer(3), n_samples=2)
    expected = activation.numpy()[:, [0, 2]].mean((2, 3))
    np.testing.assert_allclose(rows_of_units(values, UNITS), expected, rtol=1e-12)


def test_a_batch_that_is_not_first_is_brought_there():
    activation = torch.rand(4, 2, 3)
    values = samples_first(activation, layer(3, batch_axis=1, unit_axis=2), n_samples=2)
    torch.testing.assert_close(rows_of_units(values, UNITS), activation.mean(0)[:, UNITS])


def test_folded_tokens_are_averaged_by_sample():
    activation = torch.arange(12.0).reshape(6, 2)  # two samples of three tokens
    values = samples_first(activation, layer(2, is_folded=True), n_samples=2)
    assert rows_of_units(values, torch.tensor([0, 1])).tolist() == [[2, 3], [8, 9]]


def test_padding_is_left_out_even_where_it_holds_nan():
    values = torch.tensor([[[1.0], [3.0], [torch.nan]], [[5.0], [torch.nan], [torch.nan]], [[torch.nan]] * 3])
    mask = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    assert rows_of_units(values, torch.tensor([0]), mask=mask).tolist() == [[2], [5], [0]]


def test_a_mask_of_another_length_does_not_apply():
    values = torch.rand(2, 5, 3)
    mask = torch.ones(2, 4, dtype=torch.bool)
    assert torch.equal(rows_of_units(values, UNITS, mask=mask), rows_of_units(values, UNITS))


def test_drawn_tokens_become_rows():
    values = torch.arange(12.0).reshape(2, 3, 2)
    assert rows_of_units(values, torch.tensor([1]), token_positions=torch.tensor([0, 4])).tolist() == [
        [1],
        [9],
    ]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_mean_of_a_narrow_type_is_taken_in_float32(dtype):
    values = torch.full((1, 4096, 1), 20.0, dtype=dtype)
    values[0, 0] = 24.0
    rows = rows_of_units(values, torch.tensor([0]))
    assert rows.dtype == torch.promote_types(dtype, torch.float32)
    assert rows.item() == pytest.approx(20 + 4 / 4096, rel=1e-6)


@pytest.mark.parametrize(
    "options", [{}, {"mask": torch.ones(2, 3, dtype=torch.bool)}, {"token_positions": torch.arange(6)}]
)
def test_rows_share_no_memory_with_the_activation(options):
    values = torch.ones(2, 3, 2)
    rows = rows_of_units(values, torch.arange(2), **options)
    values.zero_()
    assert (rows == 1).all()


def test_a_changed_number_of_units_is_named():
    with pytest.raises(
        CaptureError, match=r"layer act had 3 units on axis 1 in the trial pass; its shape is now \[2, 4\]"
    ):
        samples_first(torch.rand(2, 4), layer(3), n_samples=2)


def test_folded_tokens_that_the_samples_do_not_divide_are_named():
    with pytest.raises(CaptureError, match=r"shape \[7, 3\], which 2 samples do not divide"):
        samples_first(torch.rand(7, 3), layer(3, is_folded=True), n_samples=2)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 100), st.integers(0, 3))
def test_the_draw_of_neurons_fills_the_cap_and_gives_each_layer_its_share(n_units, spare, seed):
    max_neurons = len(n_units) + spare
    drawn = draw_neurons(n_units, max_neurons=max_neurons, seed=seed)
    total = sum(n_units)
    assert sum(map(len, drawn)) == min(total, max_neurons)
    for units, n in zip(drawn, n_units, strict=True):
        assert units.tolist() == sorted(set(units.tolist()))
        assert units[0] >= 0
        assert units[-1] < n
    if total > max_neurons and all(n * max_neurons >= total for n in n_units):
        shares = [len(u) - n * max_neurons / total for u, n in zip(drawn, n_units, strict=True)]
        assert max(map(abs, shares)) < 1


def test_the_draw_of_neurons_is_the_same_for_a_seed_and_another_for_another():
    first, again, other = (draw_neurons([100, 100], max_neurons=20, seed=s) for s in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_more_layers_than_neurons_are_refused():
    with pytest.raises(FnetError, match="`max_neurons=1` is fewer than the 2 watched layers"):
        draw_neurons([3, 3], max_neurons=1, seed=0)


def test_tokens_are_drawn_from_where_there_is_no_padding():
    mask = torch.tensor([[True, False, True, False], [True, False, False, False], [False] * 4])
    for seed in range(5):
        positions = draw_tokens(3, 4, per_sample=2, mask=mask, seed=(seed,))
        assert positions.tolist() == [0, 2, 4]


def test_the_draw_of_tokens_is_seeded_and_bounded_by_sample():
    first, again, other = (draw_tokens(8, 10, per_sample=3, mask=None, seed=(s, 0)) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.bincount(first // 10, minlength=8).tolist() == [3] * 8
