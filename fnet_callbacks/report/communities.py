"""The figures of communities through time."""

from __future__ import annotations

from typing import Any

import numpy as np

from fnet_callbacks import functional as F
from fnet_callbacks.report.charts import COLOURS, Figure, axes, chosen, faint, options, plain
from fnet_callbacks.report.content import Content

_MAX_SNAPSHOTS = 12  # between which flows can be told apart
_MAX_NEURONS = 128  # whose pairs a screen can show
_LONE = -2  # stands for all communities of one neuron
_GREY = len(COLOURS) - 1
_COLOURED = (
    f"A community keeps its colour for life: the {_GREY} largest over training have one, the others are grey."
)


def communities(content: Content) -> Figure | None:
    """Which community each neuron was in, over training, one run at a time."""
    variants = {}
    for run in content.some_runs():
        steps, names = content.stories[run.name].steps, content.stories[run.name].names
        if not steps:
            continue
        watched = (names >= 0).any(axis=1)
        order = np.lexsort((names[watched][:, -1],))
        own = names[watched][order]
        shown = np.where(own < 0, np.nan, _colours(names)[own])
        n = len(COLOURS)
        scale = [[(i + k) / n, c] for i, c in enumerate(COLOURS) for k in (0, 1)]
        trace = {
            "type": "heatmap",
            "x": [f"{step}" for step in steps],
            "z": [plain(row) for row in shown],
            "zmin": -0.5,
            "zmax": n - 0.5,
            "colorscale": scale,
            "showscale": False,
            "hovertemplate": "step %{x}<extra></extra>",
        }
        layout = axes("step", "neurons")
        layout["xaxis"]["type"] = "category"
        layout["yaxis"]["showticklabels"] = False
        variants[chosen(content.label_of(run))] = {"data": [trace], "layout": layout}
    if not variants:
        return None
    return Figure(
        "communities",
        "Communities through time",
        "Heat map: a row for each neuron, a column for each snapshot, its colour the neuron's community",
        variants,
        [("Run", options(variants, 0))],
        f"Neurons in the order of their last community. {_COLOURED} Blank: dead.",
    )


def allegiances(content: Content) -> Figure | None:
    """How often pairs of neurons were in one community, one run at a time."""
    variants = {}
    for run in content.some_runs():
        names = content.stories[run.name].names
        if names.shape[1] < 2 or not (names[:, -1] >= 0).any():
            continue
        watched = names[
            names[:, -1] >= 0
        ]  # one that was alive once would stand beside any other as if for good
        order = np.argsort(watched[:, -1], kind="stable")
        some = order[np.linspace(0, len(order) - 1, min(_MAX_NEURONS, len(order))).round().astype(int)]
        trace = {
            "type": "heatmap",
            "z": [plain(row) for row in F.allegiance(watched[some]).round(2)],
            "zmin": 0,
            "zmax": 1,
            "colorscale": "Viridis",
            "hovertemplate": "together at %{z:.0%} of the snapshots<extra></extra>",
        }
        layout = axes("neurons", "neurons", equal=True)
        for axis in ("xaxis", "yaxis"):
            layout[axis] |= {"showticklabels": False, "constrain": "domain"}
        variants[chosen(content.label_of(run))] = {"data": [trace], "layout": layout | {"height": 520}}
    if not variants:
        return None
    return Figure(
        "allegiances",
        "Who stays with whom",
        "Heat map of neurons by neurons: the share of snapshots at which two are in one community",
        variants,
        [("Run", options(variants, 0))],
        f"Allegiance (Bassett et al. 2015) of at most {_MAX_NEURONS} neurons that are alive at the end, in the order "
        "of their last community: blocks are communities that lasted.",
    )


def flows(content: Content) -> Figure | None:
    """How many neurons went from which community to which, one run at a time."""
    variants = {}
    for run in content.some_runs():
        story = content.stories[run.name]
        if len(story.steps) > 1:
            places = np.linspace(0, len(story.steps) - 1, min(_MAX_SNAPSHOTS, len(story.steps)))
            some = np.unique(places.round().astype(int))
            steps = [story.steps[t] for t in some]
            trace = _sankey(story.names[:, some], steps, _colours(story.names))
            variants[chosen(content.label_of(run))] = {"data": [trace], "layout": _columns(steps)}
    if not variants:
        return None
    return Figure(
        "flows",
        "Flows between communities",
        "Alluvial diagram: a column of communities for each of some snapshots, and the neurons that go from one to the "
        "next",
        variants,
        [("Run", options(variants, 0))],
        f"At most {_MAX_SNAPSHOTS} snapshots, the first and the last among them. Heights: numbers of neurons; those "
        f"that are communities of their own are one. {_COLOURED}",
    )


def _colours(names: np.ndarray) -> np.ndarray:
    """Colour number of each community, ``[K]``."""
    sizes = np.bincount(names[names >= 0])
    return np.minimum(np.argsort(np.argsort(-sizes, kind="stable")), _GREY)


def _columns(steps: list[int]) -> dict[str, Any]:
    """A layout with the step below each column."""
    sides = ["left", *["center"] * (len(steps) - 2), "right"]
    common = {"xref": "paper", "yref": "paper", "y": 0, "yanchor": "top", "yshift": -8, "showarrow": False}
    texts = [
        {**common, "text": str(step), "x": t / (len(steps) - 1), "xanchor": side}
        for t, (step, side) in enumerate(zip(steps, sides, strict=True))
    ]
    return {"height": 520, "annotations": texts}


def _sankey(names: np.ndarray, steps: list[int], colours: np.ndarray) -> dict[str, Any]:
    """Communities as nodes in a column for each snapshot; those of one neuron are one."""
    place: dict[tuple[int, int], int] = {}
    nodes: dict[str, list[Any]] = {"label": [], "x": [], "y": [], "color": [], "customdata": []}
    merged = np.full(names.shape, -1)
    for t, at in enumerate(names.T):
        known, inverse, sizes = np.unique(at[at >= 0], return_inverse=True, return_counts=True)
        merged[at >= 0, t] = np.where(sizes > 1, known, _LONE)[inverse]
        known, sizes = np.unique(merged[at >= 0, t], return_counts=True)
        order = np.argsort(np.where(known == _LONE, np.iinfo(np.int64).max, known))
        middles = (sizes[order].cumsum() - sizes[order] / 2) / max(sizes.sum(), 1)
        for name, size, y in zip(known[order].tolist(), sizes[order].tolist(), middles, strict=True):
            place[t, name] = len(nodes["label"])
            told = "of one neuron" if name == _LONE else f"community {name}"
            nodes["label"].append("")
            nodes["x"].append(float(np.clip(t / max(len(steps) - 1, 1), 0.001, 0.999)))
            nodes["y"].append(float(np.clip(y, 0.001, 0.999)))
            nodes["color"].append(COLOURS[_GREY if name == _LONE else colours[name]])
            nodes["customdata"].append(f"{told} at step {steps[t]}: {size}")
    links: dict[str, list[Any]] = {"source": [], "target": [], "value": [], "color": []}
    for t in range(len(steps) - 1):
        both = (merged[:, t] != -1) & (merged[:, t + 1] != -1)
        pairs, counts = np.unique(merged[both, t : t + 2], axis=0, return_counts=True)
        for (source, target), count in zip(pairs.tolist(), counts.tolist(), strict=True):
            links["source"].append(place[t, source])
            links["target"].append(place[t + 1, target])
            links["value"].append(count)
            links["color"].append(faint(nodes["color"][place[t, source]]))
    return {
        "type": "sankey",
        "arrangement": "fixed",
        "node": {**nodes, "pad": 4, "thickness": 10, "hovertemplate": "%{customdata}<extra></extra>"},
        "link": {**links, "hovertemplate": "%{value} neurons<extra></extra>"},
    }
