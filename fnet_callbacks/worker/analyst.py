"""The analysis in a process of its own: jobs in, results out, in order.

The child is ``python -m fnet_callbacks.worker.analyst``. A job stays with the parent until its result is there, so
that nothing is lost when the child ends: it is started once more, with what the last result left to compare with, and
should that end too, the training thread does the work itself. A measure that does not end in time is ended with its
process; the next does that snapshot again, without the measure.
"""

from __future__ import annotations

import traceback
import warnings
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from fnet_callbacks.errors import FnetWarning
from fnet_callbacks.findings import EVERYTHING, Analysis
from fnet_callbacks.interrupts import handlers_held
from fnet_callbacks.worker.analysis import Around, Recorder, nothing_around
from fnet_callbacks.worker.jobs import Job, Plan, Result
from fnet_callbacks.worker.process import Child, board, refuse, serve
from fnet_callbacks.worker.wire import Segment, unpack

_NICENESS = 5
_BETWEEN = "\n"  # an instrument and a part of its analysis, on the board
_SECONDS_LEFT = 5.0  # less than a run takes to start again and go on with the record


class Analyst:
    """The training thread's side.

    Args:
        plan: What is analyzed.
        threads: Of the child's kernels; None analyzes on the calling thread.
        analyses: By instrument, what analyzes on the calling thread, in place of what its recipe makes.
    """

    def __init__(
        self, plan: Plan, *, threads: int | None, analyses: Mapping[str, Analysis] | None = None
    ) -> None:
        self._plan = plan
        self._states: dict[str, Mapping[str, Any]] = dict(plan.states)
        self._given_up: defaultdict[str, dict[str, str]] = defaultdict(dict)  # by instrument and part, why
        self._threads = threads
        self._done: deque[Result] = deque()
        self._recorder: Recorder | None = None
        self._child: Child | None = None
        self._has_ended_before = False
        if threads is None:
            self._recorder = Recorder(plan, analyses=analyses)
        else:
            self._start()

    @property
    def is_busy(self) -> bool:
        """Whether the next job would have to wait."""
        self._receive(wait=False)
        return self._child is not None and self._child.is_full

    @property
    def is_owed(self) -> bool:
        """Whether a result is there or on its way."""
        return bool(self._done) or (self._child is not None and bool(self._child.unanswered))

    @property
    def pid(self) -> int | None:
        """The child's process id; None without one."""
        return None if self._child is None else self._child.pid

    def stop_waiting(self) -> None:
        """Has what a child owes that is still starting done on the calling thread, for the run is over."""
        with handlers_held():
            child = self._child
            if child is not None and child.unanswered and not child.has_begun:
                child.end()
                self._child = None
                self._measure_here(child.unanswered)

    def submit(self, job: Job, around: Around = nothing_around) -> None:
        """Hands over a job; waits while too many are on the way.

        Raises:
            Exception: Where there is no child: see ``Recorder.run``.
        """
        while self.is_busy:
            self.wait()
        if self._child is not None:
            try:
                self._child.ask(job)
                return
            except OSError as error:
                self._take_over(f"there is too little shared memory for a snapshot ({error})")
        assert self._recorder is not None
        self._done.append(self._recorder.run(job, around))

    def results(self, *, wait: bool) -> list[Result]:
        """The results that came since the last call, in the order of the jobs; with ``wait`` all there will be."""
        while self._receive(wait=wait):
            pass
        with handlers_held():
            found = list(self._done)
            self._done.clear()
        return found

    def wait(self) -> None:
        """Returns when there is something to receive, or nothing to wait for; nothing is taken."""
        if self._child is not None:
            self._child.wait()

    def close(self) -> None:
        """Ends the child; jobs on the way are given up. Safe to call twice."""
        if self._child is not None:
            self._child.give_up()
            self._child = None

    def _receive(self, *, wait: bool) -> bool:
        """Takes the next result; False where none is on the way, or, without ``wait``, none is there yet."""
        if wait:
            self.wait()
        with handlers_held():
            if self._child is None:
                return False
            try:
                result: Result | None = self._child.answer(wait=False)
            except EOFError:
                self._go_on_without_it(self._child)
                return True
            if result is not None:
                self._states.update(result.states)
                self._done.append(result)
            # Nothing was there where a handler took it while this one waited.
            return result is not None or (wait and bool(self._child.unanswered))

    def _start(self) -> None:
        try:
            self._child = Child(__name__, threads=self._threads or 1, niceness=_NICENESS)
            self._child.tell(self._plan_from_here())
        except OSError as error:
            self._take_over(f"the worker cannot start ({error})")

    def _go_on_without_it(self, child: Child) -> None:
        status, self._child = child.end(), None
        if child.stuck_at is not None:
            self._leave_out(*child.stuck_at.split(_BETWEEN))
        elif child.refusal is not None or self._has_ended_before:
            if child.refusal is not None:
                self._say(child.refusal)
            self._measure_here(child.unanswered)
            return
        else:
            self._has_ended_before = True
            warnings.warn(
                f"the worker that measures has ended (exit status {status}); it is started once more. Should that end "
                "too, snapshots are measured on the training thread. None is lost",
                FnetWarning,
                stacklevel=2,
            )
        self._start()
        if self._child is None:
            self._measure_here(child.unanswered)
        else:
            for segment in child.unanswered:
                self._child.ask_again(segment)

    def _leave_out(self, instrument: str, part: str) -> None:
        """Gives up a part that did not end, with those that read the same; the second time all of the analysis.

        The snapshot is done once more, and says so.
        """
        own, seconds = self._given_up[instrument], self._plan.time_limits.get(instrument)
        reason = f"no value after {seconds} s, the `measure_timeout_s`; not tried again in this run"
        own.update(dict.fromkeys([EVERYTHING] if own else self._plan.alike(instrument, part), reason))

    def _plan_from_here(self) -> Plan:
        """The plan for another to go on with."""
        return replace(self._plan, states=self._states, given_up=self._given_up)

    def _take_over(self, reason: str) -> None:
        self._say(reason)
        while self._receive(wait=True):  # in order: what is on the way comes first
            pass
        self.close()
        self._measure_here(())

    def _say(self, reason: str) -> None:
        warnings.warn(f"snapshots are measured on the training thread: {reason}", FnetWarning, stacklevel=2)

    def _measure_here(self, jobs: Iterable[Segment]) -> None:
        if self._recorder is None:
            self._recorder = Recorder(self._plan_from_here())
        for segment in jobs:
            job: Job = unpack(segment)
            segment.close()
            try:
                self._done.append(self._recorder.run(job))
            except Exception as error:  # other ranks may be waiting for the results
                self._done.append(Result(step=job.step, error=repr(error)))


def main() -> None:
    """The child: gets the plan, then jobs."""
    recorder: Recorder | None = None
    limits: Mapping[str, float | None] = {}

    def in_time(instrument: str, part: str) -> AbstractContextManager[None]:
        return board().at(instrument + _BETWEEN + part, seconds=limits.get(instrument))

    def answer(message: Plan | Job) -> Result | None:
        nonlocal recorder, limits
        if isinstance(message, Plan):
            try:
                recorder, limits = Recorder(message, is_worker=True), message.time_limits
            except ImportError as error:
                refuse(f"in the worker {error}")
            return None
        assert recorder is not None
        board().say("")  # from here on it is waited for
        try:
            return recorder.run(message, in_time)
        except Exception as error:
            traceback.print_exc()
            return Result(step=message.step, error=repr(error))

    serve(answer, seconds_left=_SECONDS_LEFT)


if __name__ == "__main__":
    main()
