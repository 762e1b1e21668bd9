"""What figures are made of, as Plotly takes it: traces and layouts of plain numbers and texts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fnet_callbacks.compare.curves import Curve, aligned
from fnet_callbacks.compare.effects import mean_band
from fnet_callbacks.compare.run import Run
from fnet_callbacks.palette import GREY, ON_ANY_GROUND
from fnet_callbacks.report.content import Content
from fnet_callbacks.report.names import in_figure, visible
from fnet_callbacks.report.wording import number

# A page is white or black. Beside the colour a dash and a symbol tell groups apart.
COLOURS = ON_ANY_GROUND
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_SYMBOLS = (
    *("circle", "square", "diamond", "triangle-up", "x", "star", "cross"),
    *("triangle-down", "pentagon", "hourglass", "bowtie", "hexagram", "star-triangle-up", "diamond-wide"),
)
_SEPARATOR = "\u001f"
STEP = "step"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, in as many variants as its selectors can choose from.

    Attributes:
        name: Unique in the page.
        title: Above it.
        alt: What it shows, in words.
        variants: By the options that are ``chosen``; at least one. Each has ``data`` and ``layout``.
        selectors: Label and options of each; none where there is one variant.
        note: Below it.
    """

    name: str
    title: str
    alt: str
    variants: Mapping[str, Mapping[str, Any]] = field(repr=False)
    selectors: Sequence[tuple[str, Sequence[str]]] = ()
    note: str = ""


def chosen(*options: str) -> str:
    """What a variant is known by: its options, joined by what no name has in it; the page's script does the same."""
    return _SEPARATOR.join(map(visible, options))


@dataclass(frozen=True, slots=True)
class Style:
    """How a group is drawn: of the groups that share a colour each has another dash, and of 196 another symbol."""

    colour: str
    dash: str
    symbol: str

    @classmethod
    def of(cls, i: int) -> Style:
        """Of the i-th group."""
        turn, place = divmod(i, len(COLOURS))
        dashes, symbols = (
            place + turn,
            place + 9 * turn,
        )  # 9 and twice the number of symbols have no common factor
        # Beyond what Plotly has a name for: a long dash, and dots that are counted.
        dots = dashes - len(_DASHES) + 3
        dash = _DASHES[dashes] if dashes < len(_DASHES) else "12px" + ",3px,3px" * dots + ",3px"
        open_ = "-open" if symbols // len(_SYMBOLS) % 2 else ""
        return cls(COLOURS[place], dash, _SYMBOLS[symbols % len(_SYMBOLS)] + open_)


def options(variants: Iterable[str], place: int) -> list[str]:
    """Those that a selector offers."""
    return list(dict.fromkeys(name.split(_SEPARATOR)[place] for name in variants))


def band_note(content: Content) -> str:
    """What `bands` draws."""
    if len(content.groups) > len(COLOURS):
        return f"Means over runs. With more than {len(COLOURS)} groups neither intervals nor single runs are drawn."
    return "Band: 95 % interval of the mean over runs (Student's t). Thin lines: single runs."


def bands(
    content: Content, by_run: Mapping[str, Curve], areas: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Runs as thin lines, above them the mean of each group with its interval; of many groups the means alone."""
    shows_all = len(content.groups) <= len(COLOURS)
    thin, thick = [], []
    for i, (group, runs) in enumerate(content.groups.items()):
        own = {run.name: by_run[run.name] for run in runs if run.name in by_run}
        if not own:
            continue
        style_of_group, name = Style.of(i), group
        colour = style_of_group.colour
        if areas is not None:
            name = f"{group}: {number(float(np.mean([areas[run] for run in own])))}"
        style = {"color": colour, "width": 2.5, "dash": style_of_group.dash}
        if shows_all and len(own) > 1:
            thin += [
                line(run, *_alone(c), {"color": colour, "width": 1})
                | {"opacity": 0.35, "showlegend": False, "legendgroup": group}
                for run, c in own.items()
            ]
        x, values = aligned(list(own.values()))
        mean, low, high = mean_band(values)
        known = np.isfinite(low)
        if shows_all and known.any():
            thick.append(
                line("", *_outline(x, low, high), {"width": 0})
                | {"fill": "toself", "fillcolor": faint(colour), "showlegend": False, "legendgroup": group}
                | {"hoverinfo": "skip"}
            )
        thick.append(line(name, x, mean, style) | {"legendgroup": group})
    return thin + thick


def _outline(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Around each stretch without a gap, there and back, with NaN between two."""
    known = np.flatnonzero(np.isfinite(low))
    parts = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1)
    around = [
        (np.r_[x[own], x[own][::-1], np.nan], np.r_[high[own], low[own][::-1], np.nan]) for own in parts
    ]
    across, along = (np.concatenate(each)[:-1] for each in zip(*around, strict=True))
    return across, along


def _alone(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    x, values = aligned([curve])
    return x, values[0]


def points(group: str, i: int, x: Sequence[float], y: Sequence[float], runs: Sequence[Run]) -> dict[str, Any]:
    """A point for each run of a group, the i-th."""
    style = Style.of(i)
    both = [k for k in range(len(x)) if math.isfinite(x[k]) and math.isfinite(y[k])]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": in_figure(group),
        "x": plain([x[k] for k in both]),
        "y": plain([y[k] for k in both]),
        "text": [in_figure(runs[k].name) for k in both],
        "hovertemplate": "%{text}<br>%{x}, %{y}<extra></extra>",
        "marker": {"color": style.colour, "symbol": style.symbol, "size": 10},
    }


def line(name: str, x: Any, y: Any, style: Mapping[str, Any]) -> dict[str, Any]:
    """A line."""
    found = {"type": "scatter", "mode": "lines", "name": in_figure(name), "x": plain(x), "y": plain(y)}
    return found | {"line": dict(style)}


def over_training(by_run: Mapping[str, Curve], label: str) -> dict[str, Any]:
    """A layout over steps, with a dotted line where a run was resumed with other settings."""
    gaps = sorted({gap for curve in by_run.values() for gap in curve.gaps})
    dotted = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "line": {"dash": "dot", "color": GREY}}
    return axes(STEP, label) | (
        {"shapes": [{**dotted, "x0": gap, "x1": gap} for gap in gaps]} if gaps else {}
    )


def axes(x: str, y: str, *, equal: bool = False) -> dict[str, Any]:
    """A layout with titles on its axes; with ``equal`` a unit is as long on both."""
    titles = {"xaxis": x, "yaxis": y}
    layout: dict[str, Any] = {axis: {"title": {"text": in_figure(t, 50)}} for axis, t in titles.items()}
    if x == STEP:
        layout["xaxis"]["hoverformat"] = ",d"  # to the step, where it stands in millions
    if equal:
        layout["yaxis"]["scaleanchor"] = "x"
    return layout


def faint(colour: str) -> str:
    """A colour that others shine through."""
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"


def plain(values: Iterable[float]) -> list[float | None]:
    """Whole numbers as they are; of others six digits are more than a screen shows, and none is a gap."""
    found = np.asarray(values if isinstance(values, np.ndarray) else list(values), np.float64)
    if not len(found):
        return []
    known = np.isfinite(found)
    sizes = np.abs(found[known & (found != 0)])
    if len(sizes) and not (
        sizes.min() > 1e-9 and sizes.max() < 1e15
    ):  # decimals that this way would not give
        return [float(f"{v:.6g}") if math.isfinite(v) else None for v in found.tolist()]
    digits = np.zeros(found.shape)
    np.floor(np.log10(np.abs(found), where=known & (found != 0), out=digits), out=digits)
    places = 10.0 ** np.maximum(5 - digits, 0)
    tens = 10.0 ** np.maximum(digits - 5, 0)
    rounded = np.where(found == np.round(found), found, np.round(found * places / tens) / places * tens)
    return [value if k else None for value, k in zip(rounded.tolist(), known.tolist(), strict=True)]
