"""A call of a model in which what a layer shows is seen, or changed."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from fnet_callbacks.capture.batches import call_model
from fnet_callbacks.capture.calls import first_tensor, with_first_tensor
from fnet_callbacks.capture.layers import Layer, module_of


def call_changed(
    model: nn.Module, layer: Layer, inputs: Any, change: Callable[[Tensor], Tensor | None]
) -> Any:
    """Calls a model while ``change`` sees the layer's activation, and puts what it returns in its place.

    Args:
        model: The model.
        layer: One of it.
        inputs: See ``capture.batches.call_model``.
        change: From the activation to what takes its place; None leaves it.
    """
    calls = 0
    module = module_of(model, layer.module)

    def changed(value: Any) -> Any:
        nonlocal calls
        calls += 1
        tensor = first_tensor(value)
        if (calls - 1) % layer.n_calls != layer.call or tensor is None:
            return None
        found = change(tensor)
        if found is None:
            return None
        return with_first_tensor(value, found, given_by=None if layer.takes_input else module)

    handle = (
        module.register_forward_pre_hook(lambda _, arguments: changed(arguments))
        if layer.takes_input
        else module.register_forward_hook(lambda _, __, output: changed(output))
    )
    with handle:
        return call_model(model, inputs)
