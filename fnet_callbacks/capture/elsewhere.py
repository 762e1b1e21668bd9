"""Work on a data set in a process of its own, as the loader's own workers do it."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import random
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import multiprocessing
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from fnet_callbacks.capture.trees import detached_copy


def can_fork(loader: DataLoader) -> bool:
    """Whether the loader reads its items in workers that are forked from this process."""
    given: Any = loader.multiprocessing_context
    # Asking without `allow_none` would settle the method for the whole process.
    method = (
        given
        or multiprocessing.get_start_method(allow_none=True)
        or multiprocessing.get_all_start_methods()[0]
    )
    return (
        loader.num_workers > 0
        and (method if isinstance(method, str) else method.get_start_method()) == "fork"
    )


def in_worker(
    loader: DataLoader, work: Callable[[], Iterable[Any]], *, files: Iterable[io.IOBase] = ()
) -> list[Any]:
    """What ``work`` yields in a worker of the loader, which ends then: here nothing of it has happened.

    The worker is forked, has the loader's ``worker_init_fn``, and the global random streams as they are here.

    Args:
        loader: One that `can_fork`.
        work: Yields what a worker can send.
        files: Open ones that the worker reads from too; their places, which processes share, are kept.

    Raises:
        Exception: What ``work`` raised, or the worker could not.
    """
    own = DataLoader(
        _Work(work),
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=1,
        worker_init_fn=_as_for(loader),
        multiprocessing_context="fork",
        timeout=loader.timeout,
        generator=torch.Generator(),
    )
    with _places_kept(files), warnings.catch_warnings():
        # Python 3.12 warns of a fork beside threads, as of those of the loader itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        with _worker_of(own) as parts:
            return [detached_copy(part) for part in parts]  # memory that processes share has a limit


@contextlib.contextmanager
def _worker_of(loader: DataLoader) -> Iterator[Iterator[Any]]:
    """The parts that the worker of a loader sends; it ends with the block, also where that fails."""
    collects = gc.isenabled()
    gc.disable()  # in the worker from its first moment
    try:
        parts: Any = iter(loader)
    finally:
        if collects:
            gc.enable()
    try:
        yield parts
    finally:
        parts._shutdown_workers()  # else whenever the iterator is collected, with what it raised


class _Work(IterableDataset):
    """The work as a data set."""

    def __init__(self, work: Callable[[], Iterable[Any]]) -> None:
        self._work = work
        self._streams = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002

    def __iter__(self) -> Iterator[Any]:
        of_torch, of_numpy, of_python = self._streams
        torch.set_rng_state(of_torch)
        np.random.set_state(of_numpy)  # noqa: NPY002
        random.setstate(of_python)
        yield from self._work()


def _as_it_is(part: Any) -> Any:
    return part


def _as_for(loader: DataLoader) -> Callable[[int], None]:
    """What makes a worker one of the loader's."""

    def begin(worker_id: int) -> None:
        gc.freeze()  # what stands here already is not this process's to collect
        gc.enable()
        object.__setattr__(get_worker_info(), "dataset", loader.dataset)  # which may not be set otherwise
        if loader.worker_init_fn is not None:
            loader.worker_init_fn(worker_id)

    return begin


@contextlib.contextmanager
def _places_kept(files: Iterable[io.IOBase]) -> Iterator[None]:
    """Keeps where the system stands in each file; what Python has read ahead of it stays true."""
    places = []
    for file in files:
        with contextlib.suppress(OSError, ValueError):  # one in memory, or a pipe
            places.append((file.fileno(), os.lseek(file.fileno(), 0, os.SEEK_CUR)))
    try:
        yield
    finally:
        for descriptor, place in places:
            os.lseek(descriptor, place, os.SEEK_SET)
