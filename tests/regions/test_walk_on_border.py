"""Lines that start, end or run on a border, against bisection, and from both their ends."""

import copy
from collections.abc import Callable

import pytest
import torch
from test_walk import by_bisection
from torch import Tensor, nn
from torch.nn import functional

from fnet_callbacks.regions.walk import count_crossings

INSIDE = (
    1e-7,
    3e-7,
)  # of a line's length, which bisection leaves out at its ends, so that no border is where it looks


class Twice(nn.Module):
    """An activation after each of two layers; the first has no bias."""

    def __init__(self, function: Callable[[Tensor], Tensor], seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.function = function
        self.first, self.second = nn.Linear(6, 10, bias=False), nn.Linear(10, 8)
        self.head = nn.Linear(8, 2)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self.second(self.function(self.first(x)))))


def image(seed: int, pool: nn.Module, unit: nn.Module) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), unit, pool, nn.Conv2d(2, 3, 3, padding=1), unit, nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(12, 2),
    ).double()  # fmt: skip


def pooled(x: Tensor) -> Tensor:
    return x.view(len(x), -1, 2).amax(2).repeat(1, 2)


def expected(model: nn.Module, starts: Tensor, ends: Tensor) -> list[int]:
    return [
        by_bisection(model, torch.lerp(a, b, INSIDE[0]), torch.lerp(b, a, INSIDE[1]), cells=300)
        for a, b in zip(starts, ends, strict=True)
    ]


def check(model: nn.Module, starts: Tensor, ends: Tensor, *, by: nn.Module | None = None) -> None:
    """The count is that of bisection, whichever end is the start."""
    model.eval()
    found = expected((by or model).eval(), starts, ends)
    assert sum(found) > 0
    assert count_crossings(model, starts, ends).crossings.tolist() == found
    assert count_crossings(model, ends, starts).crossings.tolist() == found


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leaky": lambda x: functional.leaky_relu(x, 0.2),
    "absolute": torch.abs,
    "clamp": lambda x: x.clamp(0, 0.4),
    "relu6": lambda x: functional.relu6(10 * x),
    "maximum": lambda x: torch.maximum(x, -0.5 * x),
    "minimum": lambda x: torch.minimum(x, x.flip(1)),
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "mask": lambda x: x * (x >= 0),
    "jump": lambda x: functional.threshold(x, 0.0, 0.3),
    "largest": pooled,
    "smallest": lambda x: x.view(len(x), 2, -1).min(1)[0].repeat(1, 2),
    "pooling": lambda x: functional.max_pool1d(x.relu()[:, None], 2)[:, 0].repeat(1, 2),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_line_from_an_input_of_zeros_meets_what_lies_ahead(name: str) -> None:
    model = Twice(ACTIVATIONS[name])
    check(model, torch.zeros(3, 6, dtype=torch.float64), 3 * torch.randn(3, 6, dtype=torch.float64))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_line_from_a_tie_meets_what_lies_ahead(name: str) -> None:
    model = Twice(ACTIVATIONS[name])
    with torch.no_grad():
        model.first.weight.copy_(torch.randint(-1, 2, (10, 6)))
    check(model, torch.randint(-1, 2, (3, 6)).double(), torch.randn(3, 6, dtype=torch.float64))


@pytest.mark.parametrize("name", ["relu", "absolute", "jump", "mask"])
def test_a_unit_that_is_zero_but_for_rounding_at_the_start_is_not_crossed(name: str) -> None:
    model = Twice(ACTIVATIONS[name])
    normal = model.first.weight[0].detach()
    starts, ends = (torch.randn(3, 6, dtype=torch.float64) for _ in range(2))
    starts -= (starts @ normal / (normal @ normal))[:, None] * normal
    check(model, starts, ends)


@pytest.mark.parametrize("name", ["relu", "leaky", "absolute", "maximum", "pooling"])
def test_a_border_that_a_line_runs_along_is_not_crossed(name: str) -> None:
    model = Twice(ACTIVATIONS[name])
    normal = model.first.weight[0].detach()
    starts, ends = (torch.randn(3, 6, dtype=torch.float64) for _ in range(2))
    for side in (starts, ends):
        side -= (side @ normal / (normal @ normal))[:, None] * normal
    # The unit is zero but for rounding, which bisection would take for many borders.
    assert 0 < (starts @ normal).abs().max() < 1e-15
    without = copy.deepcopy(model)
    nn.init.zeros_(without.first.weight[0])
    check(model, starts, ends, by=without)


def test_small_weights_are_no_rounding() -> None:
    model = Twice(torch.relu)
    starts, ends = (torch.randn(3, 6, dtype=torch.float64) for _ in range(2))
    usual = count_crossings(model, starts, ends).crossings
    with torch.no_grad():
        model.first.weight[:5] *= 2.0**-60
        model.second.weight[:, :5] *= 2.0**60
    assert count_crossings(model, starts, ends).crossings.tolist() == usual.tolist()


@pytest.mark.parametrize(
    ("pool", "unit"),
    [
        (nn.MaxPool2d(2), nn.ReLU()),
        (nn.MaxPool2d(3, 2, padding=1), nn.LeakyReLU(0.1)),
        (nn.AdaptiveMaxPool2d(4), nn.Hardtanh(-0.2, 0.2)),
        (nn.AvgPool2d(2), nn.ReLU()),
    ],
)
@pytest.mark.parametrize("has_bias", [True, False])
def test_lines_between_blank_and_partly_blank_images(
    pool: nn.Module, unit: nn.Module, has_bias: bool
) -> None:
    model = image(1, pool, unit)
    if not has_bias:
        nn.init.zeros_(model[0].bias)
    blank, ends = (torch.zeros(2, 1, 8, 8, dtype=torch.float64) for _ in range(2))
    blank[1] = 0.5
    ends[..., 2:, :6] = torch.rand(6, 6)
    check(model, blank, ends)


def test_a_border_at_an_end_is_not_crossed_from_either_side() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)).double()
    with torch.no_grad():
        for layer, bias in ((model[0], 0.0), (model[2], -0.5)):
            layer.weight.fill_(1)
            layer.bias.fill_(bias)
    zero, one = torch.zeros(1, 1), torch.ones(1, 1)
    for start, end, crossed in (
        (zero, one, 1),
        (one, zero, 1),
        (zero, one / 2, 0),
        (one / 2, zero, 0),
        (-one, one, 2),
    ):
        walk = count_crossings(model, start, end)
        assert (walk.crossings.tolist(), walk.reached.tolist()) == ([crossed], [1.0])


def test_the_largest_of_equal_numbers_is_the_one_that_grows_fastest() -> None:
    class Most(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x.amax(1, keepdim=True) - 0.5)

    start, end = torch.zeros(3, 3), torch.tensor([[0.0, 0.4, 1.0], [-2.0, -1.0, -0.1], [0.2, 0.9, 0.2]])
    assert count_crossings(Most(), start, end).crossings.tolist() == [1, 0, 1]
