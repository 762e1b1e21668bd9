"""Compiled inner loops.

Adjacency is bit-packed: bit ``j & 63`` of word ``j >> 6`` in row i says whether i and j are joined, so that
one word operation handles 64 nodes. Counts and gains are integers: the results depend on neither thread count
nor platform. Every kernel releases the GIL; nulls run side by side in plain threads, for Numba's own
``parallel=True`` is safe neither in threads nor after a fork.

A kernel calls other kernels of its own file only: Numba's cache looks at one file to see what has changed.

Files are imported when one of their kernels is asked for: Numba itself takes a third of a second.
"""

from typing import TYPE_CHECKING

from fnet_callbacks.imports import found_on_demand

if TYPE_CHECKING:
    from fnet_callbacks.functional._kernels.activity import active_counts as active_counts
    from fnet_callbacks.functional._kernels.activity import centred as centred
    from fnet_callbacks.functional._kernels.activity import histograms as histograms
    from fnet_callbacks.functional._kernels.attack import betweenness as betweenness
    from fnet_callbacks.functional._kernels.attack import degree_order as degree_order
    from fnet_callbacks.functional._kernels.attack import giant_sizes as giant_sizes
    from fnet_callbacks.functional._kernels.correlation import bin_of as bin_of
    from fnet_callbacks.functional._kernels.correlation import correlation_distances as correlation_distances
    from fnet_callbacks.functional._kernels.correlation import counts_beyond as counts_beyond
    from fnet_callbacks.functional._kernels.correlation import misfit as misfit
    from fnet_callbacks.functional._kernels.correlation import next_below as next_below
    from fnet_callbacks.functional._kernels.correlation import prim as prim
    from fnet_callbacks.functional._kernels.correlation import scaled as scaled
    from fnet_callbacks.functional._kernels.correlation import strongest_edges as strongest_edges
    from fnet_callbacks.functional._kernels.correlation import survey as survey
    from fnet_callbacks.functional._kernels.correlation import weights_in_bin as weights_in_bin
    from fnet_callbacks.functional._kernels.distances import distance_counts as distance_counts
    from fnet_callbacks.functional._kernels.distances import induced as induced
    from fnet_callbacks.functional._kernels.distances import neighbour_links as neighbour_links
    from fnet_callbacks.functional._kernels.distances import (
        neighbourhood_efficiencies as neighbourhood_efficiencies,
    )
    from fnet_callbacks.functional._kernels.louvain import run_louvain as run_louvain
    from fnet_callbacks.functional._kernels.partitions import expected_information as expected_information
    from fnet_callbacks.functional._kernels.rewiring import rewire as rewire
    from fnet_callbacks.functional._kernels.storage import adjacency as adjacency
    from fnet_callbacks.functional._kernels.storage import edges_of as edges_of
    from fnet_callbacks.functional._kernels.storage import shared_edges as shared_edges
    from fnet_callbacks.functional._kernels.terms import entropy_terms as entropy_terms
    from fnet_callbacks.functional._kernels.traversal import components as components

HOME = {
    "active_counts": "activity",
    "adjacency": "storage",
    "betweenness": "attack",
    "bin_of": "correlation",
    "centred": "activity",
    "components": "traversal",
    "correlation_distances": "correlation",
    "counts_beyond": "correlation",
    "degree_order": "attack",
    "distance_counts": "distances",
    "edges_of": "storage",
    "entropy_terms": "terms",
    "expected_information": "partitions",
    "giant_sizes": "attack",
    "histograms": "activity",
    "induced": "distances",
    "misfit": "correlation",
    "neighbour_links": "distances",
    "neighbourhood_efficiencies": "distances",
    "next_below": "correlation",
    "prim": "correlation",
    "rewire": "rewiring",
    "run_louvain": "louvain",
    "scaled": "correlation",
    "shared_edges": "storage",
    "strongest_edges": "correlation",
    "survey": "correlation",
    "weights_in_bin": "correlation",
}

__getattr__ = found_on_demand(__name__, HOME)
