"""Pictures of a snapshot, as images that every sink takes; positions and colours carry over to the next."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from fnet_callbacks import functional as F
from fnet_callbacks.portrait import Portrait

_DPI = 110
# Okabe and Ito's colours, which the colour-blind can tell apart, a darker shade of each, and one for all others.
_SHADES = np.array(
    [
        to_rgb(f"#{code}")
        for code in ("0072B2", "E69F00", "009E73", "CC79A7", "56B4E9", "D55E00", "F0E442", "7F7F7F")
    ]
)
_PALETTE = np.vstack([_SHADES, 0.6 * _SHADES, [[0.75, 0.75, 0.75]]])
_OTHER = len(_PALETTE) - 1
_LABELS = 12  # that fit below the bars, slanted
# More levels cannot be told apart, and make the file larger.
_SHADES_OF_CORRELATION = colormaps["magma"].resampled(32)


class Painter:
    """Draws portraits of one network; remembers where each neuron stood and which colour its community had."""

    def __init__(self) -> None:
        self._positions: dict[int, np.ndarray] = {}
        self._colour_of: dict[int, int] = {}
        self._sizes: list[tuple[str, np.ndarray]] = []

    def paint(self, portrait: Portrait) -> dict[str, np.ndarray]:
        """Images ``[H, W, 3]`` uint8 by name; those that there is nothing to show in are left out.

        Cost: O(n² + E) each, the first layout most; at some hundred nodes most of it is axes and texts.
        """
        if len(portrait.nodes) < 2:
            return {}
        colours = self._colours(portrait)
        images = {
            "correlation": _correlation_matrix(portrait, colours),
            "graph": self._graph(portrait, colours),
            "communities": self._communities(portrait, colours),
        }
        if portrait.diagrams:
            images["homology"] = _homology(portrait)
        return images

    def _colours(self, portrait: Portrait) -> np.ndarray:
        """Colour number of each node; a community takes over the colour of the one it shares most neurons with."""
        neurons = portrait.nodes.tolist()
        before = np.array([self._colour_of.get(i, -1) for i in neurons])
        colours = F.follow(portrait.partition, before)
        self._colour_of = dict(zip(neurons, colours.tolist(), strict=True))
        return colours

    def _layout(self, portrait: Portrait) -> np.ndarray:
        """Positions ``[n, 2]``: a force-directed layout that starts from where the nodes stood before."""
        n = len(portrait.nodes)
        angle = 2 * np.pi * portrait.partition / (portrait.partition.max() + 1)
        jitter = np.random.default_rng(0).normal(scale=0.15, size=(portrait.n_neurons, 2))[portrait.nodes]
        start = np.stack([np.cos(angle), np.sin(angle)], axis=1) + jitter
        for k, neuron in enumerate(portrait.nodes.tolist()):
            start[k] = self._positions.get(neuron, start[k])
        graph = F.Graph.from_edges(n, portrait.edges)
        layout = _fitted(F.spring_layout(graph, start, iterations=30 if self._positions else 200))
        self._positions.update(zip(portrait.nodes.tolist(), layout, strict=True))
        return layout

    def _graph(self, portrait: Portrait, colours: np.ndarray) -> np.ndarray:
        figure, axes = _figure(6.0, 6.0, left=0.15, bottom=0.3, right=0.15, top=0.3)
        layout = self._layout(portrait)
        same = portrait.partition[portrait.edges[:, 0]] == portrait.partition[portrait.edges[:, 1]]
        crowd = min(1.0, 1500 / max(len(portrait.edges), 1))
        for within, alpha in ((False, 0.12), (True, 0.3)):
            edges = portrait.edges[same == within]
            tint = _tint(colours[edges[:, 0]]) if within else _PALETTE[_OTHER]
            lines = LineCollection(
                list(layout[edges]), colors=tint, linewidths=0.5, alpha=alpha + 0.3 * crowd
            )
            axes.add_collection(lines, autolim=False)
        dots = {"s": max(6, 3000 / len(layout)), "linewidths": 0.3, "edgecolors": "white", "zorder": 2}
        axes.scatter(*layout.T, c=_tint(colours), **dots)
        axes.set(
            title=f"Functional network, {portrait.title}",
            aspect="equal",
            xlim=(-1.06, 1.06),
            ylim=(-1.06, 1.06),
        )
        axes.set_axis_off()
        n_communities = int(portrait.partition.max()) + 1
        caption = f"{len(layout)} neurons, {len(portrait.edges)} edges, {n_communities} communities"
        axes.text(0, -0.02, caption, transform=axes.transAxes, color="0.4")
        return _image(figure)

    def _communities(self, portrait: Portrait, colours: np.ndarray) -> np.ndarray:
        """Sizes of the communities at the snapshots drawn so far, stacked; those without a colour as one."""
        sizes = np.bincount(np.minimum(colours, _OTHER), minlength=len(_PALETTE))
        self._sizes.append((portrait.title, sizes))
        labels = [title.removeprefix("step ") for title, _ in self._sizes]
        slanted = sum(map(len, labels)) > 32
        figure, axes = _figure(6.0, 3.6, left=0.7, bottom=0.92 if slanted else 0.5, right=0.1, top=0.3)
        heights = np.array([sizes for _, sizes in self._sizes])
        snapshot, colour = np.nonzero(heights)
        top = heights.cumsum(1)[snapshot, colour]
        left, right, bottom = snapshot - 0.4, snapshot + 0.4, top - heights[snapshot, colour]
        corners = np.array([[left, bottom], [right, bottom], [right, top], [left, top]])
        bars = PolyCollection(
            list(corners.transpose(2, 0, 1)), facecolors=_tint(colour), edgecolors="white", linewidths=0.5
        )
        axes.add_collection(bars, autolim=False)
        axes.set(xlim=(-0.7, len(labels) - 0.3), ylim=(0, 1.05 * top.max()))
        every = -(-len(labels) // _LABELS)
        axes.set_xticks(range(0, len(labels), every), labels[::every], rotation=45 if slanted else 0)
        axes.set(title="Community sizes", xlabel="step", ylabel="live neurons")
        return _image(figure)


def _fitted(layout: np.ndarray) -> np.ndarray:
    """Positions inside the unit circle: nearly all of them fill it, the few far ones stand on its rim."""
    layout = layout - layout.mean(0)
    radius = np.hypot(*layout.T)
    scale = np.quantile(radius, 0.97) or radius.max() or 1.0
    return layout / np.maximum(radius, scale)[:, None]


def _correlation_matrix(portrait: Portrait, colours: np.ndarray) -> np.ndarray:
    """|r| with the neurons of a community side by side, a coloured strip along each."""
    order = np.argsort(portrait.partition, kind="stable")
    figure, axes = _figure(6.4, 5.6, left=0.06, bottom=0.25, right=1.08, top=0.25)
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
        _tint(colours[order])[:, None],
        extent=(-1.6 * width, -0.6 * width, n - 0.5, -0.5),
        aspect="auto",
        interpolation="nearest",
    )
    axes.set(xlim=(-1.8 * width, n - 0.5), ylim=(n - 0.5, -0.5), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set(title=f"|correlation|, by community, {portrait.title}", xlabel=f"{n} live neurons")
    figure.colorbar(shown, cax=figure.add_axes((0.865, 0.14, 0.035, 0.74)), label="|r|")
    return _image(figure)


def _homology(portrait: Portrait) -> np.ndarray:
    figure = Figure(figsize=(8.4, 3.8), dpi=_DPI)
    figure.subplots_adjust(left=0.085, bottom=0.13, right=0.99, top=0.92, wspace=0.4)
    curves, diagram = figure.subplots(1, 2, width_ratios=[1.2, 1])
    diagram.spines[["top", "right"]].set_visible(False)
    curves.spines["top"].set_visible(False)
    grid = np.linspace(0, 1, 101)
    twin = curves.twinx()
    twin.spines["top"].set_visible(False)
    names = (("components (β₀)", curves, _PALETTE[0]), ("loops (β₁)", twin, _PALETTE[5]))
    for points, (name, axes, colour) in zip(portrait.diagrams, names, strict=False):
        axes.plot(grid, F.betti_curve(points, grid), color=colour)
        axes.set_ylabel(name, color=colour)
        axes.set_ylim(bottom=0)
    if portrait.scale is not None:
        curves.axvline(portrait.scale, color="0.6", linestyle=":", linewidth=1)
        curves.text(portrait.scale, curves.get_ylim()[1], " graph", color="0.4", va="top")
    curves.set(title=f"Betti curves, {portrait.title}", xlabel="1 - |r|", xlim=(0, 1))
    _persistence_diagram(diagram, portrait.diagrams)
    return _image(figure)


def _persistence_diagram(axes: Axes, diagrams: list[np.ndarray]) -> None:
    finite = [d[np.isfinite(d[:, 1])] for d in diagrams]
    top = max([float(d.max()) for d in finite if d.size], default=1.0) * 1.05 or 1.0
    axes.plot([0, top], [0, top], color="0.7", linewidth=1)
    for points, name, colour, size in zip(
        finite, ("H₀", "H₁"), (_PALETTE[0], _PALETTE[5]), (5, 9), strict=False
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


def _figure(
    width: float, height: float, *, left: float, bottom: float, right: float, top: float
) -> tuple[Figure, Axes]:
    """A figure and axes with the given margins, in inches: to find margins that fit would draw all texts twice."""
    figure = Figure(figsize=(width, height), dpi=_DPI)
    size = ((width - left - right) / width, (height - bottom - top) / height)
    axes = figure.add_axes((left / width, bottom / height, *size))
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _image(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _tint(colours: np.ndarray) -> np.ndarray:
    """Red, green and blue of colour numbers, ``[n, 3]``."""
    return _PALETTE[np.minimum(colours, _OTHER)]
