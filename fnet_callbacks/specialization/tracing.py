"""A model as a graph of its calls, of which it is known what does not depend on the input."""

import inspect
from typing import Any

import torch
from torch import Tensor, fx, nn

# What asks an input for its shape and the like, and tensors that are made from that alone.
_ASK_FOR_SHAPE = {"size", "dim", "ndimension", "numel", "zeros_like", "ones_like", "full_like"} | {
    *("new_zeros", "new_ones", "new_full")
}
_SHAPES = {"shape", "ndim", "dtype", "device"}
# Of these the value is that of the first argument.
_SHAPED_AS = {"expand_as", "view_as", "reshape_as", "type_as", "to"}
_BAKED = "_tensor_constant"  # what torch.fx calls a tensor that was made while it traced


def symbolic_trace(model: nn.Module, inputs: Any) -> fx.GraphModule:
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
    before = _random_state()
    graph = _Tracer().trace(model, defaults)
    if not _equal(before, _random_state()):
        for node in graph.nodes:
            node.meta["is_random"] = str(node.target).startswith(_BAKED)
    return fx.GraphModule(model, graph, type(model).__name__)


def arguments(inputs: Any) -> tuple[Any, ...]:
    """What a model is called with, one after the other."""
    return tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)


class Shapes(fx.Interpreter):
    """Runs a traced model, and notes of each node what comes of it.

    In ``meta``: ``shape`` of a tensor, else None; ``is_several``, whether it is several tensors; ``value``, where it
    does not depend on the input (but for its shape) nor on chance, else it is not there; ``is_hooked``, whether a
    forward hook changes what a module returns; ``memory``, which a tensor shares with its views.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)  # no memory is used twice

    def run_node(self, n: fx.Node) -> Any:
        """See ``torch.fx.Interpreter``."""
        is_constant = _is_constant(n)
        before = _random_state() if is_constant else []
        self._node = n
        found = super().run_node(n)
        n.meta["shape"] = tuple(found.shape) if isinstance(found, Tensor) else None
        n.meta["is_several"] = isinstance(found, (tuple, list)) and any(isinstance(f, Tensor) for f in found)
        if isinstance(found, Tensor):
            n.meta["memory"] = found.untyped_storage()._cdata
        if is_constant and _equal(before, _random_state()):
            n.meta["value"] = found
        return found

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """See ``torch.fx.Interpreter``."""
        module = self.fetch_attr(target)
        if not (module._forward_hooks or module._forward_pre_hooks):
            return super().call_module(target, args, kwargs)
        own = [a.clone() if isinstance(a, Tensor) else a for a in args]
        found = super().call_module(target, args, kwargs)
        alone = module.forward(*own, **kwargs)  # after the hooks: one may have made the weights
        if isinstance(found, Tensor):
            is_same = found.shape == alone.shape and torch.allclose(found, alone, equal_nan=True)
            self._node.meta["is_hooked"] = not is_same
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


def name_of(node: fx.Node) -> str:
    """Of the function or method that is called, or the module's."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def used(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that the output depends on: what is only logged, say, is no part of the network.

    Of one that writes over memory of which another view is read later, ``writes_unseen`` is noted in ``meta``.
    """
    found: set[fx.Node] = set()
    place = {node: i for i, node in enumerate(graph.nodes)}
    for node in reversed(graph.nodes):
        changed = changed_by(node)
        views = [
            n for n in found if place[n] < place[node] and n.meta.get("memory") == node.meta.get("memory", -1)
        ]
        if changed and views:
            found.add(node)
            node.meta["writes_unseen"] = not set(views) <= set(changed)
        if node.op == "output" or node in found:
            found.update(node.all_input_nodes)
    return found


def changed_by(node: fx.Node) -> list[fx.Node]:
    """The nodes whose value an operation writes over: of ``h.mul_(2)`` that is ``h``, and what that wrote over."""
    found = []
    while node.op in ("call_method", "call_function") and node.all_input_nodes:
        name = name_of(node)
        if not name.endswith("_") or name.endswith("__"):
            break
        node = node.all_input_nodes[0]
        found.append(node)
    return found


def _is_constant(node: fx.Node) -> bool:
    """Whether a node's value does not depend on the input, as far as is known before it is made."""
    if node.op in ("placeholder", "output"):
        return False
    if node.op == "get_attr":
        return not node.meta.get("is_random", False)
    needed = node.all_input_nodes
    if node.op != "call_module":
        name = name_of(node)
        if name in _ASK_FOR_SHAPE or (name == "getattr" and node.args[1] in _SHAPES):
            needed = needed[1:]
        elif name in _SHAPED_AS:
            needed = needed[:1]
    return all("value" in n.meta for n in needed)


def _random_state() -> list[Tensor]:
    on_device = [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *on_device]


def _equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
