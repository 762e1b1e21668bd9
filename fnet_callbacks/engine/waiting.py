"""What the worker's time costs the training process."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


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
