"""Quantities of lesions: accuracy as neurons are silenced."""

from fnet_callbacks.quantities.quantity import Quantity
from fnet_callbacks.quantities.robustness import CLEAN_ACCURACY

LESIONS = (
    CLEAN_ACCURACY,
    Quantity(
        "random_tolerance",
        "tolerance of lesions at random",
        "Area under accuracy over the share of neurons silenced at random, relative to the intact network's accuracy.",
        (0, None),
        chart="tolerance of lesions",
    ),
    Quantity(
        "degree_tolerance",
        "tolerance of lesions, hubs first",
        "Area under accuracy over the share of neurons silenced, those with the most neighbours first, relative to the "
        "intact network's accuracy.",
        (0, None),
        chart="tolerance of lesions",
    ),
)
