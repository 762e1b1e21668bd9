"""Memory is O(N²), a large probe is never held as activations; and it does not grow with the number of steps."""

import os
import subprocess
import sys
from pathlib import Path

import memory_run
import pytest

ROOT = Path(memory_run.__file__).parents[1]


def output_of(script: str, *arguments: str) -> list[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
    }
    ended = subprocess.run(
        [sys.executable, str(ROOT / "tests" / script), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout.splitlines()


def peak_megabytes(kind: str) -> int:
    return int(output_of("memory_run.py", kind)[-1])


@pytest.mark.slow
def test_a_probe_of_ten_thousand_at_2048_neurons_adds_less_than_300_megabytes() -> None:
    # Their activations would be 80 MB in float32, and their float64 copies and products several times that.
    assert peak_megabytes("monitored") - peak_megabytes("bare") < 300


@pytest.mark.slow
def test_long_runs_take_no_more_memory_than_two_thousand_steps() -> None:
    early, late = (list(map(int, line.split())) for line in output_of("long_run.py"))
    assert len(early) == len(late) == 2  # the training process and the worker
    for before, after in zip(early, late, strict=True):
        assert after < 1.03 * before
    assert early[1] < 300 * 1024
