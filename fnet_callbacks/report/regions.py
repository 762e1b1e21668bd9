"""What a report says of linear regions: how many are inhabited, and how they change."""

from __future__ import annotations

from typing import Any

from fnet_callbacks.report.charts import Figure, band_note, bands, chosen, options, over_training
from fnet_callbacks.report.content import Content
from fnet_callbacks.report.tabular import Cell, Table
from fnet_callbacks.report.wording import labels_of

_KIND = "ReLURegions"


def regions(content: Content) -> Figure | None:
    """Measures of the whole network's regions over training, one line a group."""
    labels = labels_of(content.entries)
    variants: dict[str, Any] = {}
    # Nearly every input of a wide network is alone in its region, all the time; borders tell more.
    for key in sorted(_keys(content), key=lambda key: "crossings" not in key):
        by_run = {run.name: run.curve(key) for run in content.runs.runs}
        if any(len(curve.x) for curve in by_run.values()):
            variants[chosen(labels[key])] = {
                "data": bands(content, by_run),
                "layout": over_training(by_run, labels[key]),
            }
    if not variants:
        return None
    return Figure(
        "regions",
        "Linear regions over training",
        "Line chart of the chosen measure of linear regions over training, one line for each group of runs",
        variants,
        [("Measure", options(variants, 0))],
        band_note(content),
    )


def region_values(content: Content) -> Table:
    """What is measured of each run's regions at the end of training."""
    labels, keys = labels_of(content.entries), _keys(content)
    rows: list[list[Cell]] = [
        [content.label_of(run), *(run.last(key) for key in keys)] for run in content.runs.runs if keys
    ]
    return Table(
        "regions", "Linear regions at the end of training", ["run", *(labels[key] for key in keys)], rows
    )


def _keys(content: Content) -> list[str]:
    names = content.of_kind(_KIND)
    return [key for key, e in content.entries.items() if e.instrument in names and e.place is None]
