"""A budget spaces snapshots out; a logarithmic schedule is followed; both are said in the record."""

import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
from fnet_callbacks.callbacks import session as session_module
from lightning.pytorch.loggers import CSVLogger
from small_models import Net, csv_record, functional_monitor, loader, robustness_monitor, trainer

from fnet_callbacks import Record


class SlowStep(pl.Callback):
    """Makes a step take a known time at least."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_batch_start(self, *_: Any) -> None:
        time.sleep(self.seconds)


def fit(folder: Path, *callbacks: Any, n: int = 128, **options: Any) -> Record:
    options = {"max_epochs": 2, "logger": CSVLogger(folder, name="csv"), **options}
    trainer(folder, *callbacks, **options).fit(Net(), loader(n))
    return csv_record(folder)


def test_ten_snapshots_a_decade(tmp_path: Path) -> None:
    assert fit(tmp_path, functional_monitor("log")).steps == [0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32]


def test_the_live_source_watches_the_batches_before_each_logarithmic_step(tmp_path: Path) -> None:
    record = fit(tmp_path, functional_monitor("log", source="train", probe_size=16))
    assert record.steps[:5] == [0, 1, 2, 3, 4]
    assert (
        record.series("fnet/n_samples")[7:].tolist() == [16] * 7
    )  # two batches, where two have passed in between


def charged(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Every snapshot costs the run that much."""
    submit = session_module.Session._submit

    def dear(self: Any, job: Any, due: Any, expecting: Any) -> None:
        submit(self, job, due, expecting)
        for monitor in due:
            if monitor.budget is not None:
                monitor.budget.charge(seconds)

    monkeypatch.setattr(session_module.Session, "_submit", dear)


@pytest.mark.parametrize("worker", ["inline", "process"])
def test_a_dear_snapshot_makes_the_next_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: Any
) -> None:
    charged(monkeypatch, 0.1)  # with a worker the run is long beside its start-up
    budgeted = functional_monitor(2, worker=worker, overhead_budget=0.5, on_error="warn")
    record = fit(
        tmp_path, SlowStep(0.04 if worker == "inline" else 0.15), budgeted, functional_monitor(8, name="free")
    )
    asked = set(range(0, 33, 2))
    taken = [s.step for s in record.snapshots if "fnet/step" in s.scalars]
    assert set(taken) < asked
    assert len(taken) >= 3
    assert taken[-1] == 32
    intervals = record.series("fnet/interval")[np.isin(record.steps, taken)]
    assert intervals.tolist() == [0, *np.diff(taken)]
    shares = record.series("fnet/overhead_share")[np.isin(record.steps, taken)]
    assert (shares[1:-1] <= 0.5).all()  # before each snapshot but the first and the last
    assert [s.step for s in record.snapshots if "free/step" in s.scalars] == [0, 8, 16, 24, 32]
    assert not [k for s in record.snapshots for k in s.scalars if k.startswith("free/") and "overhead" in k]


def test_a_cheap_snapshot_is_taken_each_time_it_is_asked_for(tmp_path: Path) -> None:
    options = {"overhead_budget": 1.0, "worker": "inline"}
    record = fit(
        tmp_path, SlowStep(0.05), functional_monitor(4, **options), robustness_monitor(4, overhead_budget=1.0)
    )
    assert record.steps == list(range(0, 33, 4))
    assert set(record.series("fnet/interval")[1:]) == {4}


def test_a_second_fit_begins_with_a_fresh_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    charged(monkeypatch, 0.5)
    monitor = functional_monitor(2, overhead_budget=0.2)
    fit(tmp_path / "one", monitor)
    assert monitor.budget.share_spent > 0.2
    record = fit(tmp_path / "two", monitor)
    assert record.series("fnet/overhead_share")[0] < record.series("fnet/overhead_share")[-1]


def test_the_record_says_which_schedule_was_asked_for(tmp_path: Path) -> None:
    record = fit(tmp_path, functional_monitor("log", overhead_budget=0.9))
    settings = record.manifest["monitors"]["fnet"]
    assert (settings["every_n_steps"], settings["overhead_budget"]) == ("log", 0.9)
    assert (settings["worker"], settings["when_busy"]) == ("inline", "wait")
