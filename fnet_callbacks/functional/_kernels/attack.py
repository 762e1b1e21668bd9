"""Removal of nodes, one after the other."""

import numpy as np

from fnet_callbacks.functional._kernels.base import ONE, kernel, lowest_bit


@kernel
def degree_order(indptr, indices):
    """Nodes by descending degree among those still there, recomputed after each removal; ties by index."""
    n = len(indptr) - 1
    degrees = np.diff(indptr)
    order = np.empty(n, np.int64)
    for step in range(n):
        hub = np.argmax(degrees)
        order[step] = hub
        degrees[hub] = -n - 1  # stays negative however many neighbours follow
        for e in range(indptr[hub], indptr[hub + 1]):
            degrees[indices[e]] -= 1
    return order


@kernel
def giant_sizes(indptr, indices, order):
    """Size of the largest component after each number of removals 0 .. N; nodes are added back in reverse."""
    n = len(order)
    sizes = np.zeros(n + 1, np.int64)
    parent = np.full(n, -1, np.int64)  # -1 while a node is away
    members = np.ones(n, np.int64)
    for removed in range(n - 1, -1, -1):
        root = order[removed]
        parent[root] = root
        for e in range(indptr[order[removed]], indptr[order[removed] + 1]):
            other = np.int64(indices[e])
            if parent[other] < 0:
                continue
            while parent[other] != other:
                parent[other] = parent[parent[other]]
                other = parent[other]
            if other != root:
                if members[other] > members[root]:
                    root, other = other, root
                parent[other] = root
                members[root] += members[other]
        sizes[removed] = max(sizes[removed + 1], members[root])
    return sizes


@kernel
def betweenness(rows, there):
    """For each node the shares of shortest paths between others that run through it, over ordered pairs.

    One search from each node that is ``there`` (a bit row), and back from its end (Brandes 2001). The nodes at a
    distance are a bit row, so that a word operation finds the parents of a node among 64.
    """
    n, words = rows.shape
    central = np.zeros(n)
    at = np.zeros((n + 1, words), np.uint64)  # by distance
    unseen = np.empty(words, np.uint64)
    paths = np.empty(n)
    through = np.empty(n)
    for source in range(n):
        bit = ONE << np.uint64(source & 63)
        if not there[source >> 6] & bit:
            continue
        unseen[:] = there
        unseen[source >> 6] ^= bit
        at[0] = 0
        at[0, source >> 6] = bit
        paths[source] = 1
        distance, found = 0, 1
        while found:
            distance += 1
            found = 0
            at[distance] = 0
            for v in range(words):
                word = unseen[v]
                while word:
                    j = v * 64 + lowest_bit(word)
                    bit = word & (~word + ONE)
                    word ^= bit
                    ways = 0.0
                    for w in range(words):
                        parents = rows[j, w] & at[distance - 1, w]
                        while parents:
                            ways += paths[w * 64 + lowest_bit(parents)]
                            parents &= parents - ONE
                    if ways:
                        paths[j], through[j] = ways, 0
                        at[distance, v] |= bit
                        found += 1
                unseen[v] &= ~at[distance, v]
        for d in range(distance - 1, 0, -1):
            for v in range(words):
                word = at[d, v]
                while word:
                    j = v * 64 + lowest_bit(word)
                    word &= word - ONE
                    central[j] += through[j]
                    if d == 1:
                        continue
                    share = (1 + through[j]) / paths[j]
                    for w in range(words):
                        parents = rows[j, w] & at[d - 1, w]
                        while parents:
                            i = w * 64 + lowest_bit(parents)
                            through[i] += paths[i] * share
                            parents &= parents - ONE
    return central
