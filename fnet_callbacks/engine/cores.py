"""Where snapshots are analyzed: beside training where a core is free, else between its steps."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from fnet_callbacks.host import Host

_CGROUPS, _OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class WorkerChoice:
    """Where snapshots are analyzed.

    Attributes:
        worker: ``"process"`` or ``"inline"``, as ``Monitor`` has it.
        n_free: Cores that training does not use; 0 where it uses all.
        reason: Why there, in words.
    """

    worker: Literal["process", "inline"]
    n_free: int
    reason: str


def choose_worker(asked: Literal["auto", "process", "inline"], host: Host) -> WorkerChoice:
    """Where snapshots are analyzed.

    A process beside training pays where a core is left for it. Where none is, it takes away more than its own time:
    the threads of a layer wait for the last of them, in every layer, as long as a third one has its core.

    Args:
        asked: What the user said; ``"auto"`` decides by the cores that are free.
        host: Says where the model is, and how many ranks and loader processes there are on this machine.
    """
    available, limit = available_cores()
    threads = 1 if host.device.type != "cpu" else min(torch.get_num_threads(), math.ceil(available))
    n_ranks, n_loaders = host.n_local_ranks, host.n_loader_workers
    used = n_ranks * (threads + n_loaders)
    n_free = max(0, math.floor(available - used))
    parts = [f"{threads} {'thread' if threads == 1 else 'threads'}"]
    parts += [f"{n_loaders} loader {'process' if n_loaders == 1 else 'processes'}"] if n_loaders else []
    reason = f"training uses {' and '.join(parts)}{f' on each of {n_ranks} ranks' if n_ranks > 1 else ''} "
    reason += f"of {available:g} {'core' if available == 1 else 'cores'} ({limit})"
    if asked != "auto":
        return WorkerChoice(asked, n_free, f"asked for; {reason}")
    return WorkerChoice("process" if n_free else "inline", n_free, reason)


def available_cores() -> tuple[float, str]:
    """Cores that this process may use, and what says so; with a quota it need not be a whole number."""
    if hasattr(os, "sched_getaffinity"):
        n, limit = float(len(os.sched_getaffinity(0))), "the affinity of the process"
    else:
        n, limit = float(os.cpu_count() or 1), "those of the machine"
    if n == os.cpu_count():
        limit = "those of the machine"
    quota = min(_quotas(), default=math.inf)
    return (quota, "the quota of its control group") if quota < n else (n, limit)


def _quotas() -> Iterator[float]:
    """Cores by the quotas of the control groups that this process is in, and of those around them."""
    with suppress(OSError, ValueError):
        for line in _OWN_CGROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            root = _CGROUPS / controllers
            own = root if ".." in path else root / path.lstrip("/")  # a group that cannot be seen from here
            for folder in (own, *own.parents):
                if folder.is_relative_to(root):
                    yield from _quota(folder)


def _quota(folder: Path) -> Iterator[float]:
    """That of one group, of the second or the first version; nothing where it has none."""
    with suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        yield int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        if quota > 0:
            yield quota / int((folder / "cpu.cfs_period_us").read_text())
