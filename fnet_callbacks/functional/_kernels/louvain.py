"""Local moving and aggregation on CSR arrays."""

import numpy as np

from fnet_callbacks.functional._kernels.base import kernel


@kernel
def move_nodes(indptr, indices, weights, strengths, labels, order):
    """Louvain's local moving, in place: nodes join the best neighbouring community until none gains.

    Gains are compared as ``total * links - strength * community strength``, in integers and so exactly. Only
    nodes whose neighbourhood has changed are looked at again. A node that is better off alone takes an empty
    label.
    """
    n = len(labels)
    total = strengths.sum()
    held = np.zeros(n, np.int64)
    size = np.zeros(n, np.int64)
    for i in range(n):
        held[labels[i]] += strengths[i]
        size[labels[i]] += 1
    empty = np.empty(n, np.int64)
    n_empty = 0
    for c in range(n):
        if not size[c]:
            empty[n_empty] = c
            n_empty += 1
    links = np.zeros(n, np.int64)
    near = np.empty(n, np.int64)
    queue = order.copy()
    waiting = np.ones(n, np.bool_)
    head, length = 0, n
    while length:
        i = queue[head]
        head = head + 1 if head + 1 < n else 0
        length -= 1
        waiting[i] = False
        own, strength = labels[i], strengths[i]
        n_near = 0
        for e in range(indptr[i], indptr[i + 1]):
            c = labels[indices[e]]
            if not links[c]:
                near[n_near] = c
                n_near += 1
            links[c] += weights[e]
        held[own] -= strength
        best, gain = own, total * links[own] - strength * held[own]
        for k in range(n_near):
            c = near[k]
            other = total * links[c] - strength * held[c]
            links[c] = 0
            if other > gain:
                best, gain = c, other
        if gain < 0:
            n_empty -= 1
            best = empty[n_empty]
        held[best] += strength
        if best == own:
            continue
        labels[i] = best
        size[own] -= 1
        size[best] += 1
        if not size[own]:
            empty[n_empty] = own
            n_empty += 1
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            if not waiting[j] and labels[j] != best:
                waiting[j] = True
                queue[(head + length) % n] = j
                length += 1


@kernel
def aggregate(indptr, indices, weights, strengths, labels):
    """One node per community: the coarser level, and the coarse node of each node."""
    n = len(labels)
    size = np.zeros(n + 1, np.int64)
    for i in range(n):
        size[labels[i] + 1] += 1
    number = np.empty(n, np.int64)
    start = np.zeros(n + 1, np.int64)  # where the members of a coarse node begin
    n_coarse = 0
    for c in range(n):
        if size[c + 1]:
            number[c] = n_coarse
            start[n_coarse + 1] = start[n_coarse] + size[c + 1]
            n_coarse += 1
    coarse_of = number[labels]
    members = np.empty(n, np.int64)
    place = start.copy()
    coarse_strengths = np.zeros(n_coarse, np.int64)
    for i in range(n):
        c = coarse_of[i]
        members[place[c]] = i
        place[c] += 1
        coarse_strengths[c] += strengths[i]
    coarse_indptr = np.zeros(n_coarse + 1, np.int64)
    coarse_indices = np.empty(len(indices), np.int32)
    coarse_weights = np.empty(len(indices), np.int64)
    links = np.zeros(n_coarse, np.int64)
    filled = 0
    for c in range(n_coarse):
        first = filled
        for k in range(start[c], start[c + 1]):
            i = members[k]
            for e in range(indptr[i], indptr[i + 1]):
                other = coarse_of[indices[e]]
                if other != c:
                    if not links[other]:
                        coarse_indices[filled] = other
                        filled += 1
                    links[other] += weights[e]
        for e in range(first, filled):
            coarse_weights[e] = links[coarse_indices[e]]
            links[coarse_indices[e]] = 0
        coarse_indptr[c + 1] = filled
    coarse = coarse_indptr, coarse_indices[:filled].copy(), coarse_weights[:filled].copy(), coarse_strengths
    return coarse, coarse_of


@kernel
def edges_within(indptr, indices, weights, labels):
    """The CSR arrays of a level without the edges between communities."""
    inner_indptr = np.zeros_like(indptr)
    inner_indices = np.empty_like(indices)
    inner_weights = np.empty_like(weights)
    filled = 0
    for i in range(len(labels)):
        for e in range(indptr[i], indptr[i + 1]):
            if labels[indices[e]] == labels[i]:
                inner_indices[filled] = indices[e]
                inner_weights[filled] = weights[e]
                filled += 1
        inner_indptr[i + 1] = filled
    return inner_indptr, inner_indices[:filled].copy(), inner_weights[:filled].copy()
