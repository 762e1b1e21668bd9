"""The summary: sentences that follow from the tests, and say how surely."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from fnet_callbacks.compare.comparison import ALPHA, Contrast
from fnet_callbacks.compare.effects import Interval
from fnet_callbacks.report.content import Content
from fnet_callbacks.report.wording import labels_of, listed, number, probability

_MAX_NAMED = 5
LARGE = 0.8  # Cohen's word for a difference of that many standard deviations


def summary(content: Content) -> list[tuple[str, list[str]]]:
    """Headed lists of sentences, plain text.

    What differs surely; what is large but not shown by so few runs; what was asked and not found, or has no value;
    whether runs of a group resemble each other; how topology goes with accuracy.
    """
    parts = [
        ("What differs", list(_findings(content))),
        ("Large, but not shown", list(_large(content))),
        ("Asked, and no large difference seen", list(_absent(content))),
        ("Asked, and not there", list(_unanswered(content))),
        ("Do runs of a group resemble each other?", list(_resemblance(content))),
        ("How topology goes with accuracy", list(_with_accuracy(content))),
    ]
    return [("How much so few runs can show", list(_reservations(content))), *parts]


def _reservations(content: Content) -> Iterator[str]:
    yield from _on_runs(content)
    groups = content.groups
    if len(groups) == 1:
        yield "All runs are of one group: there is nothing to compare them with."
        return
    sizes = {name: len(runs) for name, runs in groups.items()}
    if alone := [name for name, n in sizes.items() if n < 2]:
        yield f"{listed(alone)}: one run each. No test is claimed where a group has a single run."
    for group in list(groups)[1:]:
        against = f"{group} against “{content.baseline}”: with {sizes[group]} against {sizes[content.baseline]} runs"
        testable = [c for c in content.contrasts if c.group == group and math.isfinite(c.effect.smallest_p)]
        for family in dict.fromkeys(c.family for c in testable if c.family):
            smallest = [c.effect.smallest_p for c in testable if c.family == family]
            if min(smallest) > ALPHA:
                yield (
                    f"{against} no p-value can be below {probability(min(smallest))}; nothing of {family} can be found "
                    f"at {ALPHA:g}, however large."
                )
            elif min(smallest) * len(smallest) > ALPHA:
                yield (
                    f"{against} an effect that is alone among the {len(smallest)} questions of {family} cannot be "
                    "found, however large; several together can."
                )


def _on_runs(content: Content) -> Iterator[str]:
    """What should be known of the runs before they are compared."""
    runs = content.runs
    longest = max(run.record.steps[-1] for run in runs.runs)
    if shorter := [run for run in runs.runs if run.record.steps[-1] < longest]:
        names = listed(
            [f"{content.label_of(run)} at {run.record.steps[-1]:,}" for run in shorter[:_MAX_NAMED]]
        )
        more = f" and {len(shorter) - _MAX_NAMED} more" if len(shorter) > _MAX_NAMED else ""
        yield (
            f"Not all runs are of one length: the longest ends at step {longest:,}, {names}{more}. What is told of the "
            "end of training is each run's own end."
        )
    if runs.measured_differently:
        yield (
            f"Not all runs were measured alike: they differ in {listed(runs.measured_differently)}. What is told of "
            "their difference may be that of the measurement."
        )
    for run in runs.runs:
        if left_out := int(run.series.get("monitor/skipped", (None, [0]))[1][-1]):
            yield (
                f"{content.label_of(run)}: {left_out:,} snapshots of its instruments were left out though they were "
                "due, for which the record gives the reasons; what is told of its course is told of the others."
            )
        for step, changed in run.changes.items():
            changes = "; ".join(
                f"{instrument}: {setting} {was} → {now}"
                for instrument, own in changed.items()
                for setting, (was, now) in own.items()
            )
            yield (
                f"{content.label_of(run)} was resumed with other settings from step {step:,} on ({changes}): its curves"
                " are interrupted there, and what is told of its end and its communities is told of what came after."
            )
    for same in runs.repeated:
        yield (
            f"{listed([run.name for run in same])} have one configuration and one seed: they may be one run, counted "
            f"{len(same)} times."
        )
    if runs.mixed:
        yield f"Runs of one group differ in more than their seed: {listed(runs.mixed)}. They are taken together."
    if not runs.grouped_by and len(runs.groups) == len(runs.runs) > 1 and runs.differing:
        yield f"Each run is a group of its own, for they differ in {listed(runs.differing)}; see --group-by."


def _findings(content: Content) -> Iterator[str]:
    labels = labels_of(content.entries)
    for c in _by_size(content.contrasts):
        if c.is_finding:
            yield f"{_difference(c, labels[c.key], content.baseline)} {_is('q', c.q)}."


def _large(content: Content) -> Iterator[str]:
    labels = labels_of(content.entries)
    for c in _by_size(content.contrasts):
        if c.family and not c.is_finding and abs(c.effect.g) >= LARGE:
            p = _is("p", c.effect.p) if math.isfinite(c.effect.p) else "untested"
            yield f"{_difference(c, labels[c.key], content.baseline)} {p}."


def _absent(content: Content) -> Iterator[str]:
    labels = labels_of(content.entries)
    for c in content.contrasts:
        if c.family and not c.is_finding and abs(c.effect.g) < LARGE:
            yield (
                f"{c.group}: {labels[c.key]} differs from that under “{content.baseline}” by "
                f"{number(c.effect.difference.mean)}{_interval(c.effect.difference)}."
            )


def _unanswered(content: Content) -> Iterator[str]:
    """What was asked beforehand and has no value at the end of some runs, with the reason where the record has one."""
    labels, groups = labels_of(content.entries), content.groups
    for key in content.hypotheses:
        for group, runs in groups.items():
            lacking = [run for run in runs if not math.isfinite(run.final(key))]
            if lacking:
                why = lacking[0].record.snapshots[-1].notes.get(key, "")
                yield (
                    f"{group}: {labels[key]} has no value at the end of {len(lacking)} of {len(runs)} runs"
                    f"{f' ({why})' if why else ''}; what is told of it is told of the rest."
                )


def _resemblance(content: Content) -> Iterator[str]:
    for name, found in content.groupings.items():
        ari, nearest = found.scores["ari"], found.scores["nearest_neighbour"]
        yield (
            f"By the {name}: average linkage finds the groups with an adjusted Rand index of {number(ari.value, 2)} "
            f"(chance {number(ari.chance, 2)}, {_is('p', ari.p)}); the nearest run is of the same group for "
            f"{nearest.value:.0%} of the runs (chance {nearest.chance:.0%}, {_is('p', nearest.p)})."
        )


def _with_accuracy(content: Content) -> Iterator[str]:
    labels = labels_of(content.entries)
    keys = {c.key for c in content.contrasts if c.family == "topology"}
    keys = keys or {
        key for key, e in content.entries.items() if e.quantity == "modularity" and e.place is None
    }
    outcomes = [outcome for outcome in content.outcomes if outcome in content.hypotheses]
    for outcome in outcomes or content.outcomes[:2]:
        known = [a for a in content.associations if a.key in keys and a.outcome == outcome and a.n > 1]
        for where, words in (
            ("runs", "over all runs, groups together"),
            ("time", "over the course of a run, on average"),
        ):
            rhos = [
                f"{labels[a.key]} ρ = {number(a.rho, 2)} ({_is('p', a.p)})" for a in known if a.where == where
            ]
            if rhos:
                label = labels[outcome]
                yield f"{label[:1].upper()}{label[1:]}, {words}: {'; '.join(rhos)}; p unadjusted."


def _difference(c: Contrast, label: str, baseline: str) -> str:
    direction = "higher" if c.effect.difference.mean > 0 else "lower"
    return (
        f"{c.group}: {label} is {direction} than under “{baseline}”, {number(c.own.mean)} against "
        f"{number(c.baseline.mean)}; difference {number(c.effect.difference.mean)}{_interval(c.effect.difference)}, "
        f"g = {number(c.effect.g, 2)},"
    )


def _is(name: str, p: float) -> str:
    text = probability(p)
    return f"{name} {text}" if text.startswith("<") else f"{name} = {text}"


def _interval(interval: Interval) -> str:
    if not math.isfinite(interval.low):
        return ""
    return f" ({number(interval.low)} to {number(interval.high)})"


def _by_size(contrasts: Sequence[Contrast]) -> list[Contrast]:
    return sorted(contrasts, key=lambda c: -abs(c.effect.g) if math.isfinite(c.effect.g) else -math.inf)
