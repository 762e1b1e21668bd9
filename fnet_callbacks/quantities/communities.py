"""Quantities of the communities of a network: how many, how strong, how they change, what they follow."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fnet_callbacks import functional as F
from fnet_callbacks.network import Network, NoValueError
from fnet_callbacks.quantities.neurons import live
from fnet_callbacks.quantities.quantity import Quantity
from fnet_callbacks.quantities.wiring import of_pairs


def _partition_ami(network: Network) -> float:
    before = network.require_previous().partition[network.nodes]
    in_both = before >= 0
    if not in_both.any():
        raise NoValueError("no neuron was alive in both snapshots")
    return F.adjusted_mutual_information(before[in_both], network.partition[in_both])


def _flexibility(network: Network) -> float:
    network.require_previous()
    moves, chances = (found[network.nodes] for found in (network.history.moves, network.history.chances))
    if not chances.any():
        raise NoValueError("no neuron was alive in both snapshots")
    return (moves[chances > 0] / chances[chances > 0]).mean()


def _events(kind: F.EventKind) -> Callable[[Network], float]:
    return lambda network: sum(event.kind == kind for event in network.events)


def _layers(network: Network) -> np.ndarray:
    network.require(2)
    if network.layers is None:
        raise NoValueError("there is only one layer")
    return network.layers[network.nodes]


def _layer_ami(network: Network) -> float:
    return F.adjusted_mutual_information(network.partition, _layers(network))


def _layer_entropy(network: Network) -> float:
    counts = F.composition(network.partition, _layers(network))
    several = counts.sum(1) > 1
    if not several.any():
        raise NoValueError("every neuron is a community of its own")
    return np.average(F.layer_entropy(counts[several]), weights=counts[several].sum(1))


def _class_ami(network: Network) -> float:
    if network.activity.class_active_share is None:
        raise NoValueError("the probe has no labels")
    preferred = F.preferred_class(live(network, network.activity.class_active_share))
    known = preferred >= 0
    if not known.any():
        raise NoValueError("no neuron is ever active")
    return F.adjusted_mutual_information(network.partition[known], preferred[known])


def _class_affinity(network: Network) -> float:
    affinity, sizes = network.class_affinity, np.bincount(network.partition)
    known = np.isfinite(affinity) & (sizes > 1)
    return np.average(affinity[known], weights=sizes[known]) if known.any() else math.nan


def _modularity_z(network: Network) -> float:
    network.require_more_than_tree()
    mean, spread = (
        network.of_graph(
            f"null modularity of {network.starts} starts, {part}", lambda k=k: network.null_modularity[k]
        )
        for k, part in enumerate(("mean", "spread"))
    )
    return F.z_score(F.modularity(network.graph, network.partition), mean, spread)


COMMUNITIES = (
    Quantity(
        "modularity",
        "modularity",
        "Newman's Q of the partition that Louvain's method finds: how many more edges run inside communities than by "
        "chance.",
        (-0.5, 1),
        "fast",
        of_pairs(lambda network: F.modularity(network.graph, network.partition)),
        chart="communities",
    ),
    Quantity(
        "n_communities",
        "number of communities",
        "Number of communities in the partition that Louvain's method finds.",
        (0, None),
        "fast",
        lambda network: len(np.unique(network.partition)),
        chart="number of communities",
    ),
    Quantity(
        "community_entropy",
        "community entropy",
        "Entropy, in nats, of the communities' sizes; its exponential is an effective number of communities.",
        (0, None),
        "fast",
        of_pairs(lambda network: F.community_entropy(network.partition)),
    ),
    Quantity(
        "partition_ami",
        "agreement with the last partition (AMI)",
        "Adjusted mutual information with the partition one snapshot before: 1 the same, 0 chance.",
        (-1, 1),
        "fast",
        _partition_ami,
        chart="communities",
        compares=True,
    ),
    Quantity(
        "flexibility",
        "flexibility of neurons",
        "Mean over neurons of the share of successive snapshots so far between which a neuron changed its community "
        "(Bassett et al. 2011).",
        (0, 1),
        "fast",
        _flexibility,
        chart="flexible and shared neurons",
        compares=True,
    ),
    Quantity(
        "participation",
        "participation coefficient",
        "Mean over neurons of 1 - Σ (k_c / k)², k_c its edges into community c (Guimerà & Amaral 2005).",
        (0, 1),
        "fast",
        of_pairs(lambda network: F.participation_coefficient(network.graph, network.partition).mean()),
        chart="flexible and shared neurons",
    ),
    Quantity(
        "births",
        "communities born",
        "Number of communities of this snapshot that descend from none of the last.",
        (0, None),
        "standard",
        _events("birth"),
        chart="communities through time",
        compares=True,
    ),
    Quantity(
        "deaths",
        "communities that died",
        "Number of communities of the last snapshot that have no heir and were not merged into one.",
        (0, None),
        "standard",
        _events("death"),
        chart="communities through time",
        compares=True,
    ),
    Quantity(
        "splits",
        "communities that split",
        "Number of communities of the last snapshot of which two or more of this one are fragments.",
        (0, None),
        "standard",
        _events("split"),
        chart="communities through time",
        compares=True,
    ),
    Quantity(
        "merges",
        "communities that merged",
        "Number of communities of this snapshot of which two or more of the last are fragments.",
        (0, None),
        "standard",
        _events("merge"),
        chart="communities through time",
        compares=True,
    ),
    Quantity(
        "layer_ami",
        "agreement of communities and layers (AMI)",
        "Adjusted mutual information of communities and layers: 1 where they are the same, 0 by chance.",
        (-1, 1),
        "standard",
        _layer_ami,
        chart="communities, layers and classes",
    ),
    Quantity(
        "layer_entropy",
        "spread of communities over layers",
        "Mean over communities, by their size, of the entropy of their neurons' layers as a share of its largest "
        "value: 0 within one layer, 1 over all alike.",
        (0, 1),
        "standard",
        _layer_entropy,
        chart="communities, layers and classes",
    ),
    Quantity(
        "class_ami",
        "agreement of communities and preferred classes (AMI)",
        "Adjusted mutual information of communities and the class for which each neuron is active most often.",
        (-1, 1),
        "standard",
        _class_ami,
        chart="communities, layers and classes",
    ),
    Quantity(
        "class_affinity",
        "information of communities about the class",
        "Mean over communities, by their size, of the mutual information of their mean activation with the class, as a "
        "share of the class's entropy.",
        (0, 1),
        "standard",
        _class_affinity,
        chart="communities, layers and classes",
    ),
    Quantity(
        "modularity_z",
        "modularity, z against random graphs",
        "Modularity less its mean over random graphs of the same degrees, in their standard deviations.",
        None,
        "standard",
        _modularity_z,
        chart="modularity against nulls",
        beyond_tree=True,
    ),
)
