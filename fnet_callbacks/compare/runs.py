"""The runs that are compared: their records, what they were configured with, and which of them belong together."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fnet_callbacks.errors import FnetError, RecordError
from fnet_callbacks.record import MANIFEST, Record, read_record

# What a configuration calls the choice that runs are compared by, in the order in which it is looked for.
_GROUP_KEYS = ("regularizer", "regulariser", "regularization", "regularisation", "group")
_SEED_KEYS = ("seed_everything", "seed")
ALIKE, NOT_SAID = "all runs", "(not said)"
GAP = "generalization_gap"  # training less validation accuracy
_TRAINING_ACCURACY = re.compile(r"train(?:ing)?([_/. -]acc.*)")
# A record that was moved aside for a later one stands beside it under its name and a number.
_MOVED_ASIDE = re.compile(r"\.\d+$")
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
    """

    name: str
    group: str
    seed: str | None
    configuration: Mapping[str, Any]
    record: Record

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

    @cached_property
    def values(self) -> Sequence[Mapping[str, float]]:
        """Of each snapshot what was measured, what the run had logged itself, and the gap that follows from that."""
        logged = [{**s.logged, **s.logged_at_end} for s in self.record.snapshots]
        return [
            {**s.scalars, **own, **_gap(own)} for s, own in zip(self.record.snapshots, logged, strict=True)
        ]

    def final(self, key: str) -> float:
        """A scalar at the last snapshot; NaN where it is not there."""
        return float(self.values[-1].get(key, np.nan))

    def first(self, key: str) -> float:
        """A scalar at the first snapshot that has it, as not all monitors need have measured at each."""
        return float(next((values[key] for values in self.values if key in values), np.nan))

    def last(self, key: str) -> float:
        """A scalar at the last snapshot that has it."""
        return float(next((values[key] for values in reversed(self.values) if key in values), np.nan))


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs that were read together.

    Attributes:
        runs: By group, then seed, then name.
        grouped_by: The key of the configuration that names the groups; empty where each run is one of its own.
        problems: By folder, why it could not be read; these are not among the runs.
    """

    runs: Sequence[Run]
    grouped_by: str
    problems: Mapping[str, str]

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
        return list(dict.fromkeys(k for run in self.runs for values in run.values for k in values))

    def final(self, key: str) -> np.ndarray:
        """A scalar at the last snapshot of each run, ``[R]``; NaN where a run does not have it."""
        return np.array([run.final(key) for run in self.runs])

    def curves(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """A scalar over the steps at which any run has it, ``[T]``, and its values, ``[R, T]``.

        Between two snapshots of a run its value is interpolated, as a line through them would show it; before the
        first and after the last it is NaN.
        """
        series = []
        for run in self.runs:
            pairs = [
                (step, values[key])
                for step, values in zip(run.record.steps, run.values, strict=True)
                if np.isfinite(values.get(key, np.nan))
            ]
            series.append(np.array(pairs, float).reshape(-1, 2))
        steps = np.unique(np.concatenate([s[:, 0] for s in series]) if series else [])
        values = np.full((len(series), len(steps)), np.nan)
        for row, own in zip(values, series, strict=True):
            if len(own):
                row[:] = np.interp(steps, own[:, 0], own[:, 1], left=np.nan, right=np.nan)
        return steps.astype(np.int64), values


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
    found, problems = [], {}
    for folder in _records(paths):
        try:
            record = read_record(folder)
            if not record.snapshots:
                raise RecordError(
                    "the record has no snapshot: training made no step, or was stopped before it"
                )
        except RecordError as error:
            problems[str(folder)] = str(error)
            continue
        configuration = record.manifest.get("configuration")
        configuration = configuration if isinstance(configuration, dict) else {}
        found.append(Run("", "", _first(configuration, _SEED_KEYS), configuration, record))
    found, resumed = _not_resumed(found)
    problems |= resumed
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
        replace(run, group=_told(run.settings.get(key)) if key else run.name if alone else ALIKE)
        for run in named
    ]
    return Runs(sorted(grouped, key=lambda r: (r.group, _number(r.seed), r.name)), key, problems)


def _gap(logged: Mapping[str, float]) -> dict[str, float]:
    """The generalisation gap, where training and validation accuracy were logged under names that differ by that."""
    for key, value in logged.items():
        if (named := _TRAINING_ACCURACY.fullmatch(key)) is not None:
            for word in ("val", "valid", "validation"):
                if (other := f"{word}{named[1]}") in logged:
                    return {GAP: value - logged[other]}
    return {}


def _records(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    folders: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            raise FnetError(f"`paths`: {str(path)!r} is no folder")
        own = [path / MANIFEST] if (path / MANIFEST).exists() else sorted(path.rglob(MANIFEST))
        for folder in (m.parent for m in own if m.parent == path or not _is_old(m.parent, path)):
            folders.setdefault(folder.resolve(), folder)
    return list(folders.values())


def _is_old(folder: Path, within: Path) -> bool:
    """Whether a later record has taken its place: it was moved aside, or with the trial of a sweep that was cut off."""
    if "superseded" in folder.relative_to(within).parts:
        return True
    later = folder.with_name(_MOVED_ASIDE.sub("", folder.name))
    return later != folder and (later / MANIFEST).exists()


def _names(runs: Sequence[Run]) -> list[str]:
    """The shortest ends of their folders that tell them apart."""
    parts = [run.record.folder.resolve().parts for run in runs]
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


def _not_resumed(runs: Sequence[Run]) -> tuple[list[Run], dict[str, str]]:
    """The runs that no other goes on from, which has their snapshots too; and by folder, why others are left out."""
    next_of = {str(run.record.manifest.get("resumed_from")): run.record.folder for run in runs}
    nexts = [next_of.get(str(run.record.manifest.get("writer", ""))) for run in runs]
    left = {
        str(run.record.folder): f"it was resumed: {folder} goes on from it"
        for run, folder in zip(runs, nexts, strict=True)
        if folder is not None
    }
    return [run for run, folder in zip(runs, nexts, strict=True) if folder is None], left


def _told(value: Any) -> str:
    return NOT_SAID if value is None or value == "" else str(value)


def _first(configuration: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    return next((str(configuration[key]) for key in keys if configuration.get(key) is not None), None)


def _number(seed: str | None) -> tuple[float, str]:
    try:
        return float(seed or "inf"), ""
    except ValueError:
        return float("inf"), str(seed)
