"""Piecewise-linear operations: which piece an input is on, what it gives there, and where the next piece begins."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional as nnf

from fnet_callbacks.errors import CaptureError

AT_BORDER = 1e-9  # of a segment's length, within which its start or end is on a border


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

    def ahead(self) -> Self:
        """The same, where the pieces of the first half are those just beyond it, towards the second.

        They differ for a unit that is at its break, and does not stay there.
        """
        ...


@dataclass(frozen=True, slots=True)
class Elementwise:
    """``offset + slope z`` between ascending breaks; a break is of the piece below it, or above where ``closed``.

    Where ``above`` is given, it says which breaks each unit is above.
    """

    z: Tensor
    breaks: Sequence[Any]
    slopes: Sequence[Any]
    offsets: Sequence[Any]
    closed: Sequence[bool]
    above: Sequence[Tensor] | None = None

    def states(self) -> Sequence[Tensor]:
        """Whether each unit is above each break."""
        return self.above or [
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

    def sloped(self) -> Tensor:
        """Whether the slope of each unit on its piece is other than 0, in the shape of ``z``."""
        found = self.slopes[0] != 0
        for state, slope in zip(self.states(), self.slopes[1:], strict=True):
            found = (state & (slope != 0)) | (~state & found)
        return found

    def margins(self) -> Sequence[Tensor]:
        """Distances from the breaks."""
        return [self.z if _is(b, 0.0) else self.z - b for b in self.breaks]

    def frozen(self) -> Tensor:
        """See `Pieces`."""
        found, *pieces = [
            self._piece(slope, offset) for slope, offset in zip(self.slopes, self.offsets, strict=True)
        ]
        for state, piece in zip(self.states(), pieces, strict=True):
            found = torch.where(_repeated(state), piece, found)
        return found

    def _piece(self, slope: Any, offset: Any) -> Any:
        """What there would be on one piece; large tensors are not multiplied by 0 or 1."""
        if _is(slope, 0.0):
            return offset
        return self.z if _is(slope, 1.0) and _is(offset, 0.0) else offset + slope * self.z

    def ahead(self) -> Elementwise:
        """See `Pieces`."""
        above = [
            _beyond(margin, state, torch.gt)
            for margin, state in zip(self.margins(), self.states(), strict=True)
        ]
        return replace(self, above=above)


@dataclass(frozen=True, slots=True)
class Compared:
    """One of two operands by their order, the larger, say; where ``gives_first`` is None, the order itself.

    Where ``holds`` is given, it says whether the order does.
    """

    a: Any
    b: Any
    test: Callable[[Any, Any], Tensor]
    gives_first: bool | None
    holds: Tensor | None = None

    def states(self) -> Sequence[Tensor]:
        """Whether the order holds."""
        return [self.test(self.a, self.b) if self.holds is None else self.holds]

    def margins(self) -> Sequence[Tensor]:
        """Their difference."""
        return [self.a - self.b]

    def frozen(self) -> Tensor:
        """See `Pieces`."""
        held = _repeated(self.states()[0])
        if self.gives_first is None:
            return held
        return torch.where(held, self.a, self.b) if self.gives_first else torch.where(held, self.b, self.a)

    def ahead(self) -> Compared:
        """See `Pieces`."""
        return replace(self, holds=_beyond(self.margins()[0], self.states()[0], self.test))


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
        gaps: What `margins` gives, where that is known.
    """

    z: Tensor
    values: Tensor
    indices: Tensor
    n_axes: int
    kernel: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    gaps: Tensor | None = None

    def states(self) -> Sequence[Tensor]:
        """The place of the largest in its window."""
        if not self.kernel:
            return [self.indices.int()]
        # The place follows from how far the entry is, in the flat axes, from the first of its window: no division.
        sizes, outs = self.z.shape[-self.n_axes :], self.values.shape[-self.n_axes :]
        device, step = self.indices.device, 1
        first = far = torch.zeros((), dtype=torch.int64, device=device)
        for axis in reversed(range(self.n_axes)):
            shape = [1] * self.n_axes
            shape[axis] = -1
            starts = torch.arange(outs[axis], device=device) * self.stride[axis] - self.padding[axis]
            entries = torch.arange(self.kernel[axis], device=device) * self.dilation[axis]
            first, far = first + step * starts.view(shape), far + step * entries.view(shape)
            step *= sizes[axis]
        far = far.flatten()
        if len(far.unique()) < len(far):  # a window that is wider than all there is
            return [self.indices.int()]
        places = torch.zeros(int(far.max()) + 1, dtype=torch.int32, device=device)
        places[far] = torch.arange(len(far), dtype=torch.int32, device=device)
        return [(places.to(torch.uint8) if len(far) <= 256 else places)[self.indices - first]]

    def _windows(self, z: Tensor, padding: float) -> Tensor:
        """What is in each window, its axes as the last ones."""
        if not self.kernel:
            raise CaptureError(
                "pooling by windows of different sizes has no margins here; take sizes that divide"
            )
        n = self.n_axes
        outs = self.values.shape[-n:]
        pads: list[int] = []
        for axis in reversed(range(n)):
            reach = (outs[axis] - 1) * self.stride[axis] + self.dilation[axis] * (self.kernel[axis] - 1) + 1
            pads += [self.padding[axis], reach - z.shape[axis - n] - self.padding[axis]]
        windows = nnf.pad(z, pads, value=padding)
        for axis in range(n):
            size = self.dilation[axis] * (self.kernel[axis] - 1) + 1
            windows = windows.unfold(z.dim() - n + axis, size, self.stride[axis])[..., :: self.dilation[axis]]
        return windows

    def margins(self) -> Sequence[Tensor]:
        """Every entry of a window less the one that is the largest; minus infinity for padding."""
        if self.gaps is not None:
            return [self.gaps]
        return [self._windows(self.z, -math.inf) - self.frozen()[0][(..., *[None] * self.n_axes)]]

    def frozen(self) -> tuple[Tensor, Tensor]:
        """See `Pieces`."""
        n = self.n_axes
        indices = _repeated(self.indices)
        values = self.z.flatten(-n).gather(-1, indices.flatten(-n)).view_as(self.values)
        return values, indices

    def ahead(self) -> Pooled:
        """See `Pieces`."""
        n = self.n_axes
        (gaps,) = self.margins()
        beyond = _just_beyond(gaps)
        if not (beyond > 0).any():
            return replace(self, gaps=gaps)
        overtakes, which = _overtaking(beyond.flatten(-n))
        sizes = self.z.shape[-n:]
        places = torch.arange(math.prod(sizes), device=which.device).view(sizes)
        windows = self._windows(places, 0).flatten(-n).expand(*which.shape, -1)
        own = self.indices.chunk(2)[0]
        half = torch.where(overtakes, windows.gather(-1, which[..., None])[..., 0], own)
        return replace(self, indices=torch.cat([half, half]))


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest along some axes; ``gives`` shapes it, and its place among them, into what the operation returns.

    Where ``places`` is given, it says which is the largest.
    """

    z: Tensor
    axes: Sequence[int]
    gives: Callable[[Tensor, Tensor], Any]
    places: Tensor | None = None

    def _rows(self) -> Tensor:
        """The entries that are compared, on the last axis."""
        axes = sorted(a % self.z.dim() for a in self.axes)
        if 0 in axes:
            raise CaptureError("the largest over all samples is not a function of each")
        return self.z.movedim(axes, list(range(-len(axes), 0))).flatten(-len(axes))

    def _places(self) -> Tensor:
        return self._rows().argmax(-1) if self.places is None else self.places

    def states(self) -> Sequence[Tensor]:
        """Which is the largest."""
        return [self._places().int()]

    def margins(self) -> Sequence[Tensor]:
        """Every entry less the largest."""
        rows = self._rows()
        return [rows - rows.gather(-1, _repeated(self._places())[..., None])]

    def frozen(self) -> Any:
        """See `Pieces`."""
        rows = self._rows()
        chosen = _repeated(self._places())
        return self.gives(rows.gather(-1, chosen[..., None])[..., 0], chosen)

    def ahead(self) -> Largest:
        """See `Pieces`."""
        overtakes, which = _overtaking(_just_beyond(self.margins()[0]))
        half = torch.where(overtakes, which, self._places().chunk(2)[0])
        return replace(self, places=torch.cat([half, half]))


def _is(parameter: Any, number: float) -> bool:
    return isinstance(parameter, (int, float)) and parameter == number


def _repeated(states: Tensor) -> Tensor:
    """Those of the first half, for the second as well."""
    half = states[: len(states) // 2]
    return torch.cat([half, half])


def _beyond(margins: Tensor, held: Tensor, test: Callable[[Any, Any], Tensor]) -> Tensor:
    """Whether an order holds just beyond the first half of the samples, from their distances from where it changes."""
    further = _just_beyond(margins)
    moves = further.abs() > 0  # nor is it infinite less infinite
    half = torch.where(moves, test(further, 0.0), held.chunk(2)[0])
    return torch.cat([half, half])


def _just_beyond(margins: Tensor) -> Tensor:
    """What the margins of the first half are a little further on, towards the second."""
    now, then = margins.chunk(2)
    return torch.lerp(now, then, AT_BORDER)


def _overtaking(gaps: Tensor) -> tuple[Tensor, Tensor]:
    """Whether there is an entry, on the last axis, that is above 0, and which is the largest of these."""
    largest = torch.where(gaps > 0, gaps, 0.0).max(-1)  # padding has NaN
    return largest.values > 0, largest.indices
