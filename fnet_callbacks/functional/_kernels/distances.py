"""All-pairs distances and triangles by word operations on bit-packed rows."""

import numpy as np

from fnet_callbacks.functional._kernels.base import ONE, kernel, lowest_bit, popcount


@kernel
def distance_counts(rows):
    """Number of ordered pairs at each distance 0 .. D, breadth first from all sources at once.

    Bit s of ``fresh[i]`` says that source s reached i in the last step; the next adds what neighbours got.
    """
    n, words = rows.shape
    counts = np.zeros(n + 1, np.int64)
    unseen = ~rows
    fresh, following = rows.copy(), np.zeros_like(rows)
    live = np.full(words, ~np.uint64(0))  # the nodes whose row of ``fresh`` holds a bit
    following_live = np.empty(words, np.uint64)
    missing = np.empty(n, np.int64)
    found = np.empty(words, np.uint64)
    for i in range(n):
        unseen[i, i >> 6] &= ~(ONE << np.uint64(i & 63))
        degree = 0
        for w in range(words):
            degree += popcount(rows[i, w])
        missing[i] = n - 1 - degree
        counts[1] += degree
    counts[0] = n
    distance = 1
    while distance <= n and counts[distance]:
        distance += 1
        following_live[:] = 0
        for i in range(n):
            if not missing[i]:
                continue
            found[:] = 0
            for v in range(words):
                word = rows[i, v] & live[v]
                while word:
                    j = v * 64 + lowest_bit(word)
                    word &= word - ONE
                    for w in range(words):
                        found[w] |= fresh[j, w]
            new = 0
            for w in range(words):
                word = found[w] & unseen[i, w]
                following[i, w] = word
                unseen[i, w] ^= word
                new += popcount(word)
            if new:
                following_live[i >> 6] |= ONE << np.uint64(i & 63)
                missing[i] -= new
                counts[distance] += new
        fresh, following = following, fresh
        live, following_live = following_live, live
    return counts[:distance].copy()


@kernel
def neighbour_links(edges, rows):
    """For each node, twice the number of edges among its neighbours."""
    links = np.zeros(len(rows), np.int64)
    for e in range(len(edges)):
        i, j = edges[e, 0], edges[e, 1]
        common = 0
        for w in range(rows.shape[1]):
            common += popcount(rows[i, w] & rows[j, w])
        links[i] += common
        links[j] += common
    return links


@kernel
def induced(rows, nodes):
    """Bit-packed rows of the subgraph on ``nodes``, numbered in their order."""
    n = len(nodes)
    part = np.zeros((n, (n + 63) // 64), np.uint64)
    for a in range(n):
        for b in range(n):
            i, j = nodes[a], np.int64(nodes[b])
            bit = (rows[i, j >> 6] >> np.uint64(j & 63)) & ONE
            part[a, b >> 6] |= bit << np.uint64(b & 63)
    return part


@kernel
def neighbourhood_efficiencies(rows, indptr, indices):
    """Global efficiency among the neighbours of each node; 0 where there are fewer than two."""
    efficiencies = np.zeros(len(rows))
    for i in range(len(rows)):
        neighbours = indices[indptr[i] : indptr[i + 1]]
        k = len(neighbours)
        if k > 1:
            counts = distance_counts(induced(rows, neighbours))
            for d in range(1, len(counts)):
                efficiencies[i] += counts[d] / d
            efficiencies[i] /= k * (k - 1)
    return efficiencies
