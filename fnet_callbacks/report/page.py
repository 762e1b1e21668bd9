"""The page: one file that needs nothing else, neither a server nor the network."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from html import escape
from importlib import resources
from pathlib import Path

from plotly.offline import get_plotlyjs

from fnet_callbacks.compare.progress import tracked
from fnet_callbacks.errors import FnetError
from fnet_callbacks.report import tables
from fnet_callbacks.report.content import Content
from fnet_callbacks.report.figures import FIGURES
from fnet_callbacks.report.layers import how_matched, layer_matches, layers_differ
from fnet_callbacks.report.names import in_attribute, in_html
from fnet_callbacks.report.summary import summary
from fnet_callbacks.report.tabular import Cell, Table
from fnet_callbacks.report.traces import Figure
from fnet_callbacks.report.wording import counted, labels_of, number, probability

# Nothing may be fetched, whatever a name in a record tries.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def write_page(content: Content, path: str | os.PathLike[str]) -> Path:
    """Writes the report.

    Raises:
        FnetError: The file cannot be written.

    Cost: about five megabytes for Plotly, and a number for each run, snapshot and measure.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            beside.write_text(
                page(content), encoding="utf-8", errors="replace"
            )  # names of files need not be text
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise FnetError(f"`output`: {path} cannot be written: {error}") from error
    return path


def page(content: Content) -> str:
    """The report as HTML."""
    drawn = [figure for make in tracked(FIGURES.values(), "figures") if (figure := make(content)) is not None]
    by_name = {figure.name: figure for figure in drawn}
    sections = list(_sections(content, by_name))
    contents = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title, _ in sections)
    body = "".join(
        f'<section id="{name}"><h2>{title}</h2>{inside}</section>' for name, title, inside in sections
    )
    specs = {
        f.name: {"variants": f.variants, "selectors": [label for label, _ in f.selectors]} for f in drawn
    }
    title = f"Functional networks of {counted(len(content.runs.runs), 'run')}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}</title><style>{_asset('page.css')}</style></head><body>"
        f"<header><h1>{title}</h1><nav aria-label='Contents'><ul>{contents}</ul></nav></header>"
        f"<main>{body}</main>"
        "<noscript><p>The figures of this page are drawn by a script, which is switched off here.</p></noscript>"
        f'<script type="application/json" id="figures">{_json(specs)}</script>'
        f"<script>{get_plotlyjs()}</script><script>{_asset('page.js')}</script></body></html>\n"
    )


def _sections(content: Content, drawn: dict[str, Figure]) -> Iterator[tuple[str, str, str]]:
    """Name, title and inside of each section; what there is nothing to say of is left out."""

    def of(*names: str) -> str:
        return "".join(_figure(drawn[name]) for name in names if name in drawn)

    yield "runs", "What was run", _what_was_run(content)
    if said := _summary(content):
        yield "summary", "In short", said
    yield "curves-section", "Over training", of("curves") or "<p>No scalar has a finite value.</p>"
    if content.contrasts:
        yield "effects-section", "What differs, and how surely", _table(tables.effects(content))
    robustness = of("scatter") + (_table(tables.associations(content)) if content.associations else "")
    if robustness:
        yield "robustness", "Topology, accuracy and robustness", robustness
    if topology := of("betti", "diagrams"):
        yield "homology", "Loops and components", topology
    if alike := of("map", "dendrogram") + (_table(tables.scores(content)) if content.groupings else ""):
        yield "alike", "Which runs are alike", alike
    if attacked := of("attacks", "lesions"):
        yield "fault-tolerance", "Fault tolerance", attacked
    communities = tables.communities(content)
    if through := of("flows", "communities", "allegiances", "drift") + (
        _table(communities) if communities.rows else ""
    ):
        yield "time", "Communities and topology through time", through
    if content.of_kind("FunctionalCodes"):
        yield "functional-codes", "Functional codes", of("codes") + _table(tables.code_layers(content))
    if content.of_kind("ReLURegions"):
        yield "linear-regions", "Linear regions", of("regions") + _table(tables.region_values(content))
    yield "costs", "Cost", _table(tables.cost(content))
    yield "configuration", "Configurations", _table(tables.configurations(content))
    yield "definitions", "How each number is defined", _definitions(content)


def _what_was_run(content: Content) -> str:
    runs, groups = content.runs.runs, content.groups
    steps = {run.record.snapshots[-1].step for run in runs}
    groups_told = ", ".join(f"{in_html(name)} ({len(own)})" for name, own in groups.items())
    models = ", ".join(dict.fromkeys(in_html(run.record.manifest.get("model", "?")) for run in runs))
    lines = [
        f"{counted(len(runs), 'run')} of {models}, by {in_html(content.runs.grouped_by or 'run')}: {groups_told}.",
        f"They end at step {number(min(steps), 7)}"
        + (f" to {number(max(steps), 7)}" if len(steps) > 1 else "")
        + f", with {counted(sum(len(run.record.snapshots) for run in runs), 'snapshot')} in all.",
    ]
    if common := _in_common(content):
        lines.append(f"All with {common}.")
    lines += map(in_html, how_matched(content))
    found = "".join(f"<p>{line}</p>" for line in lines)
    if layers_differ(content):
        found += _table(layer_matches(content))
    if content.runs.problems:
        told = "".join(
            f"<li><code>{in_html(k)}</code>: {in_html(v)}</li>" for k, v in content.runs.problems.items()
        )
        found += f"<p>Left out:</p><ul>{told}</ul>"
    return found


def _in_common(content: Content) -> str:
    """What all runs were configured with, in words."""
    first, *others = [run.configuration for run in content.runs.runs]
    same = [key for key in first if all(key in other and other[key] == first[key] for other in others)]
    return "; ".join(
        f"{in_html(key)} <code>{in_html(first[key])}</code>" for key in same if first[key] is not None
    )


def _summary(content: Content) -> str:
    return "".join(
        f"<h3>{in_html(head)}</h3><ul>" + "".join(f"<li>{in_html(s)}</li>" for s in sentences) + "</ul>"
        for head, sentences in summary(content)
        if sentences
    )


def _figure(figure: Figure) -> str:
    selectors = "".join(
        f'<label>{in_html(label)} <select data-figure="{figure.name}">'
        + "".join(f'<option value="{escape(option)}">{in_attribute(option)}</option>' for option in options)
        + "</select></label>"
        for label, options in figure.selectors
    )
    note = f'<p class="note">{in_html(figure.note)}</p>' if figure.note else ""
    return (
        f"<figure><figcaption>{in_html(figure.title)}</figcaption>"
        f'<div class="selectors">{selectors}</div>'
        f'<div class="plot" id="{figure.name}" role="img" aria-label="{in_attribute(figure.alt)}"></div>{note}</figure>'
    )


def _table(table: Table) -> str:
    head = "".join(
        f'<th scope="col"><button type="button">{in_html(name)}</button></th>' for name in table.header
    )
    body = "".join(
        "<tr>" + "".join(_cell(name, cell) for name, cell in zip(table.header, row, strict=True)) + "</tr>"
        for row in table.rows
    )
    note = f'<p class="note">{in_html(table.note)}</p>' if table.note else ""
    return (
        f'<h3>{in_html(table.title)}</h3><div class="wide" tabindex="0" role="region" '
        f'aria-label="{in_attribute(table.title)}"><table id="table-{table.name}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{note}"
    )


def _cell(name: str, cell: Cell) -> str:
    if isinstance(cell, str):
        return f"<td>{in_html(cell)}</td>"
    shown = probability(cell) if name in ("p", "q", "smallest p") else number(cell, 4)
    sorted_by = repr(cell).replace("inf", "Infinity")  # as JavaScript has it
    value = "" if math.isnan(cell) else f' data-value="{sorted_by}"'
    return f'<td class="number"{value}>{shown}</td>'


def _definitions(content: Content) -> str:
    labels = labels_of(content.entries)
    known = {labels[key]: entry.definition for key, entry in content.entries.items()}
    items = "".join(
        f"<dt>{in_html(label)}</dt><dd>{in_html(definition)}</dd>"
        for label, definition in known.items()
        if definition
    )
    return f"<dl>{items}</dl>"


def _json(value: object) -> str:
    """In a script element, which nothing inside may end."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _asset(name: str) -> str:
    return resources.files("fnet_callbacks.report").joinpath(name).read_text(encoding="utf-8")
