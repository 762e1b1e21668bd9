"""Inputs made for groups of units: they attain what is attainable, stay within the data, and are the same each time."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fnet_callbacks.capture.isolation import isolated
from fnet_callbacks.capture.layers import Layer, choose_layers
from fnet_callbacks.errors import CaptureError, FnetError
from fnet_callbacks.specialization.visualization import Visualizations, visualize


def layer_of(model: nn.Module, inputs: Tensor, **options) -> Layer:
    with isolated(model, seed=0):
        return choose_layers(model, model, inputs, n_samples=len(inputs), **options)[0]


def made_for(model: nn.Module, groups: list[np.ndarray], inputs: Tensor, **options) -> Visualizations:
    layer = layer_of(model, inputs)
    with isolated(model, seed=0):
        return visualize(model, layer, groups, [inputs[:5], inputs[5:]], **options)


def test_of_a_linear_unit_the_best_corner_of_the_box_is_found() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    inputs = torch.rand(40, 6) * torch.arange(1, 7) - 2
    made = made_for(model, [np.array([i]) for i in range(4)], inputs, steps=300)
    low, high = inputs.amin(0), inputs.amax(0)
    weight, bias = model[0].weight.detach(), model[0].bias.detach()
    middle, half = (low + high) / 2, (high - low) / 2
    centre, reach = weight @ middle + bias, weight.abs() @ half
    best = torch.maximum((centre + reach).abs(), (centre - reach).abs()).numpy()
    attained = made.objective / best
    # From the middle of the box a unit may climb to its other extreme.
    other = torch.minimum((centre + reach).abs(), (centre - reach).abs()).numpy() / best
    assert ((attained > 0.97) | (attained > 0.97 * other)).all()
    assert attained.max() > 0.97
    assert (attained <= 1 + 1e-5).all()
    assert (made.inputs >= low - 1e-6).all()
    assert (made.inputs <= high + 1e-6).all()
    with torch.no_grad():
        shown = model[0](made.inputs).abs().diagonal()
        shares = model(made.inputs).softmax(1).numpy()
    np.testing.assert_allclose(made.objective, shown.numpy(), rtol=1e-5)
    np.testing.assert_allclose(
        made.softmax_entropy, -(shares * np.log(shares)).sum(1) / np.log(3), rtol=1e-4, atol=1e-6
    )


def pictures() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(inplace=True), nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip


def test_channels_are_activated_more_than_by_any_example() -> None:
    torch.manual_seed(2)
    model, inputs = pictures(), torch.rand(30, 2, 8, 8)
    groups = [np.array([0]), np.array([1, 2]), np.arange(6)]
    made = made_for(model, groups, inputs)
    with torch.no_grad():
        means = model[0](inputs).mean((2, 3)).abs()
    for objective, units in zip(made.objective, groups, strict=True):
        assert objective > means[:, units].sum(1).max()
    assert made.inputs.shape == (3, 2, 8, 8)


def test_it_is_the_same_each_time_and_leaves_no_trace() -> None:
    model, inputs = pictures(), torch.rand(30, 2, 8, 8)
    stream = torch.get_rng_state()
    groups = [np.array([i % 6]) for i in range(7)]
    first, second = (made_for(model, groups, inputs, steps=5) for _ in range(2))
    assert torch.equal(first.inputs, second.inputs)
    assert torch.equal(first.inputs[0], first.inputs[6])
    assert not torch.equal(first.inputs, made_for(model, groups, inputs, steps=5, seed=1).inputs)
    assert torch.equal(torch.get_rng_state(), stream)
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_more_groups_than_fit_at_once_are_no_other(monkeypatch) -> None:
    model, inputs = pictures(), torch.rand(30, 2, 8, 8)
    groups = [np.array([i % 6]) for i in range(7)]
    whole = made_for(model, groups, inputs, steps=5)
    monkeypatch.setattr("fnet_callbacks.specialization.visualization._MAX_INPUTS", 3)
    parts = made_for(model, groups, inputs, steps=5)
    np.testing.assert_allclose(parts.objective, whole.objective, rtol=1e-5)


def test_of_a_gated_unit_the_output_is_looked_at() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.GLU(), nn.Linear(4, 3))
    made = made_for(model, [np.array([0])], torch.rand(20, 6))
    with torch.no_grad():
        assert made.objective[0] == pytest.approx(float(model[:2](made.inputs)[0, 0].abs()), rel=1e-5)


def test_what_has_no_gradient_is_refused() -> None:
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3))
    tokens = torch.randint(0, 9, (12, 2))
    with pytest.raises(CaptureError, match=r"`visualization_steps`.*torch\.int64"):
        made_for(model, [np.array([0])], tokens)


def test_an_output_that_is_no_logits_is_named() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 4), nn.Unflatten(1, (2, 2)))
    with pytest.raises(FnetError, match="output_to_logits"):
        made_for(model, [np.array([0])], torch.rand(20, 6), steps=1)
