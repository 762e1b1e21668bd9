"""Runs ended by SIGTERM and SIGINT at random moments lose no snapshot that had finished, and leave no process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import killed_runs
import pytest
from cells import EVERY_CELL

RUNS = 50 if EVERY_CELL else 4


@pytest.mark.slow
@pytest.mark.timeout(60 + 30 * RUNS)
def test_whatever_the_moment_nothing_that_finished_is_lost(
    record_property: Callable[[str, object], None],
) -> None:
    tests = Path(killed_runs.__file__).parent
    path = os.pathsep.join([str(tests.parent), str(tests)])
    ended = subprocess.run(
        [sys.executable, killed_runs.__file__, str(RUNS)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    total = json.loads(ended.stdout.splitlines()[-1])
    record_property(
        "told",
        f"{RUNS} runs killed at random moments: {total['expected']} snapshots expected, {total['found']} found, "
        f"{total['lost']} lost",
    )
    assert total["lost"] == total["orphans"] == total["did not end"] == 0
    assert total["expected"] == total["found"] > 5 * RUNS
