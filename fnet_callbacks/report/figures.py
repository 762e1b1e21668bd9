"""The figures of a report."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.cluster import hierarchy

from fnet_callbacks import functional as F
from fnet_callbacks.compare.curves import Curve
from fnet_callbacks.compare.run import Run
from fnet_callbacks.compare.topology import arrays_of
from fnet_callbacks.palette import GREY
from fnet_callbacks.report.charts import (
    COLOURS,
    Figure,
    axes,
    band_note,
    bands,
    chosen,
    line,
    options,
    over_training,
    plain,
    points,
)
from fnet_callbacks.report.codes import codes
from fnet_callbacks.report.communities import allegiances, communities, flows
from fnet_callbacks.report.content import Content
from fnet_callbacks.report.names import in_figure
from fnet_callbacks.report.regions import regions
from fnet_callbacks.report.wording import labels_of, number

WHOLE_NETWORK = "whole network"
_SCALES = np.arange(101) / 100


def curves(content: Content) -> Figure | None:
    """Every scalar over training: one line a group, its interval over seeds, and the runs as thin lines."""
    variants: dict[str, Any] = {}
    labels = labels_of(content.entries)
    for key in content.keys:
        by_run = {run.name: run.curve(key) for run in content.runs.runs}
        if not any(len(curve.x) for curve in by_run.values()):
            continue
        scope = content.entries[key].layer or WHOLE_NETWORK
        variants[chosen(labels[key], scope)] = {
            "data": bands(content, by_run),
            "layout": over_training(by_run, labels[key]),
        }
    if not variants:
        return None
    return Figure(
        "curves",
        "Measures over training",
        "Line chart of the chosen measure over training steps, one line for each group of runs",
        variants,
        [("Measure", options(variants, 0)), ("Of", options(variants, 1))],
        band_note(content),
    )


def scatter(content: Content) -> Figure | None:
    """Robustness against topology: one point a run, at the end of training."""
    labels = labels_of(content.entries)
    measures = [k for k, e in content.entries.items() if e.place is None and k not in content.outcomes]
    outcomes = sorted(content.outcomes, key=lambda k: content.entries[k].quantity == "clean_accuracy")
    variants: dict[str, Any] = {}
    for key in measures:
        for outcome in outcomes:
            data = [
                points(group, i, [r.final(key) for r in runs], [r.final(outcome) for r in runs], runs)
                for i, (group, runs) in enumerate(content.groups.items())
            ]
            if any(trace["x"] for trace in data):
                variants[chosen(labels[key], labels[outcome])] = {
                    "data": data,
                    "layout": axes(labels[key], labels[outcome]),
                }
    if not variants:
        return None
    return Figure(
        "scatter",
        "Robustness against topology",
        "Scatter plot: one point for each run, the chosen measure against the chosen accuracy at the end of training",
        variants,
        [("Measure", options(variants, 0)), ("Against", options(variants, 1))],
    )


def betti_curves(content: Content) -> Figure | None:
    """Betti curves at the end of training."""
    variants = {}
    for dimension in (1, 0):
        by_run = {}
        for run in content.runs.runs:
            name = f"diagram_{dimension}"
            diagram = _last(run, content, name).get(name)
            if diagram is not None:
                by_run[run.name] = _betti_curve(diagram, dimension)
        if by_run:
            what = ("components", "loops")[dimension]
            variants[chosen(f"H{dimension} ({what})")] = {
                "data": bands(content, by_run),
                "layout": axes("radius on 1 − |r|", f"Betti number β{'₀₁'[dimension]}"),
            }
    if not variants:
        return None
    return Figure(
        "betti",
        "Betti curves",
        "Line chart of the Betti number over the radius of the filtration, one line for each group of runs",
        variants,
        [("Homology", options(variants, 0))],
        band_note(content),
    )


def _betti_curve(diagram: np.ndarray, dimension: int) -> Curve:
    """Up to where it is known: a filtration that was ended leaves loops open."""
    values = F.betti_curve(diagram, _SCALES).astype(float)
    if dimension == 1 and not np.isfinite(diagram).all():
        values[np.max(diagram[np.isfinite(diagram)], initial=0.0) < _SCALES] = np.nan
    return Curve(_SCALES, values)


def diagrams(content: Content) -> Figure | None:
    """Persistence diagrams at the end of training, one run at a time."""
    variants = {}
    for run in content.some_runs():
        arrays = _last(run, content, "diagram_0", "diagram_1")
        traces = []
        for dimension, (name, symbol) in enumerate(
            (("components, H0", "circle"), ("loops, H1", "triangle-up"))
        ):
            diagram = np.asarray(arrays.get(f"diagram_{dimension}", np.empty((0, 2))), float)
            diagram = diagram[np.isfinite(diagram).all(axis=1)]
            if len(diagram):
                traces.append(
                    {
                        "type": "scatter",
                        "mode": "markers",
                        "name": name,
                        "x": plain(diagram[:, 0]),
                        "y": plain(diagram[:, 1]),
                        "marker": {"color": COLOURS[dimension], "symbol": symbol, "size": 5, "opacity": 0.6},
                    }
                )
        if traces:
            dotted = {"color": GREY, "width": 1, "dash": "dot"}
            traces.append(line("birth = death", [0, 1], [0, 1], dotted) | {"hoverinfo": "skip"})
            variants[chosen(content.label_of(run))] = {
                "data": traces,
                "layout": axes("birth, 1 − |r|", "death, 1 − |r|"),
            }
    if not variants:
        return None
    return Figure(
        "diagrams",
        "Persistence diagrams",
        "Scatter plot of the birth and death of components and loops of the chosen run at the end of training",
        variants,
        [("Run", options(variants, 0))],
    )


def maps(content: Content) -> Figure | None:
    """Where metric scaling puts the runs."""
    variants = {}
    for each in content.run_distances:
        for name in each.distances:
            if name not in content.groupings:
                continue
            grouping = content.groupings[name]
            data = []
            for i, group in enumerate(content.groups):
                own = [k for k, run in enumerate(each.runs) if run.group == group]
                x, y = grouping.map[own].T.tolist()
                data.append(points(group, i, x, y, [each.runs[k] for k in own]))
            layout = axes(f"stress {number(grouping.stress, 2)}", "", equal=True)
            variants[chosen(name)] = {"data": data, "layout": layout}
    if not variants:
        return None
    return Figure(
        "map",
        "Map of the runs",
        "Scatter plot: runs that are near each other in the chosen distance are near each other on the map",
        variants,
        [("By the", options(variants, 0))],
        "Metric multidimensional scaling; axes have no meaning but distance. Stress above 0.2 is a poor map.",
    )


def dendrograms(content: Content) -> Figure | None:
    """The tree of average linkage."""
    colour = {group: i for i, group in enumerate(content.groups)}
    variants = {}
    for each in content.run_distances:
        for name in each.distances:
            if name not in content.groupings:
                continue
            tree = hierarchy.dendrogram(content.groupings[name].linkage, no_plot=True)
            grey = {"color": GREY, "width": 1.5}
            data = [
                line("", y, x, grey) | {"showlegend": False, "hoverinfo": "skip"}
                for x, y in zip(tree["icoord"], tree["dcoord"], strict=True)
            ]
            places = {leaf: 5 + 10 * k for k, leaf in enumerate(tree["leaves"])}
            for group, i in colour.items():
                own = [k for k, run in enumerate(each.runs) if run.group == group]
                at = [places[k] for k in own]
                data.append(points(group, i, [0.0] * len(own), at, [each.runs[k] for k in own]))
            leaves = tree["leaves"]
            layout = axes("distance at which clusters join", "")
            layout["yaxis"] |= {
                "tickvals": [places[k] for k in leaves],
                "ticktext": [in_figure(content.label_of(each.runs[k]), 24) for k in leaves],
                "showgrid": False,
            }
            n_lines = max(name.count("<br>") + 1 for name in layout["yaxis"]["ticktext"])
            layout |= {"height": max(360, 90 + (3 + 15 * min(n_lines, 2)) * len(leaves)), "showlegend": False}
            variants[chosen(name)] = {"data": data, "layout": layout}
    if not variants:
        return None
    return Figure(
        "dendrogram",
        "Tree of the runs",
        "Dendrogram: runs that are near each other in the chosen distance join early",
        variants,
        [("By the", options(variants, 0))],
        "Average linkage.",
    )


def attacks(content: Content) -> Figure | None:
    """What is left of the graph while its nodes are removed."""
    words = {
        "random": "at random",
        "degree": "hubs first",
        "betweenness": "the most passed through first",
        "giant_component": "largest component",
        "efficiency": "global efficiency",
    }
    variants = {}
    for (order, measure), of_run in content.attacks.items():
        by_run = {name: Curve(c.removed, c.remaining) for name, c in of_run.items()}
        if by_run:
            variants[chosen(words[order], words[measure])] = {
                "data": bands(content, by_run, areas={name: c.area for name, c in of_run.items()}),
                "layout": axes("share of the nodes removed", f"{words[measure]}, relative to the start"),
            }
    if not variants:
        return None
    return Figure(
        "attacks",
        "Fault tolerance of the functional network",
        "Line chart of what remains of the graph as nodes are removed, one line for each group of runs",
        variants,
        [("Nodes removed", options(variants, 0)), ("What remains", options(variants, 1))],
        "In the legend the area under each curve, the mean over the group. " + band_note(content),
    )


def lesions(content: Content) -> Figure | None:
    """What is left of accuracy while neurons are silenced."""
    words = {"degree": "hubs first", "random": "at random"}
    instruments = [e.instrument for e in content.entries.values() if e.quantity == "degree_tolerance"]
    variants = {}
    for instrument, (order, told) in itertools.product(instruments[:1], words.items()):
        by_run = {}
        for run in content.runs.runs:
            arrays = arrays_of(run, run.record.steps[-1], instrument, ("silenced", f"accuracy_{order}"))
            if f"accuracy_{order}" in arrays:
                by_run[run.name] = Curve(arrays["silenced"], arrays[f"accuracy_{order}"])
        if by_run:
            variants[chosen(told)] = {
                "data": bands(content, by_run),
                "layout": axes("share of the neurons silenced", "accuracy"),
            }
    if not variants:
        return None
    return Figure(
        "lesions",
        "Accuracy while neurons are silenced",
        "Line chart of accuracy as a growing share of the neurons is set to zero, one line for each group of runs",
        variants,
        [("Neurons silenced", options(variants, 0))],
        "At the end of training, on the probe. " + band_note(content),
    )


def drifts(content: Content) -> Figure | None:
    """How far the topology moved from snapshot to snapshot."""
    by_run = {name: curve for name, curve in content.drifts.items() if len(curve.x)}
    if not by_run:
        return None
    data = {
        "data": bands(content, by_run),
        "layout": over_training(by_run, "distance to the snapshot before"),
    }
    return Figure(
        "drift",
        "Topological drift",
        "Line chart of the distance of successive snapshots over training, one line for each group of runs",
        {"": data},
        note="L2 distance of the Betti-1 curves of successive snapshots. " + band_note(content),
    )


def _last(run: Run, content: Content, *names: str) -> dict[str, np.ndarray]:
    return arrays_of(run, run.record.steps[-1], content.instrument, names)


FIGURES: Mapping[str, Callable[[Content], Figure | None]] = {
    f.__name__: f
    for f in (
        curves,
        scatter,
        betti_curves,
        diagrams,
        maps,
        dendrograms,
        attacks,
        lesions,
        flows,
        communities,
        allegiances,
        drifts,
        codes,
        regions,
    )
}
