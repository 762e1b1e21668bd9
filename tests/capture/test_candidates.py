"""The probe is drawn from what the loader's sampler gives, and the sampler is as it was."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.distributed import DistributedSamplerWrapper
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from fnet_callbacks.capture.candidates import candidates_of, is_indexable
from fnet_callbacks.capture.indices import draw_indices
from fnet_callbacks.capture.isolation import isolated
from fnet_callbacks.capture.probe import ProbeDraw, draw
from fnet_callbacks.capture.reader import BatchReader
from fnet_callbacks.errors import CaptureError

ALL = TensorDataset(torch.arange(60.0)[:, None], torch.arange(60) % 3)
SOME = list(range(40, 60))


class Own(Sampler):
    """Draws from streams of its own, of torch and of NumPy, and counts its epochs."""

    def __init__(self) -> None:
        self.epoch = 0
        self.generator, self.rng = torch.Generator().manual_seed(1), np.random.default_rng(1)

    def __iter__(self) -> Iterator[int]:
        self.epoch += 1
        order = torch.randperm(20, generator=self.generator)
        return iter((order[torch.from_numpy(self.rng.permutation(20))] + 40).tolist())

    def __len__(self) -> int:
        return 20


class Batches(Sampler):
    def __iter__(self) -> Iterator[list[int]]:
        return iter([SOME[:8], SOME[8:16], SOME[16:]])


class Endless(Sampler):
    def __iter__(self) -> Iterator[int]:
        return itertools.cycle(SOME)


def half(sampler: Any, kind: Any = DistributedSampler) -> Any:
    return kind(sampler, num_replicas=2, rank=1)


def drawn(loader: DataLoader, size: int = 100) -> ProbeDraw:
    with isolated(torch.nn.Identity(), seed=0):
        return draw(loader, size=size, seed=0, reader=BatchReader())


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": SubsetRandomSampler(SOME)},
        {"sampler": SubsetRandomSampler(torch.tensor(SOME))},
        {"sampler": SOME},
        {"sampler": Own()},
        {"sampler": Endless()},
        {"sampler": half(SubsetRandomSampler(SOME), DistributedSamplerWrapper)},
        {"batch_sampler": BatchSampler(SubsetRandomSampler(SOME), 8, drop_last=False)},
        {"batch_sampler": Batches()},
        {"batch_sampler": [SOME[:10], SOME[10:]]},
    ],
    ids=["subset", "subset of a tensor", "list", "own", "endless", "shared out", "batches of a subset",
         "own batches", "list of batches"],
)  # fmt: skip
def test_items_that_the_sampler_does_not_give_are_not_drawn(options: dict[str, Any]) -> None:
    found = drawn(DataLoader(ALL, **options))
    assert sorted(found.keys) == SOME
    assert torch.cat([batch[0] for batch in found.batches])[:, 0].tolist() == list(found.keys)


@pytest.mark.parametrize(
    "sampler",
    [
        SequentialSampler(ALL),
        RandomSampler(ALL),
        RandomSampler(ALL, replacement=True, num_samples=5),
        half(ALL),
        half(RandomSampler(ALL), DistributedSamplerWrapper),
        SubsetRandomSampler(range(60)),
        WeightedRandomSampler([2.0] * 60, 10),
    ],
)
def test_where_it_gives_all_the_draw_is_that_of_the_data_set(sampler: Any) -> None:
    found = drawn(DataLoader(ALL, sampler=sampler), size=12)
    assert list(found.keys) == draw_indices(ALL, size=12, seed=0)


def test_what_is_left_is_stratified_by_label() -> None:
    labels = (
        torch.tensor(drawn(DataLoader(ALL, sampler=SubsetRandomSampler(range(30, 60))), size=12).keys) % 3
    )
    assert torch.bincount(labels).tolist() == [4, 4, 4]


def test_items_without_weight_are_never_drawn_and_heavy_ones_sooner() -> None:
    weights = torch.cat([torch.zeros(20), torch.ones(20), torch.full((20,), 50.0)])
    loader = DataLoader(ALL, sampler=WeightedRandomSampler(weights, 60))
    assert sorted(drawn(loader).keys) == list(range(20, 60))
    few = drawn(loader, size=15).keys
    assert len(set(few)) == 15
    assert sum(key >= 40 for key in few) >= 12


def test_the_draw_of_an_own_sampler_does_not_depend_on_where_its_streams_stand() -> None:
    sampler, advanced = Own(), Own()
    for _ in range(3):
        list(advanced)
    assert drawn(DataLoader(ALL, sampler=sampler), 8).keys == drawn(DataLoader(ALL, sampler=advanced), 8).keys


def test_a_sampler_goes_on_where_it_stood() -> None:
    sampler, untouched = Own(), Own()
    drawn(DataLoader(ALL, sampler=sampler))
    assert sampler.epoch == 0
    assert list(sampler) == list(untouched)


class ByName(Dataset):
    def __len__(self) -> int:
        return 60

    def __getitem__(self, name: str) -> Any:
        return ALL[int(name.removeprefix("id_"))]


class ByPair(Dataset):
    def __len__(self) -> int:
        return 60

    def __getitem__(self, pair: tuple[int, bool]) -> Any:
        place, is_flipped = pair
        return -ALL[place][0] if is_flipped else ALL[place][0]


def test_items_are_asked_for_by_what_the_sampler_gives() -> None:
    names = [f"id_{i}" for i in SOME]
    assert sorted(drawn(DataLoader(ByName(), sampler=names)).keys) == names
    pairs = [(i, True) for i in SOME]
    assert sorted(drawn(DataLoader(ByPair(), sampler=pairs)).keys) == pairs


def test_by_names_a_small_set_is_stratified_by_its_items() -> None:
    found = drawn(DataLoader(ByName(), sampler=[f"id_{i}" for i in range(60)]), size=15)
    labels = torch.cat([batch[1] for batch in found.batches])
    assert torch.bincount(labels).tolist() == [5, 5, 5]


def test_a_sampler_that_is_used_up_is_not_touched() -> None:
    sampler = iter(SOME)
    loader = DataLoader(ALL, sampler=sampler)  # type: ignore[arg-type]
    assert not is_indexable(loader)
    assert list(sampler) == SOME


def test_a_sampler_that_gives_nothing_is_refused() -> None:
    loader = DataLoader(ALL, sampler=SubsetRandomSampler([]))
    assert not candidates_of(loader).keys
    with pytest.raises(CaptureError, match="`probe`: the sampler of the loader gives no items"):
        drawn(loader)
