"""Quantities of the wiring of a network: clustering, distances, small-worldness, tolerance of failures."""

from __future__ import annotations

from collections.abc import Callable

from fnet_callbacks import functional as F
from fnet_callbacks.network import Network
from fnet_callbacks.quantities.quantity import Quantity


def of_pairs(measure: Callable[[Network], float]) -> Callable[[Network], float]:
    """A measure that needs two live neurons; fewer have no value."""

    def guarded(network: Network) -> float:
        network.require(2)
        return measure(network)

    return guarded


def of_graph(name: str, measure: Callable[[Network], float]) -> Callable[[Network], float]:
    """A measure of two live neurons or more that follows from the graph alone; see ``Network.of_graph``."""
    return of_pairs(lambda network: network.of_graph(name, lambda: measure(network)))


def _clustering(network: Network) -> float:
    network.require_more_than_tree()
    return network.of_graph("clustering", lambda: network.wiring.clustering)


def _sigma(network: Network) -> float:
    network.require_more_than_tree()

    def sigma() -> float:
        nulls = network.null_graphs
        with network.stopwatch.part("sigma"):
            return F.small_world(network.graph, nulls=nulls).sigma

    return network.of_graph("sigma", sigma)


def _sigma_hqs(network: Network) -> float:
    network.require_more_than_tree()
    s = network.settings
    return F.small_world_hqs(network.correlation, network.graph, nulls=s.nulls, seed=s.seed, rule=s.rule)


def _edge_turnover(network: Network) -> float:
    return F.edge_turnover(network.edges, network.require_previous().edges)


def _fault_tolerance(order: F.Order) -> Callable[[Network], float]:
    return of_graph(
        f"fault tolerance, {order}",
        lambda network: F.fault_tolerance(network.graph, order=order, seed=network.settings.seed),
    )


WIRING = (
    Quantity(
        "clustering",
        "clustering",
        "Mean share of a node's neighbours that are neighbours of each other.",
        (0, 1),
        "fast",
        _clustering,
        chart="small world",
        beyond_tree=True,
    ),
    Quantity(
        "path_length",
        "path length",
        "Mean length of the shortest paths between connected nodes, in edges.",
        (1, None),
        "fast",
        of_graph("path_length", lambda network: network.wiring.path_length),
    ),
    Quantity(
        "global_efficiency",
        "global efficiency",
        "Mean of 1 / distance over all pairs of nodes (Latora & Marchiori 2001).",
        (0, 1),
        "fast",
        of_graph("global_efficiency", lambda network: network.wiring.efficiency),
        chart="small world",
    ),
    Quantity(
        "degree_entropy",
        "degree entropy",
        "Entropy, in nats, of the distribution of the nodes' numbers of neighbours.",
        (0, None),
        "fast",
        of_pairs(lambda network: F.degree_entropy(network.graph.degrees)),
    ),
    Quantity(
        "edge_turnover",
        "edge turnover",
        "Share of the edges of this and the last snapshot that only one of them has.",
        (0, 1),
        "fast",
        _edge_turnover,
        chart="communities",
        compares=True,
    ),
    # First of its tier, while its null matrices are all that takes memory.
    Quantity(
        "sigma_hqs",
        "small-worldness σ, matched correlations",
        "Small-worldness against graphs from random correlation matrices of the same moments (Zalesky et al. 2012), "
        "which have the clustering that correlations bring with them.",
        (0, None),
        "standard",
        _sigma_hqs,
        chart="small-worldness against nulls",
        needs="correlation",
        beyond_tree=True,
    ),
    Quantity(
        "sigma",
        "small-worldness σ",
        "(C / C_random) / (L / L_random): clustering and path length against random graphs of the same degrees "
        "(Humphries & Gurney 2008); above 1 is small-world.",
        (0, None),
        "standard",
        _sigma,
        chart="small-worldness against nulls",
        beyond_tree=True,
    ),
    Quantity(
        "local_efficiency",
        "local efficiency",
        "Mean over nodes of the global efficiency among their neighbours.",
        (0, 1),
        "full",
        of_graph("local_efficiency", lambda network: F.local_efficiency(network.graph)),
        chart="small world",
    ),
    Quantity(
        "fault_tolerance_random",
        "fault tolerance, random failures",
        "Area under the share of nodes in the largest component over the share of nodes removed at random.",
        (0, 1),
        "full",
        _fault_tolerance("random"),
        chart="fault tolerance",
    ),
    Quantity(
        "fault_tolerance_degree",
        "fault tolerance, hubs first",
        "Area under the share of nodes in the largest component over the share of nodes removed, those with the most "
        "neighbours first.",
        (0, 1),
        "full",
        _fault_tolerance("degree"),
        chart="fault tolerance",
    ),
)
