"""Batches of whatever containers: copied, moved, cut and described."""

import dataclasses
import threading
from collections import OrderedDict, defaultdict, namedtuple
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from fnet_callbacks.capture.trees import at, described, detached_copy, first_of, tensors_in, to_device, walk

Pair = namedtuple("Pair", "x y")


@dataclasses.dataclass
class Usual:
    x: Any
    y: Any = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: Any
    y: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: Any
    y: Any = None


class Opaque:
    """Of a class that is of no known kind."""

    def __init__(self, x: Any, y: Any = None) -> None:
        self.x, self.y = x, y


CONTAINERS = {
    "tuple": lambda x: (x, 1),
    "list": lambda x: [x, "text"],
    "named tuple": lambda x: Pair(x, None),
    "mapping": lambda x: {"x": x, "n": 3},
    "ordered": lambda x: OrderedDict(x=x),
    "default": lambda x: defaultdict(list, x=x),
    "read-only": lambda x: MappingProxyType({"x": x}),
    "dataclass": Usual,
    "frozen": Frozen,
    "slotted": Slotted,
    "opaque": Opaque,
    "nested": lambda x: {"a": [Frozen((x, Slotted({"b": x})))]},
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_copy_shares_no_memory_and_is_of_the_same_class(name):
    x = torch.ones(3, requires_grad=True)
    batch = CONTAINERS[name](x)
    copy = detached_copy(batch)
    with torch.no_grad():
        x.zero_()
    assert type(copy) is type(batch)
    assert all(torch.equal(t, torch.ones(3)) and not t.requires_grad for t in tensors_in(copy))
    assert len(tensors_in(copy)) == len(tensors_in(batch)) > 0


def test_arrays_are_copied_and_what_cannot_be_is_kept():
    array, lock = np.ones(3), Opaque(threading.Lock())
    copy = detached_copy({"array": array, "kept": lock, "text": "a", "range": range(3)})
    array[:] = 0
    assert copy["array"].tolist() == [1, 1, 1]
    assert copy["kept"] is lock
    assert (copy["text"], copy["range"]) == ("a", range(3))


def test_a_frozen_dataclass_is_not_changed_by_its_copy():
    batch = Frozen(torch.ones(2), "text")
    moved = to_device(batch, torch.device("meta"))
    assert (moved.x.device.type, moved.y) == ("meta", "text")
    assert batch.x.device.type == "cpu"


def test_an_object_that_knows_to_is_moved_by_it():
    class Moves(Opaque):
        def to(self, device):
            return Moves(self.x.to(device))

    assert to_device([Moves(torch.ones(2))], torch.device("meta"))[0].x.device.type == "meta"


def test_a_packed_sequence_stays_one():
    packed = pack_sequence([torch.rand(2, 3), torch.rand(4, 3)], enforce_sorted=False)
    copy = detached_copy({"x": packed})["x"]
    assert isinstance(copy, PackedSequence)
    assert torch.equal(copy.data, packed.data)
    assert copy.data.data_ptr() != packed.data.data_ptr()
    assert torch.equal(copy.sorted_indices, packed.sorted_indices)
    assert len(tensors_in(packed)) == 1


def test_the_first_samples_are_those_of_tensors_and_of_lists():
    images = [torch.rand(3, 5, 5) for _ in range(4)]
    batch = (images, torch.arange(4), {"scale": torch.rand(7)}, [torch.rand(4, 2), torch.rand(4)])
    cut = first_of(batch, 2, n_samples=4)
    assert [i.shape for i in cut[0]] == [(3, 5, 5)] * 2
    assert cut[1].tolist() == [0, 1]
    assert len(cut[2]["scale"]) == 7
    assert [len(part) for part in cut[3]] == [2, 2]


def test_of_as_many_arguments_as_samples_none_is_left_out():
    cut = first_of((torch.rand(2, 3), torch.rand(5)), 1, n_samples=2)
    assert [len(part) for part in cut] == [1, 5]


def test_every_part_is_found_where_it_stands():
    batch = {"a": [Frozen(torch.ones(1)), "text"], "b": Opaque(torch.zeros(1))}
    found = dict(walk(batch))
    for path, part in found.items():
        assert at(batch, path) is part
    assert sum(isinstance(part, Tensor) for part in found.values()) == 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (torch.zeros(2, 3), "Tensor[2, 3] of float32"),
        (np.zeros(2, np.int64), "array[2] of int64"),
        ({"x": torch.zeros(1), "n": 3}, "dict of 2 ('x': Tensor[1] of float32, 'n': 3)"),
        ([torch.zeros(1)] * 6, "list of 6 (" + "Tensor[1] of float32, " * 4 + "...)"),
        (Opaque(1), "Opaque"),
        (None, "None"),
    ],
)
def test_a_message_shows_types_and_shapes(value, expected):
    assert described(value) == expected
