"""The course of a run: its count of steps, the snapshots that are due, and what becomes of them."""

from __future__ import annotations

import operator
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from tqdm.auto import tqdm

from fnet_callbacks.engine.accounts import Accounts
from fnet_callbacks.engine.entry import Entry, check_kinds
from fnet_callbacks.engine.options import Options
from fnet_callbacks.engine.output import Output
from fnet_callbacks.engine.passes import Passes
from fnet_callbacks.engine.schedule import Schedule
from fnet_callbacks.errors import FnetError
from fnet_callbacks.findings import Context, Findings
from fnet_callbacks.host import Host
from fnet_callbacks.interrupts import handlers_held
from fnet_callbacks.worker.analysis import analyzed
from fnet_callbacks.worker.jobs import Job

_SECONDS_BETWEEN_LOOKS = 0.01  # for what came of snapshots; a step may take a millisecond


class Engine:
    """One run of a training loop, as its instruments see it.

    A snapshot is taken at its step and measured elsewhere; its values go to the loggers when they are there. To where
    others of the run look for them they go by `drain`, which waits for them: the driver calls it where somebody looks,
    or, where ranks have to wait together, at places that depend on the step alone. Nothing depends on timing.

    Args:
        host: The loop.
        options: Of the monitor.
    """

    def __init__(self, host: Host, options: Options) -> None:
        self.step = 0
        self.error: Exception | None = None  # what must end the run, on rank 0
        self.is_pending = False  # whether there are snapshots that were not drained; the same on all ranks
        self._host, self._options = host, options
        self._entries = [_entry(instrument, options) for instrument in options.instruments]
        self._passes = Passes(host, options, self._entries)
        self._output = Output(host, options, self._entries)
        self._accounts = Accounts(options.overhead_budget)
        self._has_epochs = any(entry.schedule.every_n_epochs is not None for entry in self._entries)
        self._next_due = 0.0  # no step before it asks for a snapshot
        self._values: dict[str, float] = {}
        self._last_step: int | None = None
        self._resumed_from: str | None = None
        self._writer: str | None = None
        self._kept_probe: Any = None
        self._measured: Mapping[str, Any] | None = None
        self._is_open = self._is_watching = False
        # On rank 0: what came of snapshots, and what is to be handed over next.
        self._arrived: dict[str, float] = {}
        self._outbox: deque[tuple[Job, Sequence[Entry]]] = deque()
        self._is_owed, self._next_look = False, 0.0

    # The course of a run.

    @property
    def is_open(self) -> bool:
        """Whether the first batch has come."""
        return self._is_open

    @property
    def keys(self) -> frozenset[str]:
        """The keys of all that is measured."""
        return self._output.keys

    @property
    def expendable(self) -> frozenset[str]:
        """The keys of values that others of the run miss least: of layers, and what parts of a snapshot cost."""
        return frozenset(self._values) - (self.keys - self._output.layer_keys)

    @property
    def record(self) -> str | None:
        """The record's folder; None where none is written, or before the first batch."""
        return self._output.record

    def open(self, batch: Any) -> None:
        """Begins with the first batch, and takes the first snapshot of what has none."""
        with self._accounts.charged():  # a budget pays back what the start costs
            self._passes.open(batch, self._kept_probe)
            self._output.open(
                resumed_from=self._resumed_from,
                writer=self._writer,
                step=self.step,
                probe=self._passes.summary(),
                measured=self._measured,
            )
        self._accounts.open()
        self._is_open, self._is_watching = True, self._passes.watches_batches
        self._values = {key: value for key, value in self._values.items() if key in self.keys}
        self._publish(self._values)
        if new := [entry for entry in self._entries if entry.is_first]:
            with handlers_held():
                self._see(new)
            self._hand_on()

    def before_batch(self, batch: Any) -> None:
        """Watches a training batch, for instruments that do."""
        if self._is_watching:
            self._passes.before_batch(batch, self.step)

    def after_batch(
        self, was_step: Callable[[], bool], *, ends_epoch: Callable[[], int | None] = lambda: None
    ) -> None:
        """Counts the step and takes the snapshots that are due.

        Args:
            was_step: Says whether the batch was a step; asked once.
            ends_epoch: The number of the epoch, from 1, whose last batch this was; None for another batch.
        """
        if self._is_watching:
            self._passes.after_batch(self.step)
            self._is_watching = self._passes.watches_batches
        if self._is_owed and time.perf_counter() >= self._next_look:
            self._collect(wait=False)
            self._next_look = time.perf_counter() + _SECONDS_BETWEEN_LOOKS
        is_step = was_step()
        step = self.step + is_step
        epoch = ends_epoch() if self._has_epochs else None
        if epoch is None and not (is_step and step >= self._next_due):
            self.step = step
            return
        with handlers_held():  # a checkpoint has the step and its snapshot, or neither
            self.step = step
            if due := self._due(epoch, is_step=is_step):
                self._see(due)
        if due:
            self._hand_on()

    def drain(self) -> None:
        """Waits for the snapshots that were taken and puts their values where others look; every rank calls it."""
        if not self.is_pending:
            return
        self.is_pending = False
        self._collect(wait=True)
        # An error itself need not survive being pickled.
        found = self._arrived, self.error and f"on rank 0: {self.error!r}"
        values, reason = self._host.broadcast(found)
        self._arrived = {}
        if reason is not None:
            raise self.error or FnetError(reason)
        self._publish(values)

    def finish(self) -> None:
        """Takes the snapshot after the last step, draws the last figures and waits for everything."""
        if not self._is_open:
            return
        self._output.stop_waiting()
        due = [e for e in self._entries if e.last_step != self.step and self._passes.has_seen(e)]
        if due:
            self._collect(wait=True)
            with handlers_held():
                for entry in due:
                    entry.state_before_end = entry.state
                self._see(due, is_end=True)
            self._hand_on()
        self.drain()
        if self._host.is_global_zero:
            undrawn = [e.name for e in self._entries if self._output.draws(e) and e.last_drawn != e.last_step]
            self._outbox.append((Job(self.step, draw=undrawn, logged=self._logged()), ()))
            self._collect(wait=True)
            self._output.finish()

    def close(self) -> None:
        """Takes the snapshots that are on the way and lets go of everything; safe to call twice."""
        self._passes.close()
        try:
            self._collect(wait=True)
        finally:
            self._output.close()

    # Resuming.

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds, in plain Python and torch."""
        self._collect(wait=True)
        values = {**self._values, **self._arrived}
        return {
            "step": self.step,
            "last_step": self._last_step,
            "record": self._output.record or self._resumed_from,
            "writer": self._output.writer or self._writer,
            "values": {k: v for k, v in values.items() if k in self.keys or not self._is_open},
            "probe": self._passes.kept() if self._is_open else self._kept_probe,
            "measured": self._output.measured or self._measured,
            "instruments": {entry.name: entry.saved() for entry in self._entries},
        }

    def begin_at(self, step: int) -> None:
        """Begins anew, at a step that an earlier run had come to."""
        self.step = step

    def go_on_from(self, state: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint's `state`.

        Raises:
            Exception: It is none.
        """
        check_kinds(state)
        self.step, self._last_step = operator.index(state["step"]), state["last_step"]
        self._values = {key: float(value) for key, value in state["values"].items()}
        self._resumed_from, self._writer = state["record"], state["writer"]
        self._kept_probe = state["probe"]
        self._measured = state["measured"]
        for entry in self._entries:
            if entry.name in state["instruments"]:
                entry.go_on_from(state["instruments"][entry.name])

    # Snapshots.

    def _due(self, epoch: int | None, *, is_step: bool) -> list[Entry]:
        """The instruments that take a snapshot now; where time decides, rank 0 does."""
        due = []
        for entry in self._entries:
            schedule = entry.schedule
            at_step = is_step and schedule.asks_at(self.step)
            at_epoch = epoch is not None and schedule.asks_after_epoch(epoch)
            if (at_step or at_epoch) and entry.last_step != self.step:
                due.append(entry)
        self._next_due = min((entry.schedule.next_after(self.step) for entry in self._entries), default=0.0)
        if not due or (self._options.overhead_budget is None and self._options.when_busy == "wait"):
            return due
        taken = self._host.broadcast(self._taken(due))
        return [entry for entry in due if entry.name in taken]

    def _taken(self, due: Sequence[Entry]) -> list[str]:
        """Those for which there is time; on rank 0."""
        names = [entry.name for entry in due]
        if not self._host.is_global_zero:
            return names
        taken, reason = names, ""
        if self._options.when_busy == "skip" and self._output.is_busy:
            taken, reason = [], "the worker was busy"
        elif self._accounts.budget is not None:
            taken, reason = self._accounts.budget.afforded(names), "the overhead budget was spent"
        for entry in due:
            if entry.name not in taken:
                entry.leave_out(self.step, reason)
        return taken

    def _see(self, due: Sequence[Entry], *, is_end: bool = False) -> None:
        """Shows the probe to instruments and puts what they saw into the outbox; signal handlers wait meanwhile."""
        for entry in due:
            entry.instrument.context = Context(self.step)
        seen = self._passes.show(due, self.step)
        draw = [entry.name for entry, _ in seen if self._output.draws_now(entry)]
        if self._host.is_global_zero and self.error is None:
            self._hand_over(seen, due, draw, is_end=is_end)
        for entry in due:
            entry.last_step = self.step
            if not is_end:
                entry.count += 1
            if entry.name in draw:
                entry.last_drawn = self.step
        if not is_end:
            self._last_step = self.step
        self.is_pending = True

    def _hand_on(self) -> None:
        """Hands over what is in the outbox, and waits for what comes of it where that is asked for."""
        self._empty_outbox()
        if self._output.choice.worker == "inline" or self._options.on_error == "raise":
            self.drain()

    def _hand_over(
        self, seen: Sequence[tuple[Entry, Any]], due: Sequence[Entry], draw: Sequence[str], *, is_end: bool
    ) -> None:
        """Sends what rank 0 has on its way; what goes wrong is kept, so that every rank can raise it."""
        arrays: dict[str, Any] = {}
        findings: dict[str, Findings] = {}
        for entry, found in seen:
            if not self._output.analyzes_here(entry):
                arrays[entry.name] = found
                continue
            try:
                findings[entry.name] = self._analyzed(entry, found)
            except Exception as error:
                if self._passes.must_raise(entry, error):
                    self.error = error
                    return
                self._passes.warn(entry, error, self.step)
        left_out = {entry.name: missed for entry in self._entries if (missed := entry.take_missed())}
        scalars = self._of_schedule()
        costs = self._accounts.costs(due)
        first = [entry.name for entry, _ in seen if entry.is_first]
        job = Job(self.step, is_end, arrays, findings, scalars, costs, draw, self._logged(), left_out, first)
        if arrays or findings:
            self._outbox.append((job, due))
        else:
            self._accounts.pay(job, due, seconds=0.0, expecting=())

    def _analyzed(self, entry: Entry, found: Any) -> Findings:
        """What an instrument finds on the training thread."""
        assert entry.analysis is not None
        context = Context(self.step, self._options.on_error, entry.instrument.stopwatch)
        with entry.instrument.stopwatch.part("analysis"):
            findings = analyzed(entry.analysis, found, context)
        entry.state = entry.analysis.state()
        return findings

    def _empty_outbox(self) -> None:
        """Hands over what waits for it. A signal's handler may do that while this waits for the worker."""
        while self._outbox:
            self._output.wait(for_results=False)
            with handlers_held():
                if self._outbox and not self._output.is_busy:
                    self._submit(*self._outbox.popleft())

    def _submit(self, job: Job, due: Sequence[Entry]) -> None:
        n_measures = sum(len(entry.instrument.keys) for entry in due if entry.name in job.arrays)
        start = time.perf_counter()
        with self._passes.progress(n_measures, "measures", job.step) as bar:
            try:
                self._output.submit(job, lambda _, part: _counted(bar) if part else nullcontext())
            except Exception as error:
                self.error = error
        self._is_owed = True
        seconds = time.perf_counter() - start
        if not self._output.measures_here:  # else the result tells, part by part, what the measures took
            self._accounts.count_output(seconds)
        if due:
            # What the first one costs, with kernels to load, is paid but not expected of the next.
            expecting = [entry.name for entry in due if entry.count > (0 if job.is_end else 1)]
            self._accounts.pay(job, due, seconds=seconds, expecting=expecting)

    def _collect(self, *, wait: bool) -> None:
        """Takes what has come of the snapshots, on rank 0; with ``wait`` all that will come."""
        if not self._is_open or not self._host.is_global_zero:
            return
        if wait:
            self._empty_outbox()
        while True:
            if wait:
                with self._accounts.charged():
                    self._output.wait(for_results=True)
            with handlers_held():  # a checkpoint has all of a result, or nothing of it
                self._take()
            self._is_owed = self._output.is_owed
            if not wait or not self._output.owes_results:
                return

    def _take(self) -> None:
        with self._accounts.charged():
            results, drawing_seconds = self._output.collect()
        if not results and not drawing_seconds:
            return
        for result in results:
            if result.error is not None:
                self.error = self.error or FnetError(result.error)
            self._arrived |= {**result.scalars, **result.cost_ms}
            for entry in self._entries:
                if entry.name in result.states:
                    entry.state = result.states[entry.name]
        self._accounts.take(results, drawing_seconds)

    def _logged(self) -> dict[str, float]:
        """What the run itself has logged so far."""
        return {key: value for key, value in self._host.logged().items() if key not in self._values}

    def _of_schedule(self) -> dict[str, float]:
        """How far the actual schedule deviates from the requested one."""
        found = {"monitor/skipped": float(sum(entry.left_out for entry in self._entries))}
        if self._last_step != self.step:  # else the rest of a snapshot, of those that the end alone makes due
            found["monitor/interval"] = float(self.step - (self._last_step or 0))
        if (budget := self._accounts.budget) is not None:
            found["monitor/overhead_share"] = budget.share_spent
        return found

    def _publish(self, values: Mapping[str, float]) -> None:
        """Puts values where others of the run look for them, on every rank."""
        self._values.update(values)
        self._host.publish(values)


def _entry(instrument: Any, options: Options) -> Entry:
    """What is kept of an instrument, with the schedule of its own or a multiple of the monitor's."""
    schedule = Schedule(instrument.every_n_steps, instrument.every_n_epochs)
    if schedule == Schedule():
        schedule = Schedule(options.every_n_steps, options.every_n_epochs, instrument.default_interval)
    return Entry(instrument.running(options.shared), schedule)


@contextmanager
def _counted(bar: tqdm) -> Iterator[None]:
    yield
    bar.update()
