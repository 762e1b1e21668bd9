"""Random streams of their own for what is drawn side by side, and the threads that draw it."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numba
import numpy as np

from fnet_callbacks.errors import FnetError

_T = TypeVar("_T")
_R = TypeVar("_R")


def in_threads(function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """Map over independent items, as many at once as Numba is told to use threads.

    Plain threads over kernels that release the GIL, started for the call and gone after it: Numba's own
    threading layers survive neither a fork nor a second thread.
    """
    items = list(items)
    workers = min(len(items), numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    if workers < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, items))


def streams(seed: int, count: int) -> np.ndarray:
    """Seeds of independent random streams; the i-th depends on ``seed`` and i alone."""
    if seed < 0:
        raise FnetError(f"seed must be 0 or more, got {seed}")
    if count < 0:
        raise FnetError(f"nulls must be 0 or more, got {count}")
    return np.random.SeedSequence(seed).generate_state(count, np.uint64)
