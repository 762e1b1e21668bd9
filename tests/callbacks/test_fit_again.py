"""What goes on after an end, an error, or a checkpoint of a finished run, is one series."""

import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from small_models import At, Net, csv_record, loader, monitor, network, robustness, trainer
from test_resume import records

from fnet_callbacks import FnetWarning, FunctionalCodes, Monitor, Record, read_record

# Lightning, on a checkpoint of the middle of an epoch and on a folder that has checkpoints already.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*resuming from a checkpoint that ended before the epoch.*"),
    pytest.mark.filterwarnings("ignore:.*The dirpath has changed.*"),
    pytest.mark.filterwarnings("ignore:.*Experiment logs directory .* exists"),
]


def watching(every: int) -> Monitor:
    return monitor(every, network(measures="fast"), FunctionalCodes(every_n_steps=every), probe_size=32)


def assert_equal(found: Record, expected: Record) -> None:
    assert found.steps == expected.steps
    for a, b in zip(found.snapshots, expected.snapshots, strict=True):
        assert {k: float(v).hex() for k, v in a.scalars.items()} == {
            k: float(v).hex() for k, v in b.scalars.items()
        }
        assert a.logged_at_end == b.logged_at_end or a.step < expected.steps[-1]


def run(folder: Path, epochs: int, resume: str | None = None, *, every: int = 5) -> pl.Trainer:
    torch.manual_seed(0)
    made = trainer(folder, watching(every), max_epochs=epochs, logger=CSVLogger(folder, name="csv"))
    made.fit(Net(), loader(), ckpt_path=resume)
    return made


def test_a_checkpoint_of_after_the_end_goes_on_as_if_there_had_been_none(tmp_path: Path) -> None:
    run(tmp_path / "whole", 2)
    ended = run(tmp_path / "cut", 1)
    assert csv_record(tmp_path / "cut").steps == [0, 5, 8]
    ended.save_checkpoint(tmp_path / "end.ckpt")
    run(tmp_path / "resumed", 2, str(tmp_path / "end.ckpt"))
    found = csv_record(tmp_path / "resumed")
    assert_equal(found, csv_record(tmp_path / "whole"))
    assert np.isfinite(found.series("fnet/edge_turnover")[1:]).all()


def test_the_last_values_of_a_run_are_not_those_of_the_middle_of_the_next(tmp_path: Path) -> None:
    ended = run(tmp_path / "cut", 1, every=4)  # its last snapshot is on the schedule
    assert csv_record(tmp_path / "cut").snapshots[-1].logged_at_end
    ended.save_checkpoint(tmp_path / "end.ckpt")
    run(tmp_path / "resumed", 2, str(tmp_path / "end.ckpt"), every=4)
    found = csv_record(tmp_path / "resumed")
    assert found.steps == [0, 4, 8, 12, 16]
    assert [bool(s.logged_at_end) for s in found.snapshots] == [False, False, False, False, True]


def test_after_an_error_the_same_trainer_goes_on_where_it_stood(tmp_path: Path) -> None:
    state = {"fails": True}

    def fail(_: Any) -> None:
        if state["fails"]:
            raise RuntimeError("in a notebook")

    torch.manual_seed(0)
    net = Net()
    watched = monitor(2, network(measures="fast"), robustness(4))
    made = trainer(tmp_path, watched, At(5, fail), max_epochs=3)
    with pytest.raises(RuntimeError, match="in a notebook"):
        made.fit(net, loader())
    (first,) = records(tmp_path)
    assert first.steps == [0, 2, 4]
    state["fails"] = False
    made.fit(net, loader())
    last = records(tmp_path)[-1]
    assert last.steps[:4] == [0, 2, 4, 6]
    assert last.steps[-1] == made.global_step
    assert last.snapshots[0].scalars == first.snapshots[0].scalars


def part_due(folder: Path, epochs: int, resume: str | None = None) -> pl.Trainer:
    """At the step at which an epoch ends one instrument is due, the other is not."""
    torch.manual_seed(0)
    watched = monitor(4, network(measures="fast"), robustness(3), FunctionalCodes(every_n_steps=5))
    made = trainer(folder, watched, max_epochs=epochs, logger=CSVLogger(folder, name="csv"))
    made.fit(Net(), loader(), ckpt_path=resume)
    return made


def test_what_only_the_end_made_due_is_dropped_when_training_goes_on(tmp_path: Path) -> None:
    part_due(tmp_path / "whole", 2)
    ended = part_due(tmp_path / "cut", 1)
    (last,) = (s for s in csv_record(tmp_path / "cut").snapshots if s.step == 8)
    assert set(last.at_end) == {"robust", "codes"}
    assert not last.is_end
    assert last.scalars["monitor/interval"] == 2  # of the snapshot that was on the schedule
    assert "codes.units" in csv_record(tmp_path / "cut").arrays(8)
    ended.save_checkpoint(tmp_path / "end.ckpt")
    part_due(tmp_path / "resumed", 2, str(tmp_path / "end.ckpt"))
    found, whole = csv_record(tmp_path / "resumed"), csv_record(tmp_path / "whole")
    assert_equal(found, whole)
    for step in whole.steps:
        a, b = found.arrays(step), whole.arrays(step)
        assert a.keys() == b.keys()
        assert all(np.array_equal(a[name], b[name], equal_nan=a[name].dtype.kind == "f") for name in a)


def in_folder(
    folder: Path, *instruments: Any, epochs: int, resume: Path | None = None, seed: int = 0
) -> pl.Trainer:
    torch.manual_seed(seed)
    made = trainer(folder, monitor(4, *instruments, folder=folder / "run"), max_epochs=epochs)
    made.fit(Net(), loader(), ckpt_path=resume)
    return made


def test_of_two_runs_in_one_folder_each_goes_on_from_its_own_record(tmp_path: Path) -> None:
    in_folder(tmp_path, network(measures="fast"), epochs=1).save_checkpoint(tmp_path / "first.ckpt")
    first = read_record(tmp_path / "run" / "fnet").snapshots
    in_folder(tmp_path, network(measures="fast"), epochs=1, seed=1)
    second = read_record(tmp_path / "run" / "fnet").snapshots
    in_folder(tmp_path, network(measures="fast"), epochs=2, resume=tmp_path / "first.ckpt")
    assert read_record(tmp_path / "run" / "fnet").snapshots[1].scalars == first[1].scalars
    assert first[1].scalars != second[1].scalars
    kept = [read_record(path.parent).snapshots for path in (tmp_path / "run").glob("fnet.*/manifest.json")]
    assert second in kept


def test_a_record_of_another_run_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    in_folder(tmp_path, network(measures="fast"), epochs=1).save_checkpoint(tmp_path / "first.ckpt")
    shutil.rmtree(tmp_path / "run")
    in_folder(tmp_path, network(measures="fast"), epochs=1, seed=1)
    with pytest.warns(FnetWarning, match="written by another run"):
        in_folder(tmp_path, network(measures="fast"), epochs=2, resume=tmp_path / "first.ckpt")
    assert read_record(tmp_path / "run" / "fnet").steps == [12, 16]


def test_an_instrument_that_goes_stays_in_the_record_and_one_that_comes_begins_at_once(
    tmp_path: Path,
) -> None:
    in_folder(tmp_path, network(measures="fast"), epochs=1).save_checkpoint(tmp_path / "first.ckpt")
    made = in_folder(tmp_path, robustness(100), epochs=2, resume=tmp_path / "first.ckpt")
    found = read_record(tmp_path / "run" / "fnet")
    assert np.isfinite(found.series("robust/clean_accuracy")[found.steps.index(8) :]).any()
    assert {"fnet", "robust"} == found.instruments.keys()
    assert found.of_kind("FunctionalNetwork") == ["fnet"]
    assert found.keys["fnet_layers/01/modularity"].layer == "net.1"
    assert found.keys["fnet/modularity"].definition
    assert np.isfinite(found.series("fnet/modularity")[: found.steps.index(8) + 1]).all()
    assert "fnet/modularity" not in made.callback_metrics
