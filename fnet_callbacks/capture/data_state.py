"""A data set as it was, after items were read from it in a process that goes on with it."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import random
import threading
import warnings
from collections import deque
from collections.abc import Iterator
from pathlib import PurePath
from types import (
    BuiltinFunctionType,
    CellType,
    FunctionType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from fnet_callbacks.capture.records import (
    ArrayRecord,
    BytesRecord,
    DequeRecord,
    GeneratorRecord,
    ListRecord,
    MappingRecord,
    Record,
    SetRecord,
    SlotsRecord,
    slots_of,
)
from fnet_callbacks.errors import FnetWarning

_PLAIN = (
    *(
        type(None),
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        range,
        slice,
        type,
        np.generic,
        np.dtype,
        torch.dtype,
    ),
    *(ModuleType, BuiltinFunctionType, PurePath),
)
# What holds the data themselves, or works in threads of its own, keeps its state to itself.
_FOREIGN = frozenset({
    *("PIL", "asyncio", "concurrent", "fnet_callbacks", "lightning", "logging", "multiprocessing", "numpy", "pandas"),
    *("polars", "pyarrow", "pytorch_lightning", "queue", "scipy", "socket", "subprocess", "threading", "weakref"),
})  # fmt: skip
_MAX_OBJECTS = 100_000  # that are looked into, those nearest to the data set first
_MAX_PARTS = 10_000  # of a list: a longer one holds items
_MAX_BYTES = 2**26  # of arrays that are copied; what has more is the data


@contextlib.contextmanager
def data_kept(*roots: object) -> Iterator[list[io.IOBase]]:
    """Leaves a data set as it was before items were read from it in a block, as a worker that starts later finds it.

    Handles that it opened, by HDF5, LMDB, zip or as a file, are not in its attributes any more and close when nothing
    else holds them; files that were open stand where they stood; caches and counts hold what they held. What is
    brought back are attributes, slots, and what lists, dicts, sets and arrays of up to 64 MB hold, of all that is
    reached from the roots: wrapped data sets, transforms, closures; also their random generators. A module's and a
    class's own variables are not, nor what an extension keeps to itself.

    Args:
        roots: The data set, and what else of a loader is used.

    Yields:
        The open files that were found.

    Cost: a look at each object, at most 100,000, and a copy of the arrays.
    """
    found = _Found()
    for value in found.reached(roots):
        found.keep(value)
    try:
        yield found.files
    finally:
        found.bring_back()


class _Found:
    """What is reached from a data set, and how each part of it is brought back."""

    def __init__(self) -> None:
        self.files: list[io.IOBase] = []
        self._records: list[Record] = []
        self._bytes = 0

    def reached(self, roots: tuple[object, ...]) -> Iterator[Any]:
        """Each object once, those nearest to the roots first."""
        alive: dict[int, Any] = {}  # an identity is one as long as its object lives
        waiting = deque(roots)
        while waiting and len(alive) < _MAX_OBJECTS:
            value = waiting.popleft()
            if isinstance(value, _PLAIN) or id(value) in alive:
                continue
            alive[id(value)] = value
            yield value
            waiting.extend(part for part in _parts(value) if not isinstance(part, _PLAIN))

    def keep(self, value: Any) -> None:
        """Notes the content of one object."""
        if isinstance(value, (Tensor, np.ndarray)):
            self._keep_array(value)
        elif isinstance(value, io.IOBase):
            with contextlib.suppress(OSError, ValueError):  # a pipe, or closed
                self._records.append(_FileRecord(value))
                self.files.append(value)
        else:
            kinds = (record for kind, record in _RECORDS.items() if isinstance(value, kind))
            self._records.extend(record(value) for record in kinds)
            if (own := _attributes(value)) is not None:
                self._records.append(MappingRecord(own))
            if slots := _slots(value):
                self._records.append(SlotsRecord(value, slots))

    def bring_back(self) -> None:
        """Undoes what changed; one that fails stops no other."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # a handle that nobody holds any more closes
            failed = [error for record in self._records if (error := _error_of(record)) is not None]
        if failed:
            warnings.warn(
                f"reading the probe changed the data set, and {len(failed)} of its parts could not be brought back: "
                f"{failed[0]!r}; pass `probe=`, a data set of its own",
                FnetWarning,
                stacklevel=2,
            )

    def _keep_array(self, array: Any) -> None:
        if isinstance(array, Tensor):
            if array.layout is not torch.strided or array.device.type != "cpu" or array.is_quantized:
                return
        elif not array.flags.writeable or isinstance(array, np.memmap):
            return
        if self._bytes + array.nbytes <= _MAX_BYTES:
            self._bytes += array.nbytes
            self._records.append(_TensorRecord(array) if isinstance(array, Tensor) else ArrayRecord(array))


class _FileRecord(Record):
    """Where an open file stands.

    Raises:
        OSError, ValueError: It stands nowhere.
    """

    def __init__(self, target: Any) -> None:
        self._target, self._place = target, target.tell()

    @override
    def restore(self) -> bool:
        if self._target.closed or self._target.tell() == self._place:
            return False
        self._target.seek(self._place)
        return True


class _TensorRecord(Record):
    """The values of a tensor, by its count of writes."""

    def __init__(self, target: Tensor) -> None:
        self._target = target.detach()
        self._content, self._version = self._target.clone(), target._version

    @override
    def restore(self) -> bool:
        if self._target._version == self._version:
            return False
        self._target.copy_(self._content)
        return True


_RECORDS: dict[Any, Any] = {
    dict: MappingRecord,
    list: ListRecord,
    deque: DequeRecord,
    set: SetRecord,
    bytearray: BytesRecord,
    (torch.Generator, np.random.Generator, np.random.RandomState, random.Random): GeneratorRecord,
}


def _parts(value: Any) -> Iterator[Any]:
    """What an object refers to and a data set may change through it."""
    if isinstance(value, (Tensor, np.ndarray, io.IOBase)):
        return
    if isinstance(value, FunctionType):
        yield from (*(value.__closure__ or ()), *(value.__defaults__ or ()))
        return
    if isinstance(value, CellType):
        with contextlib.suppress(ValueError):  # an empty one
            yield value.cell_contents
        return
    if isinstance(value, MethodType):
        yield value.__self__
        return
    if isinstance(value, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    if isinstance(value, (dict, MappingProxyType)):
        yield from itertools.islice(value.values(), _MAX_PARTS)
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        yield from itertools.islice(value, _MAX_PARTS)
    if (own := _attributes(value)) is not None:
        yield from own.values()
    for slot in _slots(value):
        with contextlib.suppress(AttributeError):
            yield slot.__get__(value)


def _attributes(value: Any) -> dict[str, Any] | None:
    """The attributes of an object, of this thread where they are by thread; None where it keeps them to itself."""
    if isinstance(value, threading.local):
        return vars(value)
    if isinstance(value, (CellType, MethodType)) or _is_foreign(type(value)):
        return None
    own = getattr(value, "__dict__", None)
    return own if type(own) is dict else None


def _slots(value: Any) -> tuple[MemberDescriptorType, ...]:
    return () if _is_foreign(type(value)) else slots_of(type(value))


@functools.lru_cache(maxsize=4096)
def _is_foreign(kind: type) -> bool:
    return any(base.__module__.partition(".")[0] in _FOREIGN for base in kind.__mro__)


def _error_of(record: Record) -> Exception | None:
    try:
        record.restore()
    except Exception as error:
        return error
    return None
