"""How what ranks have found is brought together: summed, gathered, or rank 0's alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fnet_callbacks.capture.trees import detached_copy, to_device
from fnet_callbacks.host import Host
from fnet_callbacks.metrics import RunningCorrelation


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts of a whole by their place in it, such as a batch's in the probe: rank 0 gets all of them.

    Attributes:
        own: This rank's, which can be pickled.
        device: Where rank 0 wants them.
    """

    own: Mapping[int, Any]
    device: torch.device

    def together(self, host: Host) -> list[Any]:
        """All parts in their order, on rank 0; this rank's elsewhere."""
        found = dict(self.own)
        if host.world_size > 1:
            everywhere = host.gather({place: _on_host(part) for place, part in found.items()})
            if host.is_global_zero:
                found = {
                    place: _moved(part, self.device)
                    for of_rank in everywhere
                    for place, part in of_rank.items()
                }
        return [found[place] for place in sorted(found)]


def _on_host(part: Any) -> Any:
    return _moved(part, torch.device("cpu"))


def _moved(part: Any, device: torch.device) -> Any:
    """A batch of tensors on another device."""
    if is_dataclass(part) and not isinstance(part, type):
        values = {f.name: _moved(getattr(part, f.name), device) for f in fields(part)}
        return replace(part, **values)
    return to_device(detached_copy(part), device)


@dataclass(frozen=True, slots=True)
class OfRankZero:
    """What rank 0 found of the whole; the other ranks found nothing.

    Attributes:
        value: What rank 0 found.
    """

    value: Any

    def together(self, host: Host) -> Any:
        """The value."""
        return self.value


@dataclass(frozen=True, slots=True)
class OfAllRanks:
    """The correlation of what all ranks saw, which every rank gets.

    Attributes:
        sums: This rank's, which torchmetrics brings together.
    """

    sums: RunningCorrelation

    def together(self, host: Host) -> np.ndarray:
        """The matrix, ``[N, N]``; a collective."""
        if not self.sums.update_called:
            self.sums.update(torch.empty(0, self.sums.num_units, dtype=torch.float32))
        return self.sums.correlation().cpu().numpy()


def bring_together(value: Any, host: Host) -> Any:
    """What the ranks have found, together; every rank calls it with values of the same form."""
    if hasattr(value, "together"):
        return value.together(host)
    if isinstance(value, Mapping):
        return {name: bring_together(part, host) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [bring_together(part, host) for part in value]
    if isinstance(value, Tensor):
        value = value.detach()
        # NumPy has no bfloat16.
        return host.sum_over_ranks(value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if isinstance(value, bool | int | float | np.generic | np.ndarray):
        if host.world_size == 1:
            return np.asarray(value)
        return host.sum_over_ranks(torch.as_tensor(np.asarray(value))).numpy()  # float64 stays that
    return value
