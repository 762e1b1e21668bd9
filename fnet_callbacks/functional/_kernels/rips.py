"""Persistent H0 and H1 of a Vietoris-Rips filtration over Z/2, in O(N²) memory.

Edges are named by their rank in the filtration, a strict order, and a triangle by its last edge and its apex,
the node opposite: ``last * N + apex``. An edge that has a common neighbour when it enters opens a loop and
closes it at once with the first such triangle (an apparent pair). Nearly all edges do, and word operations on
bit-packed rows find them. What is left is reduced as persistent cohomology: the coboundaries of the loops'
edges, latest edge first.

A coboundary is never written out. It is a cursor that yields its triangles in order, and a column is a heap
of cursors, so that triangles beyond the pivot cost nothing.

Reference: Bauer (2021), Ripser, J. Appl. Comput. Topol. 5, 391 (cohomology, implicit columns, apparent
pairs).
"""

import numpy as np

from fnet_callbacks.functional._kernels.base import ONE, kernel, lowest_bit

TREE, LOOP = -1, -2  # what an edge does that is in no apparent pair: it joins two components, or opens a loop
_IN_SUM, _IN_HEAP, _MEMBER = np.uint8(1), np.uint8(2), np.uint8(4)
_FEW = 32  # edges that are sorted by insertion
_NEVER = np.iinfo(np.int32).max
_END = np.iinfo(np.int64).max


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
def _edges_by_node(first, second, n_nodes):
    """Edges of each node in their order: those of i are ``edges[start[i]:start[i + 1]]``."""
    start = np.zeros(n_nodes + 1, np.int64)
    for r in range(len(first)):
        start[first[r] + 1] += 1
        start[second[r] + 1] += 1
    for i in range(n_nodes):
        start[i + 1] += start[i]
    edges = np.empty(2 * len(first), np.int32)
    place = start[:-1].copy()
    for r in range(len(first)):
        for i in (first[r], second[r]):
            edges[place[i]] = r
            place[i] += 1
    return start, edges


@kernel
def _place(edges, low, high, edge):
    """Where in ``edges[low:high]``, ascending, the first is that does not come before ``edge``."""
    while low < high:
        middle = (low + high) >> 1
        if edges[middle] < edge:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _next_triangle(edge, least, first, second, rank, apexes, rows, start, edges):
    """The first triangle in the coboundary of an edge that is not before ``least``."""
    n = len(rank)
    i, j = np.int64(first[edge]), np.int64(second[edge])
    last, apex = least // n, least % n
    if last < edge:
        if apexes[edge] >= 0:
            return edge * n + apexes[edge]
        last = edge + 1
    elif last == edge:  # triangles that this edge completes
        row_i, row_j = rank[i], rank[j]
        for w in range(apex >> 6, rows.shape[1]):
            word = rows[i, w] & rows[j, w]
            if w == apex >> 6:
                word &= ~np.uint64(0) << np.uint64(apex & 63)
            while word:
                k = w * 64 + lowest_bit(word)
                word &= word - ONE
                if row_i[k] < edge and row_j[k] < edge:
                    return edge * n + k
        last = edge + 1
    # Triangles that a later edge completes, one for each such edge: it starts at one end, and what it leads to is
    # joined to the other already. Among dense edges hardly one is passed over.
    triangle = _END
    for side in range(2):
        a, b = (i, j) if side == 0 else (j, i)
        row_b = rank[b]
        for p in range(_place(edges, start[a], start[a + 1], last), start[a + 1]):
            closing = np.int64(edges[p])
            if closing * n >= triangle:
                break
            if row_b[np.int64(first[closing]) + second[closing] - a] < closing and closing * n + b >= least:
                triangle = closing * n + b
                break
    return triangle


@kernel
def _sift_down(triangles, edges, size):
    """Restore the heap after its root has changed."""
    triangle, edge = triangles[0], edges[0]
    place = 0
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and triangles[child + 1] < triangles[child]:
            child += 1
        if triangles[child] >= triangle:
            break
        triangles[place], edges[place] = triangles[child], edges[child]
        place = child
    triangles[place], edges[place] = triangle, edge


@kernel
def _push(triangles, edges, size, triangle, edge):
    place = size
    while place and triangles[(place - 1) // 2] > triangle:
        above = (place - 1) // 2
        triangles[place], edges[place] = triangles[above], edges[above]
        place = above
    triangles[place], edges[place] = triangle, edge


@kernel
def loop_deaths(first, second, rank, apexes, rows):
    """For each LOOP edge the edge that closes its loop; -1 where none does."""
    n = len(rank)
    start_of, edges_of = _edges_by_node(first, second, n)
    loops = np.flatnonzero(apexes == LOOP)
    deaths = np.full(len(loops), -1, np.int64)
    # A reduced column is a sum of coboundaries, kept as their edges: members[start[c]:start[c + 1]].
    members = np.empty(1024, np.int64)
    start = np.zeros(len(loops) + 1, np.int64)
    # Which column has a triangle as its pivot: columns are chained by the triangle's last edge.
    newest = np.full(len(first), -1, np.int32)
    older = np.empty(len(loops), np.int32)
    pivot_apex = np.empty(len(loops), np.int32)
    triangles, edges = np.empty(1024, np.int64), np.empty(1024, np.int64)  # the heap of cursors
    # Of each edge, for the column at hand: whether it is in the sum, has a cursor in the heap, is in ``members``.
    # One that is added twice leaves the sum, while its cursor stays until it surfaces, in case it is added again.
    state = np.zeros(len(first), np.uint8)
    for column in range(len(loops)):
        begin = filled = start[column]
        size = 0
        pivot = -1
        added, n_added = -1, 1  # from members[added], or a single edge where added is -1
        single = loops[len(loops) - 1 - column]
        while True:
            if filled + n_added > len(members):
                members = np.concatenate((members, np.empty(len(members) + n_added, np.int64)))
            if size + n_added > len(triangles):
                room = np.empty(len(triangles) + n_added, np.int64)
                triangles, edges = np.concatenate((triangles, room)), np.concatenate((edges, room))
            for k in range(n_added):
                edge = single if added < 0 else members[added + k]
                if not state[edge] & _MEMBER:
                    members[filled] = edge
                    filled += 1
                    state[edge] |= _MEMBER
                state[edge] ^= _IN_SUM
                if state[edge] & _IN_SUM and not state[edge] & _IN_HEAP:
                    triangle = _next_triangle(
                        edge, pivot + 1, first, second, rank, apexes, rows, start_of, edges_of
                    )
                    if triangle != _END:
                        _push(triangles, edges, size, triangle, edge)
                        size += 1
                        state[edge] |= _IN_HEAP
            odd = False
            while size and not odd:
                pivot = triangles[0]
                while size and triangles[0] == pivot:
                    edge = edges[0]
                    triangle = _END
                    if state[edge] & _IN_SUM:
                        odd = not odd
                        triangle = _next_triangle(
                            edge, pivot + 1, first, second, rank, apexes, rows, start_of, edges_of
                        )
                    triangles[0] = triangle
                    if triangle == _END:
                        state[edge] &= ~_IN_HEAP
                        size -= 1
                        triangles[0], edges[0] = triangles[size], edges[size]
                    _sift_down(triangles, edges, size)
            if not odd:
                break
            last, apex = pivot // n, pivot % n
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
    return deaths
