"""Units that are silenced in a forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from fnet_callbacks.capture.hooks import LayerHooks
from fnet_callbacks.capture.layers import Layer


class Silencer:
    """Sets units of watched layers to zero, whatever they would have shown.

    Args:
        module: The model that has the layers.
        layers: The layers; of a module that is called several times those calls that are among them.
    """

    def __init__(self, module: nn.Module, layers: Sequence[Layer]) -> None:
        self._module = module
        self._layers = list(layers)

    @contextlib.contextmanager
    def silenced(self, units: Sequence[np.ndarray]) -> Iterator[None]:
        """Silences units for the length of a block.

        Args:
            units: Of each layer the units, L arrays of indices; an empty one for none.
        """
        kept = [
            (layer, torch.from_numpy(np.asarray(own))) for layer, own in zip(self._layers, units, strict=True)
        ]
        kept = [(layer, own) for layer, own in kept if len(own)]

        def silence(place: int, tensor: Tensor) -> Tensor:
            layer, own = kept[place]
            return _zeroed(tensor, layer.unit_axis, own.to(tensor.device))

        with LayerHooks(self._module, [layer for layer, _ in kept]).changing(silence):
            yield


def _zeroed(activation: Tensor, unit_axis: int, units: Tensor) -> Tensor:
    if not activation.is_quantized:
        return activation.index_fill(unit_axis, units, 0)
    values = activation.dequantize().index_fill(unit_axis, units, 0)
    return torch.quantize_per_tensor(
        values, activation.q_scale(), activation.q_zero_point(), activation.dtype
    )
