"""Nothing is lost: a run that was killed by SIGKILL and resumed, against one that was not."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import interrupted_run
import numpy as np
import pytest
from interrupted_run import EPOCHS, STEPS_PER_EPOCH, run

from fnet_callbacks import FnetWarning, Record, read_record
from fnet_callbacks.record import Snapshot

TOTAL = EPOCHS * STEPS_PER_EPOCH
SCHEDULED = [*range(0, TOTAL, 3)]

pytestmark = [
    pytest.mark.slow,
    # Lightning, on a checkpoint of the middle of an epoch and on a folder that has checkpoints already.
    pytest.mark.filterwarnings("ignore:.*resuming from a checkpoint that ended before the epoch.*"),
    pytest.mark.filterwarnings("ignore:.*The dirpath has changed.*"),
]


def killed(folder: Path, **options: object) -> str:
    """Runs until the kill and returns the last checkpoint."""
    command = [sys.executable, interrupted_run.__file__, json.dumps({"folder": str(folder), **options})]
    root = Path(interrupted_run.__file__).parents[1]
    ended = subprocess.run(
        command, cwd=root, env=_environment(root), capture_output=True, text=True, timeout=200
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    checkpoints = (folder / "checkpoints").glob("*.ckpt")
    return str(max(checkpoints, key=lambda p: int(p.stem.removeprefix("step="))))


def _environment(root: Path) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}


def records(folder: Path) -> list[Record]:
    """The records under a folder, oldest first."""
    manifests = sorted(folder.rglob("manifest.json"), key=lambda p: p.stat().st_mtime)
    return [read_record(p.parent) for p in manifests]


def content(snapshot: Snapshot, record: Record) -> tuple[dict[str, str], dict[str, bytes]]:
    scalars = {k: float(v).hex() for k, v in snapshot.scalars.items()}
    return scalars, {k: a.tobytes() for k, a in record.arrays(snapshot.step).items()}


@pytest.mark.parametrize("logger", ["tensorboard", "wandb", None])
def test_a_resumed_record_is_bit_equal_to_an_uninterrupted_one(tmp_path: Path, logger: str | None) -> None:
    run(str(tmp_path / "whole"), logger=logger)
    checkpoint = killed(tmp_path / "cut", logger=logger, kill_at=21)
    assert "step=16" in checkpoint
    run(str(tmp_path / "cut"), logger=logger, resume=checkpoint)

    whole, cut = records(tmp_path / "whole")[-1], records(tmp_path / "cut")[-1]
    assert whole.steps == [*SCHEDULED, TOTAL]
    assert cut.steps == whole.steps
    for expected, found in zip(whole.snapshots, cut.snapshots, strict=True):
        assert content(found, cut) == content(expected, whole)
        assert found.notes == expected.notes


@pytest.mark.parametrize(
    "checkpoint_every, kill_at, restored",
    [(STEPS_PER_EPOCH, 20, 16), (5, 23, 20)],
    ids=["between epochs", "within one"],
)
def test_no_snapshot_is_lost_or_doubled_where_training_does_not_resume_exactly(
    tmp_path: Path, checkpoint_every: int, kill_at: int, restored: int
) -> None:
    checkpoint = killed(tmp_path, exact=False, checkpoint_every=checkpoint_every, kill_at=kill_at)
    assert f"step={restored}" in checkpoint
    before = records(tmp_path)[-1]
    run(str(tmp_path), exact=False, checkpoint_every=checkpoint_every, resume=checkpoint)

    old, new = records(tmp_path)
    assert (
        old.steps == before.steps == [*range(0, kill_at + 1, 3)]
    )  # what the killed run wrote is left as it was
    assert new.folder.parts[-2:] == ("version_1", "fnet")
    assert new.steps == [*SCHEDULED, TOTAL]
    for snapshot in new.snapshots:
        if snapshot.step <= restored:
            assert content(snapshot, new) == content(old.snapshots[old.steps.index(snapshot.step)], old)


def test_a_step_that_the_checkpoint_was_taken_at_is_not_measured_twice(tmp_path: Path) -> None:
    checkpoint = killed(tmp_path, checkpoint_every=6, kill_at=13)
    assert "step=12" in checkpoint
    run(str(tmp_path), checkpoint_every=6, resume=checkpoint)
    old, new = records(tmp_path)
    assert old.steps == [0, 3, 6, 9, 12]
    at_restored = new.snapshots[new.steps.index(12)]
    assert at_restored.cost_ms == old.snapshots[-1].cost_ms  # copied, not measured again
    assert new.steps == [*SCHEDULED, TOTAL]


def test_an_end_snapshot_is_dropped_when_training_goes_on(tmp_path: Path) -> None:
    run(str(tmp_path / "whole"), epochs=2)
    run(str(tmp_path / "cut"), epochs=1)
    first = records(tmp_path / "cut")[-1]
    assert first.steps == [0, 3, 6, 8]
    assert [s.is_end for s in first.snapshots] == [False, False, False, True]
    run(str(tmp_path / "cut"), epochs=2, resume=str(tmp_path / "cut" / "checkpoints" / "step=8.ckpt"))
    whole, cut = records(tmp_path / "whole")[-1], records(tmp_path / "cut")[-1]
    assert cut.steps == whole.steps == [0, 3, 6, 9, 12, 15, 16]
    assert [content(s, cut) for s in cut.snapshots] == [content(s, whole) for s in whole.snapshots]


def test_resuming_without_the_old_record_warns_and_goes_on(tmp_path: Path) -> None:
    run(str(tmp_path / "a"), epochs=1)
    for record in records(tmp_path / "a"):
        record.folder.rename(tmp_path / "elsewhere")
    with pytest.warns(FnetWarning, match="not taken over"):
        run(str(tmp_path / "b"), epochs=2, resume=str(tmp_path / "a" / "checkpoints" / "step=8.ckpt"))
    assert records(tmp_path / "b")[-1].steps == [9, 12, 15, 16]


@pytest.mark.filterwarnings("ignore:Experiment logs directory .* exists and is not empty")
def test_a_second_fit_of_one_callback_begins_anew_and_keeps_the_first_record(tmp_path: Path) -> None:
    import lightning.pytorch as pl
    from interrupted_run import Model
    from lightning.pytorch.loggers import CSVLogger
    from torch import rand
    from torch.utils.data import DataLoader, TensorDataset

    from fnet_callbacks import FunctionalNetwork, Monitor

    monitor = Monitor(FunctionalNetwork(density=0.3, nulls=2), every_n_steps=2, figures=None)
    data = TensorDataset(rand(32, 6), (rand(32) > 0.5).long())

    def fit(trainer: pl.Trainer) -> None:
        trainer.fit(Model(0.0), DataLoader(data, batch_size=8))

    def trainer() -> pl.Trainer:
        return pl.Trainer(
            max_epochs=1,
            logger=CSVLogger(str(tmp_path), version="same"),
            callbacks=[monitor],
            accelerator="cpu",
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            log_every_n_steps=1,
        )

    fit(trainer())
    second = trainer()
    fit(second)
    second.fit_loop.max_epochs = 2
    fit(second)  # goes on where it ended

    folders = {r.folder.name: r for r in records(tmp_path)}
    assert folders["fnet.1"].steps == [0, 2, 4]
    assert folders["fnet"].steps == [0, 2, 4, 6, 8]
    assert np.isfinite(folders["fnet"].series("fnet/modularity")).all()
