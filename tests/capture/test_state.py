"""State beside the weights, wherever a model keeps it: as it was after a pass, and cheap where nothing changes."""

import array
import random
import threading
from collections import OrderedDict, UserDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.fx.immutable_collections import immutable_dict, immutable_list

from fnet_callbacks.capture import contents
from fnet_callbacks.capture.isolation import isolated
from fnet_callbacks.capture.writes import Writes
from fnet_callbacks.errors import FnetWarning

Pair = namedtuple("Pair", ["h", "c"])


@dataclass(frozen=True)
class Frozen:
    h: torch.Tensor
    seen: list = field(default_factory=list)


@dataclass(slots=True)
class Slotted:
    h: torch.Tensor
    n: int = 0


class Helper:
    """A class of the user's own, beside the model."""

    def __init__(self) -> None:
        self.mean, self.count, self.generator = torch.zeros(2), 0, torch.Generator().manual_seed(1)


class Keeping(nn.Module):
    """Holds ``state``, and changes it by ``change``."""

    limits: list = [0]  # noqa: RUF012 - what the test is about
    calls = 0

    def __init__(self, state, change) -> None:
        super().__init__()
        self.state, self.change = state, change
        self.line = nn.Linear(2, 2)

    def forward(self, x):
        self.change(self)
        return self.line(x)


def run(model: nn.Module, writes: Writes | None = None) -> None:
    with isolated(model, seed=0, writes=writes):
        model(torch.ones(1, 2))


def zeros() -> torch.Tensor:
    return torch.zeros(2)


def nested() -> torch.Tensor:
    return torch.nested.nested_tensor([zeros(), torch.zeros(3)])


# What holds a state, what changes it, and what of it is looked at.
CASES = {
    "tuple": (lambda: (zeros(), zeros()), lambda m: m.state[0].add_(1), lambda s: s[0].sum()),
    "named tuple": (lambda: Pair(zeros(), zeros()), lambda m: m.state.h.add_(1), lambda s: s.h.sum()),
    "tuple in a list": (lambda: [(zeros(),)], lambda m: m.state[0][0].add_(1), lambda s: s[0][0].sum()),
    "frozen dataclass": (lambda: Frozen(zeros()), lambda m: m.state.h.add_(1), lambda s: s.h.sum()),
    "its list": (lambda: Frozen(zeros()), lambda m: m.state.seen.append(1), lambda s: len(s.seen)),
    "slots": (lambda: Slotted(zeros()), lambda m: m.state.h.add_(1), lambda s: s.h.sum()),
    "a slot": (lambda: Slotted(zeros()), lambda m: setattr(m.state, "n", 5), lambda s: s.n),
    "namespace": (lambda: SimpleNamespace(n=0), lambda m: setattr(m.state, "n", 5), lambda s: s.n),
    "helper's tensor": (Helper, lambda m: m.state.mean.add_(1), lambda s: s.mean.sum()),
    "helper's number": (Helper, lambda m: setattr(m.state, "count", 1), lambda s: s.count),
    "helper's generator": (
        Helper,
        lambda m: torch.rand(1, generator=m.state.generator),
        lambda s: float(torch.rand(1, generator=s.generator)),
    ),
    "user dict": (lambda: UserDict(a=1), lambda m: m.state.update(a=2), lambda s: s["a"] - 1),
    "ordered dict": (
        lambda: OrderedDict(a=1, b=2),
        lambda m: m.state.move_to_end("a"),
        lambda s: list(s).index("a"),
    ),
    "default dict": (lambda: defaultdict(list), lambda m: m.state["x"].append(1), len),
    "a key deleted": (lambda: {"a": 1, "b": 2}, lambda m: m.state.pop("a"), lambda s: list(s).index("a")),
    "deque": (lambda: deque([1, 2], maxlen=2), lambda m: m.state.append(3), lambda s: s[0] - 1),
    "set": (lambda: {1}, lambda m: m.state.add(2), lambda s: len(s) - 1),
    "frozen set of modules": (
        lambda: frozenset({nn.BatchNorm1d(2)}),
        lambda m: next(iter(m.state))(torch.rand(4, 2)),
        lambda s: next(iter(s)).num_batches_tracked,
    ),
    "proxy": (
        lambda: MappingProxyType({"h": zeros()}),
        lambda m: m.state["h"].add_(1),
        lambda s: s["h"].sum(),
    ),
    "bytes": (lambda: bytearray(2), lambda m: m.state.__setitem__(0, 1), sum),
    "array of numbers": (lambda: array.array("d", [0.0]), lambda m: m.state.append(1.0), sum),
    "array": (lambda: np.zeros(2), lambda m: m.state.__iadd__(1), np.sum),
    "array in an array": (
        lambda: np.array([np.zeros(2), None], object),
        lambda m: m.state[0].__iadd__(1),
        lambda s: s[0].sum(),
    ),
    "sparse, coo": (
        lambda: torch.eye(2).to_sparse().coalesce(),
        lambda m: m.state.values().mul_(3),
        lambda s: s.to_dense().sum() - 2,
    ),
    "sparse, another pattern": (
        lambda: torch.eye(2).to_sparse(),
        lambda m: m.state.add_(torch.ones(2, 2).to_sparse()),
        lambda s: s.to_dense().sum() - 2,
    ),
    "sparse, csr": (
        lambda: torch.eye(2).to_sparse_csr(),
        lambda m: m.state.values().mul_(3),
        lambda s: s.to_dense().sum() - 2,
    ),
    "nested": (
        nested,
        lambda m: m.state.add_(torch.nested.nested_tensor([zeros() + 1, torch.ones(3)])),
        lambda s: s[1].sum(),
    ),
    "sparse buffer": (
        lambda: None,
        lambda m: m.adjacency.values().mul_(3),
        lambda s: 0,
    ),
    "complex": (lambda: zeros() + 0j, lambda m: m.state.add_(1j), lambda s: s.abs().sum()),
    "quantised": (
        lambda: torch.quantize_per_tensor(zeros(), 0.1, 0, torch.quint8),
        lambda m: m.state.copy_(torch.ones(2)),
        lambda s: s.dequantize().sum(),
    ),
    "other memory": (lambda: zeros(), lambda m: m.state.set_(torch.ones(5)), lambda s: s.sum() + len(s) - 2),
    "a class's list": (lambda: None, lambda m: m.limits.append(1), lambda s: len(Keeping.limits) - 1),
    "a class's number": (
        lambda: None,
        lambda m: setattr(Keeping, "calls", Keeping.calls + 1),
        lambda s: Keeping.calls,
    ),
    "a class's new name": (
        lambda: None,
        lambda m: setattr(Keeping, "added", 1),
        lambda s: int(hasattr(Keeping, "added")),
    ),
}


@pytest.mark.filterwarnings("ignore:.*(Sparse|nested|quantiz).*:UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_what_forward_changes_is_brought_back(case):
    make, change, look = CASES[case]
    model, writes = Keeping(make(), change), Writes()
    if case == "sparse buffer":
        model.register_buffer("adjacency", torch.eye(2).to_sparse().coalesce())
        look = lambda s: model.adjacency.to_dense().sum() - 2  # noqa: E731
    state = model.state
    expected = 0 if "generator" not in case else look(make())
    run(model, writes)
    writes.settle()
    run(model, writes)
    assert model.state is state
    assert float(look(state)) == expected


class FrozenDict(dict):
    """Lets nobody write to it, and is emptied all the same, as `addict` once it is frozen."""

    def __setitem__(self, key, value):
        raise KeyError(key)


class Locked(dict):
    """Neither to be written to nor to be emptied, as `python-box`."""

    def __setitem__(self, key, value):
        raise TypeError("is frozen")

    __delitem__ = __setitem__
    clear = update = pop = popitem = __setitem__


@pytest.mark.parametrize(
    "frozen",
    [
        *(FrozenDict(lr=0.1), Locked(lr=0.1), MappingProxyType({"lr": 0.1})),
        *(immutable_dict({"lr": 0.1}), immutable_list([0.1]), [Locked(a=[1])]),
    ],
    ids=lambda f: type(f).__name__,
)
def test_a_read_only_container_is_left_as_it_is(frozen):
    before = repr(frozen)
    model = Keeping(frozen, lambda m: None)
    run(model)
    assert repr(model.state) == before
    assert model.state is frozen
    assert model.training


def test_what_was_changed_in_a_frozen_container_is_brought_back():
    model = Keeping(Locked(lr=0.1, other=[]), lambda m: dict.update(m.state, lr=5))
    run(model)
    assert model.state == {"lr": 0.1, "other": []}


def test_one_thing_that_cannot_be_brought_back_does_not_stop_the_others():
    class Stubborn(random.Random):
        """It goes on only."""

        def setstate(self, state):
            raise RuntimeError("no way back")

    model = Keeping(Stubborn(0), lambda m: (m.state.random(), m.other.append(2), m.seen.add_(1)))
    model.other = [1]
    model.register_buffer("seen", torch.zeros(1))
    with pytest.warns(FnetWarning, match="a Stubborn that a pass changed is not as it was"):
        run(model)
    assert (model.other, model.seen.item(), model.training) == ([1], 0, True)


def test_lists_nested_two_thousand_deep_are_no_trouble():
    deep: list = []
    for _ in range(2_000):
        deep = [deep]
    writes = Writes()
    model = Keeping(deep, lambda m: None)
    run(model, writes)
    writes.settle()
    run(model, writes)


def test_a_large_container_that_passes_leave_alone_is_not_gone_through_again(monkeypatch):
    copied = []
    monkeypatch.setattr(contents.Contents, "keep", lambda self, tensor: copied.append(tensor))
    model = Keeping({i: torch.zeros(2) for i in range(5_000)}, lambda m: None)
    model.words = {str(i): i for i in range(100_000)}
    writes = Writes()
    run(model, writes)
    writes.settle()
    copied.clear()
    run(model, writes)
    assert len(copied) == 2  # the weights


def test_what_passes_change_in_a_large_container_is_brought_back_each_time():
    def change(m):
        m.state[4_999].add_(1)
        m.state[7] = None
        m.words["new"] = 1

    model = Keeping([torch.zeros(2) for _ in range(5_000)], change)
    model.words = {str(i): i for i in range(10_000)}
    before, writes = list(model.state), Writes()
    for _ in range(3):
        run(model, writes)
        writes.settle()
        assert all(a is b for a, b in zip(model.state, before, strict=True))
        assert before[4_999].sum() == 0
        assert len(model.words) == 10_000


def test_what_is_first_put_into_a_large_container_later_is_taken_out_again():
    model = Keeping(list(range(5_000)), lambda m: None)
    model.words, writes = {str(i): i for i in range(5_000)}, Writes()
    run(model, writes)
    writes.settle()
    model.change = lambda m: (m.state.append(1), m.words.update(new=1))
    run(model, writes)
    assert (len(model.state), len(model.words)) == (5_000, 5_000)


def test_what_is_first_taken_from_a_large_container_later_is_told():
    model, writes = Keeping(list(range(5_000)), lambda m: None), Writes()
    run(model, writes)
    writes.settle()
    model.change = lambda m: m.state.pop()
    with pytest.warns(FnetWarning, match="a list of 5,000 entries has 4,999 after a pass"):
        run(model, writes)


def test_large_arrays_and_tensors_are_brought_back_where_the_first_passes_changed_them():
    def change(m):
        m.state.add_(1)
        m.array.__iadd__(1)

    model = Keeping(torch.zeros(600_000), change)
    model.array = np.full(300_000, np.nan)
    model.array[0], writes = 0.0, Writes()
    for _ in range(3):
        run(model, writes)
        writes.settle()
        assert not model.state.any()
        assert model.array[0] == 0


def test_two_threads_leave_attentions_fast_path_and_the_compiler_as_they_were():
    assert torch.backends.mha.get_fastpath_enabled()
    first_is_in, second_is_in = threading.Event(), threading.Event()

    def first():
        with isolated(nn.Identity(), seed=0):
            first_is_in.set()
            second_is_in.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    first_is_in.wait(10)
    with isolated(nn.Identity(), seed=0):
        second_is_in.set()
        thread.join()
        assert not torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch._dynamo.eval_frame._stance.stance == "default"


def test_sparse_and_wrapped_state_is_kept_however_much_else_there_is():
    model = Keeping(torch.eye(8).to_sparse().coalesce(), lambda m: m.state.values().mul_(0.5))
    model.grid, writes = torch.zeros(600_000), Writes()
    for _ in range(3):
        run(model, writes)
        writes.settle()
        assert model.state.to_dense().sum() == 8


def test_entries_that_share_their_memory_and_tensors_of_inference_are_brought_back_and_stop_no_other():
    def change(m):
        m.base.add_(1)
        with torch.inference_mode():
            m.seen.add_(1)
        m.line.weight.mul_(0.9)

    model = Keeping(None, change)
    model.base = torch.zeros(1)
    model.register_buffer("view", model.base.expand(8))
    with torch.inference_mode():
        model.seen = torch.zeros(2)
    before = model.line.weight.detach().clone()
    run(model)
    assert (model.base.item(), float(model.seen.sum()), float(model.view.sum())) == (0, 0, 0)
    assert torch.equal(model.line.weight, before)


class Odd(dict):
    """Answers no question."""

    def __getattr__(self, name):
        raise RuntimeError("not connected")

    def values(self):
        raise RuntimeError("not loaded yet")


@pytest.mark.parametrize(
    "odd",
    [Odd(a=1), random.SystemRandom(), [Odd()], {"values": Odd()}],
    ids=["odd", "system", "listed", "values"],
)
def test_an_object_that_does_not_let_itself_be_looked_at_is_passed_over(odd):
    model = Keeping(odd, lambda m: m.other.append(1))
    model.other = []
    run(model)
    assert model.other == []
    assert model.training
