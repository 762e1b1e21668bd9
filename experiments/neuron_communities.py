"""Do neuron communities and entropies go with performance? The question of Mostafa & Mondal (2021, arXiv:2106.04693).

    python -m experiments.neuron_communities --data-dir DATA

An MLP and a CNN are trained on Fashion-MNIST with eight seeds each (``experiments/sweeps/neuron_communities.yaml``), a
snapshot twice an epoch. Modularity, the number of communities, the three entropies, of the whole network and of each
layer, and what communities are about are put beside accuracy in three ways:

- within runs: Spearman's rho over the snapshots of a run, its mean over runs. Whatever rises or falls all through
  training has a large one.
- of changes: the same of the differences of successive snapshots, in which a common trend is no longer seen.
- between runs: rho over the runs at their end.

Mean rho: 95 % interval of Student's t over runs; p by swapping the signs of the runs' own. Between runs: interval of
Bonett & Wright (2000), p by permutation. No p is adjusted. The paper's rule for edges and formulas for entropy are not
known to us; ours are the package's. A table goes to the folder of the runs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.sweep import run_study, study_parser
from fnet_callbacks.compare.effects import (
    Interval,
    mean_interval,
    rank_correlation,
    rank_correlation_interval,
    signs_p,
)
from fnet_callbacks.compare.run import Run
from fnet_callbacks.compare.runs import read_runs
from fnet_callbacks.errors import FnetError
from fnet_callbacks.record import Key
from fnet_callbacks.report.wording import number, probability

SWEEP = Path(__file__).parent / "sweeps" / "neuron_communities.yaml"
ACCURACY = "robust/clean_accuracy"
MODELS: Mapping[str, Sequence[str]] = {
    "mlp": ["model.model=mlp", "model.hidden=[[256, 128, 64]]"],
    "cnn": ["model.model=cnn", "model.hidden=[[32, 64, 128]]"],
}
MEASURES = (
    *("modularity", "n_communities", "community_entropy", "partition_ami", "flexibility", "participation"),
    *("layer_entropy", "class_ami", "class_affinity"),
    *("activation_entropy", "histogram_entropy", "selectivity_entropy"),
)


@dataclass(frozen=True, slots=True)
class Relation:
    """How one measure goes with accuracy.

    Attributes:
        key: Of the measure.
        within: Mean rho over the snapshots of a run, and its p.
        changes: The same of differences.
        between: Rho over runs, and its p.
    """

    key: str
    within: tuple[Interval, float]
    changes: tuple[Interval, float]
    between: tuple[Interval, float]


def relation(runs: Sequence[Run], key: str) -> Relation:
    """Puts a measure beside accuracy."""
    pairs = [(run.record.series(key), run.record.series(ACCURACY)) for run in runs]
    within = [rank_correlation(x, y, tested=False)[0] for x, y in pairs]
    changes = [rank_correlation(np.diff(x), np.diff(y), tested=False)[0] for x, y in pairs]
    last = np.array([[run.final(key), run.final(ACCURACY)] for run in runs])
    rho, p = rank_correlation(*last.T)
    n = int(np.isfinite(last).all(axis=1).sum())
    return Relation(
        key,
        (mean_interval(within), signs_p(within)),
        (mean_interval(changes), signs_p(changes)),
        (rank_correlation_interval(rho, n), p),
    )


def relations(runs: Sequence[Run]) -> list[Relation]:
    """Of every measure of `MEASURES` that the runs have, of the whole network first.

    Raises:
        FnetError: No run has accuracy.
    """
    known = entries_of(runs)
    if ACCURACY not in known:
        raise FnetError(f"`runs`: none has {ACCURACY}; they should be of {SWEEP.name}")
    keys = [key for key, entry in known.items() if entry.quantity in MEASURES]
    return [relation(runs, key) for key in sorted(keys, key=lambda key: known[key].place or "")]


def entries_of(runs: Sequence[Run]) -> dict[str, Key]:
    """What stands under each key of the runs."""
    return {key: entry for run in reversed(runs) for key, entry in run.entries.items()}


def told(model: str, runs: Sequence[Run]) -> str:
    """The relations of one model, as Markdown."""
    accuracy = mean_interval([run.final(ACCURACY) for run in runs])
    lines = [
        f"### {model}",
        "",
        f"{len(runs)} runs of {len(runs[0].record.snapshots)} snapshots, accuracy at the end {number(accuracy.mean)} "
        f"({number(accuracy.low)} to {number(accuracy.high)}).",
        "",
        "| measure | of | within runs | p | of changes | p | between runs | p |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    known = entries_of(runs)
    for r in relations(runs):
        cells = (f"{_interval(rho)} | {probability(p)}" for rho, p in (r.within, r.changes, r.between))
        of = known[r.key]
        lines.append(f"| {of.label} | {of.layer or 'whole network'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _interval(rho: Interval) -> str:
    return f"{number(rho.mean, 2)} ({number(rho.low, 2)} to {number(rho.high, 2)})"


def main() -> int:
    """Trains what is missing, and tells."""
    asked = study_parser(__doc__, Path("runs/neuron_communities")).parse_intermixed_args()
    failed, found = 0, []
    for model, options in MODELS.items():
        has_failed, folders = run_study(SWEEP, asked.out / model, asked, options)
        failed |= has_failed
        found.append(told(model, read_runs(folders).runs))
    text = "\n\n".join(found)
    (asked.out / "RESULTS.md").write_text(text + "\n", encoding="utf-8")
    print(f"\n{text}")
    return failed


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FnetError as error:
        sys.exit(f"error: {error}")
