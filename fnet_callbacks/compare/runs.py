"""The runs that are compared: their records, what they were configured with, and which of them belong together."""

from __future__ import annotations

import math
import os
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fnet_callbacks.compare.curves import Curve, aligned
from fnet_callbacks.compare.layers import Match, Watched, matched, watched_layers
from fnet_callbacks.compare.records import read_records
from fnet_callbacks.errors import FnetError
from fnet_callbacks.record import Record
from fnet_callbacks.spans import changes

# What a configuration calls the choice that runs are compared by, in the order in which it is looked for.
_GROUP_KEYS = ("regularizer", "regulariser", "regularization", "regularisation", "group")
_SEED_KEYS = ("seed_everything", "seed")
ALIKE = "all runs"
GAP = "generalization_gap"  # training less validation accuracy
_TRAINING_ACCURACY = re.compile(r"train(?:ing)?([_/. -]acc.*)")
_NOWHERE = np.empty(0, np.int64), np.empty(0)
# Of a monitor's settings in the manifest, what follows from the model, or changes no number.
_NO_SETTING = ("kind", "layers", "n_units", "operations", "worker", "when_busy", "measure_timeout_s")


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        name: Tells it from the others that were read with it.
        group: Runs of one group are meant to differ by their seed alone; see ``Runs.mixed``.
        seed: As the configuration has it; None where it does not say.
        configuration: What the record's manifest says of the run, one value a key.
        record: Its snapshots; at least one.
        labels: By monitor, and by what each of its layers is called in the keys of this run's scalars, what that and
            those layers of other runs that it is compared with are called together; see ``compare.layers``.
    """

    name: str
    group: str
    seed: str | None
    configuration: Mapping[str, Any]
    record: Record
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The configuration, and how the run was measured: see ``measurement``."""
        return {**self.measurement, **self.configuration}

    @cached_property
    def measurement(self) -> Mapping[str, Any]:
        """The class of the model, ``class``, and each monitor's settings and probe, such as ``fnet.density``."""
        manifest = self.record.manifest
        found = {"class": manifest["model"]} if "model" in manifest else {}
        for name, settings in manifest.get("monitors", {}).items():
            found |= {f"{name}.{key}": value for key, value in settings.items() if key not in _NO_SETTING}
        probes = manifest.get("probes")
        for name, probe in (probes if isinstance(probes, dict) else {}).items():
            if isinstance(probe, dict):
                found |= {f"{name}.probe_{key}": probe[key] for key in ("n_samples", "seed") if key in probe}
        return found

    def layers(self, monitor: str) -> list[str]:
        """The labels of the layers that a monitor watched, in the order of the network."""
        watched = watched_layers(self.record.manifest.get("monitors", {}).get(monitor, {}))
        labels = self.labels.get(monitor, {})
        return [labels.get(layer.folder, layer.name) for layer in watched]

    @property
    def values(self) -> Iterator[dict[str, float]]:
        """Of each snapshot what was measured, what the run had logged itself, and the gap that follows from that.

        Layers are called by their labels.
        """
        named: dict[str, str] = {}
        for snapshot in self.record.snapshots:
            logged = {**snapshot.logged, **snapshot.logged_at_end}
            for key in snapshot.scalars:
                if key not in named:
                    named[key] = self.named(key)
            yield {**{named[key]: v for key, v in snapshot.scalars.items()}, **logged, **_gap(logged)}

    def named(self, key: str) -> str:
        """A key of the record with its layer under the label that it has in all runs."""
        place, _, measure = key.rpartition("/")
        monitor, _, layer = place.partition("/")
        for name in (monitor, monitor.removesuffix("_layers")):
            if (label := self.labels.get(name, {}).get(layer)) is not None:
                return f"{monitor}/{label}/{measure}"
        return key

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

    def gaps(self, monitor: str) -> list[tuple[int, int]]:
        """The steps of the snapshots before and after each change of what a monitor measures."""
        steps = self.record.steps
        places = [bisect_left(steps, begin) for begin in self.record.breaks(monitor)]
        return [(steps[place - 1], steps[place]) for place in places if 0 < place < len(steps)]

    @property
    def changes(self) -> dict[int, dict[str, dict[str, tuple[str, str]]]]:
        """By step and monitor, which settings were others from there on: what they were, and what they are."""
        found = {now.begin: changes(before, now) for before, now in pairwise(self.record.spans)}
        return {step: own for step, own in found.items() if own}

    def curve(self, key: str) -> Curve:
        """A scalar over the steps at which it is finite; it is interrupted where what is measured changed."""
        places, values = self.series.get(key, _NOWHERE)
        known = np.isfinite(values)
        gaps = tuple((a + b) / 2 for a, b in self.gaps(_monitor_of(key)))
        return Curve(np.array(self.record.steps, np.int64)[places[known]], values[known], gaps)

    def comparable(self, key: str) -> np.ndarray:
        """A scalar at every snapshot, ``[T]``; NaN where it is not there, or was measured otherwise than at the end."""
        found = self.over_time(key)
        begin = max(self.record.breaks(_monitor_of(key)), default=0)
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
        """A scalar at the first snapshot that has it, as not all monitors need have measured at each.

        NaN where it was measured otherwise there than at the end.
        """
        _, values = self.series.get(key, _NOWHERE)
        return float(values[0]) if len(values) and not self.gaps(_monitor_of(key)) else math.nan

    def last(self, key: str) -> float:
        """A scalar at the last snapshot that has it."""
        _, values = self.series.get(key, _NOWHERE)
        return float(values[-1]) if len(values) else math.nan


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs that were read together.

    Attributes:
        runs: By group, then seed, then name.
        grouped_by: The key of the configuration that names the groups; empty where each run is one of its own.
        problems: By folder, why it could not be read; these are not among the runs.
        layers: By monitor, which layers of which runs are taken for one.
    """

    runs: Sequence[Run]
    grouped_by: str
    problems: Mapping[str, str]
    layers: Mapping[str, Sequence[Match]] = field(default_factory=dict)

    @property
    def groups(self) -> dict[str, list[Run]]:
        """The runs by group."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.group, []).append(run)
        return found

    @property
    def differing(self) -> list[str]:
        """The keys of the settings in which runs differ, the seed aside."""
        return _differing(self.runs)

    @property
    def measured_differently(self) -> list[str]:
        """Those of them that say how a run was measured, but for the one that names the groups."""
        own = {key for run in self.runs for key in run.configuration}
        return [key for key in self.differing if key not in own and key != self.grouped_by and key != "class"]

    @property
    def repeated(self) -> list[list[Run]]:
        """Runs of one group that have one seed, and no other setting to tell them apart."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            if run.seed is not None:
                found.setdefault(repr((run.group, run.seed, sorted(run.settings.items()))), []).append(run)
        return [runs for runs in found.values() if len(runs) > 1]

    @property
    def mixed(self) -> list[str]:
        """The keys in which runs of one group differ, the seed aside: what is said of a group pools them."""
        return list(dict.fromkeys(key for own in self.groups.values() for key in _differing(own)))

    @property
    def keys(self) -> list[str]:
        """Every scalar that a run has, in the order in which the monitors log them."""
        return list(dict.fromkeys(key for run in self.runs for key in run.series))

    def final(self, key: str) -> np.ndarray:
        """A scalar at the last snapshot of each run, ``[R]``; NaN where a run does not have it."""
        return np.array([run.final(key) for run in self.runs])

    def curves(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """A scalar over the steps at which any run has it, ``[T]``, and its values, ``[R, T]``.

        See `aligned`.
        """
        return aligned([run.curve(key) for run in self.runs])


def read_runs(paths: Iterable[str | os.PathLike[str]], *, group_by: str | None = None) -> Runs:
    """Reads all records below some folders.

    Args:
        paths: Folders of records, or folders that hold such at any depth.
        group_by: Key of the configuration, or of `Run.measurement`, whose value names a run's group. Default: the
            regularisation, where runs differ in it; else the one key of the configuration in which they differ, the
            seed aside, or, where there is none, of the measurement. Where they differ in several each run is a group of
            its own, where in none they are all of one. A run that another goes on from is left out.

    Raises:
        FnetError: A path does not exist, no record below them can be read, or no configuration has ``group_by``.

    Cost: reads the scalars of all records; arrays are read when asked for.
    """
    records, problems = read_records(paths)
    found = []
    for record in records:
        configuration = record.manifest.get("configuration")
        configuration = configuration if isinstance(configuration, dict) else {}
        found.append(Run("", "", _first(configuration, _SEED_KEYS), configuration, record))
    if not found:
        told = "; ".join(f"{folder}: {reason}" for folder, reason in problems.items())
        raise FnetError(
            f"`paths`: there is no record that can be read below them{': ' + told if told else ''}"
        )
    named = [replace(run, name=name) for run, name in zip(found, _names(found), strict=True)]
    differing = _differing(named)
    key = _group_key(named, differing, group_by)
    alone = not any(run.configuration for run in named) or bool(differing)
    grouped = [
        replace(run, group=_told(key, run.settings.get(key)) if key else run.name if alone else ALIKE)
        for run in named
    ]
    layers = _layers(grouped)
    labelled = [replace(run, labels=_labels(run, layers)) for run in grouped]
    return Runs(sorted(labelled, key=lambda r: (r.group, _number(r.seed), r.name)), key, problems, layers)


def _layers(runs: Sequence[Run]) -> dict[str, Sequence[Match]]:
    """By monitor, the layers that it watched in the runs, matched."""
    watched: dict[str, dict[str, Sequence[Watched]]] = {}
    for run in runs:
        of_run = {
            monitor: watched_layers(settings)
            for monitor, settings in run.record.manifest.get("monitors", {}).items()
        }
        # What one monitor's settings do not say of a layer's width another's may.
        widths = {
            layer.name: layer.width for own in of_run.values() for layer in own if layer.width is not None
        }
        for monitor, own in of_run.items():
            if own:
                watched.setdefault(monitor, {})[run.name] = [
                    layer if layer.width is not None else replace(layer, width=widths.get(layer.name))
                    for layer in own
                ]
    return {monitor: matched(of_run) for monitor, of_run in watched.items()}


def _labels(run: Run, layers: Mapping[str, Sequence[Match]]) -> dict[str, dict[str, str]]:
    return {
        monitor: {match.layers[run.name].folder: match.label for match in matches if run.name in match.layers}
        for monitor, matches in layers.items()
    }


def _monitor_of(key: str) -> str:
    """The monitor that logs a scalar; empty for what the run logged itself."""
    name, slash, _ = key.partition("/")
    return name.removesuffix("_layers") if slash else ""


def _gap(logged: Mapping[str, float]) -> dict[str, float]:
    """The generalisation gap, where training and validation accuracy were logged under names that differ by that."""
    for key, value in logged.items():
        if (named := _TRAINING_ACCURACY.fullmatch(key)) is not None:
            for word in ("val", "valid", "validation"):
                if (other := f"{word}{named[1]}") in logged:
                    return {GAP: value - logged[other]}
    return {}


def _names(runs: Sequence[Run]) -> list[str]:
    """The shortest ends of their folders that tell them apart."""
    parts = [Path(os.path.abspath(run.record.folder)).parts for run in runs]  # links by their own names
    if len({p[-1] for p in parts}) == 1 and all(len(p) > 1 for p in parts):
        parts = [p[:-1] for p in parts]  # the monitor's name, which all have
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-depth:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    return [str(run.record.folder) for run in runs]


def _group_key(runs: Sequence[Run], differing: Sequence[str], asked: str | None) -> str:
    known = dict.fromkeys(key for run in runs for key in run.configuration)
    if asked is not None:
        if asked not in (every := dict.fromkeys(key for run in runs for key in run.settings)):
            raise FnetError(
                f"`group_by={asked!r}` is in no configuration; there is {', '.join(known | every) or 'none'}"
            )
        return asked
    if named := next((key for key in _GROUP_KEYS if key in differing), ""):
        return named
    if not differing:
        return next((key for key in _GROUP_KEYS if key in known), "")
    own = [key for key in differing if key in known] or differing
    return own[0] if len(own) == 1 else ""


def _differing(runs: Sequence[Run]) -> list[str]:
    """What is configured first; of how runs were measured a record of an earlier version need not say all."""
    configured = dict.fromkeys(key for run in runs for key in run.configuration if key not in _SEED_KEYS)
    measured = dict.fromkeys(key for run in runs for key in run.measurement if key not in configured)
    found = [key for key in configured if len({repr(run.configuration.get(key)) for run in runs}) > 1]
    said = {key: {repr(run.measurement[key]) for run in runs if key in run.measurement} for key in measured}
    return [*found, *(key for key, values in said.items() if len(values) > 1)]


def _told(key: str, value: Any) -> str:
    return f"{key} not set" if value is None or value == "" else str(value)


def _first(configuration: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    return next((str(configuration[key]) for key in keys if configuration.get(key) is not None), None)


def _number(seed: str | None) -> tuple[float, str]:
    try:
        return float(seed or "inf"), ""
    except ValueError:
        return float("inf"), str(seed)
