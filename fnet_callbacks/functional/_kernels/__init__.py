"""Compiled inner loops.

Adjacency is bit-packed: bit ``j & 63`` of word ``j >> 6`` in row i says whether i and j are joined, so that
one word operation handles 64 nodes. Counts and gains are integers: the results depend on neither thread count
nor platform. Every kernel releases the GIL; nulls run side by side in plain threads, for Numba's own
``parallel=True`` is safe neither in threads nor after a fork.

A kernel calls other kernels of its own file only: Numba's cache looks at one file to see what has changed.
"""

from fnet_callbacks.functional._kernels.attack import degree_order, giant_sizes
from fnet_callbacks.functional._kernels.correlation import asymmetry, next_below, prim, upper_weights
from fnet_callbacks.functional._kernels.distances import (
    distance_counts,
    induced,
    neighbour_links,
    neighbourhood_efficiencies,
)
from fnet_callbacks.functional._kernels.louvain import aggregate, edges_within, move_nodes
from fnet_callbacks.functional._kernels.rewiring import rewire
from fnet_callbacks.functional._kernels.storage import adjacency, edges_of

__all__ = [
    "adjacency",
    "aggregate",
    "asymmetry",
    "degree_order",
    "distance_counts",
    "edges_of",
    "edges_within",
    "giant_sizes",
    "induced",
    "move_nodes",
    "neighbour_links",
    "neighbourhood_efficiencies",
    "next_below",
    "prim",
    "rewire",
    "upper_weights",
]
