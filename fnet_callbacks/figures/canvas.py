"""What figures of matplotlib are drawn on: margins, images, files."""

import io

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DPI = 110


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


def svg_of(figure: Figure) -> str:
    """A figure as SVG; the same figure gives the same text."""
    file = io.StringIO()
    with rc_context({"svg.hashsalt": "fnet"}):  # of the names of clips and glyphs, else drawn at random
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
