"""What a forward pass calls: which modules in which order, and how the axes of what each gives are laid out."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.nn.utils.rnn import PackedSequence

from fnet_callbacks.capture.packed import last_tokens, padded, repacked

_NOT_NONLINEAR = (nn.MultiheadAttention, nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin)
NONLINEARITIES = tuple(
    c
    for c in vars(nn.modules.activation).values()
    if isinstance(c, type) and issubclass(c, nn.Module) and c not in (nn.Module, *_NOT_NONLINEAR)
)
# Of other packages: transformers' NewGELUActivation, timm's Swish, one's own.
_NAMED_LIKE_ONE = re.compile(r"activation|relu|gelu|silu|swish|mish|tanh|sigmoid|softplus", re.IGNORECASE)
_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,  # BatchNorm and InstanceNorm
    nn.GroupNorm,
)
_BATCH_FIRST_BY_FLAG = (nn.RNNBase, nn.MultiheadAttention)
_UNITS_LAST = (
    nn.Linear,
    nn.Bilinear,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.RNNCellBase,
    *_BATCH_FIRST_BY_FLAG,
)
PARAMETRIC = _CHANNELS_FIRST + _UNITS_LAST


@dataclass(frozen=True, slots=True)
class Call:
    """What the trial pass saw of one call of one module."""

    module: str
    call: int
    is_nonlinearity: bool
    is_parametric: bool
    is_recurrent: bool  # ends in a nonlinearity of its own
    is_lookup: bool
    output_shape: tuple[int, ...] | None
    input_shape: tuple[int, ...] | None
    batch_axis: int
    unit_axis: int
    has_complex_output: bool
    has_complex_input: bool
    output_obstacle: str | None  # why what it gives cannot be read
    input_obstacle: str | None


def first_tensor(value: Any) -> Tensor | None:
    """The tensor itself, or the first of a tuple or list (what a recurrent or attention module returns).

    A packed sequence is ``[S, T, units]``, padded with zeros.
    """
    return first_values(value)[0]


def first_values(value: Any) -> tuple[Tensor | None, Tensor | None]:
    """What `first_tensor` finds, and where it was packed the mask ``[S, T]``, True where there is a token."""
    first = _first(value)
    if isinstance(first, PackedSequence):
        return padded(first)
    return (first if isinstance(first, Tensor) else None), None


def _first(value: Any) -> Any:
    several = isinstance(value, (tuple, list)) and not isinstance(value, PackedSequence)
    return value[0] if several and value else value


def with_first_tensor(value: Any, tensor: Tensor, *, given_by: nn.Module | None = None) -> Any:
    """A value of the same kind, with another tensor where ``first_tensor`` finds one.

    Where a recurrent module gave it, the last state beside its outputs follows from these, and is changed with them.
    """
    first = _first(value)
    mask = None
    put: Any = tensor
    if isinstance(first, PackedSequence):
        mask, put = padded(first)[1], repacked(tensor, like=first)
    if first is value:
        return put
    parts = (put, *value[1:])
    if isinstance(given_by, nn.RNNBase):
        parts = (put, _last_state(given_by, parts[1], tensor, mask))
    return (
        type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    )  # a named tuple takes fields


def _last_state(module: nn.RNNBase, state: Any, outputs: Tensor, mask: Tensor | None) -> Any:
    """The state after the last step, of which the last layer's is what the outputs end with in each direction.

    Where a unit's output has become 0 an LSTM's cell is too; to any other output no cell belongs, and it is left.
    """
    hidden, *cells = state if isinstance(state, tuple) else (state,)
    if mask is not None:
        first, last = outputs[:, 0], last_tokens(outputs, mask)
    else:
        time = 0 if outputs.dim() == 2 or not module.batch_first else 1
        first, last = outputs.select(time, 0), outputs.select(time, -1)
    changed, width = hidden.clone(), hidden.shape[-1]
    changed[-2 if module.bidirectional else -1] = last[..., :width]
    if module.bidirectional:
        changed[-1] = first[..., width:]
    silent = (changed == 0) & (hidden != 0)
    cells = [c.masked_fill(silent, 0) if c.shape == silent.shape else c for c in cells]
    return (changed, *cells) if isinstance(state, tuple) else changed


def record_calls(module: nn.Module, run: Callable[[], object]) -> list[Call]:
    """The calls of all submodules in one forward pass, in the order in which they ended."""
    calls: list[Call] = []
    seen: Counter[str] = Counter()
    layout = (0, 1)

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def record(m: nn.Module, arguments: Any, output: Any) -> None:
            nonlocal layout
            tensor, given = first_tensor(output), first_tensor(arguments)
            layout = _layout(m, tensor, layout)
            obstacles = _obstacle(tensor), _obstacle(given)
            is_packed = isinstance(_first(output), PackedSequence)  # and shown with its samples first
            calls.append(
                Call(
                    module=name,
                    call=seen[name],
                    is_nonlinearity=isinstance(m, NONLINEARITIES) or _is_named_like_one(m),
                    is_parametric=isinstance(m, PARAMETRIC),
                    is_recurrent=isinstance(m, (nn.RNNBase, nn.RNNCellBase)),
                    is_lookup=isinstance(m, (nn.Embedding, nn.EmbeddingBag)),
                    output_shape=None if tensor is None or obstacles[0] else tuple(tensor.shape),
                    input_shape=None if given is None or obstacles[1] else tuple(given.shape),
                    batch_axis=0 if is_packed else layout[0],
                    unit_axis=layout[1],
                    has_complex_output=tensor is not None and tensor.is_complex(),
                    has_complex_input=given is not None and given.is_complex(),
                    output_obstacle=obstacles[0],
                    input_obstacle=obstacles[1],
                )
            )
            seen[name] += 1

        return record

    hooked = [
        (name, m) for name, m in module.named_modules() if name and not isinstance(m, torch.jit.ScriptModule)
    ]
    handles = [m.register_forward_hook(hook(name)) for name, m in hooked]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _obstacle(tensor: Tensor | None) -> str | None:
    """Why a tensor's values cannot be read; None where they can."""
    if tensor is None:
        return None
    if is_functorch_wrapped_tensor(tensor):
        return "called under `torch.vmap` or another transform of `torch.func`, which lets no values out"
    if tensor.is_nested and tensor.layout is torch.strided:
        return "a nested tensor of strided layout, which has no shape"
    return None


def _is_named_like_one(module: nn.Module) -> bool:
    """Whether a class that is none of torch's is called like a nonlinearity, and has neither weights nor parts."""
    if type(module).__module__.startswith("torch.") or not _NAMED_LIKE_ONE.search(type(module).__name__):
        return False
    return not any(True for _ in module.children()) and not any(p.dim() > 1 for p in module.parameters())


def _layout(module: nn.Module, output: Tensor | None, previous: tuple[int, int]) -> tuple[int, int]:
    """Batch and unit axis from here on: those of the last parametric module that ran."""
    if isinstance(module, _CHANNELS_FIRST):
        return 0, 1
    if isinstance(module, _BATCH_FIRST_BY_FLAG):
        return (0 if module.batch_first else 1), -1
    if isinstance(module, _UNITS_LAST):
        return previous[0], -1
    return previous
