"""Where the snapshots of a run go, on rank 0: to the analysis and its record, to the loggers, to be drawn."""

from __future__ import annotations

import copy
import importlib.metadata
import platform
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fnet_callbacks.engine.beginning import begin_record
from fnet_callbacks.engine.cores import WorkerChoice, choose_worker
from fnet_callbacks.engine.entry import Entry
from fnet_callbacks.engine.log_filter import LogFilter
from fnet_callbacks.engine.loggers import Loggers
from fnet_callbacks.engine.options import Options
from fnet_callbacks.errors import FnetError, FnetWarning
from fnet_callbacks.findings import Recipe
from fnet_callbacks.host import Host
from fnet_callbacks.keys import Key, manifest_keys, manifest_quantities, whole_keys
from fnet_callbacks.portrait import has_figures
from fnet_callbacks.quantities.monitor import MONITOR
from fnet_callbacks.record import SnapshotStore
from fnet_callbacks.spans import Span, changes
from fnet_callbacks.worker.analysis import Around
from fnet_callbacks.worker.analyst import Analyst
from fnet_callbacks.worker.artist import Artist
from fnet_callbacks.worker.jobs import Job, Pictures, Plan, Request, Result

_RECORD = "fnet"  # the record's folder in that of the run
_LIBRARIES = ("torch", "lightning", "numpy", "scipy", "numba", "gudhi", "networkx", "scikit-learn")
_MUCH_MS = 1000.0  # for a snapshot of one instrument
_SECONDS_OF_A_PICTURE = 0.1  # until one was drawn
_SHARE_OF_PICTURES = 0.02  # of the run's time
_MAX_THREADS = 8  # of the worker; the nulls that run side by side are ten


class Output:
    """The record, the loggers and the figures of one run; nothing that fails in them stops training.

    Args:
        host: Gives the run's folder and the loggers.
        options: Of the monitor.
        entries: The instruments whose snapshots are written.
    """

    def __init__(self, host: Host, options: Options, entries: Sequence[Entry]) -> None:
        self._host, self._options = host, options
        self._entries = {entry.name: entry for entry in entries}
        self.choice: WorkerChoice  # once it is open
        self.writer: str | None = None  # of the record, which no other run's is
        self.keys: frozenset[str] = frozenset()
        self.layer_keys: frozenset[str] = frozenset()
        self.measured: dict[str, Any] | None = None  # what is measured how, in plain values, once it is known
        self._folder: Path | None = None
        self._analyst: Analyst | None = None
        self._log_filter: LogFilter | None = None
        self._loggers: Loggers | None = None
        self._artist = Artist()
        self._draws_here = False
        self._began = time.perf_counter()
        self._complained: set[str] = set()
        self._priced: set[str] = set()  # instruments whose cost is known

    @property
    def record(self) -> str | None:
        """The record's folder; None where none is written."""
        return None if self._folder is None else str(self._folder.resolve())

    def draws(self, entry: Entry) -> bool:
        """Whether there are figures of an instrument at all."""
        return self._options.figures is not None and entry.instrument.has_figures

    def draws_now(self, entry: Entry) -> bool:
        """Whether the snapshot that an instrument takes now has figures, by the option and by the time that is left."""
        is_due = self.draws(entry) and has_figures(self._options.figures, entry.count)
        return is_due and (not self._draws_here or self._has_time_to_draw())

    def _has_time_to_draw(self) -> bool:
        """Whether what the training thread draws takes little of the run, one more included."""
        expected = self._artist.seconds_here + (self._artist.last_here or _SECONDS_OF_A_PICTURE)
        return expected <= _SHARE_OF_PICTURES * (time.perf_counter() - self._began)

    @property
    def measures_here(self) -> bool:
        """Whether the training thread does all the measuring, by choice or for want of a worker; on rank 0."""
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
        writer: str | None,
        step: int,
        probe: Mapping[str, Any],
        measured: Mapping[str, Any] | None,
    ) -> None:
        """Begins the record, or goes on from that of an interrupted run; every rank calls it.

        Args:
            resumed_from: Folder of the interrupted run's record.
            writer: What that record says who wrote it.
            step: Where its checkpoint stood.
            probe: What the manifest says of the probe.
            measured: What the interrupted run's checkpoint says was measured how; see ``Output.measured``.

        Raises:
            FnetError: An instrument cannot go on from its state, or the option ``log`` does not fit the keys.
        """
        self.choice = self._host.broadcast(choose_worker(self._options.worker, self._host))
        for entry in self._entries.values():
            _check_state(entry)
        keys = self._keys()
        self._log_filter = LogFilter(self._options.log, keys, self._entries)
        run = self._host.folder(self._options.folder)
        folder = None if run is None else run / _RECORD
        manifest = self._manifest(probe)
        self.writer = self._host.broadcast(manifest["writer"])
        is_resumed = resumed_from is not None or measured is not None
        now = Span.of(manifest, begin=step + 1 if is_resumed else 0)
        self.measured = {key: value for key, value in now.to_manifest().items() if key != "begin"}
        self.keys = frozenset(key.key for key in keys)
        self.layer_keys = frozenset(key.key for key in keys if key.place is not None)
        if not self._host.is_global_zero:
            return
        store, before = begin_record(folder, manifest, resumed_from, writer, step, now)
        if measured is not None:
            before.append(Span.of(measured, begin=0))
        self._break_off(before, now, step)
        self._folder = None if store is None else store.folder.absolute()
        if self._folder is not None:
            self._host.inform(f"monitor: the record is {self._folder}")
        self._draws_here = self.choice.worker == "inline" and not self.choice.n_free
        if self._draws_here:
            self._artist.stay_here()
        if self.choice.worker == "inline":
            self._host.inform(f"monitor: snapshots are analyzed between training steps; {self.choice.reason}")
        self._place_analyses()
        plan = self._plan(store)
        here = {
            name: entry.analysis
            for name, entry in self._entries.items()
            if entry.analysis is not None and not entry.instrument.analyzes_here
        }
        threads = max(1, min(_MAX_THREADS, self.choice.n_free)) if plan.recipes else None
        self._analyst = Analyst(plan, threads=threads, analyses=here if threads is None else {})
        self._loggers = Loggers(
            self._host.loggers, keys=self._log_filter.keys, figure_folder=folder and folder / "figures"
        )

    def analyzes_here(self, entry: Entry) -> bool:
        """Whether an instrument's analysis is made on the training thread before its snapshot is handed over."""
        return entry.instrument.analyzes_here or (entry.analysis is not None and not self.measures_here)

    def _place_analyses(self) -> None:
        """Decides which analyses the worker makes, and lets those of the training thread go on from their state."""
        for entry in self._entries.values():
            analysis = entry.instrument.analysis
            if self.choice.worker == "process" and not entry.instrument.analyzes_here:
                try:
                    entry.recipe = Recipe.of(analysis)
                    continue
                except ImportError as error:
                    warnings.warn(
                        f"{entry.name}: is analyzed on the training thread: {error}. Define it in a module of its own "
                        "for the worker",
                        FnetWarning,
                        stacklevel=2,
                    )
            entry.analysis = analysis
            if entry.state:
                analysis.restore(entry.state)

    def _plan(self, store: SnapshotStore | None) -> Plan:
        entries = {name: entry for name, entry in self._entries.items() if entry.recipe is not None}
        return Plan(
            None if self._folder is None else str(self._folder),
            {name: entry.recipe for name, entry in entries.items() if entry.recipe is not None},
            {name: entry.state for name, entry in entries.items()},
            {name: entry.instrument.time_limit for name, entry in entries.items()},
            self._options.on_error,
            manifest=store and store.manifest,
        )

    def wait(self, *, for_results: bool) -> None:
        """Returns when a result is there or none owed; else when another snapshot need not wait. Nothing is taken."""
        if self._analyst is not None and (for_results or self._analyst.is_busy):
            self._analyst.wait()

    @property
    def owes_results(self) -> bool:
        """Whether the values of a snapshot are on their way."""
        return self._analyst is not None and self._analyst.is_owed

    def stop_waiting(self) -> None:
        """Does what a worker that is still starting was handed: a short run is over before it has begun."""
        if self._analyst is not None:
            self._analyst.stop_waiting()

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
        assert self._log_filter is not None
        assert self._loggers is not None
        if result.scalars:
            self._loggers.scalars(result.step, self._log_filter.of({**result.scalars, **result.cost_ms}))
        for instrument, portrait in result.portraits.items() if self._loggers.takes_figures else ():
            self._artist.paint(Request(result.step, instrument, portrait))
        self._tell_cost(result.cost_ms)
        for key in result.scalars.keys() - self.keys:
            self._complain(
                key, f"{key} is not among the `quantities` of its instrument, nor in the record's keys"
            )
        for key, note in result.notes.items():
            if note.startswith("failed: "):
                self._complain(key, f"{key} {note}; it is NaN, training goes on")
        for name, reason in result.failures.items():
            what = "" if name == "record" else f"has no snapshot of {name}: "
            self._complain(f"{name} {reason}", f"step {result.step} {what}{reason}")

    def _tell_cost(self, cost_ms: Mapping[str, float]) -> None:
        """Says of each instrument what its first snapshot cost, where that is much."""
        for name in self._entries.keys() - self._priced:
            if (ms := cost_ms.get(f"monitor_cost/{name}/total")) is not None:
                self._priced.add(name)
                if ms > _MUCH_MS:
                    self._host.inform(
                        f"{name}: the first snapshot took {ms / 1e3:.1f} s, with what is compiled once on a machine or "
                        "loaded once in a run; where others take as long, a larger `every_n_steps` of the instrument "
                        "or an `overhead_budget` makes them rarer"
                    )

    def _show(self, pictures: Sequence[Pictures]) -> None:
        assert self._loggers is not None or not pictures
        for p in pictures:
            if p.failure is not None:
                warnings.warn(
                    f"no figures of {p.instrument} at step {p.step}: {p.failure}", FnetWarning, stacklevel=2
                )
            elif self._loggers is not None:
                self._loggers.figures(
                    p.step, {f"{p.instrument}/figures/{k}": image for k, image in p.images.items()}
                )

    def _complain(self, what: str, text: str) -> None:
        if what not in self._complained:
            self._complained.add(what)
            warnings.warn(text, FnetWarning, stacklevel=2)

    def _manifest(self, probe: Mapping[str, Any]) -> dict[str, Any]:
        keys = self._keys()
        words = manifest_quantities(keys)
        return {
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "writer": uuid.uuid4().hex,  # no other run's manifest is the same
            "model": type(self._host.module).__name__,
            "configuration": self._host.configuration(),
            "monitor": {
                **self._options.settings(),
                "worker_in_use": self.choice.worker,
                "worker_reason": self.choice.reason,
                "quantities": words["monitor"],
            },
            "probe": {key: value for key, value in probe.items() if key != "classes"},
            "classes": probe.get("classes"),
            "instruments": {
                name: {**_settings(entry), "quantities": words.get(name, {})}
                for name, entry in self._entries.items()
            },
            "keys": manifest_keys(keys),
            "versions": {
                "python": platform.python_version(),
                **{name: importlib.metadata.version(name) for name in _LIBRARIES},
            },
        }

    def _keys(self) -> list[Key]:
        """The keys of all that is measured, and of what the monitor says of itself."""
        keys = [key for entry in self._entries.values() for key in entry.instrument.keys]
        has_budget = self._options.overhead_budget is not None
        of_monitor = [quantity for quantity in MONITOR if has_budget or quantity.name != "overhead_share"]
        return [*keys, *whole_keys("monitor", of_monitor)]

    def _break_off(self, before: Sequence[Span], now: Span, step: int) -> None:
        """Lets instruments begin anew that measured otherwise in a span before this one, and says what changed."""
        found = {name: own for span in before for name, own in changes(span, now).items()}
        for name in found:
            self._entries[name].state = self._entries[name].instrument.after_change(self._entries[name].state)
        if found:
            what = "; ".join(
                f"{name}: " + ", ".join(f"`{key}` {was} -> {is_now}" for key, (was, is_now) in own.items())
                for name, own in sorted(found.items())
            )
            warnings.warn(
                f"the run goes on from step {step} with other settings, and what is measured from there on is not what "
                f"was measured before: {what}. The record keeps both, nothing is compared across",
                FnetWarning,
                stacklevel=2,
            )


def _check_state(entry: Entry) -> None:
    """Sees whether an instrument can go on from its state, on all ranks: the worker would find out at each snapshot.

    Raises:
        FnetError: It cannot.
    """
    if not entry.state:
        return
    try:
        copy.copy(entry.instrument.analysis).restore(entry.state)
    except Exception as error:
        raise FnetError(
            f"the checkpoint's state of {entry.name!r} is none that it wrote ({error!r}); leave it out of the "
            "checkpoint, under callbacks, or resume with the version that wrote it"
        ) from error


def _settings(entry: Entry) -> dict[str, Any]:
    """What the record says of an instrument."""
    instrument, schedule = entry.instrument, entry.schedule
    steps, epochs = schedule.every_n_steps, schedule.every_n_epochs
    options = {key: value for key, value in instrument.options.items() if key != "name"}
    return {
        "kind": type(instrument).__name__,
        **options,
        "every_n_steps": steps * schedule.multiple if isinstance(steps, int) else steps,
        "every_n_epochs": epochs and epochs * schedule.multiple,
        **instrument.facts,
    }
