"""What is carried on from one snapshot of a network to the next."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from fnet_callbacks import functional as F


@dataclass(frozen=True, slots=True)
class History:
    """The communities so far, by neuron.

    Attributes:
        names: Of the community that each neuron is in, ``[N]``, as `functional.trace` gives them; -1 where dead.
        n_names: How many were given so far.
        moves: Between how many successive snapshots each neuron changed its community, ``[N]``.
        chances: Between how many it was alive, ``[N]``.
    """

    names: np.ndarray
    n_names: int
    moves: np.ndarray
    chances: np.ndarray

    @classmethod
    def of_none(cls, n_neurons: int, *, n_names: int = 0) -> Self:
        """Before the first snapshot; ``n_names`` were given to communities of others."""
        none = np.zeros(n_neurons, np.int64)
        return cls(none - 1, n_names, none, none)

    def next(self, partition: np.ndarray) -> Self:
        """With one more snapshot, whose communities are ``[N]``, -1 where dead."""
        names = F.follow(partition, self.names, first_new=self.n_names)
        there = (names >= 0) & (self.names >= 0)
        n_names = max(self.n_names, int(names.max(initial=-1)) + 1)
        return type(self)(names, n_names, self.moves + (there & (names != self.names)), self.chances + there)


@dataclass(frozen=True, slots=True)
class Previous:
    """What is carried on to the next snapshot, by neuron.

    Attributes:
        partition: Communities ``[N]``, -1 where dead.
        edges: ``[E, 2]``, i < j, sorted by (i, j).
        history: The communities so far, this snapshot's among them; None where nothing is known of them.
        of_graph: Numbers that follow from the edges alone, by what they are: as long as no edge changes they are
            not computed again.
        is_settled: Whether the partition is also what Louvain started from, so that the same graph gives it again.
    """

    partition: np.ndarray
    edges: np.ndarray
    history: History | None = None
    of_graph: Mapping[str, float] = field(default_factory=dict)
    is_settled: bool = False

    def names_alone(self) -> Self:
        """What is left of it for neurons that are others, or were measured otherwise: the names that are taken."""
        n_names = 0 if self.history is None else self.history.n_names
        none = np.empty((0, 2), np.int64)
        return type(self)(np.empty(0, np.int64), none, History.of_none(0, n_names=n_names))
