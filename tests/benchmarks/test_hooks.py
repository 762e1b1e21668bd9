"""The benchmark of the hooks: what it counts, and the whole program on a few steps."""

import time
from typing import Any

import lightning as L
import pytest

from benchmarks.hooks import LOGGERS, Clocked, rows_of, table


def test_a_clock_sums_what_the_hooks_of_a_callback_take() -> None:
    class Waiting(L.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            time.sleep(0.01)

    callback: Any = Waiting()
    clocked = Clocked(callback)
    callback.on_train_batch_start(None, None, None, 0)
    assert clocked.ns < 5e6
    for _ in range(2):
        callback.on_train_batch_end(None, None, None, None, 0)
    assert clocked.ns >= 20e6


@pytest.mark.slow
@pytest.mark.parametrize("logger", list(LOGGERS))
def test_steps_at_which_a_snapshot_is_due_are_left_out(logger: str) -> None:
    rows = rows_of(logger, steps=20, every=5)
    assert sum(row.steps for row in rows) == 20 - 1 - 4  # the first batch, and the steps 5, 10, 15 and 20
    assert len(table(rows).splitlines()) == 2 + len(rows)
    assert all(row.clock_us > 0 for row in rows)
