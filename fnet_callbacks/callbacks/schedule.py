"""When a snapshot is taken: the steps that ask for one, and whether the run can afford it."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from fnet_callbacks.errors import FnetError

_SHORTEST_WINDOW = 0.1  # seconds; ten of the ticks that the kernel counts processor time in


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
    share by no more than the snapshots in flight exceed what was expected of them, and the start.

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
        """Whether one more snapshot, and those in flight, would stay within the share.

        It depends on this process's clock: where several have to agree, one decides.
        """
        expected = self.expected
        if expected is None and self._in_flight:
            return False
        expected = expected or 0.0
        to_come = sum(max(0.0, expected - charged) for charged in self._in_flight.values())
        return self._spent + to_come + expected <= self.share * (self._clock() - self._began)

    def charge(self, seconds: float, *, snapshot: int | None = None) -> None:
        """What something cost the run: a part of a snapshot, by its step, which is then in flight, or the start."""
        self._spent += seconds
        if snapshot is not None:
            self._in_flight[snapshot] = self._in_flight.get(snapshot, 0.0) + seconds

    def settle(self, snapshot: int, seconds: float) -> None:
        """What the last part of a snapshot cost the run, 0 where nothing more will come; it is in flight no more."""
        self.charge(seconds, snapshot=snapshot)
        self._costs.append(self._in_flight.pop(snapshot))


def displaced(cpu_seconds: float, idle_cores: float) -> float:
    """The part of a worker's CPU time that the run pays for, because it could have used it.

    Args:
        cpu_seconds: What the worker took.
        idle_cores: Cores that would have been idle without it; see ``IdleCores``.

    Returns:
        Seconds: all where no core was idle, none where one was, linear in between.
    """
    return cpu_seconds * (1.0 - min(1.0, max(0.0, idle_cores)))


class IdleCores:
    """How many of the cores that this process may use would have been idle without its worker.

    Asked for the time since it was last asked, it takes what is left of each limit by all who share it, and of those
    the least: the processors of this process's affinity, with the whole host's work on them (Linux); the CPU quotas
    of its control groups, with the work of all in the group, other workers among it (Linux, versions 1 and 2); and
    any of them beside the CPU time of this process and its worker alone, which is all there is elsewhere.

    What is left is then divided by the share of the time in which the worker rested. To add the worker's own time
    instead would take what it displaced for idle: a worker that halves the machine would seem to cost nothing. The
    division is exact where one core was idle or none, assuming that the load is steady and that the worker keeps one
    core busy; a worker that never rests is taken to displace what it uses until it does.

    Args:
        root: Where ``proc`` and ``sys`` are.
        clock: Seconds of wall time.
        own: Seconds of CPU time of this process.
    """

    def __init__(
        self,
        *,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.perf_counter,
        own: Callable[[], float] = time.process_time,
    ) -> None:
        self._clock, self._own = clock, own
        cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        on_cpus = _Limit(len(cpus), partial(_busy_on, cpus, root / "proc/stat"))
        self._limits = [on_cpus, *_quotas(root)]
        self._cores = min(limit.cores for limit in self._limits)
        self._worker = 0.0
        self._idle = 0.0
        self._before = self._read()

    def since_last(self, worker_seconds: float) -> float:
        """The idle cores since this was last asked.

        A time too short for the kernel's clock is added to the next, and the last answer given again.

        Args:
            worker_seconds: CPU time that the worker took meanwhile. Asked when results arrive, once for all that
                arrive together, it is the sum of theirs.

        Returns:
            In [0, cores]; 0 before the first answer. Never raises: what cannot be read is left out.

        Cost: reads one small file and one for each quota.
        """
        self._worker += worker_seconds
        now = self._read()
        wall, own, *busy = (after - before for after, before in zip(now, self._before, strict=True))
        if wall >= _SHORTEST_WINDOW:
            left = [self._cores - (own + self._worker) / wall]
            left += [limit.cores - by_all / wall for limit, by_all in zip(self._limits, busy, strict=True)]
            rested = max(0.1, 1 - self._worker / wall)  # less would make much of the kernel's rounding
            self._idle = min(self._cores, max(0.0, min(left)) / rested)
            self._before, self._worker = now, 0.0
        return self._idle

    def _read(self) -> list[float]:
        readings = [self._clock(), self._own()]
        for limit in self._limits:
            try:
                readings.append(limit.busy())
            except (OSError, ValueError, IndexError):
                readings.append(0.0)  # then this process's own CPU time is what counts
        return readings


@dataclass(frozen=True, slots=True)
class _Limit:
    """Cores that several share, and the seconds of CPU time that all of them have used."""

    cores: float
    busy: Callable[[], float]


def _quotas(root: Path) -> Iterator[_Limit]:
    """The CPU quotas of this process's control groups and of those above; a container may see the topmost alone."""
    mount = root / "sys/fs/cgroup"
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            path = PurePosixPath(group.lstrip("/"))
            for place in (path, *path.parents):
                with contextlib.suppress(OSError, ValueError):  # no such group, or no quota there ("max")
                    if not controllers:
                        quota, period = map(int, (mount / place / "cpu.max").read_text().split())
                        yield _Limit(quota / period, partial(_busy_in, mount / place / "cpu.stat", 1, 1e-6))
                    elif "cpu" in controllers.split(","):
                        quota = int((mount / "cpu" / place / "cpu.cfs_quota_us").read_text())
                        period = int((mount / "cpu" / place / "cpu.cfs_period_us").read_text())
                        if quota > 0:
                            usage = mount / "cpuacct" / place / "cpuacct.usage"
                            yield _Limit(quota / period, partial(_busy_in, usage, 0, 1e-9))


def _busy_in(usage: Path, word: int, unit: float) -> float:
    return int(usage.read_text().split()[word]) * unit


def _busy_on(cpus: Collection[int], stat: Path) -> float:
    names = {f"cpu{cpu}" for cpu in cpus}
    with stat.open() as file:
        rows = [row.split() for row in itertools.takewhile(lambda row: row.startswith("cpu"), file)]
    mine = [row for row in rows if row[0] in names]  # none where a container numbers them in another way
    # user, nice, system, irq, softirq, steal; not idle, iowait, and guests, which user has already
    return sum(int(row[i]) for row in mine for i in (1, 2, 3, 6, 7, 8)) / os.sysconf("SC_CLK_TCK")
