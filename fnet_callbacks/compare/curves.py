"""Curves of single runs, and several of them over common places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Curve:
    """A quantity of one run.

    Attributes:
        x: ``[T]``, ascending.
        y: ``[T]``; NaN where there is none.
        gaps: Places between two values that are not to be joined.
    """

    x: np.ndarray
    y: np.ndarray
    gaps: tuple[float, ...] = ()


def aligned(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Curves over the places at which any of them has a value, ``[T]``, and their values there, ``[R, T]``.

    Between two of its own places a curve is interpolated, as a line through them would show it; it is NaN before the
    first, after the last, and between two that are not to be joined.
    """
    known = [np.isfinite(curve.y) for curve in curves]
    own = [curve.x[finite] for curve, finite in zip(curves, known, strict=True)]
    within = [
        np.array([gap for gap in curve.gaps if len(x) and x[0] < gap < x[-1]], float)
        for curve, x in zip(curves, own, strict=True)
    ]
    x = np.unique(np.concatenate([*own, *(gaps for gaps in within if len(gaps))])) if curves else np.empty(0)
    values = np.full((len(curves), len(x)), np.nan)
    for row, curve, finite, places, gaps in zip(values, curves, known, own, within, strict=True):
        if len(places):
            row[:] = np.interp(x, places, curve.y[finite], left=np.nan, right=np.nan)
        for after in np.searchsorted(places, gaps):
            row[(x > places[after - 1]) & (x < places[after])] = np.nan
    return x, values
