"""Data sets that open a handle at their first item: later workers open their own, forked or spawned."""

import functools
import os
import pickle
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from small_models import Net, fast, points, record, trainer
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, get_worker_info

from fnet_callbacks import CaptureError


class Handles(Dataset):
    """Items say whether the process that reads them is the one that opened the handle."""

    def __init__(self) -> None:
        self.data = points()
        self.handle: Any = None

    def __len__(self) -> int:
        return len(self.data)

    def opened(self) -> Any:
        if self.handle is None:
            self.handle = open(__file__, "rb"), os.getpid()  # noqa: SIM115
        return self.handle

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor, bool]:
        return *self.data[place], self.opened()[1] == os.getpid()


class OfClass(Handles):
    """Keeps it for all data sets of its class."""

    shared: Any = None

    def opened(self) -> Any:
        if OfClass.shared is None:
            OfClass.shared = open(__file__, "rb"), os.getpid()  # noqa: SIM115
        return OfClass.shared


@functools.lru_cache
def module_handle() -> Any:
    return open(__file__, "rb"), os.getpid()


class OfModule(Handles):
    def opened(self) -> Any:
        return module_handle()


class Wrapper(Dataset):
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, place: int) -> Any:
        return self.inner[place]


class Checks(Net):
    """Notes what the items say."""

    def __init__(self) -> None:
        super().__init__()
        self.is_own: list[bool] = []

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.is_own += batch[2].tolist()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if len(batch) > 2:
            self.is_own += batch[2].tolist()
        return super().training_step(batch, batch_idx)


WRAPS = [
    lambda inner: inner,
    lambda inner: Subset(inner, range(64)),
    lambda inner: ConcatDataset([Subset(inner, range(32)), Subset(inner, range(32, 64))]),
    Wrapper,
]


@pytest.mark.parametrize("wrap", WRAPS, ids=["bare", "subset", "concatenated", "wrapped"])
@pytest.mark.parametrize("kind", [Handles, OfClass, OfModule])
def test_workers_that_are_forked_later_open_their_own_handle(tmp_path: Path, kind: Any, wrap: Any) -> None:
    model = Checks()
    val = DataLoader(wrap(kind()), batch_size=8, num_workers=1, multiprocessing_context="fork")
    trainer(tmp_path, fast(4), num_sanity_val_steps=0).fit(model, DataLoader(points(), batch_size=8), val)
    assert len(model.is_own) == 64
    assert all(model.is_own)
    assert record(tmp_path).manifest["probe"]["n_samples"] == 64


def test_halves_of_one_data_set_are_read_by_their_own_workers(tmp_path: Path) -> None:
    whole, model = Handles(), Checks()
    train = DataLoader(Subset(whole, range(32)), batch_size=8, num_workers=1, multiprocessing_context="fork")
    val = DataLoader(Subset(whole, range(32, 64)), batch_size=8)
    once = {"max_epochs": 2, "num_sanity_val_steps": 0, "limit_val_batches": 0}
    trainer(tmp_path, fast(4, probe=val), **once).fit(model, train)
    assert len(model.is_own) == 64
    assert all(model.is_own)


@pytest.mark.parametrize("wrap", WRAPS, ids=["bare", "subset", "concatenated", "wrapped"])
def test_what_will_be_spawned_can_still_be_sent(tmp_path: Path, wrap: Any) -> None:
    class Sends(pl.Callback):
        sent = 0

        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            self.sent += len(pickle.dumps(trainer.train_dataloader.dataset)) > 0  # type: ignore[union-attr]

    data, sends = wrap(Handles()), Sends()
    made = trainer(tmp_path, fast(4, probe=data), sends, num_sanity_val_steps=0, limit_train_batches=2)
    # As a spawned worker would be sent it; training itself reads other items.
    made.fit(Net(), DataLoader(WithPassenger(points(), data), batch_size=8))
    assert sends.sent == 2


class WithPassenger(Wrapper):
    def __init__(self, inner: Any, passenger: Any) -> None:
        super().__init__(inner)
        self.passenger = passenger


class Broken(Dataset):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, place: int) -> Any:
        if place == 16:
            raise OSError("truncated")
        return points()[place]


class ByName(Broken):
    def __getitem__(self, name: Any) -> Any:
        return points()[int(name.removeprefix("id_"))]


class OfWorkers(Broken):
    def __getitem__(self, place: int) -> Any:
        return get_worker_info().dataset.data[place]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("probe", "reason"),
    [
        (Broken, r"gives no item for 16: OSError\('truncated'\)"),
        (ByName, "gives no item for .* has no attribute 'removeprefix'"),
        (
            lambda: DataLoader(OfWorkers(), num_workers=1, multiprocessing_context="spawn"),
            "gives no item for .*outside of the loader's workers",
        ),
    ],
    ids=["a broken item", "items by name", "items of workers"],
)
def test_items_that_cannot_be_read_lead_to_probe_and_not_to_the_model(
    tmp_path: Path, probe: Any, reason: str
) -> None:
    made = trainer(tmp_path, fast(4, probe=probe(), on_error="warn"))
    with pytest.raises(CaptureError, match=f"^fnet, from the data of `probe`: .*{reason}.*Pass `probe=`"):
        made.fit(Net(), DataLoader(points(), batch_size=8))
    assert made.global_step == 0


def test_items_by_name_are_drawn_by_the_names_of_the_sampler(tmp_path: Path) -> None:
    data = DataLoader(ByName(), batch_size=8, sampler=[f"id_{i}" for i in range(64)])
    trainer(tmp_path, fast(4, probe_size=16)).fit(Net(), data)
    drawn = record(tmp_path).manifest["probe"]["indices"]
    assert len(drawn) == 16
    assert all(name.startswith("id_") for name in drawn)


def test_a_worker_that_reads_the_probe_leaves_training_as_it_is(tmp_path: Path) -> None:
    found = []
    for watching in ((), (fast(2),)):
        torch.manual_seed(0)
        model = Net()
        options: dict[str, Any] = {"batch_size": 8, "num_workers": 1, "multiprocessing_context": "fork"}
        loaders = DataLoader(points(), shuffle=True, **options), DataLoader(points(), **options)
        trainer(tmp_path / str(len(watching)), *watching).fit(model, *loaders)
        found.append(([*model.state_dict().values()], torch.get_rng_state()))
    (plain, state), (watched, state_after) = found
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    assert torch.equal(state, state_after)
