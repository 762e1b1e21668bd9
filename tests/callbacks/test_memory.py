"""Memory is O(N²): a large probe is never held as activations."""

import os
import subprocess
import sys
from pathlib import Path

import memory_run
import pytest


def peak_megabytes(kind: str) -> int:
    root = Path(memory_run.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, memory_run.__file__, kind],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return int(ended.stdout.split()[-1])


@pytest.mark.slow
def test_a_probe_of_ten_thousand_at_2048_neurons_adds_less_than_300_megabytes() -> None:
    # Their activations would be 80 MB in float32, and their float64 copies and products several times that.
    assert peak_megabytes("monitored") - peak_megabytes("bare") < 300
