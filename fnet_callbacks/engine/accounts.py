"""What snapshots cost the run, and what its budget pays for."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from fnet_callbacks.engine.budget import Budget
from fnet_callbacks.engine.entry import Entry
from fnet_callbacks.engine.waiting import Waiting
from fnet_callbacks.stopwatch import Stopwatch
from fnet_callbacks.worker.jobs import Job, Result


class Accounts:
    """The costs of one run on rank 0.

    Args:
        share: The share of the wall time that they may be; None for no limit.
    """

    def __init__(self, share: float | None) -> None:
        self.budget = None if share is None else Budget(share)
        self._shared_seconds = 0.0  # of the training thread since the last snapshot
        self._drawing_seconds: deque[float] = deque(maxlen=3)
        self._waiting = Waiting()

    def open(self) -> None:
        """What the start took is charged, and is no part of a snapshot."""
        self._shared_seconds = 0.0
        self._waiting = Waiting()

    @contextmanager
    def charged(self) -> Iterator[None]:
        """Counts the time of a block that no instrument alone pays for: taking results, writing to loggers."""
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            self._shared_seconds += seconds
            self._charge(seconds)

    def costs(self, due: Sequence[Entry]) -> dict[str, dict[str, float]]:
        """By instrument and part, in milliseconds, what the training thread has paid since the last snapshot."""
        share, self._shared_seconds = self._shared_seconds / len(due), 0.0
        costs = {entry.name: {**entry.instrument.stopwatch.ms, "output": share * 1e3} for entry in due}
        for entry in due:
            entry.instrument.stopwatch = Stopwatch()
        return costs

    def count_output(self, seconds: float) -> None:
        """What it took to hand over a snapshot: a part of what the next tells."""
        self._shared_seconds += seconds

    def pay(self, job: Job, due: Sequence[Entry], *, seconds: float, expecting: Collection[str]) -> None:
        """Charges what the training thread paid for a snapshot; the rest follows with its result.

        Args:
            job: What was handed over, with what it cost so far.
            due: Whose snapshot it is.
            seconds: What it took to hand it over.
            expecting: Names of those of them for whom a result will come that tells what another will cost.
        """
        if self.budget is None:
            return
        for entry in due:
            parts = job.cost_ms[entry.name]
            own = (sum(parts.values()) - parts["output"]) / 1e3 + seconds / len(due)
            self.budget.charge(own, part=(job.step, entry.name) if entry.name in expecting else None)

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
        if self.budget is None:
            return
        waits = 0.0
        for name, seconds in result.worker_seconds.items():
            waits += seconds * (1 - share)
            if self.budget.is_in_flight((result.step, name)):
                self.budget.settle((result.step, name), seconds * share)
            else:
                self.budget.charge(seconds * share)
        # At the end the run waits for one more snapshot, and for its figures, whether a core is idle or not.
        expected = sum(self.budget.all_expected().values())
        self.budget.set_aside(expected + waits + max(self._drawing_seconds, default=0.0))

    def _charge(self, seconds: float) -> None:
        if self.budget is not None:
            self.budget.charge(seconds)
