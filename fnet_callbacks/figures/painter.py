"""Draws a network again and again; positions and colours carry over from one picture to the next."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
import scipy.optimize  # noqa: F401 F.follow needs it: here it is loaded with the rest, not when a picture is due

from fnet_callbacks import functional as F
from fnet_callbacks.figures.drawing import Drawing
from fnet_callbacks.figures.frame import Frame
from fnet_callbacks.figures.graph import graph
from fnet_callbacks.figures.names import DEFAULT, available, checked_names, of_codes
from fnet_callbacks.functional.layout import spring_positions
from fnet_callbacks.portrait import CodePortrait, Portrait

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_FRAMES = 64  # side by side more cannot be told apart; then every second is forgotten
# How often all nodes move: for the first layout, for one that goes on, and at least; in between as many pairs of nodes.
_FIRST_MOVES, _MOVES, _LEAST_MOVES, _PAIRS = 100, 30, 10, 6_000_000


class Painter:
    """Draws portraits of one network; remembers where each neuron stood and which colour its community had."""

    def __init__(self) -> None:
        self._positions: dict[int, np.ndarray] = {}
        self._colour_of: dict[int, int] = {}
        self._frames: list[Frame] = []

    @property
    def n_snapshots(self) -> int:
        """How many are remembered."""
        return len(self._frames)

    def paint(
        self, portrait: Portrait | CodePortrait, names: Collection[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Images ``[H, W, 3]`` uint8 by name; those that there is nothing to show in are left out.

        A portrait of the same title as the last one is taken for the same snapshot: nothing moves.

        Args:
            portrait: What is drawn.
            names: Those that are drawn; none for remembering the snapshot alone. Of a network ``"graph"``,
                ``"communities"``, ``"homology"``, ``"correlation"`` and, from the second snapshot on, ``"neurons"`` and
                ``"evolution"``; of codes ``"<layer>"``, a layer's map, and ``"<layer>/inputs"``. Default: the first
                three; of codes those of the last layer.

        Raises:
            FnetError: A name is no figure's; the message has the nearest.

        Cost: O(n² + E). The graph, for which matplotlib is not loaded, takes less than 0.1 s of CPU for 512 neurons and
            13,000 edges, layout included; most of the others as much, and the first of them a second to load it.
        """
        figures = self.figures(portrait, names)
        if any(not isinstance(figure, Drawing) for figure in figures.values()):
            from fnet_callbacks.figures.canvas import image_of
        return {
            name: figure.image() if isinstance(figure, Drawing) else image_of(figure)
            for name, figure in figures.items()
        }

    def figures(
        self, portrait: Portrait | CodePortrait, names: Collection[str] | None = None
    ) -> dict[str, Drawing | Figure]:
        """What `paint` makes images of; its arguments."""
        if isinstance(portrait, CodePortrait):
            return {**_maps(portrait, names)}
        wanted = {*(DEFAULT if names is None else checked_names(names))}
        if len(portrait.nodes) < 2:
            return {}
        colours, layout = self._look_at(portrait)
        found: dict[str, Drawing | Figure] = {}
        wanted &= {*available(portrait, self.n_snapshots)}
        if "graph" in wanted:
            found["graph"] = graph(portrait, colours, layout)
        if wanted - {"graph"}:
            from fnet_callbacks.figures import snapshot, timeline

            draw = {
                "communities": lambda: timeline.alluvial(self._frames),
                "homology": lambda: snapshot.homology(portrait),
                "correlation": lambda: snapshot.correlation_matrix(portrait, colours),
                "neurons": lambda: timeline.neurons(self._frames),
                "evolution": lambda: timeline.strip(self._frames),
            }
            found |= {name: make() for name, make in draw.items() if name in wanted}
        return found

    def _look_at(self, portrait: Portrait) -> tuple[np.ndarray, np.ndarray]:
        """Colour and place of each node, which are remembered."""
        if self._frames and self._frames[-1].title == portrait.title:
            last = self._frames[-1]
            if np.array_equal(last.nodes, portrait.nodes):
                return last.colours[last.nodes], last.layout
        colours, layout = self._colours(portrait), self._layout(portrait)
        if len(self._frames) == _MAX_FRAMES:
            self._frames = self._frames[::2]
        self._frames.append(Frame.of(portrait, colours, layout))
        return colours, layout

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
        moves = min(_MOVES if self._positions else _FIRST_MOVES, max(_LEAST_MOVES, _PAIRS // n**2))
        layout = _fitted(spring_positions(portrait.edges, start, moves))
        self._positions.update(zip(portrait.nodes.tolist(), layout, strict=True))
        return layout


def _maps(portrait: CodePortrait, names: Collection[str] | None) -> dict[str, Figure]:
    every = of_codes(portrait)
    wanted = checked_names(names, every) if names is not None else of_codes(portrait, last=True)
    if not wanted:
        return {}
    from fnet_callbacks.figures import maps

    return maps.figures(portrait, wanted)


def _fitted(layout: np.ndarray) -> np.ndarray:
    """Positions inside the unit circle: nearly all of them fill it, the few far ones stand on its rim."""
    layout = layout - layout.mean(0)
    radius = np.hypot(*layout.T)
    scale = np.quantile(radius, 0.97) or radius.max() or 1.0
    return layout / np.maximum(radius, scale)[:, None]
