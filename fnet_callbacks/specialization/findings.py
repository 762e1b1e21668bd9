"""What is found of a network's groups of units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fnet_callbacks import functional as F

QUESTIONS = ("importance", "coherence", "label_entropy", "objective", "softmax_entropy")


@dataclass(frozen=True, slots=True)
class GroupTest:
    """A score against that of random groups.

    Attributes:
        effect: Score over the mean of the group's and that of random groups, in [0, 2]: 1 like random groups, 2 where
            these score 0. See ``functional.relative_effect``; of several groups the mean of theirs. Importance and
            coherence are above 1 where groups are special, the two entropies below.
        p_value: See ``functional.reference_p``; of several groups ``functional.fisher_p``.
        score: Of the group; NaN of several.
    """

    effect: float = math.nan
    p_value: float = math.nan
    score: float = math.nan

    @classmethod
    def of(
        cls, scores: np.ndarray, tail: F.Tail, generator: np.random.Generator, *, of_losses: bool = False
    ) -> GroupTest:
        """The first score against the others.

        Args:
            scores: Of the group, then of the random ones.
            tail: Which scores are extreme.
            generator: Breaks ties.
            of_losses: Gains, above 0, count as 0 for the effect.
        """
        own, mean = float(scores[0]), float(scores[1:].mean())
        p = F.reference_p(own, scores[1:].tolist(), tail=tail, generator=generator)
        pair = (min(own, 0.0), min(mean, 0.0)) if of_losses else (own, mean)
        return cls(F.relative_effect(pair[0], [pair[1]]), p, own)

    @classmethod
    def together(cls, tests: Sequence[GroupTest], references: int) -> GroupTest:
        """Those of all groups of a network in one."""
        effects = [t.effect for t in tests if math.isfinite(t.effect)]
        p = F.fisher_p([t.p_value for t in tests], n_references=references)
        return cls(float(np.mean(effects)) if effects else math.nan, p)


@dataclass(frozen=True, slots=True)
class Subcluster:
    """The units of one cluster in one layer. The inputs that it likes are asked for with ``visualization_steps``.

    Attributes:
        layer: Its name.
        cluster: Number of the cluster.
        units: Indices of its units in the layer.
        accuracy: In each class with these units lesioned, ``[C]``.
        importance: Whether accuracy, the mean over classes, is lower than with random units lesioned.
        coherence: Whether the damage is spread over classes more unevenly: the range of the classes' losses over the
            absolute mean loss, which counts at no less than one sample; 0 where there is no damage.
        label_entropy: Whether the ten inputs that activate it most are of fewer classes: the entropy of their labels,
            a share of log C.
        objective: Whether an input made for it activates it more; see ``visualization``.
        softmax_entropy: Whether the network is surer of the class of that input: the entropy of its softmax, a share of
            log C.
    """

    layer: str
    cluster: int
    units: np.ndarray = field(repr=False)
    accuracy: np.ndarray = field(repr=False)
    importance: GroupTest
    coherence: GroupTest
    label_entropy: GroupTest
    objective: GroupTest = field(default=GroupTest(), repr=False)
    softmax_entropy: GroupTest = field(default=GroupTest(), repr=False)


@dataclass(frozen=True, slots=True)
class LocalSpecializationResult:
    """What `local_specialization` finds. Each test is that of all subclusters together.

    Attributes:
        layers: The watched layers, by name.
        n_units: Units of each.
        partition: Cluster of each unit of these, ``[N]``, layer after layer; -1 for a unit without edges. With
            ``scope="local"`` the numbers of different layers have nothing to do with each other.
        ncut: Of the partition of the whole graph, also with ``scope="local"``.
        z_score: Of n-cut against shuffled graphs, see ``functional.Clusterability``; NaN where none were made.
        p_value: Of n-cut.
        accuracy: Of the intact model in each class, ``[C]``; NaN for one that no sample has.
        references: Random groups beside each subcluster.
        subclusters: Those of two units or more, and no whole layer.
        importance: See `Subcluster`; so are the rest.
        coherence: See there.
        label_entropy: See there.
        objective: See there.
        softmax_entropy: See there.
    """

    layers: Sequence[str]
    n_units: Sequence[int]
    partition: np.ndarray = field(repr=False)
    ncut: float
    z_score: float
    p_value: float
    accuracy: np.ndarray
    references: int
    subclusters: Sequence[Subcluster] = field(repr=False)
    importance: GroupTest = field(init=False)
    coherence: GroupTest = field(init=False)
    label_entropy: GroupTest = field(init=False)
    objective: GroupTest = field(init=False, repr=False)
    softmax_entropy: GroupTest = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for question in QUESTIONS:
            tests = [getattr(s, question) for s in self.subclusters]
            object.__setattr__(self, question, GroupTest.together(tests, self.references))
