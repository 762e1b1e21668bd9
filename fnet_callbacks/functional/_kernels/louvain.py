"""Louvain on CSR arrays: local moving, aggregation, and the cycles up and down that they make.

Random orders are NumPy's own: Numba draws the permutations of a ``Generator`` bit by bit as NumPy does.
"""

import numpy as np

from fnet_callbacks.functional._kernels.base import kernel, prefetch

_LINE = 16  # numbers of 32 bits that the cache fetches together


@kernel
def _move_nodes(indptr, indices, weights, strengths, partition, order):
    """Louvain's local moving, in place: nodes join the best neighbouring community until none gains.

    Gains are compared as ``total * links - strength * community strength``, in integers and so exactly. Only
    nodes whose neighbourhood has changed are looked at again. A node that is better off alone takes an empty
    label.
    """
    n = len(partition)
    total = strengths.sum()
    labels = partition.astype(np.int32)  # narrow, as it is read at random
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
    links = np.zeros(n, np.int32)
    near = np.empty(n + 1, np.int32)  # one more: an entry is written before it is known to count
    queue = order.copy()
    waiting = np.ones(n, np.bool_)
    head, length = 0, n
    while length:
        i = queue[head]
        head = head + 1 if head + 1 < n else 0
        length -= 1
        waiting[i] = False
        following = queue[head]  # in random order, so that nothing else foresees where its edges lie
        for e in range(indptr[following], indptr[following + 1], _LINE):
            prefetch(indices, e)
            prefetch(weights, e)
        own, strength = np.int64(labels[i]), strengths[i]
        n_near = 0
        for e in range(indptr[i], indptr[i + 1]):
            c = np.uint32(labels[np.uint32(indices[e])])  # unsigned: negative places are not looked for
            near[n_near] = c
            n_near += links[c] == 0  # no branch, for none would be foreseen
            links[c] += weights[e]
        held[own] -= strength
        best, gain = own, total * np.int64(links[own]) - strength * held[own]
        for k in range(n_near):
            c = np.uint32(near[k])
            other = total * np.int64(links[c]) - strength * held[c]
            links[c] = 0
            if other > gain:
                best, gain = np.int64(near[k]), other
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
        tail = head + length if head + length < n else head + length - n  # free, as i has left
        for e in range(indptr[i], indptr[i + 1]):
            j = np.uint32(indices[e])
            joins = (not waiting[j]) & (labels[j] != best)
            queue[tail] = j
            waiting[j] |= joins
            length += joins
            tail += joins
            tail = tail if tail < n else 0
    partition[:] = labels


@kernel
def _aggregate(indptr, indices, weights, strengths, labels):
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
    coarse_indices = np.empty(len(indices) + 1, np.int32)  # one more: see `_move_nodes`
    coarse_weights = np.empty(len(indices), np.int32)
    links = np.zeros(n_coarse, np.int32)
    filled = 0
    narrow = coarse_of.astype(np.int32)
    for c in range(n_coarse):
        first = filled
        for k in range(start[c], start[c + 1]):
            i = members[k]
            for e in range(indptr[i], indptr[i + 1]):
                other = np.uint32(narrow[np.uint32(indices[e])])
                coarse_indices[filled] = other
                filled += (links[other] == 0) & (other != c)
                links[other] += weights[e]
        links[c] = 0
        for e in range(first, filled):
            coarse_weights[e] = links[coarse_indices[e]]
            links[coarse_indices[e]] = 0
        coarse_indptr[c + 1] = filled
    coarse = coarse_indptr, coarse_indices[:filled].copy(), coarse_weights[:filled].copy(), coarse_strengths
    return coarse, coarse_of


@kernel
def _edges_within(indptr, indices, weights, labels):
    """The CSR arrays of a level without the edges between communities."""
    inner_indptr = np.zeros_like(indptr)
    inner_indices = np.empty(len(indices) + 1, np.int32)  # one more: see `_move_nodes`
    inner_weights = np.empty(len(indices) + 1, np.int32)
    filled = 0
    for i in range(len(labels)):
        for e in range(indptr[i], indptr[i + 1]):
            inner_indices[filled] = indices[e]
            inner_weights[filled] = weights[e]
            filled += labels[np.uint32(indices[e])] == labels[i]
        inner_indptr[i + 1] = filled
    return inner_indptr, inner_indices[:filled].copy(), inner_weights[:filled].copy()


@kernel
def _ranked(labels, bound):
    """The same partition with labels 0 .. K - 1 in the order of the old ones, which are below ``bound``."""
    rank = np.zeros(bound, np.int64)
    for label in labels:
        rank[label] = 1
    n_labels = 0
    for c in range(len(rank)):
        n_labels += rank[c]
        rank[c] = n_labels - 1
    return rank[labels]


@kernel
def _moved(level, labels, generator):
    labels = labels.copy()
    _move_nodes(level[0], level[1], level[2], level[3], labels, generator.permutation(len(labels)))
    return labels


@kernel
def _parts(level, labels, generator):
    """What a cold start finds inside the communities, at the nodes' full strengths."""
    indptr, indices, weights = _edges_within(level[0], level[1], level[2], labels)
    return _moved((indptr, indices, weights, level[3]), np.arange(len(labels)), generator)


@kernel
def _cycle(level, labels, generator, split):
    """Up: move nodes, then merge each community to a node of the next level. Down: move nodes on each again.

    With ``split`` the communities are first taken apart into what holds together within them, so that parts
    can change sides. Without, a second cycle would hardly find anything to move.
    """
    labels = _moved(level, labels, generator)
    levels, coarser = (
        [level],
        [labels],
    )  # the levels passed, and for each the nodes of the next that its nodes became
    while True:
        level = levels[-1]
        parts = _parts(level, labels, generator) if split and len(levels) == 1 else labels
        coarse, coarse_of = _aggregate(level[0], level[1], level[2], level[3], parts)
        n_coarse = len(coarse[3])
        if n_coarse == len(labels):
            break
        coarse_labels = np.empty(n_coarse, np.int64)
        coarse_labels[coarse_of] = labels
        coarser[-1] = coarse_of
        levels.append(coarse)
        coarser.append(coarse_of)
        labels = _moved(coarse, _ranked(coarse_labels, len(labels)), generator)
    for k in range(len(levels) - 2, -1, -1):
        labels = _moved(levels[k], labels[coarser[k]], generator)
    return labels


@kernel
def _quality(indptr, indices, labels):
    """Modularity times (2 E)², an integer, so that equal partitions compare equal; labels are below N."""
    held = np.zeros(len(labels), np.int64)
    inside = 0
    for i in range(len(labels)):
        held[labels[i]] += indptr[i + 1] - indptr[i]
        for e in range(indptr[i], indptr[i + 1]):
            inside += labels[np.uint32(indices[e])] == labels[i]
    return len(indices) * inside - (held * held).sum()


@kernel
def _connected(indptr, indices, labels):
    """Labels from 0 of what hangs together within each community."""
    n = len(labels)
    part = np.full(n, -1, np.int64)
    waiting = np.empty(n + 1, np.int64)  # one more: see `_move_nodes`
    n_parts = 0
    for first in range(n):
        if part[first] >= 0:
            continue
        part[first] = n_parts
        waiting[0] = first
        length = 1
        while length:
            length -= 1
            i = waiting[length]
            for e in range(indptr[i], indptr[i + 1]):
                j = np.uint32(indices[e])
                joins = (part[j] < 0) & (labels[j] == labels[i])
                waiting[length] = j
                part[j] = n_parts if joins else part[j]
                length += joins
        n_parts += 1
    return part


@kernel
def run_louvain(indptr, indices, labels, generator):
    """Quality and labels after cycles up and down from a partition with labels below N, until quality stays.

    Nodes that leave a community may leave parts of it that no edge joins any more. To split these off is no move of a
    node, but always a gain: the same edges lie within, and the expected number of them is smaller.
    """
    level = indptr, indices, np.ones(len(indices), np.int32), np.diff(indptr)
    best = _quality(indptr, indices, labels)
    split = False
    while True:
        moved = _cycle(level, labels, generator, split)
        found = _quality(indptr, indices, moved)
        if found <= best:
            moved = _connected(indptr, indices, labels)
            found = _quality(indptr, indices, moved)
            if found == best:
                return best, moved
        best, labels, split = found, moved, True
