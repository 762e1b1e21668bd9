"""The page: one file that needs nothing else, neither a server nor the network."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from fnet_callbacks.compare.progress import tracked
from fnet_callbacks.errors import FnetError
from fnet_callbacks.report import tables
from fnet_callbacks.report.charts import Figure
from fnet_callbacks.report.content import Content
from fnet_callbacks.report.figures import FIGURES
from fnet_callbacks.report.layers import how_matched, layer_matches, layers_differ
from fnet_callbacks.report.names import in_attribute, in_html
from fnet_callbacks.report.summary import summary
from fnet_callbacks.report.tabular import Table
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
    figures = [
        figure for make in tracked(FIGURES.values(), "figures") if (figure := make(content)) is not None
    ]
    specs = {
        f.name: {"variants": f.variants, "selectors": [label for label, _ in f.selectors]} for f in figures
    }
    summaries = [(head, sentences) for head, sentences in summary(content) if sentences]
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=f"Functional networks of {counted(len(content.runs.runs), 'run')}",
            policy=_POLICY,
            css=Markup(_asset("page.css")),
            script=Markup(_asset("page.js")),
            plotly=Markup(get_plotlyjs()),
            sections=list(_sections(content, {figure.name: figure for figure in figures}, bool(summaries))),
            overview=_overview(content),
            summary=summaries,
            definitions=_definitions(content),
            figures=specs,
        )
    )


def _environment() -> Environment:
    """What the template is read with: everything is escaped, and a name that is missing is an error."""
    environment = Environment(
        loader=FunctionLoader(_asset), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= {
        "name": lambda text: Markup(in_html(text)),
        "plain_name": lambda text: Markup(in_attribute(text)),
        "counted": counted,
        "step": lambda step: number(step, 7),
        "quantity": _quantity,
        "for_script": lambda value: repr(value).replace("inf", "Infinity"),  # as JavaScript has it
        "json": lambda value: Markup(_json(value)),
    }
    return environment


@dataclass(frozen=True, slots=True)
class _Section:
    """A section of the page: figures, then tables; an anchor and a title for the contents."""

    name: str
    title: str
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    text: str = ""

    @property
    def is_empty(self) -> bool:
        return not (self.figures or self.tables or self.text)


@dataclass(frozen=True, slots=True)
class _Overview:
    """What was run, and how runs are compared."""

    n_runs: int
    models: Sequence[str]
    grouped_by: str
    groups: Sequence[tuple[str, int]]
    min_end: int
    max_end: int
    n_snapshots: int
    common: Sequence[tuple[str, Any]]
    matches: Sequence[str]
    match_table: Table | None
    problems: Mapping[str, str]


def _sections(content: Content, figures: Mapping[str, Figure], has_summary: bool) -> Iterator[_Section]:
    """The sections in their order, without those of which there is nothing to say."""

    def of(*names: str) -> list[Figure]:
        return [figures[name] for name in names if name in figures]

    yield _Section("runs", "What was run")
    if has_summary:
        yield _Section("summary", "In short")
    curves = of("curves")
    yield _Section(
        "curves-section", "Over training", curves, text="" if curves else "No scalar has a finite value."
    )
    communities = tables.communities(content)
    for section in (
        _Section(
            "effects-section",
            "What differs, and how surely",
            tables=[tables.effects(content)] if content.contrasts else (),
        ),
        _Section(
            "robustness",
            "Topology, accuracy and robustness",
            of("scatter"),
            [tables.associations(content)] if content.associations else (),
        ),
        _Section("homology", "Loops and components", of("betti", "diagrams")),
        _Section(
            "alike",
            "Which runs are alike",
            of("map", "dendrogram"),
            [tables.scores(content)] if content.groupings else (),
        ),
        _Section("fault-tolerance", "Fault tolerance", of("attacks", "lesions")),
        _Section(
            "time",
            "Communities and topology through time",
            of("flows", "communities", "allegiances", "drift"),
            [communities] if communities.rows else (),
        ),
    ):
        if not section.is_empty:
            yield section
    if content.of_kind("FunctionalCodes"):
        yield _Section("functional-codes", "Functional codes", of("codes"), [tables.code_layers(content)])
    if content.of_kind("ReLURegions"):
        yield _Section("linear-regions", "Linear regions", of("regions"), [tables.region_values(content)])
    yield _Section("costs", "Cost", tables=[tables.cost(content)])
    yield _Section("configuration", "Configurations", tables=[tables.configurations(content)])
    yield _Section("definitions", "How each number is defined")


def _overview(content: Content) -> _Overview:
    runs = content.runs.runs
    ends = [run.record.snapshots[-1].step for run in runs]
    first, *others = [run.configuration for run in runs]
    return _Overview(
        n_runs=len(runs),
        models=list(dict.fromkeys(run.record.manifest.get("model", "?") for run in runs)),
        grouped_by=content.runs.grouped_by or "run",
        groups=[(name, len(own)) for name, own in content.groups.items()],
        min_end=min(ends),
        max_end=max(ends),
        n_snapshots=sum(len(run.record.snapshots) for run in runs),
        common=[
            (key, value)
            for key, value in first.items()
            if value is not None and all(key in other and other[key] == value for other in others)
        ],
        matches=how_matched(content),
        match_table=layer_matches(content) if layers_differ(content) else None,
        problems=content.runs.problems,
    )


def _definitions(content: Content) -> dict[str, str]:
    """Of each label that the page shows, where there is one."""
    labels = labels_of(content.entries)
    found = {labels[key]: entry.definition for key, entry in content.entries.items()}
    return {label: definition for label, definition in found.items() if definition}


def _quantity(value: float, column: str) -> str:
    """A number of a table, as it is shown."""
    return probability(value) if column in ("p", "q", "smallest p") else number(value, 4)


def _json(value: object) -> str:
    """In a script element, which nothing inside may end."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _asset(name: str) -> str:
    return resources.files("fnet_callbacks.report").joinpath(name).read_text(encoding="utf-8")
