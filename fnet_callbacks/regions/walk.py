"""How many linear regions a straight line runs through, counted one by one or estimated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from fnet_callbacks.errors import CaptureError, FnetError
from fnet_callbacks.regions.follower import Follower
from fnet_callbacks.regions.pieces import AT_BORDER, Pieces

MERGED = 1e-8  # of a segment's length, within which crossings count as one
_ROUNDED = 1e-9  # of the inputs, below which a slope may be rounding
_AT_ONCE = 16  # windows, for which memory is there in large models
_ELSEWHERE = 0.618  # of a segment's length, no multiple of what rounding is a multiple of


@dataclass(frozen=True, slots=True)
class Walk:
    """Straight lines from one input to another.

    Attributes:
        crossings: Of each line, from its start to where it was followed, ``[L]`` int64.
        reached: Which share of it was followed, ``[L]``: 1 for all of it.
    """

    crossings: np.ndarray
    reached: np.ndarray


def count_crossings(model: nn.Module, starts: Tensor, ends: Tensor, *, max_crossings: int = 1000) -> Walk:
    """Counts the borders between linear regions that straight lines cross.

    Within a region every unit's distance from its next break is linear along the line, so that the nearest zero of
    these is where the region ends: no border is missed, and none is looked for by sampling. Everything is computed in
    float64; the model is not changed. Borders within 1e-8 of the length of each other count as one. A line that starts
    or ends on a border (a unit at exactly zero, a tie in pooling) does not cross it, and is from the start on the piece
    that it goes to; nor does one that runs along a border cross that.

    Args:
        model: Piecewise linear, in eval mode; see `activation_patterns`.
        starts: ``[L, ...]``.
        ends: ``[L, ...]``.
        max_crossings: Crossings after which a line is followed no further.

    Raises:
        FnetError: Shapes differ, or ``max_crossings`` is below 1.
        CaptureError: The model is not piecewise linear.

    Reference: regions along lines: Raghu, Poole, Kleinberg, Ganguli & Sohl-Dickstein (2017), arXiv 1606.05336; Hanin &
        Rolnick (2019), arXiv 1901.09021. Following the pieces is ours.
    Cost: a forward pass in float64 of two inputs for each crossing of a line, all lines at once; two passes more where
        the slope of what is crossed may be rounding.
    """
    if max_crossings < 1:
        raise FnetError(f"`max_crossings={max_crossings}` should be an integer of at least 1")
    starts, ends = _ends(starts, ends)
    n = len(starts)
    at = torch.zeros(n, dtype=torch.float64, device=starts.device)
    crossings = torch.zeros(n, dtype=torch.int64, device=starts.device)
    active = torch.arange(n, device=starts.device)
    double = _in_double(model)
    with torch.no_grad():
        while len(active):
            own = at[active]
            further = _next_border(double, starts[active], ends[active], own)
            crosses = further < 1 - AT_BORDER
            crossings[active] += crosses
            at[active] = torch.where(crosses, (further + MERGED).clamp(max=1.0), 1.0)
            active = active[crosses & (at[active] < 1) & (crossings[active] < max_crossings)]
    return Walk(crossings.cpu().numpy(), at.cpu().numpy())


def estimate_crossings(
    model: nn.Module, starts: Tensor, ends: Tensor, *, width: float, windows: int = 4, seed: int = 0
) -> np.ndarray:
    """Estimates the borders between linear regions that straight lines cross, from some short windows of each.

    One window lies at random in each of as many equal parts of a line. In it those borders count that are ahead of its
    start within the region that is there. That the borders it crosses move the others leads to no error while few of
    the units change in a window. What counts as one border, and what is rounding, is as in `count_crossings`.

    Args:
        model: See `count_crossings`.
        starts: ``[L, ...]``.
        ends: ``[L, ...]``.
        width: Of a window, as a share of the line; above 0, and no more than 1 over ``windows``.
        windows: Of each line.
        seed: Of where they are.

    Returns:
        ``[L]`` float64, at least 0. With N borders in all windows of all lines the error of their mean is about a share
        of 1 over the root of N, which more lines or windows make smaller.

    Raises:
        FnetError: Shapes differ, or ``width`` or ``windows`` is out of range.
        CaptureError: The model is not piecewise linear.

    Reference: estimating the number from some windows is ours.
    Cost: a forward pass in float64 of two inputs for each window.
    """
    if windows < 1 or not 0 < width * windows <= 1:
        raise FnetError(f"`width={width}` should be above 0, and {windows} times that at most 1")
    starts, ends = _ends(starts, ends)
    places = np.random.default_rng(seed).random((len(starts), windows)) * (1 / windows - width)
    at = torch.from_numpy(places + np.arange(windows) / windows).to(starts).flatten()
    lines = torch.arange(len(starts), device=starts.device).repeat_interleave(windows)
    double = _in_double(model, ahead=False)  # at random places no unit is at its break
    counts = np.zeros(len(at))
    with torch.no_grad():
        for own in torch.arange(len(at), device=starts.device).split(_AT_ONCE):
            here, direction = _along(starts[lines[own]], ends[lines[own]], at[own])
            counts[own.cpu().numpy()] = _borders_within(double, here, direction, width)
    return counts.reshape(-1, windows).mean(axis=1) / width


def _ends(starts: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    if starts.shape != ends.shape or not len(starts):
        raise FnetError(
            f"`starts` {tuple(starts.shape)} and `ends` {tuple(ends.shape)} should be of one shape"
        )
    return starts.double(), ends.double()


def _along(starts: Tensor, ends: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Points on lines, and the directions of these."""
    direction = ends - starts
    return starts + at.view(-1, *[1] * (starts.dim() - 1)) * direction, direction


def _borders_within(
    model: Callable[[Tensor, Any], Any], here: Tensor, direction: Tensor, width: float
) -> np.ndarray:
    """How many borders lie ahead within a share of each direction, were the region that is here everywhere; ``[L]``."""
    lines, steps, slopes = [], [], []

    def see(now: Tensor, then: Tensor) -> None:
        # Few change their sign: the rest is not divided.
        row, unit = (now * torch.lerp(now, then, width) < 0).nonzero(as_tuple=True)
        own, beyond = now[row, unit], then[row, unit]
        lines.append(row)
        steps.append(own / (own - beyond))
        slopes.append((beyond - own).abs())

    _show(model, here, here + direction, see)
    line, step, slope = torch.cat(lines), torch.cat(steps), torch.cat(slopes)
    is_doubtful = torch.zeros(len(here), dtype=torch.bool, device=here.device)
    is_doubtful[line[slope < _ROUNDED * _scale(here, direction)[line]]] = True
    counts = np.zeros(len(here), np.int64)
    for own in range(len(here)):
        found = step[line == own]
        if is_doubtful[own]:
            true = torch.cat(_true_steps(model, here[own : own + 1], direction[own : own + 1]), dim=1)[0]
            found = true[true < width]
        apart = found.sort().values.diff() > MERGED
        counts[own] = min(1, len(found)) + int(apart.sum())
    return counts


def _next_border(model: Callable[[Tensor, Any], Any], starts: Tensor, ends: Tensor, at: Tensor) -> Tensor:
    """Where each line leaves the region that it is in just beyond ``at``; infinity where it does not."""
    here, direction = _along(starts, ends, at)
    nearest, slope = torch.full_like(at, torch.inf), torch.full_like(at, torch.inf)

    def see(now: Tensor, then: Tensor) -> None:
        nonlocal nearest, slope
        least = _steps(now, then).min(1)
        own = least.indices[:, None]
        slopes = (then.gather(1, own) - now.gather(1, own))[:, 0].abs()
        slope = torch.where(least.values < nearest, slopes, slope)
        nearest = torch.minimum(nearest, least.values)

    _show(model, here, here + direction, see)
    doubtful = (slope < _ROUNDED * _scale(here, direction)).nonzero()[:, 0]
    if len(doubtful):
        steps = _true_steps(model, here[doubtful], direction[doubtful])
        nearest[doubtful] = torch.stack([own.amin(1) for own in steps]).amin(0)
    return at + nearest


def _show(
    model: Callable[[Tensor, Any], Any], here: Tensor, beyond: Tensor, see: Callable[[Tensor, Tensor], None]
) -> None:
    """Tells of each operation how far its units are from their breaks here and beyond, in the region that is here."""
    n = len(here)

    def seen(_: str, pieces: Pieces) -> None:
        for margins in pieces.margins():
            if len(margins) % (2 * n):
                raise CaptureError("a piecewise-linear operation does not have the samples on its first axis")
            see(*margins.reshape(2, n, -1))

    model(torch.cat([here, beyond]), seen)


def _steps(now: Tensor, then: Tensor) -> Tensor:
    """How far ahead each unit's break is, were there no other before; infinity where it has none ahead."""
    steps = now / (now - then)
    return torch.where(steps > AT_BORDER, steps, torch.inf)  # nor is NaN above


def _scale(here: Tensor, direction: Tensor) -> Tensor:
    return torch.maximum(here.flatten(1).abs().amax(1), direction.flatten(1).abs().amax(1))


def _true_steps(model: Callable[[Tensor, Any], Any], here: Tensor, direction: Tensor) -> list[Tensor]:
    """How far ahead the breaks that are more than rounding are, for each operation.

    A unit that stays at its break all along the line is off it by rounding, to one side or the other. Its next break
    then lies elsewhere when it is looked for from another point; a true one does not, however small its slope.
    """
    found: list[Tensor] = []
    _show(model, here, here + direction, lambda now, then: found.append(_steps(now, then)))
    again: list[Tensor] = []
    _show(
        model,
        here,
        here + _ELSEWHERE * direction,
        lambda now, then: again.append(_steps(now, then) * _ELSEWHERE),
    )
    return [torch.where((a - b).abs() <= 1e-3 * a, a, torch.inf) for a, b in zip(found, again, strict=True)]


def _in_double(model: nn.Module, *, ahead: bool = True) -> Callable[[Tensor, Any], Any]:
    """The model with its weights in float64, as a function of inputs, of which the first half decides the pieces."""
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    wide = {k: v.detach().double() if v.is_floating_point() else v for k, v in named.items()}

    def called(inputs: Tensor, see: Any) -> Any:
        follower = Follower(see, frozen=True, ahead=ahead)
        try:
            with follower:
                return functional_call(model, wide, (follower.follow(inputs),))
        except RuntimeError as error:
            raise CaptureError(
                f"{type(model).__name__} cannot be run in float64, in which lines are followed: {error}"
            ) from error

    return called
