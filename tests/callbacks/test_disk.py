"""Disks that fill up, turn read-only or lose the folder in mid-training: real ones, small and in memory."""

import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger
from small_models import At, Ledger, Net, fast, loader, record, trainer

from fnet_callbacks import FnetWarning, Record

WORKERS = pytest.mark.parametrize("worker", ["inline", "process"])


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fit(folder: Path, worker: Any, *changes: At) -> tuple[Ledger, list[str]]:
    """Two epochs of eight steps, a snapshot every second; what was logged, and what was warned of."""
    ledger = Ledger()
    monitor = fast(2, worker=worker, on_error="warn", figures="log")
    fitted = trainer(folder, monitor, *changes, logger=ledger, max_epochs=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted.fit(Net(), loader())
    assert fitted.global_step == 16
    assert ledger.steps_of("fnet/modularity") == list(range(0, 17, 2))
    return ledger, [str(w.message) for w in caught if issubclass(w.category, FnetWarning)]


def assert_whole(found: Record, ledger: Ledger) -> None:
    """All values and all arrays of the snapshots that there are; a logger gets no NaN."""
    logged = {step: values for step, values in ledger.rows if "monitor/step" in values}
    for snapshot in found.snapshots:
        for key, value in snapshot.scalars.items():
            np.testing.assert_equal(value, logged[snapshot.step].get(key, np.nan))
        assert len(found.arrays(snapshot.step)["fnet.partition"]) == snapshot.scalars["fnet/n_neurons"]


@WORKERS
def test_a_disk_that_fills_up_costs_what_did_not_fit_and_nothing_else(disk: Path, worker: str) -> None:
    filler = disk / "filler"

    def fill(_: Any) -> None:
        with open(filler, "wb", buffering=0) as file:
            while True:
                try:
                    if not file.write(bytes(2048)):
                        break
                except OSError:
                    break

    ledger, messages = fit(disk, worker, At(5, fill), At(11, lambda _: filler.unlink()))
    found = record(disk)
    assert {0, 2, 4, 12, 14, 16} <= set(found.steps)
    assert not {6, 8, 10} <= set(found.steps)
    assert_whole(found, ledger)
    assert sum("is not in the record: " in m for m in messages) in (1, 2)  # two texts, once each
    assert all("No space left" in m or "the disk is full" in m for m in messages), messages
    assert not list(found.folder.glob(".*")), "nothing half-written is left"


@WORKERS
def test_a_disk_that_turns_read_only_costs_what_came_meanwhile(disk: Path, worker: str) -> None:
    def remount(how: str) -> Callable[[Any], object]:
        return lambda _: subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)

    ledger, messages = fit(disk, worker, At(5, remount("ro")), At(11, remount("rw")))
    found = record(disk)
    assert found.steps == [0, 2, 4, 12, 14, 16]
    assert_whole(found, ledger)
    assert all("Read-only file system" in m for m in messages), messages
    assert sum("is not in the record: " in m for m in messages) == 1


@WORKERS
def test_a_folder_that_is_removed_is_made_again_and_says_so(tmp_path: Path, worker: str) -> None:
    ledger, messages = fit(tmp_path, worker, At(5, lambda _: shutil.rmtree(record(tmp_path).folder)))
    assert messages == ["step 6 begins the record anew: its folder was removed, with all in it"]
    found = record(tmp_path)
    assert found.steps == [6, 8, 10, 12, 14, 16]
    assert found.manifest["instruments"]["fnet"]["layers"]
    assert_whole(found, ledger)


def test_a_log_directory_that_is_removed_does_to_a_run_what_it_does_without_the_monitor(
    tmp_path: Path,
) -> None:
    ends = []
    for callbacks in ([], [fast(2, on_error="warn")]):

        class Removes(pl.Callback):
            def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
                if trainer.global_step == 5:
                    shutil.rmtree(tmp_path / "logs")

        fitted = trainer(
            tmp_path, *callbacks, Removes(), logger=CSVLogger(tmp_path, name="logs"), max_epochs=2
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                fitted.fit(Net(), loader())
                end = "whole"
            except OSError as error:
                end = type(error).__name__
        ends.append((end, fitted.global_step))
        shutil.rmtree(tmp_path / "logs", ignore_errors=True)
    assert ends[0] == ends[1]
