"""One training run as it is compared with others: its scalars under the keys that runs share, its settings."""

from __future__ import annotations

import math
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from fnet_callbacks.compare.curves import Curve
from fnet_callbacks.record import Key, Record
from fnet_callbacks.spans import changes

GAP = "generalization_gap"  # training less validation accuracy
_TRAINING_ACCURACY = re.compile(r"train(?:ing)?([_/. -]acc.*)")
_NOWHERE = np.empty(0, np.int64), np.empty(0)
# Of the settings in the manifest, what follows from the model, or changes no number.
_NO_SETTING = (
    "kind",
    "layers",
    "quantities",
    "n_units",
    "worker",
    "worker_in_use",
    "worker_reason",
    "when_busy",
    "log",
    "measure_timeout_s",
    "probe",
)


@dataclass(frozen=True, slots=True)
class Layer:
    """What a layer of a run is taken for.

    Attributes:
        label: Of it and the layers of other runs that it is compared with.
        is_at_place: Whether these are just those that any run has at its place, so that the place is its name in keys.
    """

    label: str
    is_at_place: bool


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        name: Tells it from the others that were read with it.
        group: Runs of one group are meant to differ by their seed alone; see ``Runs.mixed``.
        seed: As the configuration has it; None where it does not say.
        configuration: What the record's manifest says of the run, one value a key.
        record: Its snapshots; at least one.
        layers_of: By instrument and place, what a layer is taken for; see ``compare.layers``.
    """

    name: str
    group: str
    seed: str | None
    configuration: Mapping[str, Any]
    record: Record
    layers_of: Mapping[str, Mapping[str, Layer]] = field(default_factory=dict)

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The configuration, and how the run was measured: see ``measurement``."""
        return {**self.measurement, **self.configuration}

    @cached_property
    def measurement(self) -> Mapping[str, Any]:
        """How the run was measured, such as ``class`` of the model, ``fnet.density`` or ``probe.seed``."""
        manifest = self.record.manifest
        found = {"class": manifest["model"]} if "model" in manifest else {}
        for name, settings in {"monitor": manifest.get("monitor", {}), **self.record.instruments}.items():
            found |= {f"{name}.{key}": value for key, value in settings.items() if key not in _NO_SETTING}
        probes = {
            "probe": manifest.get("probe", {}),
            **{f"{name}.probe": s["probe"] for name, s in self.record.instruments.items() if "probe" in s},
        }
        for name, probe in probes.items():
            if isinstance(probe, dict):
                found |= {f"{name}.{key}": probe[key] for key in ("n_samples", "seed") if key in probe}
        return found

    def layers(self, instrument: str) -> list[str]:
        """The labels of the layers that an instrument watched, in the order of the network."""
        own = self.layers_of.get(instrument, {})
        return [
            own[place].label if place in own else f"{place} {name}"
            for place, name in self.record.layer_names(instrument).items()
        ]

    @cached_property
    def _shared(self) -> Mapping[str, tuple[str, Key]]:
        """By the record's key the one under which a scalar is compared, and what it is."""
        found = {}
        for key, entry in self.record.keys.items():
            shared = key
            if entry.place is not None:
                layer = self.layers_of.get(entry.instrument, {}).get(
                    entry.place, Layer(f"{entry.place} {entry.layer}".strip(), True)
                )
                shared = key if layer.is_at_place else f"{entry.instrument}/{layer.label}/{entry.quantity}"
                entry = replace(entry, layer=layer.label)
            found[key] = shared, entry
        return found

    @cached_property
    def entries(self) -> Mapping[str, Key]:
        """What stands under each key of ``series``; the ``layer`` of one is its label."""
        known = dict(self._shared.values())
        return {key: known[key] if key in known else Key("", key, label=_words(key)) for key in self.series}

    @property
    def values(self) -> Iterator[dict[str, float]]:
        """Of each snapshot what was measured, what the run had logged itself, and the gap that follows from that.

        Where layers of one place are not compared with each other their labels are in the keys.
        """
        shared = {key: name for key, (name, _) in self._shared.items()}
        for snapshot in self.record.snapshots:
            logged = {**snapshot.logged, **snapshot.logged_at_end}
            own = {shared.get(key, key): v for key, v in snapshot.scalars.items()}
            yield {**own, **logged, **_gap(logged)}

    @cached_property
    def series(self) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
        """Of each scalar the places among the snapshots that have it, ``[K]``, and its values there, ``[K]``."""
        found: dict[str, tuple[array[int], array[float]]] = {}
        for t, values in enumerate(self.values):
            for key, value in values.items():
                if key not in found:
                    found[key] = array("l"), array("d")
                places, own = found[key]
                places.append(t)
                own.append(value)
        return {key: (np.array(places), np.array(own)) for key, (places, own) in found.items()}

    def gaps(self, instrument: str) -> list[tuple[int, int]]:
        """The steps of the snapshots before and after each change of what an instrument measures."""
        steps = self.record.steps
        places = [bisect_left(steps, begin) for begin in self.record.breaks(instrument)]
        return [(steps[place - 1], steps[place]) for place in places if 0 < place < len(steps)]

    @property
    def changes(self) -> dict[int, dict[str, dict[str, tuple[str, str]]]]:
        """By step and instrument, which settings were others from there on: what they were, and what they are."""
        found = {now.begin: changes(before, now) for before, now in pairwise(self.record.spans)}
        return {step: own for step, own in found.items() if own}

    def curve(self, key: str) -> Curve:
        """A scalar over the steps at which it is finite; it is interrupted where what is measured changed."""
        places, values = self.series.get(key, _NOWHERE)
        known = np.isfinite(values)
        gaps = tuple((a + b) / 2 for a, b in self.gaps(self._instrument_of(key)))
        return Curve(np.array(self.record.steps, np.int64)[places[known]], values[known], gaps)

    def comparable(self, key: str) -> np.ndarray:
        """A scalar at every snapshot, ``[T]``; NaN where it is not there, or was measured otherwise than at the end."""
        found = self.over_time(key)
        begin = max(self.record.breaks(self._instrument_of(key)), default=0)
        found[: bisect_left(self.record.steps, begin)] = np.nan
        return found

    def over_time(self, key: str) -> np.ndarray:
        """A scalar at every snapshot, ``[T]``; NaN where it is not there."""
        found = np.full(len(self.record.snapshots), np.nan)
        if key in self.series:
            places, values = self.series[key]
            found[places] = values
        return found

    def final(self, key: str) -> float:
        """A scalar at the last snapshot; NaN where it is not there."""
        places, values = self.series.get(key, _NOWHERE)
        return float(values[-1]) if len(places) and places[-1] == len(self.record.snapshots) - 1 else math.nan

    def first(self, key: str) -> float:
        """A scalar at the first snapshot that has it, as not all instruments need have measured at each.

        NaN where it was measured otherwise there than at the end.
        """
        _, values = self.series.get(key, _NOWHERE)
        return float(values[0]) if len(values) and not self.gaps(self._instrument_of(key)) else math.nan

    def last(self, key: str) -> float:
        """A scalar at the last snapshot that has it."""
        _, values = self.series.get(key, _NOWHERE)
        return float(values[-1]) if len(values) else math.nan

    def _instrument_of(self, key: str) -> str:
        """What measured a scalar; empty for what the run logged itself, or does not have."""
        entry = self.entries.get(key)
        return "" if entry is None else entry.instrument


def _words(key: str) -> str:
    """What the run logged itself, in words."""
    return key.replace("_", " ")


def _gap(logged: Mapping[str, float]) -> dict[str, float]:
    """The generalisation gap, where training and validation accuracy were logged under names that differ by that."""
    for key, value in logged.items():
        if (named := _TRAINING_ACCURACY.fullmatch(key)) is not None:
            for word in ("val", "valid", "validation"):
                if (other := f"{word}{named[1]}") in logged:
                    return {GAP: value - logged[other]}
    return {}
