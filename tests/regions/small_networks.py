"""Random piecewise-linear networks."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Functional(nn.Module):
    """Written with functional calls, two branches and a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = nn.functional.relu(self.first(x))
        hidden = hidden + nn.functional.leaky_relu(self.second(hidden), 0.2)
        return self.head(torch.maximum(hidden, 0.5 * hidden.flip(1)))


def dense(seed: int) -> tuple[nn.Module, Tensor]:
    """A chain, and inputs."""
    torch.manual_seed(seed)
    units: list[Callable[[], nn.Module]] = [
        nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ReLU6, nn.Hardtanh, lambda: nn.Threshold(0.1, 0.3),
    ]  # fmt: skip
    norm = nn.BatchNorm1d(9)
    norm.running_mean, norm.running_var = torch.randn(9), torch.rand(9) + 0.5
    norm.weight.data.normal_()
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(6, 9), norm, units[seed % 6](),
        nn.Sequential(nn.Dropout(0.5), nn.Linear(9, 7, bias=seed % 2 == 0), units[(seed + 1) % 6]()), nn.Linear(7, 3),
    )  # fmt: skip
    return net, torch.randn(400, 2, 3)


def convolutional(seed: int) -> tuple[nn.Module, Tensor]:
    """With max-pooling of several kinds, and inputs."""
    torch.manual_seed(seed)
    pools = [
        nn.MaxPool2d(2), nn.MaxPool2d(3, 2, padding=1), nn.MaxPool2d(2, 1, dilation=2, ceil_mode=True),
        nn.AdaptiveMaxPool2d(3), nn.AvgPool2d(2),
    ]  # fmt: skip
    norm = nn.BatchNorm2d(4)
    norm.running_mean, norm.running_var = torch.randn(4), torch.rand(4) + 0.5
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), norm, nn.ReLU(inplace=True), pools[seed % 5],
        nn.Conv2d(4, 5, 2), nn.LeakyReLU(0.1, inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3),
    )  # fmt: skip
    return net, torch.randn(60, 2, 6, 6)


class Body(nn.Module):
    """What a function makes of the input, before a head of two hidden layers."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.head = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(x))
