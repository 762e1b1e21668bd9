"""What is drawn of a network, and of the codes of its layers; `fnet_callbacks.figures` draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True, slots=True)
class Portrait:
    """What is drawn of a network at one step; N counts all neurons, n the live ones.

    Attributes:
        title: The step, in words.
        n_neurons: N.
        nodes: Neuron of each node, ``[n]``.
        correlation: ``[n, n]``; None where it is not known.
        edges: ``[E, 2]``, by node.
        partition: Community of each node, ``[n]``.
        diagrams: H0 and H1; empty where they were not computed.
        scale: The graph's own radius, marked in the Betti curves; None where it was not computed.
    """

    title: str
    n_neurons: int
    nodes: np.ndarray
    correlation: np.ndarray | None
    edges: np.ndarray
    partition: np.ndarray
    diagrams: list[np.ndarray]
    scale: float | None = None


@dataclass(frozen=True, slots=True)
class MapPortrait:
    """What is drawn of a layer's self-organising map; U units, row after row of the grid.

    Attributes:
        name: The layer's, in a form that a file can have.
        grid: Rows and columns.
        hits: Samples whose unit it is, ``[U]``.
        classes: The commonest class among them, ``[U]``, -1 for none; None without labels.
        u_matrix: The U-matrix, ``[U]``; None where it is not known.
        attacked: Attacked samples whose unit it is, by attack, ``[U]`` each.
        inputs: Mean of the inputs whose unit it is, ``[U, H, W, 3]`` uint8; None where they are no images.
    """

    name: str
    grid: Sequence[int]
    hits: np.ndarray
    classes: np.ndarray | None
    u_matrix: np.ndarray | None
    attacked: dict[str, np.ndarray]
    inputs: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class CodePortrait:
    """What is drawn of the functional codes of some layers at one step."""

    title: str
    maps: Sequence[MapPortrait]


def has_figures(figures: int | Literal["log"] | None, snapshot: int) -> bool:
    """Whether the snapshot of this number has figures: 0, 1, 2, 4, 8, ... for ``"log"``, else every k-th."""
    if figures == "log":
        return snapshot & (snapshot - 1) == 0
    return bool(figures) and snapshot % int(figures or 1) == 0
