"""The steps at which snapshots are taken."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Schedule:
    """The steps or epochs that ask for a snapshot.

    Args:
        every_n_steps: The multiples of an integer; ``"log"`` for ten steps a decade, ``10^(k/10)`` rounded, each once.
        every_n_epochs: Epochs between snapshots, in place of steps.
        multiple: Only each so many-th of these.

    Example:
        >>> steps = [Schedule("log").next_after(0)]
        >>> while steps[-1] < 25:
        ...     steps.append(Schedule("log").next_after(steps[-1]))
        >>> steps
        [1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25]
        >>> Schedule("log", multiple=10).next_after(1)
        10
    """

    every_n_steps: int | Literal["log"] | None = None
    every_n_epochs: int | None = None
    multiple: int = 1

    def asks_at(self, step: int) -> bool:
        """Whether this step asks for a snapshot; step 0 does not, it has one anyway. Cost: O(1)."""
        n = self.every_n_steps
        if n is None or step <= 0:
            return False
        return self.next_after(step - 1) == step if n == "log" else step % (n * self.multiple) == 0

    def asks_after_epoch(self, epoch: int) -> bool:
        """Whether the end of an epoch, counted from 1, asks for a snapshot."""
        return self.every_n_epochs is not None and epoch % (self.every_n_epochs * self.multiple) == 0

    def next_after(self, step: int) -> float:
        """The first step after ``step``, at least 0, that asks for a snapshot; infinite for epochs. Cost: O(1)."""
        n = self.every_n_steps
        if n is None:
            return math.inf
        if n != "log":
            return (step // (n * self.multiple) + 1) * n * self.multiple
        k = math.floor(10 * math.log10(max(1, step)))
        k += -k % self.multiple
        return next(
            later for j in itertools.count(k, self.multiple) if (later := round(10 ** (j / 10))) > step
        )
