"""Removal of nodes, one after the other."""

import numpy as np

from fnet_callbacks.functional._kernels.base import kernel


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
