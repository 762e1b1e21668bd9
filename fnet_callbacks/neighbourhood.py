"""The legal neighbourhood of inputs: what an attack may make of them, and what noise may."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fnet_callbacks.arguments import is_number, plain, refused
from fnet_callbacks.checks import checked_number, short_repr
from fnet_callbacks.errors import FnetError

Norm = Literal["linf", "l2"]
Normalize = tuple[float | Sequence[float], float | Sequence[float]]


Bounds = tuple[float, float]


def as_radius(epsilon: Any, bounds: Any) -> tuple[float | None, Bounds | None]:
    """An attack's radius and its bounds, or neither, in plain Python.

    Raises:
        FnetError: One is without the other, or the radius is none; it says which.
    """
    epsilon, bounds = plain("epsilon", epsilon), plain("bounds", bounds)
    if (epsilon is None) != (bounds is None):
        raise FnetError(
            f"`epsilon={epsilon!r}` and `bounds={bounds!r}` belong together: the attack's radius, and the smallest and "
            "largest legal value of a raw input"
        )
    if epsilon is None:
        return None, None
    found = as_bounds(bounds)
    if not (is_number(epsilon) and 0 < epsilon < math.inf):
        raise refused("epsilon", epsilon, "a number above 0")
    return float(epsilon), found


def as_bounds(value: Any) -> Bounds:
    """The lowest and the highest legal value of a raw input, in plain Python.

    Raises:
        FnetError: They are no two numbers.
    """
    value = plain("bounds", value)
    if not (isinstance(value, list) and len(value) == 2 and all(map(is_number, value))):
        raise refused("bounds", value, "(lowest, highest) of the raw inputs")
    return float(value[0]), float(value[1])


def as_normalization(value: Any) -> Normalize | None:
    """``(mean, std)`` that inputs were normalised with, in plain Python: each a number, or a list of one a channel.

    Raises:
        FnetError: They are no such two, or a std is not above 0.
    """
    right = "(mean, std), numbers or one a channel, each std above 0"
    if isinstance(value, set | frozenset):  # which of the two is the mean it does not say
        raise refused("normalize", value, right)
    value = plain("normalize", value)
    if value is None:
        return None
    if not (isinstance(value, list) and len(value) == 2):
        raise refused("normalize", value, right)
    mean, std = (part if isinstance(part, list) else [part] for part in value)
    if not all(map(is_number, [*mean, *std])) or not std or not mean or not all(s > 0 for s in std):
        raise refused("normalize", value, right)
    return value[0], value[1]


def checked_radius(epsilon: float) -> float:
    """A positive, finite number.

    Raises:
        FnetError: It is none.
    """
    radius = checked_number("epsilon", epsilon, above=0)
    if radius == math.inf:
        raise FnetError("epsilon must be finite, a radius in the units of bounds")
    return radius


def checked_bounds(bounds: tuple[float, float]) -> tuple[float, float]:
    """Two numbers, the first the smaller.

    Raises:
        FnetError: They are not.
    """
    try:
        lowest, highest = bounds
    except (TypeError, ValueError):
        raise FnetError(
            f"bounds must be (lowest, highest) of the raw inputs, got {short_repr(bounds)}"
        ) from None
    low, high = checked_number("bounds[0]", lowest), checked_number("bounds[1]", highest)
    if not low < high:
        raise FnetError(f"bounds must be (lowest, highest) of the raw inputs, got {(low, high)}")
    return low, high


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """The legal neighbourhood of a batch, held in the model's space.

    Working there, and not in the raw space and back, keeps an unchanged value unchanged to the bit.
    """

    centre: Tensor
    scale: Tensor  # raw units per unit of the model's space
    lower: Tensor
    upper: Tensor
    epsilon: float
    norm: Norm

    @classmethod
    def around(
        cls,
        inputs: Tensor,
        *,
        epsilon: float,
        bounds: tuple[float, float],
        normalize: Normalize | None,
        norm: Norm = "linf",
    ) -> Neighbourhood:
        """That of inputs as the model takes them.

        Raises:
            FnetError: ``epsilon`` or ``bounds`` are none, ``normalize`` does not fit the inputs, or they leave
                ``bounds``.
        """
        epsilon, bounds = checked_radius(epsilon), checked_bounds(bounds)
        mean, scale = _normalization(inputs, normalize)
        lowest, highest = ((inputs.new_tensor(bound) - mean) / scale for bound in bounds)
        _check_within(inputs, mean, scale, bounds)
        if norm == "linf":
            # One box holds both. Where rounding put an input just outside its bounds, the bounds win.
            radius = epsilon / scale
            lower, upper = (inputs - radius).clamp(lowest, highest), (inputs + radius).clamp(lowest, highest)
        else:
            lower, upper = lowest, highest
        return cls(inputs, scale, lower, upper, epsilon, norm)

    def step(self, point: Tensor, gradient: Tensor, length: float) -> Tensor:
        """One step of ``length`` raw units in the direction of steepest ascent."""
        direction = unit(gradient / self.scale, self.norm)
        return self.project(point + length * direction / self.scale)

    def project(self, point: Tensor) -> Tensor:
        """The nearest point of the ball, then of the bounds, which lead back into the ball."""
        if self.norm == "l2":
            offset = point - self.centre
            length = length_of(offset * self.scale)
            point = torch.where(length > self.epsilon, self.centre + offset * (self.epsilon / length), point)
        return point.clamp(self.lower, self.upper)

    def random_corner(self, generator: torch.Generator) -> Tensor:
        """Each value at one end of what it may be, by a fair coin; for ``linf``."""
        up = torch.rand(self.centre.shape, generator=generator, device="cpu", dtype=torch.float32) < 0.5
        return torch.where(up.to(self.centre.device), self.upper, self.lower)

    def random_point(self, generator: torch.Generator) -> Tensor:
        """Uniform in the ball, then within the bounds."""
        shape = self.centre.shape
        if self.norm == "linf":
            offset = 2 * torch.rand(shape, generator=generator, device="cpu", dtype=torch.float32) - 1
        else:
            volume = torch.rand(
                (len(self.centre), *[1] * (len(shape) - 1)),
                generator=generator,
                device="cpu",
                dtype=torch.float32,
            )
            direction = unit(torch.randn(shape, generator=generator, device="cpu", dtype=torch.float32), "l2")
            offset = direction * volume ** (1 / shape[1:].numel())
        return self.project(self.centre + self.epsilon * offset.to(self.centre) / self.scale)


def _normalization(inputs: Tensor, normalize: Normalize | None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation as ``[1, C or 1, 1, ...]``."""
    try:
        mean, std = (inputs.new_tensor(part) for part in as_normalization(normalize) or (0.0, 1.0))
    except (TypeError, ValueError, RuntimeError) as error:  # whatever torch makes no tensor of
        raise FnetError(f"normalize must be (mean, std), numbers or one per channel: {error}") from error
    if any(part.ndim > 1 or part.numel() not in (1, inputs.shape[1]) for part in (mean, std)):
        raise FnetError(
            f"normalize must be (mean, std), numbers or one per channel ({inputs.shape[1]}), got {normalize}"
        )
    if not bool((std > 0).all()):  # in the coarser numbers of the inputs
        raise FnetError(f"normalize needs a positive std, got {std.tolist()} in {inputs.dtype}")
    shape = (1, -1, *[1] * (inputs.ndim - 2))
    return mean.reshape(shape), std.reshape(shape)


def _check_within(inputs: Tensor, mean: Tensor, scale: Tensor, bounds: tuple[float, float]) -> None:
    raw = inputs * scale + mean
    magnitude = max(abs(value) for value in (*bounds, float(mean.abs().max())) if math.isfinite(value))
    slack = 8 * torch.finfo(inputs.dtype).eps * magnitude  # what normalising and back may lose
    if not bool(((raw >= bounds[0] - slack) & (raw <= bounds[1] + slack)).all()):  # NaN fails too
        span = f"[{raw.min():.6g}, {raw.max():.6g}]"
        raise FnetError(f"bounds are {bounds} but the raw inputs span {span}; if normalised, pass normalize")


def unit(gradient: Tensor, norm: Norm) -> Tensor:
    """Direction of steepest ascent, of length 1 in ``norm``; zero for a zero gradient."""
    if norm == "linf":
        return gradient.sign()
    smallest = torch.finfo(gradient.dtype).tiny
    # A confident network's gradients may be 1e-30, where squares vanish: scale first.
    axes = tuple(range(1, gradient.ndim))
    gradient = gradient / gradient.abs().amax(dim=axes, keepdim=True).clamp_min(smallest)
    return gradient / length_of(gradient).clamp_min(smallest)


def length_of(offset: Tensor) -> Tensor:
    """Euclidean length of each sample, ``[S, 1, ...]``."""
    return torch.linalg.vector_norm(offset, dim=tuple(range(1, offset.ndim)), keepdim=True)
