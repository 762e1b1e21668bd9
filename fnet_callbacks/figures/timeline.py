"""Figures of many snapshots: how communities flow into each other, where each neuron went, how the graph moved."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure

from fnet_callbacks.figures.canvas import DPI, figure_of
from fnet_callbacks.figures.colours import OTHER, PALETTE, tint
from fnet_callbacks.figures.frame import Frame

_LABELS = 12  # that fit below the bars, slanted
_FRAMES = 6  # in a strip
_BAR = 0.12  # half the width of a bar, where snapshots are one apart


def alluvial(frames: Sequence[Frame]) -> Figure:
    """Sizes of the communities at each snapshot, stacked, and how many neurons went from which to which.

    Communities without a colour of their own are one.
    """
    slanted = sum(len(frame.step) for frame in frames) > 32
    figure, axes = figure_of(6.8, 4.0, left=0.7, bottom=0.92 if slanted else 0.5, right=0.1, top=0.3)
    colours = [np.where(f.colours < 0, -1, np.minimum(f.colours, OTHER)) for f in frames]
    heights = np.array([np.bincount(c[c >= 0], minlength=len(PALETTE)) for c in colours])
    bottoms = heights.cumsum(1) - heights
    ribbons, tints = [], []
    for t, (before, after) in enumerate(pairwise(colours)):
        for path, colour in _flows(before, after, bottoms[t], bottoms[t + 1]):
            ribbons.append(path + np.array([t, 0]))
            tints.append(colour)
    axes.add_collection(
        PolyCollection(ribbons, facecolors=tint(np.array(tints, int)), alpha=0.35, linewidths=0),
        autolim=False,
    )
    snapshot, colour = np.nonzero(heights)
    bottom = bottoms[snapshot, colour]
    left, right, top = snapshot - _BAR, snapshot + _BAR, bottom + heights[snapshot, colour]
    corners = np.array([[left, bottom], [right, bottom], [right, top], [left, top]])
    bars = PolyCollection(
        list(corners.transpose(2, 0, 1)), facecolors=tint(colour), edgecolors="white", linewidths=0.4
    )
    axes.add_collection(bars, autolim=False)
    axes.set(xlim=(-0.4, len(frames) - 0.6), ylim=(0, 1.05 * heights.sum(1).max()))
    _name_snapshots(axes, frames, slanted=slanted)
    axes.set(title="Communities through time", xlabel="step", ylabel="live neurons")
    return figure


def neurons(frames: Sequence[Frame]) -> Figure:
    """The community of every neuron at every snapshot; those that end in the same one stand together."""
    slanted = sum(len(frame.step) for frame in frames) > 32
    figure, axes = figure_of(6.0, 4.6, left=0.7, bottom=0.92 if slanted else 0.5, right=0.1, top=0.3)
    colours = np.stack([frame.colours for frame in frames], axis=1)
    order = np.lexsort(colours.T)
    shown = np.where((colours < 0)[..., None], 1.0, tint(colours))[order]
    n, n_frames = colours.shape
    axes.imshow(shown, extent=(-0.5, n_frames - 0.5, n, 0), aspect="auto", interpolation="nearest")
    _name_snapshots(axes, frames, slanted=slanted)
    axes.set(title="Communities of the neurons (white: dead)", xlabel="step", ylabel="neurons")
    return figure


def _name_snapshots(axes: Axes, frames: Sequence[Frame], *, slanted: bool) -> None:
    """Writes steps below as many snapshots as there is room for; slanted ones end below theirs."""
    every = -(-len(frames) // _LABELS)
    slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    axes.set_xticks(range(0, len(frames), every), [frame.step for frame in frames[::every]], **slant)


def strip(frames: Sequence[Frame]) -> Figure:
    """The graph at some snapshots side by side, the first and the last among them."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(_FRAMES, len(frames))).round().astype(int))
    size = 2.2
    figure = Figure(figsize=(size * len(chosen), size + 0.3), dpi=DPI)
    for place, frame in enumerate(frames[i] for i in chosen):
        axes = figure.add_axes((place / len(chosen), 0, 1 / len(chosen), size / (size + 0.3)))
        colours = frame.colours[frame.nodes]
        axes.add_collection(
            LineCollection(
                list(frame.layout[frame.edges]),
                colors=tint(colours[frame.edges[:, 0]]),
                linewidths=0.3,
                alpha=0.4,
            ),
            autolim=False,
        )
        axes.scatter(*frame.layout.T, c=tint(colours), s=max(2, 800 / len(colours)), linewidths=0, zorder=2)
        axes.set(aspect="equal", xlim=(-1.06, 1.06), ylim=(-1.06, 1.06))
        axes.set_title(f"step {frame.step}", fontsize=9)
        axes.set_axis_off()
    return figure


def _flows(
    before: np.ndarray, after: np.ndarray, bottoms: np.ndarray, next_bottoms: np.ndarray
) -> list[tuple[np.ndarray, int]]:
    """Ribbons from the bars at 0 to those at 1, ``[P, 2]``, and the colour that each comes from."""
    both = (before >= 0) & (after >= 0)
    shared = np.zeros((len(PALETTE), len(PALETTE)), int)
    np.add.at(shared, (before[both], after[both]), 1)
    x = np.linspace(_BAR, 1 - _BAR, 17)
    rise = (1 - np.cos(np.pi * np.linspace(0, 1, len(x)))) / 2
    leaving, arriving = bottoms.copy(), next_bottoms.copy()
    found = []
    for source, target in zip(*np.nonzero(shared), strict=True):
        count = shared[source, target]
        low = leaving[source] + (arriving[target] - leaving[source]) * rise
        found.append((np.vstack([np.c_[x, low], np.c_[x, low + count][::-1]]), int(source)))
        leaving[source] += count
        arriving[target] += count
    return found
