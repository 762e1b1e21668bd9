"""What a model keeps beside its weights: attributes, containers and objects, as they were before a pass."""

from __future__ import annotations

import array
import contextlib
import random
import sys
import types
from collections import UserDict, UserList, deque
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fnet_callbacks.capture.contents import Contents, n_bytes
from fnet_callbacks.capture.records import (
    ArrayRecord,
    BytesRecord,
    ClassRecord,
    DequeRecord,
    GeneratorRecord,
    ListRecord,
    MappingRecord,
    ModeRecord,
    Record,
    SetRecord,
    SlotsRecord,
    restore_dict,
)
from fnet_callbacks.capture.writes import CopyBeforeWrite, Writes

# Torch's registries of hooks, a dozen a module: those that a pass attaches are removed by who attached them.
_HOOKS = frozenset(name for name in vars(nn.Module()) if "hook" in name)
_REGISTRIES = ("_parameters", "_buffers", "_modules")
# How much of what is no module's own tensor is looked at in every pass: entries of containers, bytes of tensors and of
# arrays, bytes of all parameters. The passes that are looked at closely go further, in arrays up to the last.
_ENTRIES, _BYTES, _ARRAY_BYTES = 1_000, 2**20, 2**28
_LEAVES = frozenset(
    {
        *(type(None), bool, int, float, complex, str, bytes, type, range, slice),
        *(types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, property),
        *(
            torch.dtype,
            torch.device,
            torch.Size,
            torch.layout,
            torch.memory_format,
            classmethod,
            staticmethod,
        ),
    }
)
_BARE = frozenset({dict, list, deque, set, tuple})  # have no attributes
# Objects of these packages hold the world (a trainer, a data set); their modules' classes are nobody's own.
_FRAMEWORKS = frozenset({"torch", "lightning", "pytorch_lightning", "lightning_fabric", "fnet_callbacks"})
_NOT_OWN = _FRAMEWORKS | {"builtins", "abc", "typing", "torchmetrics", "transformers"}
# Classes whose objects are looked into wherever they come from, beside dataclasses.
_PLAIN = (types.SimpleNamespace, UserDict, UserList)


class State:
    """All that can be reached from a model, and what brings it back.

    Seen are the attributes of every submodule, also of those that only a list or a tuple holds, and of the classes that
    they are of: tensors, arrays, random generators, and what containers, dataclasses and objects of classes that are
    defined beside the model's hold of these. Not seen is what a closure, an iterator, an extension or an object of
    another package keeps. Of a large whole (1,000 entries, a megabyte of tensors that are no buffers) only that is kept
    which ``writes`` says that passes change; as long as it is not settled, all.

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
        self._records: list[tuple[Any, Record]] = []
        self._tails: list[tuple[Any, int]] = []
        self._flags: list[tuple[Tensor, bool]] = []
        self._seen: dict[int, Any] = {}
        self._todo: deque[Any] = deque()
        self._entries = _ENTRIES if writes.is_settled else sys.maxsize
        self._bytes = _BYTES
        self._roots = {_root(type(other)) for other in beside} - _NOT_OWN
        parameters: list[Tensor] = []
        self._open_modules(modules, parameters)
        for other in beside:
            self._seen[id(other)] = other
            self._mapping(vars(other))
        self._todo.extend(writes.changed.values())
        while self._todo:
            self._open(self._todo.popleft(), parameters)
        self._keep_parameters(parameters)
        self._contents.take()

    def watched(self) -> CopyBeforeWrite | None:
        """What follows the operations of a pass that is looked at closely; None where nothing needs it."""
        return None if self._writes.is_settled else self._contents.watched()

    def restore(self) -> list[str]:
        """Brings everything back, whatever fails of it.

        Returns:
            What could not be brought back, a sentence each.
        """
        failures = []
        for own, before in self._dicts:
            restore_dict(own, before)
        for target, record in self._records:
            try:
                if record.restore() and self._is_large(target):
                    self._writes.changed[id(target)] = target
            except Exception as error:
                failures.append(f"a {type(target).__name__} that a pass changed is not as it was: {error!r}")
        for target, length in self._tails:
            if len(target) != length:
                self._writes.changed[id(target)] = target
                if not _cut(target, length):
                    failures.append(
                        f"a {type(target).__name__} of {length:,} entries has {len(target):,} after a pass, which the "
                        "first did not change; from now on it is kept as it is"
                    )
        for tensor, flag in self._flags:
            if tensor.requires_grad is not flag:
                tensor.requires_grad_(flag)
        changed, lost, errors = self._contents.restore()
        failures += [f"a tensor that a pass changed is not as it was: {error!r}" for error in errors]
        self._writes.changed.update((id(tensor), tensor) for tensor in changed)
        failures += [
            f"a pass wrote to {self._name(tensor)}, which the first did not: training goes on from what it wrote. From "
            "now on it is brought back"
            for tensor in lost
        ]
        return failures

    # What there is.

    def _open_modules(self, modules: Iterable[nn.Module], parameters: list[Tensor]) -> None:
        kinds: set[type] = set()
        for module in modules:
            if id(module) in self._seen:
                continue
            self._seen[id(module)] = module
            kinds.add(type(module))
            own = vars(module)
            self._dicts.append((own, own.copy()))
            for name, value in own.items():
                if type(value) in _LEAVES or name in _HOOKS:
                    continue
                if name not in _REGISTRIES or type(value) is not dict:
                    self._todo.append(value)
                    continue
                self._dicts.append((value, value.copy()))
                if name == "_parameters":
                    parameters += [p for p in value.values() if p is not None]
                elif name == "_buffers":
                    for buffer in value.values():
                        self._buffer(buffer)
            if isinstance(module, torch.jit.ScriptModule):
                self._record(module, ModeRecord(module))
                parameters += module.parameters(recurse=False)
                for buffer in module.buffers(recurse=False):
                    self._buffer(buffer)
        for own_class in {base for kind in kinds for base in _own_classes(kind)}:
            self._roots.add(_root(own_class))
            self._class(own_class)

    def _open(self, value: Any, parameters: list[Tensor]) -> None:
        """Keeps what one value holds, and puts down what that holds in turn."""
        kind = _kind(type(value))
        if kind is None or id(value) in self._seen:
            return
        if isinstance(value, nn.Parameter):
            parameters.append(value)
        elif isinstance(value, nn.Module):  # one that a list hides from the model
            self._open_modules(value.modules(), parameters)
        else:
            self._seen[id(value)] = value
            # What an object of somebody's class does when it is looked at nobody knows; it is passed over then.
            with contextlib.suppress(Exception):
                kind(self, value)

    def _mapping(self, value: dict[Any, Any]) -> None:
        if self._has_room(value, len(value)):
            self._record(value, MappingRecord(value))
            self._put_down(value.values())
            self._attributes(value)

    def _proxy(self, value: Mapping[Any, Any]) -> None:
        if self._has_room(value, len(value)):
            self._put_down(value.values())

    def _list(self, value: list[Any] | deque[Any]) -> None:
        if self._has_room(value, len(value)):
            self._record(value, ListRecord(value) if isinstance(value, list) else DequeRecord(value))
            self._put_down(value)
            self._attributes(value)

    def _set(self, value: set[Any]) -> None:
        if self._has_room(value, len(value)):
            self._record(value, SetRecord(value))
            self._put_down(value)
            self._attributes(value)

    def _tuple(self, value: tuple[Any, ...] | frozenset[Any]) -> None:
        if self._has_room(value, len(value)):
            self._put_down(value)

    def _bytes_like(self, value: Any) -> None:
        self._record(value, BytesRecord(value))

    def _array(self, value: np.ndarray) -> None:
        most = _BYTES if self._writes.is_settled and id(value) not in self._writes.changed else _ARRAY_BYTES
        if value.flags.writeable and value.nbytes <= most:
            self._record(value, ArrayRecord(value))
            if value.dtype == object:
                self._put_down(value.flat)

    def _generator(self, value: Any) -> None:
        self._record(value, GeneratorRecord(value))

    def _buffer(self, value: Tensor | None) -> None:
        if value is not None and id(value) not in self._seen:
            self._seen[id(value)] = value
            self._contents.keep(value)

    def _tensor(self, value: Tensor) -> None:
        """A tensor that is neither parameter nor buffer: kept where it was seen to change, or there is room."""
        n = n_bytes(value)
        if id(value) in self._writes.changed or n <= self._bytes:
            self._bytes -= n
            self._contents.keep(value)
        else:
            self._contents.follow(value)

    def _instance(self, value: Any) -> None:
        if (
            isinstance(value, _PLAIN)
            or hasattr(value, "__dataclass_fields__")
            or _root(type(value)) in self._roots
        ):
            self._attributes(value)

    def _attributes(self, value: Any) -> None:
        """Those of an object, by name or in slots."""
        if type(value) in _BARE:
            return
        own = getattr(value, "__dict__", None)
        if own and id(own) not in self._seen and self._has_room(own, len(own)):
            self._seen[id(own)] = own
            self._record(own, MappingRecord(own))
            self._put_down(own.values())
        if (slots := _slots(type(value))) and self._has_room(value, len(slots)):
            record = SlotsRecord(value, slots)
            self._record(value, record)
            self._put_down(record.values.values())

    def _class(self, kind: type) -> None:
        if id(kind) not in self._seen:
            self._seen[id(kind)] = kind
            record = ClassRecord(kind)
            self._record(kind, record)
            self._put_down(record.values.values())

    def _keep_parameters(self, parameters: list[Tensor]) -> None:
        """Those of a small model are copied, of another those that passes change; one that moved is brought back."""
        unique = list({id(p): p for p in parameters}.values())
        self._flags = [(p, p.requires_grad) for p in unique]
        is_small = sum(map(n_bytes, unique)) <= _BYTES
        for parameter in unique:
            self._seen[id(parameter)] = parameter
            if is_small or id(parameter) in self._writes.changed:
                self._contents.keep(parameter)
            else:
                self._contents.follow(parameter)

    def _has_room(self, value: Any, n: int) -> bool:
        if id(value) in self._writes.changed:
            return True
        if n > self._entries:
            if isinstance(value, (dict, list, deque, set)):
                self._tails.append((value, n))
            return False
        self._entries -= n
        return True

    def _record(self, target: Any, record: Record) -> None:
        self._records.append((target, record))

    def _put_down(self, values: Iterable[Any]) -> None:
        self._todo.extend([value for value in values if type(value) not in _LEAVES])

    def _is_large(self, target: Any) -> bool:
        """Whether passes that are not looked at closely might pass it by: what the model has at hand they do not."""
        return not self._writes.is_settled and not isinstance(target, (nn.Module, type))

    def _name(self, tensor: Tensor) -> str:
        return next((f"`{n}`" for n, p in self._model.named_parameters() if p is tensor), "a large tensor")


@lru_cache(maxsize=4096)
def _kind(of: type) -> Any:
    """How values of a type are kept; None where they cannot change, or are not looked into."""
    if of in _LEAVES or issubclass(of, (type, str, bytes, int, float)):
        return None
    for types_, kind in (
        (Tensor, State._tensor),
        (nn.Module, State._instance),
        (dict, State._mapping),
        (types.MappingProxyType, State._proxy),
        ((list, deque), State._list),
        (set, State._set),
        ((tuple, frozenset), State._tuple),
        ((bytearray, array.array), State._bytes_like),
        (np.ndarray, State._array),
        ((torch.Generator, np.random.Generator, np.random.RandomState, random.Random), State._generator),
    ):
        if issubclass(of, types_):
            return kind
    is_foreign = not _FRAMEWORKS.isdisjoint(_root(base) for base in of.__mro__)
    return None if is_foreign else State._instance


def _root(of: type) -> str:
    return of.__module__.partition(".")[0]


@lru_cache(maxsize=4096)
def _own_classes(of: type) -> tuple[type, ...]:
    """The classes of a module that are the user's."""
    return tuple(base for base in of.__mro__ if _root(base) not in _NOT_OWN)


@lru_cache(maxsize=4096)
def _slots(of: type) -> tuple[str, ...]:
    return tuple(
        name
        for base in of.__mro__
        for name, value in vars(base).items()
        if isinstance(value, types.MemberDescriptorType)
    )


def _cut(target: Any, length: int) -> bool:
    """Takes off what was put at the end of a container; whether that is all that was to do."""
    if len(target) < length:
        return False
    if isinstance(target, list):
        list.__delitem__(target, slice(length, None))
    elif isinstance(target, dict):
        for _ in range(len(target) - length):
            target.popitem()
    elif isinstance(target, deque) and target.maxlen is None:
        for _ in range(len(target) - length):
            target.pop()
    return len(target) == length
