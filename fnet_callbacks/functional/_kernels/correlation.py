"""A correlation matrix from moments, and what is read from it: its weights, its tree, its strongest edges."""

import numpy as np

from fnet_callbacks.functional._kernels.base import kernel

_TILE = 8  # of both triangles: rows further apart than this would share one set of the cache
_BINS = 4096
_STRIP = 4  # rows that are read side by side


@kernel
def scaled(products, offset, total, scale, correlation):
    """``(products - offset totalᵀ) scale scaleᵀ`` of the upper triangle, held in [-1, 1], into both triangles.

    The diagonal is 1, or NaN where the scale is. ``correlation`` may be ``products`` itself.
    """
    n = len(products)
    for top in range(0, n, _TILE):
        for left in range(top, n, _TILE):
            for i in range(top, min(top + _TILE, n)):
                for j in range(max(left, i), min(left + _TILE, n)):
                    r = (products[i, j] - offset[i] * total[j]) * scale[i] * scale[j]
                    correlation[i, j] = -1.0 if r < -1.0 else 1.0 if r > 1.0 else r  # NaN stays
            for j in range(left, min(left + _TILE, n)):
                for i in range(top, min(top + _TILE, j)):
                    correlation[j, i] = correlation[i, j]
    for i in range(n):
        correlation[i, i] = 1.0 if scale[i] == scale[i] else np.nan


@kernel
def correlation_distances(correlation):
    """``1 - |r|`` of the upper triangle, at least 0, in both triangles; 0 on the diagonal."""
    n = len(correlation)
    distance = np.empty((n, n))
    for top in range(0, n, _TILE):
        for left in range(top, n, _TILE):
            for i in range(top, min(top + _TILE, n)):
                for j in range(max(left, i), min(left + _TILE, n)):
                    d = 1.0 - abs(correlation[i, j])
                    distance[i, j] = 0.0 if d < 0.0 else d  # NaN stays
            for j in range(left, min(left + _TILE, n)):
                for i in range(top, min(top + _TILE, j)):
                    distance[j, i] = distance[i, j]
    for i in range(n):
        distance[i, i] = 0.0
    return distance


@kernel
def bin_of(weight):
    """Bin of a weight >= 0 in `survey`; what is beyond 1 goes to the last."""
    return int(min(weight, 1.0) * (_BINS - 1))


@kernel
def misfit(matrix):
    """How far a matrix is from a correlation among live units, those without NaN on the diagonal.

    Returns:
        The largest |m_ij - m_ji|, NaN where an entry is not finite; the largest |m_ij| off the diagonal; the largest
        |m_ii - 1|.
    """
    n = len(matrix)
    asymmetry = strongest = off_one = 0.0
    for i in range(n):
        off = abs(matrix[i, i] - 1.0)
        off_one = off if off > off_one else off_one  # NaN is not larger
    for top in range(0, n, _TILE):
        for left in range(top, n, _TILE):
            for i in range(top, min(top + _TILE, n)):
                for j in range(max(left, i + 1), min(left + _TILE, n)):
                    r = matrix[i, j]
                    gap = abs(r - matrix[j, i])
                    if gap <= asymmetry:
                        pass
                    elif gap < np.inf:
                        asymmetry = gap
                    elif matrix[i, i] == matrix[i, i] and matrix[j, j] == matrix[j, j]:
                        return np.nan, strongest, off_one
                    strength = abs(r)
                    strongest = strength if strength > strongest else strongest
    return asymmetry, strongest, off_one


@kernel
def survey(matrix, absolute):
    """What one pass over the pairs i < j tells.

    Returns:
        ``[BINS]``, how many pairs have a weight in each bin, where a weight is |r|, or r if that is above 0; the sums
        of |r| and of r².
    """
    n = len(matrix)
    counts = np.zeros(_BINS, np.int64)
    total = squares = 0.0
    for top in range(0, n, _STRIP):
        strip_total = strip_squares = 0.0  # sums of sums round less
        for j in range(top + 1, n):
            for i in range(top, min(top + _STRIP, j)):
                r = matrix[i, j]
                strip_total += abs(r)
                strip_squares += np.float64(r) * r
                weight = abs(r) if absolute else r
                if absolute or weight > 0:
                    counts[bin_of(weight)] += 1
        total += strip_total
        squares += strip_squares
    return counts, total, squares


@kernel
def prim(matrix, absolute):
    """Maximum spanning tree, edges in the order they were joined.

    Of equal weights the edge with the smaller (smaller node, larger node) comes first, so of two edges that
    share a node the one with the smaller other end.
    """
    n = len(matrix)
    tree = np.empty((max(n - 1, 0), 2), np.int32)
    outside = np.arange(1, n)  # nodes not yet in the tree, in no particular order; the next two are by place
    weight = np.full(n, -np.inf, matrix.dtype)
    parent = np.full(n, n)
    joined = 0
    for e in range(n - 1):
        row = matrix[joined]
        left = n - 1 - e
        best, heaviest = 0, -np.inf
        for place in range(left):
            v = outside[place]
            w = abs(row[v]) if absolute else row[v]
            if w > weight[place] or (w == weight[place] and joined < parent[place]):
                weight[place] = w
                parent[place] = joined
            if weight[place] > heaviest:
                best, heaviest = place, weight[place]
            elif weight[place] == heaviest:
                low, best_low = min(v, parent[place]), min(outside[best], parent[best])
                high, best_high = max(v, parent[place]), max(outside[best], parent[best])
                if low < best_low or (low == best_low and high < best_high):
                    best = place
        joined = outside[best]
        tree[e, 0] = min(joined, parent[best])
        tree[e, 1] = max(joined, parent[best])
        for column in (outside, parent):
            column[best] = column[left - 1]
        weight[best] = weight[left - 1]
    return tree


@kernel
def counts_beyond(counts, matrix, absolute, tree):
    """The counts of `survey` without a tree's."""
    counts = counts.copy()
    for e in range(len(tree)):
        weight = matrix[tree[e, 0], tree[e, 1]]
        if absolute:
            weight = abs(weight)
        if absolute or weight > 0:
            counts[bin_of(weight)] -= 1
    return counts


@kernel
def weights_in_bin(matrix, absolute, tree, wanted, count):
    """The ``count`` weights in one bin of `survey`; a tree, sorted by (i, j), is left out."""
    n = len(matrix)
    weights = np.empty(count, matrix.dtype)
    found = t = 0
    for i in range(n):
        row = matrix[i]
        passed = tree[t, 1] if t < len(tree) and tree[t, 0] == i else n
        for j in range(i + 1, n):
            if j == passed:
                t += 1
                passed = tree[t, 1] if t < len(tree) and tree[t, 0] == i else n
                continue
            weight = abs(row[j]) if absolute else row[j]
            if (absolute or weight > 0) and bin_of(weight) == wanted:
                weights[found] = weight
                found += 1
    return weights


@kernel
def strongest_edges(matrix, absolute, tree, weakest, ties, room):
    """A tree and all other edges above ``weakest``, with the first ``ties`` of those that equal it.

    Returns at most ``room`` edges, sorted by (i, j) as the tree is, and the smallest weight beyond the tree.
    """
    n = len(matrix)
    edges = np.empty((room, 2), np.int32)
    found = t = 0
    least = np.inf
    for i in range(n):
        row = matrix[i]
        passed = tree[t, 1] if t < len(tree) and tree[t, 0] == i else n
        for j in range(i + 1, n):
            weight = abs(row[j]) if absolute else row[j]
            if j == passed:
                t += 1
                passed = tree[t, 1] if t < len(tree) and tree[t, 0] == i else n
            elif weight > weakest or (weight == weakest and ties):
                ties -= weight == weakest
                least = min(least, weight)
            else:
                continue
            edges[found, 0] = i
            edges[found, 1] = j
            found += 1
    return edges[:found].copy(), least


@kernel
def next_below(bits, strength):
    """The largest |r| off the diagonal that is smaller than ``strength``; 0 where there is none.

    On the bits of the floats, which are ordered as their absolute values are and compared many at a time.
    """
    # The largest of its kind, also where the shift wraps; `np.iinfo` brings modules of Numba's that take long to load.
    unsigned = (np.int64(1) << (8 * bits.itemsize - 1)) - 1
    nothing = np.int64(0)
    found = nothing
    for i in range(len(bits)):
        row = bits[i, i + 1 :]
        for k in range(len(row)):
            entry = row[k] & unsigned
            found = max(found, entry if entry < strength else nothing)
    return found
