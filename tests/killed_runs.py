"""Runs that are ended by a signal at random moments, and what is left of them: ``python tests/killed_runs.py 50``.

A run's script has imported everything when it forks, so that each costs little more than its own two seconds. A
snapshot has finished when its values came to a logger, which writes its step into a file of its own; each of those is
to be in the record, whole, and the record's steps are to be those of the schedule, without a gap.
"""

import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from processes import children_of, eventually, is_running
from small_models import Ledger, Net, functional_monitor, loader, trainer

from fnet_callbacks import read_record

EVERY = 4


class Diary(Ledger):
    """Writes down which snapshots came."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if "monitor/step" in metrics:
            with open(self.file, "a") as file:
                file.write(f"{step}\n")


def train(folder: Path, worker: Any) -> None:
    """Until somebody ends it."""
    monitor = functional_monitor(EVERY, worker=worker, measures="fast", on_error="warn", figures="log")
    options = {"max_epochs": -1, "logger": Diary(folder / "finished")}
    trainer(folder, monitor, **options).fit(Net(), loader())


def forked(folder: Path, worker: str) -> int:
    """Starts a run in a process of its own and returns its id."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        with open(folder / "stderr", "w") as file:
            os.dup2(file.fileno(), 2)
            os.dup2(file.fileno(), 1)
        with contextlib.suppress(BaseException):
            try:
                train(folder, worker)
            except BaseException:
                traceback.print_exc()
        os._exit(0)
    return pid


def left_of(folder: Path) -> dict[str, Any]:
    """How many snapshots had finished, how many of them are in the record, and whether that is as it should be."""
    diary = folder / "finished"
    finished = {int(line) for line in diary.read_text().split()} if diary.exists() else set()
    found: set[int] = set()
    manifests = list(folder.rglob("manifest.json"))
    for manifest in manifests:
        record = read_record(manifest.parent)
        scheduled = [s.step for s in record.snapshots if not s.is_end]
        assert scheduled == list(range(0, EVERY * len(scheduled), EVERY)), scheduled
        for snapshot in record.snapshots:
            arrays = record.arrays(snapshot.step)
            assert len(arrays["fnet.partition"]) == snapshot.scalars["fnet/n_neurons"]
            found.add(snapshot.step)
    return {"expected": len(finished), "found": len(finished & found), "lost": len(finished - found)}


def kill(moment: float, sent: signal.Signals, worker: str, *, is_early: bool) -> dict[str, Any]:
    """One run, ended so many seconds after its start, or after its first snapshot."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pid = forked(folder, worker)
        if not is_early:
            assert eventually((folder / "finished").exists, seconds=60)
        time.sleep(moment)
        family = children_of(pid)
        os.kill(pid, sent)
        ended = eventually(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid, seconds=30)
        gone = eventually(lambda: not any(map(is_running, family)), seconds=15)
        if not ended:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        return {**left_of(folder), "ended": ended, "orphans": 0 if gone else len(family)}


def main(n_runs: int, seed: int = 0) -> None:
    draw = random.Random(seed)
    total = {"runs": n_runs, "expected": 0, "found": 0, "lost": 0, "orphans": 0, "did not end": 0}
    for i in range(n_runs):
        sent = (signal.SIGTERM, signal.SIGINT)[i % 2]
        worker = ("process", "inline")[i // 2 % 2]
        found = kill(draw.uniform(0.0, 3.0), sent, worker, is_early=i % 5 == 0)
        for key in ("expected", "found", "lost", "orphans"):
            total[key] += found[key]
        total["did not end"] += not found["ended"]
    print(json.dumps(total))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(int, sys.argv[1:]))
