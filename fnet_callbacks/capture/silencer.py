"""Units that are silenced in a forward pass."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fnet_callbacks.capture.calls import first_tensor, with_first_tensor
from fnet_callbacks.capture.layers import Layer, module_of


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
        by_module: dict[str, dict[int, tuple[Layer, Tensor]]] = {}
        for layer, own in zip(self._layers, units, strict=True):
            if len(own):
                by_module.setdefault(layer.module, {})[layer.call] = layer, torch.from_numpy(np.asarray(own))
        with contextlib.ExitStack() as handles:
            for name, calls in by_module.items():
                handles.callback(self._attach(module_of(self._module, name), calls).remove)
            yield

    @staticmethod
    def _attach(module: nn.Module, calls: dict[int, tuple[Layer, Tensor]]) -> Any:
        seen: Counter[str] = Counter()
        some = next(iter(calls.values()))[0]

        def silence(value: Any) -> Any:
            call = seen["calls"] % some.n_calls
            seen["calls"] += 1
            tensor = first_tensor(value)
            if call not in calls or tensor is None:
                return value
            layer, units = calls[call]
            zeroed = _zeroed(tensor, layer.unit_axis, units.to(tensor.device))
            return with_first_tensor(value, zeroed, given_by=None if some.takes_input else module)

        if some.takes_input:
            return module.register_forward_pre_hook(lambda _, arguments: silence(arguments))
        return module.register_forward_hook(lambda _, __, output: silence(output))


def _zeroed(activation: Tensor, unit_axis: int, units: Tensor) -> Tensor:
    if not activation.is_quantized:
        return activation.index_fill(unit_axis, units, 0)
    values = activation.dequantize().index_fill(unit_axis, units, 0)
    return torch.quantize_per_tensor(
        values, activation.q_scale(), activation.q_zero_point(), activation.dtype
    )
