"""Where snapshots are analyzed, by the cores that training leaves."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fnet_callbacks.engine import cores
from fnet_callbacks.host import Host


class Loop(Host):
    """A plain loop; what else it has is said."""

    module = nn.Linear(1, 1)
    device: Any = None
    n_local_ranks: Any = 1
    n_loader_workers: Any = 0

    def __init__(self, device: str = "cpu", *, ranks: int = 1, loaders: int = 0) -> None:
        self.device, self.n_local_ranks, self.n_loader_workers = torch.device(device), ranks, loaders


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A machine of so many cores, of which this process may use some, with torch's threads."""

    def make(n: int, *, usable: int | None = None, threads: int = 1) -> Path:
        usable = n if usable is None else usable
        monkeypatch.setattr("os.cpu_count", lambda: n)
        monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(usable)), raising=False)
        monkeypatch.setattr("torch.get_num_threads", lambda: threads)
        monkeypatch.setattr(cores, "_CGROUPS", tmp_path / "cgroup")
        monkeypatch.setattr(cores, "_OWN_CGROUPS", tmp_path / "own")
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("n", "usable", "threads", "loop", "worker", "n_free"),
    [
        (2, 2, 2, Loop(), "inline", 0),
        (2, 2, 1, Loop(), "process", 1),
        (4, 4, 4, Loop(), "inline", 0),
        (8, 8, 4, Loop(), "process", 4),
        (8, 1, 1, Loop(), "inline", 0),
        (8, 1, 8, Loop(), "inline", 0),
        (4, 4, 64, Loop(), "inline", 0),  # more threads than the machine has cores
        (8, 8, 4, Loop(ranks=2), "inline", 0),
        (8, 8, 4, Loop(loaders=3), "process", 1),
        (8, 8, 4, Loop(loaders=4), "inline", 0),
        (2, 2, 2, Loop("cuda"), "process", 1),
        (1, 1, 1, Loop("cuda"), "inline", 0),
        (4, 4, 4, Loop("cuda", ranks=4), "inline", 0),
        (16, 16, 8, Loop("cuda", ranks=4, loaders=2), "process", 4),
        (2, 2, 2, Loop("mps"), "process", 1),
    ],
)
def test_a_process_is_taken_where_training_leaves_a_core(
    machine: Any, n: int, usable: int, threads: int, loop: Loop, worker: str, n_free: int
) -> None:
    machine(n, usable=usable, threads=threads)
    found = cores.choose_worker("auto", loop)
    assert (found.worker, found.n_free) == (worker, n_free)
    assert f"of {usable} core" in found.reason
    assert ("affinity" in found.reason) == (usable < n)


@pytest.mark.parametrize("asked", ["process", "inline"])
def test_what_is_asked_for_is_done_and_the_reason_says_what_it_meets(machine: Any, asked: Any) -> None:
    machine(2, threads=2)
    found = cores.choose_worker(asked, Loop())
    assert (found.worker, found.n_free) == (asked, 0)
    assert found.reason == "asked for; training uses 2 threads of 2 cores (those of the machine)"


@pytest.mark.parametrize(
    ("own", "files", "available"),
    [
        ("0::/job/step", {"job/step/cpu.max": "50000 100000"}, 0.5),
        ("0::/job/step", {"job/step/cpu.max": "max 100000", "job/cpu.max": "300000 100000"}, 3),
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("4:cpu,cpuacct:/job", {"cpu,cpuacct/job/cpu.cfs_quota_us": "-1"}, 8),
        ("4:cpu:/job", {"cpu/job/cpu.cfs_quota_us": "200000", "cpu/job/cpu.cfs_period_us": "100000"}, 2),
        ("7:memory:/job\n0::/", {"memory/job/cpu.max": "1 100000"}, 8),
        ("nonsense", {}, 8),
        ("0::/../..", {"../cpu.max": "1 100000"}, 8),
    ],
)
def test_a_quota_of_a_control_group_counts(
    machine: Any, own: str, files: dict[str, str], available: float
) -> None:
    folder = machine(8, threads=8)
    (folder / "own").write_text(own + "\n")
    for name, text in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    found, limit = cores.available_cores()
    assert found == available
    assert ("quota" in limit) == (available < 8)
    if available < 8:
        assert cores.choose_worker("auto", Loop()).worker == "inline"
