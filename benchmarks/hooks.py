"""What the hooks of a monitor take at a step at which nothing is due: the sum of their own time, in microseconds.

    OMP_NUM_THREADS=1 python -m benchmarks.hooks [--steps 5000 --every 100]

``Monitor()`` as it comes, on one rank, in a fit of a small MLP without a logger and with TensorBoard's. A clock stands
around each of our hooks, that on torch's optimisers too; what the clocks themselves take is measured on a callback that
does nothing, in the same fit, and taken off. A step counts where no snapshot is due. "Nothing on its way" are steps at
which all that was measured has been logged and drawn; "on its way" are those at which the worker is still at it, of
which a few take in what it found. The bar, 15 microseconds, is for the median of the first.
"""

import argparse
import gc
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from benchmarks.networks import BENCHMARKS, Trained
from benchmarks.tables import machine, markdown, number, tell, write_json
from fnet_callbacks import Monitor

BAR_US = 15.0
HOOKS = ("on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end")
LOGGERS: Mapping[str, Callable[[str], Any]] = {
    "none": lambda _: False,
    "TensorBoard": lambda folder: TensorBoardLogger(folder, name=None, version=""),
}


@dataclass(frozen=True, slots=True)
class Row:
    """The hooks' own time, by step."""

    logger: str
    state: str
    steps: int
    median_us: float
    mean_us: float
    clock_us: float


class Clocked:
    """Puts a clock around the hooks of a callback; ``ns`` has what they took since it was set to 0.

    Args:
        callback: The callback; its hooks are replaced on the object.
    """

    def __init__(self, callback: L.Callback) -> None:
        self.ns = 0
        for name in HOOKS:
            setattr(callback, name, self.around(getattr(callback, name)))

    def around(self, hook: Callable[..., None]) -> Callable[..., None]:
        """The hook with a clock around it."""
        clock = time.perf_counter_ns

        def clocked(*arguments: Any) -> None:
            start = clock()
            hook(*arguments)
            self.ns += clock() - start

        return clocked


class Silent(L.Callback):
    """Does nothing, by hooks of its own."""

    def on_train_batch_start(self, *_: Any) -> None:
        """Nothing."""

    def on_before_optimizer_step(self, *_: Any) -> None:
        """Nothing."""

    def on_train_batch_end(self, *_: Any) -> None:
        """Nothing."""


class Sums(L.Callback):
    """Stands last, and keeps of each step what the hooks of both callbacks took.

    Args:
        monitor: The monitor.
        every: Steps between its snapshots.
    """

    def __init__(self, monitor: Monitor, every: int) -> None:
        self.monitor, self.every = monitor, every
        self.of_monitor, self.of_nothing = Clocked(monitor), Clocked(silent := Silent())
        self.silent = silent
        self.ns: dict[str, list[tuple[int, int]]] = {"nothing on its way": [], "on its way": []}
        self._n_batches = 0

    def on_fit_start(self, trainer: L.Trainer, *_: Any) -> None:
        """The hook on torch's optimisers gets its clocks, before the monitor puts it there."""
        steps: Any = self.monitor._steps
        steps._after_step = self.of_monitor.around(steps._after_step)
        self._nothing = self.of_nothing.around(lambda *_: None)

    def on_train_batch_end(self, *_: Any) -> None:
        """Keeps the sums of the step."""
        self._nothing()
        engine: Any = self.monitor._engine
        self._n_batches += 1
        if self._n_batches > 1 and engine.step % self.every:
            state = "on its way" if engine._output.is_owed else "nothing on its way"
            self.ns[state].append((self.of_monitor.ns, self.of_nothing.ns))
        self.of_monitor.ns = self.of_nothing.ns = 0


def rows_of(logger: str, *, steps: int, every: int) -> list[Row]:
    """A fit with one kind of logger."""
    benchmark = BENCHMARKS["mlp"]
    data, _ = benchmark.data(None)
    with tempfile.TemporaryDirectory() as folder:
        monitor = Monitor(every_n_steps=every)
        sums = Sums(monitor, every)
        trainer = L.Trainer(
            max_steps=steps,
            max_epochs=-1,
            accelerator="cpu",
            devices=1,
            logger=LOGGERS[logger](folder),
            callbacks=[monitor, sums.silent, sums],
            default_root_dir=folder,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        gc.collect()
        trainer.fit(
            Trained(benchmark.network(), is_language=False),
            DataLoader(data, batch_size=8, drop_last=True, shuffle=True),
        )
    return [_row(logger, state, ns) for state, ns in sums.ns.items() if ns]


def _row(logger: str, state: str, ns: Sequence[tuple[int, int]]) -> Row:
    own = [(of_monitor - of_nothing) / 1e3 for of_monitor, of_nothing in ns]
    clocks = [of_nothing / 1e3 for _, of_nothing in ns]
    return Row(
        logger, state, len(ns), statistics.median(own), statistics.fmean(own), statistics.median(clocks)
    )


def table(rows: Sequence[Row]) -> str:
    """The table."""
    header = ["logger", "snapshots", "steps", "median, µs a step", "mean, µs", "clocks, µs"]
    cells = [
        [row.logger, row.state, str(row.steps), *map(number, (row.median_us, row.mean_us, row.clock_us))]
        for row in rows
    ]
    return markdown(header, cells, text=2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--every", type=int, default=100, help="steps between snapshots")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    rows: list[Row] = []
    for logger in LOGGERS:
        tell(f"logger: {logger} ...")
        rows += rows_of(logger, steps=arguments.steps, every=arguments.every)
    on = machine("torch", "lightning")
    worst = max((row.median_us for row in rows if row.state == "nothing on its way"), default=0.0)
    verdict = "within" if worst <= BAR_US else "above"
    print(f"{on}\n\n{table(rows)}\n\nAt most {number(worst)} µs, {verdict} the bar of {number(BAR_US)} µs.")
    write_json(arguments.json, {"machine": on, "rows": [asdict(row) for row in rows]})


if __name__ == "__main__":
    main()
