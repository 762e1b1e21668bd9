"""Crossings that are estimated from windows, against those that are counted."""

import numpy as np
import pytest
import torch
from test_walk import mlp
from torch import Tensor, nn

from fnet_callbacks.errors import FnetError
from fnet_callbacks.regions.walk import count_crossings, estimate_crossings


def cnn() -> nn.Module:
    """A unit's break and a change of the largest in a window fall together where all else in it is 0."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(6, 6, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(24, 3),
    ).eval()  # fmt: skip


def images(n: int) -> tuple[Tensor, Tensor]:
    """Pairs with a blank margin."""
    generator = torch.Generator().manual_seed(2)
    found = torch.rand(2 * n, 1, 8, 8, generator=generator)
    found[:, :, :2] = 0
    return found[:n], found[n:]


def test_narrow_windows_all_along_give_the_count() -> None:
    starts, ends = images(6)
    counted = count_crossings(cnn(), starts, ends, max_crossings=10_000).crossings
    # Windows as wide as their parts leave nothing to chance.
    found = estimate_crossings(cnn(), starts, ends, width=1 / 400, windows=400)
    np.testing.assert_allclose(found, counted, rtol=0.03)
    assert counted.mean() > 100


def test_few_windows_are_right_on_average() -> None:
    starts, ends = images(4)
    counted = count_crossings(cnn(), starts, ends, max_crossings=10_000).crossings
    draws = [
        estimate_crossings(cnn(), starts, ends, width=0.04, windows=4, seed=seed).mean() for seed in range(24)
    ]
    error = np.std(draws, ddof=1) / np.sqrt(len(draws))
    assert abs(np.mean(draws) - counted.mean()) < 4 * error < 0.2 * counted.mean()
    again = estimate_crossings(cnn(), starts, ends, width=0.04, windows=4, seed=3)
    assert again.mean() == draws[3]


def test_a_border_that_a_line_runs_along_is_not_estimated() -> None:
    model = nn.Sequential(first := nn.Linear(5, 24), nn.ReLU(), nn.Linear(24, 3)).double()
    normal = first.weight[0].detach()
    starts, ends = (torch.randn(8, 5, dtype=torch.float64) for _ in range(2))
    with torch.no_grad():
        first.bias[0] = 0
        first.weight[1:] = 0  # no other unit has a border
        first.bias[1:] = 1
    for side in (starts, ends):
        side -= (side @ normal / (normal @ normal))[:, None] * normal
    assert 0 < (starts @ normal).abs().max() < 1e-14
    assert (estimate_crossings(model, starts, ends, width=0.25) == 0).all()


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(FnetError, match="should be of one shape"):
        estimate_crossings(mlp(), torch.zeros(2, 5), torch.zeros(3, 5), width=0.1)
    for width, windows in ((0.0, 4), (0.3, 4), (0.1, 0), (float("nan"), 4)):
        with pytest.raises(FnetError, match=r"`width=.*` should be above 0"):
            estimate_crossings(mlp(), torch.zeros(2, 5), torch.zeros(2, 5), width=width, windows=windows)
