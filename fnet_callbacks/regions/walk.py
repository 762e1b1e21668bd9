"""How many linear regions a straight line runs through."""

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
    if starts.shape != ends.shape or not len(starts):
        raise FnetError(
            f"`starts` {tuple(starts.shape)} and `ends` {tuple(ends.shape)} should be of one shape"
        )
    if max_crossings < 1:
        raise FnetError(f"`max_crossings={max_crossings}` should be an integer of at least 1")
    starts, ends = starts.double(), ends.double()
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


def _next_border(model: Callable[[Tensor, Any], Any], starts: Tensor, ends: Tensor, at: Tensor) -> Tensor:
    """Where each line leaves the region that it is in just beyond ``at``; infinity where it does not."""
    direction = ends - starts
    here = starts + at.view(-1, *[1] * (starts.dim() - 1)) * direction
    nearest, slope = torch.full_like(at, torch.inf), torch.full_like(at, torch.inf)

    def see(steps: Tensor, slopes: Tensor) -> None:
        nonlocal nearest, slope
        least = steps.min(1)
        slope = torch.where(
            least.values < nearest, slopes.gather(1, least.indices[:, None])[:, 0].abs(), slope
        )
        nearest = torch.minimum(nearest, least.values)

    _show(model, here, direction, see)
    scale = torch.maximum(here.flatten(1).abs().amax(1), direction.flatten(1).abs().amax(1))
    doubtful = (slope < _ROUNDED * scale).nonzero()[:, 0]
    if len(doubtful):
        nearest[doubtful] = _without_rounding(model, here[doubtful], direction[doubtful])
    return at + nearest


def _show(
    model: Callable[[Tensor, Any], Any],
    here: Tensor,
    direction: Tensor,
    see: Callable[[Tensor, Tensor], None],
    *,
    reach: float = 1.0,
) -> None:
    """Tells of each operation how far ahead its units' breaks are, were there no other before, and their slopes."""
    n = len(here)

    def seen(_: str, pieces: Pieces) -> None:
        for margins in pieces.margins():
            if len(margins) % (2 * n):
                raise CaptureError("a piecewise-linear operation does not have the samples on its first axis")
            now, then = margins.reshape(2, n, -1)
            slopes = then - now  # over the reach
            steps = -now / slopes * reach
            see(torch.where((steps > AT_BORDER) & torch.isfinite(steps), steps, torch.inf), slopes)

    model(torch.cat([here, here + reach * direction]), seen)


def _without_rounding(model: Callable[[Tensor, Any], Any], here: Tensor, direction: Tensor) -> Tensor:
    """How far ahead the nearest border is that is more than rounding.

    A unit that stays at its break all along the line is off it by rounding, to one side or the other. Its next break
    then lies elsewhere when it is looked for from another point; a true one does not, however small its slope.
    """
    found: list[Tensor] = []
    _show(model, here, direction, lambda steps, _: found.append(steps))
    again: list[Tensor] = []
    _show(model, here, direction, lambda steps, _: again.append(steps), reach=_ELSEWHERE)
    true = [torch.where((a - b).abs() <= 1e-3 * a, a, torch.inf) for a, b in zip(found, again, strict=True)]
    return torch.stack([steps.amin(1) for steps in true]).amin(0)


def _in_double(model: nn.Module) -> Callable[[Tensor, Any], Any]:
    """The model with its weights in float64, as a function of inputs, of which the first half decides the pieces."""
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    wide = {k: v.detach().double() if v.is_floating_point() else v for k, v in named.items()}

    def called(inputs: Tensor, see: Any) -> Any:
        follower = Follower(see, ahead=True)
        try:
            with follower:
                return functional_call(model, wide, (follower.follow(inputs),))
        except RuntimeError as error:
            raise CaptureError(
                f"{type(model).__name__} cannot be run in float64, in which lines are followed: {error}"
            ) from error

    return called
