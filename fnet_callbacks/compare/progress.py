"""Bars that say how far a comparison is: for who asked for them, and only where somebody looks."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator
from contextvars import ContextVar
from typing import TypeVar

from tqdm.auto import tqdm

_T = TypeVar("_T")
_is_shown: ContextVar[bool] = ContextVar("is_shown", default=False)


@contextlib.contextmanager
def progress_shown() -> Iterator[None]:
    """Inside it, bars are shown on the error stream where that is a terminal."""
    token = _is_shown.set(True)
    try:
        yield
    finally:
        _is_shown.reset(token)


def tracked(items: Iterable[_T], what: str, *, total: int | None = None) -> Iterable[_T]:
    """The same items, with a bar that counts them; it goes when they are through.

    Args:
        items: What is gone through.
        what: Stands before the bar.
        total: How many they are, where they do not say themselves.
    """
    if not _is_shown.get():
        return items
    total = len(items) if total is None and isinstance(items, Collection) else total
    return tqdm(items, what, total, leave=False, disable=None, dynamic_ncols=True)
