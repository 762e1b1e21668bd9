"""From what the training thread saw to what is known: the measures of a step, and its place in the record.

Runs in the worker, or where there is none on the training thread: the same code, the same numbers.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController

from fnet_callbacks import functional as F
from fnet_callbacks.errors import FnetError, RecordError
from fnet_callbacks.history import Previous
from fnet_callbacks.network import Activity, Network, Stopwatch
from fnet_callbacks.portrait import CodePortrait, Portrait
from fnet_callbacks.quantities.networks import measure
from fnet_callbacks.record import Snapshot, SnapshotStore, read_record
from fnet_callbacks.worker.jobs import (
    EVERYTHING,
    WHOLE,
    Job,
    Measured,
    Moments,
    NetworkPlan,
    Plan,
    Reading,
    Result,
)

# What the taking of each measure, and all that is done between them, stands in: a time limit, a progress bar.
Around = Callable[[NetworkPlan, str], AbstractContextManager[object]]


def nothing_around(network: NetworkPlan, measure: str) -> AbstractContextManager[object]:
    """Takes a measure as it is."""
    return nullcontext()


class Analysis:
    """Measures the networks of one fit and writes its record.

    Args:
        plan: What is measured.
        is_worker: Whether this is another process than that of the training thread.
    """

    def __init__(self, plan: Plan, *, is_worker: bool = False) -> None:
        self._is_worker = is_worker
        self._cpu_seconds = 0.0  # of this process, that were told of already
        self._networks = {
            name: NetworkAnalysis(network, plan.carry.get(name, {}), plan.given_up.get(name, {}))
            for name, network in plan.networks.items()
        }
        self._given_up = {name: own.get(EVERYTHING) for name, own in plan.given_up.items()}
        self._store = None if plan.folder is None else SnapshotStore(plan.folder, manifest=plan.manifest)
        self._last: Snapshot | None = None
        self._made: dict[str, tuple[int, Portrait | CodePortrait]] = {}  # by monitor, the last, and its step

    def run(self, job: Job, around: Around = nothing_around) -> Result:
        """Does a job; takes each measure in ``around``.

        Raises:
            Exception: What a measure raised, where its monitor's ``on_error`` is ``"raise"``; at step 0 also an
                ``FnetError``: the configuration is wrong.
        """
        measured, failures = dict(job.measured), {}
        costs = {name: _Cost(parts) for name, parts in job.cost_ms.items()}
        for name, reading in job.readings.items():
            network, stopwatch = self._networks[name], Stopwatch()
            try:
                if (reason := self._given_up.get(name)) is not None:
                    raise TimeoutError(reason)
                with _one_blas_thread():
                    measured[name] = network.measure(job.step, reading, stopwatch, around)
            except Exception as error:
                if network.plan.on_error == "raise" or (isinstance(error, FnetError) and job.step == 0):
                    raise
                failures[name] = repr(error)
            costs[name].add(stopwatch.ms, self._worker_ms() if self._is_worker else None)
        result = Result(
            step=job.step,
            scalars={**_scalars(measured, job.step), **job.scalars} if measured else {},
            notes={key: note for m in measured.values() for key, note in m.notes.items()},
            cost_ms={
                f"{name}/cost_ms/{part}": ms
                for name in measured
                for part, ms in costs[name].by_part().items()
            },
            carry={name: self._networks[name].previous for name in job.readings},
            portraits=self._portraits(job, measured),
            failures=failures,
            worker_seconds={name: costs[name].worker_ms / 1e3 for name in job.readings},
        )
        if measured:
            self._record(job, result, measured, failures)
        elif job.logged and (last := self._written_at(job.step)) is not None:
            self._append(replace(last, logged_at_end=job.logged), failures)
        return result

    def _worker_ms(self) -> float:
        """CPU time of this process since this was last asked: its start, the way here and the record are in it."""
        before, self._cpu_seconds = self._cpu_seconds, time.process_time()
        return (self._cpu_seconds - before) * 1e3

    def _record(
        self, job: Job, result: Result, measured: Mapping[str, Measured], failures: dict[str, str]
    ) -> None:
        snapshot = Snapshot(
            step=job.step,
            scalars=result.scalars,
            cost_ms=result.cost_ms,
            notes=result.notes,
            arrays={f"{name}.{k}": a for name, m in measured.items() for k, a in m.arrays.items()},
            is_end=job.is_end,
            logged=job.logged,
        )
        last = self._written_at(job.step) if job.is_end else self._last
        self._append(_merged(last, snapshot), failures)

    def _written_at(self, step: int) -> Snapshot | None:
        """What the record has of a step, which a process that has ended may have written."""
        if self._last is None and self._store is not None:
            self._last = _read_back(self._store, step)
        return self._last if self._last is not None and self._last.step == step else None

    def _append(self, snapshot: Snapshot, failures: dict[str, str]) -> None:
        self._last = snapshot
        if self._store is not None:
            try:
                if not self._store.append(snapshot):
                    failures["record"] = "begins the record anew: its folder was removed, with all in it"
            except OSError as error:
                # Without the file's name, which is another at each step: it is told once.
                failures["record"] = f"is not in the record: {error.strerror or error}"

    def _portraits(self, job: Job, measured: Mapping[str, Measured]) -> dict[str, Portrait | CodePortrait]:
        """Those of this step that are wanted."""
        for name, found in measured.items():
            if found.portrait is not None:
                self._made[name] = job.step, found.portrait
        return {n: self._made[n][1] for n in job.draw if n in self._made and self._made[n][0] == job.step}


class NetworkAnalysis:
    """Measures one monitor's network; remembers the last snapshot, which the next is compared with.

    Args:
        plan: What is measured.
        previous: By scope, the last snapshot of an interrupted run.
        given_up: Measures that are not tried any more, and why.
    """

    def __init__(
        self,
        plan: NetworkPlan,
        previous: Mapping[str, Previous],
        given_up: Mapping[str, str] | None = None,
    ) -> None:
        self.plan = plan
        self._given_up = given_up
        self.previous = dict(previous)
        # Of each neuron.
        self._layers = np.repeat(np.arange(len(plan.layers)), [layer.n_neurons for layer in plan.layers])

    def measure(
        self, step: int, reading: Reading, stopwatch: Stopwatch, around: Around = nothing_around
    ) -> Measured:
        """Measures the whole network and its layers; costs go to ``stopwatch``."""
        with around(self.plan, EVERYTHING), stopwatch.part("correlation"):
            moments = _moments(reading)
        found, following = Measured(), dict(self.previous)
        activity = Activity(
            moments.active_share, moments.class_active_share, moments.kept, moments.kept_labels
        )

        networks: dict[str, Network] = {}
        for scope, keys, neurons, names in self.plan.scopes():
            network = networks[scope] = self._network(scope, moments, activity, neurons, stopwatch)
            quantities = self.plan.quantities(names)
            values = measure(
                network,
                quantities,
                on_error=self.plan.on_error,
                around=lambda name: around(self.plan, name),
                given_up=self._given_up,
            )
            found.scalars.update({keys + name: value for name, value in values.items()})
            found.notes.update({keys + name: note for name, note in network.notes.items()})
            if scope == WHOLE or any(q.compares for q in quantities):  # the record has names that last
                with around(self.plan, EVERYTHING):
                    following[scope] = network.to_previous()
        found.scalars[f"{self.plan.name}/n_samples"] = float(moments.count)
        with around(self.plan, EVERYTHING), stopwatch.part("record"):
            found.arrays.update(self._arrays(networks[WHOLE]))
            portrait = self._portrait(networks[WHOLE], step) if self.plan.has_figures else None
        self.previous = following
        return replace(found, portrait=portrait)

    def _network(
        self, name: str, moments: Moments, activity: Activity, neurons: slice, stopwatch: Stopwatch
    ) -> Network:
        n_neurons = len(moments.active_share[neurons])
        previous, first_name = self.previous.get(name), 0
        if (
            previous is not None and len(previous.partition) != n_neurons
        ):  # the run was resumed with other settings
            first_name = 0 if previous.history is None else previous.history.n_names
            previous = None
        # Streams of null graphs depend on seed and scope alone, so that the series is smooth in time.
        settings = replace(self.plan.graph, seed=self.plan.graph.seed + zlib.crc32(name.encode()))
        return Network(
            None if moments.correlation is None else moments.correlation[neurons, neurons],
            activity if name == WHOLE else activity.of(neurons),
            layers=self._layers if name == WHOLE and len(self.plan.layers) > 1 else None,
            selection=moments.selections.get(name),
            previous=previous,
            first_name=first_name,
            settings=settings,
            stopwatch=stopwatch,
        )

    def _arrays(self, whole: Network) -> dict[str, np.ndarray]:
        arrays = {"layer": self._layers[whole.nodes], **whole.arrays()}
        if self.plan.save_correlation:
            arrays["correlation"] = whole.correlation.astype(np.float32)
        return arrays

    def _portrait(self, whole: Network, step: int) -> Portrait:
        return Portrait(
            title=f"step {step}",
            n_neurons=whole.n_neurons,
            nodes=whole.nodes,
            correlation=whole.correlation.astype(np.float32),
            edges=whole.graph.edges,
            partition=whole.partition,
            diagrams=whole.known_diagrams,
            scale=whole.scale if whole.known_diagrams else None,
        )


def _moments(reading: Reading) -> Moments:
    if isinstance(reading, Moments):
        return reading
    rows, labels, of_class = reading.values, reading.labels, None
    if labels is not None and (known := labels >= 0).any():
        of_class = F.class_active_share(rows[known], labels[known], reading.num_classes)
    return Moments(
        count=len(rows),
        correlation=F.correlation_matrix(rows),
        active_share=F.active_share(rows),
        class_active_share=of_class,
        kept=rows if reading.has_histogram else None,
        kept_labels=labels if reading.has_histogram else None,
    )


def _scalars(measured: Mapping[str, Measured], step: int) -> dict[str, float]:
    values: dict[str, float] = {}
    for name, found in measured.items():
        # Python's own numbers: a checkpoint holds them, and is not opened with others.
        values |= {f"{name}/step": float(step), **{key: float(value) for key, value in found.scalars.items()}}
    return values


class _Cost:
    """What one monitor's snapshot cost, in milliseconds: parts, and who paid."""

    def __init__(self, parts: Mapping[str, float]) -> None:
        self._parts = dict(parts)
        self._training_thread_ms = sum(parts.values())
        self.worker_ms = 0.0

    def add(self, parts: Mapping[str, float], worker_ms: float | None) -> None:
        """Adds what measuring took: CPU time of the worker, or, where that is None, time of the training thread."""
        for part, ms in parts.items():
            self._parts[part] = self._parts.get(part, 0.0) + ms
        if worker_ms is None:
            self._training_thread_ms += sum(parts.values())
        else:
            self.worker_ms += worker_ms

    def by_part(self) -> dict[str, float]:
        whole = {"training_thread": self._training_thread_ms, "worker": self.worker_ms}
        return {**self._parts, "total": sum(self._parts.values()), **whole}


def _read_back(store: SnapshotStore, step: int) -> Snapshot | None:
    try:
        record = read_record(store.folder)
        found = next((s for s in record.snapshots if s.step == step), None)
        return None if found is None else replace(found, arrays=record.arrays(step))
    except RecordError:
        return None


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
        logged={**before.logged, **snapshot.logged},
    )


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def _one_blas_thread():
    """The same sums in the same order wherever this runs; what runs side by side are the nulls."""
    return _controller().limit(limits=1, user_api="blas")
