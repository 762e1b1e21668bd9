"""What the monitors of one trainer share: the count of steps, the passes over the probe, one output."""

from __future__ import annotations

import operator
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_info
from tqdm.auto import tqdm

from fnet_callbacks.callbacks.accounts import Accounts
from fnet_callbacks.callbacks.output import Output
from fnet_callbacks.callbacks.passes import Passes
from fnet_callbacks.callbacks.readers import reads_now, waiting_when_read
from fnet_callbacks.callbacks.steps import StepWatch
from fnet_callbacks.errors import FnetError
from fnet_callbacks.interrupts import handlers_held
from fnet_callbacks.network import Stopwatch
from fnet_callbacks.worker.jobs import Job, Measured, Reading

if TYPE_CHECKING:
    from fnet_callbacks.callbacks.probe_monitor import ProbeMonitor

_SECONDS_BETWEEN_LOOKS = 0.01  # for what came of snapshots; a step may take a millisecond


class Session:
    """One fit of one trainer, as its monitors see it.

    A snapshot is asked for at its step and measured elsewhere; its values go to the loggers when they are there. To
    ``trainer.callback_metrics`` they go by `drain`, which waits for them: when somebody looks there, or, where ranks
    have to wait together, at places that depend on the step alone. Either way nothing depends on timing.

    Args:
        trainer: The trainer.
        monitors: Its monitors, at least one, in the order of its callbacks.
    """

    def __init__(self, trainer: pl.Trainer, monitors: Sequence[ProbeMonitor]) -> None:
        self.monitors = list(monitors)
        self.step = 0
        self._trainer = trainer
        self._counts: dict[str, int] = {}  # snapshots of each monitor, the one after the last step left out
        self._last_steps: dict[str, int] = {}
        self._drawn: dict[str, int] = {}
        self._skipped: dict[str, int] = {}
        self._values: dict[str, float] = {}
        self._resumed_from: str | None = None
        self._is_open = False
        self._steps = StepWatch(trainer)
        self._kept_probes: Mapping[str, Any] = {}
        self._measured: Mapping[str, Any] | None = None
        self._before_end: dict[str, dict[str, Any]] = {}
        self._passes = Passes(trainer, self.monitors)
        self._output = Output(trainer, self.monitors)
        self._is_pending = False  # whether there are snapshots that were not drained; the same on all ranks
        # On rank 0: what came of them, what went wrong, what is on its way.
        self._arrived: dict[str, float] = {}
        self._error: Exception | None = None
        # What is to be handed over next: whose it is, and whose budget is told by its result.
        self._outbox: deque[tuple[Job, Sequence[ProbeMonitor], Sequence[str]]] = deque()
        self._accounts = Accounts(self.monitors)
        self._next_look = 0.0
        self._awaiting = ExitStack()

    # The course of a fit.

    def before_batch(self, batch: Any) -> None:
        """Opens the session at the first batch, takes the snapshot before the first step, watches live batches."""
        if not self._is_open:
            self._open(batch)
            if self.step == 0 and not self._last_steps:
                self._snapshot(self.monitors)
        self._passes.before_batch(batch, self.step)
        self._steps.begin_batch()

    def note_optimizer_step(self) -> None:
        """Remembers that this batch steps an optimiser."""
        self._steps.announce()

    def after_batch(self, batch: Any) -> None:
        """Counts the step and takes the snapshots that are due."""
        self._passes.after_batch(self.step)
        if self._output.is_owed and time.perf_counter() >= self._next_look:
            self._collect(wait=False)
            self._next_look = time.perf_counter() + _SECONDS_BETWEEN_LOOKS
        with handlers_held():  # a checkpoint has the step and its snapshot, or neither
            if not self._steps.was_step():
                return
            self.step += 1
            if due := self._due():
                self._see(due)
        if due:
            self._hand_on(due)
        if self._is_pending and self._is_alone:
            if self._error is not None:
                self.drain()
        elif self._is_pending and (
            self._trainer.is_last_batch or reads_now(self._trainer, self._output.keys)
        ):
            self.drain()  # callbacks that stand before the monitor look at an epoch's end before it has its turn

    def end_epoch(self) -> None:
        """Before others look at the values, at the end of an epoch or of a validation; every rank calls it."""
        if not self._is_alone:
            self.drain()

    @property
    def _is_alone(self) -> bool:
        """Whether this is the only rank: it waits when somebody looks."""
        return self._trainer.world_size == 1

    def drain(self) -> None:
        """Waits for the snapshots that were asked for and puts their values where others look; every rank calls it."""
        if not self._is_pending:
            return
        self._is_pending = False
        self._collect(wait=True)
        # An error itself need not survive being pickled.
        found = self._arrived, self._error and f"on rank 0: {self._error!r}"
        values, reason = self._trainer.strategy.broadcast(found, src=0)
        self._arrived = {}
        if reason is not None:
            raise self._error or FnetError(reason)
        self._publish(values)

    def finish(self) -> None:
        """Takes the snapshot after the last step, draws the last figures and waits for everything."""
        if not self._is_open:
            return
        due = [m for m in self.monitors if self._last_steps.get(m.name) != self.step and self._has_seen(m)]
        if due:
            self._collect(wait=True)
            with handlers_held():
                self._before_end = {m.name: m.carry() for m in due}
                self._see(due, is_end=True)
            self._hand_on(due)
        self.drain()
        if self._trainer.is_global_zero:
            last, drawn = self._last_steps, self._drawn
            undrawn = [m.name for m in self.monitors if m.has_figures and drawn.get(m.name) != last[m.name]]
            self._outbox.append((Job(self.step, draw=undrawn, logged=self._logged()), (), ()))
            self._collect(wait=True)
            self._output.finish()

    def close(self) -> None:
        """Takes the snapshots that are on the way and lets go of everything; safe to call twice."""
        self._passes.close()
        self._steps.close()
        self._awaiting.close()
        try:
            self._collect(wait=True)
        finally:
            self._output.close()

    # Resuming.

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of the session, in plain Python and torch."""
        self._collect(wait=True)
        return {
            "step": self.step,
            "last_steps": dict(self._last_steps),
            "counts": dict(self._counts),
            "skipped": dict(self._skipped),
            "record": self._output.record or self._resumed_from,
            "values": {**self._values, **self._arrived},
            "probes": self._passes.kept(),
            "measured": self._output.measured or self._measured,
        }

    def carried(self, monitor: ProbeMonitor) -> dict[str, Any]:
        """What a monitor's next snapshot starts from: never the one after the last step, which is dropped then."""
        carry = monitor.carry()  # after what is on its way
        return self._before_end.get(monitor.name, carry)

    def go_on_from(self, state: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint's ``state``; of several monitors' states the one that came furthest counts."""
        step = operator.index(state["step"])
        if self._resumed_from is None or step > self.step:
            self.step, self._last_steps = step, dict(state["last_steps"])
            self._counts, self._values = dict(state["counts"]), dict(state["values"])
            self._skipped = dict(state.get("skipped", {}))
            self._resumed_from = state["record"]
            self._kept_probes = dict(state["probes"])
            self._measured = state.get("measured")  # which earlier versions did not say

    def _open(self, batch: Any) -> None:
        for monitor in self.monitors:
            monitor.stopwatch = Stopwatch()
            if monitor.budget is not None:
                monitor.budget.start()
        with self._accounts.charged():  # a budget pays back what the start costs
            self._passes.open(batch, self._kept_probes)
            self._output.open(
                resumed_from=self._resumed_from,
                step=self.step,
                probes=self._passes.summaries(),
                measured=self._measured,
            )
        self._accounts.open()
        if self._is_alone:
            self._awaiting.enter_context(waiting_when_read(self._trainer, self.drain))
        self._steps.open()
        self._is_open = True
        self._publish(self._values)

    # Snapshots.

    def _has_seen(self, monitor: ProbeMonitor) -> bool:
        """Whether all ranks have something to measure at the end, which live batches are not always watched for."""
        if not monitor.is_live or self._trainer.strategy.reduce_boolean_decision(monitor.has_seen, all=True):
            return True
        rank_zero_info(
            f"{monitor.name}: training ended where nobody could know, so that no live batch was watched"
        )
        return False

    def _due(self) -> list[ProbeMonitor]:
        """The monitors that take a snapshot now; where time decides, rank 0 does."""
        asking = [m for m in self.monitors if m.schedule.asks_at(self.step)]
        if not any(m.budget is not None or m.when_busy == "skip" for m in asking):
            return asking
        taken = self._trainer.strategy.broadcast([self._takes(m) for m in asking], src=0)
        return [monitor for monitor, takes in zip(asking, taken, strict=True) if takes]

    def _takes(self, monitor: ProbeMonitor) -> bool:
        if not self._trainer.is_global_zero:
            return True
        if monitor.budget is not None and not monitor.budget.affords():
            return False
        if monitor.when_busy == "skip" and self._output.is_busy:
            self._skipped[monitor.name] = self._skipped.get(monitor.name, 0) + 1
            return False
        return True

    def _snapshot(self, due: Sequence[ProbeMonitor]) -> None:
        with handlers_held():
            self._see(due)
        self._hand_on(due)

    def _see(self, due: Sequence[ProbeMonitor], *, is_end: bool = False) -> None:
        """Shows the probe to monitors and puts what they saw into the outbox; signal handlers wait meanwhile."""
        seen = self._passes.show(due, self.step)
        draw = [m.name for m in seen if m.draws_at(self._counts.get(m.name, 0))]
        if self._trainer.is_global_zero and self._error is None:
            self._hand_over(seen, due, draw, is_end=is_end)
        for monitor in due:
            self._last_steps[monitor.name] = self.step
            if not is_end:
                self._counts[monitor.name] = self._counts.get(monitor.name, 0) + 1
        self._drawn |= dict.fromkeys(draw, self.step)
        self._is_pending = True

    def _hand_on(self, due: Sequence[ProbeMonitor]) -> None:
        """Hands over what is in the outbox, and waits for what comes of it where that is asked for."""
        self._empty_outbox()
        if self._output.is_inline or any(m.on_error == "raise" for m in due):
            self.drain()

    def _hand_over(
        self, seen: Sequence[ProbeMonitor], due: Sequence[ProbeMonitor], draw: Sequence[str], *, is_end: bool
    ) -> None:
        """Sends rank 0's readings on their way; what goes wrong is kept, so that every rank can raise it."""
        readings: dict[str, Reading] = {}
        measured: dict[str, Measured] = {}
        for monitor in seen:
            try:
                found = monitor.measure(self.step)
            except Exception as error:
                if self._passes.must_raise(monitor, error, self.step):
                    self._error = error
                    return
                self._passes.warn(monitor, error, self.step)
                continue
            if isinstance(found, Measured):
                measured[monitor.name] = found
            else:
                readings[monitor.name] = found
        scalars = {k: v for m in seen for k, v in self._of_schedule(m).items()}
        job = Job(
            self.step, is_end, readings, measured, scalars, self._accounts.costs(due), draw, self._logged()
        )
        if readings or measured:
            # What the first one costs, with kernels to load, is paid but not expected of the next.
            self._outbox.append((job, due, [m.name for m in due if self._counts.get(m.name)]))
        else:
            self._accounts.pay(job, due, seconds=0.0, expecting=())

    def _empty_outbox(self) -> None:
        """Hands over what waits for it. A signal's handler may do that while this waits for the worker."""
        while self._outbox:
            self._output.wait(for_results=False)
            with handlers_held():
                if self._outbox and not self._output.is_busy:
                    self._submit(*self._outbox.popleft())

    def _submit(self, job: Job, due: Sequence[ProbeMonitor], expecting: Sequence[str]) -> None:
        start = time.perf_counter()
        with self._passes.progress(
            sum(len(m.keys) for m in due if m.name in job.readings), "measures", self.step
        ) as bar:
            try:
                self._output.submit(job, lambda _, measure: _counted(bar) if measure else nullcontext())
            except Exception as error:
                self._error = error
        seconds = time.perf_counter() - start
        if not self._output.measures_here:  # else the result tells, part by part, what the measures took
            self._accounts.count_output(seconds)
        self._accounts.pay(job, due, seconds=seconds, expecting=expecting)

    def _collect(self, *, wait: bool) -> None:
        """Takes what has come of the snapshots, on rank 0; with ``wait`` all that will come."""
        if not self._is_open or not self._trainer.is_global_zero:
            return
        if wait:
            self._empty_outbox()
        while True:
            if wait:
                with self._accounts.charged():
                    self._output.wait(for_results=True)
            with handlers_held():  # a checkpoint has all of a result, or nothing of it
                self._take()
            if not wait or not self._output.owes_results:
                return

    def _take(self) -> None:
        with self._accounts.charged():
            results, drawing_seconds = self._output.collect()
        if not results and not drawing_seconds:
            return
        for result in results:
            if result.error is not None:
                self._error = self._error or FnetError(result.error)
            self._arrived |= result.scalars
            for monitor in self.monitors:
                if monitor.name in result.carry:
                    monitor.settle(result.carry[monitor.name])
        self._accounts.take(results, drawing_seconds)

    def _logged(self) -> dict[str, float]:
        """What the run itself has logged so far; ``trainer.callback_metrics`` would wait for ours."""
        found = vars(self._trainer._logger_connector).get("_callback_metrics", {})
        return {
            key: float(value)
            for key, value in found.items()
            if key not in self._values and isinstance(value, torch.Tensor) and value.numel() == 1
        }

    def _of_schedule(self, monitor: ProbeMonitor) -> dict[str, float]:
        """What is logged of a schedule that is not the one asked for."""
        found = {}
        if monitor.budget is not None:
            found[f"{monitor.name}/interval"] = float(self.step - self._last_steps.get(monitor.name, 0))
            found[f"{monitor.name}/overhead_share"] = monitor.budget.share_spent
        if monitor.when_busy == "skip":
            found[f"{monitor.name}/skipped"] = float(self._skipped.get(monitor.name, 0))
        return found

    def _publish(self, values: Mapping[str, float]) -> None:
        """Puts values where EarlyStopping, ModelCheckpoint, Ray Tune and Optuna look for them, on every rank."""
        self._values.update(values)
        self._trainer.callback_metrics.update(
            {k: torch.tensor(v, dtype=torch.float32) for k, v in values.items()}
        )


@contextmanager
def _counted(bar: tqdm) -> Iterator[None]:
    yield
    bar.update()
