"""The figure of a graph, which is drawn without matplotlib: cheap enough for the process that trains."""

import numpy as np

from fnet_callbacks.figures.colours import tint
from fnet_callbacks.figures.drawing import Drawing, Lines, Text
from fnet_callbacks.portrait import Portrait

_SIDE, _MARGIN = 660, 30  # pixels
_LINES = 3000  # of more edges some are drawn: they could not be told apart, and take the most time
_BETWEEN = 0.55  # the grey of edges between communities: paler ones are white among 256 colours


def graph(portrait: Portrait, colours: np.ndarray, layout: np.ndarray) -> Drawing:
    """The nodes at their places, ``[n, 2]`` in the unit circle, in the colours of their communities."""
    middle, radius = _SIDE / 2, (_SIDE / 2 - _MARGIN) / 1.06
    places = middle + radius * layout * (1, -1)
    edges = portrait.edges
    is_within = portrait.partition[edges[:, 0]] == portrait.partition[edges[:, 1]]
    is_drawn = _drawn(edges)
    few = min(1.0, 1500 / max(len(edges), 1))
    lines = []
    for within, faintest, strongest in ((False, 0.46, 0.6), (True, 0.5, 0.9)):
        drawn = edges[is_drawn & (is_within == within)]
        ink = tint(colours[drawn[:, 0]]) if within else np.full((len(drawn), 3), _BETWEEN)
        lines.append(Lines(places[drawn].reshape(-1, 4), ink, faintest + (strongest - faintest) * few))
    n_communities = int(portrait.partition.max()) + 1
    caption = f"{len(layout)} neurons, {len(edges)} edges, {n_communities} communities"
    texts = (
        Text(_MARGIN / 2, 17, f"Functional network, {portrait.title}", 18),
        Text(_MARGIN / 2, _SIDE - 17, caption, 15, grey=0.4),
    )
    # As large as there is room for: all dots together cover a share of the circle.
    size = min(9.0, max(2.4, 0.3 * radius / np.sqrt(len(layout))))
    return Drawing(_SIDE, lines, places, tint(colours), size, texts)


def _drawn(edges: np.ndarray) -> np.ndarray:
    """Which edges are drawn, ``[E]``: a seeded draw, with one of each node at least."""
    if len(edges) <= _LINES:
        return np.ones(len(edges), bool)
    order = np.random.default_rng(0).permutation(len(edges))
    _, first = np.unique(edges[order], return_index=True)
    is_drawn = np.zeros(len(edges), bool)
    is_drawn[order[:_LINES]] = is_drawn[order[first // 2]] = True
    return is_drawn
