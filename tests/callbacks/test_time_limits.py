"""What takes for ever costs a value, not the run: measures without an end, loggers that do not answer."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from processes import eventually, is_running, workers_of
from small_models import (
    Ledger,
    Net,
    csv_record,
    fit_to_csv,
    functional_monitor,
    loader,
    monitor,
    network,
    robustness,
    trainer,
)

from fnet_callbacks import FnetError, FnetWarning, read_record
from fnet_callbacks.worker.board import Board

# Stands in the worker's path, so that one of its measures never returns; the lock is held as a library would hold it.
STUCK = """
import sys
if "fnet_callbacks.worker.analyst" in sys.orig_argv:
    import time
    from dataclasses import replace
    import numba
    from fnet_callbacks.quantities import networks

    @numba.njit
    def spin(n):
        while n >= 0:
            n += n & 1
        return n

    def for_ever(scope):
        return {"sleeps": lambda: time.sleep(1e6), "holds the lock": lambda: spin(2)}[%r]()

    def once(scope):
        return for_ever(scope) if len(scope.nodes) > 20 else of(scope)

    modularity = networks.BY_NAME["modularity"]
    of = modularity.function
    networks.BY_NAME = {**networks.BY_NAME, "modularity": replace(modularity, function=once)}
"""


def fit(folder: Path, *callbacks: Any, **options: Any) -> None:
    """The same weights each time."""
    torch.manual_seed(0)
    fit_to_csv(folder, *callbacks, **options)


# What several measures read, and what is done between them too.
STUCK_PARTITION = """
import sys
if "fnet_callbacks.worker.analyst" in sys.orig_argv:
    import time
    from fnet_callbacks.network import Network
    Network.partition = property(lambda scope: time.sleep(1e6))
"""


def put_in_the_way(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "path"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    monkeypatch.syspath_prepend(folder)


@pytest.fixture(params=["sleeps", "holds the lock"])
def stuck(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_the_way(STUCK % request.param, tmp_path, monkeypatch)


@pytest.mark.usefixtures("stuck")
def test_a_measure_that_never_returns_is_given_up_and_all_else_is_measured(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"measures": "fast", "on_error": "warn"}
    fit(tmp_path / "whole", functional_monitor(2, **settings))
    with pytest.warns(FnetWarning) as caught:
        fit(tmp_path / "cut", functional_monitor(2, worker="process", measure_timeout_s=8.0, **settings))
    messages = [str(w.message) for w in caught if issubclass(w.category, FnetWarning)]
    key = "fnet/modularity"
    assert all("no value after 8.0 s, the `measure_timeout_s`" in m for m in messages), messages
    assert [m for m in messages if m.startswith(f"{key} failed: TimeoutError")]
    whole, cut = csv_record(tmp_path / "whole"), csv_record(tmp_path / "cut")
    assert cut.steps == whole.steps == [0, 2, 4, 6, 8]
    for ours, theirs in zip(cut.snapshots, whole.snapshots, strict=True):
        assert np.isnan(ours.scalars[key])
        others = {k: v for k, v in ours.scalars.items() if not k.endswith("/modularity")}
        np.testing.assert_equal(others, {k: theirs.scalars[k] for k in others})
        assert len(others) > 20
    assert not workers_of(os.getpid())


@pytest.mark.usefixtures("stuck")
def test_it_ends_the_run_where_that_was_asked_for(tmp_path: Path) -> None:
    watching = functional_monitor(
        4, worker="process", measure_timeout_s=4.0, measures=["modularity"], on_error="raise"
    )
    with pytest.raises(FnetError, match=r"no value after 4\.0 s"):
        fit(tmp_path, watching)
    assert not workers_of(os.getpid())


def test_what_is_stuck_a_second_time_takes_the_network_out_and_leaves_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_the_way(STUCK_PARTITION, tmp_path, monkeypatch)
    limited = network(measure_timeout_s=4.0, measures="fast", layer_measures=[])
    watching = monitor(2, limited, robustness(2), worker="process", on_error="warn")
    with pytest.warns(
        FnetWarning, match=r"has no snapshot of fnet: TimeoutError.*no value after 4\.0 s"
    ) as caught:
        fit(tmp_path, watching)
    assert len([w for w in caught if issubclass(w.category, FnetWarning)]) == 1
    found = csv_record(tmp_path)
    assert found.steps == [0, 2, 4, 6, 8]
    assert {key.split("/")[0] for s in found.snapshots for key in s.scalars} == {"robust", "monitor"}
    assert not workers_of(os.getpid())


def test_an_alarm_from_elsewhere_is_an_end_like_any_other(tmp_path: Path) -> None:
    class Alarms(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 3:
                assert "monitor/step" in trainer.callback_metrics  # looking waits: nothing is under way
                (pid,) = workers_of(os.getpid())
                os.kill(pid, signal.SIGALRM)
                assert eventually(lambda: not is_running(pid))

    with pytest.warns(FnetWarning, match=r"has ended \(exit status -14\); it is started once more"):
        fit(tmp_path, functional_monitor(2, worker="process", measures="fast", on_error="warn"), Alarms())
    found = csv_record(tmp_path)
    assert found.steps == [0, 2, 4, 6, 8]
    assert np.isfinite(found.series("fnet/n_neurons")).all()


@pytest.mark.parametrize("seconds", [float("inf"), 1e9])
def test_a_limit_that_no_timer_takes_is_refused(seconds: float) -> None:
    with pytest.raises(FnetError, match=r"`measure_timeout_s=.*should be at most 1e\+08; None is no limit"):
        functional_monitor(measure_timeout_s=seconds)


@pytest.mark.parametrize("seconds", [0, -1, "long", True, float("nan")])
def test_a_limit_that_is_none_is_refused(seconds: Any) -> None:
    with pytest.raises(FnetError, match=r"`measure_timeout_s=.*should be a number above 0"):
        functional_monitor(measure_timeout_s=seconds)


def test_the_alarm_ends_a_process_that_ignores_it_by_inheritance() -> None:
    board = Board()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        with board.at("a block that lasts", seconds=0.05):
            time.sleep(60)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGALRM
    assert board.last == "a block that lasts"
    board.close()


def test_a_block_that_ends_in_time_ends_nothing() -> None:
    board = Board()
    with board.at("x" * 10_000, seconds=0.05):
        pass
    time.sleep(0.1)
    with board.at("as long as it likes", seconds=None):
        time.sleep(0.1)
    assert board.last == ""
    board.close()


class Blocks(Ledger):
    """Answers when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.was_asked, self.may_answer = threading.Event(), threading.Event()

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if "monitor/step" in metrics:
            self.was_asked.set()
            self.may_answer.wait(60)
        super().log_metrics(metrics, step)


def test_the_record_does_not_wait_for_a_logger_that_blocks(tmp_path: Path) -> None:
    blocks, seen = Blocks(), []

    def look() -> None:
        blocks.was_asked.wait(60)
        try:
            (file,) = tmp_path.rglob("scalars.jsonl")
            seen.append(read_record(file.parent).steps)
        finally:
            blocks.may_answer.set()

    looks = threading.Thread(target=look)
    looks.start()
    fitted = trainer(
        tmp_path,
        functional_monitor(4, measures="fast", worker="process", on_error="warn"),
        logger=[CSVLogger(tmp_path, name="csv"), blocks],
    )
    fitted.fit(Net(), loader())
    looks.join()
    assert seen[0][0] == 0
    assert blocks.steps_of("fnet/modularity") == [0, 4, 8]
    assert csv_record(tmp_path).steps == [0, 4, 8]


def test_what_a_slow_logger_takes_is_told_as_a_cost(tmp_path: Path) -> None:
    class Slow(Ledger):
        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            if "monitor/step" in metrics:
                time.sleep(0.2)
            super().log_metrics(metrics, step)

    fit(tmp_path, functional_monitor(2, measures="fast"), logger=[CSVLogger(tmp_path, name="csv"), Slow()])
    output = [s.cost_ms["monitor_cost/fnet/output"] for s in csv_record(tmp_path).snapshots]
    assert min(output[1:]) >= 200


def test_the_hour_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is set back and forth, as on a machine that wakes up, changes neither series nor budget."""
    settings: dict[str, Any] = {"measures": "fast", "overhead_budget": 1.0}
    fit(tmp_path / "steady", functional_monitor(2, **settings))
    wall = iter([jump for _ in range(10**6) for jump in (-1e8, 1e8, 0)])
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + next(wall))
    fit(tmp_path / "jumps", functional_monitor(2, **settings))
    steady, jumps = csv_record(tmp_path / "steady"), csv_record(tmp_path / "jumps")
    assert steady.steps[0] == jumps.steps[0] == 0
    assert steady.steps[-1] == jumps.steps[-1] == 8
    for one, other in zip(steady.snapshots, jumps.snapshots, strict=False):
        if one.step == other.step:
            np.testing.assert_equal(one.scalars["fnet/modularity"], other.scalars["fnet/modularity"])
    shares = jumps.series("monitor/overhead_share")
    assert ((shares >= 0) & (shares <= 1.5)).all()
    assert min(c for s in jumps.snapshots for c in s.cost_ms.values()) >= 0
