"""From what the training thread brought together to what is known: the findings of a step, and its place in the record.

Runs in the worker, or where there is none on the training thread: the same code, the same numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache, partial
from typing import Any

from threadpoolctl import ThreadpoolController

from fnet_callbacks.errors import FnetError, RecordError
from fnet_callbacks.findings import EVERYTHING, Analysis, Context, Findings, as_findings
from fnet_callbacks.portrait import CodePortrait, Portrait
from fnet_callbacks.record import Snapshot, SnapshotStore, read_record
from fnet_callbacks.stopwatch import Stopwatch
from fnet_callbacks.worker.jobs import Job, Plan, Result

# What each part of an instrument's analysis stands in: a time limit, a progress bar.
Around = Callable[[str, str], AbstractContextManager[object]]


def nothing_around(instrument: str, part: str) -> AbstractContextManager[object]:
    """Takes a part as it is."""
    return nullcontext()


def analyzed(analysis: Analysis, arrays: Any, context: Context) -> Findings:
    """What an analysis finds in a context.

    Raises:
        TimeoutError: The whole analysis was given up.
        Exception: Whatever it raises.
    """
    if (reason := context.given_up.get(EVERYTHING)) is not None:
        raise TimeoutError(reason)
    analysis.context = context
    with _one_blas_thread():
        return as_findings(analysis.analyze(arrays), analysis.name)


class Recorder:
    """Analyzes what one fit brings together, and writes its record.

    Args:
        plan: What is analyzed.
        analyses: By instrument, those that need not be made by its recipe.
        is_worker: Whether this is another process than that of the training thread.
    """

    def __init__(
        self, plan: Plan, *, analyses: Mapping[str, Analysis] | None = None, is_worker: bool = False
    ) -> None:
        self._plan, self._is_worker = plan, is_worker
        self._cpu_seconds = 0.0  # of this process, that were told of already
        self._analyses: dict[str, Analysis] = dict(analyses or {})
        for name in plan.recipes.keys() - self._analyses.keys():
            self._analyses[name] = plan.recipes[name].make()
            if state := plan.states.get(name):
                self._analyses[name].restore(state)
        self._store = None if plan.folder is None else SnapshotStore(plan.folder, manifest=plan.manifest)
        self._last: Snapshot | None = None
        self._made: dict[
            str, tuple[int, Portrait | CodePortrait]
        ] = {}  # by instrument, the last, and its step

    def run(self, job: Job, around: Around = nothing_around) -> Result:
        """Does a job; takes each part of it in ``around``.

        Raises:
            Exception: What an analysis raised, where ``on_error`` is ``"raise"``; also an ``FnetError`` at the first
                snapshot of an instrument, whose configuration is wrong.
        """
        found, failures = dict(job.findings), dict[str, str]()
        seconds, states = dict[str, float](), dict[str, Mapping[str, Any]]()
        costs = {name: dict(parts) for name, parts in job.cost_ms.items()}
        paid = {name: sum(parts.values()) for name, parts in costs.items()}  # by the training thread
        for name, arrays in job.arrays.items():
            watch = Stopwatch()
            context = Context(
                job.step,
                self._plan.on_error,
                watch,
                partial(around, name),
                self._plan.given_up.get(name, {}),
            )
            start = time.perf_counter()
            try:
                found[name] = analyzed(self._analyses[name], arrays, context)
                states[name] = self._analyses[name].state()
            except Exception as error:
                if self._plan.on_error == "raise" or (isinstance(error, FnetError) and name in job.first):
                    raise
                failures[name] = repr(error)
            # What the analysis names no part of.
            watch.ms["analysis"] = max(0.0, 1e3 * (time.perf_counter() - start) - sum(watch.ms.values()))
            for part, ms in watch.ms.items():
                costs[name][part] = costs[name].get(part, 0.0) + ms
            seconds[name] = self._cpu_time() if self._is_worker else 0.0
            if not self._is_worker:
                paid[name] += sum(watch.ms.values())
        result = Result(
            step=job.step,
            scalars=_scalars(found, job) if found else {},
            notes={key: note for own in found.values() for key, note in own.notes.items()},
            cost_ms=_costs(found, costs, paid, seconds),
            states=states,
            portraits=self._portraits(job, found),
            failures=failures,
            worker_seconds={name: seconds.get(name, 0.0) for name in job.cost_ms},
        )
        if found:
            self._record(job, result, found, failures)
        elif job.logged and (last := self._written_at(job.step)) is not None:
            self._append(replace(last, logged_at_end=job.logged), failures)
        return result

    def _cpu_time(self) -> float:
        """CPU time of this process since this was last asked: its start, the way here and the record are in it."""
        before, self._cpu_seconds = self._cpu_seconds, time.process_time()
        return self._cpu_seconds - before

    def _record(
        self, job: Job, result: Result, found: Mapping[str, Findings], failures: dict[str, str]
    ) -> None:
        snapshot = Snapshot(
            step=job.step,
            scalars=result.scalars,
            cost_ms=result.cost_ms,
            notes=result.notes,
            arrays={f"{name}.{k}": a for name, own in found.items() for k, a in own.arrays.items()},
            is_end=job.is_end,
            logged=job.logged,
            left_out=job.left_out,
        )
        last = self._written_at(job.step)  # by those that were due at it before
        self._append(_merged(last, snapshot, found), failures)

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

    def _portraits(self, job: Job, found: Mapping[str, Findings]) -> dict[str, Portrait | CodePortrait]:
        """Those of this step that are wanted."""
        for name, own in found.items():
            if own.portrait is not None:
                self._made[name] = job.step, own.portrait
        return {n: self._made[n][1] for n in job.draw if n in self._made and self._made[n][0] == job.step}


def _scalars(found: Mapping[str, Findings], job: Job) -> dict[str, float]:
    # Python's own numbers: a checkpoint holds them, and is not opened with others.
    values = {key: float(value) for own in found.values() for key, value in own.scalars.items()}
    return {"monitor/step": float(job.step), **values, **job.scalars}


def _costs(
    found: Mapping[str, Findings],
    costs: Mapping[str, Mapping[str, float]],
    paid: Mapping[str, float],
    worker_seconds: Mapping[str, float],
) -> dict[str, float]:
    """What the snapshot cost, in milliseconds by key: its parts, who paid for them, and all of it."""
    keys: dict[str, float] = {}
    for name in found:
        worker_ms = worker_seconds.get(name, 0.0) * 1e3
        total = sum(costs[name].values())
        whole = {"total": total, "training_thread": paid[name], "worker": worker_ms}
        keys |= {f"monitor_cost/{name}/{part}": ms for part, ms in {**costs[name], **whole}.items()}
    return (
        {**keys, "monitor/cost_ms": sum(keys[f"monitor_cost/{name}/total"] for name in found)} if keys else {}
    )


def _read_back(store: SnapshotStore, step: int) -> Snapshot | None:
    try:
        record = read_record(store.folder)
        found = next((s for s in record.snapshots if s.step == step), None)
        return None if found is None else replace(found, arrays=record.arrays(step))
    except RecordError:
        return None


def _whole_cost(*snapshots: Snapshot) -> float:
    return sum(snapshot.cost_ms.get("monitor/cost_ms", 0.0) for snapshot in snapshots)


def _merged(before: Snapshot | None, snapshot: Snapshot, names: Iterable[str]) -> Snapshot:
    """One snapshot of a step where some instruments were due at it and the others come because training ended there."""
    if before is None or before.step != snapshot.step:
        return snapshot
    at_end = dict.fromkeys([*before.at_end, *(names if snapshot.is_end and not before.is_end else ())])
    return Snapshot(
        step=snapshot.step,
        scalars={**before.scalars, **snapshot.scalars},
        cost_ms={**before.cost_ms, **snapshot.cost_ms, "monitor/cost_ms": _whole_cost(before, snapshot)},
        notes={**before.notes, **snapshot.notes},
        arrays={**before.arrays, **snapshot.arrays},
        is_end=before.is_end,
        at_end=tuple(at_end),
        logged={**before.logged, **snapshot.logged},
        left_out={**before.left_out, **snapshot.left_out},
    )


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def _one_blas_thread():
    """The same sums in the same order wherever this runs; what runs side by side are the nulls."""
    return _controller().limit(limits=1, user_api="blas")
