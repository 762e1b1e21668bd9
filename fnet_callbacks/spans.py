"""The spans of a record: what a run that was resumed with other settings measured, and from which step on.

A span is what one run measured up to where another one went on from it. Values of one monitor are comparable within a
span of its own, and across those between which nothing changed that they follow from.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Of a monitor's settings, those that no value follows from, and what follows from others that are compared.
_NO_MATTER = (
    "every_n_steps",
    "overhead_budget",
    "worker",
    "when_busy",
    "measure_timeout_s",
    "measures",
    "layer_measures",
    "attacks",
    "epsilons",
    "homology_backend",
    "max_neurons",
)
_TOLERANCE = 1e-4  # of means over inputs, in standard deviations: another machine may round otherwise


@dataclass(frozen=True, slots=True)
class Span:
    """What was measured from one step to another.

    Attributes:
        begin: The first step at which it may have a snapshot.
        monitors: Settings of each monitor, as the manifest has them.
        probes: What the manifest says of each monitor's probe.
    """

    begin: int
    instruments: Mapping[str, Mapping[str, Any]]
    probe: Mapping[str, Any]

    @classmethod
    def of(cls, manifest: Mapping[str, Any], *, begin: int) -> Span:
        """That of what a manifest says at its top level, as JSON has it."""
        plain = json.loads(json.dumps(dict(manifest), default=str), parse_constant=lambda _: None)
        monitors, probes = (plain.get(key) for key in ("instruments", "probe"))
        return cls(
            begin,
            monitors if isinstance(monitors, dict) else {},
            probes if isinstance(probes, dict) else {},
        )

    def told(self) -> dict[str, Any]:
        """As the manifest has it."""
        return {"begin": self.begin, "instruments": self.instruments, "probe": self.probe}


def spans_of(manifest: Mapping[str, Any]) -> tuple[Span, ...]:
    """The spans of a record, the first one first; one where the run was never resumed with other settings."""
    told = manifest.get("spans")
    if not told:
        return (Span.of(manifest, begin=0),)
    return tuple(Span(one["begin"], one["instruments"], one["probe"]) for one in told)


def are_spans(told: Any) -> bool:
    """Whether it is what a manifest may say of spans; of their monitors that they are a mapping."""
    return isinstance(told, list) and all(
        isinstance(one, dict)
        and isinstance(one.get("begin"), int)
        and isinstance(one.get("instruments"), dict)
        and isinstance(one.get("probe"), dict)
        for one in told
    )


def go_on(before: Sequence[Span], now: Span) -> list[Span]:
    """The spans of a run that goes on from another one.

    Args:
        before: Those of the other, at least one.
        now: What is measured from here on; ``begin`` is the step after the one that the checkpoint stood at.
    """
    kept = [span for span in before if span.begin < now.begin]
    if not kept or changes(kept[-1], now):
        return [*kept, now]
    return [*kept[:-1], Span(kept[-1].begin, now.instruments, now.probe)]


def breaks(spans: Sequence[Span], monitor: str) -> list[int]:
    """The steps from which on a monitor measured something else than before."""
    having = [span for span in spans if monitor in span.instruments]
    return [b.begin for a, b in itertools.pairwise(having) if monitor in changes(a, b)]


def changes(before: Span, now: Span) -> dict[str, dict[str, tuple[str, str]]]:
    """By monitor and setting, what it was and what it is, in words; monitors of which nothing counts are left out.

    What only one of both says is left aside: an earlier version did not say it.
    """
    found = {}
    for name in before.instruments.keys() & now.instruments.keys():
        own = dict(_of_monitor(before.instruments[name], now.instruments[name]))
        probes = [span.probe for span in (before, now)]
        if all(isinstance(probe, Mapping) for probe in probes):
            own |= _of_probe(*probes)  # type: ignore[arg-type]
        if own:
            found[name] = own
    return found


def _of_monitor(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    for key in before:
        if key in now and key not in _NO_MATTER and not _same(before[key], now[key]):
            shown = _shown_layers if key == "layers" else _shown
            yield key, (shown(before[key]), shown(now[key]))


def _of_probe(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    are_drawn = [own.get("indices") is not None for own in (before, now)]
    for key in ("seed",) if all(are_drawn) else ("seed", "size"):
        if key in before and key in now and before[key] != now[key]:
            yield f"probe_{key}", (_shown(before[key]), _shown(now[key]))
    are_known = bool(before.get("means") and now.get("means"))
    if (
        are_drawn[0] != are_drawn[1]
        or (all(are_drawn) and {*map(str, before["indices"])} != {*map(str, now["indices"])})
        or (are_known and not _are_near(before["means"], now["means"]))
        or (not are_known and before.get("source") != now.get("source"))
    ):
        was, is_now = (f"{own.get('n_samples')} inputs of {own.get('source')}" for own in (before, now))
        yield "probe", (was, is_now if is_now != was else f"{is_now}, others")


def _same(a: Any, b: Any) -> bool:
    """Whether they are equal in what both have; of numbers 1 is 1.0."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return all(_same(a[key], b[key]) for key in a.keys() & b.keys())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return a == b


def _are_near(a: Any, b: Any) -> bool:
    """Whether means and standard deviations of the same inputs, as two machines have them."""
    if a == b:
        return True
    try:
        return all(
            math.dist((m, s), (n, t)) <= _TOLERANCE * max(abs(s), abs(t), 1e-12)
            for (m, s), (n, t) in zip(a, b, strict=True)
        )
    except (TypeError, ValueError):
        return False


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _shown_layers(value: Any) -> str:
    if not isinstance(value, list):
        return _shown(value)
    names = [
        f"{one.get('name')} ({len(one.get('neurons') or ()) or one.get('n_units')})"
        for one in value
        if isinstance(one, Mapping)
    ]
    more = [f"... {len(names) - 4} more"] if len(names) > 4 else []
    return ", ".join([*names[:4], *more]) or "none"
