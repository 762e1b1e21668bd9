"""A call of a model in which what a layer shows is seen, or changed."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from fnet_callbacks.capture.batches import call_model
from fnet_callbacks.capture.hooks import LayerHooks
from fnet_callbacks.capture.layers import Layer


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
    with LayerHooks(model, [layer]).changing(lambda _, tensor: change(tensor)):
        return call_model(model, inputs)
