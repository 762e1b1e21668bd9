"""Random numbers and degree-preserving rewiring in place."""

import numpy as np

from fnet_callbacks.functional._kernels.base import ONE, kernel, prefetch

_AHEAD = 32  # swaps that are drawn at a time


@kernel
def draw(state, n):
    """A uniform integer in [0, n), n < 2^32, from a splitmix64 stream whose state is ``state[0]``."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    word = state[0]
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    word ^= word >> np.uint64(31)
    return np.int64(((word >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@kernel
def rewire(edges, rows, attempts, seed):
    """Double edge swaps in place: edges ab, cd become ad, cb where that keeps the graph simple.

    Of ``rows`` only the bits of j > i in the row of i are read and kept true. All that swaps read lies anywhere, so
    it is asked for ahead; what an earlier swap moves elsewhere meanwhile is asked for in vain.
    """
    n_edges = len(edges)
    if n_edges < 2:
        return
    state = np.array([seed], np.uint64)
    drawn = np.empty((_AHEAD, 2), np.int64)
    for done in range(0, attempts, _AHEAD):
        drawn = drawn[: attempts - done]
        for k in range(len(drawn)):
            e, f = draw(state, n_edges), draw(state, 2 * n_edges)
            drawn[k, 0], drawn[k, 1] = e, f
            prefetch(edges, 2 * e)
            prefetch(edges, f)
        for k in range(len(drawn)):
            a, b, c, d = _ends(edges, drawn[k])
            prefetch(rows, _place(rows, a, b))
            prefetch(rows, _place(rows, c, d))
            prefetch(rows, _place(rows, a, d))
            prefetch(rows, _place(rows, c, b))
        for k in range(len(drawn)):
            a, b, c, d = _ends(edges, drawn[k])
            if a == d or b == c or _joined(rows, a, d) or _joined(rows, c, b):
                continue
            _flip(rows, a, b)
            _flip(rows, c, d)
            _flip(rows, a, d)
            _flip(rows, c, b)
            e, f, side = drawn[k, 0], drawn[k, 1] >> 1, drawn[k, 1] & 1
            edges[e, 1] = d
            edges[f, side] = c
            edges[f, 1 - side] = b


@kernel
def _ends(edges, drawn):
    """The ends of the two edges; the last bit of the second number says which way round the second edge is."""
    e, f, side = drawn[0], drawn[1] >> 1, drawn[1] & 1
    return (
        np.int64(edges[e, 0]),
        np.int64(edges[e, 1]),
        np.int64(edges[f, side]),
        np.int64(edges[f, 1 - side]),
    )


@kernel
def _place(rows, i, j):
    """Which word of the upper triangle holds a pair."""
    return min(i, j) * rows.shape[1] + (max(i, j) >> 6)


@kernel
def _joined(rows, i, j):
    low, high = min(i, j), max(i, j)
    return (rows[low, high >> 6] >> np.uint64(high & 63)) & ONE


@kernel
def _flip(rows, i, j):
    low, high = min(i, j), max(i, j)
    rows[low, high >> 6] ^= ONE << np.uint64(high & 63)
