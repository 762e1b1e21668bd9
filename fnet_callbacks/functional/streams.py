"""Random streams of their own for what is drawn side by side, and the threads that draw it."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from fnet_callbacks.checks import checked_integer, checked_seed

_T = TypeVar("_T")
_R = TypeVar("_R")


def in_threads(function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """Map over independent items, as many at once as Numba is told to use threads.

    Plain threads over kernels that release the GIL, started for the call and gone after it: Numba's own
    threading layers survive neither a fork nor a second thread.
    """
    import numba  # takes a third of a second, and what is drawn needs it anyway

    items = list(items)
    workers = min(len(items), numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    if workers < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, items))


def streams(seed: int, count: int) -> np.ndarray:
    """Seeds of independent random streams; the i-th depends on ``seed`` and i alone."""
    count = checked_integer("nulls", count, at_least=0)
    return np.random.SeedSequence(checked_seed(seed)).generate_state(count, np.uint64)
