"""What multiplies units one by one: weights of normalisations, and products with what does not depend on the input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

PLUS = {"add", "add_", "iadd"}
MINUS = {"sub", "sub_", "isub", "subtract", "subtract_"}
TIMES = {"mul", "mul_", "imul", "multiply", "multiply_"}
OVER = {"div", "div_", "truediv", "itruediv", "divide", "divide_", "true_divide", "true_divide_"}
NEGATIVE = {"neg", "neg_", "negative", "negative_"}
_NORMALIZED_AXIS_1 = (nn.modules.batchnorm._NormBase, nn.GroupNorm)  # BatchNorm and InstanceNorm
_PLACE_OF_DIVISOR = 6  # among the arguments of mean pooling
_NORMALIZED_LAST = (nn.LayerNorm, nn.RMSNorm)


def of_module(module: nn.Module, n_axes: int) -> Tensor | None:
    """By what a module multiplies its units, to be broadcast over its input; None where there is nothing.

    A normalisation multiplies by its weight, and where it has running statistics by these. What it takes from the
    sample itself counts as 1.
    """
    if isinstance(module, nn.modules.pooling._AvgPoolNd):
        divisor = getattr(module, "divisor_override", None)
        if divisor is None:
            return None
        size = module.kernel_size
        n = math.prod(size) if isinstance(size, tuple) else size ** (n_axes - 2)  # type: ignore[operator]
        return torch.tensor(n / divisor, dtype=torch.float64)
    if not isinstance(module, (*_NORMALIZED_AXIS_1, *_NORMALIZED_LAST)):
        return None
    found = None if module.weight is None else module.weight.detach().double().cpu()
    if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_var is not None:
        scale = (module.running_var.detach().double().cpu() + module.eps).rsqrt()
        found = scale if found is None else found * scale
    if found is None or isinstance(module, _NORMALIZED_LAST):
        return found
    return found.view(-1, *[1] * (n_axes - 2))


def is_weighted_pooling(node: fx.Node, name: str) -> bool:
    """Whether an operation pools by a mean with a divisor of its own."""
    return name.startswith("avg_pool") and (
        node.kwargs.get("divisor_override") is not None or len(node.args) > _PLACE_OF_DIVISOR
    )


def operands(node: fx.Node) -> Sequence[Any]:
    """What an operation of two joins, in their order."""
    named = [node.kwargs[name] for name in ("input", "other") if name in node.kwargs]
    return [*node.args, *named]


def constant(operand: Any) -> Tensor | None:
    """The value of an operand that does not depend on the input, in float64; None of another one."""
    value = operand.meta.get("value") if isinstance(operand, fx.Node) else operand
    if isinstance(value, (bool, int, float)):
        return torch.tensor(float(value), dtype=torch.float64)
    if isinstance(value, Tensor) and not value.is_complex():
        return value.detach().double().cpu()
    return None


def along(factor: Tensor, shape: Sequence[int], axis: int) -> np.ndarray | None:
    """The factor of each entry along an axis of a shape, to which it is broadcast; None where other axes matter too."""
    if factor.dim() > len(shape):
        return None
    found = factor.view(*[1] * (len(shape) - factor.dim()), *factor.shape)
    for other in range(len(shape)):
        if other != axis and found.shape[other] > 1:
            first = found.narrow(other, 0, 1)
            if not torch.equal(found, first.expand_as(found)):
                return None
            found = first
    return found.flatten().expand(shape[axis]).numpy()
