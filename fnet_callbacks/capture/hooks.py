"""The hook on the calls of layers: what they show is seen, or changed, for the length of a block."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fnet_callbacks.capture.calls import first_tensor, with_first_tensor
from fnet_callbacks.capture.layers import Layer, module_of


class LayerHooks:
    """Hooks on layers, by the calls of their modules.

    A module that is called several times in a forward pass has its calls counted; after the last the next pass begins.
    Calls in a backward pass, in which checkpointed activations are computed once more, are passed by.

    Args:
        model: The model that has the layers.
        layers: The layers, L; of a module that is called several times those calls that are among them.
    """

    def __init__(self, model: nn.Module, layers: Sequence[Layer]) -> None:
        self._model = model
        self._layers = list(layers)
        self._of_module: dict[str, dict[int, int]] = defaultdict(dict)
        for i, layer in enumerate(self._layers):
            self._of_module[layer.module][layer.call] = i
        self._counts: Counter[str] = Counter()

    def begin_pass(self) -> None:
        """Counts calls anew, wherever the last pass ended."""
        self._counts.clear()

    @contextlib.contextmanager
    def attached(self, act: Callable[[int, Any], Any]) -> Iterator[None]:
        """Keeps the hooks on the model for the length of a block.

        Args:
            act: Called with the place of a layer, from 0 to L - 1, and what its module returns, or the tuple of what it
                is given where the layer takes the input; what it returns takes the place of that, None leaves it.
        """
        with contextlib.ExitStack() as handles:
            for name, places in self._of_module.items():
                handles.callback(self._hook(name, places, act).remove)
            yield

    @contextlib.contextmanager
    def changing(self, change: Callable[[int, Tensor], Tensor | None]) -> Iterator[None]:
        """The same for the tensor that a layer shows: the first of several, padded where it is packed.

        Args:
            change: Called with the place of a layer and its tensor; what it returns takes the tensor's place, None
                leaves it.
        """

        def act(place: int, value: Any) -> Any:
            tensor = first_tensor(value)
            found = None if tensor is None else change(place, tensor)
            if found is None:
                return None
            layer = self._layers[place]
            giver = None if layer.takes_input else module_of(self._model, layer.module)
            return with_first_tensor(value, found, given_by=giver)

        with self.attached(act):
            yield

    def _hook(self, name: str, places: dict[int, int], act: Callable[[int, Any], Any]) -> Any:
        module = module_of(self._model, name)
        some = self._layers[next(iter(places.values()))]

        def on_call(value: Any) -> Any:
            if _is_in_backward():
                return None
            # A training step may make several passes.
            call = self._counts[name] % some.n_calls
            self._counts[name] += 1
            return act(places[call], value) if call in places else None

        if some.takes_input:
            return module.register_forward_pre_hook(lambda _, arguments: on_call(arguments))
        return module.register_forward_hook(lambda _, __, output: on_call(output))


def _is_in_backward() -> bool:
    """Whether a backward pass is under way."""
    return torch._C._current_graph_task_id() != -1
