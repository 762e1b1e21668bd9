"""What watching costs a training run: the time with the monitor over the time without, on Cockpit's grid.

    python -m benchmarks.overhead
    python -m benchmarks.overhead --models mlp --tiers fast standard full --every 1 4 16 64 256
    python -m benchmarks.overhead --models 3c3d --budget 0.05 --snapshots 10 --json overhead.json

All runs are in this process, with a TensorBoard logger, the monitor's default figures, the same seed and the same
number of steps: without and with the monitor in turn, round after round, and without once more. A run is compared with
the mean of the one before and the one after it, so that a machine that slows down or speeds up is not taken for a
difference; what changes within a minute still is. A warm-up run of each kind comes first, in which kernels are compiled
and the length of the others is found: ``--seconds`` of training without the monitor, and at least ``--snapshots`` on
schedule. Where a row would then take five times as long with the monitor, it is shortened.

The time of a run is its training loop: from before the first batch to after the end of training, the callbacks of
both included, without setting up the trainer. So what the monitor does once is in it: at step 0 it looks at the model,
starts its processes and takes a snapshot; at the end it takes the last and waits until all are measured, recorded and
drawn. The column "once" says how long these two took together; the longer a run, the less they weigh.

Milliseconds are means over the snapshots after the first, of the round with the median time. "Probe pass" is what the
training thread cannot hand to another process: forward passes over the probe, or hooks on the live batches, and the
sums of what they saw; "probe passes alone" is the ratio if nothing else were paid for.
"""

import argparse
import gc
import logging
import math
import os
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, pairwise, product
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.warnings import PossibleUserWarning
from torch.utils.data import DataLoader

from benchmarks.networks import BENCHMARKS, Trained
from benchmarks.tables import machine, markdown, number, tell, write_json
from fnet_callbacks import FunctionalNetwork, Monitor, Record, read_record
from fnet_callbacks.quantities.networks import TIERS

EVERY = (1, 4, 16, 64, 256)
STRETCH = 5  # how much longer than asked a run may be with the monitor
PILOT_S = 1.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What is watched, and how."""

    model: str
    tier: str
    every: int
    source: str = "probe"


# The rows that a first look is given: the hardest case, what a user would choose, and two larger models.
FIRST_LOOK = (
    Setting("mlp", "fast", 16),
    Setting("mlp", "standard", 256),
    Setting("3c3d", "standard", 64),
    Setting("3c3d", "standard", 16, "train"),
    Setting("resnet18", "standard", 16),
    Setting("gpt", "standard", 16),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One training run: its seconds, those of them at the start and the end, and the record if it was watched."""

    seconds: float
    once: float
    record: Record | None

    def mean_ms(self, part: str) -> float:
        """Of one part of a snapshot, over those after step 0."""
        assert self.record is not None
        return statistics.fmean(
            s.cost_ms.get(f"monitor_cost/fnet/{part}", 0.0) for s in self.record.snapshots if s.step > 0
        )

    @property
    def probe_pass_ms(self) -> float:
        """What the training thread pays for a snapshot before it hands over: forward passes and sums."""
        if self.mean_ms("worker") > 0:
            return self.mean_ms("training_thread") - self.mean_ms("output")
        return sum(map(self.mean_ms, ("probe", "watch", "moments")))  # the same thread goes on to measure


@dataclass(frozen=True, slots=True)
class Row:
    """What a setting costs; ``with_s`` by round, ``without_s`` before the first and after each; ms by snapshot."""

    setting: Setting
    budget: float | None
    steps: int
    without_s: Sequence[float]
    with_s: Sequence[float]
    once_s: float
    snapshots: int
    asked: int
    training_thread_ms: float
    probe_pass_ms: float
    worker_ms: float

    @property
    def step_s(self) -> float:
        """Of a step without the monitor."""
        return statistics.median(self.without_s) / self.steps

    @property
    def ratios(self) -> list[float]:
        """Of each run with the monitor to its two neighbours without."""
        neighbours = [statistics.fmean(pair) for pair in pairwise(self.without_s)]
        return [w / o for w, o in zip(self.with_s, neighbours, strict=True)]

    @property
    def ratio(self) -> float:
        """Their median."""
        return statistics.median(self.ratios)

    @property
    def floor(self) -> float:
        """The ratio if nothing but the passes over the probe were paid for."""
        return 1 + self.snapshots * self.probe_pass_ms / 1e3 / (self.step_s * self.steps)


class Clock(L.Callback):
    """Notes when the first batch starts and when training ends, as its place in the trainer's list has it."""

    def __init__(self, device: str) -> None:
        self.is_cuda = device == "cuda"
        self.started = self.ended = math.nan

    def now(self) -> float:
        """Seconds, when all that was asked of the device is done."""
        if self.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def on_train_batch_start(self, *_: Any) -> None:
        """The first time alone."""
        if math.isnan(self.started):
            self.started = self.now()

    def on_train_end(self, *_: Any) -> None:
        """Once."""
        self.ended = self.now()


class Bench:
    """Runs one model as often as it is asked to.

    Args:
        model: Its name in ``BENCHMARKS``.
        device: ``"cpu"`` or ``"cuda"``.
        data_dir: Folder of data sets.
        options: Arguments of the monitor that hold for all settings.
    """

    def __init__(self, model: str, *, device: str, data_dir: str | None, options: Mapping[str, Any]) -> None:
        self.benchmark = BENCHMARKS[model]
        self.device = device
        self.options = {**self.benchmark.monitor, **options}
        self.data, origin = self.benchmark.data(data_dir)
        self.description = f"{model}: {self.benchmark.description}, {origin}"

    def run(self, steps: int, setting: Setting | None = None, **options: Any) -> Run:
        """Trains for some steps, watched where there is a setting."""
        gc.collect()
        torch.manual_seed(0)
        module = Trained(self.benchmark.network(), is_language=self.benchmark.is_language)
        loader = DataLoader(
            self.data,
            batch_size=self.benchmark.batch_size,
            shuffle=True,
            drop_last=True,
            generator=torch.Generator().manual_seed(0),
        )
        first, last = Clock(self.device), Clock(self.device)
        monitors = [] if setting is None else [self.monitor(setting, options)]
        folder = tempfile.mkdtemp(prefix="overhead-")
        try:
            trainer = L.Trainer(
                max_steps=steps,
                max_epochs=-1,
                accelerator="gpu" if self.device == "cuda" else "cpu",
                devices=1,
                logger=TensorBoardLogger(folder, name=None, version=""),
                callbacks=[first, *monitors, last],
                enable_checkpointing=False,
                enable_model_summary=False,
                enable_progress_bar=False,
            )
            trainer.fit(module, loader)
            record = read_record(Path(folder) / "fnet") if monitors else None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        once = last.started - first.started + last.ended - first.ended
        return Run(last.ended - first.started, once, record)

    def monitor(self, setting: Setting, options: Mapping[str, Any]) -> Monitor:
        """As a user would make it."""
        arguments: dict[str, Any] = {"measures": setting.tier, "source": setting.source}
        network = FunctionalNetwork(**arguments, **self.benchmark.instrument)
        return Monitor(network, every_n_steps=setting.every, **{**self.options, **options})

    def step_seconds(self) -> float:
        """Of a step without the monitor, roughly; the first run, which warms up."""
        steps = 4
        while (seconds := self.run(steps).seconds) < PILOT_S:
            steps *= 8
        return seconds / steps

    def snapshot_seconds(self, setting: Setting) -> float:
        """Of a snapshot, all its parts one after the other, roughly; warms up the kernels."""
        every_step = Setting(setting.model, setting.tier, 1, setting.source)
        run = self.run(2, every_step)
        waiting = run.mean_ms("output")  # mostly for a worker that starts
        return (run.mean_ms("total") - waiting) / 1e3


def length(every: int, step_s: float, snapshot_s: float, arguments: argparse.Namespace) -> int:
    """The steps of a run, a multiple of ``every``."""
    if arguments.steps is not None:
        return arguments.steps
    longest = STRETCH * arguments.seconds / (step_s + snapshot_s / every)
    steps = min(arguments.seconds / step_s, longest)
    if arguments.budget is not None:
        steps = max(steps, arguments.snapshots * snapshot_s / arguments.budget / step_s)
    return every * max(arguments.snapshots, math.ceil(steps / every))


def measured(bench: Bench, setting: Setting, steps: int, arguments: argparse.Namespace) -> Row:
    """A row: rounds without and with the monitor in turn."""
    budget = {} if arguments.budget is None else {"overhead_budget": arguments.budget}
    without, watched = [bench.run(steps)], []
    for _ in range(arguments.rounds):
        watched.append(bench.run(steps, setting, **budget))
        without.append(bench.run(steps))
    typical = sorted(watched, key=lambda run: run.seconds)[len(watched) // 2]
    assert typical.record is not None
    return Row(
        setting=setting,
        budget=arguments.budget,
        steps=steps,
        without_s=[run.seconds for run in without],
        with_s=[run.seconds for run in watched],
        once_s=typical.once,
        snapshots=sum(not s.is_end for s in typical.record.snapshots),
        asked=1 + steps // setting.every,
        training_thread_ms=typical.mean_ms("training_thread"),
        probe_pass_ms=typical.probe_pass_ms,
        worker_ms=typical.mean_ms("worker"),
    )


def table(rows: Sequence[Row]) -> str:
    """A line for each row."""
    lines = [_line(row) for row in rows]
    return markdown(list(lines[0]), [list(line.values()) for line in lines], text=2)


def _line(row: Row) -> dict[str, str]:
    line = {
        "model": row.setting.model,
        "tier": row.setting.tier + (", live batches" if row.setting.source == "train" else ""),
        "every": str(row.setting.every),
        "steps": str(row.steps),
        "ms a step": number(1e3 * row.step_s),
        "ratio": f"{row.ratio:.3f}",
        "lowest to highest": f"{min(row.ratios):.3f} to {max(row.ratios):.3f}",
        "snapshots": f"{row.snapshots} of {row.asked}",
        "training thread, ms": number(row.training_thread_ms),
        "probe pass, ms": number(row.probe_pass_ms),
        "probe passes alone": f"{row.floor:.3f}",
        "worker CPU, ms": number(row.worker_ms),
        "once, s": number(row.once_s),
    }
    if row.budget is not None:
        line["of the budget"] = f"{100 * (row.ratio - 1) / row.budget:.0f} %"
    return line


def chosen(arguments: argparse.Namespace) -> list[Setting]:
    """The first look where nothing was asked for, else all combinations."""
    if (arguments.models, arguments.tiers, arguments.every, arguments.source) == (None,) * 4:
        return list(FIRST_LOOK)
    models, tiers = arguments.models or list(BENCHMARKS), arguments.tiers or ["fast", "standard"]
    every = arguments.every or [16, 64, 256]
    return [Setting(*each, arguments.source or "probe") for each in product(models, tiers, every)]


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--models", nargs="+", choices=BENCHMARKS)
    add("--tiers", nargs="+", choices=TIERS)
    add(
        "--every",
        type=int,
        nargs="+",
        help=f"steps between snapshots; Cockpit's are {' '.join(map(str, EVERY))}",
    )
    add("--source", choices=("probe", "train"), help="a fixed probe, or the live batches")
    add("--budget", type=float, help="the monitor's overhead_budget")
    add("--worker", choices=("process", "inline"), help="where it measures; default: the monitor's")
    add("--when-busy", choices=("wait", "skip"), help="when the worker is behind; default: the monitor's")
    add("--probe-size", type=int, help="inputs in the probe; default: the monitor's, 64 sequences for gpt")
    add("--rounds", type=int, default=3)
    add("--seconds", type=float, default=15.0, help="of a run without the monitor")
    add("--snapshots", type=int, default=4, help="that a run has at least, besides the first")
    add("--steps", type=int, help="of a run, in place of --seconds and --snapshots")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--data-dir", default=os.environ.get("FNET_DATA_DIR"), help="folder with CIFAR-10's; else noise")
    add("--json", type=Path, help="write the figures to this file too")
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore", PossibleUserWarning)  # advice about data loaders
    warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)  # lightning's own
    options = {
        "worker": arguments.worker,
        "when_busy": arguments.when_busy,
        "probe_size": arguments.probe_size,
    }
    options = {name: value for name, value in options.items() if value is not None}
    rows: list[Row] = []
    descriptions: list[str] = []
    for model, settings in groupby(chosen(arguments), key=lambda setting: setting.model):
        bench = Bench(model, device=arguments.device, data_dir=arguments.data_dir, options=options)
        tell(bench.description)
        descriptions.append(bench.description)
        step_s = bench.step_seconds()
        snapshot_s: dict[tuple[str, str], float] = {}
        for setting in settings:
            kind = setting.tier, setting.source
            if kind not in snapshot_s:
                snapshot_s[kind] = bench.snapshot_seconds(setting)
            steps = length(setting.every, step_s, snapshot_s[kind], arguments)
            tell(
                f"  {' '.join(kind)}, every {setting.every}: {arguments.rounds} x 2 x {steps * step_s:.0f} s and more"
            )
            rows.append(measured(bench, setting, steps, arguments))
            tell(f"    ratio {rows[-1].ratio:.3f}")
    on = f"{machine('torch', 'lightning', 'numpy')}; torch uses {torch.get_num_threads()} threads"
    if arguments.device == "cuda":
        on += f"; {torch.cuda.get_device_name()}"
    print("\n".join([on, *descriptions, "", table(rows)]))
    found = [asdict(row) | {"ratio": row.ratio, "floor": row.floor} for row in rows]
    write_json(arguments.json, {"machine": on, "models": descriptions, "rows": found})


if __name__ == "__main__":
    main()
