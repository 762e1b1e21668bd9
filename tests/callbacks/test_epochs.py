"""Snapshots by epochs: each is taken at its epoch's last batch, before anybody looks at the epoch's end."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import ModelCheckpoint
from small_models import (
    Ledger,
    Net,
    Stream,
    TwoOptimizers,
    fast,
    loader,
    monitor,
    network,
    record,
    robustness,
    trainer,
    values,
)
from torch.utils.data import DataLoader

from fnet_callbacks import FnetError

KEY = "fnet/modularity"


def by_epochs(every_n_epochs: int = 1, *instruments: Any, **options: Any) -> Any:
    """A monitor that counts epochs, of the fast tier unless instruments are given."""
    quick = network(measures="fast", layer_measures=[])
    return monitor(None, *(instruments or [quick]), every_n_epochs=every_n_epochs, **options)


def fit(folder: Path, *callbacks: Any, model: Any = None, data: Any = None, **options: Any) -> Ledger:
    ledger = Ledger()
    fitted = trainer(folder, *callbacks, logger=ledger, **{"max_epochs": 3, **options})
    fitted.fit(model or Net(), loader() if data is None else data, loader(16, seed=1))
    return ledger


class Looks(pl.Callback):
    """Notes the step of our values at each end of a validation."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self.seen.append(float(trainer.callback_metrics["monitor/step"]))


@pytest.mark.parametrize("every_n_epochs, steps", [(1, [0, 8, 16, 24]), (2, [0, 16, 24]), (5, [0, 24])])
def test_epochs_are_counted_and_the_ends_of_training_are_there(
    tmp_path: Path, every_n_epochs: int, steps: list[int]
) -> None:
    assert fit(tmp_path, by_epochs(every_n_epochs)).steps_of(KEY) == steps
    settings = record(tmp_path).manifest["monitor"]
    assert (settings["every_n_steps"], settings["every_n_epochs"]) == (None, every_n_epochs)


@pytest.mark.parametrize("is_first", [True, False], ids=["before the monitor", "behind it"])
def test_who_looks_at_validations_end_finds_that_epochs_value(tmp_path: Path, is_first: bool) -> None:
    looks = Looks()
    callbacks = [looks, by_epochs()][:: 1 if is_first else -1]
    fit(tmp_path, *callbacks)
    assert looks.seen == [8, 16, 24]


@pytest.mark.parametrize("worker", ["inline", "process"])
def test_checkpoints_of_validation_are_chosen_by_their_epochs_value(tmp_path: Path, worker: str) -> None:
    checkpoints = ModelCheckpoint(
        tmp_path / "kept", "{step}-{fnet/modularity:.6f}", monitor=KEY, mode="max", save_top_k=-1,
        auto_insert_metric_name=False,
    )  # fmt: skip
    ledger = fit(tmp_path, by_epochs(worker=worker), checkpoints, model=Net(lr=0.05))
    found = values(ledger, KEY)
    assert {p.name for p in (tmp_path / "kept").iterdir()} == {
        f"{step}-{found[step]:.6f}.ckpt" for step in (8, 16, 24)
    }


@pytest.mark.parametrize("options", [{}, {"max_steps": 1000}], ids=["epochs", "steps too"])
@pytest.mark.parametrize("source", ["probe", "train"])
def test_the_end_of_a_stream_of_unknown_length_is_found(
    tmp_path: Path, source: Any, options: dict[str, Any]
) -> None:
    looks = Looks()
    quick = network(measures="fast", layer_measures=[], source=source)
    watching = by_epochs(1, quick, probe_size=16)
    ledger = fit(tmp_path, looks, watching, data=DataLoader(Stream(56), batch_size=8), **options)
    assert ledger.steps_of(KEY) == [0, 7, 14, 21]
    assert looks.seen == [7, 14, 21]
    assert values(ledger, "fnet/n_samples")[14] == 16


def test_steps_under_accumulation_are_counted_as_ever(tmp_path: Path) -> None:
    looks = Looks()
    ledger = fit(tmp_path, looks, by_epochs(), accumulate_grad_batches=3)  # steps after batches 3, 6 and 8
    assert ledger.steps_of(KEY) == [0, 3, 6, 9]
    assert looks.seen == [3, 6, 9]


class LastIsNoStep(TwoOptimizers):
    def training_step(self, batch: Any, batch_idx: int) -> None:
        if batch_idx < 7:
            super().training_step(batch, batch_idx)


def test_an_epoch_whose_last_batch_is_no_step_has_its_snapshot(tmp_path: Path) -> None:
    looks = Looks()
    assert fit(tmp_path, looks, by_epochs(), model=LastIsNoStep()).steps_of(KEY) == [0, 7, 14, 21]
    assert looks.seen == [7, 14, 21]


def test_an_epoch_without_a_step_has_none(tmp_path: Path) -> None:
    class Rests(TwoOptimizers):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            if self.current_epoch != 1:
                super().training_step(batch, batch_idx)

    assert fit(tmp_path, by_epochs(), model=Rests()).steps_of(KEY) == [0, 8, 16]


def test_an_epoch_cut_short_counts_as_one_where_lightning_says_so(tmp_path: Path) -> None:
    assert fit(tmp_path, by_epochs(), limit_train_batches=0.5).steps_of(KEY) == [0, 4, 8, 12]
    assert fit(tmp_path, by_epochs(), max_steps=13).steps_of(KEY) == [0, 8, 13]


def test_an_instrument_counts_epochs_where_its_monitor_counts_steps(tmp_path: Path) -> None:
    ledger = fit(tmp_path, monitor(3, network(measures="fast"), robustness(None, every_n_epochs=2)))
    assert ledger.steps_of(KEY) == [0, 3, 6, 9, 12, 15, 18, 21, 24]
    assert ledger.steps_of("robust/clean_accuracy") == [0, 16, 24]
    settings = record(tmp_path).manifest["instruments"]
    assert [settings[name]["every_n_epochs"] for name in ("fnet", "robust")] == [None, 2]
    assert [settings[name]["every_n_steps"] for name in ("fnet", "robust")] == [3, None]


def test_an_instrument_counts_steps_where_its_monitor_counts_epochs(tmp_path: Path) -> None:
    ledger = fit(tmp_path, by_epochs(1, network(measures="fast"), robustness(10)))
    assert ledger.steps_of(KEY) == [0, 8, 16, 24]
    assert ledger.steps_of("robust/clean_accuracy") == [0, 10, 20, 24]


def test_an_instrument_without_a_schedule_takes_a_multiple_of_epochs(tmp_path: Path) -> None:
    attacks = robustness(None)
    ledger = fit(tmp_path, by_epochs(1, network(measures="fast"), attacks), data=loader(16), max_epochs=11)
    assert ledger.steps_of(KEY) == list(range(0, 23, 2))
    assert ledger.steps_of("robust/clean_accuracy") == [0, 20, 22]
    assert record(tmp_path).manifest["instruments"]["robust"]["every_n_epochs"] == 10


def test_epochs_go_on_where_a_run_is_resumed(tmp_path: Path) -> None:
    checkpoints = ModelCheckpoint(tmp_path / "kept", "{epoch}", save_top_k=-1)
    fit(tmp_path / "first", by_epochs(2), checkpoints, max_epochs=3)
    for epochs, expected in ((2, [0, 16]), (3, [0, 16])):  # at the end of the third none was due
        again = ModelCheckpoint(tmp_path / "kept", "again-{epoch}", save_top_k=-1)
        resumed = trainer(tmp_path / str(epochs), by_epochs(2), again, max_epochs=5)
        resumed.fit(
            Net(), loader(), loader(16, seed=1), ckpt_path=tmp_path / "kept" / f"epoch={epochs - 1}.ckpt"
        )
        assert record(tmp_path / str(epochs)).steps == [*expected, 32, 40]


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "each"])
def test_epochs_that_are_no_number_are_refused(wrong: Any) -> None:
    with pytest.raises(FnetError, match=r"`every_n_epochs=.*integer of at least 1"):
        by_epochs(wrong)


@pytest.mark.parametrize("make", [lambda **own: fast(**own), lambda **own: robustness(2, **own)])
def test_two_schedules_are_refused(make: Any) -> None:
    with pytest.raises(FnetError, match=r"`every_n_steps=.*`every_n_epochs=1` are two schedules"):
        make(every_n_epochs=1)
