"""What a snapshot of each instrument takes the training thread, and how often it can be for a twentieth of the time.

    OMP_NUM_THREADS=1 python -m benchmarks.instruments [--models 3c3d --probe-size 256 --instruments FGSM]

Each instrument in a monitor of its own, with its defaults and the probe that the command says, in a run of some steps
with as many snapshots and no figures. Milliseconds are the smallest of the snapshots after the first, which loads
kernels; a step is the median of a run without a monitor. "Steps for 5 %" is the interval at which snapshots take a
twentieth of training's own time.
"""

import argparse
import logging
import math
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from benchmarks.networks import BENCHMARKS, Trained
from benchmarks.tables import machine, markdown, number, tell, write_json
from fnet_callbacks import (
    FunctionalCodes,
    FunctionalNetwork,
    Instrument,
    Lesions,
    LocalSpecialization,
    Monitor,
    ReLURegions,
    Robustness,
    read_record,
)

STEPS, SHARE = 3, 0.05
# By what is measured: how a user makes it, from the bounds of the inputs.
INSTRUMENTS: Mapping[str, Callable[[tuple[float, float]], Instrument]] = {
    "functional network": lambda bounds: FunctionalNetwork(),
    "FGSM": lambda bounds: Robustness(bounds=bounds, attacks=["fgsm"], every_n_steps=1),
    "FGSM and PGD, 10 steps": lambda bounds: Robustness(bounds=bounds, every_n_steps=1),
    "silenced neurons": lambda bounds: Lesions(every_n_steps=1),
    "groups of units": lambda bounds: LocalSpecialization(every_n_steps=1),
    "linear regions": lambda bounds: ReLURegions(every_n_steps=1),
    "functional codes": lambda bounds: FunctionalCodes(every_n_steps=1),
}


@dataclass(frozen=True, slots=True)
class Row:
    """An instrument on a model."""

    model: str
    instrument: str
    step_ms: float
    snapshot_ms: float

    @property
    def steps(self) -> float:
        """How many steps of training a snapshot takes as long as."""
        return self.snapshot_ms / self.step_ms

    @property
    def interval(self) -> int:
        """The smallest number of steps between snapshots for which these take a share of 5 %."""
        return math.ceil(self.steps / SHARE)


class Clock(L.Callback):
    """Seconds of each step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        """A step begins."""
        self._start = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """And ends."""
        self.seconds.append(time.perf_counter() - self._start)


def fitted(model: str, data: Any, folder: str, callback: L.Callback, *, steps: int) -> None:
    """Trains with one callback."""
    benchmark = BENCHMARKS[model]
    torch.manual_seed(0)
    trainer = L.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        devices=1,
        logger=False,
        callbacks=[callback],
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    loader = DataLoader(data, batch_size=benchmark.batch_size, drop_last=True)
    trainer.fit(Trained(benchmark.network(), is_language=benchmark.is_language), loader)


def step_ms(model: str, data: Any) -> float:
    """Of a step without a monitor."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        fitted(model, data, folder, clock, steps=24)
    return 1e3 * statistics.median(clock.seconds[4:])


def snapshot_ms(model: str, data: Any, what: str, *, bounds: tuple[float, float], probe_size: int) -> float:
    """Of a snapshot, on the training thread."""
    instrument = INSTRUMENTS[what](bounds)
    monitor = Monitor(instrument, every_n_steps=1, probe_size=probe_size, figures=None, on_error="raise")
    with tempfile.TemporaryDirectory() as folder:
        fitted(model, data, folder, monitor, steps=STEPS)
        (manifest,) = Path(folder).rglob("manifest.json")
        snapshots = read_record(manifest.parent).snapshots[1:]
    parts, name = [s.cost_ms for s in snapshots], f"monitor_cost/{instrument.name}"
    own = [p[f"{name}/training_thread"] - p.get(f"{name}/output", 0.0) for p in parts]
    return min(own)


def rows_of(
    models: Sequence[str], instruments: Sequence[str], *, data_dir: str | None, probe_size: int
) -> list[Row]:
    """Instruments on models."""
    found = []
    for model in models:
        data, origin = BENCHMARKS[model].data(data_dir)
        tell(f"{model}: {BENCHMARKS[model].description}, {origin}")
        some = torch.stack([data[i][0] for i in range(256)])
        bounds = float(some.min()) - 1e-3, float(some.max()) + 1e-3
        training = step_ms(model, data)
        for instrument in instruments:
            tell(f"  {instrument} ...")
            ms = snapshot_ms(model, data, instrument, bounds=bounds, probe_size=probe_size)
            found.append(Row(model, instrument, training, ms))
    return found


def table(rows: Sequence[Row]) -> str:
    """The table."""
    header = ["model", "instrument", "ms a step", "ms a snapshot", "in steps", "steps for 5 %"]
    cells = [
        [
            row.model,
            row.instrument,
            *map(number, (row.step_ms, row.snapshot_ms, row.steps)),
            str(row.interval),
        ]
        for row in rows
    ]
    return markdown(header, cells, text=2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    classifiers = [name for name, benchmark in BENCHMARKS.items() if not benchmark.is_language]
    parser.add_argument(
        "--models",
        nargs="+",
        choices=classifiers,
        default=["mlp"],
        help="a convolutional one takes minutes a snapshot of the most expensive ones",
    )
    parser.add_argument("--instruments", nargs="+", choices=list(INSTRUMENTS), default=list(INSTRUMENTS))
    parser.add_argument("--probe-size", type=int, default=1024)
    parser.add_argument(
        "--data-dir", help="folder with CIFAR-10 (see experiments.data); random data without it"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    found = rows_of(
        arguments.models, arguments.instruments, data_dir=arguments.data_dir, probe_size=arguments.probe_size
    )
    on = machine("torch", "lightning")
    print(f"{on}; a probe of {arguments.probe_size} inputs\n\n{table(found)}")
    write_json(arguments.json, {"machine": on, "rows": [asdict(row) for row in found]})


if __name__ == "__main__":
    main()
