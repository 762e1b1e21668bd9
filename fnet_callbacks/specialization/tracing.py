"""A model as a graph of its calls."""

import inspect
from typing import Any

import torch
from torch import Tensor, fx, nn


def trace(model: nn.Module, inputs: Any) -> fx.GraphModule:
    """The model, traced as it is called with some inputs.

    Parameters of ``forward`` beyond the inputs have their defaults; of a compiled module it is the original; a part of
    a ``Sequential`` that was cut out for a call, such as ``net[:-1](x)``, is traced through.

    Args:
        model: In eval mode.
        inputs: A tensor, or a tuple or list of what it is called with.

    Raises:
        Exception: Whatever the model's own code, or torch.fx, raises on a value that is not known.
    """
    model = getattr(model, "_orig_mod", model)
    parameters = list(inspect.signature(model.forward).parameters.values())
    left = parameters[len(arguments(inputs)) :]
    defaults = {p.name: p.default for p in left if p.default is not p.empty}
    return fx.GraphModule(model, _Tracer().trace(model, defaults), type(model).__name__)


def arguments(inputs: Any) -> tuple[Any, ...]:
    """What a model is called with, one after the other."""
    return tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)


class Shapes(fx.Interpreter):
    """Runs a traced model, and notes of each node the shape of its value, or that it is several tensors."""

    def run_node(self, n: fx.Node) -> Any:
        """See ``torch.fx.Interpreter``."""
        found = super().run_node(n)
        n.meta["shape"] = tuple(found.shape) if isinstance(found, Tensor) else None
        n.meta["is_several"] = isinstance(found, (tuple, list)) and any(isinstance(f, Tensor) for f in found)
        return found

    def noted(self, inputs: Any) -> fx.GraphModule:
        """The traced model, with all noted."""
        with torch.no_grad():
            self.run(*arguments(inputs))
        return self.module  # type: ignore[return-value]


class _Tracer(fx.Tracer):
    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if not any(m is known for known in self.root.modules()):
            return forward(*args, **kwargs)  # what it calls is known
        return super().call_module(m, forward, args, kwargs)
