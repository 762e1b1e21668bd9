"""A model from a lesioned layer on: traced and cut there where that is the same, else run as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from fnet_callbacks.capture.layers import Layer, plain_name
from fnet_callbacks.errors import CaptureError
from fnet_callbacks.specialization.calling import call_changed
from fnet_callbacks.specialization.tracing import arguments, symbolic_trace


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a batch: the layer's activation, and what else the rest of the model needs.

    Attributes:
        shown: The activation.
        output: What the model returned; None where it was not run as a whole.
        inputs: What it was called with; likewise.
        values: Of a traced model, of the nodes that the rest needs.
    """

    shown: Tensor
    output: Any = None
    inputs: Any = None
    values: dict[fx.Node, Any] = field(default_factory=dict)


class _Uncut:
    """Runs the whole model on inputs that are stacked, one copy for each lesion."""

    def __init__(self, model: nn.Module, layer: Layer) -> None:
        self._model, self._layer = model, layer
        self.unit_axis = layer.unit_axis

    def prepare(self, inputs: Any) -> State:
        found: list[Tensor] = []
        output = call_changed(
            self._model, self._layer, inputs, lambda shown: found.append(shown.detach().clone())
        )
        return State(found[0], output, inputs)

    def run(self, state: State, units: Sequence[Tensor], replacement: Tensor) -> Any:
        n = len(state.shown)
        stacked = apply_to_collection(
            state.inputs,
            Tensor,
            lambda t: t.repeat(len(units), *[1] * (t.dim() - 1)) if t.dim() and len(t) == n else t,
        )

        def lesion(shown: Tensor) -> Tensor:
            pairs = zip(shown.split(n), units, strict=True)
            return torch.cat([_lesioned(part, own, replacement, self._layer) for part, own in pairs])

        return call_changed(self._model, self._layer, stacked, lesion)


class _Keeping(fx.Interpreter):
    """Keeps the values of some nodes, as they were before a later operation could change them in place."""

    kept: dict[fx.Node, Any]

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self.kept:
            self.kept[n] = value.clone() if isinstance(value, Tensor) else value
        return value


class Cut:
    """Runs a traced model from a node on."""

    def __init__(self, traced: fx.GraphModule, cut: fx.Node, layer: Layer, *, by_change: bool) -> None:
        self._interpreter = _Keeping(traced)
        self._cut, self._layer = cut, layer
        self.unit_axis = layer.unit_axis
        self._linear = self._linear_after(cut) if by_change else None
        self._after = list(_dependents(traced.graph, self._linear or cut))
        read_nodes = {n for node in self._after for n in node.all_input_nodes}
        self._needed = read_nodes - set(self._after) | {cut} | ({self._linear} if self._linear else set())
        varying = {
            d for p in traced.graph.nodes if p.op == "placeholder" for d in (p, *_dependents(traced.graph, p))
        }
        self._varying = self._needed & varying

    def prepare(self, inputs: Any) -> State:
        """Runs the model once, and keeps what its rest needs."""
        if isinstance(inputs, Mapping):
            raise _NotCutError
        self._interpreter.kept = dict.fromkeys(self._needed)
        self._interpreter.run(*arguments(inputs))
        values = self._interpreter.kept
        shown = values[self._cut]
        if not isinstance(shown, Tensor) or (self._is_dense and shown.dim() != 2):
            raise _NotCutError
        for node in self._varying - {self._cut}:
            if (
                not isinstance(values[node], Tensor)
                or not values[node].dim()
                or len(values[node]) != len(shown)
            ):
                raise _NotCutError
        return State(shown, values=values)

    def run(self, state: State, units: Sequence[Tensor], replacement: Tensor) -> Any:
        """What the model returns with each group of units replaced, one after the other."""
        times = len(units)
        values: dict[fx.Node, Any] = {}
        for node, value in state.values.items():
            if node not in (self._cut, self._linear):
                values[node] = (
                    value.repeat(times, *[1] * (value.dim() - 1)) if node in self._varying else value
                )
        if self._linear is None:
            values[self._cut] = torch.cat(
                [_lesioned(state.shown, u, replacement, self._layer) for u in units]
            )
        else:
            brought = self._by_product if self._is_dense else self._by_convolution
            values[self._linear] = brought(state, units, replacement)
        for node in self._after:
            if node.op == "output":
                found = map_arg(node.args[0], values.__getitem__)
                return dict(found) if isinstance(found, dict) else found  # as the model's own
            arguments, keywords = (map_arg(part, values.__getitem__) for part in (node.args, node.kwargs))
            values[node] = getattr(self._interpreter, node.op)(node.target, arguments, keywords)
            for read in self._interpreter.user_to_last_uses.get(node, ()):
                values.pop(read, None)
        raise AssertionError("a traced graph ends with its output")

    def _linear_after(self, cut: fx.Node) -> fx.Node | None:
        """The linear layer or convolution that alone reads the cut, past dropout; None where another reads it too."""
        node = cut
        while len(node.users) == 1:
            node = next(iter(node.users))
            module = self._interpreter.submodules.get(str(node.target)) if node.op == "call_module" else None
            if isinstance(module, nn.Linear) and self._layer.unit_axis == 1:
                return node
            if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and self._layer.unit_axis == 1:
                plain = module.groups == 1 and module.padding_mode == "zeros"
                return node if plain and not isinstance(module.padding, str) else None
            if not isinstance(module, (nn.Identity, nn.modules.dropout._DropoutNd)):
                return None
        return None

    @property
    def _is_dense(self) -> bool:
        """Whether the changes are brought by a linear layer, whose inputs are then the units and nothing else."""
        return self._linear is not None and isinstance(
            self._interpreter.submodules[str(self._linear.target)], nn.Linear
        )

    def _by_product(self, state: State, units: Sequence[Tensor], replacement: Tensor) -> Tensor:
        """What the linear layer makes of each lesion: one product of low rank for each, all in one call."""
        assert self._linear is not None
        module: Any = self._interpreter.submodules[str(self._linear.target)]
        longest = max(map(len, units))
        index = torch.stack([nn.functional.pad(u, (0, longest - len(u))) for u in units])
        sizes = torch.tensor([len(u) for u in units], device=index.device)
        is_own = torch.arange(longest, device=index.device) < sizes[:, None]
        change = (replacement - state.shown).index_select(1, index.flatten()).unflatten(1, index.shape)
        weight = module.weight.index_select(1, index.flatten()).unflatten(1, index.shape) * is_own
        whole = state.values[self._linear].expand(len(units), -1, -1)
        return torch.baddbmm(whole, change.transpose(0, 1), weight.permute(1, 2, 0)).flatten(0, 1)

    def _by_convolution(self, state: State, units: Sequence[Tensor], replacement: Tensor) -> Tensor:
        """The same of a convolution, one lesion after the other."""
        assert self._linear is not None
        module: Any = self._interpreter.submodules[str(self._linear.target)]
        whole, shown = state.values[self._linear], state.shown
        convolve = {3: nn.functional.conv1d, 4: nn.functional.conv2d, 5: nn.functional.conv3d}[shown.dim()]
        found = []
        for own in units:
            if not len(own):
                found.append(whole)
                continue
            change = replacement.index_select(1, own) - shown.index_select(1, own)
            weight = module.weight.index_select(1, own)
            brought = convolve(change, weight, None, module.stride, module.padding, module.dilation)
            found.append(whole + brought)
        return torch.cat(found)


Tail = _Uncut | Cut


class _NotCutError(Exception):
    """The rest of the model needs more of the inputs than can be stacked."""


def prepared(model: nn.Module, layer: Layer, batches: Sequence[Any]) -> tuple[Tail, list[State], bool]:
    """The model cut at the layer where it can be, what is known of each batch, and whether lesions can be stacked."""
    whole = _Uncut(model, layer)
    first = whole.prepare(batches[0])
    if first.shown.is_quantized:
        raise CaptureError(
            f"layer {layer.name} shows quantised values, whose groups of units are not lesioned"
        )
    for by_change in (True, False):
        if (tail := _cut(model, layer, batches[0], by_change=by_change)) is None:
            break
        try:
            states = [tail.prepare(batch) for batch in batches]
            if _is_right(tail, states[0], first.output, beside=True):
                return tail, states, True
            if _is_right(tail, states[0], first.output, beside=False):
                return tail, states, False
        except Exception:  # what a model does with what it is not called with by the user
            continue
    states = [first, *(whole.prepare(batch) for batch in batches[1:])]
    return whole, states, _is_right(whole, first, first.output, beside=True)


def _is_right(tail: Tail, state: State, output: Any, *, beside: bool) -> bool:
    """Whether the rest of the model returns without a lesion what the model does, but for rounding.

    Traced it may be another model than the one that is called. With a lesion of all units stacked ``beside`` it may be
    another where samples have to do with each other.
    """
    none = torch.empty(0, dtype=torch.int64, device=state.shown.device)
    every = torch.arange(state.shown.shape[tail.unit_axis], device=state.shown.device)
    found = _tensors(tail.run(state, [none, every] if beside else [none], torch.zeros_like(state.shown[:1])))
    expected = _tensors(output)
    return len(found) == len(expected) and all(
        len(a) == len(b) * (1 + beside)
        and torch.allclose(
            a[: len(b)].float(),
            b.float(),
            rtol=1e-3,
            atol=1e-3 * float(b.float().abs().max()),
            equal_nan=True,
        )
        for a, b in zip(found, expected, strict=True)
        if b.dim() and b.numel()
    )


def _tensors(output: Any) -> list[Tensor]:
    found: list[Tensor] = []
    apply_to_collection(output, Tensor, lambda t: found.append(t))
    return found


def _cut(model: nn.Module, layer: Layer, inputs: Any, *, by_change: bool) -> Cut | None:
    """The model cut at a layer; None where it cannot be."""
    try:
        traced = symbolic_trace(model, inputs)
    except Exception:  # whatever the model's own code raises on a proxy
        return None
    name = plain_name(layer.module)
    calls = [n for n in traced.graph.nodes if n.op == "call_module" and n.target == name]
    if len(calls) != layer.n_calls:
        return None
    node = calls[layer.call]
    if layer.takes_input:
        node = node.all_input_nodes[0]
        if len(node.users) > 1:  # what another reads is not lesioned
            return None
    return Cut(traced, node, layer, by_change=by_change)


def _dependents(graph: fx.Graph, node: fx.Node) -> Iterator[fx.Node]:
    """The nodes that follow from one, in their order."""
    found = {node}
    for other in graph.nodes:
        if other is not node and not found.isdisjoint(other.all_input_nodes):
            found.add(other)
            yield other


def _lesioned(shown: Tensor, units: Tensor, replacement: Tensor, layer: Layer) -> Tensor:
    if not len(units):
        return shown
    place = (slice(None),) * (layer.unit_axis % shown.dim())
    found = shown.clone()
    found[(*place, units)] = replacement[(*place, units)].expand_as(found[(*place, units)])
    return found
