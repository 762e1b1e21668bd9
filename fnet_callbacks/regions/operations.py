"""What each operation of PyTorch does to what is linear in the input, piece by piece."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fnet_callbacks.regions.pieces import Compared, Elementwise, Largest, Pieces, Pooled

# Linear in all their tensors together, by their names in ATen.
LINEAR = {
    "view", "_unsafe_view", "t", "transpose", "permute", "expand", "unsqueeze", "squeeze", "slice", "select",
    "split", "split_with_sizes", "unbind", "cat", "stack", "clone", "_to_copy", "detach", "alias", "copy_",
    "copy", "lift_fresh", "as_strided", "add", "sub", "rsub", "neg", "mean", "sum", "cumsum", "trace",
    "diagonal", "flip", "roll", "repeat", "unfold", "im2col", "col2im", "index", "index_select", "gather",
    "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "constant_pad_nd",
    "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d", "replication_pad2d",
    "replication_pad3d", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d",
    "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d", "pixel_shuffle", "pixel_unshuffle",
    "masked_fill", "where", "index_put", "scatter", "tril", "triu", "rot90", "zero_", "fill_",
    "channel_shuffle",
}  # fmt: skip
# Linear in each of these arguments, where the others do not depend on the input.
BILINEAR: Mapping[str, Sequence[int]] = {
    "mul": (0, 1),
    "mm": (0, 1),
    "bmm": (0, 1),
    "mv": (0, 1),
    "dot": (0, 1),
    "addmm": (1, 2),
    "addmv": (1, 2),
    "baddbmm": (1, 2),
    "convolution": (0, 1),
}
# What only asks for a shape, a type or fresh memory: its outcome does not depend on the input.
SHAPES = {
    "empty_like", "zeros_like", "ones_like", "full_like", "new_empty", "new_zeros", "new_ones", "new_full",
    "new_empty_strided", "rand_like", "randn_like",
}  # fmt: skip


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], place: int, name: str, default: Any) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


def _elementwise(
    z: Tensor,
    breaks: Sequence[Any],
    slopes: Sequence[Any],
    offsets: Sequence[Any],
    closed: Sequence[bool] | None = None,
) -> Elementwise:
    return Elementwise(z, breaks, slopes, offsets, closed or [False] * len(breaks))


def _between(z: Tensor, low: Any, high: Any, *, bounds_inside: bool) -> Elementwise:
    """Constant beyond two bounds; None is no bound. Where the bounds themselves belong is where autograd has them."""
    breaks, slopes, offsets, closed = [], [1.0], [0.0], []
    if low is not None:
        breaks, slopes, offsets, closed = [low], [0.0, 1.0], [low, 0.0], [bounds_inside]
    if high is not None:
        breaks, slopes, offsets = [*breaks, high], [*slopes, 0.0], [*offsets, high]
        closed = [*closed, not bounds_inside]
    return Elementwise(z, breaks, slopes, offsets, closed)


def _shrunk(z: Tensor, width: float, kept: float) -> Elementwise:
    """0 within ``width`` of 0, beyond it z, less ``kept`` of the width."""
    return _elementwise(
        z, [-width, width], [1.0, 0.0, 1.0], [kept * width, 0.0, -kept * width], [True, False]
    )


def _pooled(args: Sequence[Any], kwargs: Mapping[str, Any], output: Any, n: int) -> Pooled:
    kernel = _spread(args[1], n)
    stride = _spread(_argument(args, kwargs, 2, "stride", ()) or kernel, n)
    padding = _spread(_argument(args, kwargs, 3, "padding", 0), n)
    dilation = _spread(_argument(args, kwargs, 4, "dilation", 1), n)
    return Pooled(args[0], output[0], output[1], n, kernel, stride, padding, dilation)


def _adaptive(args: Sequence[Any], output: Any, n: int) -> Pooled:
    sizes, outs = args[0].shape[-n:], output[0].shape[-n:]
    even = all(size % out == 0 for size, out in zip(sizes, outs, strict=True))
    kernel = [size // out for size, out in zip(sizes, outs, strict=True)] if even else []
    return Pooled(args[0], output[0], output[1], n, kernel, kernel, [0] * n, [1] * n)


def _spread(value: Any, n: int) -> Sequence[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * n if len(values) == 1 else values


def _along(
    args: Sequence[Any], kwargs: Mapping[str, Any], *, with_places: bool, smallest: bool = False
) -> Largest:
    z = -args[0] if smallest else args[0]
    axes = _argument(args, kwargs, 1, "dim", ())
    axes = [axes] if isinstance(axes, int) else list(axes) or list(range(z.dim()))
    keeps = bool(_argument(args, kwargs, 2, "keepdim", False))

    def shaped(values: Tensor) -> Tensor:
        for axis in sorted(a % z.dim() for a in axes) if keeps else ():
            values = values.unsqueeze(axis)
        return values

    sign = -1 if smallest else 1
    return Largest(z, axes, lambda v, i: (shaped(sign * v), shaped(i)) if with_places else shaped(sign * v))


def _ordered(test: Callable[[Any, Any], Tensor], gives_first: bool | None) -> Callable[..., Pieces]:
    return lambda args, kwargs, output: Compared(args[0], args[1], test, gives_first)


# Each from an operation's arguments and output to the pieces that it has.
PIECEWISE: Mapping[str, Callable[[Sequence[Any], Mapping[str, Any], Any], Pieces]] = {
    "relu": lambda a, k, o: _elementwise(a[0], [0.0], [0.0, 1.0], [0.0, 0.0]),
    "leaky_relu": lambda a, k, o: _elementwise(
        a[0], [0.0], [_argument(a, k, 1, "negative_slope", 0.01), 1.0], [0.0, 0.0]
    ),
    "_prelu_kernel": lambda a, k, o: _elementwise(a[0], [0.0], [a[1], 1.0], [0.0, 0.0]),
    "rrelu_with_noise": lambda a, k, o: _elementwise(
        a[0],
        [0.0],
        [(_argument(a, k, 2, "lower", 1 / 8) + _argument(a, k, 3, "upper", 1 / 3)) / 2, 1.0],
        [0.0, 0.0],
    ),
    "hardtanh": lambda a, k, o: _between(
        a[0], _argument(a, k, 1, "min_val", -1.0), _argument(a, k, 2, "max_val", 1.0), bounds_inside=False
    ),
    "clamp": lambda a, k, o: _between(
        a[0], _argument(a, k, 1, "min", None), _argument(a, k, 2, "max", None), bounds_inside=True
    ),
    "clamp_min": lambda a, k, o: _between(a[0], a[1], None, bounds_inside=True),
    "clamp_max": lambda a, k, o: _between(a[0], None, a[1], bounds_inside=True),
    "threshold": lambda a, k, o: _elementwise(a[0], [a[1]], [0.0, 1.0], [a[2], 0.0]),
    "abs": lambda a, k, o: _elementwise(a[0], [0.0], [-1.0, 1.0], [0.0, 0.0]),
    "softshrink": lambda a, k, o: _shrunk(a[0], _argument(a, k, 1, "lambd", 0.5), 1.0),
    "hardshrink": lambda a, k, o: _shrunk(a[0], _argument(a, k, 1, "lambd", 0.5), 0.0),
    "maximum": _ordered(torch.gt, True),
    "minimum": _ordered(torch.lt, True),
    "gt": _ordered(operator.gt, None),
    "ge": _ordered(operator.ge, None),
    "lt": _ordered(operator.lt, None),
    "le": _ordered(operator.le, None),
    "max_pool2d_with_indices": lambda a, k, o: _pooled(a, k, o, 2),
    "max_pool3d_with_indices": lambda a, k, o: _pooled(a, k, o, 3),
    "adaptive_max_pool2d": lambda a, k, o: _adaptive(a, o, 2),
    "adaptive_max_pool3d": lambda a, k, o: _adaptive(a, o, 3),
    "amax": lambda a, k, o: _along(a, k, with_places=False),
    "max": lambda a, k, o: _along(a, k, with_places=True),
    "amin": lambda a, k, o: _along(a, k, with_places=False, smallest=True),
    "min": lambda a, k, o: _along(a, k, with_places=True, smallest=True),
    "hardsigmoid": lambda a, k, o: _elementwise(
        a[0], [-3.0, 3.0], [0.0, 1 / 6, 0.0], [0.0, 0.5, 1.0], [False, True]
    ),
}
NORMALIZATIONS: Mapping[str, int | None] = {  # and which argument says that statistics are of the batch
    "native_batch_norm": 5,
    "cudnn_batch_norm": 5,
    "miopen_batch_norm": 5,
    "_native_batch_norm_legit_no_training": None,
}
