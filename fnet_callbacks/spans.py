"""The spans of a record: what a run that was resumed with other settings measured, and from which step on.

A span is what one run measured up to where another one went on from it. Values of one instrument are comparable within
a span of its own, and across those between which nothing changed that they follow from.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

# Of the settings, those that no value follows from, and what follows from others that are compared.
_NO_MATTER = (
    "every_n_steps",
    "every_n_epochs",
    "overhead_budget",
    "worker",
    "worker_in_use",
    "worker_reason",
    "when_busy",
    "figures",
    "log",
    "on_error",
    "save_correlation",
    "probe_size",  # the next two stand with the probe
    "probe_seed",
    "measure_timeout_s",
    "measures",
    "layer_measures",
    "attacks",
    "epsilons",
    "homology_backend",
    "max_neurons",
    "quantities",
)
_TOLERANCE = 1e-4  # of means over inputs, in standard deviations: another machine may round otherwise


@dataclass(frozen=True, slots=True)
class Span:
    """What was measured from one step to another.

    Attributes:
        begin: The first step at which it may have a snapshot.
        instruments: Settings of each instrument, as the manifest has them.
        probe: What the manifest says of the probe.
        monitor: Settings that all instruments share.
    """

    begin: int
    instruments: Mapping[str, Mapping[str, Any]]
    probe: Mapping[str, Any] = field(default_factory=dict)
    monitor: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, manifest: Mapping[str, Any], *, begin: int) -> Span:
        """That of what a manifest says at its top level, as JSON has it."""
        plain = json.loads(json.dumps(dict(manifest), default=str), parse_constant=lambda _: None)
        own = (plain.get(key) for key in ("instruments", "probe", "monitor"))
        return cls(begin, *(part if isinstance(part, dict) else {} for part in own))

    def to_manifest(self) -> dict[str, Any]:
        """As the manifest has it."""
        return {
            "begin": self.begin,
            "instruments": self.instruments,
            "probe": self.probe,
            "monitor": self.monitor,
        }


def spans_of(manifest: Mapping[str, Any]) -> tuple[Span, ...]:
    """The spans of a record, the first one first; one where the run was never resumed with other settings."""
    listed = manifest.get("spans")
    if not listed:
        return (Span.of(manifest, begin=0),)
    return tuple(Span(s["begin"], s["instruments"], s["probe"], s.get("monitor", {})) for s in listed)


def go_on(before: Sequence[Span], now: Span) -> list[Span]:
    """The spans of a run that goes on from another one.

    Args:
        before: Those of the other, at least one.
        now: What is measured from here on; ``begin`` is the step after the one that the checkpoint stood at.
    """
    kept = [span for span in before if span.begin < now.begin]
    if not kept or changes(kept[-1], now) or kept[-1].instruments.keys() - now.instruments.keys():
        return [*kept, now]
    return [*kept[:-1], replace(now, begin=kept[-1].begin)]


def breaks(spans: Sequence[Span], instrument: str) -> list[int]:
    """The steps from which on an instrument measured something else than before."""
    having = [span for span in spans if instrument in span.instruments]
    return [b.begin for a, b in itertools.pairwise(having) if instrument in changes(a, b)]


def changes(before: Span, now: Span) -> dict[str, dict[str, tuple[str, str]]]:
    """By instrument and setting, what it was and what it is, in words; those of which nothing counts are left out.

    What only one of both says is left aside: an earlier version did not say it.
    """
    shared = dict(_of_settings(before.monitor, now.monitor))
    of_probe = dict(_of_probe(before.probe, now.probe)) if before.probe and now.probe else {}
    found = {}
    for name in before.instruments.keys() & now.instruments.keys():
        one, other = before.instruments[name], now.instruments[name]
        own = {key: change for key, change in shared.items() if key not in one and key not in other}
        own |= _of_settings(one, other)
        probe, other_probe = one.get("probe"), other.get("probe")
        if probe is None and other_probe is None:
            own |= of_probe
        elif isinstance(probe, Mapping) and isinstance(other_probe, Mapping):  # of its own, as in version 1
            own |= _of_probe(probe, other_probe)
        if own:
            found[name] = own
    return found


def _of_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    for key in before:
        if key in now and key not in ("probe", *_NO_MATTER) and not _same(before[key], now[key]):
            shown = _shown_layers if key == "layers" else _shown
            yield key, (shown(before[key]), shown(now[key]))


def _of_probe(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    are_drawn = [isinstance(own.get("indices"), list) for own in (before, now)]
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
