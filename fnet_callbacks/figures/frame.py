"""What is remembered of a snapshot for the figures of many."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from fnet_callbacks.portrait import Portrait

_EDGES = 1500  # that are drawn of one snapshot beside others


@dataclass(frozen=True, slots=True)
class Frame:
    """What is remembered of a snapshot; N counts all neurons, n the live ones.

    Attributes:
        title: The portrait's.
        colours: Colour number of each neuron's community, ``[N]``; -1 where it is dead.
        nodes: Neuron of each node, ``[n]``.
        layout: Place of each node in the unit circle, ``[n, 2]``.
        edges: Some of those within communities, ``[E, 2]``, by node.
    """

    title: str
    colours: np.ndarray
    nodes: np.ndarray
    layout: np.ndarray
    edges: np.ndarray

    @classmethod
    def of(cls, portrait: Portrait, colours: np.ndarray, layout: np.ndarray) -> Self:
        """What is to be remembered of a portrait whose nodes have these colours, ``[n]``, and places."""
        of_all = np.full(portrait.n_neurons, -1)
        of_all[portrait.nodes] = colours
        within = portrait.edges[colours[portrait.edges[:, 0]] == colours[portrait.edges[:, 1]]]
        some = within[:: max(1, -(-len(within) // _EDGES))]
        return cls(portrait.title, of_all, portrait.nodes, layout, some)

    @property
    def step(self) -> str:
        """The step, in words."""
        return self.title.removeprefix("step ")
