"""What is read from a correlation matrix: its weights and its spanning tree."""

import numpy as np

from fnet_callbacks.functional._kernels.base import kernel


@kernel
def asymmetry(matrix):
    """Largest |m_ij - m_ji|, NaN where any entry is NaN; in blocks, so that both triangles stay in cache."""
    n = len(matrix)
    worst = 0.0
    for top in range(0, n, 64):
        for left in range(top, n, 64):
            for i in range(top, min(top + 64, n)):
                for j in range(max(left, i), min(left + 64, n)):
                    gap = abs(matrix[i, j] - matrix[j, i])
                    if not gap <= worst:
                        if np.isnan(gap):
                            return np.nan
                        worst = gap
    return worst


@kernel
def upper_weights(correlation, absolute):
    """Weights above the diagonal, row by row: |r|, or r."""
    n = len(correlation)
    weights = np.empty(n * (n - 1) // 2, correlation.dtype)
    start = 0
    for i in range(n - 1):
        row = correlation[i, i + 1 :]
        part = weights[start : start + len(row)]
        for k in range(len(row)):
            part[k] = row[k]
        if absolute:
            for k in range(len(row)):
                part[k] = abs(part[k])
        start += len(row)
    return weights


@kernel
def _before(weight, i, j, other_weight, k, m):
    """Whether edge ij comes before edge km: stronger first, equal weights by (smaller node, larger node)."""
    if weight != other_weight:
        return weight > other_weight
    low, other_low = min(i, j), min(k, m)
    return low < other_low or (low == other_low and max(i, j) < max(k, m))


@kernel
def prim(correlation, absolute):
    """Maximum spanning tree, edges in the order they were joined."""
    n = len(correlation)
    tree = np.empty((max(n - 1, 0), 2), np.int32)
    outside = np.arange(1, n)  # nodes not yet in the tree, in no particular order
    weight = np.full(n, -np.inf, correlation.dtype)
    parent = np.zeros(n, np.int64)
    joined = 0
    for e in range(n - 1):
        best = -1
        for place in range(n - 1 - e):
            v = outside[place]
            w = abs(correlation[joined, v]) if absolute else correlation[joined, v]
            if w >= weight[v] and _before(w, joined, v, weight[v], parent[v], v):
                weight[v] = w
                parent[v] = joined
            if best < 0 or weight[v] >= weight[outside[best]]:
                u = outside[best]
                if best < 0 or _before(weight[v], parent[v], v, weight[u], parent[u], u):
                    best = place
        joined = outside[best]
        outside[best] = outside[n - 2 - e]
        tree[e, 0] = min(joined, parent[joined])
        tree[e, 1] = max(joined, parent[joined])
    return tree


@kernel
def next_below(correlation, weight):
    """The largest |r| off the diagonal that is smaller than ``weight``; 0 where there is none."""
    found = 0.0
    for i in range(len(correlation)):
        for j in range(i + 1, len(correlation)):
            strength = abs(correlation[i, j])
            if found < strength < weight:
                found = strength
    return found
