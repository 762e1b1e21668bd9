"""What tensors and arrays hold, and how it is brought back, to the bit."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors as flatten_dense_tensors
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from fnet_callbacks.capture.writes import CopyBeforeWrite

# Dense tensors of up to so many bytes are copied and compared together: an operation a tensor would cost more.
_SMALL = 2**16
_JOINED = {
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.complex128),
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
}
_UINTS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Contents:
    """The contents of tensors, before a pass and after it.

    Sparse, nested and wrapped tensors are kept by the dense ones that they are made of.
    """

    def __init__(self) -> None:
        self._small: defaultdict[tuple[torch.dtype, torch.device], list[Tensor]] = defaultdict(list)
        self._flat: list[tuple[list[Tensor], list[Tensor], Tensor]] = []
        self._large: list[tuple[Tensor, Tensor, Tensor]] = []
        self._made_of: list[tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]] = []
        self._followed: list[tuple[Tensor, Tensor, int]] = []
        self._copies: dict[int, Tensor] = {}

    def keep(self, tensor: Tensor) -> None:
        """Keeps a tensor that has a content."""
        if _is_empty(tensor):
            return
        if not _is_dense(tensor):
            parts = [(part, part.detach().clone()) for part in parts_of(tensor)]
            self._made_of.append((tensor, tensor.detach(), parts))
        elif tensor.nbytes <= _SMALL and tensor.dtype in _JOINED:
            self._small[tensor.dtype, tensor.device].append(tensor)
        else:
            self._large.append((tensor, tensor.detach(), tensor.detach().clone()))

    def follow(self, tensor: Tensor) -> None:
        """Keeps a dense tensor without a copy: it can be brought back where it was put elsewhere, or `watched`."""
        if _is_empty(tensor) or tensor.is_inference():  # the last counts no writes
            return
        if not _is_dense(tensor):
            self.keep(tensor)
        else:
            self._followed.append((tensor, tensor.detach(), tensor._version))

    def take(self) -> None:
        """Copies the small ones, together, when all are known."""
        for tensors in self._small.values():
            try:
                self._flat.append(_joined(tensors))
            except Exception:  # one of a class of its own, which goes with no other
                for tensor in tensors:
                    with contextlib.suppress(Exception):
                        self._flat.append(_joined([tensor]))
        self._small.clear()

    def watched(self) -> CopyBeforeWrite | None:
        """Copies, within its block, the followed ones that are about to be written to; None where there is none."""
        if not self._followed:
            return None
        mode = CopyBeforeWrite(tensor for tensor, _, _ in self._followed)
        self._copies = mode.copies
        return mode

    def restore(self) -> tuple[list[Tensor], list[Tensor], list[Exception]]:
        """Brings everything back; only what differs is written: to autograd a write is a change, even of the same bits.

        Returns:
            The large ones that had changed; the followed ones among them that keep what was written, for want of a
            copy; and what went wrong with single ones, which stops no other.
        """
        changed: list[Tensor] = []
        lost: list[Tensor] = []
        errors: list[Exception] = []

        def attempt(restore: Callable[..., Any], *arguments: Any) -> Any:
            try:
                return restore(*arguments)
            except Exception as error:
                errors.append(error)
                return False

        for tensors, homes, content in self._flat:
            if attempt(_are_as_before, tensors, homes, content):
                continue
            for tensor, home, part in zip(tensors, homes, _cut(content, homes), strict=True):
                attempt(bring_back, tensor, home, part)
        for tensor, home, content in self._large:
            if attempt(bring_back, tensor, home, content):
                changed.append(tensor)
        for tensor, home, parts in self._made_of:
            attempt(_restore_parts, tensor, home, parts)
        for tensor, home, version in self._followed:
            content = self._copies.get(id(tensor))
            if content is not None:
                changed.append(tensor)
                attempt(bring_back, tensor, home, content)
            elif _has_moved(tensor, home):
                changed.append(tensor)
                tensor.data = home
            elif tensor._version != version:
                changed.append(tensor)
                lost.append(tensor)
        return changed, lost, errors


def bring_back(tensor: Tensor, home: Tensor, content: Tensor) -> bool:
    """Puts a tensor back to its memory and shape, and its content into it; whether anything was different.

    Args:
        tensor: A dense one.
        home: Its ``detach()`` from before, which shares its memory.
        content: A copy from before.
    """
    has_moved = _has_moved(tensor, home)
    if has_moved:
        tensor.data = home
    if _same_bits(tensor, content):
        return has_moved
    if tensor.is_inference():
        with torch.inference_mode():
            tensor.copy_(content)
    elif 0 in tensor.stride() and tensor.numel():
        # One place in memory for many entries, as after `expand`: each is written once.
        first = tuple(slice(1) if step == 0 else slice(None) for step in tensor.stride())
        tensor[first].copy_(content[first])
    else:
        tensor.copy_(content)
    return True


def n_bytes(tensor: Tensor) -> int:
    """Bytes of the values of a tensor, of whichever layout; 0 where there are none yet."""
    if _is_empty(tensor):
        return 0
    return tensor.nbytes if _is_dense(tensor) else sum(part.nbytes for part in parts_of(tensor))


def parts_of(tensor: Tensor) -> list[Tensor]:
    """The dense tensors that a sparse, nested or wrapped one is made of; itself where it is dense, none if unknown."""
    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()  # type: ignore[attr-defined]
        inner = [getattr(tensor, name) for name in names]  # the mesh of a distributed one is among them
        return [part for tensor in inner if isinstance(tensor, Tensor) for part in parts_of(tensor)]
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    if tensor.is_nested:
        return list(tensor.unbind())
    return [tensor] if tensor.layout is torch.strided else []


def _joined(tensors: list[Tensor]) -> tuple[list[Tensor], list[Tensor], Tensor]:
    homes = [tensor.detach() for tensor in tensors]
    content = flatten_dense_tensors(homes)
    return tensors, homes, content.clone() if len(homes) == 1 else content


def _are_as_before(tensors: list[Tensor], homes: list[Tensor], content: Tensor) -> bool:
    return not any(map(_has_moved, tensors, homes)) and _same_bits(flatten_dense_tensors(tensors), content)


def _cut(content: Tensor, homes: list[Tensor]) -> list[Tensor]:
    parts = content.split([home.numel() for home in homes])
    return [part.view(home.shape) for part, home in zip(parts, homes, strict=True)]


def _restore_parts(tensor: Tensor, home: Tensor, parts: list[tuple[Tensor, Tensor]]) -> None:
    now = parts_of(tensor)
    if len(now) != len(parts) or any(_has_moved(a, b) for a, (b, _) in zip(now, parts, strict=True)):
        tensor.data = home
        now = parts_of(tensor)
    for part, (_, content) in zip(now, parts, strict=True):
        if not _same_bits(part, content):
            part.copy_(content)
    if tensor.layout is torch.sparse_coo and tensor.is_coalesced() != home.is_coalesced():
        tensor._coalesced_(home.is_coalesced())


def _has_moved(tensor: Tensor, home: Tensor) -> bool:
    """Whether it has other memory, another shape or another type than before."""
    return (
        tensor.data_ptr() != home.data_ptr()
        or tensor.shape != home.shape
        or tensor.dtype != home.dtype
        or tensor.stride() != home.stride()
    )


def _is_empty(tensor: Tensor) -> bool:
    """Whether it has no content: on the meta device, not initialised, or of a class that only acts like a tensor."""
    if tensor.is_meta or is_lazy(tensor):
        return True
    kind = type(tensor)
    if kind is Tensor or kind is torch.nn.Parameter:
        return False
    acts = getattr(kind, "__torch_dispatch__", None) is not getattr(Tensor, "__torch_dispatch__", None)
    return acts and not is_traceable_wrapper_subclass(tensor)


def _is_dense(tensor: Tensor) -> bool:
    return (
        tensor.layout is torch.strided and not tensor.is_nested and not is_traceable_wrapper_subclass(tensor)
    )


def _same_bits(a: Tensor, b: Tensor) -> bool:
    ours, theirs = _bits(a), _bits(b)
    if ours.device.type == "cpu" == theirs.device.type:
        return np.array_equal(ours.numpy(), theirs.numpy())  # in a third of the time
    return torch.equal(ours, theirs)


def _bits(tensor: Tensor) -> Tensor:
    """A tensor's values as integers, so that a NaN does not look like a difference."""
    values = tensor.detach().resolve_conj().resolve_neg()
    if values.is_quantized:
        return values.int_repr()
    if values.is_complex():
        values = torch.view_as_real(values)
    kind = _UINTS.get(values.element_size())
    return values if kind is None or values.dtype is torch.bool else values.view(kind)


def restore_array(array: np.ndarray, content: np.ndarray) -> bool:
    """Brings an array's values back; whether they were different."""
    if array.shape != content.shape:
        array.resize(content.shape, refcheck=False)
    elif _same(array, content):
        return False
    np.copyto(array, content)
    return True


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether arrays of one shape hold the same; of objects the very same ones."""
    if a.dtype.hasobject:
        return a.dtype == object and all(x is y for x, y in zip(a.flat, b.flat, strict=True))
    if a.flags.c_contiguous and b.flags.c_contiguous:
        return np.array_equal(a.reshape(-1).view(np.uint8), b.reshape(-1).view(np.uint8))
    return a.tobytes() == b.tobytes()
