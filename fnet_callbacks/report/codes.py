"""What a report says of functional codes: every measure over the depth of the network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fnet_callbacks.compare.curves import Curve
from fnet_callbacks.compare.run import Run
from fnet_callbacks.report.charts import Figure, axes, band_note, bands, chosen, options
from fnet_callbacks.report.content import Content
from fnet_callbacks.report.tabular import Cell, Table
from fnet_callbacks.report.wording import labels_of

_KIND = "FunctionalCodes"
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
    labels = labels_of(content.entries)
    keys = _keys(content)
    for instrument in content.of_kind(_KIND):
        layers = {run.name: run.layers(instrument) for run in content.runs.runs}
        places = {label: k for k, label in enumerate(_labels(content, instrument), start=1)}
        listed.append(f"{', '.join(f'{k}: {label}' for label, k in places.items())}.")
        own = [(key, measure) for (name, _, measure), key in keys.items() if name == instrument]
        own.sort(key=lambda pair: pair[1] not in _FIRST)
        asked = {labels[key]: measure for key, measure in own}
        for label, measure in asked.items():
            for when in ("at the end", "before training"):
                by_run = {
                    run.name: _over_depth(
                        run,
                        {places[x]: keys.get((instrument, x, measure), "") for x in layers[run.name]},
                        when,
                    )
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
    instruments, keys = content.of_kind(_KIND), _keys(content)
    measured = {measure: content.entries[key] for (_, _, measure), key in keys.items()}
    known = [measure for measure in _IN_TABLE if measure in measured]
    rows: list[list[Cell]] = []
    for instrument in instruments:
        for group, runs in content.groups.items():
            own = {layer for run in runs for layer in run.layers(instrument)}
            for layer in (label for label in _labels(content, instrument) if label in own):
                of_layer = [keys.get((instrument, layer, measure), "") for measure in known]
                means = (_mean([run.last(key) for run in runs]) for key in of_layer)
                rows.append([*([instrument] if len(instruments) > 1 else []), group, layer, *means])
    header = [*(["instrument"] if len(instruments) > 1 else []), "group", "layer"]
    return Table(
        "codes",
        "Functional codes at the end of training",
        [*header, *(measured[measure].label for measure in known)],
        rows,
        "Means over the runs of a group. The quantization error grows as the root of a layer's width.",
    )


def _keys(content: Content) -> dict[tuple[str, str, str], str]:
    """Keys of the layers' codes, by instrument, layer and measure."""
    names = content.of_kind(_KIND)
    return {
        (e.instrument, e.layer, e.quantity): key
        for key, e in content.entries.items()
        if e.instrument in names and e.place is not None
    }


def _labels(content: Content, instrument: str) -> list[str]:
    """Of the layers of all runs, in the order of the networks."""
    return [match.label for match in content.runs.layers.get(instrument, ())]


def _over_depth(run: Run, keys: Mapping[int, str], when: str) -> Curve:
    of = run.first if when == "before training" else run.last
    order = sorted(keys)
    return Curve(np.array(order), np.array([of(keys[place]) for place in order], float))


def _mean(values: list[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan
