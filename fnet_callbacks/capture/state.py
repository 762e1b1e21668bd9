"""What a model keeps beside its weights: attributes, containers and objects, as they were before a pass."""

from __future__ import annotations

import array
import contextlib
import sys
import types
from collections import ChainMap, UserDict, UserList, deque
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from queue import Queue
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.quasirandom import SobolEngine

from fnet_callbacks.capture.contents import Contents, n_bytes
from fnet_callbacks.capture.origins import FRAMEWORKS, NOT_OWN, is_users_own, own_classes, root_of
from fnet_callbacks.capture.records import (
    GENERATORS,
    OF_MODULES,
    ArrayRecord,
    BytesRecord,
    ClassRecord,
    DequeRecord,
    GeneratorRecord,
    ListRecord,
    MappingRecord,
    ModuleRecord,
    Record,
    SetRecord,
    SlotsRecord,
    cut_to,
    restore_dict,
    slots_of,
)
from fnet_callbacks.capture.writes import CopyBeforeWrite, Writes

_REGISTRIES = ("_parameters", "_buffers", "_modules")
# How much is looked at in every pass of what is no buffer: entries of containers, bytes of tensors and arrays, bytes of
# all parameters. The passes that are looked at closely go further, in arrays up to the last.
_ENTRIES, _BYTES, _ARRAY_BYTES = 1_000, 2**20, 2**28
_ALWAYS = 2**12  # bytes of a tensor that finds room wherever it is reached
_LEAVES = frozenset(
    {
        *(type(None), bool, int, float, complex, str, bytes, type, range, slice),
        *(types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, property),
        *(torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format),
        *(classmethod, staticmethod),
    }
)
_CHANGEABLE: tuple[tuple[Any, Any], ...] = ((list, ListRecord), (deque, DequeRecord), (set, SetRecord))
_BARE = frozenset({dict, list, deque, set, tuple})  # have no attributes
# Classes whose objects are looked into wherever they come from, beside dataclasses.
_PLAIN = (types.SimpleNamespace, UserDict, UserList, ChainMap, Queue, SobolEngine)


class State:
    """All that can be reached from a model, and what brings it back.

    Seen are the attributes, hooks and classes of every submodule, also of those that only a list or a tuple holds, and
    the attributes of their classes: tensors, arrays, random generators, and what containers, dataclasses and objects of
    the user's own classes hold of these. Not seen is what a closure, an iterator, an extension or an object of another
    package keeps, nor what is written to a parameter of a large model past its version counter, unless a pass that was
    looked at closely did so. Of a large whole (1,000 entries, a megabyte of tensors that are no buffers) only that is
    kept which ``writes`` says that passes change; as long as it is not settled, all.

    Args:
        modules: The model and its submodules.
        beside: Objects whose attributes are kept too, such as a data module.
        writes: What passes were seen to change.
    """

    def __init__(self, modules: Sequence[nn.Module], *beside: object, writes: Writes) -> None:
        self._writes = writes
        self._model = modules[0]
        self._contents = Contents()
        self._dicts: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._records: list[tuple[Any, Record, int]] = []
        self._tails: list[tuple[Any, int, int]] = []
        self._flags: list[tuple[Tensor, bool]] = []
        self._seen: dict[int, Any] = {}
        self._places: dict[int, int] = {}  # of tensors, by ``id``
        self._todo: deque[tuple[Any, int]] = deque()
        self._entries = _ENTRIES if writes.is_settled else sys.maxsize
        self._bytes = _BYTES
        self._roots = {root_of(type(other)) for other in beside} - NOT_OWN
        self._parameters: list[tuple[Tensor, int]] = []
        # What a tensor's class makes of its own copy is its own affair.
        with torch._C.DisableTorchFunctionSubclass():
            self._open_modules(modules, 0)
            for k, other in enumerate(beside):
                self._seen[id(other)] = other
                self._mapping(vars(other), hash((1, k)))
            self._todo.extend(writes.known())
            while self._todo:
                self._open(*self._todo.popleft())
            self._keep_parameters()
            self._contents.take()

    def watched(self) -> CopyBeforeWrite | None:
        """What follows the operations of a pass that is looked at closely; None where nothing needs it."""
        return None if self._writes.is_settled else self._contents.watched()

    def restore(self) -> list[str]:
        """Brings everything back, whatever fails of it.

        Returns:
            What could not be brought back, a sentence each.
        """
        with torch._C.DisableTorchFunctionSubclass():
            return self._restore()

    def _restore(self) -> list[str]:
        failures = []
        for own, before in self._dicts:
            restore_dict(own, before)
        for target, record, place in self._records:
            try:
                if record.restore() and self._is_large(target):
                    self._writes.note(place, target)
            except Exception as error:
                failures.append(f"a {type(target).__name__} that a pass changed is not as it was: {error!r}")
        for target, length, place in self._tails:
            if len(target) != length:
                self._writes.note(place, target)
                if not cut_to(target, length):
                    failures.append(
                        f"a {type(target).__name__} of {length:,} entries has {len(target):,} after a pass, which the "
                        "first did not change; from now on it is kept as it is"
                    )
        for tensor, flag in self._flags:
            if tensor.requires_grad is not flag:
                tensor.requires_grad_(flag)
        changed, lost, errors = self._contents.restore()
        failures += [f"a tensor that a pass changed is not as it was: {error!r}" for error in errors]
        for tensor in changed:
            self._writes.note(self._places[id(tensor)], tensor)
        failures += [
            f"a pass wrote to {self._name(tensor)}, which the first did not: training goes on from what it wrote. From "
            "now on it is brought back"
            for tensor in lost
        ]
        return failures

    # What there is.

    def _open_modules(self, modules: Iterable[nn.Module], place: int) -> None:
        kinds: set[type] = set()
        for k, module in enumerate(modules):
            if id(module) in self._seen:
                continue
            self._seen[id(module)] = module
            kinds.add(type(module))
            own, here = vars(module), hash((place, k))
            self._dicts.append((own, own.copy()))
            self._record(module, ModuleRecord(module), here)
            for name, value in own.items():
                if type(value) in _LEAVES or name in OF_MODULES:
                    continue
                if name not in _REGISTRIES or type(value) is not dict:
                    self._todo.append((value, hash((here, name))))
                    continue
                self._dicts.append((value, value.copy()))
                if name == "_parameters":
                    for key, parameter in value.items():
                        self._parameter(parameter, hash((here, key)))
                elif name == "_buffers":
                    for key, buffer in value.items():
                        self._buffer(buffer, hash((here, key)))
            if isinstance(module, torch.jit.ScriptModule):
                for key, parameter in module.named_parameters(recurse=False):
                    self._parameter(parameter, hash((here, key)))
                for key, buffer in module.named_buffers(recurse=False):
                    self._buffer(buffer, hash((here, key)))
        for own_class in {base for kind in kinds for base in own_classes(kind)}:
            self._roots.add(root_of(own_class))
            self._class(own_class)

    def _open(self, value: Any, place: int) -> None:
        """Keeps what one value holds, and puts down what that holds in turn."""
        kind = _kind(type(value))
        if kind is None or id(value) in self._seen:
            return
        if isinstance(value, nn.Parameter):
            self._parameter(value, place)
        elif isinstance(value, nn.Module):  # one that a list hides from the model
            self._open_modules(value.modules(), place)
        else:
            self._seen[id(value)] = value
            # What an object of somebody's class does when it is looked at nobody knows; it is passed over then.
            with contextlib.suppress(Exception):
                kind(self, value, place)

    def _mapping(self, value: dict[Any, Any], place: int) -> None:
        if self._has_room(value, dict.__len__(value), place):
            record = MappingRecord(value)
            self._record(value, record, place)
            self._put_down(record.items.items(), place)
            self._attributes(value, place)

    def _proxy(self, value: Mapping[Any, Any], place: int) -> None:
        if self._has_room(value, len(value), place):
            self._put_down(value.items(), place)

    def _changeable(self, value: Any, place: int) -> None:
        base, record_of = next((base, of) for base, of in _CHANGEABLE if isinstance(value, base))
        if self._has_room(value, base.__len__(value), place):
            record = record_of(value)
            self._record(value, record, place)
            self._put_down(enumerate(record.items), place)
            self._attributes(value, place)

    def _unchangeable(self, value: Any, place: int) -> None:
        base: Any = tuple if isinstance(value, tuple) else frozenset
        if self._has_room(value, base.__len__(value), place):
            self._put_down(enumerate(base.__iter__(value)), place)
            self._attributes(value, place)

    def _bytes_like(self, value: Any, place: int) -> None:
        if self._has_bytes(memoryview(value).nbytes, place):
            self._record(value, BytesRecord(value), place)

    def _array(self, value: np.ndarray, place: int) -> None:
        plain = value.view(np.ndarray)  # of a masked one the values; its mask is an attribute
        if plain.flags.writeable and self._has_bytes(plain.nbytes, place):
            if plain.dtype == object and not self._has_room(value, plain.size, place):
                return
            self._record(plain, ArrayRecord(plain), place)
            if plain.dtype == object:
                self._put_down(enumerate(plain.flat), place)
        if type(value) is not np.ndarray:
            self._attributes(value, place)

    def _generator(self, value: Any, place: int) -> None:
        self._record(value, GeneratorRecord(value), place)

    def _parameter(self, value: Tensor | None, place: int) -> None:
        if value is not None:
            self._parameters.append((value, place))
            if own := vars(value):
                self._todo.append((own, hash((place, "__dict__"))))

    def _buffer(self, value: Tensor | None, place: int) -> None:
        if value is not None and id(value) not in self._seen:
            self._seen[id(value)] = value
            self._keep(value, place)

    def _tensor(self, value: Tensor, place: int) -> None:
        """A tensor that is neither parameter nor buffer: kept where it was seen to change, or there is room."""
        n = n_bytes(value)
        if place in self._writes or n <= max(self._bytes, _ALWAYS):
            self._bytes -= n
            self._keep(value, place)
        else:
            self._follow(value, place)
        if vars(value):
            self._attributes(value, place)

    def _keep(self, value: Tensor, place: int) -> None:
        """Copies a tensor; one of a kind that cannot be copied is passed over."""
        self._places[id(value)] = place
        with contextlib.suppress(Exception):
            self._contents.keep(value)

    def _follow(self, value: Tensor, place: int) -> None:
        self._places[id(value)] = place
        with contextlib.suppress(Exception):
            self._contents.follow(value)

    def _instance(self, value: Any, place: int) -> None:
        kind = type(value)
        is_known = isinstance(value, _PLAIN) or hasattr(kind, "__dataclass_fields__")
        if is_known or root_of(kind) in self._roots or is_users_own(root_of(kind)):
            self._attributes(value, place)

    def _attributes(self, value: Any, place: int) -> None:
        """Those of an object, by name or in slots."""
        if type(value) in _BARE:
            return
        own = getattr(value, "__dict__", None)
        inside = hash((place, "__dict__"))
        if own and id(own) not in self._seen and self._has_room(own, len(own), inside):
            self._seen[id(own)] = own
            record = MappingRecord(own)
            self._record(own, record, inside)
            self._put_down(record.items.items(), place)
        if (slots := slots_of(type(value))) and self._has_room(value, len(slots), place):
            record = SlotsRecord(value, slots)
            self._record(value, record, place)
            self._put_down(record.values, place)

    def _class(self, kind: type) -> None:
        if id(kind) not in self._seen:
            self._seen[id(kind)] = kind
            record, place = ClassRecord(kind), hash((kind.__module__, kind.__qualname__))
            self._record(kind, record, place)
            self._put_down(record.values.items(), place)

    def _keep_parameters(self) -> None:
        """Those of a small model are copied, of another those that passes change; one that moved is brought back."""
        unique = {id(p): (p, place) for p, place in reversed(self._parameters)}.values()
        self._flags = [(p, p.requires_grad) for p, _ in unique]
        is_small = sum(n_bytes(p) for p, _ in unique) <= _BYTES
        for parameter, place in unique:
            self._seen[id(parameter)] = parameter
            if is_small or place in self._writes:
                self._keep(parameter, place)
            else:
                self._follow(parameter, place)

    def _has_room(self, value: Any, n: int, place: int) -> bool:
        if place in self._writes:
            return True
        if n > self._entries:
            if isinstance(value, (dict, list, deque, set)):
                self._tails.append((value, n, place))
            return False
        self._entries -= n
        return True

    def _has_bytes(self, n: int, place: int) -> bool:
        """Whether an array is looked at; of those that no operation of torch writes to."""
        if place in self._writes or (not self._writes.is_settled and n <= _ARRAY_BYTES):
            return True
        if n > max(self._bytes, _ALWAYS):
            return False
        self._bytes -= n
        return True

    def _record(self, target: Any, record: Record, place: int) -> None:
        self._records.append((target, record, place))

    def _put_down(self, items: Iterable[tuple[Any, Any]], place: int) -> None:
        """Puts down what stands somewhere, by names or by numbers."""
        self._todo.extend(
            [
                (value, hash((place, key if type(key) is str else k)))
                for k, (key, value) in enumerate(items)
                if type(value) not in _LEAVES
            ]
        )

    def _is_large(self, target: Any) -> bool:
        """Whether passes that are not looked at closely might pass it by: what the model has at hand they do not."""
        return not self._writes.is_settled and not isinstance(target, (nn.Module, type))

    def _name(self, tensor: Tensor) -> str:
        return next((f"`{n}`" for n, p in self._model.named_parameters() if p is tensor), "a large tensor")


@lru_cache(maxsize=4096)
def _kind(of: type) -> Any:
    """How values of a type are kept; None where they cannot change, or are not looked into."""
    if of in _LEAVES or issubclass(of, (type, str, bytes, int, float, complex)):
        return None
    for types_, kind in (
        (Tensor, State._tensor),
        (nn.Module, State._instance),
        (dict, State._mapping),
        (types.MappingProxyType, State._proxy),
        ((list, deque, set), State._changeable),
        ((tuple, frozenset), State._unchangeable),
        ((bytearray, array.array), State._bytes_like),
        (np.ndarray, State._array),
        (GENERATORS, State._generator),
    ):
        if issubclass(of, types_):
            return kind
    if issubclass(of, _PLAIN):
        return State._instance
    is_foreign = not FRAMEWORKS.isdisjoint(root_of(base) for base in of.__mro__)
    return None if is_foreign else State._instance
