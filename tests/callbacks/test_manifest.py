"""What the record says of the run: how it was configured, and what it logged itself."""

import inspect
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningDataModule, seed_everything
from small_models import Net, fast, loader, monitor, record, trainer
from torch import Tensor, nn

from fnet_callbacks import (
    FunctionalCodes,
    FunctionalNetwork,
    Lesions,
    LocalSpecialization,
    Monitor,
    Record,
    ReLURegions,
    Robustness,
    read_record,
)


class Configured(Net):
    """Saves hyperparameters of every kind, and logs each step its number, each epoch its own."""

    def __init__(self, **values: Any) -> None:
        super().__init__()
        self.save_hyperparameters()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.log("at_step", float(self.global_step))
        self.log("train_accuracy", 0.5 + 0.1 * self.current_epoch, on_step=False, on_epoch=True)
        return self.loss(batch)[0]

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_accuracy", 0.4 + 0.1 * self.current_epoch)


class Mute:
    def __str__(self) -> str:
        raise RuntimeError


class Data(LightningDataModule):
    def __init__(self, size: int = 1, width: int = 7) -> None:
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self) -> Any:
        return loader()

    def val_dataloader(self) -> Any:
        return loader(16)


def fit(folder: Path, model: Any, *data: Any, every: int = 4, epochs: int = 2, **options: Any) -> Record:
    made = trainer(folder, fast(every), max_epochs=epochs, **options)
    made.fit(model, *(data or (loader(), loader(16))))
    (manifest,) = folder.rglob("manifest.json")
    return read_record(manifest.parent)


def test_hyperparameters_are_in_the_manifest_one_value_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    values = {"lr": 0.1, "name": "x", "widths": (3, 4), "optimizer": {"beta": 0.9, "more": {"on": True}}}
    model = Configured(**values, nothing=None, loss=nn.MSELoss, made_by=object(), kind=torch.float32)
    found = fit(tmp_path, model).manifest["configuration"]
    assert found == {
        "lr": 0.1,
        "name": "x",
        "widths": [3, 4],
        "optimizer.beta": 0.9,
        "optimizer.more.on": True,
        "nothing": None,
        "loss": "MSELoss",
        "made_by": "object",
        "kind": "torch.float32",
        "trainer.max_epochs": 2,
    }


def test_what_cannot_be_told_in_words_is_told_by_its_kind(tmp_path: Path) -> None:
    model = Configured(mute=Mute())
    assert fit(tmp_path, model).manifest["configuration"]["mute"] == "Mute"


def test_the_data_modules_are_too_and_the_seed(tmp_path: Path) -> None:
    seed_everything(11)
    found = fit(tmp_path, Configured(width=7), Data()).manifest["configuration"]
    assert found == {"width": 7, "size": 1, "trainer.max_epochs": 2, "seed": 11}


def test_a_model_without_hyperparameters_has_its_length_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert fit(tmp_path, Net()).manifest["configuration"] == {"trainer.max_epochs": 2}


@pytest.mark.parametrize("worker", ["inline", "process"])
@pytest.mark.parametrize("every", [4, 5])  # the last step on schedule, and off it
def test_a_snapshot_has_what_the_run_had_logged(tmp_path: Path, worker: str, every: int) -> None:
    made = trainer(tmp_path, fast(every, worker=worker), max_epochs=2, log_every_n_steps=1)
    made.fit(Configured(), loader(), loader(16))
    (manifest,) = tmp_path.rglob("manifest.json")
    record = read_record(manifest.parent)
    last = made.global_step
    assert record.steps == sorted({*range(0, last + 1, every), last})
    assert record.snapshots[0].logged == {}
    expected = {"at_step": last - 1, "train_accuracy": 0.6, "val_accuracy": 0.5}
    assert record.snapshots[-1].logged_at_end == pytest.approx(expected)
    assert not any(s.logged_at_end for s in record.snapshots[:-1])
    if every == 4:  # it was taken before the epoch's values were there
        assert record.snapshots[-1].logged["train_accuracy"] == pytest.approx(0.5)
    assert not any(key.startswith(("fnet", "monitor")) for s in record.snapshots for key in s.logged)
    before = [s.logged.get("train_accuracy", math.nan) for s in record.snapshots[:-1]]
    assert all(math.isnan(value) or value == pytest.approx(0.5) for value in before)
    assert [len(record.arrays(step)) for step in record.steps] == [len(record.arrays(0))] * len(record.steps)


def test_the_manifest_has_every_argument_of_the_monitor_and_of_each_instrument(tmp_path: Path) -> None:
    """What is left out stands elsewhere in it: the probe, the record itself."""
    kinds: list[Any] = [FunctionalNetwork, Lesions, LocalSpecialization, ReLURegions, FunctionalCodes]
    instruments = [Robustness(bounds=(0.0, 1.0)), *(kind() for kind in kinds)]
    options: dict[str, Any] = {"batch_to_inputs": first_of_batch, "probe_size": 32}
    trainer(tmp_path, monitor(8, *instruments, **options)).fit(Net(), loader())
    manifest = record(tmp_path).manifest
    of_monitor = set(inspect.signature(Monitor).parameters) - {"instruments", "probe", "folder"}
    assert of_monitor <= set(manifest["monitor"])
    assert manifest["monitor"]["batch_to_inputs"].endswith("test_manifest.first_of_batch")
    settings = {own["kind"]: own for own in manifest["instruments"].values()}
    for kind in (Robustness, *kinds):
        assert set(inspect.signature(kind).parameters) - {"name"} <= set(settings[kind.__name__]), kind
    assert settings["Robustness"]["loss"] == "fnet_callbacks.attacks.cross_entropy"
    assert settings["Robustness"]["bounds"] == [0.0, 1.0]


def first_of_batch(batch: Any) -> Tensor:
    return batch[0]
