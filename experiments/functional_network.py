"""The study of Functional Network (Zhang, Dong, Zhang & Lin 2022, arXiv:2205.11702), and what of it is found again.

    python -m experiments.functional_network --data-dir DATA
    python -m experiments.functional_network --out runs/functional_network trainer.max_epochs=100

Trains the paper's MLP under its regularisations, eight seeds each, as ``experiments/sweeps/functional_network.yaml``
says; what is there already is not run again. Then each claim of the abstract is put beside what was found: the effect
with its interval, Hedges' g, the permutation test's p, and q, which is p adjusted for all the claims that are judged
(Benjamini & Hochberg). A claim is shown where the difference has its direction and q is at most 0.05, opposite where
it has the other, else not shown.

The paper names its measures and gives no formulas for fault tolerance, specialisation and clustering; what stands for
them is our assumption, and where several would do, the first is judged and the others are told below it.
"""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from experiments.sweep import run_study, study_parser
from fnet_callbacks import functional as F
from fnet_callbacks.compare.comparison import ALPHA
from fnet_callbacks.compare.effects import Effect, effect, false_discovery_rate, mean_interval
from fnet_callbacks.compare.grouping import Score, grouping
from fnet_callbacks.compare.run import GAP
from fnet_callbacks.compare.runs import Runs, read_runs
from fnet_callbacks.compare.topology import attack_curves, run_distances
from fnet_callbacks.errors import FnetError
from fnet_callbacks.report.wording import number, probability

SWEEP = Path(__file__).parent / "sweeps" / "functional_network.yaml"
MONITOR, BASELINE = "fnet", "none"
PGD = "robust/pgd_0.03137_accuracy"


@dataclass(frozen=True, slots=True)
class Claim:
    """That a regularisation raises (``sign`` 1) or lowers (-1) a quantity against the baseline.

    ``quantity`` is the key of a scalar, or order and measure of an attack curve, whose area it is. Where ``is_judged``
    is not set it is another reading of the claim before it.
    """

    text: str
    group: str
    quantity: str | tuple[F.Order, F.AttackMeasure]
    sign: int
    is_judged: bool = True


def _fault_tolerance(group: str, sign: int, word: str) -> list[Claim]:
    readings: list[tuple[str, tuple[F.Order, F.AttackMeasure]]] = [
        ("hubs removed, largest component", ("degree", "giant_component")),
        ("hubs removed, efficiency", ("degree", "efficiency")),
        ("most passed through removed, largest component", ("betweenness", "giant_component")),
        ("most passed through removed, efficiency", ("betweenness", "efficiency")),
        ("removed at random, largest component", ("random", "giant_component")),
        ("removed at random, efficiency", ("random", "efficiency")),
    ]
    return [
        Claim(f"{group} {word} fault tolerance" if i == 0 else f"... {told}", group, quantity, sign, i == 0)
        for i, (told, quantity) in enumerate(readings)
    ]


CLAIMS = (
    Claim("batch_norm raises global efficiency", "batch_norm", f"{MONITOR}/global_efficiency", 1),
    Claim("batch_norm raises the number of loops", "batch_norm", f"{MONITOR}/loops", 1),
    *_fault_tolerance("batch_norm", -1, "lowers"),
    Claim("batch_norm lowers adversarial robustness (PGD)", "batch_norm", PGD, -1),
    Claim("dropout raises functional specialisation (modularity)", "dropout", f"{MONITOR}/modularity", 1),
    Claim("... clustering", "dropout", f"{MONITOR}/clustering", 1, False),
    *_fault_tolerance("dropout", 1, "raises"),
    Claim("dropout improves generalisation (validation accuracy)", "dropout", "val_accuracy", 1),
    Claim(
        "... generalisation gap, which it lowers (dropout lowers training accuracy)",
        "dropout",
        GAP,
        -1,
        False,
    ),
    Claim("dropout raises adversarial robustness (PGD)", "dropout", PGD, 1),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A claim beside what was found: means, effect, and q, which is NaN for what is not judged."""

    claim: Claim
    own: float
    baseline: float
    effect: Effect
    q: float

    @property
    def verdict(self) -> str:
        """``shown``, ``opposite``, ``not shown``, ``not measured``; empty for what is not judged."""
        if not self.claim.is_judged:
            return ""
        if not math.isfinite(self.effect.p):
            return "not measured"
        if not self.q <= ALPHA:
            return "not shown"
        return "shown" if self.effect.difference.mean * self.claim.sign > 0 else "opposite"


def judged(runs: Runs, claims: Sequence[Claim] = CLAIMS) -> list[Finding]:
    """Every claim beside what was found.

    Raises:
        FnetError: A regularisation of the claims has no run.
    """
    groups = runs.groups
    if missing := {BASELINE, *(c.group for c in claims)} - set(groups):
        raise FnetError(
            f"`runs`: there is none of {', '.join(sorted(missing))}; there is {', '.join(groups)}"
        )
    areas = {
        kind: {name: curve.area for name, curve in of_run.items()}
        for kind, of_run in attack_curves(runs.runs, MONITOR).items()
    }

    def values(group: str, claim: Claim) -> np.ndarray:
        if isinstance(claim.quantity, str):
            return np.array([run.final(claim.quantity) for run in groups[group]])
        return np.array([areas[claim.quantity].get(run.name, math.nan) for run in groups[group]])

    pairs = [(values(c.group, c), values(BASELINE, c)) for c in claims]
    effects = [effect(own, baseline) for own, baseline in pairs]
    asked = [e.p if c.is_judged else math.nan for c, e in zip(claims, effects, strict=True)]
    return [
        Finding(claim, mean_interval(own).mean, mean_interval(baseline).mean, found, float(q))
        for claim, (own, baseline), found, q in zip(
            claims, pairs, effects, false_discovery_rate(asked), strict=True
        )
    ]


def clustering(runs: Runs) -> dict[str, Mapping[str, Score]]:
    """By distance between the topologies of runs, how well it tells the regularisations apart."""
    measures = [f"{MONITOR}/{name}" for name in ("modularity", "global_efficiency", "loops")]
    return {
        name: grouping(matrix, [run.group for run in each.runs]).scores
        for each in run_distances(runs.runs, MONITOR, measures)
        for name, matrix in each.distances.items()
    }


def told(runs: Runs) -> str:
    """The claims, and whether runs cluster by their regularisation, as Markdown."""
    sizes = ", ".join(f"{name} ({len(own)})" for name, own in runs.groups.items())
    steps = sorted({run.record.steps[-1] for run in runs.runs})
    lines = [
        f"Runs: {sizes}, to step {' or '.join(map(str, steps))}.",
        "",
        "| claim | with | without | difference (95 % interval) | g | p | q | verdict |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for f in judged(runs):
        d = f.effect.difference
        lines.append(
            f"| {f.claim.text} | {number(f.own)} | {number(f.baseline)} | {number(d.mean)} ({number(d.low)} to "
            f"{number(d.high)}) | {number(f.effect.g, 2)} | {probability(f.effect.p)} | {probability(f.q)} | "
            f"{f.verdict} |"
        )
    lines += [
        "",
        "Models with different regularisations are clustered correctly:",
        "",
        "| by the | adjusted Rand index | chance | p | purity | nearest neighbour of its group | better than chance |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, scores in clustering(runs).items():
        ari = scores["ari"]
        lines.append(
            f"| {name} | {number(ari.value, 2)} | {number(ari.chance, 2)} | {probability(ari.p)} | "
            f"{scores['purity'].value:.0%} | {scores['nearest_neighbour'].value:.0%} | "
            f"{'shown' if ari.p <= ALPHA else 'not shown'} |"
        )
    libraries = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "lightning", "numpy", "scipy", "gudhi")
    )
    return "\n".join([*lines, "", f"Python {platform.python_version()}, {libraries}."])


def main() -> int:
    """Trains what is missing, and judges."""
    asked = study_parser(__doc__, Path("runs/functional_network")).parse_intermixed_args()
    failed, runs = run_study(SWEEP, asked.out, asked)
    found = told(read_runs(runs, group_by="regularizer"))
    (asked.out / "RESULTS.md").write_text(found + "\n", encoding="utf-8")
    print(f"\n{found}")
    return failed


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FnetError as error:
        sys.exit(f"error: {error}")
