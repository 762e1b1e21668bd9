"""One budget spaces the snapshots of all instruments out; a logarithmic schedule is followed; the record says both."""

import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger
from small_models import Net, csv_record, functional_monitor, loader, monitor, network, robustness, trainer

from fnet_callbacks import Instrument, Quantity, Record
from fnet_callbacks.drivers.trainer_host import TrainerHost
from fnet_callbacks.engine.accounts import Accounts


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
    """Every snapshot costs the run that much more."""
    pay = Accounts.pay

    def more(self: Any, job: Any, due: Any, **how: Any) -> None:
        pay(self, job, due, **how)
        if self.budget is not None:
            self.budget.charge(seconds)

    monkeypatch.setattr(Accounts, "pay", more)


@pytest.mark.parametrize("worker", ["inline", "process"])
def test_a_costly_snapshot_makes_the_next_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: Any
) -> None:
    charged(monkeypatch, 0.1)  # with a worker the run is long beside its start-up
    budgeted = functional_monitor(2, worker=worker, overhead_budget=0.5, on_error="warn")
    record = fit(tmp_path, SlowStep(0.04 if worker == "inline" else 0.15), budgeted)
    taken = record.steps
    assert set(taken) < set(range(0, 33, 2))
    assert len(taken) >= 3
    assert taken[-1] == 32
    assert record.series("monitor/interval").tolist() == [0, *np.diff(taken)]
    assert (
        record.series("monitor/overhead_share")[1:-1] <= 0.5
    ).all()  # before each but the first and the last
    skipped = 17 - len(taken)
    assert record.series("monitor/skipped")[-1] - skipped in (
        0,
        1,
    )  # what is left out at the last step is its end's


def test_a_cheap_snapshot_is_taken_each_time_it_is_asked_for(tmp_path: Path) -> None:
    instruments = [network(measures=["n_neurons"], layer_measures=[]), robustness(4, attacks=["fgsm"])]
    cheap = monitor(4, *instruments, overhead_budget=1.0, worker="inline")
    record = fit(tmp_path, SlowStep(0.05), cheap)
    assert record.steps == list(range(0, 33, 4))
    assert set(record.series("monitor/interval")[1:]) == {4}
    assert set(record.series("monitor/skipped")) == {0}


class Sleeps(Instrument):
    """Costs a known time at least."""

    quantities = (Quantity("value", "value", "A value."),)

    def __init__(self, *, name: str, seconds: float) -> None:
        super().__init__(name=name)
        self.seconds = seconds

    def prepare(self, forward: Any, probe: Any) -> None:
        pass

    def analyze(self, arrays: Any) -> dict[str, float]:
        time.sleep(self.seconds)
        return {"value": 1.0}


def steps_of(record: Record, name: str) -> list[int]:
    return [s.step for s in record.snapshots if f"{name}/value" in s.scalars]


def test_of_one_budget_the_cheaper_go_first_and_the_record_says_who_was_left_out(tmp_path: Path) -> None:
    instruments = [Sleeps(name="costly", seconds=0.2), Sleeps(name="cheap", seconds=0.001)]
    record = fit(tmp_path, SlowStep(0.06), monitor(1, *instruments, overhead_budget=0.8))
    cheap, costly = steps_of(record, "cheap"), steps_of(record, "costly")
    assert cheap[0] == costly[0] == 0
    assert cheap[-1] == costly[-1] == 32
    assert len(costly) < len(cheap)
    assert set(costly) <= set(cheap)  # no step at which it alone could be paid for
    shown = {s.step: s.left_out for s in record.snapshots if s.left_out}
    assert any("costly" in left_out for left_out in shown.values())
    for step, left_out in shown.items():
        for name, reason in left_out.items():
            when, why = reason.split(": ")
            assert why == "the overhead budget was spent"
            at = [int(word) for word in when.split() if word.isdigit()][-1]
            assert at <= step
            assert at not in (steps_of(record, name) if at < 32 else ())
    missing = 2 * 33 - len(cheap) - len(costly)
    assert record.series("monitor/skipped")[-1] - missing in (0, 1, 2)  # those of the last step are its end's


def test_a_second_fit_begins_with_a_fresh_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    charged(monkeypatch, 0.5)
    watching = functional_monitor(2, overhead_budget=0.2)
    first, second = (
        fit(tmp_path / name, watching).series("monitor/overhead_share") for name in ("one", "two")
    )
    assert first[-1] > 0.2
    assert second[0] < second[-1]


def test_the_record_says_which_schedule_was_asked_for(tmp_path: Path) -> None:
    record = fit(tmp_path, functional_monitor("log", overhead_budget=0.9))
    settings = record.manifest["monitor"]
    assert (settings["every_n_steps"], settings["overhead_budget"]) == ("log", 0.9)
    assert (settings["worker"], settings["when_busy"]) == ("inline", "wait")


def test_what_a_costly_instrument_takes_is_said_once_after_its_first_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(TrainerHost, "inform", lambda self, text: told.append(text))
    monkeypatch.setattr("fnet_callbacks.engine.output._MUCH_MS", 100.0)
    fit(tmp_path, monitor(8, Sleeps(name="costly", seconds=0.15), Sleeps(name="cheap", seconds=0.0)))
    (text,) = [text for text in told if "the first snapshot took" in text]
    assert text.startswith("costly: the first snapshot took 0.")
