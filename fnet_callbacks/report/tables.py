"""The tables of a report: shown in the page, and written as CSV."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fnet_callbacks.compare.communities import ENTROPIES
from fnet_callbacks.compare.run import Run
from fnet_callbacks.report.codes import code_layers
from fnet_callbacks.report.content import Content
from fnet_callbacks.report.figures import WHOLE_NETWORK
from fnet_callbacks.report.layers import layer_matches
from fnet_callbacks.report.regions import region_values
from fnet_callbacks.report.tabular import Cell, Table
from fnet_callbacks.report.wording import labels_of


def effects(content: Content) -> Table:
    """Every measure of every group against the baseline."""
    labels = labels_of(content.entries)
    rows = [
        [
            c.group,
            labels[c.key],
            content.entries[c.key].layer or WHOLE_NETWORK,
            "beforehand" if c.family else "exploratory",
            c.own.mean,
            c.own.n,
            c.baseline.mean,
            c.baseline.n,
            c.effect.difference.mean,
            c.effect.difference.low,
            c.effect.difference.high,
            c.effect.g,
            c.effect.p,
            c.effect.smallest_p,
            c.q,
        ]
        for c in sorted(content.contrasts, key=lambda c: not c.family)
    ]
    return Table(
        "effects",
        f"Every group against {content.baseline}, at the end of training",
        [
            *(
                "group",
                "measure",
                "of",
                "asked",
                "mean",
                "runs",
                f"mean of {content.baseline}",
                f"runs of {content.baseline}",
                "difference",
                "from",
                "to",
            ),
            *("Hedges' g", "p", "smallest p", "q"),
        ],
        rows,
        "From and to: 95 % interval of the difference (Welch). p: two-sided permutation test, exact up to nine runs in "
        "each; smallest p: what so many runs can reach. q: p adjusted for the questions asked beforehand about a group "
        "(Benjamini & Hochberg), topology and performance each a family. What is exploratory was not asked beforehand: "
        "among so many numbers some differ by chance.",
    )


def associations(content: Content) -> Table:
    """How every measure goes with every accuracy."""
    labels = labels_of(content.entries)
    rows = [[labels[a.key], labels[a.outcome], a.where, a.rho, a.p, a.n] for a in content.associations]
    return Table(
        "associations",
        "Rank correlation of measures with accuracy",
        ["measure", "with", "where", "Spearman's ρ", "p", "runs"],
        rows,
        "Where: over runs at the end of training; within the runs of one group of at least four; or in time, as the "
        "mean of the runs' own ρ over their snapshots, tested over runs, since snapshots are no independent samples. "
        "All p by permutation, none adjusted.",
    )


def scores(content: Content) -> Table:
    """How well distances between runs tell the groups apart."""
    rows = [
        [name, score, found.value, found.chance, found.p]
        for name, grouping in content.groupings.items()
        for score, found in grouping.scores.items()
    ]
    return Table(
        "scores",
        "Do distances tell the groups apart?",
        ["distance", "score", "value", "by chance", "p"],
        [[a, b.replace("ari", "adjusted Rand index").replace("_", " "), *more] for a, b, *more in rows],
        "Adjusted Rand index and purity of the clusters that average linkage finds, as many as there are groups; mean "
        "silhouette of the groups; share of the runs whose nearest neighbour is of their group. By chance and p: over "
        "1,999 shuffles of the names.",
    )


def communities(content: Content) -> Table:
    """The communities at the end of each run."""
    rows: list[list[Cell]] = [
        [
            *(
                content.label_of(run),
                c.name,
                c.size,
                c.since,
                c.persistence,
                c.flexibility,
                c.promiscuity,
                c.participation,
            ),
            "; ".join(f"{n} of {layer}" for layer, n in c.layers.items()),
            c.class_affinity,
            *(c.entropies.get(key, math.nan) for key in ENTROPIES),
        ]
        for run in content.some_runs()
        for c in content.stories[run.name].last
    ]
    return Table(
        "communities",
        "The communities at the end of training",
        [
            *(
                "run",
                "community",
                "neurons",
                "since step",
                "persistence",
                "flexibility",
                "promiscuity",
                "participation",
            ),
            *("neurons of which layer", "affinity to the class"),
            *(key.replace("_", " ") for key in ENTROPIES),
        ],
        rows,
        "Those of two neurons or more. Persistence: share of a community's neurons that stay from snapshot to snapshot "
        "(Jaccard index). Promiscuity: share of the other communities that a neuron was ever in. Flexibility, "
        "promiscuity, participation and entropies: means over its neurons; affinity: that of their mean activation.",
    )


def events(content: Content) -> Table:
    """What happened to the communities of every run."""
    rows: list[list[Cell]] = [
        [run.name, run.group, step, e.kind, " ".join(map(str, e.before)), " ".join(map(str, e.after))]
        for run in content.runs.runs
        for step, happened in content.stories[run.name].events.items()
        for e in happened
    ]
    return Table("events", "", ["run", "group", "step", "event", "before", "after"], rows)


def cost(content: Content) -> Table:
    """What watching cost."""
    rows = [
        [
            content.label_of(run),
            len(run.record.snapshots),
            run.record.steps[-1],
            _median(run, "training_thread"),
            _median(run, "worker"),
            run.record.snapshots[-1].time - run.record.snapshots[0].time,
        ]
        for run in content.runs.runs
    ]
    return Table(
        "cost",
        "What watching cost",
        [
            "run",
            "snapshots",
            "last step",
            "training thread, ms",
            "worker CPU, ms",
            "first to last snapshot, s",
        ],
        rows,
        "Milliseconds a snapshot: the sum over the instruments, and its median over the snapshots after the first.",
    )


def configurations(content: Content) -> Table:
    """Every run's configuration, the keys in which runs differ first."""
    runs = content.runs.runs
    keys = list(dict.fromkeys(key for run in runs for key in run.configuration))
    differing = [key for key in keys if len({_text(run.configuration.get(key)) for run in runs}) > 1]
    keys = differing + [key for key in keys if key not in differing]
    rows = [[run.name, run.group, *(_text(run.configuration.get(key)) for key in keys)] for run in runs]
    return Table(
        "configurations",
        "Every run's configuration",
        ["run", "group", *keys],
        rows,
        "The manifest beside each record says more: probes, layers, neurons, settings of the instruments, versions.",
    )


def final_values(content: Content) -> Table:
    """Every scalar at the last snapshot of every run."""
    rows: list[list[Cell]] = [
        [run.name, run.group, run.seed or "", run.record.snapshots[-1].step, *map(run.final, content.keys)]
        for run in content.runs.runs
    ]
    return Table("runs", "", ["run", "group", "seed", "step", *content.keys], rows)


def attack_areas(content: Content) -> Table:
    """The area under every attack curve."""
    group = {run.name: run.group for run in content.runs.runs}
    rows = [
        [name, group[name], order, measure, curve.area]
        for (order, measure), of_run in content.attacks.items()
        for name, curve in of_run.items()
    ]
    return Table("attacks", "", ["run", "group", "order", "measure", "area"], rows)


def distances(content: Content) -> Table:
    """Every distance of every pair of runs."""
    rows = [
        [name, each.runs[i].name, each.runs[j].name, float(matrix[i, j])]
        for each in content.run_distances
        for name, matrix in each.distances.items()
        for i in range(len(each.runs))
        for j in range(i)
    ]
    return Table("distances", "", ["distance", "run", "other run", "value"], rows)


TABLES: Mapping[str, Callable[[Content], Table]] = {
    f.__name__: f
    for f in (
        *(effects, associations, scores, communities, events, cost, configurations),
        *(layer_matches, code_layers, region_values, final_values, attack_areas, distances),
    )
}


def write_csv(content: Content, folder: Path) -> list[Path]:
    """Writes every table that has rows, and the curves, as CSV; returns the files.

    Raises:
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = [table for table in (make(content) for make in TABLES.values()) if table.rows]
    written = [_write(folder / f"{table.name}.csv", table.header, table.rows) for table in made]
    header = ["run", "group", "seed", "step", "key", "value"]
    return [*written, _write(folder / "curves.csv", header, _curves(content))]


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[Cell]] | Iterator[list[Cell]]) -> Path:
    with path.open("w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for row in rows:
            writer.writerow(["" if cell != cell else cell for cell in row])  # NaN is not itself
    return path


def _curves(content: Content) -> Iterator[list[Cell]]:
    for run in content.runs.runs:
        own = run.name, run.group, run.seed or ""
        for step, values in zip(run.record.steps, run.values, strict=True):
            yield from ([*own, step, key, value] for key, value in values.items())


def _median(run: Run, part: str) -> float:
    """Over the snapshots after the first, of what all instruments cost in that part."""
    names = dict.fromkeys(name for span in run.record.spans for name in span.instruments)
    keys = [f"monitor_cost/{name}/{part}" for name in names]
    paid = [
        sum(s.cost_ms.get(key, 0.0) for key in keys) for s in run.record.snapshots[1:] or run.record.snapshots
    ]
    return statistics.median(paid)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)
