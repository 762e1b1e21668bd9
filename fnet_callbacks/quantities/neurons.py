"""Quantities of the neurons of a network: their activity, and how alike they are."""

from __future__ import annotations

import math

import numpy as np

from fnet_callbacks import functional as F
from fnet_callbacks.network import Network, NoValueError
from fnet_callbacks.quantities.quantity import Quantity


def live(network: Network, values: np.ndarray | None) -> np.ndarray:
    """The live neurons' entries of ``[..., N]``."""
    if values is None:
        raise NoValueError("not gathered")
    network.require(1)
    return values[..., network.nodes]


def _dead_fraction(network: Network) -> float:
    return 1 - len(network.nodes) / network.n_neurons if network.n_neurons else math.nan


def _mean_abs_correlation(network: Network) -> float:
    network.require(2)
    return network.selection.mean_abs_correlation


def _activation_entropy(network: Network) -> float:
    return F.activation_entropy(live(network, network.activity.active_share))


def _histogram_entropy(network: Network) -> float:
    if network.activity.kept is None:
        raise NoValueError("not measured on live batches")
    entropies = live(network, network.activity.histogram_entropies)
    entropies = entropies[~np.isnan(entropies)]
    return entropies.mean() if len(entropies) else math.nan


def _selectivity_entropy(network: Network) -> float:
    if network.activity.class_active_share is None:
        raise NoValueError("the probe has no labels")
    return F.selectivity_entropy(live(network, network.activity.class_active_share))


def _tree_mean(network: Network) -> float:
    network.require(2)
    return float(network.tree_lengths.mean())


def _tree_std(network: Network) -> float:
    network.require(2)
    return float(network.tree_lengths.std())


NEURONS = (
    Quantity(
        "n_neurons",
        "live neurons",
        "Number of neurons whose activation varies over the probe; only these are nodes.",
        (0, None),
        "fast",
        lambda network: len(network.nodes),
    ),
    Quantity(
        "dead_fraction",
        "share of dead neurons",
        "Share of the watched neurons that are not live: no variance over the probe, or values that are not finite.",
        (0, 1),
        "fast",
        _dead_fraction,
        chart="redundancy",
    ),
    Quantity(
        "mean_abs_correlation",
        "mean |correlation|",
        "Mean of |r| over all pairs of live neurons, r Pearson's correlation over the probe.",
        (0, 1),
        "fast",
        _mean_abs_correlation,
        chart="redundancy",
    ),
    Quantity(
        "effective_rank",
        "effective rank",
        "(Σλ)² / Σλ² of the correlation matrix's eigenvalues λ: the number of independent directions.",
        (1, None),
        "fast",
        lambda network: network.selection.effective_rank,
    ),
    Quantity(
        "activation_entropy",
        "activation entropy",
        "Mean over neurons of the binary entropy, in nats, of being active (above zero).",
        (0, math.log(2)),
        "fast",
        _activation_entropy,
        chart="entropy",
    ),
    Quantity(
        "histogram_entropy",
        "histogram entropy",
        "Mean over neurons of the entropy, in nats, of the histogram of their activations: 32 bins between each "
        "neuron's minimum and maximum.",
        (0, math.log(32)),
        "fast",
        _histogram_entropy,
        chart="entropy of values and lifetimes",
    ),
    Quantity(
        "selectivity_entropy",
        "selectivity entropy",
        "Mean over neurons of the entropy over classes of how often they are active, as a share of its largest value: "
        "1 for a neuron that is active for all classes alike, 0 for one class alone.",
        (0, 1),
        "fast",
        _selectivity_entropy,
        chart="entropy",
    ),
    Quantity(
        "tree_mean",
        "mean length of the spanning tree's edges",
        "Mean of 1 - |r| along the maximum spanning tree: small where neurons are redundant.",
        (0, 1),
        "fast",
        _tree_mean,
        chart="redundancy",
    ),
    Quantity(
        "tree_std",
        "spread of the spanning tree's edges",
        "Standard deviation of 1 - |r| along the maximum spanning tree.",
        (0, 0.5),
        "fast",
        _tree_std,
    ),
)
