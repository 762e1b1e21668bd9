"""Persistent H0 and H1 of a Vietoris-Rips filtration over Z/2, in O(N²) memory.

Edges are named by their rank in the filtration, a strict order, and a triangle by its last edge and its apex,
the node opposite: ``last * N + apex``. An edge that has a common neighbour when it enters opens a loop and
closes it at once with the first such triangle (an apparent pair). Nearly all edges do, and word operations on
bit-packed rows find them. What is left is reduced as persistent cohomology: the coboundaries of the loops'
edges, latest edge first.

A coboundary is never written out. It is a cursor that yields its triangles in order, and cursors queue at the
last edge of their next triangle, so that triangles beyond the pivot cost nothing.

Reference: Bauer (2021), Ripser, J. Appl. Comput. Topol. 5, 391 (cohomology, implicit columns, apparent
pairs).
"""

import numpy as np

from fnet_callbacks.functional._kernels.base import ONE, kernel, lowest_bit

TREE, LOOP = -1, -2  # what an edge does that is in no apparent pair: it joins two components, or opens a loop
_IN_SUM, _HAS_CURSOR, _MEMBER = np.uint8(1), np.uint8(2), np.uint8(4)
_FEW = 32  # edges that are sorted by insertion
_NEVER = np.iinfo(np.int32).max
# Columns of a cursor: its edge; the cursor behind it in the queue; and, of each of the edge's ends, where among that
# end's neighbours the cursor stands, and the edge to that neighbour, which completes a triangle.
_EDGE, _BEHIND, _PLACE, _CLOSING, _FIELDS = 0, 1, 2, 4, 6


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
def edge_ranks(first, second, n_nodes):
    """``[N, N]`` rank of each edge, and a rank beyond all others where there is none."""
    rank = np.full((n_nodes, n_nodes), _NEVER, np.int32)
    for r in range(len(first)):
        rank[first[r], second[r]] = r
        rank[second[r], first[r]] = r
    return rank


@kernel
def first_apexes(first, second, n_nodes):
    """Smallest common neighbour of each edge's ends when it enters, else TREE or LOOP; bit-packed rows of all edges."""
    rows = np.zeros((n_nodes, (n_nodes + 63) // 64), np.uint64)
    parent = np.arange(n_nodes)
    apexes = np.empty(len(first), np.int32)
    for r in range(len(first)):
        i, j = np.int64(first[r]), np.int64(second[r])
        apexes[r] = LOOP
        for w in range(rows.shape[1]):
            word = rows[i, w] & rows[j, w]
            if word:
                apexes[r] = w * 64 + lowest_bit(word)
                break
        rows[i, j >> 6] |= ONE << np.uint64(j & 63)
        rows[j, i >> 6] |= ONE << np.uint64(i & 63)
        if apexes[r] == LOOP:
            while parent[i] != i:
                parent[i] = parent[parent[i]]
                i = parent[i]
            while parent[j] != j:
                parent[j] = parent[parent[j]]
                j = parent[j]
            if i != j:
                parent[i] = j
                apexes[r] = TREE
    return apexes, rows


@kernel
def _neighbours_by_length(first, second, n_nodes):
    """Neighbours of each node, the nearest first: those of i are ``neighbours[start[i]:start[i + 1]]``."""
    start = np.zeros(n_nodes + 1, np.int64)
    for r in range(len(first)):
        start[first[r] + 1] += 1
        start[second[r] + 1] += 1
    for i in range(n_nodes):
        start[i + 1] += start[i]
    neighbours = np.empty(2 * len(first), np.int32)
    place = start[:-1].copy()
    for r in range(len(first)):
        i, j = first[r], second[r]
        neighbours[place[i]] = j
        neighbours[place[j]] = i
        place[i] += 1
        place[j] += 1
    return start, neighbours


@kernel
def _place_beyond(last, row, neighbours, low, high):
    """Where in ``neighbours[low:high]`` the first is whose edge, by the ranks of ``row``, comes after ``last``."""
    while low < high:
        middle = (low + high) >> 1
        if row[neighbours[middle]] <= last:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _next_closing(a, b, low, high, neighbours, rank, rows):
    """The first of a's neighbours in ``neighbours[low:high]`` that b is joined to already, and its edge from a."""
    for place in range(low, high):
        k = np.int64(neighbours[place])
        if (rows[b, k >> 6] >> np.uint64(k & 63)) & ONE and rank[b, k] < rank[a, k]:
            return place, rank[a, k]
    return high, _NEVER


@kernel
def _flip(odd, apex):
    """Toggle a bit; by how much the number of bits has grown."""
    bit = ONE << np.uint64(apex & 63)
    odd[apex >> 6] ^= bit
    return 1 if odd[apex >> 6] & bit else -1


@kernel
def _flip_completed(edge, last, odd, first, second, rank, rows):
    """Toggle the apexes of all triangles in the coboundary of an edge that ``last``, it or a later one, completes."""
    i, j = np.int64(first[edge]), np.int64(second[edge])
    grown = 0
    if edge == last:
        for w in range(rows.shape[1]):
            word = rows[i, w] & rows[j, w]
            while word:
                k = w * 64 + lowest_bit(word)
                word &= word - ONE
                if rank[i, k] < last and rank[j, k] < last:
                    grown += _flip(odd, k)
        return grown
    p, q = np.int64(first[last]), np.int64(second[last])
    shared, apex = (i, j) if i in (p, q) else (j, i)
    if shared in (p, q) and rank[p + q - shared, apex] < last:
        grown = _flip(odd, apex)
    return grown


@kernel
def _wait(cursors, c, queued, waiting):
    """Line a cursor up at the edge that completes its next triangle."""
    last = min(cursors[c, _CLOSING], cursors[c, _CLOSING + 1])
    cursors[c, _BEHIND] = queued[last]
    queued[last] = c
    waiting[last >> 6] |= ONE << np.uint64(last & 63)


@kernel
def loop_deaths(first, second, rank, apexes, rows):
    """For each LOOP edge the edge that closes its loop; -1 where none does."""
    n = len(rank)
    start_of, neighbours = _neighbours_by_length(first, second, n)
    loops = np.flatnonzero(apexes == LOOP)
    deaths = np.full(len(loops), -1, np.int64)
    # A reduced column is a sum of coboundaries, kept as their edges: members[start[c]:start[c + 1]].
    members = np.empty(1024, np.int64)
    start = np.zeros(len(loops) + 1, np.int64)
    # Which column has a triangle as its pivot: columns are chained by the triangle's last edge.
    newest = np.full(len(first), -1, np.int32)
    older = np.empty(len(loops), np.int32)
    pivot_apex = np.empty(len(loops), np.int32)
    # Of the column at hand: cursors, chained by the last edge of their next triangle, and a bit for each such edge.
    cursors = np.empty((1024, _FIELDS), np.int32)
    queued = np.full(len(first), -1, np.int32)
    waiting = np.zeros((len(first) + 63) // 64, np.uint64)
    # The column's triangles that ``last`` completes, each a bit at its apex.
    odd = np.zeros(rows.shape[1], np.uint64)
    # Of each edge, for the column at hand: whether it is in the sum, has a cursor, is in ``members``. One that is
    # added twice leaves the sum, while its cursor stays until it surfaces, in case it is added again.
    state = np.zeros(len(first), np.uint8)
    for column in range(len(loops)):
        begin = filled = start[column]
        n_cursors = n_odd = 0
        single = last = loops[len(loops) - 1 - column]
        added, n_added = -1, 1  # from members[added], or a single edge where added is -1
        while True:
            if filled + n_added > len(members):
                members = np.concatenate((members, np.empty(len(members) + n_added, np.int64)))
            if n_cursors + n_added > len(cursors):
                cursors = np.concatenate((cursors, np.empty((len(cursors) + n_added, _FIELDS), np.int32)))
            for k in range(n_added):  # none comes after ``last``
                edge = single if added < 0 else members[added + k]
                if not state[edge] & _MEMBER:
                    members[filled] = edge
                    filled += 1
                    state[edge] |= _MEMBER
                state[edge] ^= _IN_SUM
                n_odd += _flip_completed(edge, last, odd, first, second, rank, rows)
                if state[edge] & _IN_SUM and not state[edge] & _HAS_CURSOR:
                    ends = first[edge], second[edge]
                    cursors[n_cursors, _EDGE] = edge
                    for side in range(2):
                        a, b = np.int64(ends[side]), np.int64(ends[1 - side])
                        high = start_of[a + 1]
                        low = _place_beyond(last, rank[a], neighbours, start_of[a], high)
                        place, closing = _next_closing(a, b, low, high, neighbours, rank, rows)
                        cursors[n_cursors, _PLACE + side] = place
                        cursors[n_cursors, _CLOSING + side] = closing
                    if min(cursors[n_cursors, _CLOSING], cursors[n_cursors, _CLOSING + 1]) != _NEVER:
                        _wait(cursors, n_cursors, queued, waiting)
                        n_cursors += 1
                        state[edge] |= _HAS_CURSOR
            while not n_odd:  # on to the next edge that completes a triangle
                w = last >> 6
                while w < len(waiting) and not waiting[w]:
                    w += 1
                if w == len(waiting):
                    break
                last = w * 64 + lowest_bit(waiting[w])
                waiting[w] &= waiting[w] - ONE
                c = np.int64(queued[last])
                queued[last] = -1
                while c >= 0:
                    behind = np.int64(cursors[c, _BEHIND])
                    edge = cursors[c, _EDGE]
                    state[edge] &= ~_HAS_CURSOR
                    if state[edge] & _IN_SUM:
                        ends = first[edge], second[edge]
                        side = 0 if cursors[c, _CLOSING] == last else 1
                        a, b = np.int64(ends[side]), np.int64(ends[1 - side])
                        n_odd += _flip(odd, b)
                        place, closing = _next_closing(
                            a, b, cursors[c, _PLACE + side] + 1, start_of[a + 1], neighbours, rank, rows
                        )
                        cursors[c, _PLACE + side] = place
                        cursors[c, _CLOSING + side] = closing
                        if min(closing, cursors[c, _CLOSING + 1 - side]) != _NEVER:
                            _wait(cursors, c, queued, waiting)
                            state[edge] |= _HAS_CURSOR
                    c = behind
            if not n_odd:
                break
            w = 0
            while not odd[w]:
                w += 1
            apex = w * 64 + lowest_bit(odd[w])
            if apexes[last] == apex:
                added, n_added, single = -1, 1, last
                continue
            owner = newest[last]
            while owner >= 0 and pivot_apex[owner] != apex:
                owner = older[owner]
            if owner < 0:
                deaths[len(loops) - 1 - column] = last
                pivot_apex[column], older[column], newest[last] = apex, newest[last], column
                break
            added, n_added = start[owner], start[owner + 1] - start[owner]
        end = begin
        for k in range(begin, filled):
            edge = members[k]
            if state[edge] & _IN_SUM:
                members[end] = edge
                end += 1
            state[edge] = 0
        start[column + 1] = end
        for c in range(n_cursors):
            left = min(cursors[c, _CLOSING], cursors[c, _CLOSING + 1])
            if left != _NEVER:
                queued[left] = -1
                waiting[left >> 6] = 0
        odd[:] = 0
    return deaths
