"""Random numbers and degree-preserving rewiring in place."""

import numpy as np

from fnet_callbacks.functional._kernels.base import ONE, kernel, prefetch

_AHEAD = 32  # swaps that are drawn at a time
_NEAR = 2**15  # words of rows that the cache holds
_SIX, _LAST_SIX = np.uint64(6), np.uint64(63)  # unsigned: negative places are not looked for


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
    it is asked for ahead, rows where there are many; what an earlier swap moves elsewhere meanwhile is asked for in
    vain.
    """
    n_edges = len(edges)
    if n_edges < 2:
        return
    ends = edges.ravel()  # of edge e at 2 e and 2 e + 1
    state = np.array([seed], np.uint64)
    drawn = np.empty((_AHEAD, 2), np.uint64)  # an end of either edge, the first end of the first
    for done in range(0, attempts, _AHEAD):
        drawn = drawn[: attempts - done]
        for k in range(len(drawn)):
            e, f = 2 * draw(state, n_edges), draw(state, 2 * n_edges)
            drawn[k, 0], drawn[k, 1] = e, f
            prefetch(ends, e)
            prefetch(ends, f)
        for k in range(len(drawn) if rows.size > _NEAR else 0):
            a, b, c, d = _ends(ends, drawn[k])
            prefetch(rows, _place(rows, a, b))
            prefetch(rows, _place(rows, c, d))
            prefetch(rows, _place(rows, a, d))
            prefetch(rows, _place(rows, c, b))
        for k in range(len(drawn)):
            a, b, c, d = _ends(ends, drawn[k])
            if a == d or b == c or _joined(rows, a, d) or _joined(rows, c, b):
                continue
            _flip(rows, a, b)
            _flip(rows, c, d)
            _flip(rows, a, d)
            _flip(rows, c, b)
            e, f = drawn[k]
            ends[e ^ ONE] = d
            ends[f] = c
            ends[f ^ ONE] = b


@kernel
def _ends(ends, drawn):
    """The nodes at two drawn ends, each with the node at the other end of its edge."""
    e, f = drawn
    return np.int64(ends[e]), np.int64(ends[e ^ ONE]), np.int64(ends[f]), np.int64(ends[f ^ ONE])


@kernel
def _place(rows, i, j):
    """Which word of the upper triangle holds a pair."""
    return min(i, j) * rows.shape[1] + (max(i, j) >> 6)


@kernel
def _joined(rows, i, j):
    low, high = np.uint64(min(i, j)), np.uint64(max(i, j))
    return (rows[low, high >> _SIX] >> (high & _LAST_SIX)) & ONE


@kernel
def _flip(rows, i, j):
    low, high = np.uint64(min(i, j)), np.uint64(max(i, j))
    rows[low, high >> _SIX] ^= ONE << (high & _LAST_SIX)
