"""Whether a run can afford a snapshot."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fnet_callbacks.errors import FnetError


def as_share(value: Any) -> float | None:
    """A share of the wall time, None for no limit.

    Raises:
        FnetError: It is none.
    """
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= 1:
        raise FnetError(f"`overhead_budget={value!r}` should be a share of time above 0 and at most 1")
    return float(value)


class Budget:
    """Keeps what snapshots cost a run under a share of the wall time since its start.

    The account is cumulative: what the start cost is paid back before the next snapshot, what was not used may be
    used later. A snapshot has a part for each instrument, is measured elsewhere while the run goes on, and its cost
    comes bit by bit: until a part is settled it is in flight, and counts at no less than what another one is expected
    to cost, which is the largest of the last three of its instrument. As long as no cost of an instrument is known, one
    part of it at most is in flight. What is spent thus exceeds the share by no more than the parts in flight exceed
    what was expected of them, and the start. What the end will cost can be set aside.

    Args:
        share: Of wall time, in (0, 1].
        clock: Seconds of wall time.
    """

    def __init__(self, share: float, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.share = share
        self._clock = clock
        self._began = clock()
        self._spent = 0.0
        self._set_aside = 0.0
        self._in_flight: dict[tuple[int, str], float] = {}
        self._costs: dict[str, deque[float]] = {}

    @property
    def share_spent(self) -> float:
        """Of the wall time since the start; 0 at the start itself."""
        elapsed = self._clock() - self._began
        return self._spent / elapsed if elapsed > 0 else 0.0

    def expected(self, instrument: str) -> float | None:
        """What the instrument's next part will cost, in seconds; None as long as no cost of it is known."""
        return max(self._costs.get(instrument, ()), default=None)

    def afforded(self, due: Sequence[str]) -> list[str]:
        """Those instruments of which one more part each stays within the share, the cheapest first.

        It depends on this process's clock: where several have to agree, one decides.
        """
        to_come = sum(
            max(0.0, (self.expected(name) or 0.0) - charged) for (_, name), charged in self._in_flight.items()
        )
        left = self.share * (self._clock() - self._began) - self._spent - to_come - self._set_aside
        found = []
        for name in sorted(due, key=lambda name: self.expected(name) or 0.0):
            expected = self.expected(name)
            if expected is None and any(name == other for _, other in self._in_flight):
                continue
            if (expected or 0.0) <= left:
                left -= expected or 0.0
                found.append(name)
        return [name for name in due if name in found]

    def charge(self, seconds: float, *, part: tuple[int, str] | None = None) -> None:
        """What something cost the run: the start, or a part of a snapshot, by step and instrument, now in flight."""
        self._spent += seconds
        if part is not None:
            self._in_flight[part] = self._in_flight.get(part, 0.0) + seconds

    def set_aside(self, seconds: float) -> None:
        """What the run will have to pay at its end; the last word counts."""
        self._set_aside = seconds

    def settle(self, part: tuple[int, str], seconds: float) -> None:
        """What the rest of a part cost the run, 0 where nothing more will come; it is in flight no more."""
        self.charge(seconds, part=part)
        self._costs.setdefault(part[1], deque(maxlen=3)).append(self._in_flight.pop(part))

    def is_in_flight(self, part: tuple[int, str]) -> bool:
        """Whether more of its cost is to come."""
        return part in self._in_flight

    def all_expected(self) -> Mapping[str, float]:
        """By instrument, what its next part will cost, where that is known."""
        return {name: max(costs) for name, costs in self._costs.items()}
