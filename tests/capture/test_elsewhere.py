"""Where a loader has forked workers the probe is read in one: nothing of it happens here."""

import functools
import os
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from fnet_callbacks.capture.elsewhere import can_fork
from fnet_callbacks.capture.isolation import isolated
from fnet_callbacks.capture.probe import ProbeDraw, draw
from fnet_callbacks.capture.reader import BatchReader
from fnet_callbacks.errors import CaptureError

N = 24
_OPEN: dict[str, int] = {}


@functools.lru_cache
def handle() -> list[int]:
    """What a module keeps for all its data sets."""
    return []


class Wide(Dataset):
    """Keeps its handles where no attribute of the data set leads: in the class, the module, a cache of a function."""

    opened: Any = None

    def __len__(self) -> int:
        return N

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        type(self).opened = object()
        _OPEN["process"] = os.getpid()
        handle().append(place)
        noise = torch.rand(1) + random.random() + np.random.rand()  # noqa: NPY002
        return noise + place, place % 3


def drawn(source: Any) -> ProbeDraw:
    with isolated(torch.nn.Identity(), seed=0):
        return draw(source, size=16, seed=0, reader=BatchReader())


def test_nothing_of_the_reading_is_left_in_this_process_and_the_probe_is_the_same() -> None:
    found = drawn(DataLoader(Wide(), batch_size=8, num_workers=1, multiprocessing_context="fork"))
    assert Wide.opened is None
    assert not _OPEN
    assert handle.cache_info().currsize == 0
    try:
        here = drawn(DataLoader(Wide(), batch_size=8))
        assert _OPEN["process"] == os.getpid()
    finally:
        Wide.opened = None
        _OPEN.clear(), handle.cache_clear()
    assert found.keys == here.keys
    assert found.lengths == here.lengths
    for one, other in zip(found.batches, here.batches, strict=True):
        assert torch.equal(one[0], other[0])


@pytest.mark.parametrize(
    "options", [{"num_workers": 0}, {"num_workers": 1, "multiprocessing_context": "spawn"}]
)
def test_without_forked_workers_it_is_read_here(options: dict[str, Any]) -> None:
    assert not can_fork(DataLoader(Wide(), **options))
    assert can_fork(DataLoader(Wide(), num_workers=1, multiprocessing_context="fork"))


class OfWorkers(Dataset):
    """Its items are there in a loader's worker alone, once `worker_init_fn` was called."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, place: int) -> torch.Tensor:
        info = get_worker_info()
        return torch.tensor([float(info.dataset.values[place])])  # type: ignore[union-attr]


def prepare(worker_id: int) -> None:
    get_worker_info().dataset.values = list(range(N))  # type: ignore[union-attr]


def test_a_worker_is_prepared_as_the_loaders_own_are() -> None:
    loader = DataLoader(
        OfWorkers(), batch_size=8, num_workers=1, worker_init_fn=prepare, multiprocessing_context="fork"
    )
    found = drawn(loader)
    assert torch.cat(list(found.batches))[:, 0].tolist() == list(found.keys)
    assert not vars(loader.dataset)


def test_items_that_workers_alone_can_read_lead_to_probe() -> None:
    loader = DataLoader(
        OfWorkers(), batch_size=8, num_workers=1, worker_init_fn=prepare, multiprocessing_context="spawn"
    )
    with pytest.raises(CaptureError, match=r"`probe`: .*outside of the loader's workers.*Pass `probe=`"):
        drawn(loader)


class Open(Dataset):
    """Its file is open from the start, and shared with every process that is forked."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")

    def __len__(self) -> int:
        return N

    def __getitem__(self, place: int) -> torch.Tensor:
        self.file.seek(4 * place)
        return torch.tensor([float(struct.unpack("<i", self.file.read(4))[0])])


def test_the_place_in_a_file_that_processes_share_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.bin"
    path.write_bytes(b"".join(struct.pack("<i", i) for i in range(N)) + bytes(2**17))
    dataset = Open(path)
    with dataset.file as file:
        first = dataset[3]
        place = os.lseek(file.fileno(), 0, os.SEEK_CUR)
        drawn(DataLoader(dataset, batch_size=8, num_workers=1, multiprocessing_context="fork"))
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == place
        assert file.tell() == 16
        assert torch.equal(dataset[3], first)


def test_what_fails_in_the_worker_is_said_from_here() -> None:
    class Broken(Wide):
        def __getitem__(self, place: int) -> Any:
            raise OSError("truncated")

    loader = DataLoader(Broken(), batch_size=8, num_workers=1, multiprocessing_context="fork")
    with pytest.raises(
        CaptureError,
        match=r"the data set Broken gives no item for \d+: OSError\('truncated'\)\. Pass `probe=`",
    ):
        drawn(loader)


def test_what_a_worker_cannot_do_is_done_here() -> None:
    class Here(Wide):
        def __getitem__(self, place: int) -> torch.Tensor:
            if get_worker_info() is not None:
                raise RuntimeError("not in a worker")
            return torch.zeros(1)

    assert len(drawn(DataLoader(Here(), num_workers=1, multiprocessing_context="fork")).keys) == 16
