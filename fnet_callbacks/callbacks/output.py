"""Where the snapshots of a fit go, on rank 0: the record on disk, the loggers, and the process that draws."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from fnet_callbacks.artist import Artist
from fnet_callbacks.errors import FnetWarning, RecordError
from fnet_callbacks.record import Snapshot, SnapshotStore
from fnet_callbacks.sinks import Sinks

if TYPE_CHECKING:
    from fnet_callbacks.callbacks.probe_monitor import Measured, ProbeMonitor

_LIBRARIES = ("torch", "lightning", "numpy", "scipy", "numba", "gudhi", "networkx", "scikit-learn")


class Output:
    """The record, the sinks and the figures of one fit; nothing that fails in them stops training.

    Args:
        trainer: Gives the log directory and the loggers.
        monitors: Whose snapshots are written.
    """

    def __init__(self, trainer: pl.Trainer, monitors: Sequence[ProbeMonitor]) -> None:
        self._trainer = trainer
        self._monitors = {m.name: m for m in monitors}
        self._last: Snapshot | None = None
        self._store: SnapshotStore | None = None
        self._sinks: Sinks | None = None
        self._artist = Artist()
        self._pictures: list[tuple[int, str, Future[dict[str, np.ndarray]]]] = []
        self._complained: set[str] = set()

    @property
    def record(self) -> str | None:
        """The record's folder; None where none is written."""
        return None if self._store is None else str(self._store.folder.resolve())

    def open(self, *, resumed_from: str | None, step: int, probes: Mapping[str, Any]) -> None:
        """Begins the record, or goes on from that of an interrupted run; every rank calls it.

        Args:
            resumed_from: Folder of the interrupted run's record.
            step: Where its checkpoint stood.
            probes: What the manifest says of each monitor's probe.
        """
        folder = self._folder()
        if not self._trainer.is_global_zero:
            return
        keys = [key for monitor in self._monitors.values() for key in monitor.keys]
        self._sinks = Sinks(
            self._trainer.loggers, keys=keys, figure_folder=folder / "figures" if folder else None
        )
        if folder is None:
            return
        store, manifest = SnapshotStore(folder), self._manifest(probes)
        try:
            if resumed_from is not None and _adopted(store, resumed_from, step):
                store.write_manifest(manifest)
            else:
                store.start(manifest)
            self._store = store
        except OSError as error:
            warnings.warn(f"no record is written: {folder} cannot be ({error})", FnetWarning, stacklevel=2)

    def write(
        self, step: int, measured: Mapping[str, Measured], values: Mapping[str, float], *, is_end: bool
    ) -> None:
        """Writes a snapshot to the record and its values to all loggers; on rank 0."""
        costs = self._costs(measured)
        snapshot = Snapshot(
            step=step,
            scalars=values,
            cost_ms=costs,
            notes={k: note for m in measured.values() for k, note in m.notes.items()},
            arrays={f"{name}.{k}": a for name, m in measured.items() for k, a in m.arrays.items()},
            is_end=is_end,
        )
        self._last = _merged(self._last, snapshot)
        if self._store is not None:
            try:
                self._store.append(self._last)
            except OSError as error:
                warnings.warn(f"step {step} is not in the record: {error}", FnetWarning, stacklevel=2)
        assert self._sinks is not None
        self._sinks.scalars(step, {**values, **costs})
        self._complain_of_failures(snapshot.notes)
        self.show(wait=False)

    def draw(self, monitor: ProbeMonitor, step: int) -> None:
        """Has the monitor's portrait drawn, once, in another process."""
        if monitor.portrait is not None:
            self._pictures.append((step, monitor.name, self._artist.paint(monitor.name, monitor.portrait)))
            monitor.portrait = None

    def show(self, *, wait: bool) -> None:
        """Writes the figures that are ready, in order; with ``wait`` all that were asked for."""
        while self._pictures and (wait or self._pictures[0][2].done()) and self._sinks is not None:
            step, name, future = self._pictures.pop(0)
            try:
                images = future.result()
            except Exception as error:
                warnings.warn(f"no figures of {name} at step {step}: {error!r}", FnetWarning, stacklevel=2)
                continue
            self._sinks.figures(step, {f"{name}/figures/{k}": image for k, image in images.items()})

    def close(self) -> None:
        """Shows the figures that are ready and ends the process that draws; safe to call twice."""
        self.show(wait=False)
        self._artist.close()

    def _folder(self) -> Path | None:
        """Where the record goes; every rank asks, as the log directory is a collective."""
        trainer = self._trainer
        log_dir = trainer.log_dir
        if getattr(trainer, "fast_dev_run", False):
            return None
        name = min(self._monitors)
        if trainer.loggers and isinstance(trainer.loggers[0], (TensorBoardLogger, CSVLogger)) and log_dir:
            return Path(log_dir) / name
        version = trainer.loggers[0].version if trainer.loggers else None
        run = re.sub(r"[^A-Za-z0-9_-]+", "_", str(version or ""))  # stays inside, whatever the logger says
        unnamed = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
        return Path(log_dir or trainer.default_root_dir) / name / (run or unnamed)

    def _manifest(self, probes: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "model": type(self._trainer.lightning_module).__name__,
            "monitors": {name: monitor.settings for name, monitor in self._monitors.items()},
            "probes": dict(probes),
            "versions": {
                "python": platform.python_version(),
                **{name: importlib.metadata.version(name) for name in _LIBRARIES},
            },
        }

    def _costs(self, measured: Mapping[str, Measured]) -> dict[str, float]:
        costs = {}
        for name in measured:
            parts = self._monitors[name].stopwatch.ms
            costs |= {f"{name}/cost_ms/{part}": ms for part, ms in parts.items()}
            costs[f"{name}/cost_ms/total"] = sum(parts.values())
        return costs

    def _complain_of_failures(self, notes: Mapping[str, str]) -> None:
        for key, note in notes.items():
            if note.startswith("failed: ") and key not in self._complained:
                self._complained.add(key)
                warnings.warn(f"{key} {note}; it is NaN, training goes on", FnetWarning, stacklevel=2)


def _adopted(store: SnapshotStore, source: str, step: int) -> bool:
    try:
        store.adopt(source, step=step)
    except RecordError as error:
        warnings.warn(
            f"the record of the interrupted run is not taken over: {error}", FnetWarning, stacklevel=2
        )
        return False
    return True


def _merged(before: Snapshot | None, snapshot: Snapshot) -> Snapshot:
    """One snapshot of a step where some monitors were due at it and the others come because training ended there."""
    if before is None or before.step != snapshot.step:
        return snapshot
    return Snapshot(
        step=snapshot.step,
        scalars={**before.scalars, **snapshot.scalars},
        cost_ms={**before.cost_ms, **snapshot.cost_ms},
        notes={**before.notes, **snapshot.notes},
        arrays={**before.arrays, **snapshot.arrays},
        is_end=before.is_end,
    )
