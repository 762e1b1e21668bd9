"""Crossings along a line, against bisection of the patterns themselves."""

import numpy as np
import pytest
import torch
from small_networks import Functional
from torch import Tensor, nn

from fnet_callbacks.errors import CaptureError, FnetError
from fnet_callbacks.regions.patterns import activation_patterns
from fnet_callbacks.regions.walk import count_crossings


def patterns(model: nn.Module, inputs: Tensor) -> np.ndarray:
    found = activation_patterns(model, [inputs])
    return np.concatenate([found.bits, found.places.view(np.uint8).reshape(len(inputs), -1)], axis=1)


def by_bisection(model: nn.Module, start: Tensor, end: Tensor, cells: int = 4000) -> int:
    """Borders on the line: cells whose ends differ, halved until they are 1e-9 wide."""

    def at(t: np.ndarray) -> np.ndarray:
        along = torch.from_numpy(t).view(-1, *[1] * start.dim())
        return patterns(model, start + along * (end - start))

    edges = np.linspace(0, 1, cells + 1)
    rows = at(edges)
    low, high, of_low, of_high = edges[:-1], edges[1:], rows[:-1], rows[1:]
    while True:
        differ = (of_low != of_high).any(1)
        low, high, of_low, of_high = low[differ], high[differ], of_low[differ], of_high[differ]
        if not len(low) or high[0] - low[0] < 1e-9:
            return len(low)
        middle = (low + high) / 2
        of_middle = at(middle)
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
        of_low, of_high = np.concatenate([of_low, of_middle]), np.concatenate([of_middle, of_high])


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 24), nn.ReLU(), nn.Linear(24, 16), nn.Hardtanh(), nn.Linear(16, 3))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(3, 3, 2), nn.LeakyReLU(),
        nn.Flatten(), nn.Linear(3, 2),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "shape", "lines"), [(mlp, (5,), 120), (Functional, (6,), 40), (cnn, (1, 4, 4), 40)]
)
def test_as_many_borders_are_found_as_by_bisection(make, shape: tuple[int, ...], lines: int) -> None:
    torch.manual_seed(1)
    model = make().eval().double()
    starts, ends = (torch.randn(lines, *shape, dtype=torch.float64) for _ in range(2))
    walk = count_crossings(model, starts, ends)
    expected = [by_bisection(model, a, b) for a, b in zip(starts, ends, strict=True)]
    assert walk.crossings.tolist() == expected
    assert (walk.reached == 1).all()
    assert np.mean(expected) > 5


def test_the_model_may_be_of_any_precision_and_is_not_changed() -> None:
    torch.manual_seed(1)
    model = mlp().eval()
    before = [p.clone() for p in model.parameters()]
    starts, ends = torch.randn(10, 5), torch.randn(10, 5)
    found = count_crossings(model, starts, ends)
    assert all(
        p.dtype == torch.float32 and torch.equal(p, b)
        for p, b in zip(model.parameters(), before, strict=True)
    )
    np.testing.assert_array_equal(found.crossings, count_crossings(model.double(), starts, ends).crossings)


def test_a_line_is_followed_as_far_as_asked() -> None:
    torch.manual_seed(1)
    model = mlp().eval()
    starts, ends = torch.randn(10, 5), torch.randn(10, 5)
    whole, part = count_crossings(model, starts, ends), count_crossings(model, starts, ends, max_crossings=3)
    np.testing.assert_array_equal(part.crossings, np.minimum(whole.crossings, 3))
    assert ((part.reached < 1) == (whole.crossings >= 3)).all()


def test_a_line_of_no_length_crosses_nothing() -> None:
    starts = torch.randn(4, 5)
    assert count_crossings(mlp().eval(), starts, starts).crossings.tolist() == [0] * 4


def test_borders_side_by_side_count_once() -> None:
    net = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    net[0].weight.data = torch.ones(3, 1, dtype=torch.float64)
    net[0].bias.data = torch.tensor([-0.5, -0.5 - 1e-9, -0.6], dtype=torch.float64)
    found = count_crossings(net, torch.zeros(1, 1), torch.ones(1, 1))
    assert found.crossings.tolist() == [2]


def test_a_cast_within_the_model_is_no_obstacle() -> None:
    class Cast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.net = mlp()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.float())

    starts, ends = torch.randn(10, 5), torch.randn(10, 5)
    cast = Cast().eval()
    np.testing.assert_array_equal(
        count_crossings(cast, starts, ends).crossings, count_crossings(cast.net, starts, ends).crossings
    )
    cast.constant = torch.ones(5, 5)
    cast.net[0].forward = lambda x: x @ cast.constant
    with pytest.raises(CaptureError, match="Cast cannot be run in float64"):
        count_crossings(cast, starts, ends)


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(FnetError, match="should be of one shape"):
        count_crossings(mlp(), torch.zeros(2, 5), torch.zeros(3, 5))
    with pytest.raises(FnetError, match="`max_crossings=0`"):
        count_crossings(mlp(), torch.zeros(2, 5), torch.zeros(2, 5), max_crossings=0)
    uneven = nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveMaxPool2d(3), nn.Flatten(), nn.Linear(18, 2))
    with pytest.raises(CaptureError, match="windows of different sizes"):
        count_crossings(uneven, torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4))
