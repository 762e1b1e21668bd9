"""What is drawn of a network; `fnet_callbacks.figures` draws it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Portrait:
    """What is drawn of a network at one step; N counts all neurons, n the live ones.

    Attributes:
        title: The step, in words.
        n_neurons: N.
        nodes: Neuron of each node, ``[n]``.
        correlation: ``[n, n]``.
        edges: ``[E, 2]``, by node.
        partition: Community of each node, ``[n]``.
        diagrams: H0 and H1; empty where they were not computed.
        scale: The graph's own radius, marked in the Betti curves; None where it was not computed.
    """

    title: str
    n_neurons: int
    nodes: np.ndarray
    correlation: np.ndarray
    edges: np.ndarray
    partition: np.ndarray
    diagrams: list[np.ndarray]
    scale: float | None = None
