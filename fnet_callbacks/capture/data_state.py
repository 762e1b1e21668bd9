"""A data set as it was, after items were read from it in a process that goes on with it."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import operator
import random
import threading
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterator
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

from fnet_callbacks.capture.isolation import generators_kept
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
_MOST_OBJECTS = 100_000  # that are looked into, those nearest to the data set first
_MOST_PARTS = 10_000  # of a list: a longer one holds items
_MOST_BYTES = 2**26  # of arrays that are copied; what has more is the data

Undo = Callable[[], object]


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
    with contextlib.ExitStack() as generators:
        for generator in found.generators:
            generators.enter_context(generators_kept(generator))
        try:
            yield found.files
        finally:
            found.bring_back()


class _Found:
    """What is reached from a data set, and how each part of it is brought back."""

    def __init__(self) -> None:
        self.files: list[io.IOBase] = []
        self.generators: list[Any] = []
        self._undos: list[Undo] = []
        self._bytes = 0

    def reached(self, roots: tuple[object, ...]) -> Iterator[Any]:
        """Each object once, those nearest to the roots first."""
        alive: dict[int, Any] = {}  # an identity is one as long as its object lives
        waiting = deque(roots)
        while waiting and len(alive) < _MOST_OBJECTS:
            value = waiting.popleft()
            if isinstance(value, _PLAIN) or id(value) in alive:
                continue
            alive[id(value)] = value
            yield value
            waiting.extend(part for part in _parts(value) if not isinstance(part, _PLAIN))

    def keep(self, value: Any) -> None:
        """Notes the content of one object."""
        if isinstance(value, (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)):
            self.generators.append(value)
        elif isinstance(value, (Tensor, np.ndarray)):
            self._keep_array(value)
        elif isinstance(value, io.IOBase):
            self._keep_file(value)
        else:
            if isinstance(value, (dict, list, deque, set, bytearray)):
                self._undos.append(_undo_container(value))
            if (own := _attributes(value)) is not None:
                self._undos.append(_undo_container(own))
            if slots := _slots(value):
                self._undos.append(_undo_slots(value, slots))

    def bring_back(self) -> None:
        """Undoes what changed; one that fails stops no other."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # a handle that nobody holds any more closes
            failed = [error for undo in self._undos if (error := _error_of(undo)) is not None]
        if failed:
            warnings.warn(
                f"reading the probe changed the data set, and {len(failed)} of its parts could not be brought back: "
                f"{failed[0]!r}; pass `probe=`, a data set of its own",
                FnetWarning,
                stacklevel=2,
            )

    def _keep_array(self, array: Any) -> None:
        of_torch = isinstance(array, Tensor)
        if of_torch and (array.layout is not torch.strided or array.is_meta or array.device.type != "cpu"):
            return
        if not of_torch and (not array.flags.writeable or isinstance(array, np.memmap)):
            return
        n_bytes = array.nbytes
        if self._bytes + n_bytes > _MOST_BYTES:
            return
        self._bytes += n_bytes
        if of_torch:
            self._undos.append(_undo_tensor(array.detach()))
        else:
            self._undos.append(_undo_array(array))

    def _keep_file(self, file: Any) -> None:
        try:
            place = file.tell()
        except (OSError, ValueError):  # a pipe, or closed
            return
        self.files.append(file)
        self._undos.append(lambda: None if file.closed or file.tell() == place else file.seek(place))


def _parts(value: Any) -> Iterator[Any]:
    """What an object refers to and a data set may change through it."""
    if isinstance(value, (Tensor, np.ndarray, io.IOBase)):
        return
    if isinstance(value, FunctionType):
        yield from value.__closure__ or ()
        yield from value.__defaults__ or ()
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
        yield from itertools.islice(value.values(), _MOST_PARTS)
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        yield from itertools.islice(value, _MOST_PARTS)
    if (own := _attributes(value)) is not None:
        yield from own.values()
    for slot in _slots(value):
        with contextlib.suppress(AttributeError):
            yield slot.__get__(value)


def _attributes(value: Any) -> dict[str, Any] | None:
    """The attributes of an object, of this thread where they are by thread; None where it keeps them to itself."""
    if isinstance(value, threading.local):
        return vars(value)
    if isinstance(value, (FunctionType, CellType, MethodType)) or _is_foreign(type(value)):
        return None
    own = getattr(value, "__dict__", None)
    return own if type(own) is dict else None


@functools.cache
def _is_foreign(kind: type) -> bool:
    return any(base.__module__.partition(".")[0] in _FOREIGN for base in kind.__mro__)


def _slots(value: Any) -> list[Any]:
    """The descriptors of an object's slots."""
    return [] if isinstance(value, (FunctionType, CellType)) else _slots_of(type(value))


@functools.cache
def _slots_of(kind: type) -> list[Any]:
    if _is_foreign(kind):
        return []
    members = (own for base in kind.__mro__ if "__slots__" in vars(base) for own in vars(base).values())
    return [own for own in members if isinstance(own, MemberDescriptorType)]


def _undo_slots(value: Any, slots: list[Any]) -> Undo:
    missing = object()

    def content(slot: Any) -> Any:
        try:
            return slot.__get__(value)
        except AttributeError:
            return missing

    before = [content(slot) for slot in slots]

    def undo() -> None:
        for slot, old in zip(slots, before, strict=True):
            if content(slot) is old:
                continue
            if old is missing:
                slot.__delete__(value)
            else:
                slot.__set__(value, old)

    return undo


def _undo_container(container: Any) -> Undo:
    """What brings back the content of a container; one in which nothing changed is not written to."""
    if isinstance(container, dict):
        keys, values = list(container), list(container.values())

        def undo_mapping() -> None:
            if _are_same(container, keys) and _are_same(container.values(), values):
                return
            container.clear()
            for key, value in zip(keys, values, strict=True):  # not `update`, which adds in a Counter
                container[key] = value

        return undo_mapping
    parts = list(container)

    def undo() -> None:
        if not _are_same(container, parts):
            container.clear()
            container.update(parts) if isinstance(container, set) else container.extend(parts)

    return undo


def _are_same(now: Collection[Any], before: list[Any]) -> bool:
    """Whether they hold the same objects in the same order."""
    return len(now) == len(before) and all(map(operator.is_, now, before))


def _undo_tensor(tensor: Tensor) -> Undo:
    content, version = tensor.clone(), tensor._version
    return lambda: None if tensor._version == version else tensor.copy_(content)


def _undo_array(array: np.ndarray) -> Undo:
    content = array.copy()

    def undo() -> None:
        if array.dtype.hasobject or array.tobytes() != content.tobytes():
            np.copyto(array, content)

    return undo


def _error_of(undo: Undo) -> Exception | None:
    try:
        undo()
    except Exception as error:
        return error
    return None
