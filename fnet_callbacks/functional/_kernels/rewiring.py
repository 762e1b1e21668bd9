"""Random numbers and degree-preserving rewiring in place."""

import numpy as np

from fnet_callbacks.functional._kernels.base import ONE, kernel


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
    """Double edge swaps in place: edges ab, cd become ad, cb where that keeps the graph simple."""
    n_edges = len(edges)
    if n_edges < 2:
        return
    state = np.array([seed], np.uint64)
    for _ in range(attempts):
        e, f = draw(state, n_edges), draw(state, 2 * n_edges)
        side = f & 1
        f >>= 1
        a, b = np.int64(edges[e, 0]), np.int64(edges[e, 1])
        c, d = np.int64(edges[f, side]), np.int64(edges[f, 1 - side])
        if a == d or b == c or _joined(rows, a, d) or _joined(rows, c, b):
            continue
        _flip(rows, a, b)
        _flip(rows, c, d)
        _flip(rows, a, d)
        _flip(rows, c, b)
        edges[e, 1] = d
        edges[f, side] = c
        edges[f, 1 - side] = b


@kernel
def _joined(rows, i, j):
    return (rows[i, j >> 6] >> np.uint64(j & 63)) & ONE


@kernel
def _flip(rows, i, j):
    rows[i, j >> 6] ^= ONE << np.uint64(j & 63)
    rows[j, i >> 6] ^= ONE << np.uint64(i & 63)
