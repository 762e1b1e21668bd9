"""Batches as a checkpoint can hold them: plain containers of tensors and numbers, whatever a loader's are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

_PLAIN = (type(None), bool, int, float, complex, str, bytes)


def as_plain(data: Any) -> Any:
    """What a batch holds, in dicts, lists, tensors and plain values; `as_batch` is the way back.

    A mapping of any class becomes a dict, so do the fields of a dataclass; an array becomes a tensor.

    Raises:
        TypeError: There is an object of another kind in it.
    """
    if type(data) in _PLAIN:
        return data
    if isinstance(data, Tensor):
        return data.detach().as_subclass(Tensor)
    if isinstance(data, np.ndarray) and data.dtype.kind in "biufc":
        return torch.from_numpy(data.copy())
    if isinstance(data, np.generic):
        return data.item()
    if isinstance(data, Mapping):
        return {key: as_plain(value) for key, value in data.items()}
    if isinstance(data, Sequence):
        return [as_plain(value) for value in data]
    if dataclasses.is_dataclass(data):
        return {field.name: as_plain(getattr(data, field.name)) for field in dataclasses.fields(data)}
    raise TypeError(f"{type(data).__name__} is no container, tensor or plain value")


def as_batch(plain: Any, *, like: Any) -> Any:
    """A batch again from what `as_plain` made of one, with the classes of another batch of the same loader.

    Args:
        plain: What a checkpoint holds.
        like: Any batch of the loader, of any length.
    """
    if isinstance(like, np.ndarray) and isinstance(plain, Tensor):
        return plain.numpy()
    if isinstance(plain, dict):
        values = {key: as_batch(value, like=_part(like, key)) for key, value in plain.items()}
        if dataclasses.is_dataclass(like) and not isinstance(like, type):
            return dataclasses.replace(like, **values)
        made_of: Any = type(like) if isinstance(like, Mapping) else dict
        return made_of(values)
    if isinstance(plain, list):
        parts = list(like) if isinstance(like, Sequence) and not isinstance(like, (str, bytes)) else []
        values = [as_batch(value, like=_at(parts, i)) for i, value in enumerate(plain)]
        if isinstance(like, tuple):
            return type(like)(*values) if hasattr(like, "_fields") else tuple(values)
        return values
    return plain


def _part(like: Any, key: Any) -> Any:
    return like.get(key) if isinstance(like, Mapping) else getattr(like, str(key), None)


def _at(parts: Sequence[Any], index: int) -> Any:
    """The part at a place; of a list as long as another batch, the last."""
    return parts[min(index, len(parts) - 1)] if parts else None
