"""The graph of a network's weights: units as nodes, absolute weights as edges, for any model that `torch.fx` traces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from torch import Tensor, fx, nn

from fnet_callbacks.errors import CaptureError
from fnet_callbacks.specialization.passing import PASSING, PASSING_OPERATIONS
from fnet_callbacks.specialization.tracing import Shapes, trace

INPUT = "input"


@dataclass(frozen=True, slots=True)
class Edges:
    """The weights of one call of one layer, those between its inputs and its units.

    Attributes:
        sources: Node of each weight's input, ``[E]``.
        targets: Node of its unit, ``[E]``.
        weights: Absolute, ``[E]`` float64.
    """

    sources: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, slots=True)
class WeightGraph:
    """Units as nodes, absolute weights as edges.

    Attributes:
        layers: The layer of each node, ``[N]``, an index of ``names``; that of the first where a residual sum has made
            units of several layers one node.
        names: Of the layers: ``"input"``, then the modules that have weights, in the order of their calls, with ``#k``
            for the k-th call of one that is called several times.
        edges: Of each layer but the input.
        units: By name of a module, the nodes that its output's units are, ``[n_units]``, where these are followed; of
            a module that is called several times by ``name#k``.
    """

    layers: np.ndarray
    names: Sequence[str]
    edges: Sequence[Edges] = field(repr=False)
    units: Mapping[str, np.ndarray] = field(repr=False)

    @property
    def n_nodes(self) -> int:
        """Number of nodes, N."""
        return len(self.layers)

    def adjacency(self, generator: np.random.Generator | None = None) -> csr_array:
        """Weights of the edges, ``[N, N]``, symmetric; weights between the same two nodes add up.

        Args:
            generator: Permutes the weights within each layer; None leaves them where they are.
        """
        shuffle = (lambda weights: weights) if generator is None else generator.permutation
        weights = np.concatenate([np.empty(0), *(shuffle(e.weights) for e in self.edges)])
        none = np.empty(0, np.int64)
        sources = np.concatenate([none, *(e.sources for e in self.edges)])
        targets = np.concatenate([none, *(e.targets for e in self.edges)])
        found = csr_array(coo_array((weights, (sources, targets)), shape=(self.n_nodes, self.n_nodes)))
        found.setdiag(0)  # a sum may have made both ends of a weight one node
        found = csr_array(found + found.T)
        found.eliminate_zeros()
        return found


def weight_graph(model: nn.Module, inputs: Any) -> WeightGraph:
    """The graph of a model's weights.

    A unit of a linear layer is a feature, of a convolution a channel; the edge between two of a convolution is the sum
    of the absolute weights of its kernel, and after a flattening that over the positions. Inputs are channels, or
    single entries where they are flattened before any weight. BatchNorm is folded: a running scale multiplies the
    weights into its channels, or, where something else reads these too, those out of them. Pooling, activation
    functions and dropout let units pass; a residual sum makes the units that it adds one node each; a concatenation
    sets units side by side.

    Args:
        model: Any module that `torch.fx` traces; its weights are read, nothing is changed.
        inputs: What it is called with, a tensor or a tuple; one sample is enough. It is called once, in eval mode and
            without gradients.

    Raises:
        CaptureError: The model cannot be traced, or an operation in it has no known way from units to units; the
            message names it.

    Reference: Hod et al. (2021), arXiv 2110.08058, section 2.1 of whose graphs this is the ``norm=1`` one, with the
        entrywise norm that the text has; Filan et al. (2021), arXiv 2103.03386.
    Cost: one forward pass; memory of one number for each pair of channels or features that a layer joins.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        traced = Shapes(trace(model, inputs)).noted(inputs)
    except Exception as error:  # whatever the model's own code raises on a proxy
        raise CaptureError(
            f"`graph='weights'`: {type(model).__name__} cannot be traced by torch.fx ({error}); graph='activations' "
            "needs no trace"
        ) from error
    finally:
        for module, mode in modes:
            module.training = mode
    return _Walk(traced).graph()


@dataclass(frozen=True, slots=True)
class _Wires:
    """What the entries of a tensor along its unit axis are: a node and a factor for each."""

    axis: int
    nodes: np.ndarray
    gains: np.ndarray
    layer: int | None = None  # whose fresh output this is, so that a BatchNorm may be folded into it
    entries_of: fx.Node | None = None  # the input whose entries these are, as long as they have no nodes


class _Walk:
    """Follows units through a traced model."""

    def __init__(self, traced: fx.GraphModule) -> None:
        self._traced = traced
        self._modules = dict(traced.named_modules())
        self._wires: dict[fx.Node, _Wires | None] = {}
        self._names: list[str] = []
        self._layer_of: list[np.ndarray] = []
        self._parent = np.empty(0, np.int64)
        self._edges: list[Edges] = []
        self._units: dict[str, np.ndarray] = {}
        called = Counter(str(n.target) for n in traced.graph.nodes if n.op == "call_module")
        self._repeated = {name for name, times in called.items() if times > 1}
        self._calls: Counter[str] = Counter()
        self._lost: set[fx.Node] = set()  # values that units run through, and are not followed
        self._inputs: dict[tuple[fx.Node, int], np.ndarray] = {}

    def graph(self) -> WeightGraph:
        used = _used(self._traced.graph)
        for node in self._traced.graph.nodes:
            if node in used:
                self._wires[node] = self._of(node)
        roots = self._root(np.arange(len(self._parent)))
        kept, place = np.unique(roots, return_inverse=True)
        layers = np.concatenate([np.empty(0, np.int64), *self._layer_of])[kept]
        edges = [replace(e, sources=place[e.sources], targets=place[e.targets]) for e in self._edges]
        return WeightGraph(
            layers, self._names, edges, {name: place[own] for name, own in self._units.items()}
        )

    def _of(self, node: fx.Node) -> _Wires | None:
        """The wires of a node's value; None where it is no tensor, or one that no unit runs through."""
        shape = _shape(node)
        if node.op == "placeholder":
            if shape is None or len(shape) < 2:
                return None
            n = shape[1]
            return _Wires(1, np.arange(n), np.ones(n), entries_of=node)
        if not self._lost.isdisjoint(node.all_input_nodes):
            raise self._refusal(node)
        inputs = [w for w in (self._wires.get(n) for n in node.all_input_nodes) if w is not None]
        if node.op == "call_module":
            return self._of_module(node, inputs)
        if node.op == "get_attr" or not inputs:
            return None
        if shape is None:
            if node.meta.get("is_several"):
                self._lost.add(node)  # a split, say; a size is only numbers
            return None
        return self._of_operation(node, _name_of(node), inputs)

    def _of_module(self, node: fx.Node, inputs: list[_Wires]) -> _Wires | None:
        name = str(node.target)
        module = self._modules[name]
        if name in self._repeated:
            call = self._calls[name]
            self._calls[name] += 1
            name = f"{name}#{call}"
        if len(inputs) != 1:
            raise self._refusal(node)
        (wires,) = inputs
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            found = self._of_weights(node, name, module, wires)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            found = self._normalised(node, wires, module)
        elif isinstance(module, nn.Flatten):
            found = self._reshaped(node, wires)
        elif isinstance(module, PASSING) and self._keeps_axis(node, wires):
            found = replace(wires, layer=None)
        else:
            raise self._refusal(node)
        if found.entries_of is None:
            self._units[name] = found.nodes
        return found

    @staticmethod
    def _keeps_axis(node: fx.Node, wires: _Wires) -> bool:
        """Whether the unit axis is where it was, and as long."""
        before, after = _shape(node.all_input_nodes[0]), _shape(node)
        return (
            before is not None
            and after is not None
            and len(after) == len(before)
            and after[wires.axis] == len(wires.nodes)
        )

    def _real(self, wires: _Wires) -> _Wires:
        """With nodes for the entries of an input, made when they are first needed."""
        if wires.entries_of is None:
            return wires
        key = wires.entries_of, len(wires.nodes)
        if key not in self._inputs:
            self._inputs[key] = self._fresh(INPUT, len(wires.nodes))
        return replace(wires, nodes=self._inputs[key], entries_of=None)

    def _of_weights(self, node: fx.Node, name: str, module: Any, wires: _Wires) -> _Wires:
        shape = _shape(node.args[0])
        assert shape is not None
        linear = isinstance(module, nn.Linear)
        axis = len(shape) - 1 if linear else 1
        if wires.entries_of is not None and wires.axis != axis:
            wires = _Wires(axis, np.arange(shape[axis]), np.ones(shape[axis]), entries_of=wires.entries_of)
        if wires.axis != axis:
            raise self._refusal(node)
        weights = module.weight.detach().abs().double().cpu()
        if not torch.isfinite(weights).all():
            raise CaptureError(f"`graph='weights'`: the weights of {name} are not all finite")
        pairs = weights.numpy() if linear else _kernels(weights, module)
        wires = self._real(wires)
        if pairs.shape[1] != len(wires.nodes):
            raise self._refusal(node)
        targets = self._fresh(name, len(pairs))
        target, source = np.nonzero(pairs)
        values = pairs[target, source] * np.abs(wires.gains[source])
        # Over the positions of a flattened channel the weights add up.
        own, place = np.unique(np.stack([targets[target], wires.nodes[source]]), axis=1, return_inverse=True)
        sums = np.bincount(place.ravel(), values, minlength=own.shape[1])
        self._edges.append(Edges(own[1], own[0], sums))
        unit_axis = len(shape) - 1 if linear else 1
        return _Wires(unit_axis, targets, np.ones(len(targets)), layer=len(self._edges) - 1)

    def _normalised(self, node: fx.Node, wires: _Wires, module: Any) -> _Wires:
        scale = torch.ones(len(wires.nodes), dtype=torch.float64)
        if module.running_var is not None:
            scale = (module.running_var.detach().double().cpu() + module.eps).rsqrt()
        if module.weight is not None:
            scale = scale * module.weight.detach().double().cpu()
        gains = scale.abs().numpy()
        if wires.layer is None or len(node.all_input_nodes[0].users) > 1:
            # Of a sum, or of what another reads as it is: what comes after is scaled.
            return replace(wires, gains=wires.gains * gains, layer=None)
        edges = self._edges[wires.layer]
        of_node = dict(zip(wires.nodes.tolist(), gains.tolist(), strict=True))
        factors = np.array([of_node[target] for target in edges.targets.tolist()])
        self._edges[wires.layer] = replace(edges, weights=edges.weights * factors)
        return replace(wires, layer=None)

    def _of_operation(self, node: fx.Node, name: str, inputs: list[_Wires]) -> _Wires:
        if name in ("add", "sub", "iadd", "add_", "sub_") and len(inputs) == 2:
            return self._summed(node, *inputs)
        if name in ("cat", "concat", "concatenate"):
            return self._side_by_side(node)
        if len(inputs) != 1:
            raise self._refusal(node)
        (wires,) = inputs
        if name in ("flatten", "view", "reshape", "squeeze"):
            return self._reshaped(node, wires)
        if name in PASSING_OPERATIONS and self._keeps_axis(node, wires):
            return replace(wires, layer=None)
        if name in ("mean", "amax", "sum") and (reduced := self._reduced(node, wires)) is not None:
            return reduced
        raise self._refusal(node)

    @staticmethod
    def _reduced(node: fx.Node, wires: _Wires) -> _Wires | None:
        """With some axes gone that are neither that of samples nor that of units; None where that is not so."""
        before, after = _shape(node.all_input_nodes[0]), _shape(node)
        axes = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        if before is None or after is None or axes is None or len(after) >= len(before):
            return None
        listed = axes if isinstance(axes, (tuple, list)) else [axes]
        reduced = {int(a) % len(before) for a in listed}  # type: ignore[arg-type]
        if reduced & {0, wires.axis} or len(before) - len(reduced) != len(after):
            return None
        return replace(wires, axis=wires.axis - sum(a < wires.axis for a in reduced), layer=None)

    def _summed(self, node: fx.Node, a: _Wires, b: _Wires) -> _Wires:
        a, b = self._real(a), self._real(b)
        if a.axis != b.axis or len(a.nodes) != len(b.nodes):
            raise self._refusal(node)
        for one, other in zip(a.nodes.tolist(), b.nodes.tolist(), strict=True):
            low, high = sorted(int(self._root(np.array(n))) for n in (one, other))
            self._parent[high] = low
        return _Wires(a.axis, a.nodes, np.maximum(a.gains, b.gains))

    def _side_by_side(self, node: fx.Node) -> _Wires:
        parts = node.args[0]
        if not isinstance(parts, (list, tuple)):
            raise self._refusal(node)
        axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        wires = [self._wires.get(part) if isinstance(part, fx.Node) else None for part in parts]
        known = [self._real(w) for w in wires if w is not None]
        shape = _shape(node)
        if len(known) < len(parts) or shape is None or not isinstance(axis, int):
            raise self._refusal(node)
        if any(w.axis != axis % len(shape) for w in known):
            raise self._refusal(node)
        return _Wires(
            axis % len(shape),
            np.concatenate([w.nodes for w in known]),
            np.concatenate([w.gains for w in known]),
        )

    def _reshaped(self, node: fx.Node, wires: _Wires) -> _Wires:
        """All axes after the first become one; a channel stands there once for each of its positions."""
        before, after = _shape(node.all_input_nodes[0]), _shape(node)
        if before == after:
            return wires
        if before is None or after is None or len(after) != 2 or after[0] != before[0] or wires.axis != 1:
            raise self._refusal(node)
        if wires.entries_of is not None:  # each pixel is an input of its own
            gains = np.repeat(wires.gains, after[1] // len(wires.gains))
            return replace(wires, nodes=np.arange(after[1]), gains=gains)
        positions = after[1] // len(wires.nodes)
        return _Wires(1, np.repeat(wires.nodes, positions), np.repeat(wires.gains, positions))

    def _fresh(self, name: str, n_units: int) -> np.ndarray:
        start = len(self._parent)
        nodes = np.arange(start, start + n_units)
        self._parent = np.concatenate([self._parent, nodes])
        self._layer_of.append(np.full(n_units, len(self._names)))
        self._names.append(name)
        self._units[name] = nodes
        return nodes

    def _root(self, nodes: np.ndarray) -> np.ndarray:
        while (self._parent[nodes] != nodes).any():
            nodes = self._parent[nodes]
        return nodes

    def _refusal(self, node: fx.Node) -> CaptureError:
        what = (
            f"{node.target} ({type(self._modules[str(node.target)]).__name__})"
            if node.op == "call_module"
            else (f"{_name_of(node)} ({node.name})")
        )
        return CaptureError(
            f"`graph='weights'`: units cannot be followed through {what}; graph='activations' needs no trace"
        )


def _kernels(weights: Tensor, module: Any) -> np.ndarray:
    """Sum over a kernel for each pair of channels, ``[out, in]``; 0 for those that groups keep apart."""
    sums = weights.flatten(2).sum(2).numpy()
    groups = module.groups
    if module.transposed:  # [in, out / groups]
        found = np.zeros((module.in_channels, module.out_channels))
        for g, rows in enumerate(np.split(np.arange(module.in_channels), groups)):
            width = module.out_channels // groups
            found[rows, g * width : (g + 1) * width] = sums[rows]
        return found.T
    found = np.zeros((module.out_channels, module.in_channels))
    for g, rows in enumerate(np.split(np.arange(module.out_channels), groups)):
        width = module.in_channels // groups
        found[rows, g * width : (g + 1) * width] = sums[rows]
    return found


def _used(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that the output depends on: what is only logged, say, is no part of the network."""
    found: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or node in found:
            found.update(node.all_input_nodes)
    return found


def _shape(node: Any) -> tuple[int, ...] | None:
    return node.meta.get("shape") if isinstance(node, fx.Node) else None


def _name_of(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
