"""When a snapshot is taken: the steps that ask for one, and whether the run can afford it."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fnet_callbacks.errors import FnetError


@dataclass(frozen=True, slots=True)
class Schedule:
    """The steps that ask for a snapshot, from 1 on.

    Args:
        every_n_steps: The multiples of an integer; ``"log"`` for ten steps a decade, ``10^(k/10)`` rounded, each once.

    Raises:
        FnetError: ``every_n_steps`` is something else.

    Example:
        >>> steps = [Schedule("log").next_after(0)]
        >>> while steps[-1] < 25:
        ...     steps.append(Schedule("log").next_after(steps[-1]))
        >>> steps
        [1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25]
    """

    every_n_steps: int | Literal["log"]

    def __post_init__(self) -> None:
        n = self.every_n_steps
        if n != "log" and (not isinstance(n, int) or isinstance(n, bool) or n < 1):
            raise FnetError(f"`every_n_steps={n!r}` should be an integer of at least 1, or 'log'")

    def asks_at(self, step: int) -> bool:
        """Whether this step asks for a snapshot; step 0 does not, it has one anyway. Cost: O(1)."""
        return step > 0 and self.next_after(step - 1) == step

    def next_after(self, step: int) -> int:
        """The first step after ``step``, at least 0, that asks for a snapshot. Cost: O(1)."""
        if self.every_n_steps != "log":
            return (step // self.every_n_steps + 1) * self.every_n_steps
        k = math.floor(10 * math.log10(max(1, step)))
        return next(later for j in itertools.count(k) if (later := round(10 ** (j / 10))) > step)


class Budget:
    """Keeps what snapshots cost a run under a share of the wall time since its start.

    The account is cumulative: what the start cost is paid back before the next snapshot, what was not used may be
    used later. A snapshot is measured elsewhere while the run goes on, so its cost comes in parts: until it is
    settled it is in flight, and counts at no less than what another one is expected to cost, which is the largest
    of the last three. As long as no cost is known, one snapshot at most is in flight. What is spent thus exceeds the
    share by no more than the snapshots in flight exceed what was expected of them, and the start. What the end will
    cost can be set aside.

    Args:
        share: Of wall time, in (0, 1].
        clock: Seconds of wall time.

    Raises:
        FnetError: ``share``, known to the user as ``overhead_budget``, is out of range.
    """

    def __init__(self, share: float, *, clock: Callable[[], float] = time.perf_counter) -> None:
        if not isinstance(share, (int, float)) or isinstance(share, bool) or not 0 < share <= 1:
            raise FnetError(f"`overhead_budget={share!r}` should be a share of time above 0 and at most 1")
        self.share = share
        self._clock = clock
        self.start()

    def start(self) -> None:
        """A run begins: nothing is spent, no cost is known."""
        self._began = self._clock()
        self._spent = 0.0
        self._set_aside = 0.0
        self._in_flight: dict[int, float] = {}
        self._costs: deque[float] = deque(maxlen=3)

    @property
    def share_spent(self) -> float:
        """Of the wall time since the start; 0 at the start itself."""
        elapsed = self._clock() - self._began
        return self._spent / elapsed if elapsed > 0 else 0.0

    @property
    def expected(self) -> float | None:
        """What the next snapshot will cost, in seconds; None as long as no cost is known."""
        return max(self._costs, default=None)

    def affords(self) -> bool:
        """Whether one more snapshot, those in flight and what is set aside would stay within the share.

        It depends on this process's clock: where several have to agree, one decides.
        """
        expected = self.expected
        if expected is None and self._in_flight:
            return False
        expected = expected or 0.0
        to_come = sum(max(0.0, expected - charged) for charged in self._in_flight.values())
        spent = self._spent + to_come + expected + self._set_aside
        return spent <= self.share * (self._clock() - self._began)

    def charge(self, seconds: float, *, snapshot: int | None = None) -> None:
        """What something cost the run: a part of a snapshot, by its step, which is then in flight, or the start."""
        self._spent += seconds
        if snapshot is not None:
            self._in_flight[snapshot] = self._in_flight.get(snapshot, 0.0) + seconds

    def set_aside(self, seconds: float) -> None:
        """What the run will have to pay at its end; the last word counts."""
        self._set_aside = seconds

    def settle(self, snapshot: int, seconds: float) -> None:
        """What the last part of a snapshot cost the run, 0 where nothing more will come; it is in flight no more."""
        self.charge(seconds, snapshot=snapshot)
        self._costs.append(self._in_flight.pop(snapshot))


class Waiting:
    """How much of its worker's CPU time a process pays for, because its own threads waited for a core meanwhile.

    Linux counts of each thread how long it was ready to run and had no processor. As long as a core is idle that is
    next to nothing, and the worker costs nothing; where training uses all cores, or a quota, its threads wait as long
    as the worker runs. That others make them wait too is not told apart, but a worker is never charged with more than
    it used. Where the system does not count, it is charged with all.

    Args:
        tasks: Where the threads of this process are told.
    """

    def __init__(self, tasks: Path = Path("/proc/self/task")) -> None:
        self._tasks = tasks
        self._before = self._read()

    def share(self, cpu_seconds: float) -> float:
        """The share of what the worker took since this was last asked that the process waited for, in [0, 1].

        Args:
            cpu_seconds: CPU time that the worker took meanwhile.

        Returns:
            1 where nothing is known. Never raises.

        Cost: reads a small file for each thread.
        """
        before, self._before = self._before, self._read()
        if not before or not self._before or cpu_seconds <= 0:
            return 1.0
        waited = sum(seconds - before.get(thread, 0.0) for thread, seconds in self._before.items())
        return min(1.0, max(0.0, waited / cpu_seconds))

    def _read(self) -> dict[str, float]:
        """Seconds by thread; threads that end are left out."""
        found: dict[str, float] = {}
        with contextlib.suppress(OSError):
            for task in os.listdir(self._tasks):
                with contextlib.suppress(OSError, ValueError, IndexError):
                    found[task] = int((self._tasks / task / "schedstat").read_text().split()[1]) / 1e9
        return found
