"""Piecewise-linear operations: which piece an input is on, what it gives there, and where the next piece begins."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as nnf

from fnet_callbacks.errors import CaptureError


class Pieces(Protocol):
    """One call of a piecewise-linear operation."""

    def states(self) -> Sequence[Tensor]:
        """On which piece each unit is: tensors of booleans, or one of small integers, samples on the first axis."""
        ...

    def margins(self) -> Sequence[Tensor]:
        """Where the second half of the samples is on the pieces of the first, linear functions of the operands.

        One of them changes its sign where a unit changes its piece.
        """
        ...

    def frozen(self) -> Any:
        """What the operation gives where the second half of the samples is on the pieces of the first."""
        ...


@dataclass(frozen=True, slots=True)
class Elementwise:
    """``offset + slope z`` between ascending breaks; a break is of the piece below it, or above where ``closed``."""

    z: Tensor
    breaks: Sequence[Any]
    slopes: Sequence[Any]
    offsets: Sequence[Any]
    closed: Sequence[bool]

    def states(self) -> Sequence[Tensor]:
        """Whether each unit is above each break."""
        return [
            self.z >= b if closed else self.z > b for b, closed in zip(self.breaks, self.closed, strict=True)
        ]

    def affine(self) -> tuple[Tensor, Tensor]:
        """Slope and offset of each unit on its piece, in the shape of ``z``."""
        slope = torch.zeros_like(self.z) + self.slopes[0]
        offset = torch.zeros_like(self.z) + self.offsets[0]
        for state, above, shift in zip(self.states(), self.slopes[1:], self.offsets[1:], strict=True):
            slope = torch.where(state, above, slope)
            offset = torch.where(state, shift, offset)
        return slope, offset

    def margins(self) -> Sequence[Tensor]:
        """Distances from the breaks."""
        return [self.z - b for b in self.breaks]

    def frozen(self) -> Tensor:
        """See `Pieces`."""
        found = self.offsets[0] + self.slopes[0] * self.z
        for state, slope, offset in zip(self.states(), self.slopes[1:], self.offsets[1:], strict=True):
            found = torch.where(_repeated(state), offset + slope * self.z, found)
        return found


@dataclass(frozen=True, slots=True)
class Compared:
    """One of two operands by their order, the larger, say; where ``gives_first`` is None, the order itself."""

    a: Any
    b: Any
    test: Callable[[Any, Any], Tensor]
    gives_first: bool | None

    def states(self) -> Sequence[Tensor]:
        """Whether the order holds."""
        return [self.test(self.a, self.b)]

    def margins(self) -> Sequence[Tensor]:
        """Their difference."""
        return [self.a - self.b]

    def frozen(self) -> Tensor:
        """See `Pieces`."""
        held = _repeated(self.states()[0])
        if self.gives_first is None:
            return held
        return torch.where(held, self.a, self.b) if self.gives_first else torch.where(held, self.b, self.a)


@dataclass(frozen=True, slots=True)
class Pooled:
    """The largest of a window over the last axes.

    Attributes:
        z: ``[S, C, ...]``.
        values: What the operation gives.
        indices: Of these, flat over the pooled axes.
        n_axes: Number of the pooled axes.
        kernel: Size of a window; empty where windows are of different sizes. So are the rest:
        stride: between windows;
        padding: on each side;
        dilation: between the entries of a window.
    """

    z: Tensor
    values: Tensor
    indices: Tensor
    n_axes: int
    kernel: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]

    def states(self) -> Sequence[Tensor]:
        """The place of the largest in its window."""
        if not self.kernel:
            return [self.indices.int()]
        sizes, outs = self.z.shape[-self.n_axes :], self.values.shape[-self.n_axes :]
        rest, place, weight = self.indices, torch.zeros_like(self.indices), 1
        for axis in reversed(range(self.n_axes)):
            at, rest = rest % sizes[axis], rest.div(sizes[axis], rounding_mode="floor")
            shape = [1] * len(outs)
            shape[axis] = outs[axis]
            start = (
                torch.arange(outs[axis], device=at.device).view(shape) * self.stride[axis]
                - self.padding[axis]
            )
            place = place + weight * (at - start).div(self.dilation[axis], rounding_mode="floor")
            weight *= self.kernel[axis]
        return [place.to(torch.uint8) if math.prod(self.kernel) <= 256 else place.int()]

    def margins(self) -> Sequence[Tensor]:
        """Every entry of a window less the one that is the largest; minus infinity for padding."""
        if not self.kernel:
            raise CaptureError(
                "pooling by windows of different sizes has no margins here; take sizes that divide"
            )
        n = self.n_axes
        outs = self.values.shape[-n:]
        pads: list[int] = []
        for axis in reversed(range(n)):
            reach = (outs[axis] - 1) * self.stride[axis] + self.dilation[axis] * (self.kernel[axis] - 1) + 1
            pads += [self.padding[axis], reach - self.z.shape[axis - n] - self.padding[axis]]
        windows = nnf.pad(self.z, pads, value=-math.inf)
        for axis in range(n):
            size = self.dilation[axis] * (self.kernel[axis] - 1) + 1
            windows = windows.unfold(self.z.dim() - n + axis, size, self.stride[axis])[
                ..., :: self.dilation[axis]
            ]
        return [windows - self.frozen()[0][(..., *[None] * n)]]

    def frozen(self) -> tuple[Tensor, Tensor]:
        """See `Pieces`."""
        n = self.n_axes
        indices = _repeated(self.indices)
        values = self.z.flatten(-n).gather(-1, indices.flatten(-n)).view_as(self.values)
        return values, indices


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest along some axes; ``gives`` shapes it, and its place among them, into what the operation returns."""

    z: Tensor
    axes: Sequence[int]
    gives: Callable[[Tensor, Tensor], Any]

    def _rows(self) -> Tensor:
        """The entries that are compared, on the last axis."""
        axes = sorted(a % self.z.dim() for a in self.axes)
        if 0 in axes:
            raise CaptureError("the largest over all samples is not a function of each")
        return self.z.movedim(axes, list(range(-len(axes), 0))).flatten(-len(axes))

    def states(self) -> Sequence[Tensor]:
        """Which is the largest."""
        return [self._rows().argmax(-1).int()]

    def margins(self) -> Sequence[Tensor]:
        """Every entry less the largest."""
        rows = self._rows()
        return [rows - rows.gather(-1, _repeated(rows.argmax(-1, keepdim=True)))]

    def frozen(self) -> Any:
        """See `Pieces`."""
        rows = self._rows()
        chosen = _repeated(rows.argmax(-1))
        return self.gives(rows.gather(-1, chosen[..., None])[..., 0], chosen)


def _repeated(states: Tensor) -> Tensor:
    """Those of the first half, for the second as well."""
    half = states[: len(states) // 2]
    return torch.cat([half, half])
