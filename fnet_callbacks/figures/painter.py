"""Draws a network again and again; positions and colours carry over from one picture to the next."""

import numpy as np

from fnet_callbacks import functional as F
from fnet_callbacks.figures import maps, snapshot, timeline
from fnet_callbacks.figures.canvas import image_of
from fnet_callbacks.figures.timeline import Frame
from fnet_callbacks.portrait import CodePortrait, Portrait

_MAX_FRAMES = 64  # side by side more cannot be told apart; then every second is forgotten


class Painter:
    """Draws portraits of one network; remembers where each neuron stood and which colour its community had."""

    def __init__(self) -> None:
        self._positions: dict[int, np.ndarray] = {}
        self._colour_of: dict[int, int] = {}
        self._frames: list[Frame] = []

    def paint(self, portrait: Portrait | CodePortrait) -> dict[str, np.ndarray]:
        """Images ``[H, W, 3]`` uint8 by name; those that there is nothing to show in are left out.

        Cost: O(n² + E) each, the first layout most; at some hundred nodes most of it is axes and texts.
        """
        if isinstance(portrait, CodePortrait):
            return {name: image_of(figure) for name, figure in maps.figures(portrait).items()}
        if len(portrait.nodes) < 2:
            return {}
        colours, layout = self._colours(portrait), self._layout(portrait)
        if len(self._frames) == _MAX_FRAMES:
            self._frames = self._frames[::2]
        self._frames.append(Frame.of(portrait, colours, layout))
        figures = {
            "correlation": snapshot.correlation_matrix(portrait, colours),
            "graph": snapshot.graph(portrait, colours, layout),
            "communities": timeline.alluvial(self._frames),
        }
        if portrait.diagrams:
            figures["homology"] = snapshot.homology(portrait)
        if len(self._frames) > 1:
            figures["neurons"] = timeline.neurons(self._frames)
            figures["evolution"] = timeline.strip(self._frames)
        return {name: image_of(figure) for name, figure in figures.items()}

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


def _fitted(layout: np.ndarray) -> np.ndarray:
    """Positions inside the unit circle: nearly all of them fill it, the few far ones stand on its rim."""
    layout = layout - layout.mean(0)
    radius = np.hypot(*layout.T)
    scale = np.quantile(radius, 0.97) or radius.max() or 1.0
    return layout / np.maximum(radius, scale)[:, None]
