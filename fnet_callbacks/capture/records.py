"""Undo records: what one container, object or generator held before a pass, and how that is brought back.

Only what differs is written back, and past the class of a container: one that is frozen lets nobody write to it, and
what is brought back was there before.
"""

from __future__ import annotations

import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from operator import is_
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from typing_extensions import override

from fnet_callbacks.capture.contents import restore_array

_MISSING = object()


class Record(Protocol):
    """What something held."""

    def restore(self) -> bool:
        """Brings it back; whether it had changed."""
        ...


class MappingRecord(Record):
    """Which keys a dict has, in which order, and their values."""

    __slots__ = ("_base", "_items", "_target")

    def __init__(self, target: dict[Any, Any]) -> None:
        self._base: Any = OrderedDict if isinstance(target, OrderedDict) else dict
        self._target, self._items = target, dict(self._base.items(target))

    @override
    def restore(self) -> bool:
        return restore_dict(self._target, self._items, self._base)


class ListRecord(Record):
    """What stands in a list."""

    __slots__ = ("_items", "_target")

    def __init__(self, target: list[Any]) -> None:
        self._target, self._items = target, list.copy(target)

    @override
    def restore(self) -> bool:
        if _are_the_same(self._target, self._items):
            return False
        list.__setitem__(self._target, slice(None), self._items)
        return True


class DequeRecord(Record):
    """What stands in a deque."""

    __slots__ = ("_items", "_target")

    def __init__(self, target: deque[Any]) -> None:
        self._target, self._items = target, list(target)

    @override
    def restore(self) -> bool:
        if _are_the_same(self._target, self._items):
            return False
        deque.clear(self._target)
        deque.extend(self._target, self._items)
        return True


class SetRecord(Record):
    """What is in a set."""

    __slots__ = ("_items", "_target")

    def __init__(self, target: set[Any]) -> None:
        self._target, self._items = target, set(target)

    @override
    def restore(self) -> bool:
        if set.__eq__(self._target, self._items):
            return False
        set.clear(self._target)
        set.update(self._target, self._items)
        return True


class BytesRecord(Record):
    """The content of a bytearray or an ``array.array``."""

    __slots__ = ("_content", "_target")

    def __init__(self, target: Any) -> None:
        self._target, self._content = target, target[:]

    @override
    def restore(self) -> bool:
        if bytes(memoryview(self._target)) == bytes(memoryview(self._content)):
            return False
        self._target[:] = self._content
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

    __slots__ = ("_target", "values")

    def __init__(self, target: Any, names: tuple[str, ...]) -> None:
        self._target = target
        self.values = {name: getattr(target, name, _MISSING) for name in names}

    @override
    def restore(self) -> bool:
        has_changed = False
        for name, value in self.values.items():
            if getattr(self._target, name, _MISSING) is not value:
                has_changed = True
                if value is _MISSING:
                    object.__delattr__(self._target, name)
                else:
                    object.__setattr__(self._target, name, value)
        return has_changed


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


class ModeRecord(Record):
    """A scripted module's mode, which is no attribute of Python's."""

    __slots__ = ("_target", "_was_training")

    def __init__(self, target: nn.Module) -> None:
        self._target, self._was_training = target, target.training

    @override
    def restore(self) -> bool:
        self._target.training = self._was_training
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


def _are_the_same(now: Any, before: Any) -> bool:
    """Whether two containers hold the very same objects, in the same order."""
    return len(now) == len(before) and all(map(is_, now, before))


def undo_generator(value: Any) -> Callable[[], None]:
    """What brings a random generator back to where it is."""
    if isinstance(value, torch.Generator):
        state: Any = value.get_state()
        return lambda: value.set_state(state) and None
    if isinstance(value, np.random.Generator):
        state = value.bit_generator.state
        return lambda: setattr(value.bit_generator, "state", state)
    if isinstance(value, np.random.RandomState):
        state = value.get_state()
        return lambda: value.set_state(state)
    state = value.getstate()
    return lambda: value.setstate(state)
