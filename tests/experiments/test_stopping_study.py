"""Stopping recorded runs by two values, for every burn-in and patience."""

import sys

import numpy as np
import pytest

from experiments import early_stopping, sweep
from experiments.early_stopping import (
    ACCURACY,
    LOSS,
    PERSISTENCE,
    Epochs,
    compared,
    epochs_of,
    picture,
    stop,
    told,
)
from experiments.trials import read_sweep, write_state
from fnet_callbacks.compare.runs import read_runs
from fnet_callbacks.errors import FnetError
from fnet_callbacks.record import Snapshot, SnapshotStore


@pytest.mark.parametrize(
    ("values", "burn_in", "patience", "epoch"),
    [
        ([1, 2, 3, 2, 2, 9], 0, 2, 2),
        ([1, 2, 3, 2, 2, 9], 0, 3, 5),
        ([9, 1, 2, 1, 1], 0, 1, 0),
        ([9, 1, 2, 1, 1], 1, 2, 2),
        ([1, 1, 1], 0, 5, 0),  # as good is no better
        ([np.nan, np.nan, 1.0, 0.0], 0, 3, 2),
        ([np.nan, np.nan], 1, 1, 1),
    ],
)
def test_the_best_epoch_until_patience_ends_is_taken(values, burn_in, patience, epoch):
    assert stop(np.array(values, float), burn_in, patience) == epoch


def run(persistence, loss, accuracy):
    return Epochs(*(np.array(values, float) for values in (persistence, loss, accuracy)))


def test_every_pair_is_compared_run_by_run():
    runs = [
        run([1, 3, 2, 2], [4, 3, 2, 1], [0.1, 0.2, 0.3, 0.4]),
        run([1, 2, 3, 4], [1, 2, 3, 4], [0.4, 0.3, 0.2, 0.1]),
    ]
    found = compared(runs)
    assert found.by_loss.shape == (3, 3, 2)
    assert found.by_persistence[0, 0].tolist() == [2, 4]
    assert found.by_loss[0, 0].tolist() == [4, 1]
    assert found.by_persistence[2, 0].tolist() == [3, 4]
    assert np.isnan(found.by_loss[2, 1]).all()  # beyond the last epoch
    assert found.difference(0, 1).mean == pytest.approx(((0.2 - 0.4) + (0.1 - 0.4)) / 2)
    assert "2 runs" in told(found, runs)
    assert len(picture(found).axes) == 6


def write(folder, epochs=5, max_epochs=5):
    store = SnapshotStore(folder / "fnet")
    store.start({"configuration": {"seed": 0, "trainer.max_epochs": max_epochs}})
    for epoch in range(epochs + 1):
        logged = [{LOSS: 1 / n, ACCURACY: n / 10} if n else {} for n in (max(epoch - 1, 0), epoch)]
        at_end = logged[1] if epoch == epochs else {}
        store.append(
            Snapshot(10 * epoch, {PERSISTENCE: float(epoch)}, logged=logged[0], logged_at_end=at_end)
        )
    return folder


def test_what_is_logged_at_the_end_of_an_epoch_belongs_to_it(tmp_path):
    (found,) = read_runs([write(tmp_path)]).runs
    epochs = epochs_of(found)
    assert epochs.persistence.tolist() == [1, 2, 3, 4, 5]
    assert epochs.accuracy == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert epochs.loss == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])


def test_snapshots_that_are_not_one_an_epoch_are_told(tmp_path):
    (found,) = read_runs([write(tmp_path, max_epochs=10)]).runs
    with pytest.raises(FnetError, match=r"a snapshot after each of 10 epochs, not at the steps 10, 20, 30"):
        epochs_of(found)


def test_a_run_of_another_kind_is_told(tmp_path):
    store = SnapshotStore(tmp_path / "fnet")
    store.start({})
    for step in range(4):
        store.append(Snapshot(step, {PERSISTENCE: 1.0}))
    with pytest.raises(FnetError, match="no val_loss and test_accuracy after each epoch"):
        epochs_of(read_runs([tmp_path]).runs[0])


def test_table_and_picture_are_written(tmp_path, monkeypatch, capsys):
    for trial in read_sweep(early_stopping.SWEEP)[:2]:
        write_state(write(trial.folder(tmp_path / "out")), "finished")
    monkeypatch.setattr(sweep, "main", lambda _: 0)
    monkeypatch.setattr(sys, "argv", ["x", "--out", str(tmp_path / "out")])
    assert early_stopping.main() == 0
    assert (tmp_path / "out" / "early_stopping.md").read_text().strip() in capsys.readouterr().out
    assert (tmp_path / "out" / "early_stopping.png").read_bytes().startswith(b"\x89PNG")
