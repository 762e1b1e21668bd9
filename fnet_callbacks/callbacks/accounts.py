"""What snapshots cost the run, and which monitor's budget pays for it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fnet_callbacks.callbacks.schedule import Waiting
from fnet_callbacks.network import Stopwatch
from fnet_callbacks.worker.jobs import Job, Result

if TYPE_CHECKING:
    from fnet_callbacks.callbacks.probe_monitor import ProbeMonitor


class Accounts:
    """The costs of one fit on rank 0, by monitor.

    Args:
        monitors: Those of the trainer.
    """

    def __init__(self, monitors: Sequence[ProbeMonitor]) -> None:
        self._monitors = monitors
        self._unsettled: dict[
            int, list[ProbeMonitor]
        ] = {}  # whose budget waits for the worker's part, by step
        self._shared_seconds = 0.0  # of the training thread since the last snapshot
        self._drawing_seconds: deque[float] = deque(maxlen=3)
        self._waiting = Waiting()

    def open(self) -> None:
        """What the start took is charged, and is no part of a snapshot."""
        self._shared_seconds = 0.0
        self._waiting = Waiting()

    @contextmanager
    def charged(self) -> Iterator[None]:
        """Counts the time of a block as one that all monitors share: taking results, writing to loggers."""
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            self._shared_seconds += seconds
            self._charge(seconds)

    def costs(self, due: Sequence[ProbeMonitor]) -> dict[str, dict[str, float]]:
        """By monitor and part, in milliseconds, what the training thread has paid since the last snapshot."""
        share, self._shared_seconds = self._shared_seconds / len(due), 0.0
        costs = {m.name: {**m.stopwatch.ms, "output": share * 1e3} for m in due}
        for monitor in due:
            monitor.stopwatch = Stopwatch()
        return costs

    def count_output(self, seconds: float) -> None:
        """What it took to hand over a snapshot: a part of what the next tells."""
        self._shared_seconds += seconds

    def pay(
        self, job: Job, due: Sequence[ProbeMonitor], *, seconds: float, expecting: Collection[str]
    ) -> None:
        """Charges what the training thread paid for a snapshot; the rest follows with its result.

        Args:
            job: What was handed over, with what it cost so far.
            due: Whose snapshot it is.
            seconds: What it took to hand it over.
            expecting: Names of those of them for whom a result will come that tells what another will cost.
        """
        for monitor in due:
            if monitor.budget is None:
                continue
            parts = job.cost_ms[monitor.name]
            own = (sum(parts.values()) - parts["output"]) / 1e3 + seconds / len(due)
            is_expecting = monitor.name in expecting
            monitor.budget.charge(own, snapshot=job.step if is_expecting else None)
            if is_expecting:
                self._unsettled.setdefault(job.step, []).append(monitor)

    def take(self, results: Sequence[Result], drawing_seconds: float) -> None:
        """Charges what the worker and the painter took, as far as training waited for it.

        Args:
            results: What has come of snapshots.
            drawing_seconds: CPU time of figures.
        """
        if drawing_seconds:
            self._drawing_seconds.append(drawing_seconds)
        worker_seconds = sum(sum(result.worker_seconds.values()) for result in results)
        share = self._waiting.share(drawing_seconds + worker_seconds)
        self._charge(drawing_seconds * share)
        for result in results:
            self._settle(result, share)

    def _settle(self, result: Result, share: float) -> None:
        unsettled = self._unsettled.pop(result.step, [])
        for monitor in self._monitors:
            whole = result.worker_seconds.get(monitor.name, 0.0)
            seconds = whole * share
            if monitor.budget is not None and monitor in unsettled:
                monitor.budget.settle(result.step, seconds)
                # At the end the run waits for one more snapshot, and for its figures, whether a core is idle or not.
                waits = whole - seconds + max(self._drawing_seconds, default=0.0)
                monitor.budget.set_aside((monitor.budget.expected or 0.0) + waits)
            elif monitor.budget is not None:
                monitor.budget.charge(seconds)

    def _charge(self, seconds: float) -> None:
        limited = [monitor.budget for monitor in self._monitors if monitor.budget is not None]
        for budget in limited:
            budget.charge(seconds / len(limited))
