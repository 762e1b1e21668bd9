"""A model as a graph of its calls."""

from typing import Any

from torch import fx, nn


def trace(model: nn.Module) -> fx.GraphModule:
    """The model, traced; also through a part of a ``Sequential`` that was cut out for a call, such as ``net[:-1](x)``.

    Raises:
        Exception: Whatever the model's own code, or torch.fx, raises on a value that is not known.
    """
    return fx.GraphModule(model, _Tracer().trace(model), type(model).__name__)


class _Tracer(fx.Tracer):
    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if not any(m is known for known in self.root.modules()):
            return forward(*args, **kwargs)  # what it calls is known
        return super().call_module(m, forward, args, kwargs)
