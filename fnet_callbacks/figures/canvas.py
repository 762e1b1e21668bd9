"""What all figures are drawn on: colours, margins, images."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from fnet_callbacks.palette import COLOURS

DPI = 110
# The colours, a darker shade of each, and one for all others.
_SHADES = np.array([to_rgb(colour) for colour in COLOURS])
PALETTE = np.vstack([_SHADES, 0.6 * _SHADES, [[0.75, 0.75, 0.75]]])
OTHER = len(PALETTE) - 1


def figure_of(
    width: float, height: float, *, left: float, bottom: float, right: float, top: float
) -> tuple[Figure, Axes]:
    """A figure and axes with the given margins, in inches: to find margins that fit would draw all texts twice."""
    figure = Figure(figsize=(width, height), dpi=DPI)
    size = ((width - left - right) / width, (height - bottom - top) / height)
    axes = figure.add_axes((left / width, bottom / height, *size))
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def image_of(figure: Figure) -> np.ndarray:
    """What a figure looks like, ``[H, W, 3]`` uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def tint(colours: np.ndarray) -> np.ndarray:
    """Red, green and blue of colour numbers, ``[n, 3]``."""
    return PALETTE[np.minimum(colours, OTHER)]
