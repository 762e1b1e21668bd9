"""What training puts anew in a place between two passes is kept like what stood there; and what odd parts do."""

import gc
import importlib
import queue
import weakref
from collections import ChainMap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm
from torch.quasirandom import SobolEngine

from fnet_callbacks.capture.isolation import isolated
from fnet_callbacks.capture.origins import is_users_own
from fnet_callbacks.capture.writes import Writes

LARGE = 600_000  # floats: beyond what is copied without need


class Model(nn.Module):
    """Calls a function of itself in each pass."""

    def __init__(self, act: Any, **own: Any) -> None:
        super().__init__()
        self.net = nn.Linear(4, 3)
        self.act = act
        for name, value in own.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        self.act(self)
        return self.net(x)


def passes(model: nn.Module, writes: Writes) -> None:
    with isolated(model, seed=0, writes=writes):
        model(torch.rand(2, 4))
    writes.settle()


def add_one(model: Any) -> None:
    model.bank += 1


def anew(model: Any) -> Tensor:
    model.bank = torch.zeros(LARGE)
    return model.bank


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["attribute", "list", "dict", "tuple"])
def test_large_tensors_that_training_makes_anew_are_brought_back_and_not_held(kind: str) -> None:
    def put(model: Any) -> Tensor:
        made = torch.zeros(LARGE)
        model.bank = {"attribute": made, "list": [made], "dict": {"a": made}, "tuple": (made, 1)}[kind]
        return made

    def write(model: Any) -> None:
        inner = model.bank
        (inner if kind == "attribute" else inner["a"] if kind == "dict" else inner[0]).add_(1)

    model, writes = Model(write), Writes()
    held = []
    for _ in range(4):
        bank = put(model)
        passes(model, writes)
        assert not bank.any()
        held.append(weakref.ref(bank))
    del bank
    gc.collect()
    assert [one() is None for one in held] == [True, True, True, False]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "make", [lambda: [0] * 2000, lambda: dict.fromkeys(range(2000)), lambda: np.zeros(LARGE)]
)
def test_large_containers_and_arrays_that_are_made_anew_are_brought_back(make: Any) -> None:
    def write(model: Any) -> None:
        model.bank[1] = 7

    model, writes = Model(write), Writes()
    for _ in range(3):
        model.bank = make()
        before = model.bank.copy()
        passes(model, writes)
        assert (model.bank == before).all() if isinstance(before, np.ndarray) else model.bank == before


@pytest.mark.filterwarnings("ignore:.*:FutureWarning")
@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.net.register_forward_hook(lambda *_: None),
        lambda m: m.net.register_forward_pre_hook(lambda *_: None, with_kwargs=True),
        lambda m: m.register_full_backward_hook(lambda *_: None),
        lambda m: m.register_state_dict_post_hook(lambda *_: None),
        lambda m: weight_norm(m.net),
        lambda m: spectral_norm(m.net),
        lambda m: parametrizations.orthogonal(m.net),
        lambda m: parametrize.register_parametrization(m.net, "weight", nn.Tanh()),
        lambda m: prune.l1_unstructured(m.net, "weight", amount=0.5),
        lambda m: m.net.register_buffer("cache", torch.zeros(2), persistent=False),
        lambda m: setattr(m, "__class__", type("Other", (Model,), {})),
    ],
)
@pytest.mark.parametrize("has_a_hook", [False, True])
def test_hooks_and_classes_that_a_pass_changes_are_brought_back(change: Any, has_a_hook: bool) -> None:
    model = Model(change)
    if has_a_hook:
        model.net.register_forward_hook(lambda *_: None)
    registries = {n: dict(v) for part in model.modules() for n, v in vars(part).items() if "hook" in n and v}
    parts, weight = dict(model.named_modules()), model.net.weight
    for _ in range(2):
        passes(model, Writes())
        assert {
            n: dict(v) for p in model.modules() for n, v in vars(p).items() if "hook" in n and v
        } == registries
        assert dict(model.named_modules()) == parts
        assert not model.net._non_persistent_buffers_set
        assert [type(part) for part in model.modules()] == [Model, nn.Linear]
        assert model.net.weight is weight
    model(torch.rand(2, 4))


class Refusing(Tensor):
    """A tensor that lets nobody copy it."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in ("detach", "clone", "__get__", "equal"):
            raise RuntimeError("no")
        return super().__torch_function__(func, types, args, kwargs or {})


class Counting(dict):
    """A dict that counts how often it is looked into."""

    looks = 0

    def values(self) -> Any:
        self.looks += 1
        return super().values()

    def items(self) -> Any:
        self.looks += 1
        return super().items()


class Phase(complex):
    pass


class Slotted:
    __slots__ = ("a", "b")

    def __getattr__(self, name: str) -> Any:
        return f"no {name}"


def odd_buffers(model: Any) -> None:
    model.net.weight.data.add_(1)
    model.bank["a"] = 3
    model.masked[0] = 9.0
    model.masked[1] = np.ma.masked


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_odd_values_stop_nothing_else_and_are_left_alone() -> None:
    slotted = Slotted()
    slotted.a = 1
    model = Model(
        odd_buffers,
        refusing=torch.rand(3).as_subclass(Refusing),
        bank=Counting(a=1),
        masked=np.ma.masked_array([1.0, 2.0, 3.0], mask=[False, False, True]),
        phase=Phase(1, 2),
        slotted=slotted,
        quantised=torch.quantize_per_tensor(torch.rand(8), 0.1, 0, torch.quint4x2),
    )
    model.register_buffer("odd", torch.rand(3).as_subclass(Refusing))
    weight = model.net.weight.clone()
    for _ in range(2):
        passes(model, Writes())
        assert torch.equal(model.net.weight, weight)
        assert dict.__getitem__(model.bank, "a") == 1
        assert model.masked.tolist() == [1.0, 2.0, None]
    assert model.bank.looks == 0


@pytest.mark.filterwarnings("error")
def test_fake_tensors_stop_nothing() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        fake = torch.rand(3)
    model = Model(lambda m: m.net.weight.data.add_(1), fake=fake)
    weight = model.net.weight.clone()
    passes(model, Writes())
    assert torch.equal(model.net.weight, weight)
    assert model.fake is fake


class Tracked(tuple):
    """A tuple with an attribute."""


def test_attributes_of_parameters_tensors_and_tuples_are_brought_back() -> None:
    def write(model: Any) -> None:
        model.net.weight.ema.add_(1)
        model.net.weight.steps = 5
        model.pair.seen.append(1)
        model.tensor.note["a"] = 2

    pair, tensor = Tracked((1, 2)), torch.rand(2)
    pair.seen, tensor.note = [], {"a": 1}  # type: ignore[attr-defined]
    model = Model(write, pair=pair, tensor=tensor)
    model.net.weight.ema, model.net.weight.steps = torch.zeros(3), 0  # type: ignore[attr-defined]
    passes(model, Writes())
    assert not model.net.weight.ema.any()  # type: ignore[union-attr]
    assert model.net.weight.steps == 0  # type: ignore[union-attr]
    assert pair.seen == []  # type: ignore[attr-defined]
    assert tensor.note == {"a": 1}  # type: ignore[attr-defined]


def test_generators_queues_and_chains_are_brought_back() -> None:
    def draw(model: Any) -> None:
        model.sobol.draw(2)
        model.bits.random_raw(3)
        model.queue.put(2)
        model.chain["a"] = 5

    model = Model(
        draw, sobol=SobolEngine(2, scramble=True, seed=0), bits=np.random.PCG64(0), queue=queue.Queue(),
        chain=ChainMap({"a": 1}, {"b": 2}),
    )  # fmt: skip
    model.queue.put(1)
    for _ in range(2):
        passes(model, Writes())
    expected = SobolEngine(2, scramble=True, seed=0).draw(2)
    assert torch.equal(model.sobol.draw(2), expected)
    assert model.bits.random_raw() == np.random.PCG64(0).random_raw()
    assert list(model.queue.queue) == [1]
    assert model.chain["a"] == 1


@pytest.mark.parametrize("place", ["own_memory.py", "own_package/__init__.py", "own_folder/memory.py"])
def test_objects_of_a_users_other_files_are_brought_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text("class Memory:\n    def __init__(self):\n        self.seen = []\n")
    monkeypatch.syspath_prepend(tmp_path)
    name = place.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    model = Model(lambda m: m.memory.seen.append(1), memory=importlib.import_module(name).Memory())
    passes(model, Writes())
    assert model.memory.seen == []


@pytest.mark.parametrize(
    ("root", "is_own"), [("torch", False), ("sklearn", False), ("json", False), ("__main__", True)]
)
def test_what_is_installed_is_nobodys_own(root: str, is_own: bool) -> None:
    importlib.import_module(root)
    assert is_users_own(root) == is_own


@pytest.mark.filterwarnings("error")
def test_running_statistics_that_are_parameters_of_a_large_model_are_brought_back() -> None:
    class Norm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean = nn.Parameter(torch.zeros(4), requires_grad=False)
            self.var = nn.Parameter(torch.ones(4), requires_grad=False)
            self.wide = nn.Parameter(torch.zeros(LARGE))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.batch_norm(x, self.mean, self.var, training=True)

    model, writes = Norm(), Writes()
    for _ in range(2):
        passes(model, writes)
        assert not model.mean.any()
        assert (model.var == 1).all()
