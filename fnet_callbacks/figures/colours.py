"""Colours by number: what neurons of a community, samples of a class, and what has none are drawn in."""

import numpy as np

from fnet_callbacks.palette import COLOURS

# The colours, a darker shade of each, and one for all others.
_SHADES = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in COLOURS])
PALETTE = np.vstack([_SHADES, 0.6 * _SHADES, [[0.75, 0.75, 0.75]]])
OTHER = len(PALETTE) - 1


def tint(colours: np.ndarray) -> np.ndarray:
    """Red, green and blue of colour numbers, ``[n, 3]`` in [0, 1]."""
    return PALETTE[np.minimum(colours, OTHER)]
