"""What of a worker's time a run pays for, because its own threads waited meanwhile."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fnet_callbacks.engine.waiting import Waiting


def threads(folder, **nanoseconds):
    """Writes how long each thread has waited, as Linux does."""
    for thread in folder.iterdir():
        shutil.rmtree(thread)
    for thread, waited in nanoseconds.items():
        (folder / thread).mkdir()
        (folder / thread / "schedstat").write_text(f"123456 {waited} 7\n")


def test_what_the_threads_waited_for_is_paid_and_no_more_than_the_worker_took(tmp_path):
    threads(tmp_path, a=0, b=5_000_000_000)
    waiting = Waiting(tmp_path)
    threads(tmp_path, a=200_000_000, b=5_300_000_000)
    assert waiting.share(2.0) == pytest.approx(0.25)
    assert waiting.share(2.0) == 0.0
    threads(tmp_path, a=9_200_000_000, b=5_300_000_000)
    assert waiting.share(2.0) == 1.0


def test_threads_come_and_go(tmp_path):
    threads(tmp_path, a=3_000_000_000, b=10**12)
    waiting = Waiting(tmp_path)
    threads(tmp_path, a=3_000_000_000, c=500_000_000)
    assert waiting.share(1.0) == pytest.approx(0.5)


@pytest.mark.parametrize("text", ["", "1", "1 x 2"])
def test_where_the_system_does_not_count_all_is_paid(tmp_path, text):
    waiting = Waiting(tmp_path / "nowhere")
    assert waiting.share(1.0) == 1.0
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "schedstat").write_text(text)
    waiting = Waiting(tmp_path)
    assert waiting.share(1.0) == 1.0


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the system does not count")
def test_on_this_machine_a_crowded_core_is_waited_for():
    cores = os.sched_getaffinity(0)
    one = {min(cores)}
    os.sched_setaffinity(0, one)
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])  # on the same core
    try:
        waiting, began, own = Waiting(), time.perf_counter(), time.thread_time()
        while time.perf_counter() - began < 1.0:
            pass
        lost = time.perf_counter() - began - (time.thread_time() - own)
        assert lost > 0.1
        assert waiting.share(4.0) == pytest.approx(min(1.0, lost / 4.0), abs=0.1)
    finally:
        other.kill()
        other.wait()
        os.sched_setaffinity(0, cores)
