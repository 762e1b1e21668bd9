"""Quantities of the linear regions that inputs are in (Picchiotti & Gori 2021)."""

from __future__ import annotations

from fnet_callbacks.quantities.quantity import Quantity

DEAD_SHARE = Quantity(
    "dead_share",
    "share of units that are dead",
    "Share of the piecewise-linear units that have slope 0 for all inputs of the probe.",
    (0, 1),
    chart="units on one piece",
)
ALWAYS_ON_SHARE = Quantity(
    "always_on_share",
    "share of units that are always on",
    "Share of the piecewise-linear units that are on one sloped piece for all inputs of the probe.",
    (0, 1),
    chart="units on one piece",
)
OF_LAYER = (DEAD_SHARE, ALWAYS_ON_SHARE)
OF_PATTERNS = (
    Quantity(
        "n_patterns",
        "linear regions that are inhabited",
        "Number of distinct patterns of active units among the inputs of the probe: each is a linear region.",
        (0, None),
    ),
    Quantity(
        "singleton_share",
        "share of inputs alone in their region",
        "Share of the inputs that are alone in their region.",
        (0, 1),
        chart="inputs and regions",
    ),
    Quantity(
        "pattern_entropy",
        "entropy of regions",
        "Entropy of the regions' sizes, as a share of log S: 1 where each of the S inputs has its own.",
        (0, 1),
        chart="inputs and regions",
    ),
    Quantity(
        "unchanged_share",
        "share of inputs with the last pattern",
        "Share of the inputs whose pattern is that of the last snapshot.",
        (0, 1),
        chart="inputs and regions",
        compares=True,
    ),
    *OF_LAYER,
)
PURITY = Quantity(
    "purity",
    "purity of regions",
    "Share of the inputs that are of the commonest class of their region.",
    (0, 1),
    chart="inputs and regions",
)
LINES = (
    Quantity(
        "crossings",
        "borders between two inputs",
        "Number of borders between regions on the straight line between two inputs, the mean over lines.",
        (0, None),
        chart="borders",
    ),
    Quantity(
        "crossings_same",
        "borders between two inputs of a class",
        "Number of borders between regions on the straight line between two inputs of one class, the mean over lines.",
        (0, None),
        chart="borders",
    ),
    Quantity(
        "crossings_different",
        "borders between two inputs of two classes",
        "Number of borders between regions on the straight line between two inputs of different classes, the mean over "
        "lines.",
        (0, None),
        chart="borders",
    ),
)
ATTACKED_DISTANCE = Quantity(
    "attacked_distance",
    "breaks that FGSM moves inputs over",
    "Mean share of the units' breaks that FGSM moves an input over.",
    (0, 1),
)
REGIONS = (*OF_PATTERNS, PURITY, *LINES, ATTACKED_DISTANCE)
