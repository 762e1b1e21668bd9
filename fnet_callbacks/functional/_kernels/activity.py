"""What is counted in activations, one row a sample."""

import numpy as np

from fnet_callbacks.functional._kernels.base import kernel

_BLOCK = 64  # units whose counts stay in the first cache


@kernel
def centred(activations):
    """Activations less their mean in float64, the mean, what is left of the sum, and the largest |x| of each unit.

    A unit with a value that is not finite is all 0, its mean NaN.
    """
    n_samples, n_units = activations.shape
    mean, peak, rest = np.zeros(n_units), np.zeros(n_units), np.zeros(n_units)
    for s in range(n_samples):
        row = activations[s]
        for i in range(n_units):
            x = np.float64(row[i])
            mean[i] += x
            peak[i] = abs(x) if abs(x) > peak[i] else peak[i]
    for i in range(n_units):
        mean[i] /= n_samples
        if not abs(mean[i]) < np.inf:
            mean[i] = np.nan
    values = np.empty((n_samples, n_units))
    for s in range(n_samples):
        row, out = activations[s], values[s]
        for i in range(n_units):
            x = np.float64(row[i]) - mean[i]
            out[i] = x if x == x else 0.0
            rest[i] += out[i]
    return values, mean, rest, peak


@kernel
def active_counts(activations, labels, n_classes):
    """How many samples of each class have each unit above zero, ``[C, N]``, and how many there are of each."""
    counts = np.zeros((n_classes, activations.shape[1]), np.int64)
    sizes = np.zeros(n_classes, np.int64)
    for s in range(len(activations)):
        row, own = activations[s], counts[labels[s]]
        sizes[labels[s]] += 1
        for i in range(len(row)):
            own[i] += row[i] > 0
    return counts, sizes


@kernel
def histograms(activations, bins):
    """Values of each unit in bins of equal width from its smallest to its largest.

    Nothing is counted for a unit with one value only or with one that is not finite.
    """
    n_samples, n_units = activations.shape
    low, high = np.full(n_units, np.inf), np.full(n_units, -np.inf)
    poison = np.zeros(n_units)  # NaN once a value was not finite
    for s in range(n_samples):
        row = activations[s]
        for i in range(n_units):
            x = np.float64(row[i])
            low[i] = x if x < low[i] else low[i]
            high[i] = x if x > high[i] else high[i]
            poison[i] += x * 0
    width = high - low
    counts = np.zeros((n_units, bins), np.int32)
    flat = counts.ravel()
    place = np.empty(_BLOCK, np.int64)
    last = np.int64(bins - 1)
    for start in range(0, n_units, _BLOCK):
        n_block = min(_BLOCK, n_units - start)
        base, breadth = low[start : start + n_block], width[start : start + n_block]
        for s in range(n_samples):
            row = activations[s, start : start + n_block]
            for i in range(n_block):
                where = np.int64((np.float64(row[i]) - base[i]) / breadth[i] * bins)
                # The largest value belongs to the last bin. What is no number, or overflows, may give any place.
                place[i] = (start + i) * bins + max(min(where, last), np.int64(0))
            for i in range(n_block):
                flat[np.uint64(place[i])] += 1
    for i in range(n_units):
        if not (poison[i] == 0 and width[i] > 0):
            counts[i] = 0
    return counts
