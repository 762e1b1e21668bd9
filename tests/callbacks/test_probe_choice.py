"""Which data a probe is drawn from where there are several loaders: the first that has items by index."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.utilities import CombinedLoader
from small_models import Net, Stream, fast, loader, points, record, trainer
from torch import Tensor
from torch.utils.data import DataLoader, SubsetRandomSampler, WeightedRandomSampler


class Several(Net):
    """Takes what any of its validation loaders gives."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        for part in batch.values() if isinstance(batch, dict) else [batch]:
            super().validation_step(part, batch_idx)


def first() -> DataLoader:
    return loader(24, seed=1)


def second() -> DataLoader:
    return loader(40, seed=2)


def stream() -> DataLoader:
    return DataLoader(Stream(16), batch_size=8)


def empty() -> DataLoader:
    return loader(0)


def drawn(folder: Path, val: Any, **options: Any) -> tuple[Any, dict[str, float]]:
    """What the manifest says of the probe, and what was measured before training."""
    torch.manual_seed(0)
    trainer(folder, fast(4, **options), limit_val_batches=1).fit(Several(), loader(), val)
    own = record(folder)
    return own.manifest["probe"], own.snapshots[0].scalars


@pytest.mark.filterwarnings("ignore:Total length of `DataLoader` across ranks is zero")
@pytest.mark.parametrize(
    ("loaders", "alone"),
    [
        (lambda: [first(), second()], first),
        (lambda: [second(), first()], second),
        (lambda: {"b": second(), "a": first()}, second),
        (lambda: CombinedLoader([first(), second()], "sequential"), first),
        (lambda: CombinedLoader({"x": first(), "y": second()}, "max_size_cycle"), first),
        (lambda: CombinedLoader([[stream(), second()], first()], "sequential"), second),
        (lambda: [stream(), second()], second),
        (lambda: [empty(), second()], second),
        (stream, loader),  # none of them has items: the training data
        (lambda: [stream(), stream()], loader),
    ],
    ids=["list", "list, turned", "mapping", "combined", "in step", "nested", "after a stream", "after nothing",
         "stream", "streams"],
)  # fmt: skip
def test_the_first_validation_loader_with_items_is_drawn_from(
    tmp_path: Path, loaders: Any, alone: Any
) -> None:
    probe, scalars = drawn(tmp_path / "several", loaders())
    expected, same = drawn(tmp_path / "alone", None, probe=alone())
    assert {**probe, "source": None} == {**expected, "source": None}
    assert expected["source"] == "the data of `probe`"
    assert probe["source"] == ("training data" if alone is loader else "validation data")
    assert probe["n_samples"] == len(alone().dataset)
    assert f"{scalars}" == f"{same}"


def test_another_of_several_is_drawn_from_where_it_is_named(tmp_path: Path) -> None:
    probe, _ = drawn(tmp_path, [first(), second()], probe=[second()])
    assert probe["n_samples"] == 40


def test_loaders_of_other_shapes_beside_the_first_do_no_harm(tmp_path: Path) -> None:
    class Skips(Net):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            assert isinstance(batch[0], Tensor)

    made = trainer(tmp_path, fast(4))
    made.fit(Skips(), loader(), [first(), loader(8, shape=(5, 5))])
    assert record(tmp_path).manifest["probe"]["n_samples"] == 24


def split(sampler: Any, **options: Any) -> DataLoader:
    return DataLoader(points(64), batch_size=8, sampler=sampler, **options)


@pytest.mark.parametrize(
    "sampler",
    [SubsetRandomSampler(range(48, 64)), WeightedRandomSampler([0.0] * 48 + [1.0] * 16, 16), range(48, 64)],
    ids=["subset", "weights", "places"],
)
def test_a_split_by_samplers_is_drawn_from_its_own_part(tmp_path: Path, sampler: Any) -> None:
    torch.manual_seed(0)
    trainer(tmp_path, fast(4)).fit(Several(), split(SubsetRandomSampler(range(48))), split(sampler))
    probe = record(tmp_path).manifest["probe"]
    assert probe["source"] == "validation data"
    assert sorted(probe["indices"]) == list(range(48, 64))


def test_a_sampler_that_gives_nothing_is_passed_over(tmp_path: Path) -> None:
    trainer(tmp_path, fast(4), limit_val_batches=0).fit(Several(), loader(), split(SubsetRandomSampler([])))
    assert record(tmp_path).manifest["probe"]["source"] == "training data"
