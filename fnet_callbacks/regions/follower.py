"""A forward pass in which every operation on what depends on the input is seen, and refused where it is not linear."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fnet_callbacks.errors import CaptureError
from fnet_callbacks.regions.operations import BILINEAR, LINEAR, NORMALIZATIONS, PIECEWISE, SHAPES
from fnet_callbacks.regions.pieces import Compared, Pieces

# Of these the first argument alone may depend on the input.
_OF_ONE = PIECEWISE.keys() - {"maximum", "minimum", "gt", "ge", "lt", "le"}
See = Callable[[str, Pieces], None]


class Follower(TorchDispatchMode):
    """Follows a tensor through operations, and tells of the piecewise-linear ones.

    Modules make no difference to functional calls: what is seen are ATen's operations.

    Args:
        see: Called with a name and the pieces of each piecewise-linear operation, in their order.
        frozen: Whether the first half of the samples decides the pieces of all: the output of the second is then what
            it would be were the map of the first half's region that of the whole space.
        ahead: The same, with the pieces just beyond the first half, towards the second; see `Pieces.ahead`.

    Raises:
        CaptureError: In the block, where an operation is not piecewise linear, or its kind is not known.
    """

    def __init__(self, see: See, *, frozen: bool = False, ahead: bool = False) -> None:
        super().__init__()
        self._see, self._frozen, self._ahead = see, frozen or ahead, ahead
        # By storage: a view and what it is of share it. They are kept to the end, so that no memory is used twice.
        self._linear: dict[int, Tensor] = {}
        self._constant: dict[int, Tensor] = {}
        self._modules: list[str] = []

    def follow(self, tensor: Tensor) -> Tensor:
        """The tensor; what depends on it is followed from now on."""
        self._linear[_place(tensor)] = tensor
        self._dtype = tensor.dtype
        return tensor

    @contextmanager
    def named(self, model: nn.Module) -> Iterator[None]:
        """Knows in which module an operation is, for the length of a block."""
        handles = []
        for name, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(self._entering(name)))
            handles.append(module.register_forward_hook(self._leaving, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _entering(self, name: str) -> Callable[..., None]:
        return lambda *_: self._modules.append(name)

    def _leaving(self, *_: Any) -> None:
        self._modules.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        linear = [t for t in tensors if _place(t) in self._linear]
        constant = [t for t in tensors if _place(t) in self._constant]
        packet = func.overloadpacket.__name__
        if packet in SHAPES or not (linear or constant):
            return func(*args, **kwargs)
        name = packet.removesuffix("_") if packet not in LINEAR else packet
        if packet in ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select"):
            raise CaptureError(
                f"{self._where()} decides by a value that depends on the input ({packet}); what is computed then is "
                "not followed. Take a part of the model without it"
            )
        if self._frozen and packet == "_to_copy" and _is_float(kwargs.get("dtype")):
            own = args[0].dtype  # a cast within the model would mix precisions
            kwargs = {**kwargs, "dtype": own if own.is_floating_point else self._dtype}
        if not linear:  # a function of what is constant on a region is so too
            return self._kept(self._constant, func(*args, **kwargs))
        if name in PIECEWISE:
            return self._piecewise(func, packet, PIECEWISE[name], args, kwargs)
        if not self._is_linear(name, packet, args, kwargs):
            raise CaptureError(
                f"{self._where()} computes {packet.strip('_')}, which is not piecewise linear, or not known "
                "to be; take a model, or a part of one, of linear layers and convolutions, ReLU and its like, pooling "
                "and BatchNorm"
            )
        return self._kept(self._linear, func(*args, **kwargs))

    def _is_linear(self, name: str, packet: str, args: Any, kwargs: Any) -> bool:
        depends = [isinstance(a, Tensor) and _place(a) in self._linear for a in args]
        if name in BILINEAR:
            return sum(depends[i] for i in BILINEAR[name] if i < len(depends)) <= 1
        if name == "div":
            return not any(depends[1:]) and kwargs.get("rounding_mode") is None
        if packet in NORMALIZATIONS:
            by_batch = NORMALIZATIONS[packet]
            return not any(depends[1:]) and (by_batch is None or not args[by_batch])
        if name == "where":
            return not depends[0]
        if name == "scatter":
            return "reduce" not in kwargs
        if packet in ("_to_copy", "copy_"):
            # What is rounded, or compared with 0, has pieces that are not seen.
            return _is_float(kwargs.get("dtype") or args[0].dtype)
        return name in LINEAR or packet in LINEAR

    def _refuse_parameters(self, packet: str, args: Any) -> None:
        """A slope or a bound that depends on the input."""
        if packet.removesuffix("_") in _OF_ONE and any(
            isinstance(a, Tensor) and _place(a) in self._linear for a in args[1:]
        ):
            raise CaptureError(
                f"{self._where()} computes {packet.strip('_')}, which is not piecewise linear where its parameters "
                "depend on the input"
            )

    def _piecewise(self, func: Any, packet: str, pieces: Any, args: Any, kwargs: Any) -> Any:
        self._refuse_parameters(packet, args)
        before = args
        if packet.endswith("_"):  # pieces are those of what was there before
            before = (args[0].clone(), *args[1:])
        output = func(*args, **kwargs)
        found: Pieces = pieces(before, kwargs, output)
        if self._ahead:
            found = found.ahead()
        self._see(self._where(), found)
        if self._frozen:
            frozen = found.frozen()
            output = args[0].copy_(frozen) if packet.endswith("_") else frozen
        compares = isinstance(found, Compared) and found.gives_first is None
        return self._kept(self._constant if compares else self._linear, output)

    def _kept(self, kind: dict[int, Tensor], output: Any) -> Any:
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                # The indices that a pooling gives beside its values are constant on a region.
                own = kind if tensor.is_floating_point() else self._constant
                own[_place(tensor)] = tensor
        return output

    def _where(self) -> str:
        return self._modules[-1] if self._modules and self._modules[-1] else "the model itself"


def _is_float(dtype: torch.dtype | None) -> bool:
    return dtype is not None and dtype.is_floating_point


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
