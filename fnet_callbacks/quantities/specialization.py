"""Quantities of local specialization: are groups of units important and coherent?"""

from __future__ import annotations

from collections.abc import Iterable

from fnet_callbacks.quantities.quantity import Quantity

# What is tested of each group of units, against random groups of its size in its layer (Hod et al. 2021).
_HYPOTHESES = {
    "importance": "accuracy falls further where a group's units are lesioned",
    "coherence": "the damage of lesioning a group is spread over the classes more unevenly",
    "label_entropy": "the inputs that activate a group most are of fewer classes",
    "objective": "an input made for a group activates it more",
    "softmax_entropy": "the network is surer of the class of an input made for a group",
}
QUESTIONS: tuple[str, ...] = tuple(_HYPOTHESES)

N_SUBCLUSTERS = Quantity(
    "n_subclusters",
    "number of tested groups of units",
    "Number of groups: the units of one cluster in one layer, two or more and not all of the layer.",
    (0, None),
)
NCUT = Quantity(
    "ncut",
    "normalised cut of the units' clusters",
    "Sum over the clusters of the share of their edges' weight that leaves them (Shi & Malik 2000).",
    (0, None),
    chart="normalised cut",
)
Z_SCORE = Quantity(
    "z_score",
    "normalised cut, z against shuffled networks",
    "Normalised cut less its mean over networks with shuffled weights, in their standard deviations: below 0 where the "
    "network falls into clusters better than these (Filan et al. 2021).",
)
PARTITION_AMI = Quantity(
    "partition_ami",
    "agreement with the last clusters (AMI)",
    "Adjusted mutual information of the units' clusters with those one snapshot before: 1 the same, 0 chance.",
    (-1, 1),
    chart="clusters",
    compares=True,
)


def of_question(question: str) -> tuple[Quantity, Quantity, Quantity]:
    """What is measured of a question about groups of units: p-value, effect, share of significant groups."""
    hypothesis, words = _HYPOTHESES[question], question.replace("_", " ")
    return (
        Quantity(
            f"{question}_p",
            f"{words} of groups of units, p",
            f"Fisher's p over all groups for the hypothesis that {hypothesis} than with random groups (Hod et al. "
            "2021).",
            (0, 1),
            chart="p-values",
        ),
        Quantity(
            f"{question}_effect",
            f"{words} of groups of units, effect",
            f"How far {hypothesis} than with random groups: mean of 2 D / (D + D of random groups), 1 for no "
            f"difference, {'below' if question.endswith('entropy') else 'above'} 1 in favour.",
            (0, 2),
            chart="effects",
        ),
        Quantity(
            f"{question}_share",
            f"{words} of groups of units, share at p ≤ 0.05",
            f"Share of the groups for which, at p = 0.05, {hypothesis} than with random groups; 0.05 by chance.",
            (0, 1),
            chart="shares of significant groups",
        ),
    )


def of_groups(questions: Iterable[str], *, has_z: bool) -> tuple[Quantity, ...]:
    """All quantities for some questions; ``has_z`` where networks are shuffled."""
    z = (Z_SCORE,) if has_z else ()
    return (
        N_SUBCLUSTERS,
        NCUT,
        *z,
        PARTITION_AMI,
        *(q for question in questions for q in of_question(question)),
    )
