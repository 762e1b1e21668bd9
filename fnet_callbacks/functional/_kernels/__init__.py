"""Compiled inner loops.

Adjacency is bit-packed: bit ``j & 63`` of word ``j >> 6`` in row i says whether i and j are joined, so that
one word operation handles 64 nodes. Counts and gains are integers: the results depend on neither thread count
nor platform. Every kernel releases the GIL; nulls run side by side in plain threads, for Numba's own
``parallel=True`` is safe neither in threads nor after a fork.

A kernel calls other kernels of its own file only: Numba's cache looks at one file to see what has changed.
"""

from fnet_callbacks.functional._kernels.activity import active_counts, centred, histograms
from fnet_callbacks.functional._kernels.attack import betweenness, degree_order, giant_sizes
from fnet_callbacks.functional._kernels.correlation import (
    bin_of,
    correlation_distances,
    counts_beyond,
    misfit,
    next_below,
    prim,
    scaled,
    strongest_edges,
    survey,
    weights_in_bin,
)
from fnet_callbacks.functional._kernels.distances import (
    distance_counts,
    induced,
    neighbour_links,
    neighbourhood_efficiencies,
)
from fnet_callbacks.functional._kernels.louvain import run_louvain
from fnet_callbacks.functional._kernels.partitions import expected_information
from fnet_callbacks.functional._kernels.rewiring import rewire
from fnet_callbacks.functional._kernels.storage import adjacency, edges_of, shared_edges

__all__ = [
    "active_counts",
    "adjacency",
    "betweenness",
    "bin_of",
    "centred",
    "correlation_distances",
    "counts_beyond",
    "degree_order",
    "distance_counts",
    "edges_of",
    "expected_information",
    "giant_sizes",
    "histograms",
    "induced",
    "misfit",
    "neighbour_links",
    "neighbourhood_efficiencies",
    "next_below",
    "prim",
    "rewire",
    "run_louvain",
    "scaled",
    "shared_edges",
    "strongest_edges",
    "survey",
    "weights_in_bin",
]
