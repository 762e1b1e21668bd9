"""Portraits of small planted networks."""

from dataclasses import replace

import numpy as np

from fnet_callbacks import functional as F
from fnet_callbacks.portrait import Portrait


def portrait(n: int = 40, *, seed: int = 0, step: int = 0) -> Portrait:
    generator = np.random.default_rng(seed)
    factors = generator.normal(size=(200, 4))
    correlation = F.correlation_matrix(factors[:, np.arange(n) % 4] + generator.normal(size=(200, n)))
    graph = F.graph_from_correlation(correlation, density=0.15)
    return Portrait(
        title=f"step {step}",
        n_neurons=n,
        nodes=np.arange(n),
        correlation=correlation.astype(np.float32),
        edges=graph.edges,
        partition=F.communities(graph),
        diagrams=F.persistence(F.correlation_distance(correlation)),
        scale=F.graph_scale(correlation, graph),
    )


def with_nodes(whole: Portrait, nodes: list[int]) -> Portrait:
    """The same network with only some of its neurons alive."""
    place = {node: i for i, node in enumerate(nodes)}
    edges = [[place[i], place[j]] for i, j in whole.edges.tolist() if i in place and j in place]
    return replace(
        whole,
        nodes=np.array(nodes, dtype=int),
        correlation=whole.correlation[np.ix_(nodes, nodes)],
        edges=np.array(edges, dtype=np.int32).reshape(-1, 2),
        partition=np.unique(whole.partition[nodes], return_inverse=True)[1],
    )
