"""What hangs together in a graph."""

import numpy as np

from fnet_callbacks.functional._kernels.base import kernel


@kernel
def components(indptr, indices):
    """Component of each node, ``[N]`` int64, numbered by the smallest node in them."""
    n = len(indptr) - 1
    label = np.full(n, -1, np.int64)
    queue = np.empty(n, np.int64)
    count = 0
    for root in range(n):
        if label[root] >= 0:
            continue
        label[root], queue[0] = count, root
        begin, end = 0, 1
        while begin < end:
            node = queue[begin]
            begin += 1
            for place in range(indptr[node], indptr[node + 1]):
                other = indices[place]
                if label[other] < 0:
                    label[other] = count
                    queue[end] = other
                    end += 1
        count += 1
    return label
