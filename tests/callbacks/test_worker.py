"""Measuring in another process changes no number, and whatever ends, nothing is lost and nobody is left."""

import json
import os
import signal
import subprocess
import sys
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import pytest
import ranks_run
import torch
from cells import EVERY_CELL
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from processes import children_of, eventually, is_running, run_script, workers_of
from small_models import Ledger, Net, csv_record, functional_monitor, loader, network, robustness, trainer
from small_models import monitor as small_monitor

from fnet_callbacks import FnetError, FnetWarning, FunctionalNetwork, Record, read_record
from fnet_callbacks.findings import Analysis
from fnet_callbacks.instruments.network_analysis import NetworkAnalysis
from fnet_callbacks.worker import process

ROOT = Path(ranks_run.__file__).parents[1]


def monitor(every_n_steps: int = 2, *instruments: Any, **options: Any):
    settings = {"worker": "process", "on_error": "warn", **options}
    if instruments:
        return small_monitor(every_n_steps, *instruments, **settings)
    return functional_monitor(every_n_steps, **settings)


def fit(folder: Path, *callbacks: Any, model: Any = None, **options: Any) -> Ledger:
    torch.manual_seed(0)
    ledger = Ledger()
    options = {"max_epochs": 2, "logger": [CSVLogger(folder, name="csv"), ledger], **options}
    trainer(folder, *callbacks, **options).fit(model or Net(), loader(), loader(40, seed=1))
    return ledger


def assert_same(one: Record, other: Record) -> None:
    """Scalars, notes and arrays are the same to the bit; times and costs are not compared."""
    assert one.steps == other.steps
    for here, there in zip(one.snapshots, other.snapshots, strict=True):
        np.testing.assert_equal(dict(here.scalars), dict(there.scalars))
        assert here.notes == there.notes
        assert here.is_end == there.is_end
        arrays, others = one.arrays(here.step), other.arrays(here.step)
        assert arrays.keys() == others.keys()
        for name, array in arrays.items():
            assert array.dtype == others[name].dtype, name
            np.testing.assert_array_equal(array, others[name], err_msg=name)


class AtEvaluation(pl.Callback):
    """Notes our values where EarlyStopping and the like look for them."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, float]]] = []

    def _note(self, trainer: pl.Trainer, where: str) -> None:
        if not trainer.sanity_checking:
            ours = {
                k: float(v)
                for k, v in trainer.callback_metrics.items()
                if k.startswith(("fnet", "robust", "monitor/step"))
            }
            self.seen.append((f"{where} {trainer.global_step}", ours))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._note(trainer, "validation")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._note(trainer, "epoch")

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._note(trainer, "fit")


# The same numbers.


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"source": "train", "probe_size": 20},
        {"probe_size": 2**22},  # too many to hand over: running sums
        {"measures": ["fast", "betti_1"], "layer_measures": [], "every_n_steps": 3},
    ],
    ids=["standard", "live", "sums", "few"],
)
def test_the_series_is_that_of_measuring_inline_to_the_bit(tmp_path: Path, options: dict[str, Any]) -> None:
    records, seen, ledgers = [], [], []
    for worker in ("inline", "process"):
        look = AtEvaluation()
        size = options.get("probe_size", 1024)
        own = {"save_correlation": True, **{k: v for k, v in options.items() if k != "probe_size"}}
        watching = monitor(2, network(**own), robustness(4), worker=worker, probe_size=size)
        ledgers.append(fit(tmp_path / worker, watching, look, val_check_interval=3))
        records.append(csv_record(tmp_path / worker))
        seen.append(look.seen)
    assert_same(*records)
    assert records[0].steps[-1] == 16
    np.testing.assert_equal(*seen)
    assert {where.split()[0] for where, _ in seen[0]} == {"validation", "epoch", "fit"}
    rows = [[(step, row.keys()) for step, row in ledger.rows if "monitor/step" in row] for ledger in ledgers]
    assert rows[0] == rows[1]


def test_values_are_there_on_time_for_early_stopping_and_for_checkpoints(tmp_path: Path) -> None:
    checkpoints = ModelCheckpoint(
        tmp_path / "kept", monitor="monitor/step", mode="max", every_n_train_steps=5,
        filename="{step}-{monitor/step:.0f}", auto_insert_metric_name=False,
    )  # fmt: skip
    stop = EarlyStopping("monitor/step", mode="max", patience=0, stopping_threshold=7.5)
    # EarlyStopping stands before the monitor whose values it reads.
    fitted = trainer(
        tmp_path, stop, monitor(2), checkpoints, logger=False, max_epochs=4, enable_checkpointing=True
    )
    fitted.fit(Net(), loader(), loader(40, seed=1))
    assert fitted.global_step == 8
    assert [p.name for p in (tmp_path / "kept").iterdir()] == ["5-4.ckpt"]


def test_nobody_waits_at_the_end_of_an_epoch_where_nobody_looks(tmp_path: Path) -> None:
    class Held(pl.Callback):
        """Holds the worker up over two ends of an epoch: who waited there would wait for ever."""

        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 1:
                (self.pid,) = workers_of(os.getpid())
                os.kill(self.pid, signal.SIGSTOP)
            if trainer.global_step == 20:
                os.kill(self.pid, signal.SIGCONT)

    fit(tmp_path, monitor(8), Held(), max_epochs=3)
    assert csv_record(tmp_path).steps == [0, 8, 16, 24]


def test_who_looks_in_the_middle_of_an_epoch_finds_what_inline_would_have(tmp_path: Path) -> None:
    class Looks(pl.Callback):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step % 3 == 0:
                self.seen.append(float(deepcopy(trainer.callback_metrics)["monitor/step"]))

    looks = Looks()
    fitted = trainer(tmp_path, monitor(2), looks, logger=False, max_epochs=2)
    kind = type(fitted._logger_connector)
    fitted.fit(Net(), loader())
    assert looks.seen == [2, 6, 8, 12, 14]
    assert type(fitted._logger_connector) is kind
    assert fitted.callback_metrics["monitor/step"] == 16


def test_figures_come_from_the_workers_portraits(tmp_path: Path) -> None:
    fit(tmp_path, monitor(4, figures="log"), logger=CSVLogger(tmp_path, name="csv"))
    folder = tmp_path / "csv" / "version_0" / "fnet" / "figures"
    steps = {int(p.name.split("_")[0]) for p in folder.iterdir()}
    assert steps == {0, 4, 8, 16}  # snapshots 0, 1, 2, 4 of which the last is the end


def test_what_a_snapshot_costs_is_told_by_part_and_by_who_paid(tmp_path: Path) -> None:
    fit(tmp_path, monitor(2, network(), robustness(2)))
    for snapshot in csv_record(tmp_path).snapshots[1:]:
        cost = snapshot.cost_ms
        parts = {k: v for k, v in cost.items() if k.startswith("monitor_cost/fnet/")}
        whole = {
            k.split("/")[-1]: parts.pop(f"monitor_cost/fnet/{k}")
            for k in ("total", "training_thread", "worker")
        }
        assert whole["total"] == pytest.approx(sum(parts.values()), abs=0.1)
        here = sum(v for k, v in parts.items() if k.split("/")[-1] in ("probe", "output"))
        assert 0 < here <= whole["training_thread"] + 0.1
        assert whole["training_thread"] < whole["total"]
        assert whole["worker"] > 0
        assert cost["monitor_cost/robust/worker"] == 0


class Broken(FunctionalNetwork):
    """Asks the worker for a graph that there is not."""

    @property
    def analysis(self) -> Analysis:
        return NetworkAnalysis(replace(self._plan, graph=cast(Any, None)))


@pytest.mark.parametrize("on_error", ["raise", "warn"])
def test_a_failure_in_the_worker_stops_the_run_only_where_the_user_asked_for_it(
    tmp_path: Path, on_error: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = monitor(4, Broken(), on_error=on_error)
    if on_error == "raise":
        with pytest.raises(FnetError, match="seed"):
            fit(tmp_path, broken)
        assert "Traceback" in capfd.readouterr().err
    else:
        with pytest.warns(FnetWarning, match=r"step 0 has no snapshot of fnet: .*seed") as caught:
            fit(tmp_path, broken)
        assert sum("no snapshot" in str(w.message) for w in caught) == 1
    assert not workers_of(os.getpid())


# Whatever ends.


def test_a_worker_that_dies_is_started_once_more_with_one_warning_and_then_done_without(
    tmp_path: Path,
) -> None:
    inline = tmp_path / "inline"
    fit(inline, monitor(1, network(), robustness(4), worker="inline"))
    with pytest.warns(FnetWarning) as caught:
        fit(tmp_path, monitor(1, network(), robustness(4)), KillWorkerAt(3, 9))
    assert [str(w.message) for w in caught if "worker that measures has ended" in str(w.message)]
    assert len([w for w in caught if issubclass(w.category, FnetWarning)]) == 1
    assert_same(csv_record(inline), csv_record(tmp_path))


class KillWorkerAt(pl.Callback):
    """Kills the process that measures after certain steps, while it has work."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps
        self.pids: set[int] = set()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step in self.steps:
            (pid,) = workers_of(os.getpid())
            os.kill(pid, signal.SIGKILL)
            assert eventually(lambda: not is_running(pid))


def test_a_full_queue_is_waited_for_and_no_snapshot_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_MOST", 4)

    class Slow(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 3:
                (self.pid,) = workers_of(os.getpid())
                os.kill(self.pid, signal.SIGSTOP)
                self.resumed = subprocess.Popen(["sh", "-c", f"sleep 1; kill -CONT {self.pid}"])

    slow = Slow()
    start = time.monotonic()
    fit(tmp_path, monitor(1, measures="fast", layer_measures=[]), slow)
    slow.resumed.wait()
    assert time.monotonic() - start > 1
    assert csv_record(tmp_path).steps == list(range(17))


def test_skipping_is_the_users_choice_and_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_MOST", 4)

    class Stopped(pl.Callback):
        """Holds the worker up, but not over the end of an epoch, where all values are waited for."""

        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 1:
                (self.pid,) = workers_of(os.getpid())
                os.kill(self.pid, signal.SIGSTOP)
            if trainer.global_step == 7:
                os.kill(self.pid, signal.SIGCONT)

    fit(tmp_path, monitor(1, when_busy="skip", measures="fast", layer_measures=[]), Stopped())
    record = csv_record(tmp_path)
    skipped = set(range(17)) - set(record.steps)
    assert {6, 7} <= skipped  # of six steps in between at most four could wait
    # What is skipped at the last step is taken at the end.
    assert record.series("monitor/skipped")[-1] - len(skipped) in (0, 1)
    assert record.series("monitor/skipped")[0] == 0


@pytest.mark.parametrize("end", ["exception", "interrupt"])
def test_a_run_that_stops_early_keeps_what_was_asked_for_and_leaves_nobody(tmp_path: Path, end: str) -> None:
    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 9:
                raise KeyboardInterrupt if end == "interrupt" else RuntimeError("enough")

    before = workers_of(os.getpid())
    with pytest.raises((RuntimeError, SystemExit, KeyboardInterrupt)):
        fit(tmp_path, monitor(3), Stop())
    assert csv_record(tmp_path).steps == [0, 3, 6, 9]
    assert workers_of(os.getpid()) == before


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs two cores to choose from",
)
def test_the_affinity_decides_where_it_is_analyzed_and_changes_no_number(tmp_path: Path) -> None:
    usable, threads = os.sched_getaffinity(0), torch.get_num_threads()
    found: dict[str, Record] = {}
    try:
        torch.set_num_threads(1)
        for expected, cores in (("process", usable), ("inline", {min(usable)})):
            os.sched_setaffinity(0, cores)
            fit(tmp_path / expected, monitor(4, worker="auto"))
            found[expected] = csv_record(tmp_path / expected)
    finally:
        os.sched_setaffinity(0, usable)
        torch.set_num_threads(threads)
    for expected, record in found.items():
        settings = record.manifest["monitor"]
        assert (settings["worker"], settings["worker_in_use"]) == ("auto", expected)
    assert "1 core (the affinity" in found["inline"].manifest["monitor"]["worker_reason"]
    assert_same(found["process"], found["inline"])
    beside, between = (found[where].snapshots[2].cost_ms for where in ("process", "inline"))
    measures = {key for key in beside if key.endswith(("/modularity_z", "/homology"))}
    assert measures
    assert beside["monitor_cost/fnet/worker"] > 0
    # Where a core is free the training thread pays for the pass and for handing over, and for no measure.
    assert beside["monitor_cost/fnet/training_thread"] <= sum(
        ms for key, ms in beside.items() if key.endswith(("/probe", "/moments", "/output"))
    )
    assert between["monitor_cost/fnet/training_thread"] >= sum(between[key] for key in measures)


def test_a_run_that_ends_before_its_worker_has_begun_does_not_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # what has others wait for it
    fit(tmp_path / "inline", monitor(4, worker="inline"))
    fit(tmp_path / "process", monitor(4, worker="process"))
    ours, theirs = csv_record(tmp_path / "process"), csv_record(tmp_path / "inline")
    assert ours.manifest["monitor"]["worker_in_use"] == "process"
    assert_same(ours, theirs)
    assert all(s.cost_ms["monitor_cost/fnet/worker"] == 0 for s in ours.snapshots)


def run(folder: Path, **options: Any) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        str(ROOT / "tests" / "worker_run.py"),
        json.dumps({"folder": str(folder), **options}),
    ]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_run_that_is_stopped_from_outside_leaves_no_process_and_a_readable_record(
    tmp_path: Path, sent: signal.Signals
) -> None:
    """A script without a main guard, with forked data loaders that hold the channel open too."""
    stopped = run(tmp_path)
    try:
        assert stopped.stdout is not None
        assert stopped.stdout.readline() == "step 40\n"
        family = children_of(stopped.pid)
        assert len(family) >= 3  # the worker and two data loaders
        os.killpg(stopped.pid, sent) if sent == signal.SIGINT else os.kill(stopped.pid, sent)
        stopped.wait(60)
        stopped.stdout.close()
    finally:
        stopped.kill()  # one that fails here leaves no endless run behind
    assert eventually(lambda: not any(map(is_running, family)), seconds=20)
    record = read_record(next(tmp_path.rglob("scalars.jsonl")).parent)
    assert record.steps[:4] == [0, 5, 10, 15]
    if sent == signal.SIGINT:  # the run could still take what was on the way
        assert record.steps[-1] >= 40


# Where there can be none.


def test_where_no_worker_can_start_the_training_thread_measures_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(process.socket, "send_fds")
    with pytest.warns(FnetWarning, match=r"on the training thread: .*platform") as caught:
        fit(tmp_path, monitor(4))
    assert len([w for w in caught if issubclass(w.category, FnetWarning)]) == 1
    assert csv_record(tmp_path).steps == [0, 4, 8, 12, 16]


def test_where_shared_memory_runs_out_the_training_thread_goes_on_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room_later(fd: int, content: Any, place: int, write: Any = os.pwrite) -> int:
        written.append(fd)
        if len(written) > 12:
            raise OSError(28, "No space left on device")
        return write(fd, content, place)

    written: list[int] = []
    monkeypatch.setattr(os, "pwrite", no_room_later)
    with pytest.warns(FnetWarning, match=r"too little shared memory.*No space left") as caught:
        fit(tmp_path, monitor(2))
    assert len([w for w in caught if issubclass(w.category, FnetWarning)]) == 1
    assert csv_record(tmp_path).steps == list(range(0, 17, 2))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp_fork", *(["ddp_spawn"] if EVERY_CELL else [])])
def test_two_ranks_have_one_worker_and_the_same_values(tmp_path: Path, strategy: str) -> None:
    records = []
    for worker in ("inline", "process"):
        folder = tmp_path / worker
        folder.mkdir()
        ranks = run_script(ranks_run, folder, seconds=150, devices=2, strategy=strategy, worker=worker)
        assert ranks.returncode == 0, ranks.stderr[-3000:]
        records.append(read_record(folder / "csv" / "version_0" / "fnet"))
        ends = [json.loads(p.read_text())[-1] for p in sorted(folder.glob("rank_*.json"))]
        assert ends[0]["monitor/step"] == 8
        np.testing.assert_equal(ends[0], ends[1])
    assert_same(*records)
