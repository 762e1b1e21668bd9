"""Undo records: what one container, object or generator held before a pass, and how that is brought back.

Only what differs is written back, and past the class of a container: one that is frozen lets nobody write to it, and
what is brought back was there before.
"""

from __future__ import annotations

import random
import types
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from operator import is_, itemgetter
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from typing_extensions import override

from fnet_callbacks.capture.contents import restore_array

_MISSING = object()
# Torch's registries of hooks, a dozen a module.
HOOKS = tuple(name for name, value in vars(nn.Module()).items() if "hook" in name and isinstance(value, dict))
_hooks_of = itemgetter(*HOOKS)
OF_MODULES = frozenset({*HOOKS, "_non_persistent_buffers_set"})  # attributes that a `ModuleRecord` has
GENERATORS = (
    *(torch.Generator, np.random.Generator, np.random.BitGenerator, np.random.RandomState, random.Random),
)


class Record(Protocol):
    """What something held."""

    def restore(self) -> bool:
        """Brings it back; whether it had changed."""
        ...


class MappingRecord(Record):
    """Which keys a dict has, in which order, and their values."""

    __slots__ = ("_base", "_target", "items")

    def __init__(self, target: dict[Any, Any]) -> None:
        self._base: Any = OrderedDict if isinstance(target, OrderedDict) else dict
        self._target, self.items = target, dict(self._base.items(target))

    @override
    def restore(self) -> bool:
        return restore_dict(self._target, self.items, self._base)


class ListRecord(Record):
    """What stands in a list."""

    __slots__ = ("_target", "items")

    def __init__(self, target: list[Any]) -> None:
        self._target, self.items = target, list.copy(target)

    @override
    def restore(self) -> bool:
        if _are_the_same(list.__iter__(self._target), self.items, list.__len__(self._target)):
            return False
        list.__setitem__(self._target, slice(None), self.items)
        return True


class DequeRecord(Record):
    """What stands in a deque."""

    __slots__ = ("_target", "items")

    def __init__(self, target: deque[Any]) -> None:
        self._target, self.items = target, list(deque.__iter__(target))

    @override
    def restore(self) -> bool:
        if _are_the_same(deque.__iter__(self._target), self.items, deque.__len__(self._target)):
            return False
        deque.clear(self._target)
        deque.extend(self._target, self.items)
        return True


class SetRecord(Record):
    """What is in a set."""

    __slots__ = ("_target", "items")

    def __init__(self, target: set[Any]) -> None:
        self._target, self.items = target, set(set.__iter__(target))

    @override
    def restore(self) -> bool:
        if set.__eq__(self._target, self.items):
            return False
        set.clear(self._target)
        set.update(self._target, self.items)
        return True


class BytesRecord(Record):
    """The content of a bytearray or an ``array.array``."""

    __slots__ = ("_base", "_content", "_target")

    def __init__(self, target: Any) -> None:
        self._base: Any = bytearray if isinstance(target, bytearray) else array
        self._target, self._content = target, self._base.__getitem__(target, slice(None))

    @override
    def restore(self) -> bool:
        if bytes(memoryview(self._target)) == bytes(memoryview(self._content)):
            return False
        self._base.__setitem__(self._target, slice(None), self._content)
        return True


class ArrayRecord(Record):
    """The values of a NumPy array."""

    __slots__ = ("_content", "_target")

    def __init__(self, target: np.ndarray) -> None:
        self._target, self._content = target, target.copy()

    @override
    def restore(self) -> bool:
        return restore_array(self._target, self._content)


class GeneratorRecord(Record):
    """Where a random generator is."""

    __slots__ = ("_undo",)

    def __init__(self, target: Any) -> None:
        self._undo = undo_generator(target)

    @override
    def restore(self) -> bool:
        self._undo()
        return False


class SlotsRecord(Record):
    """What an object has in its class's slots."""

    __slots__ = ("_slots", "_target", "values")

    def __init__(self, target: Any, slots: tuple[types.MemberDescriptorType, ...]) -> None:
        self._target, self._slots = target, slots
        self.values = [(slot.__name__, _in_slot(slot, target)) for slot in slots]

    @override
    def restore(self) -> bool:
        has_changed = False
        for slot, (_, value) in zip(self._slots, self.values, strict=True):
            if _in_slot(slot, self._target) is not value:
                has_changed = True
                if value is _MISSING:
                    slot.__delete__(self._target)
                else:
                    slot.__set__(self._target, value)
        return has_changed


def _in_slot(slot: types.MemberDescriptorType, target: Any) -> Any:
    """What a slot holds, whatever the object's class makes of a name that is missing."""
    try:
        return slot.__get__(target)
    except AttributeError:
        return _MISSING


class ClassRecord(Record):
    """The attributes of a class, but for its methods and what Python keeps there."""

    __slots__ = ("_target", "values")

    def __init__(self, target: type) -> None:
        self._target, self.values = target, dict(_attributes(target))

    @override
    def restore(self) -> bool:
        now = dict(_attributes(self._target))
        if _are_the_same(now.values(), self.values.values()) and _are_the_same(now, self.values):
            return False
        for name in now.keys() - self.values.keys():
            type.__delattr__(self._target, name)
        for name, value in self.values.items():
            if now.get(name, _MISSING) is not value:
                type.__setattr__(self._target, name, value)
        return True


def _attributes(of: type) -> Iterator[tuple[str, Any]]:
    skipped = (types.FunctionType, types.MemberDescriptorType, types.GetSetDescriptorType)
    return (
        (name, value)
        for name, value in vars(of).items()
        if not name.startswith(("__", "_abc_")) and not isinstance(value, skipped)
    )


class ModuleRecord(Record):
    """A module's class, its hooks, which buffers it does not save, and a scripted one's mode.

    Hooks and classes are what torch's weight and spectral norms, pruning and parametrizations change.
    """

    __slots__ = ("_class", "_hooks", "_target", "_unsaved", "_was_training")

    def __init__(self, target: nn.Module) -> None:
        self._target, self._class = target, type(target)
        self._was_training = target.training if isinstance(target, torch.jit.ScriptModule) else None
        own = vars(target)
        try:
            registries = _hooks_of(own)
        except KeyError:  # a scripted one, or one that a version of torch without some of them saved
            registries = tuple(own[name] for name in HOOKS if name in own)
        unsaved: set[str] = own.get("_non_persistent_buffers_set", set())
        self._unsaved = unsaved, frozenset(unsaved)
        # As a rule there are none.
        self._hooks = registries, tuple(map(dict, registries)) if any(map(len, registries)) else None

    @override
    def restore(self) -> bool:
        if type(self._target) is not self._class:
            object.__setattr__(self._target, "__class__", self._class)
        if self._was_training is not None:
            self._target.training = self._was_training
        unsaved, names = self._unsaved
        if unsaved != names:
            unsaved.clear()
            unsaved.update(names)
        registries, before = self._hooks
        if before is not None:
            for registry, own in zip(registries, before, strict=True):
                restore_dict(registry, own, OrderedDict if isinstance(registry, OrderedDict) else dict)
        elif any(map(len, registries)):
            for registry in registries:
                registry.clear()
        return False


def restore_dict(target: dict[Any, Any], items: dict[Any, Any], base: Any = dict) -> bool:
    """Brings a dict's items back, by the methods of the class ``base``; whether they had changed."""
    if not items and not target:
        return False
    if _are_the_same(base.values(target), items.values()) and _are_the_same(base.keys(target), items):
        return False
    for key in base.keys(target) - items.keys():
        base.__delitem__(target, key)
    for key, value in items.items():
        if base.get(target, key, _MISSING) is not value:
            base.__setitem__(target, key, value)
    if not _are_the_same(base.keys(target), items):
        base.clear(target)
        for key, value in items.items():
            base.__setitem__(target, key, value)
    return True


def _are_the_same(now: Any, before: Any, n: int | None = None) -> bool:
    """Whether two containers hold the very same objects, in the same order; ``n`` of them now."""
    return (len(now) if n is None else n) == len(before) and all(map(is_, now, before))


@lru_cache(maxsize=4096)
def slots_of(of: type) -> tuple[types.MemberDescriptorType, ...]:
    """What stands for the slots of a class; members that an extension has are none."""
    return tuple(
        value
        for base in of.__mro__
        if "__slots__" in vars(base)
        for value in vars(base).values()
        if isinstance(value, types.MemberDescriptorType)
    )


def cut_to(target: Any, length: int) -> bool:
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


def undo_generator(value: Any) -> Callable[[], None]:
    """What brings a random generator back to where it is."""
    if isinstance(value, torch.Generator):
        state: Any = value.get_state()
        return lambda: value.set_state(state) and None
    if isinstance(value, (np.random.Generator, np.random.BitGenerator)):
        bits = value if isinstance(value, np.random.BitGenerator) else value.bit_generator
        state = bits.state
        return lambda: setattr(bits, "state", state)
    if isinstance(value, np.random.RandomState):
        state = value.get_state()
        return lambda: value.set_state(state)
    state = value.getstate()
    return lambda: value.setstate(state)
