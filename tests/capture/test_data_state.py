"""A data set is as it was once items were read: handles, counts, caches, places in files."""

import functools
import io
import struct
import threading
import zipfile
from collections import Counter, OrderedDict, UserDict, deque
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from fnet_callbacks.capture.data_state import data_kept
from fnet_callbacks.capture.probe import draw
from fnet_callbacks.capture.reader import BatchReader
from fnet_callbacks.errors import FnetWarning

N = 40


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.bin"
    path.write_bytes(b"".join(struct.pack("<i", i) for i in range(N)))
    return path


class Rows(Dataset):
    """Opens its file at the first item, so that each worker has its own."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, None

    def __len__(self) -> int:
        return N

    def opened(self) -> Any:
        if self.file is None:
            self.file = self.path.open("rb")
        return self.file

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        file = self.opened()
        file.seek(4 * place)
        return torch.tensor([float(struct.unpack("<i", file.read(4))[0])]), place % 3


class OfLength(Rows):
    def __len__(self) -> int:
        return self.opened().seek(0, io.SEEK_END) // 4


class Cached(Rows):
    @functools.cached_property
    def handle(self) -> Any:
        return self.path.open("rb")

    def opened(self) -> Any:
        return self.handle


class InParts(Rows):
    """One handle for each of several files, in lists and mappings."""

    def __init__(self, path: Path) -> None:
        self.path, self.files, self.more = path, [[None, None]], {"by name": {}}

    def opened(self) -> Any:
        if self.files[0][1] is None:
            self.files[0][1] = self.more["by name"]["rows"] = self.path.open("rb")
        return self.files[0][1]


class InSlots(Rows):
    __slots__ = ("handle",)

    def __init__(self, path: Path) -> None:
        self.path = path

    def opened(self) -> Any:
        if not hasattr(self, "handle"):
            self.handle = self.path.open("rb")
        return self.handle


class OfThread(Rows):
    def __init__(self, path: Path) -> None:
        self.path, self.local = path, threading.local()

    def opened(self) -> Any:
        if not hasattr(self.local, "handle"):
            self.local.handle = self.path.open("rb")
        return self.local.handle


class Zipped(Rows):
    def __init__(self, path: Path) -> None:
        self.path, self.archive = path.with_suffix(".zip"), None
        with zipfile.ZipFile(self.path, "w") as archive:
            for i in range(N):
                archive.writestr(str(i), struct.pack("<i", i))

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        if self.archive is None:
            self.archive = zipfile.ZipFile(self.path)
        return torch.tensor([float(struct.unpack("<i", self.archive.read(str(place)))[0])]), place % 3


class Wrapper(Dataset):
    def __init__(self, inner: Dataset) -> None:
        self.parts = {"inner": [inner]}

    def __len__(self) -> int:
        return N

    def __getitem__(self, place: int) -> Any:
        return self.parts["inner"][0][place]


def content(value: Any) -> Any:
    """What a data set holds, as far as the tests look."""
    if isinstance(value, threading.local):
        return dict(vars(value))
    if isinstance(value, dict):
        return {key: content(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [content(part) for part in value]
    if isinstance(value, Dataset):
        return content(vars(value)), isinstance(value, InSlots) and hasattr(value, "handle")
    return value


@pytest.mark.parametrize("kind", [Rows, OfLength, Cached, InParts, InSlots, OfThread, Zipped])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: inner,
        lambda inner: Subset(inner, range(N)),
        lambda inner: ConcatDataset([Subset(inner, range(10)), Subset(inner, range(10, N))]),
        Wrapper,
        lambda inner: SimpleNamespaceSet(SimpleNamespace(inner=inner)),
    ],
    ids=["bare", "subset", "concatenated", "wrapped", "namespace"],
)
def test_a_handle_that_the_first_item_opens_is_gone_once_the_probe_is_drawn(kind, wrap, file) -> None:
    inner = kind(file)
    dataset = wrap(inner)
    before = content(inner)
    drawn = draw(dataset, size=20, seed=0, reader=BatchReader())
    assert content(inner) == before
    assert torch.cat([batch[0] for batch in drawn.batches])[:, 0].tolist() == list(drawn.keys)


class SimpleNamespaceSet(Wrapper):
    def __init__(self, own: SimpleNamespace) -> None:
        self.own = own

    def __getitem__(self, place: int) -> Any:
        return self.own.inner[place]


def test_a_file_that_was_open_stands_where_it_stood(file) -> None:
    dataset = Rows(file)
    with dataset.opened() as opened:
        opened.seek(12)
        draw(dataset, size=20, seed=0, reader=BatchReader())
        assert dataset.file is opened
        assert not opened.closed
        assert opened.tell() == 12
        assert struct.unpack("<i", opened.read(4)) == (3,)


class Busy(Dataset):
    """Counts, caches and draws, in containers of many kinds."""

    def __init__(self) -> None:
        self.count = 0
        self.cache: dict[int, Any] = {}
        self.ordered = OrderedDict(a=1, b=2)
        self.counter = Counter("aab")
        self.seen = {1}
        self.last = deque([1, 2], maxlen=2)
        self.user = UserDict(a=1)
        self.array, self.tensor = np.zeros(3), torch.zeros(3)
        self.view = MappingProxyType({"inside": []})
        self.rng, self.generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
        self.transform = functools.partial(closure([]), rng=np.random.default_rng(1))

    def __len__(self) -> int:
        return 8

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        self.count += 1
        self.cache[place] = self.new = object()
        self.ordered.move_to_end("a")
        self.counter["a"] += 1
        self.seen.add(place)
        self.last.append(place)
        self.user[place] = place
        self.array += 1
        self.tensor.add_(1)
        self.view["inside"].append(place)
        self.rng.random(), torch.rand(1, generator=self.generator)
        self.transform(place)
        return torch.zeros(1), 0


def closure(calls: list[int]) -> Any:
    def transform(place: int, *, rng: np.random.Generator) -> None:
        calls.append(place)
        rng.random()

    transform.calls = calls  # type: ignore[attr-defined]
    return transform


def test_counts_caches_and_streams_are_as_they_were() -> None:
    dataset, untouched = Busy(), Busy()
    draw(dataset, size=8, seed=0, reader=BatchReader())
    assert vars(dataset).keys() == vars(untouched).keys()
    for name in ("count", "cache", "ordered", "counter", "seen", "last", "user", "view"):
        assert getattr(dataset, name) == getattr(untouched, name), name
    assert list(dataset.ordered) == ["a", "b"]
    assert not dataset.array.any()
    assert not dataset.tensor.any()
    assert dataset.rng.random() == untouched.rng.random()
    assert torch.equal(
        torch.rand(1, generator=dataset.generator), torch.rand(1, generator=untouched.generator)
    )
    assert dataset.transform.func.calls == []
    assert dataset.transform.keywords["rng"].random() == untouched.transform.keywords["rng"].random()


def test_what_collates_is_as_it_was_too() -> None:
    class Collate:
        calls = 0

        def __call__(self, items: list[Any]) -> torch.Tensor:
            self.calls += 1
            return torch.stack(items)

    collate = Collate()
    loader = DataLoader(torch.rand(8, 2), collate_fn=collate)  # type: ignore[arg-type]
    draw(loader, size=8, seed=0, reader=BatchReader())
    assert vars(collate) == {}


def test_a_container_that_lets_nobody_write_to_it_is_brought_back_past_its_class() -> None:
    class Frozen(dict):
        def __setitem__(self, *_: Any) -> None:
            raise TypeError("frozen")

        def clear(self) -> None:
            raise TypeError("frozen")

    holder = SimpleNamespace(settings=Frozen(a=1))
    with data_kept(holder):
        dict.__setitem__(holder.settings, "b", 2)
    assert holder.settings == {"a": 1}


def test_one_part_that_cannot_be_brought_back_stops_no_other_and_is_said() -> None:
    array = np.zeros(3)
    holder = SimpleNamespace(array=array, count=0)
    reason = r"1 of its parts could not be brought back: ValueError\('.*read-only'\); pass `probe=`"

    def read() -> None:
        with data_kept(holder):
            array[0], holder.count = 1, 1
            array.flags.writeable = False

    with pytest.warns(FnetWarning, match=reason):
        read()
    assert holder.count == 0


def test_a_cycle_and_a_deep_chain_end() -> None:
    holder = SimpleNamespace()
    holder.me = holder
    chain: list[Any] = []
    for _ in range(5000):
        chain = [chain]
    holder.chain = chain
    with data_kept(holder):
        holder.more = 1
    assert not hasattr(holder, "more")
