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
_NEVER = np.iinfo(np.int32).max
_END = np.iinfo(np.int64).max


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
    """Smallest common neighbour of each edge's ends when it enters; else TREE or LOOP."""
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
    return apexes


@kernel
def _next_triangle(edge, least, first, second, rank):
    """The first triangle in the coboundary of an edge that is not before ``least``."""
    n = len(rank)
    i, j = first[edge], second[edge]
    row_i, row_j = rank[i], rank[j]
    last, apex = least // n, least % n
    if last <= edge:  # triangles that this edge completes
        for k in range(apex if last == edge else 0, n):
            if row_i[k] < edge and row_j[k] < edge:
                return edge * n + k
        last = edge + 1
    while True:  # triangles that a later edge completes, one for each such edge
        bound, soonest = np.int32(last), _NEVER
        for k in range(n):
            enters = max(row_i[k], row_j[k])
            soonest = min(soonest, enters if enters >= bound else _NEVER)
        if soonest == _NEVER:
            return _END
        opposite = j if first[soonest] == i or second[soonest] == i else i
        triangle = np.int64(soonest) * n + opposite
        if triangle >= least:
            return triangle
        last += 1


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
def _without_pairs(values):
    """Sorted values that occur an odd number of times."""
    values = np.sort(values)
    kept = 0
    for value in values:
        if kept and values[kept - 1] == value:
            kept -= 1
        else:
            values[kept] = value
            kept += 1
    return values[:kept]


@kernel
def loop_deaths(first, second, rank, apexes):
    """For each LOOP edge the edge that closes its loop; -1 where none does."""
    n = len(rank)
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
                members[filled] = edge
                filled += 1
                triangle = _next_triangle(edge, pivot + 1, first, second, rank)
                if triangle != _END:
                    _push(triangles, edges, size, triangle, edge)
                    size += 1
            odd = False
            while size and not odd:
                pivot = triangles[0]
                while size and triangles[0] == pivot:
                    odd = not odd
                    triangles[0] = _next_triangle(edges[0], pivot + 1, first, second, rank)
                    if triangles[0] == _END:
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
        own = _without_pairs(members[begin:filled])
        members[begin : begin + len(own)] = own
        start[column + 1] = begin + len(own)
    return deaths
