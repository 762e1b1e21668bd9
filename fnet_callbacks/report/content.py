"""What a report says: the comparison of runs as numbers, before any of it is a sentence, a figure or a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from fnet_callbacks import functional as F
from fnet_callbacks.compare.communities import Story, story
from fnet_callbacks.compare.comparison import (
    Association,
    Contrast,
    associations,
    baseline_of,
    contrasts,
    families,
    measure_keys,
    outcome_keys,
)
from fnet_callbacks.compare.curves import Curve
from fnet_callbacks.compare.grouping import Grouping, grouping
from fnet_callbacks.compare.progress import tracked
from fnet_callbacks.compare.run import Run
from fnet_callbacks.compare.runs import Runs
from fnet_callbacks.compare.topology import RunDistances, attack_curves, drift, run_distances
from fnet_callbacks.errors import FnetError
from fnet_callbacks.record import Key

_MAX_RUNS = 12


@dataclass(frozen=True)
class Content:
    """Everything that is told of some runs.

    Attributes:
        runs: The runs.
        baseline: The group that others are compared with.
        instrument: The one whose networks are drawn; empty where no run has a network.
        keys: Scalars of whole networks and of attacks, what is asked beforehand first, then those of layers.
        hypotheses: Those of them that were asked beforehand, with their family, see ``families``.
        outcomes: Those of them that say how well a network does, see ``outcome_keys``.
        contrasts: Of every group with the baseline; empty for one group.
        associations: Of every whole-network measure with every outcome.
        run_distances: Distances between runs.
        groupings: By name of the distance, what it says of the groups; without those that say nothing of so few runs.
        attacks: See ``attack_curves``.
        drifts: By run.
        stories: By run, its communities.
    """

    runs: Runs
    baseline: str
    instrument: str
    keys: Sequence[str]
    hypotheses: Mapping[str, str]
    outcomes: Sequence[str]
    contrasts: Sequence[Contrast]
    associations: Sequence[Association]
    run_distances: Sequence[RunDistances]
    groupings: Mapping[str, Grouping]
    attacks: Mapping[tuple[F.Order, F.AttackMeasure], Mapping[str, F.AttackCurve]]
    drifts: Mapping[str, Curve]
    stories: Mapping[str, Story]

    @cached_property
    def entries(self) -> dict[str, Key]:
        """What stands under each of ``keys``."""
        return {key: self.runs.entries[key] for key in self.keys}

    @property
    def groups(self) -> dict[str, list[Run]]:
        """The runs by group, the baseline first."""
        groups = self.runs.groups
        return {self.baseline: groups.pop(self.baseline), **groups}

    def of_kind(self, kind: str) -> list[str]:
        """Names of the instruments of a kind, over all runs."""
        return _of_kind(self.runs, kind)

    def some_runs(self) -> list[Run]:
        """The first runs of each group, as many of each as can be looked at one by one."""
        groups = list(self.groups.values())
        return [run for runs in groups for run in runs[: max(1, _MAX_RUNS // len(groups))]]

    def label_of(self, run: Run) -> str:
        """A run by its group and seed, where they tell it from the others, else by its name."""
        alike = sum((other.group, other.seed) == (run.group, run.seed) for other in self.runs.runs)
        return f"{run.group}, seed {run.seed}" if run.seed is not None and alike == 1 else run.name


def content_of(runs: Runs, *, baseline: str | None = None) -> Content:
    """Compares runs in every way that the report tells of.

    Args:
        runs: At least one.
        baseline: Name of a group; see ``baseline_of``.

    Raises:
        FnetError: No group is called like the baseline.

    Cost: some seconds for nine runs of 400 neurons; see ``run_distances`` and ``attack_curves`` for what grows.
    """
    name = baseline_of(runs, baseline)
    entries = {key: runs.entries[key] for key in measure_keys(runs)}
    hypotheses = families(entries)
    keys = sorted(
        entries,
        key=lambda key: (
            entries[key].place is not None,
            hypotheses.get(key) != "topology",
            key not in hypotheses,
        ),
    )
    whole = {key: entries[key] for key in keys if entries[key].place is None}
    outcomes = outcome_keys(whole)
    networks = _networks(runs, whole)
    instrument = next(iter(networks), "")
    measures = [key for key, entry in whole.items() if entry.instrument in networks]
    distances = run_distances(runs.runs, instrument, measures)
    return Content(
        runs=runs,
        baseline=name,
        instrument=instrument,
        keys=keys,
        hypotheses=hypotheses,
        outcomes=outcomes,
        contrasts=contrasts(runs, baseline=name) if len(runs.groups) > 1 else [],
        associations=associations(runs, outcomes, measures),
        run_distances=distances,
        groupings=_groupings(distances),
        attacks=attack_curves(runs.runs, instrument),
        drifts={run.name: drift(run, instrument) for run in tracked(runs.runs, "drifts")},
        stories={run.name: story(run, instrument) for run in tracked(runs.runs, "communities")},
    )


def _groupings(distances: Sequence[RunDistances]) -> dict[str, Grouping]:
    found = {}
    for each in tracked(distances, "groups"):
        names = [run.group for run in each.runs]
        for name, matrix in each.distances.items():
            try:
                found[name] = grouping(matrix, names)
            except FnetError:  # too few runs or groups to score
                continue
    return found


def _of_kind(runs: Runs, kind: str) -> list[str]:
    return list(dict.fromkeys(name for run in runs.runs for name in run.record.of_kind(kind)))


def _networks(runs: Runs, whole: Mapping[str, Key]) -> list[str]:
    """Names of the instruments of a functional network, those that measured its modularity first."""
    modular = [entry.instrument for entry in whole.values() if entry.quantity == "modularity"]
    named = [name for name in modular if name]
    return list(dict.fromkeys([*named, *_of_kind(runs, "FunctionalNetwork")]))
