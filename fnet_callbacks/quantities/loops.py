"""Quantities of the loops of a network: Betti numbers and persistent homology."""

from __future__ import annotations

from fnet_callbacks import functional as F
from fnet_callbacks.quantities.quantity import Quantity

LOOPS = (
    Quantity(
        "betti_0",
        "Betti number β₀",
        "Number of connected components of the Vietoris-Rips complex on 1 - |r|, where it has the graph's edges.",
        (0, None),
        "standard",
        lambda network: int(network.betti[0]),
        needs="diagrams",
    ),
    Quantity(
        "betti_1",
        "Betti number β₁",
        "Number of independent loops of the Vietoris-Rips complex on 1 - |r|, where it has the graph's edges.",
        (0, None),
        "standard",
        lambda network: int(network.betti[1]),
        chart="loops",
        needs="diagrams",
    ),
    Quantity(
        "loops",
        "number of loops",
        "Number of points in the persistence diagram of H₁ on 1 - |r|: loops over all radii.",
        (0, None),
        "standard",
        lambda network: len(network.diagrams[1]),
        chart="loops",
        needs="diagrams",
    ),
    Quantity(
        "functional_persistence",
        "functional persistence",
        "Root of the sum of squared lifetimes of the loops in the persistence diagram of H₁ (Zhang & Lin 2024).",
        (0, None),
        "standard",
        lambda network: F.functional_persistence(network.diagrams[1]),
        chart="persistence",
        needs="diagrams",
    ),
    Quantity(
        "persistent_entropy",
        "persistent entropy",
        "Entropy, in nats, of the lifetimes of the loops in the persistence diagram of H₁, as shares of their sum.",
        (0, None),
        "standard",
        lambda network: F.persistent_entropy(network.diagrams[1]),
        chart="entropy of values and lifetimes",
        needs="diagrams",
    ),
)
