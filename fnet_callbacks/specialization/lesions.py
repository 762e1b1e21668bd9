"""What a classifier gets wrong when groups of units are lesioned, many groups at once.

The activations up to the lesioned layer are computed once, and the rest of the model is run on all lesions stacked.
Where the model cannot be cut there, the whole of it is run on stacked inputs, and a hook lesions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from fnet_callbacks.attacks import correct_predictions
from fnet_callbacks.capture.layers import Layer
from fnet_callbacks.errors import CaptureError, FnetError
from fnet_callbacks.specialization.calling import call_changed
from fnet_callbacks.specialization.tracing import trace

Replacement = Literal["zero", "mean", "resample"]
_MOST_SAMPLES = 8192  # that are stacked


@dataclass(frozen=True, slots=True)
class LabelledBatch:
    """What a model is called with, as `capture.batches.call_model` has it, and the class of each sample, ``[S]``."""

    inputs: Any
    labels: Tensor


class Lesions:
    """Lesions of one layer of a classifier.

    The caller sees to it that the model is in eval mode, that gradients are off and that nothing it does lasts; see
    ``capture.isolation``. Weights are never changed.

    Args:
        model: The classifier, or what comes before ``to_logits``.
        layer: The lesioned layer, with its samples on the first axis and not folded.
        batches: The samples; at least one batch.
        num_classes: C.
        replacement: What a lesioned unit shows: 0, its mean over the samples (at each position), or, at each sample,
            what it shows at another one, drawn once.
        to_logits: From what the model returns to logits ``[S, C]``; None where it returns them.
        seed: Of the draw.

    Raises:
        FnetError: ``replacement`` is unknown, there is no batch, or the layer cannot be lesioned.

    Reference: the lesions are those of Hod et al. (2021), arXiv 2110.08058, by zeroed outputs.
    Cost: one pass over the samples and the activations of the layer in memory.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: Layer,
        batches: Sequence[LabelledBatch],
        *,
        num_classes: int,
        replacement: Replacement = "zero",
        to_logits: Callable[[Any], Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        if replacement not in get_args(Replacement):
            raise FnetError(
                f"`replacement={replacement!r}` should be one of {', '.join(get_args(Replacement))}"
            )
        if not batches:
            raise FnetError("`batches` are empty; there should be one at least")
        if layer.batch_axis != 0 or layer.is_folded:
            raise CaptureError(
                f"layer {layer.name}: its samples are not on the first axis, so that it is not lesioned"
            )
        self._layer, self._batches, self._num_classes = layer, batches, num_classes
        self._to_logits = to_logits or (lambda output: output)
        self._tail, self._states = _prepared(model, layer, batches)
        self._replacements = self._replaced(replacement, seed)

    @property
    def is_cut(self) -> bool:
        """Whether the model is run from the layer on, and not as a whole."""
        return isinstance(self._tail, _Cut)

    @property
    def n_samples(self) -> int:
        """S."""
        return sum(len(batch.labels) for batch in self._batches)

    def intact(self) -> np.ndarray:
        """Accuracy without a lesion, ``[C]``; NaN for a class that no sample has."""
        return self.accuracies([np.empty(0, np.int64)])[0]

    def accuracies(self, groups: Sequence[np.ndarray]) -> np.ndarray:
        """Accuracy in each class with each group of units lesioned.

        Args:
            groups: Indices of units, G arrays.

        Returns:
            ``[G, C]`` float64; NaN for a class that no sample has.

        Raises:
            FnetError: A unit is not of the layer.

        Cost: G times the pass from the layer on; of the first linear layer or convolution after it only what the
            lesioned units bring to it.
        """
        units = [torch.from_numpy(np.asarray(group, np.int64)) for group in groups]
        if any(len(u) and (u.min() < 0 or u.max() >= self._layer.n_units) for u in units):
            raise FnetError(f"`groups`: layer {self._layer.name} has units 0 to {self._layer.n_units - 1}")
        hits = torch.zeros(len(groups), self._num_classes, dtype=torch.float64)
        totals = torch.zeros(self._num_classes, dtype=torch.float64)
        for batch, state, replacement in zip(self._batches, self._states, self._replacements, strict=True):
            labels, n = batch.labels.cpu(), len(batch.labels)
            totals.index_add_(0, labels, torch.ones(n, dtype=torch.float64))
            step = max(1, _MOST_SAMPLES // n)
            for start in range(0, len(groups), step):
                own = [u.to(batch.labels.device) for u in units[start : start + step]]
                logits = self._to_logits(self._tail.run(state, own, replacement))
                right = correct_predictions(logits, batch.labels.repeat(len(own))).view(len(own), n).cpu()
                hits[start : start + step].index_add_(1, labels, right.double())
        return (hits / torch.where(totals > 0, totals, torch.nan)).numpy()

    def _replaced(self, replacement: Replacement, seed: int) -> list[Tensor]:
        shown = [state.shown for state in self._states]
        if replacement == "zero":
            return [torch.zeros_like(values[:1]) for values in shown]
        if replacement == "mean":
            sums = torch.stack([values.sum(0, keepdim=True) for values in shown])
            return [sums.sum(0) / sum(map(len, shown))] * len(shown)
        n = sum(map(len, shown))
        if n < 2:
            raise FnetError("`replacement='resample'` needs two samples at least")
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        other = torch.empty_like(order)
        other[order] = order.roll(1)  # none is its own
        return list(torch.cat(shown)[other.to(shown[0].device)].split([len(values) for values in shown]))


@dataclass(frozen=True, slots=True)
class _State:
    """What is known of a batch: the layer's activation, and what else the rest of the model needs."""

    shown: Tensor
    inputs: Any = None
    values: dict[fx.Node, Any] = field(default_factory=dict)


class _Whole:
    """Runs the whole model on inputs that are stacked, one copy for each lesion."""

    def __init__(self, model: nn.Module, layer: Layer) -> None:
        self._model, self._layer = model, layer

    def prepare(self, inputs: Any) -> _State:
        found: list[Tensor] = []
        self._called(inputs, lambda shown: found.append(shown.detach().clone()))
        return _State(found[0], inputs)

    def run(self, state: _State, units: Sequence[Tensor], replacement: Tensor) -> Any:
        n = len(state.shown)
        stacked = apply_to_collection(
            state.inputs,
            Tensor,
            lambda t: t.repeat(len(units), *[1] * (t.dim() - 1)) if t.dim() and len(t) == n else t,
        )

        def lesion(shown: Tensor) -> Tensor:
            pairs = zip(shown.split(n), units, strict=True)
            return torch.cat([_lesioned(part, own, replacement, self._layer) for part, own in pairs])

        return self._called(stacked, lesion)

    def _called(self, inputs: Any, change: Callable[[Tensor], Tensor | None]) -> Any:
        return call_changed(self._model, self._layer, inputs, change)


class _Keeping(fx.Interpreter):
    """Keeps the values of some nodes, as they were before a later operation could change them in place."""

    kept: dict[fx.Node, Any]

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self.kept:
            self.kept[n] = value.clone() if isinstance(value, Tensor) else value
        return value


class _Cut:
    """Runs a traced model from a node on."""

    def __init__(self, traced: fx.GraphModule, cut: fx.Node, layer: Layer, *, by_change: bool) -> None:
        self._interpreter = _Keeping(traced)
        self._cut, self._layer = cut, layer
        self._linear = self._linear_after(cut) if by_change else None
        self._after = list(_dependents(traced.graph, self._linear or cut))
        asked = {n for node in self._after for n in node.all_input_nodes}
        self._needed = asked - set(self._after) | {cut} | ({self._linear} if self._linear else set())
        varying = {
            d for p in traced.graph.nodes if p.op == "placeholder" for d in (p, *_dependents(traced.graph, p))
        }
        self._varying = self._needed & varying

    def prepare(self, inputs: Any) -> _State:
        if isinstance(inputs, Mapping):
            raise _NotCutError
        self._interpreter.kept = dict.fromkeys(self._needed)
        self._interpreter.run(*(inputs if isinstance(inputs, (tuple, list)) else (inputs,)))
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
        return _State(shown, None, values)

    def run(self, state: _State, units: Sequence[Tensor], replacement: Tensor) -> Any:
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
            whole = state.values[self._linear]
            values[self._linear] = torch.cat(
                [whole + self._brought(state.shown, u, replacement) for u in units]
            )
        for node in self._after:
            if node.op == "output":
                return map_arg(node.args[0], values.__getitem__)
            arguments, keywords = (map_arg(part, values.__getitem__) for part in (node.args, node.kwargs))
            values[node] = getattr(self._interpreter, node.op)(node.target, arguments, keywords)
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

    def _brought(self, shown: Tensor, units: Tensor, replacement: Tensor) -> Tensor | float:
        if not len(units):
            return 0.0
        assert self._linear is not None
        module: Any = self._interpreter.submodules[str(self._linear.target)]
        change = replacement.index_select(1, units) - shown.index_select(1, units)
        weight = module.weight.index_select(1, units)
        if isinstance(module, nn.Linear):
            return change @ weight.T
        convolve = {3: nn.functional.conv1d, 4: nn.functional.conv2d, 5: nn.functional.conv3d}[shown.dim()]
        return convolve(change, weight, None, module.stride, module.padding, module.dilation)


_Tail = _Whole | _Cut


class _NotCutError(Exception):
    """The rest of the model needs more of the inputs than can be stacked."""


def _prepared(model: nn.Module, layer: Layer, batches: Sequence[LabelledBatch]) -> tuple[_Tail, list[_State]]:
    """The model cut at the layer where it can be, and what is known of each batch."""
    for by_change in (True, False):
        if (tail := _cut(model, layer, by_change=by_change)) is not None:
            try:
                return tail, [tail.prepare(batch.inputs) for batch in batches]
            except _NotCutError:
                continue
    whole = _Whole(model, layer)
    return whole, [whole.prepare(batch.inputs) for batch in batches]


def _cut(model: nn.Module, layer: Layer, *, by_change: bool) -> _Cut | None:
    """The model cut at a layer; None where it cannot be."""
    try:
        traced = trace(model)
    except Exception:  # whatever the model's own code raises on a proxy
        return None
    calls = [n for n in traced.graph.nodes if n.op == "call_module" and n.target == layer.module]
    if len(calls) != layer.n_calls:
        return None
    node = calls[layer.call]
    if layer.takes_input:
        node = node.all_input_nodes[0]
        if len(node.users) > 1:  # what another reads is not lesioned
            return None
    return _Cut(traced, node, layer, by_change=by_change)


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
