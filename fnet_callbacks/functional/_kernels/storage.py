"""Bit-packed rows and CSR arrays from edges, and back."""

import numpy as np

from fnet_callbacks.functional._kernels.base import ONE, kernel, lowest_bit


@kernel
def adjacency(edges, n_nodes):
    """Bit-packed rows and CSR arrays of edges sorted by (i, j); neighbours come out ascending."""
    rows = np.zeros((n_nodes, (n_nodes + 63) // 64), np.uint64)
    indptr = np.zeros(n_nodes + 1, np.int64)
    for e in range(len(edges)):
        i, j = edges[e, 0], edges[e, 1]
        rows[i, j >> 6] |= ONE << np.uint64(j & 63)
        rows[j, i >> 6] |= ONE << np.uint64(i & 63)
        indptr[i + 1] += 1
        indptr[j + 1] += 1
    for i in range(n_nodes):
        indptr[i + 1] += indptr[i]
    indices = np.empty(2 * len(edges), np.int32)
    place = indptr.copy()
    for e in range(len(edges)):
        i, j = edges[e, 0], edges[e, 1]
        indices[place[i]] = j
        indices[place[j]] = i
        place[i] += 1
        place[j] += 1
    return rows, indptr, indices


@kernel
def edges_of(rows, n_edges):
    """The edges of bit-packed rows, i < j, sorted by (i, j)."""
    edges = np.empty((n_edges, 2), np.int32)
    e = 0
    for i in range(len(rows)):
        for w in range(i >> 6, rows.shape[1]):
            word = rows[i, w]
            while word:
                j = w * 64 + lowest_bit(word)
                word &= word - ONE
                if j > i:
                    edges[e, 0] = i
                    edges[e, 1] = j
                    e += 1
    return edges


@kernel
def shared_edges(edges, others):
    """How many edges two lists sorted by (i, j) have in common; -1 where one is not sorted."""
    for pairs in (edges, others):
        for e in range(1, len(pairs)):
            i, before = pairs[e, 0], pairs[e - 1, 0]
            if i < before or (i == before and pairs[e, 1] <= pairs[e - 1, 1]):
                return -1
    shared = e = f = 0
    while e < len(edges) and f < len(others):
        i, k = edges[e, 0], others[f, 0]
        j, m = edges[e, 1], others[f, 1]
        shared += i == k and j == m
        first = i < k or (i == k and j <= m)
        e += first
        f += not first or (i == k and j == m)
    return shared
