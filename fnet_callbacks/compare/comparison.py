"""What tells the groups of runs apart: every measure at the end of training against the baseline's."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fnet_callbacks.compare.effects import (
    Effect,
    Interval,
    effect,
    false_discovery_rate,
    mean_interval,
    rank_correlation,
    ranks_of,
    signs_p,
)
from fnet_callbacks.compare.progress import tracked
from fnet_callbacks.compare.run import GAP
from fnet_callbacks.compare.runs import Runs
from fnet_callbacks.errors import FnetError
from fnet_callbacks.record import Key

# What is asked before the data are seen, by family; all else is a hunt through many numbers, and called so. Small, for
# five runs against five have no p below 1/126, which has to be below 0.05 over the number of questions.
TOPOLOGY = ("modularity", "global_efficiency", "loops")
BASELINES = ("none", "vanilla", "baseline", "plain")
ALPHA = 0.05
_ATTACKED = re.compile(r"(?:fgsm|pgd)_.*_accuracy")
_VALIDATED = re.compile(r"val(?:id|idation)?[_/. -]acc.*")
_NO_MEASURE = ("step", "epoch", "interval", "overhead_share", "skipped", "n_samples")


@dataclass(frozen=True, slots=True)
class Contrast:
    """One number of one group against the baseline.

    Attributes:
        key: Of the scalar.
        group: Not the baseline.
        own: Mean of the group.
        baseline: Mean of the baseline.
        effect: The difference.
        q: Its p adjusted for the questions of its family about this group (Benjamini & Hochberg); NaN where the
            question was not asked beforehand.
        family: ``"topology"``, ``"performance"``, or ``""`` for what is exploratory.
    """

    key: str
    group: str
    own: Interval
    baseline: Interval
    effect: Effect
    q: float
    family: str

    @property
    def is_finding(self) -> bool:
        """Whether q is at most 0.05; never for exploratory keys, whose q is NaN."""
        return self.q <= ALPHA


@dataclass(frozen=True, slots=True)
class Association:
    """How one number goes with another.

    Attributes:
        key: A measure.
        outcome: An accuracy, or the like.
        where: ``"runs"``: over runs, at the end of training; ``"within <group>"``: over the runs of one group;
            ``"time"``: over the snapshots of a run, and then over runs.
        rho: Spearman's; over time the mean of the runs' own.
        p: By permutation; over time by swapping the signs of the runs' own, since points in time are no
            independent samples.
        n: Runs.
    """

    key: str
    outcome: str
    where: str
    rho: float
    p: float
    n: int


def measure_keys(runs: Runs) -> list[str]:
    """The scalars that say something of a network, without those that say how it was measured."""
    return [
        key
        for key, entry in runs.entries.items()
        if entry.instrument != "monitor" and entry.quantity.rpartition("/")[2] not in _NO_MEASURE
    ]


def outcome_keys(entries: Mapping[str, Key]) -> list[str]:
    """Of the keys those that say how well a network does: clean accuracy, that under each attack, the gap.

    Where no instrument measured accuracy, the validation accuracy that the run logged itself takes their place.
    """
    whole = {key: entry for key, entry in entries.items() if entry.place is None}
    clean = [key for key, entry in whole.items() if entry.instrument and entry.quantity == "clean_accuracy"]
    attacked = [key for key, entry in whole.items() if _is_attacked(entry)]
    logged = [] if clean or attacked else [key for key in whole if _VALIDATED.fullmatch(key)][:1]
    return clean + attacked + logged + [key for key in whole if key == GAP]


def _is_attacked(entry: Key) -> bool:
    return entry.instrument != "" and _ATTACKED.fullmatch(entry.quantity) is not None


def _attack(quantity: str) -> tuple[str, float]:
    """The attack of an accuracy, and how strong it was, as its name says."""
    attack, _, epsilon = quantity.removesuffix("_accuracy").rpartition("_")
    try:
        return attack, float(epsilon)
    except ValueError:
        return attack, 0.0


def families(entries: Mapping[str, Key]) -> dict[str, str]:
    """The family of each key that is asked for beforehand.

    Topology: ``modularity``, ``global_efficiency`` and ``loops`` of a whole network. Performance: clean accuracy, and
    that under the last attack at its largest perturbation. Of several instruments that measured accuracy it is the
    first that attacks.
    """
    found = {
        key: "topology"
        for key, entry in entries.items()
        if entry.instrument and entry.place is None and entry.quantity in TOPOLOGY
    }
    outcomes = [key for key in outcome_keys(entries) if key != GAP]
    attacked = [key for key in outcomes if _is_attacked(entries[key])]
    plain = [key for key in outcomes if key not in attacked]
    if attacked:
        instrument = entries[attacked[0]].instrument
        last, _ = _attack(entries[attacked[-1]].quantity)
        plain = [key for key in plain if entries[key].instrument == instrument] or plain
        same = {key: _attack(entries[key].quantity) for key in attacked}
        attacked = [max((key for key in attacked if same[key][0] == last), key=lambda key: same[key][1])]
    return found | dict.fromkeys(plain[:1] + attacked, "performance")


def baseline_of(runs: Runs, baseline: str | None = None) -> str:
    """The group that others are compared with: what was baseline for, else one called so, else the first.

    Raises:
        FnetError: No group has that name.
    """
    groups = runs.groups
    if baseline is not None and baseline not in groups:
        raise FnetError(f"`baseline={baseline!r}` is no group; there is {', '.join(groups)}")
    return baseline or next((name for name in BASELINES if name in groups), next(iter(groups)))


def contrasts(runs: Runs, *, baseline: str | None = None) -> list[Contrast]:
    """Every measure of every group against the baseline's, at the end of training.

    Args:
        runs: At least one group; with one alone there is nothing to compare, and none is returned.
        baseline: Its name; see ``baseline_of``.

    Raises:
        FnetError: No group is called like the baseline.

    Cost: some two milliseconds for each measure and group with eight runs each.
    """
    name = baseline_of(runs, baseline)
    keys = measure_keys(runs)
    family = families({key: runs.entries[key] for key in keys})
    finals = {key: _by_group(runs, key) for key in keys}
    baselines = {key: mean_interval(finals[key][name]) for key in keys}
    found: list[Contrast] = []
    for group in tracked(runs.groups, "effects"):
        if group == name:
            continue
        made = []
        for key in keys:
            ours, theirs = finals[key][group], finals[key][name]
            if np.isfinite(ours).any() and np.isfinite(theirs).any():
                own, other = mean_interval(ours), baselines[key]
                found_effect = effect(ours, theirs)
                made.append(Contrast(key, group, own, other, found_effect, math.nan, family.get(key, "")))
        found += _adjusted(made)
    return found


def _by_group(runs: Runs, key: str) -> dict[str, np.ndarray]:
    return {group: np.array([run.final(key) for run in own]) for group, own in runs.groups.items()}


def _adjusted(made: Sequence[Contrast]) -> list[Contrast]:
    q: dict[str, float] = {}
    for family in {c.family for c in made if c.family}:
        own = [c for c in made if c.family == family]
        adjusted = false_discovery_rate([c.effect.p for c in own])
        q |= {c.key: float(value) for c, value in zip(own, adjusted, strict=True)}
    return [
        Contrast(c.key, c.group, c.own, c.baseline, c.effect, q.get(c.key, math.nan), c.family) for c in made
    ]


def associations(runs: Runs, outcomes: Sequence[str], keys: Sequence[str] | None = None) -> list[Association]:
    """How every measure goes with every outcome: over runs, within each group of four or more, and in time.

    Args:
        runs: The runs.
        outcomes: Keys such as ``robust/clean_accuracy``; those that no run has are left out.
        keys: Measures; default: all but the outcomes.

    Cost: some milliseconds for each pair and place.
    """
    known = measure_keys(runs)
    outcomes = [key for key in outcomes if key in known]
    keys = keys if keys is not None else [key for key in known if key not in outcomes]
    finals = {key: runs.final(key) for key in [*keys, *outcomes]}
    groups = np.array([run.group for run in runs.runs])
    places = {"runs": np.ones(len(groups), bool)}
    if len(runs.groups) > 1:
        places |= {f"within {g}": groups == g for g, own in runs.groups.items() if len(own) >= 4}
    ranks = [{key: _Ranks.of(run.comparable(key)) for key in finals} for run in runs.runs]
    found = []
    for key in tracked(keys, "associations"):
        for outcome in outcomes:
            for where, own in places.items():
                found.append(_over_runs(key, outcome, where, finals[key][own], finals[outcome][own]))
            found.append(_in_time(key, outcome, [(of_run[key], of_run[outcome]) for of_run in ranks]))
    return [a for a in found if math.isfinite(a.rho)]


@dataclass(frozen=True, slots=True)
class _Ranks:
    """A series and its ranks, which are the same for every other series that has values where it has."""

    series: np.ndarray
    known: bytes
    ranks: np.ndarray  # about their mean
    squares: float

    @classmethod
    def of(cls, series: np.ndarray) -> _Ranks:
        known = np.isfinite(series)
        ranks = ranks_of(series[known])
        ranks = ranks - ranks.mean() if len(ranks) else ranks
        return cls(series, known.tobytes(), ranks, float(ranks @ ranks))

    def correlation(self, other: _Ranks) -> float:
        """As ``rank_correlation`` has it."""
        if self.known != other.known:
            return rank_correlation(self.series, other.series, tested=False)[0]
        if len(self.ranks) < 4 or not self.squares or not other.squares:
            return math.nan
        return float(self.ranks @ other.ranks / math.sqrt(self.squares * other.squares))


def _over_runs(key: str, outcome: str, where: str, x: np.ndarray, y: np.ndarray) -> Association:
    rho, p = rank_correlation(x, y)
    return Association(key, outcome, where, rho, p, int((np.isfinite(x) & np.isfinite(y)).sum()))


def _in_time(key: str, outcome: str, pairs: Sequence[tuple[_Ranks, _Ranks]]) -> Association:
    rho = np.array([r for r in (one.correlation(other) for one, other in pairs) if math.isfinite(r)])
    if not len(rho):
        return Association(key, outcome, "time", math.nan, math.nan, 0)
    return Association(key, outcome, "time", float(rho.mean()), signs_p(rho), len(rho))
