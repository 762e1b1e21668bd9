"""What the entries of a value are: nodes with a factor each; and the weights between those that a layer joins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from fnet_callbacks.errors import CaptureError


@dataclass(frozen=True, slots=True)
class Wires:
    """What the entries of a tensor along its unit axis are.

    Attributes:
        axis: Of the units.
        nodes: Of each entry.
        gains: What each is multiplied by, signed.
        value: Of which node of the trace they multiply the value.
        layer: Whose fresh output this is, so that a factor may be folded into the weights to it.
        sole: Of which layer this is all that is read, so that what a sum takes is.
    """

    axis: int
    nodes: np.ndarray
    gains: np.ndarray
    value: fx.Node
    layer: int | None = None
    sole: int | None = None


@dataclass(frozen=True, slots=True)
class Entries:
    """An input whose entries have no nodes yet: along which axis they are units is known where they are read.

    Attributes:
        of: The input.
        scale: What its entries are multiplied by, to be broadcast over the value.
        value: Of which node of the trace that multiplies the value.
    """

    of: fx.Node
    scale: Tensor
    value: fx.Node


Followed = Wires | Entries


def weights_between(name: str, module: Any) -> np.ndarray:
    """Absolute weights of a linear layer or a convolution, ``[out, in]``, those of a kernel summed.

    Raises:
        CaptureError: They are not all finite; the message has the name.
    """
    weights = module.weight.detach().abs().double().cpu()
    if not torch.isfinite(weights).all():
        raise CaptureError(f"`graph='weights'`: the weights of {name} are not all finite")
    return weights.numpy() if isinstance(module, nn.Linear) else _kernels(weights, module)


def _kernels(weights: Tensor, module: Any) -> np.ndarray:
    """Sum over a kernel for each pair of channels, ``[out, in]``; 0 for those that groups keep apart."""
    sums = weights.flatten(2).sum(2).numpy()
    groups = module.groups
    if module.transposed:  # [in, out / groups]
        found = np.zeros((module.in_channels, module.out_channels))
        for g, rows in enumerate(np.split(np.arange(module.in_channels), groups)):
            width = module.out_channels // groups
            found[rows, g * width : (g + 1) * width] = sums[rows]
        return found.T
    found = np.zeros((module.out_channels, module.in_channels))
    for g, rows in enumerate(np.split(np.arange(module.out_channels), groups)):
        width = module.in_channels // groups
        found[rows, g * width : (g + 1) * width] = sums[rows]
    return found
