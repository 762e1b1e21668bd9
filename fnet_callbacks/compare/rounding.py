"""Which numbers over runs are the same but for rounding."""

from __future__ import annotations

import numpy as np

ROUNDING = 1e-12  # of what sums of the same numbers in another order may differ, relative to the largest


def varies(values: np.ndarray) -> np.ndarray:
    """Whether finite values differ along the first axis by more than rounding; not where there are none."""
    if not len(values):
        return np.zeros(values.shape[1:], bool)
    largest = np.abs(values).max(axis=0)
    # Halves, for the difference of two large numbers may overflow.
    return values.max(axis=0) / 2 - values.min(axis=0) / 2 > ROUNDING * largest / 2
