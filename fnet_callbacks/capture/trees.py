"""What a batch is made of: its tensors, wherever they stand in it."""

from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import Dataset

_PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, range, type, FunctionType, ModuleType)
_DEEPEST = 6
_SHOWN = 4  # parts that a description names

Step = tuple[str, Any]  # "item" and its key, or "field" and its name
Path = tuple[Step, ...]


def is_record(data: Any) -> bool:
    """Whether it is an instance of a dataclass."""
    return dataclasses.is_dataclass(data) and not isinstance(data, type)


def is_list(data: Any) -> bool:
    """Whether it is a sequence of parts: no text, no named parts of one thing, such as a packed sequence."""
    return isinstance(data, Sequence) and not isinstance(data, (str, bytes, bytearray, range, PackedSequence))


def walk(data: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """All that ``data`` is made of with where it stands, a container before its contents.

    Mappings, sequences, dataclasses, and the attributes of other objects; a packed sequence is one thing.
    """
    yield path, data
    if len(path) < _DEEPEST:
        for step, part in _parts(data):
            yield from walk(part, (*path, step))


def at(data: Any, path: Path) -> Any:
    """What stands at a place.

    Raises:
        LookupError, AttributeError, TypeError: There is no such place.
    """
    for kind, key in path:
        data = data[key] if kind == "item" else getattr(data, key)
    return data


def tensors_in(data: Any) -> list[Tensor]:
    """The tensors that have an axis, in their order; of a packed sequence its values."""
    found = [part.data if isinstance(part, PackedSequence) else part for _, part in walk(data)]
    return [part for part in found if isinstance(part, Tensor) and part.dim()]


def mapped(
    data: Any, function: Callable[[Tensor], Tensor], *, other: Callable[[Any], Any] | None = None
) -> Any:
    """A copy of the containers with ``function`` of each tensor.

    Args:
        data: Mappings, sequences, dataclasses, which may be frozen, and packed sequences.
        function: From a tensor to what takes its place.
        other: The same for objects that are neither containers nor plain values; None keeps them.
    """
    if isinstance(data, Tensor):
        return function(data)
    if isinstance(data, _PLAIN):
        return data
    if isinstance(data, PackedSequence):
        orders = (data.sorted_indices, data.unsorted_indices)
        return PackedSequence(
            function(data.data), data.batch_sizes, *(None if own is None else function(own) for own in orders)
        )
    return _rebuilt(data, lambda part: mapped(part, function, other=other), other)


def to_device(data: Any, device: torch.device) -> Any:
    """A copy of ``data`` with its tensors on ``device``, and so the objects in it that know ``to``."""
    return mapped(data, lambda tensor: tensor.to(device), other=lambda value: _moved(value, device))


def detached_copy(data: Any) -> Any:
    """A copy of ``data`` on the CPU that shares no memory with the batch it came from.

    Arrays are copied too, and objects of classes of which nothing is known, where they can be.
    """
    return mapped(data, lambda tensor: tensor.detach().to("cpu", copy=True), other=_copied)


def first_of(data: Any, n: int, *, n_samples: int) -> Any:
    """The first ``n`` of its samples; a tensor, or a list, whose first axis is not theirs is left as it is.

    A tuple is a list of parts, not of samples, unless it is in another container.
    """
    if type(data) is tuple:
        return tuple(_first_of(part, n, n_samples) for part in data)
    return _first_of(data, n, n_samples)


def described(data: Any) -> str:
    """Types and shapes, for a message."""
    if isinstance(data, Tensor):
        return f"Tensor{list(data.shape)} of {str(data.dtype).removeprefix('torch.')}"
    if isinstance(data, np.ndarray):
        return f"array{list(data.shape)} of {data.dtype}"
    name = type(data).__name__
    if isinstance(data, Mapping):
        shown = [f"{key!r}: {described(value)}" for key, value in list(data.items())[:_SHOWN]]
        name = f"{name} of {len(data)}"
    elif is_list(data):
        shown = [described(value) for value in data[:_SHOWN]]
        name = f"{name} of {len(data)}"
    else:
        return repr(data) if isinstance(data, (type(None), bool, int, float)) else name
    return f"{name} ({', '.join(shown)}{', ...' if len(data) > _SHOWN else ''})"


def _first_of(data: Any, n: int, n_samples: int) -> Any:
    if isinstance(data, Tensor):
        return data[:n] if data.dim() and len(data) == n_samples else data
    if isinstance(data, (_PLAIN, PackedSequence)):
        return data
    is_of_parts = is_list(data) and not hasattr(data, "_fields")
    if is_of_parts and len(data) == n_samples and not _all_long(data, n_samples):
        return data[:n]
    return _rebuilt(data, lambda part: _first_of(part, n, n_samples), None)


def _all_long(data: Sequence[Any], n: int) -> bool:
    """Whether all parts are tensors that have the samples on their first axis."""
    return all(isinstance(part, Tensor) and part.dim() and len(part) == n for part in data)


def _parts(data: Any) -> Iterator[tuple[Step, Any]]:
    if isinstance(data, (*_PLAIN, Tensor, np.ndarray, PackedSequence, nn.Module, Dataset)):
        return
    if isinstance(data, Mapping):
        yield from ((("item", key), value) for key, value in data.items())
    elif is_list(data):
        yield from ((("item", i), value) for i, value in enumerate(data))
    elif is_record(data):
        yield from ((("field", f.name), getattr(data, f.name, None)) for f in dataclasses.fields(data))
    else:
        yield from ((("field", name), value) for name, value in getattr(data, "__dict__", {}).items())


def _with_fields(data: Any, function: Callable[[Any], Any]) -> Any:
    """A copy of a dataclass, frozen or not, with ``function`` of each field."""
    made = copy.copy(data)
    for field in dataclasses.fields(data):
        if not hasattr(data, field.name):
            continue
        value = function(getattr(data, field.name))
        try:
            setattr(made, field.name, value)
        except dataclasses.FrozenInstanceError:
            object.__setattr__(made, field.name, value)
    for name, value in vars(type(data)).items():
        if isinstance(value, cached_property):
            getattr(made, "__dict__", {}).pop(name, None)
    return made


def _rebuilt(data: Any, function: Callable[[Any], Any], other: Callable[[Any], Any] | None) -> Any:
    """A container of the same class with ``function`` of each part."""
    made_of: Any = type(data)
    if is_record(data):
        return _with_fields(data, function)
    if isinstance(data, Mapping):
        parts = OrderedDict((key, function(value)) for key, value in data.items())
        return made_of(data.default_factory, parts) if isinstance(data, defaultdict) else made_of(parts)
    if is_list(data):
        values = [function(value) for value in data]
        return made_of(*values) if hasattr(data, "_fields") else made_of(values)
    return data if other is None else other(data)


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if callable(getattr(value, "to", None)) else value


def _copied(value: Any) -> Any:
    """A copy that is not attached to what the object belongs to: the data set or the model that made it."""
    own = getattr(value, "__dict__", {}).values()
    memo: dict[int, Any] = {id(part): part for part in own if isinstance(part, (Dataset, nn.Module))}
    memo |= {
        id(part): part.detach().to("cpu", copy=True) for _, part in walk(value) if isinstance(part, Tensor)
    }
    try:
        made = copy.deepcopy(value, memo)
    except Exception:  # not made to be copied: its memory is shared
        return value
    return _moved(made, torch.device("cpu"))
