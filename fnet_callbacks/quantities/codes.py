"""Quantities of the functional codes of a layer (Lee & Vijayan 2022), and of attacks on them."""

from __future__ import annotations

from collections.abc import Iterable

from fnet_callbacks.quantities.quantity import Quantity

OF_MAP = (
    Quantity(
        "quantization_error",
        "quantization error",
        "Mean distance of a sample's code, standardised, from that of its unit on the layer's self-organising map "
        "(Kohonen 2001).",
        (0, None),
    ),
    Quantity(
        "topographic_error",
        "topographic error",
        "Share of the samples whose two nearest units are no neighbours on the map (Kiviluoto 1996).",
        (0, 1),
    ),
    Quantity(
        "used_units",
        "codes in use",
        "Number of units of the map that are some sample's functional code.",
        (0, None),
    ),
    Quantity(
        "code_entropy",
        "code entropy",
        "Entropy of the functional codes, as a share of its largest possible value.",
        (0, 1),
    ),
    Quantity(
        "participation_ratio",
        "participation ratio of codes",
        "(Σλ)² / Σλ² of the eigenvalues λ of the codes' covariance: over how many directions the layer spreads its "
        "codes.",
        (0, None),
    ),
    Quantity(
        "map_distance",
        "distance from the map of the layer before",
        "Procrustes disparity of the map of the layer before: how differently it lays out the same samples, once both "
        "are turned and scaled onto each other; 0 alike, 1 nothing in common.",
        (0, 1),
    ),
)
MAP_CHANGE = Quantity(
    "map_change",
    "distance from the last snapshot's map",
    "Procrustes disparity of the layer's own maps at this and the last snapshot: 0 alike, 1 nothing in common.",
    (0, 1),
    compares=True,
)
OF_LABELS = (
    Quantity(
        "label_nmi",
        "agreement of codes and labels (NMI)",
        "Mutual information of functional code and label, over the mean of their entropies.",
        (0, 1),
    ),
    Quantity(
        "label_ami",
        "agreement of codes and labels (AMI)",
        "Mutual information of functional code and label, adjusted for chance: 0 by chance, 1 the same.",
        (-1, 1),
    ),
    Quantity(
        "prediction_nmi",
        "agreement of codes and predictions (NMI)",
        "Mutual information of functional code and predicted class, over the mean of their entropies.",
        (0, 1),
    ),
    Quantity(
        "prediction_ami",
        "agreement of codes and predictions (AMI)",
        "Mutual information of functional code and predicted class, adjusted for chance: 0 by chance, 1 the same.",
        (-1, 1),
    ),
    Quantity(
        "compactness",
        "spread of classes over the map, to chance",
        "Distance on the map of a class's samples from their centre, over the same with shuffled labels: 1 anywhere, 0 "
        "on one unit.",
        (0, None),
    ),
)
_SHIFTS = {
    "displacement": (
        "displacement of codes by {}",
        "Mean distance by which {} moves codes, over the mean distance of clean codes from their mean.",
        (0, None),
    ),
    "changed_share": (
        "share of codes changed by {}",
        "Share of the inputs whose functional code is another after {}.",
        (0, 1),
    ),
    "distance": (
        "distance on the map moved by {}",
        "Mean distance on the map, in units, of an input's functional code and that after {}.",
        (0, None),
    ),
}


def shifted(attack: str) -> tuple[Quantity, ...]:
    """What is measured in each layer of an attack on codes, and of noise of its norm."""
    name = attack.upper()
    sources = (("", name), ("noise_", f"noise of {name}'s norm"))
    moved = (
        Quantity(f"{attack}_{of}{what}", label.format(source), definition.format(source), bounds)
        for of, source in sources
        for what, (label, definition, bounds) in _SHIFTS.items()
    )
    departed = Quantity(
        f"{attack}_departed_share",
        f"share of codes moved beyond noise by {name}",
        f"Share of the inputs whose code {name} moves further than noise of the same norm moves 95 % of them.",
        (0, 1),
    )
    return *moved, departed


def departure(attack: str) -> Quantity:
    """From which layer on an attack leaves noise behind."""
    name = attack.upper()
    return Quantity(
        f"{attack}_departure",
        f"first layer where {name} moves codes beyond noise",
        f"The layer, counted from 1, from which on to the last {name} moves most inputs' codes further than noise of "
        "the same norm moves 95 % of them.",
        (1, None),
    )


def of_layer(*, is_labelled: bool, attacks: Iterable[str] = ()) -> tuple[Quantity, ...]:
    """What is measured of each layer."""
    labels = OF_LABELS if is_labelled else ()
    return *OF_MAP, MAP_CHANGE, *labels, *(q for attack in attacks for q in shifted(attack))
