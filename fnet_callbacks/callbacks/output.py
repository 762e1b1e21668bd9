"""Where the snapshots of a fit go, on rank 0: to the analysis and its record, to the loggers, to be drawn."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger

from fnet_callbacks.callbacks.configuration import configuration
from fnet_callbacks.callbacks.kinds import is_a
from fnet_callbacks.errors import FnetWarning, RecordError
from fnet_callbacks.keys import Key, manifest_keys, manifest_quantities, version_1_keys
from fnet_callbacks.record import SnapshotStore
from fnet_callbacks.sinks import Sinks
from fnet_callbacks.spans import Span, changes, go_on, spans_of
from fnet_callbacks.worker.analysis import Around
from fnet_callbacks.worker.analyst import Analyst
from fnet_callbacks.worker.artist import Artist, Order, Pictures
from fnet_callbacks.worker.jobs import Job, Plan, Result

if TYPE_CHECKING:
    from fnet_callbacks.callbacks.probe_monitor import ProbeMonitor

_LIBRARIES = ("torch", "lightning", "numpy", "scipy", "numba", "gudhi", "networkx", "scikit-learn")
_MOST_THREADS = 8  # of the worker; the nulls that run side by side are ten


class Output:
    """The record, the loggers and the figures of one fit; nothing that fails in them stops training.

    Args:
        trainer: Gives the log directory and the loggers.
        monitors: Whose snapshots are written.
    """

    def __init__(self, trainer: pl.Trainer, monitors: Sequence[ProbeMonitor]) -> None:
        self._trainer = trainer
        self._monitors = {m.name: m for m in monitors}
        self.is_inline = not any(m.has_worker for m in monitors)
        self.keys: frozenset[str] = frozenset()
        self.measured: dict[str, Any] | None = None  # what is measured how, in plain values, once it is known
        self._folder: Path | None = None
        self._analyst: Analyst | None = None
        self._sinks: Sinks | None = None
        self._artist = Artist()
        self._complained: set[str] = set()

    @property
    def record(self) -> str | None:
        """The record's folder; None where none is written."""
        return None if self._folder is None else str(self._folder.resolve())

    @property
    def measures_here(self) -> bool:
        """Whether the training thread does the measuring, by choice or for want of a worker; on rank 0."""
        return self._analyst is not None and self._analyst.pid is None

    @property
    def is_busy(self) -> bool:
        """Whether another snapshot would have to wait."""
        return self._analyst is not None and self._analyst.is_busy

    @property
    def is_owed(self) -> bool:
        """Whether a snapshot or its figures are on their way."""
        return (self._analyst is not None and self._analyst.is_owed) or self._artist.is_owed

    def open(
        self,
        *,
        resumed_from: str | None,
        step: int,
        probes: Mapping[str, Any],
        measured: Mapping[str, Any] | None,
    ) -> None:
        """Begins the record, or goes on from that of an interrupted run; every rank calls it.

        Args:
            resumed_from: Folder of the interrupted run's record.
            step: Where its checkpoint stood.
            probes: What the manifest says of each monitor's probe.
            measured: What the interrupted run's checkpoint says was measured how; see ``Output.measured``.
        """
        folder = self._place()
        manifest = self._manifest(probes)
        is_resumed = resumed_from is not None or measured is not None
        now = Span.of(manifest, begin=step + 1 if is_resumed else 0)
        self.measured = {"monitors": now.monitors, "probes": now.probes}
        self.keys = frozenset(key for monitor in self._monitors.values() for key in monitor.keys)
        if not self._trainer.is_global_zero:
            return
        store, before = _begun(folder, manifest, resumed_from, step, now)
        if measured is not None:
            before.append(Span.of(measured, begin=0))
        self._break_off(before, now, step)
        self._folder = None if store is None else store.folder.absolute()
        networks = {name: m.plan for name, m in self._monitors.items() if m.plan is not None}
        carry = {name: self._monitors[name].previous for name in networks}
        plan = Plan(
            None if self._folder is None else str(self._folder),
            networks,
            carry,
            manifest=store and store.manifest,
        )
        self._analyst = Analyst(plan, threads=None if self.is_inline else self._threads())
        figures = folder / "figures" if folder else None
        self._sinks = Sinks(self._trainer.loggers, keys=self._keys(), figure_folder=figures)

    def wait(self, *, for_results: bool) -> None:
        """Returns when a result is there or none owed; else when another snapshot need not wait. Nothing is taken."""
        if self._analyst is not None and (for_results or self._analyst.is_busy):
            self._analyst.wait()

    @property
    def owes_results(self) -> bool:
        """Whether the values of a snapshot are on their way."""
        return self._analyst is not None and self._analyst.is_owed

    def submit(self, job: Job, around: Around) -> None:
        """Hands over a snapshot; see ``Analyst.submit``."""
        assert self._analyst is not None
        self._analyst.submit(job, around)

    def collect(self) -> tuple[list[Result], float]:
        """Writes what has come to the loggers, and has drawn what is to be drawn.

        Returns:
            The results, and the seconds of CPU time that figures took off the training thread.
        """
        if self._analyst is None:
            return [], 0.0
        results = self._analyst.results(wait=False)
        for result in results:
            self._write(result)
        pictures = self._artist.pictures(wait=False)
        self._show(pictures)
        return results, sum(p.seconds for p in pictures)

    def finish(self) -> None:
        """Waits for the figures."""
        self._show(self._artist.pictures(wait=True))

    def close(self) -> None:
        """Ends the processes; safe to call twice."""
        if self._analyst is not None:
            self._analyst.close()
        self._artist.close()

    def _write(self, result: Result) -> None:
        assert self._sinks is not None
        if result.scalars:
            self._sinks.scalars(result.step, {**result.scalars, **result.cost_ms})
        for sitter, portrait in result.portraits.items() if self._sinks.takes_figures else ():
            self._artist.paint(Order(result.step, sitter, portrait))
        for key, note in result.notes.items():
            if note.startswith("failed: "):
                self._complain(key, f"{key} {note}; it is NaN, training goes on")
        for name, reason in result.failures.items():
            what = "" if name == "record" else f"has no snapshot of {name}: "
            self._complain(f"{name} {reason}", f"step {result.step} {what}{reason}")

    def _show(self, pictures: Sequence[Pictures]) -> None:
        assert self._sinks is not None or not pictures
        for p in pictures:
            if p.failure is not None:
                warnings.warn(
                    f"no figures of {p.sitter} at step {p.step}: {p.failure}", FnetWarning, stacklevel=2
                )
            elif self._sinks is not None:
                self._sinks.figures(
                    p.step, {f"{p.sitter}/figures/{k}": image for k, image in p.images.items()}
                )

    def _complain(self, what: str, text: str) -> None:
        if what not in self._complained:
            self._complained.add(what)
            warnings.warn(text, FnetWarning, stacklevel=2)

    def _threads(self) -> int:
        """The cores that training leaves, one at least."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        ranks = min(self._trainer.num_devices, self._trainer.world_size)
        return max(1, min(_MOST_THREADS, cores - ranks * torch.get_num_threads()))

    def _place(self) -> Path | None:
        """Where the record goes; every rank asks, as the log directory is a collective."""
        trainer = self._trainer
        log_dir = trainer.log_dir
        if getattr(trainer, "fast_dev_run", False):
            return None
        # That of a network, whatever else is watched beside it.
        name = min(self._monitors, key=lambda name: (self._monitors[name].plan is None, name))
        if trainer.loggers and is_a(trainer.loggers[0], TensorBoardLogger, CSVLogger) and log_dir:
            return Path(log_dir) / name
        version = trainer.loggers[0].version if trainer.loggers else None
        run = re.sub(r"[^A-Za-z0-9_-]+", "_", str(version or ""))  # stays inside, whatever the logger says
        unnamed = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
        return self._outside(Path(log_dir or trainer.default_root_dir)) / name / (run or unnamed)

    def _outside(self, folder: Path) -> Path:
        """A folder for records that is not in MLflow's own, in which it takes every folder for an experiment."""
        stores = [
            Path(logger.save_dir).resolve()
            for logger in self._trainer.loggers
            if is_a(logger, MLFlowLogger) and logger.save_dir is not None
        ]
        for candidate in (folder, Path(self._trainer.default_root_dir), *(store.parent for store in stores)):
            if not any(candidate.resolve().is_relative_to(store) for store in stores):
                return candidate
        return folder

    def _manifest(self, probes: Mapping[str, Any]) -> dict[str, Any]:
        keys = self._keys()
        return {
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "writer": uuid.uuid4().hex,  # no other run's manifest is the same
            "model": type(self._trainer.lightning_module).__name__,
            "configuration": configuration(self._trainer),
            "monitors": {name: monitor.settings for name, monitor in self._monitors.items()},
            "probes": dict(probes),
            "instruments": {
                name: {"quantities": quantities} for name, quantities in manifest_quantities(keys).items()
            },
            "keys": manifest_keys(keys),
            "versions": {
                "python": platform.python_version(),
                **{name: importlib.metadata.version(name) for name in _LIBRARIES},
            },
        }

    def _keys(self) -> list[Key]:
        """What the monitors log, with what it stands for."""
        found = list[Key]()
        for name, monitor in self._monitors.items():
            own = () if monitor.plan is None else monitor.plan.quantities()
            samples = () if monitor.plan is None else (f"{name}/n_samples",)
            found += version_1_keys({name: type(monitor).__name__}, [*monitor.keys, *samples], own=own)
        return found

    def _break_off(self, before: Sequence[Span], now: Span, step: int) -> None:
        """Lets monitors begin anew of which a span before this one was measured otherwise, and says what changed."""
        found = {name: own for span in before for name, own in changes(span, now).items()}
        for name in found:
            self._monitors[name].begin_anew()
        if found:
            told = "; ".join(
                f"{name}: " + ", ".join(f"`{key}` {was} -> {is_now}" for key, (was, is_now) in own.items())
                for name, own in sorted(found.items())
            )
            warnings.warn(
                f"the run goes on from step {step} with other settings, and what is measured from there on is not what "
                f"was measured before: {told}. The record keeps both, nothing is compared across",
                FnetWarning,
                stacklevel=2,
            )


def _begun(
    folder: Path | None, manifest: Mapping[str, Any], resumed_from: str | None, step: int, now: Span
) -> tuple[SnapshotStore | None, list[Span]]:
    """A record that was begun, None where it cannot be; and the last span of the one that it goes on from."""
    if folder is None:
        return None, []
    store, before = SnapshotStore(folder), list[Span]()
    try:
        if resumed_from is not None and (source := _adopted(store, resumed_from, step)) is not None:
            spans = go_on(spans_of(source), now)
            before = [span for span in spans_of(source) if span.begin < now.begin][-1:]
            told = {"spans": [span.told() for span in spans]} if len(spans) > 1 else {}
            store.write_manifest({**manifest, **told, "resumed_from": source.get("writer")})
        else:
            store.start(manifest)
    except OSError as error:
        warnings.warn(f"no record is written: {folder} cannot be ({error})", FnetWarning, stacklevel=2)
        return None, before
    return store, before


def _adopted(store: SnapshotStore, source: str, step: int) -> Mapping[str, Any] | None:
    """The manifest of the record that was taken over; None where it cannot be."""
    try:
        return store.adopt(source, step=step)
    except RecordError as error:
        warnings.warn(
            f"the record of the interrupted run is not taken over: {error}", FnetWarning, stacklevel=2
        )
        return None
