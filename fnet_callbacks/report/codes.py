"""What a report says of functional codes: every measure over the depth of the network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fnet_callbacks.compare.curves import Curve
from fnet_callbacks.compare.runs import Run
from fnet_callbacks.report.charts import Figure, axes, band_note, bands, chosen, options
from fnet_callbacks.report.content import Content
from fnet_callbacks.report.tabular import Cell, Table
from fnet_callbacks.report.wording import Key, labels_of

_KIND = "FunctionalCodeMonitor"
_FIRST = ("label_ami", "participation_ratio", "pgd_displacement")  # that are shown
_IN_TABLE = (
    *("quantization_error", "topographic_error", "used_units", "code_entropy", "participation_ratio"),
    *("label_ami", "prediction_ami", "compactness", "map_distance", "pgd_displacement"),
    *("pgd_noise_displacement", "pgd_departed_share"),
)


def codes(content: Content) -> Figure | None:
    """A measure over the layers, at the first and the last snapshot, one line a group."""
    variants: dict[str, Any] = {}
    listed: list[str] = []
    labels = labels_of(content.keys)
    for monitor in content.of_kind(_KIND):
        layers = {run.name: run.layers(monitor) for run in content.runs.runs}
        places = {label: k for k, label in enumerate(_labels(content, monitor), start=1)}
        listed.append(f"{', '.join(f'{k} {label}' for label, k in places.items())}.")
        own = [key for key in content.keys if Key.of(key).monitor == monitor and Key.of(key).layer]
        own.sort(key=lambda key: Key.of(key).measure not in _FIRST)
        by_label = {labels[key]: key for key in own}
        for label, key in by_label.items():
            for when in ("at the end", "before training"):
                by_run = {
                    run.name: _over_depth(run, monitor, layers[run.name], places, Key.of(key).measure, when)
                    for run in content.runs.runs
                    if layers[run.name]
                }
                if any(np.isfinite(curve.y).any() for curve in by_run.values()):
                    layout = axes("layer", label)
                    layout["xaxis"] |= {"dtick": 1}
                    variants[chosen(label, when)] = {"data": bands(content, by_run), "layout": layout}
    if not variants:
        return None
    return Figure(
        "codes",
        "Codes over the depth of the network",
        "Line chart of the chosen measure over the layers, one line for each group of runs",
        variants,
        [("Measure", options(variants, 0)), ("When", options(variants, 1))],
        f"Layers are counted in the order in which they are computed: {' '.join(listed)} {band_note(content)}",
    )


def code_layers(content: Content) -> Table:
    """Measures of the layers' codes at the end of training, the mean over each group's runs."""
    monitors = content.of_kind(_KIND)
    measured = {Key.of(key).measure for key in content.keys if Key.of(key).monitor in monitors}
    known = [measure for measure in _IN_TABLE if measure in measured]
    rows: list[list[Cell]] = []
    for monitor in monitors:
        for group, runs in content.groups.items():
            own = {layer for run in runs for layer in run.layers(monitor)}
            for layer in (label for label in _labels(content, monitor) if label in own):
                means = (_mean([run.last(f"{monitor}/{layer}/{m}") for run in runs]) for m in known)
                rows.append([*([monitor] if len(monitors) > 1 else []), group, layer, *means])
    header = [*(["monitor"] if len(monitors) > 1 else []), "group", "layer"]
    return Table(
        "codes",
        "Functional codes at the end of training",
        [*header, *(Key("", "", measure).label for measure in known)],
        rows,
        "Means over the runs of a group. The quantization error grows as the root of a layer's width.",
    )


def _labels(content: Content, monitor: str) -> list[str]:
    """Of the layers of all runs, in the order of the networks."""
    return [match.label for match in content.runs.layers.get(monitor, ())]


def _over_depth(
    run: Run, monitor: str, layers: Sequence[str], places: Mapping[str, int], measure: str, when: str
) -> Curve:
    of = run.first if when == "before training" else run.last
    order = sorted(layers, key=lambda layer: places[layer])
    values = [of(f"{monitor}/{layer}/{measure}") for layer in order]
    return Curve(np.array([places[layer] for layer in order]), np.array(values, float))


def _mean(values: list[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan
