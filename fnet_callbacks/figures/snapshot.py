"""Figures of one snapshot by matplotlib: its correlations, its homology."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fnet_callbacks import functional as F
from fnet_callbacks.figures.canvas import DPI, figure_of
from fnet_callbacks.figures.colours import PALETTE, tint
from fnet_callbacks.portrait import Portrait

# More levels cannot be told apart, and make the file larger.
_SHADES_OF_CORRELATION = colormaps["magma"].resampled(32)


def correlation_matrix(portrait: Portrait, colours: np.ndarray) -> Figure:
    """|r| with the neurons of a community side by side, a coloured strip along each."""
    assert portrait.correlation is not None
    order = np.argsort(portrait.partition, kind="stable")
    figure, axes = figure_of(6.4, 5.6, left=0.06, bottom=0.25, right=1.08, top=0.25)
    matrix = np.abs(portrait.correlation[np.ix_(order, order)])
    n = len(order)
    shown = axes.imshow(
        matrix,
        vmin=0,
        vmax=1,
        cmap=_SHADES_OF_CORRELATION,
        interpolation="nearest" if n < 400 else "antialiased",
        interpolation_stage="data",
    )
    width = max(1.0, 0.02 * n)
    axes.imshow(
        tint(colours[order])[:, None],
        extent=(-1.6 * width, -0.6 * width, n - 0.5, -0.5),
        aspect="auto",
        interpolation="nearest",
    )
    axes.set(xlim=(-1.8 * width, n - 0.5), ylim=(n - 0.5, -0.5), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set(title=f"|correlation|, by community, {portrait.title}", xlabel=f"{n} live neurons")
    figure.colorbar(shown, cax=figure.add_axes((0.865, 0.14, 0.035, 0.74)), label="|r|")
    return figure


def homology(portrait: Portrait) -> Figure:
    """Betti curves, and the persistence diagram."""
    figure = Figure(figsize=(8.4, 3.8), dpi=DPI)
    figure.subplots_adjust(left=0.085, bottom=0.13, right=0.99, top=0.92, wspace=0.4)
    curves, diagram = figure.subplots(1, 2, width_ratios=[1.2, 1])
    diagram.spines[["top", "right"]].set_visible(False)
    curves.spines["top"].set_visible(False)
    grid = np.linspace(0, 1, 101)
    twin = curves.twinx()
    twin.spines["top"].set_visible(False)
    names = (("components (β₀)", curves, PALETTE[0]), ("loops (β₁)", twin, PALETTE[5]))
    for points, (name, axes, colour) in zip(portrait.diagrams, names, strict=False):
        axes.plot(grid, F.betti_curve(points, grid), color=colour)
        axes.set_ylabel(name, color=colour)
        axes.set_ylim(bottom=0)
    if portrait.scale is not None:
        curves.axvline(portrait.scale, color="0.6", linestyle=":", linewidth=1)
        curves.text(portrait.scale, curves.get_ylim()[1], " graph", color="0.4", va="top")
    curves.set(title=f"Betti curves, {portrait.title}", xlabel="1 - |r|", xlim=(0, 1))
    _persistence_diagram(diagram, portrait.diagrams)
    return figure


def _persistence_diagram(axes: Axes, diagrams: list[np.ndarray]) -> None:
    finite = [d[np.isfinite(d[:, 1])] for d in diagrams]
    top = max([float(d.max()) for d in finite if d.size], default=1.0) * 1.05 or 1.0
    axes.plot([0, top], [0, top], color="0.7", linewidth=1)
    for points, name, colour, size in zip(
        finite, ("H₀", "H₁"), (PALETTE[0], PALETTE[5]), (5, 9), strict=False
    ):
        axes.scatter(
            *points.T, s=size, color=colour, label=f"{name} ({len(points)})", alpha=0.6, linewidths=0
        )
    axes.set(
        title="Persistence diagram",
        xlabel="birth",
        ylabel="death",
        xlim=(-0.02 * top, top),
        ylim=(-0.02 * top, top),
    )
    axes.legend(loc="lower right", frameon=False)
