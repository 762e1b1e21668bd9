"""Persistent H0 and H1 of a Vietoris-Rips filtration over Z/2.

Edges enter in their order, each with the triangles that it completes. One that has no common neighbour then joins two
components or opens a loop, and a loop that is open is known by a cocycle: an edge is in it or not, and each triangle
has an even number of edges in it. What an edge is in follows from any triangle that it completes, and nearly always its
other triangles agree. Where two differ, the sum of the cocycles in which they do is one no longer, so the youngest of
them ends: it is added to the others, which leaves all of these whole.

Few edges are in any cocycle. Each of them has a bit for every open loop, so that a word operation looks at 64, and
triangles are found by word operations on bit-packed rows: those without such an edge all agree, and cost nothing.

Reference: de Silva, Morozov & Vejdemo-Johansson (2011), Persistent cohomology and circular coordinates, Discrete
Comput. Geom. 45, 737.
"""

import numpy as np

from fnet_callbacks.functional._kernels.base import ONE, kernel, lowest_bit

JOINS, CLOSES = -1, -2  # what an edge does that opens no loop: it joins two components, or only closes loops
_FEW = 32  # edges that are sorted by insertion


@kernel
def sorted_edges(distance, threshold):
    """Ends and lengths of the edges up to ``threshold``, shortest first; equal lengths in whatever order.

    A counting sort into bins of equal width, then a sort within each bin.
    """
    n = len(distance)
    count = 0
    longest = 0.0
    for i in range(n):
        for j in range(i + 1, n):
            if distance[i, j] <= threshold:
                count += 1
                longest = max(longest, distance[i, j])
    bins = max(count, 1)
    scale = bins / longest if longest > 0 else 0.0
    scale = scale if scale < np.inf else 0.0
    start = np.zeros(bins + 2, np.int64)
    for i in range(n):
        for j in range(i + 1, n):
            if distance[i, j] <= threshold:
                start[min(int(distance[i, j] * scale), bins - 1) + 2] += 1
    start = np.cumsum(start)
    first, second = np.empty(count, np.int32), np.empty(count, np.int32)
    lengths = np.empty(count)
    for i in range(n):
        for j in range(i + 1, n):
            length = distance[i, j]
            if length <= threshold:
                b = min(int(length * scale), bins - 1) + 1
                place = start[b]
                start[b] += 1
                first[place], second[place], lengths[place] = i, j, length
    for b in range(bins):  # what begins where the bin before ended
        low, high = start[b], start[b + 1]
        if high - low > _FEW:
            order = np.argsort(lengths[low:high])
            first[low:high] = first[low:high][order]
            second[low:high] = second[low:high][order]
            lengths[low:high] = lengths[low:high][order]
            continue
        for at in range(low + 1, high):
            i, j, length = first[at], second[at], lengths[at]
            place = at
            while place > low and lengths[place - 1] > length:
                first[place], second[place] = first[place - 1], second[place - 1]
                lengths[place] = lengths[place - 1]
                place -= 1
            first[place], second[place], lengths[place] = i, j, length
    return first, second, lengths


@kernel
def pair_edges(first, second, n_nodes):
    """What each edge does, in the order in which they enter: JOINS, CLOSES, or opens a loop.

    For one that opens a loop it is the edge that closes it; the number of edges where none does.
    """
    n_edges, n_words = len(first), (n_nodes + 63) // 64
    paired = np.empty(n_edges, np.int64)
    parent = np.arange(n_nodes)
    rows = np.zeros((n_nodes, n_words), np.uint64)
    # The edges that are in cocycles, and which column has their bits. The first column is that of all others.
    held = np.zeros((n_nodes, n_words), np.uint64)
    column = np.zeros((n_nodes, n_nodes), np.int32)
    cocycles = np.zeros((1, 1024), np.uint64)
    edge_of = np.empty(1024, np.int32)
    n_columns = 1
    opened = np.full(64, -1, np.int64)  # of each bit the edge that opened the loop, -1 where the bit is free
    n_open = closed_since = 0
    sides = np.empty((2, n_nodes + 1), np.int32)  # of the triangles, the columns of their two other edges
    for r in range(n_edges):
        i, j = np.int64(first[r]), np.int64(second[r])
        n_triangles, has_apex, has_plain = 1, False, False
        for w in range(n_words):
            common = rows[i, w] & rows[j, w]
            if not common:
                continue
            has_apex = True
            if not n_open:
                break
            word = common & (held[i, w] | held[j, w])
            has_plain |= word != common
            while word:
                k = w * 64 + lowest_bit(word)
                word &= word - ONE
                sides[0, n_triangles], sides[1, n_triangles] = column[i, k], column[j, k]
                n_triangles += 1
        rows[i, j >> 6] |= ONE << np.uint64(j & 63)
        rows[j, i >> 6] |= ONE << np.uint64(i & 63)
        if has_apex:
            paired[r] = CLOSES
            if n_triangles == 1:
                continue
            sides[:, 0] = 0  # all triangles without an edge in a cocycle agree
            agreeing = sides[:, not has_plain : n_triangles]
            is_held, n_closed = _extend(cocycles, n_columns, opened, paired, r, agreeing)
            n_open -= n_closed
            closed_since += n_closed
            if closed_since > n_open >> 3:  # not each time, for it looks at all columns
                closed_since = 0
                cocycles[:, 0] = cocycles[:, n_columns]  # out of the way
                n_columns = _without_empty(cocycles, n_columns, edge_of, first, second, column, held)
                cocycles[:, n_columns] = cocycles[:, 0]
                cocycles[:, 0] = 0
            if not is_held:
                continue
        else:
            root, other = i, j
            while parent[root] != root:
                parent[root] = parent[parent[root]]
                root = parent[root]
            while parent[other] != other:
                parent[other] = parent[parent[other]]
                other = parent[other]
            if root != other:
                parent[root] = other
                paired[r] = JOINS
                continue
            paired[r] = n_edges
            if n_open == len(opened):
                opened = np.concatenate((opened, np.full(n_open, -1, np.int64)))
                cocycles = _larger(cocycles, 2 * len(cocycles), cocycles.shape[1])
            free = 0
            while opened[free] >= 0:
                free += 1
            opened[free] = r
            n_open += 1
            cocycles[:, n_columns] = 0
            cocycles[free >> 6, n_columns] = ONE << np.uint64(free & 63)
        held[i, j >> 6] |= ONE << np.uint64(j & 63)
        held[j, i >> 6] |= ONE << np.uint64(i & 63)
        column[i, j] = column[j, i] = n_columns
        edge_of[n_columns] = r
        n_columns += 1
        if n_columns == cocycles.shape[1]:
            cocycles = _larger(cocycles, len(cocycles), 2 * n_columns)
            edge_of = np.concatenate((edge_of, np.empty(n_columns, np.int32)))
    return paired


@kernel
def _larger(cocycles, n_words, room):
    found = np.zeros((n_words, room), np.uint64)
    found[: len(cocycles), : cocycles.shape[1]] = cocycles
    return found


@kernel
def _extend(cocycles, n_columns, opened, paired, r, sides):
    """Write the column of an edge, which its triangles agree on in the end.

    Returns whether the edge is in a cocycle, and how many loops it closes.
    """
    one, other = sides
    closed = 0
    bits = np.uint64(0)
    for w in range(len(cocycles)):
        word = cocycles[w]
        while True:
            value = word[one[0]] ^ word[other[0]]
            differs = np.uint64(0)
            for t in range(1, len(one)):
                differs |= word[one[t]] ^ word[other[t]] ^ value
            if not differs:
                break
            t = 1
            while word[one[t]] ^ word[other[t]] == value:
                t += 1
            sum_of = one[0], other[0], one[t], other[t]
            paired[_end_youngest(cocycles, n_columns, opened, w, sum_of)] = r
            closed += 1
        word[n_columns] = value
        bits |= value
    return bits != 0, closed


@kernel
def _without_empty(cocycles, n_columns, edge_of, first, second, column, held):
    """Let go of the edges that are in no cocycle any more, whose places the last columns take; how many are left."""
    bits = cocycles[0, :n_columns].copy()
    for w in range(1, len(cocycles)):
        for c in range(n_columns):
            bits[c] |= cocycles[w, c]
    c = 1
    while c < n_columns:
        if bits[c]:
            c += 1
            continue
        i, j = np.int64(first[edge_of[c]]), np.int64(second[edge_of[c]])
        held[i, j >> 6] ^= ONE << np.uint64(j & 63)
        held[j, i >> 6] ^= ONE << np.uint64(i & 63)
        column[i, j] = column[j, i] = 0
        n_columns -= 1
        if c < n_columns:
            bits[c] = bits[n_columns]
            edge_of[c] = edge_of[n_columns]
            i, j = first[edge_of[c]], second[edge_of[c]]
            column[i, j] = column[j, i] = c
            for w in range(len(cocycles)):
                cocycles[w, c] = cocycles[w, n_columns]
    return n_columns


@kernel
def _end_youngest(cocycles, n_columns, opened, begin, columns):
    """Take the youngest of the cocycles that have an odd number of edges out of all; the edge that opened its loop.

    None is among those of the words before ``begin``.
    """
    odd = np.zeros(len(cocycles), np.uint64)
    youngest, at = np.int64(-1), np.int64(0)
    for w in range(begin, len(cocycles)):
        for c in columns:
            odd[w] ^= cocycles[w, c]
        word = odd[w]
        while word:
            bit = w * 64 + lowest_bit(word)
            word &= word - ONE
            if opened[bit] > youngest:
                youngest, at = opened[bit], bit
    opened[at] = -1
    ended, shift = cocycles[at >> 6], np.uint64(at & 63)
    for w in range(begin, len(cocycles)):
        if odd[w] and w != at >> 6:
            for c in range(n_columns):
                cocycles[w, c] ^= odd[w] * ((ended[c] >> shift) & ONE)
    for c in range(n_columns):
        ended[c] ^= odd[at >> 6] * ((ended[c] >> shift) & ONE)
    return youngest
