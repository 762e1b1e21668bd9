"""Units followed through a traced model: which nodes the entries of its values are, and what multiplies them."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from fnet_callbacks.errors import CaptureError
from fnet_callbacks.specialization import factors
from fnet_callbacks.specialization.growth import Growth, WeightGraph
from fnet_callbacks.specialization.passing import (
    IDENTICAL,
    IDENTICAL_OPERATIONS,
    PASSING,
    PASSING_OPERATIONS,
)
from fnet_callbacks.specialization.tracing import changed_by, name_of, used
from fnet_callbacks.specialization.wires import Entries, Followed, Wires, weights_between

INPUT = "input"


class Wiring:
    """Follows units through a traced model.

    Args:
        traced: Of whose nodes all is noted; see ``tracing.Shapes``.
    """

    def __init__(self, traced: fx.GraphModule) -> None:
        self._traced = traced
        self._modules = dict(traced.named_modules())
        self._growth = Growth()
        self._used = used(traced.graph)
        self._wires: dict[fx.Node, Followed | None] = {}
        called = Counter(str(n.target) for n in traced.graph.nodes if n.op == "call_module")
        self._repeated = {name for name, times in called.items() if times > 1}
        self._calls: Counter[str] = Counter()
        self._lost: set[fx.Node] = set()  # values that units run through, and are not followed
        self._inputs: dict[tuple[fx.Node, int], np.ndarray] = {}

    def graph(self) -> WeightGraph:
        """The graph of the weights that units run through.

        Raises:
            CaptureError: They cannot be followed; the message names what is in the way.
        """
        for node in self._traced.graph.nodes:
            if node in self._used:
                self._wires[node] = self._of(node)
                for changed in changed_by(node):
                    self._wires[changed] = self._wires[node]
        return self._growth.graph()

    def _of(self, node: fx.Node) -> Followed | None:
        """The wires of a node's value; None where it is no tensor, or one that no unit runs through."""
        shape = _shape(node)
        if node.op == "placeholder":
            is_batch = shape is not None and len(shape) >= 2
            return Entries(node, torch.ones((), dtype=torch.float64), node) if is_batch else None
        if "value" in node.meta:
            return None
        if not self._lost.isdisjoint(node.all_input_nodes) or self._writes_unseen(node):
            raise self._refusal(node)
        sources = [n for n in node.all_input_nodes if self._wires.get(n) is not None]
        if node.op == "call_module":
            return self._of_module(node, sources)
        if not sources:
            return None
        if shape is None:
            if node.meta.get("is_several"):
                self._lost.add(node)  # a split, say; a size is only numbers
            return None
        return self._of_operation(node, name_of(node), sources)

    @staticmethod
    def _writes_unseen(node: fx.Node) -> bool:
        return bool(node.meta.get("writes_unseen")) and name_of(node) not in PASSING_OPERATIONS

    def _of_module(self, node: fx.Node, sources: list[fx.Node]) -> Followed | None:
        name = str(node.target)
        module = self._modules[name]
        if name in self._repeated:
            call = self._calls[name]
            self._calls[name] += 1
            name = f"{name}#{call}"
        if len(sources) != 1 or node.meta.get("is_hooked"):
            raise self._refusal(node)
        (source,) = sources
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            found = self._of_weights(node, source, name, module)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            found = self._multiplied(node, source, self._factor(node, source))
            found = replace(found, layer=None) if isinstance(found, Wires) else found
        elif isinstance(module, nn.Flatten):
            found = self._reshaped(node, source)
        elif isinstance(module, PASSING):
            found = self._multiplied(node, source, self._factor(node, source))
            found = self._passed(node, source, found, is_identical=isinstance(module, IDENTICAL))
        else:
            raise self._refusal(node)
        if isinstance(found, Wires):
            self._growth.units[name] = found.nodes
        return found

    def _of_operation(self, node: fx.Node, name: str, sources: list[fx.Node]) -> Followed | None:
        if name in factors.PLUS | factors.MINUS:
            return self._sum(node, name)
        if name in ("cat", "concat", "concatenate"):
            return self._side_by_side(node)
        if len(sources) != 1:
            raise self._refusal(node)
        (source,) = sources
        if name in factors.TIMES | factors.OVER | factors.NEGATIVE:
            return self._product(node, name, source)
        if name in ("flatten", "view", "reshape", "squeeze"):
            return self._reshaped(node, source)
        if factors.is_weighted_pooling(node, name):
            raise self._refusal(node)
        if name in PASSING_OPERATIONS and self._keeps_axis(node, source):
            is_identical = name in IDENTICAL_OPERATIONS
            return self._passed(node, source, self._wires[source], is_identical=is_identical)
        if name in ("mean", "amax", "sum"):
            return self._reduced(node, source, name)
        raise self._refusal(node)

    def _passed(
        self, node: fx.Node, source: fx.Node, wires: Followed | None, *, is_identical: bool = False
    ) -> Followed:
        """With the units that there were."""
        if wires is None or not self._keeps_axis(node, source):
            raise self._refusal(node)
        value = wires.value if is_identical else node
        if isinstance(wires, Wires):
            return replace(wires, value=value, layer=None, sole=self._sole(source))
        shape = _shape(node)
        if shape == _shape(source):
            return replace(wires, value=value)
        scale = self._by_channel(node, source, wires)
        return replace(wires, scale=scale.view(-1, *[1] * (len(shape or ()) - 2)), value=value)

    def _keeps_axis(self, node: fx.Node, source: fx.Node) -> bool:
        """Whether the unit axis is where it was, and as long."""
        before, after = _shape(source), _shape(node)
        wires = self._wires[source]
        axis = wires.axis if isinstance(wires, Wires) else 1
        return (
            before is not None
            and after is not None
            and len(after) == len(before)
            and after[axis] == before[axis]
        )

    def _sole(self, source: fx.Node) -> int | None:
        """The layer whose only reader is the only reader of this value."""
        wires = self._wires[source]
        readers = [n for n in source.users if n in self._used]
        return wires.sole if isinstance(wires, Wires) and len(readers) == 1 else None

    def _wired(self, node: fx.Node, source: fx.Node, axis: int) -> Wires:
        """The wires of a value; of an input's entries along an axis, with nodes for these when they are first read."""
        wires, shape = self._wires[source], _shape(source)
        assert wires is not None
        assert shape is not None
        if isinstance(wires, Wires):
            if wires.axis != axis:
                raise self._refusal(node)
            return wires
        gains = self._gains(node, wires.scale, shape, axis)
        key = wires.of, shape[axis]
        if key not in self._inputs:
            self._inputs[key] = self._growth.fresh(INPUT, shape[axis])
        return Wires(axis, self._inputs[key], gains, wires.value)

    def _gains(self, node: fx.Node, factor: Tensor, shape: tuple[int, ...], axis: int) -> np.ndarray:
        """The factor of each entry along an axis."""
        found = factors.along(factor, shape, axis)
        if found is None:
            raise self._refusal(node)
        return found

    def _by_channel(self, node: fx.Node, source: fx.Node, entries: Entries) -> Tensor:
        """What an input's channels are multiplied by, where its other axes change."""
        shape = _shape(source)
        assert shape is not None
        return torch.tensor(self._gains(node, entries.scale, shape, 1))

    def _of_weights(self, node: fx.Node, source: fx.Node, name: str, module: Any) -> Wires:
        shape = _shape(source)
        assert shape is not None
        axis = len(shape) - 1 if isinstance(module, nn.Linear) else 1
        pairs = weights_between(name, module)
        wires = self._wired(node, source, axis)
        if pairs.shape[1] != len(wires.nodes):
            raise self._refusal(node)
        targets = self._growth.fresh(name, len(pairs))
        target, read = np.nonzero(pairs)
        values = pairs[target, read] * np.abs(wires.gains[read])
        layer = self._growth.connect(wires.nodes[read], targets[target], values)
        return Wires(axis, targets, np.ones(len(targets)), node, layer=layer, sole=layer)

    def _factor(self, node: fx.Node, source: fx.Node) -> Tensor | None:
        return factors.of_module(self._modules[str(node.target)], len(_shape(source) or ()))

    def _product(self, node: fx.Node, name: str, source: fx.Node) -> Followed:
        """Units times, or over, what does not depend on the input."""
        if name in factors.NEGATIVE:
            return self._multiplied(node, source, -torch.ones((), dtype=torch.float64))
        parts = factors.operands(node)
        if len(parts) != 2 or _options(node, "rounding_mode", "out") or _shape(node) != _shape(source):
            raise self._refusal(node)
        other = parts[1] if parts[0] is source else parts[0]
        factor = factors.constant(other)
        if factor is None or (name in factors.OVER and parts[0] is not source):
            raise self._refusal(node)
        return self._multiplied(node, source, 1 / factor if name in factors.OVER else factor)

    def _multiplied(self, node: fx.Node, source: fx.Node, factor: Tensor | None) -> Followed:
        """Units with a factor: in the weights to them where nothing else reads these, else in those out of them."""
        wires, shape = self._wires[source], _shape(source)
        assert wires is not None
        assert shape is not None
        if factor is None:
            return wires
        if not torch.isfinite(factor).all():
            raise CaptureError(
                f"`graph='weights'`: what {self._what(node)} multiplies units by is not all finite"
            )
        if isinstance(wires, Entries):
            scale = wires.scale * factor
            if scale.dim() == len(shape) and torch.equal(scale, scale[:1].expand_as(scale)):
                scale = scale[0]  # the same for every sample
            if scale.dim() >= len(shape):
                raise self._refusal(node)
            return replace(wires, scale=scale)
        gains = self._gains(node, factor, shape, wires.axis)
        if wires.layer is not None and len(source.users) == 1:
            self._growth.scale(wires.layer, wires.nodes, gains)
            return replace(wires, value=node)
        return replace(wires, gains=wires.gains * gains, layer=None, sole=self._sole(source))

    def _sum(self, node: fx.Node, name: str) -> Followed:
        parts = factors.operands(node)
        alpha = factors.constant(node.kwargs.get("alpha", 1))
        if len(parts) != 2 or alpha is None or alpha.dim() or _options(node, "out"):
            raise self._refusal(node)
        second = -alpha if name in factors.MINUS else alpha
        sources = [
            (part, factor)
            for part, factor in zip(parts, (torch.ones_like(alpha), second), strict=True)
            if isinstance(part, fx.Node) and self._wires.get(part) is not None
        ]
        if len(sources) == 1:  # beside a bias, say
            ((source, factor),) = sources
            return self._passed(node, source, self._multiplied(node, source, factor))
        (one, _), (other, _) = sources
        a, b = self._wires[one], self._wires[other]
        if isinstance(a, Entries) and isinstance(b, Entries) and a.value is b.value:
            return replace(a, scale=a.scale + second * b.scale)
        axis = next((w.axis for w in (a, b) if isinstance(w, Wires)), 1)
        a, b = self._wired(node, one, axis), self._wired(node, other, axis)
        if len(a.nodes) != len(b.nodes):
            raise self._refusal(node)
        a = replace(a, sole=self._sole(one))
        b = replace(b, gains=b.gains * float(second), sole=self._sole(other))
        return self._joined(node, a, b)

    def _joined(self, node: fx.Node, a: Wires, b: Wires) -> Wires:
        """The sum of two values: a node for each two units.

        That node has one gain. Where the gains of the two differ, their ratio is folded into the weights to one of
        them, if nothing else reads it.
        """
        if a.value is b.value:
            return replace(a, gains=a.gains + b.gains, layer=None, sole=None)
        ours, theirs = np.abs(a.gains), np.abs(b.gains)
        differs = ours != theirs
        if (differs & (self._growth.root(a.nodes) == self._growth.root(b.nodes))).any():
            raise self._refusal(node)
        if differs.any() and a.sole is not None and b.sole is not None:
            self._growth.scale(a.sole, a.nodes, ours)
            self._growth.scale(b.sole, b.nodes, theirs)
            ours = theirs = np.ones(len(ours))
        elif differs.any() and (a.sole is not None or b.sole is not None):
            if b.sole is None:
                a, b, ours, theirs = b, a, theirs, ours
            assert b.sole is not None
            self._growth.scale(b.sole, b.nodes, np.divide(theirs, ours, out=theirs.copy(), where=ours > 0))
            theirs = np.where(ours > 0, ours, 1.0)
        elif (differs & (ours > 0) & (theirs > 0)).any():
            raise self._refusal(node)
        # A unit times 0 is not in the sum.
        joined = (ours > 0) == (theirs > 0)
        self._growth.join(a.nodes[joined], b.nodes[joined])
        nodes = np.where(ours > 0, a.nodes, b.nodes)
        return Wires(a.axis, nodes, np.maximum(ours, theirs), node)

    def _side_by_side(self, node: fx.Node) -> Wires:
        parts, shape = node.args[0] if node.args else None, _shape(node)
        axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        if not isinstance(parts, (list, tuple)) or shape is None or not isinstance(axis, int):
            raise self._refusal(node)
        wires = []
        for part in parts:
            if not isinstance(part, fx.Node) or self._wires.get(part) is None:
                raise self._refusal(node)
            wires.append(self._wired(node, part, axis % len(shape)))
        nodes = np.concatenate([w.nodes for w in wires])
        return Wires(axis % len(shape), nodes, np.concatenate([w.gains for w in wires]), node)

    def _reduced(self, node: fx.Node, source: fx.Node, name: str) -> Followed:
        """With some axes gone that are neither that of samples nor that of units."""
        before, after = _shape(source), _shape(node)
        axes = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        wires = self._wires[source]
        assert wires is not None
        if before is None or after is None or axes is None or len(after) >= len(before):
            raise self._refusal(node)
        listed = axes if isinstance(axes, (tuple, list)) else [axes]
        reduced = {int(a) % len(before) for a in listed}  # type: ignore[arg-type]
        axis = wires.axis if isinstance(wires, Wires) else 1
        if reduced & {0, axis} or len(before) - len(reduced) != len(after):
            raise self._refusal(node)
        if name == "sum":  # as many times the mean
            n = math.prod(before[a] for a in reduced)
            wires = self._multiplied(node, source, torch.tensor(float(n), dtype=torch.float64))
        if isinstance(wires, Wires):
            fewer = sum(a < axis for a in reduced)
            return replace(wires, axis=axis - fewer, value=node, layer=None, sole=self._sole(source))
        scale = self._by_channel(node, source, wires)
        return Entries(wires.of, scale.view(-1, *[1] * (len(after) - 2)), node)

    def _reshaped(self, node: fx.Node, source: fx.Node) -> Followed:
        """All axes after the first become one; a channel stands there once for each of its positions."""
        before, after = _shape(source), _shape(node)
        wires = self._wires[source]
        assert wires is not None
        if before == after and isinstance(wires, Wires):
            layer = wires.layer if len(source.users) == 1 else None
            return replace(wires, layer=layer, sole=self._sole(source))
        if before == after:
            return wires
        if before is None or after is None or len(after) != 2 or after[0] != before[0]:
            raise self._refusal(node)
        if isinstance(wires, Entries):  # each pixel is an input of its own
            return Entries(wires.of, wires.scale.expand(before[1:]).reshape(-1), node)
        if wires.axis != 1:
            raise self._refusal(node)
        positions = after[1] // len(wires.nodes)
        return Wires(1, np.repeat(wires.nodes, positions), np.repeat(wires.gains, positions), node)

    def _what(self, node: fx.Node) -> str:
        if node.op != "call_module":
            return f"{name_of(node)} ({node.name})"
        hooked = ", whose output a hook changes" if node.meta.get("is_hooked") else ""
        return f"{node.target} ({type(self._modules[str(node.target)]).__name__}{hooked})"

    def _refusal(self, node: fx.Node) -> CaptureError:
        return CaptureError(
            f"`graph='weights'`: units cannot be followed through {self._what(node)}; graph='activations' needs no "
            "trace"
        )


def _shape(node: fx.Node) -> tuple[int, ...] | None:
    return node.meta.get("shape")


def _options(node: fx.Node, *names: str) -> bool:
    return any(node.kwargs.get(name) is not None for name in names)
