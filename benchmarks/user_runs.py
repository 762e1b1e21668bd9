"""What the monitor costs the run of a user who sets nothing: the whole of ``trainer.fit``, with it over without it.

    python -m benchmarks.user_runs
    python -m benchmarks.user_runs --rows "3 s, every 256" "3 s, first and last" --pairs 9 --json user_runs.json

Each run is a process of its own, as a user's is: what the monitor imports, starts and waits for is in its time. No
environment variable is set, and torch has its default threads. Runs without and with the monitor are made in turn, and
each pair gives a ratio; their median is told with an interval that holds that of all such pairs in 95 of 100 cases, by
resampling. Beside the default stand the same with ``worker="inline"`` and ``"process"``.

Four layers of 128 on scikit-learn's digits, TensorBoard as logger; "3 s" is 1,280 steps. With ``3c3d`` CIFAR-10's
network of DeepOBS, on noise where ``--data-dir`` has no images.

The load is that of the machine when a row begins, one minute's average: beside other work all figures mean little,
since a layer's threads wait for the last of them.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables import machine, markdown, tell, write_json

_FIRST_AND_LAST = 10**9


@dataclass(frozen=True, slots=True)
class Row:
    """A run, and the monitor that watches it; ``worker`` is not said in ``monitor``."""

    name: str
    model: str
    steps: int
    monitor: dict[str, Any]


ROWS = (
    Row("3 s, every 256", "digits", 1280, {"every_n_steps": 256}),
    Row("3 s, first and last", "digits", 1280, {"every_n_steps": _FIRST_AND_LAST}),
    Row("30 s, every 256", "digits", 12_800, {"every_n_steps": 256}),
    Row("3 s, 5 % budget, every 4", "digits", 1280, {"every_n_steps": 4, "overhead_budget": 0.05}),
    Row("30 s, 5 % budget, every 4", "digits", 12_800, {"every_n_steps": 4, "overhead_budget": 0.05}),
    Row("3c3d, every 64", "3c3d", 640, {"every_n_steps": 64}),
)
WORKERS = ("auto", "inline", "process")


@dataclass(slots=True)
class Result:
    """Seconds of each pair, and what the last watched run says of itself."""

    row: Row
    worker: str
    load: float
    without_s: list[float] = field(default_factory=list)
    with_s: list[float] = field(default_factory=list)
    snapshots: int = 0
    in_use: str = ""

    @property
    def ratios(self) -> np.ndarray:
        """Of each pair."""
        return np.array(self.with_s) / np.array(self.without_s)

    @property
    def interval(self) -> tuple[float, float]:
        """Of the median, 95 %."""
        drawn = np.random.default_rng(0).choice(self.ratios, (10_000, len(self.ratios)))
        low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
        return float(low), float(high)


def fit(model: str, steps: int, monitor: dict[str, Any] | None, data_dir: str | None) -> dict[str, Any]:
    """One run, in this process: the seconds of ``fit``, the snapshots, and where they were analyzed."""
    import lightning as L
    import torch
    from lightning.pytorch.loggers import TensorBoardLogger
    from torch import nn
    from torch.utils.data import DataLoader

    from benchmarks.networks import BENCHMARKS, Trained
    from fnet_callbacks import Monitor, read_record

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    benchmark = BENCHMARKS["mlp" if model == "digits" else model]
    network: nn.Module = benchmark.network()
    if model == "digits":
        widths = (64, 128, 128, 128, 128)
        hidden = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())]
        network = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(128, 10))
    data, _ = benchmark.data(data_dir)
    batch_size = 32 if model == "digits" else benchmark.batch_size
    loader = DataLoader(data, batch_size=batch_size, shuffle=True, drop_last=True)
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_steps=steps,
            max_epochs=-1,
            accelerator="cpu",
            logger=TensorBoardLogger(folder, name=None, version=""),
            callbacks=[] if monitor is None else [Monitor(**monitor)],
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        start = time.perf_counter()
        trainer.fit(Trained(network, is_language=False), loader)
        seconds = time.perf_counter() - start
        if monitor is None:
            return {"seconds": seconds}
        record = read_record(Path(folder) / "fnet")
        in_use = record.manifest["monitor"]["worker_in_use"]
        return {"seconds": seconds, "snapshots": len(record.snapshots), "in_use": in_use}


def in_a_process(row: Row, monitor: dict[str, Any] | None, data_dir: str | None) -> dict[str, Any]:
    """The same in a fresh one."""
    given = json.dumps([row.model, row.steps, monitor, data_dir])
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.user_runs", "--run", given],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(run.stdout.splitlines()[-1])


def measured(row: Row, worker: str, *, pairs: int, data_dir: str | None) -> Result:
    """Pairs of runs without and with the monitor, in turn; a first one with it compiles what is not compiled yet."""
    monitor = {**row.monitor, "worker": worker}
    result = Result(row, worker, os.getloadavg()[0])
    in_a_process(Row(row.name, row.model, 4, {}), monitor, data_dir)
    for pair in range(pairs):
        order = [None, monitor] if pair % 2 == 0 else [monitor, None]
        for given in order:
            found = in_a_process(row, given, data_dir)
            if given is None:
                result.without_s.append(found["seconds"])
            else:
                result.with_s.append(found["seconds"])
                result.snapshots, result.in_use = found["snapshots"], found["in_use"]
        tell(f"{row.name}, {worker}: {result.without_s[-1]:.2f} s without, {result.with_s[-1]:.2f} s with")
    return result


def table(results: Sequence[Result]) -> str:
    """A line for each row and worker."""
    lines = [
        [
            result.row.name,
            result.worker + (f" ({result.in_use})" if result.worker == "auto" else ""),
            f"{statistics.median(result.without_s):.1f}",
            f"{np.median(result.ratios):.2f}",
            "{:.2f} to {:.2f}".format(*result.interval),
            str(result.snapshots),
            f"{result.load:.1f}",
        ]
        for result in results
    ]
    columns = ["run", "worker", "s without", "ratio", "95 %", "snapshots", "load"]
    return markdown(columns, lines, text=2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS], help="default: all")
    parser.add_argument("--workers", nargs="+", choices=WORKERS, default=list(WORKERS))
    parser.add_argument("--pairs", type=int, default=9, help="of runs without and with the monitor")
    parser.add_argument("--data-dir", help="folder with CIFAR-10's; else noise")
    parser.add_argument("--json", type=Path, help="write the seconds to this file too")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run is not None:
        print(json.dumps(fit(*json.loads(arguments.run))))
        return
    rows = [row for row in ROWS if arguments.rows is None or row.name in arguments.rows]
    results = [
        measured(row, worker, pairs=arguments.pairs, data_dir=arguments.data_dir)
        for row in rows
        for worker in arguments.workers
    ]
    print(f"\n{machine('torch', 'lightning', 'numpy', 'numba')}\n")
    print(table(results))
    write_json(arguments.json, [asdict(result) for result in results])


if __name__ == "__main__":
    main()
