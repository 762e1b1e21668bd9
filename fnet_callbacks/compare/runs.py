"""The runs that are compared: their records, what they were configured with, and which of them belong together."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fnet_callbacks.compare.curves import aligned
from fnet_callbacks.compare.layers import Match, Watched, matched, watched_layers
from fnet_callbacks.compare.records import read_records
from fnet_callbacks.compare.run import Layer, Run
from fnet_callbacks.errors import FnetError
from fnet_callbacks.record import Key

# What a configuration calls the choice that runs are compared by, in the order in which it is looked for.
_GROUP_KEYS = ("regularizer", "regulariser", "regularization", "regularisation", "group")
_SEED_KEYS = ("seed_everything", "seed")
ALIKE = "all runs"


@dataclass(frozen=True)
class Runs:
    """Runs that were read together.

    Attributes:
        runs: By group, then seed, then name.
        grouped_by: The key of the configuration that names the groups; empty where each run is one of its own.
        problems: By folder, why it could not be read; these are not among the runs.
        layers: By instrument, which layers of which runs are taken for one.
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
        """Every scalar that a run has, in the order in which they were measured."""
        return list(self.entries)

    @cached_property
    def entries(self) -> Mapping[str, Key]:
        """What stands under each key, as the first run says that has it in its record's table."""
        found: dict[str, Key] = {}
        for run in self.runs:
            for key, entry in run.entries.items():
                if key not in found or (entry.instrument and not found[key].instrument):
                    found[key] = entry
        return found

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
    labelled = [replace(run, layers_of=_layers_of(run, layers)) for run in grouped]
    return Runs(sorted(labelled, key=lambda r: (r.group, _number(r.seed), r.name)), key, problems, layers)


def _layers(runs: Sequence[Run]) -> dict[str, Sequence[Match]]:
    """By instrument, the layers that it watched in the runs, matched."""
    watched: dict[str, dict[str, Sequence[Watched]]] = {}
    for run in runs:
        of_run = {name: watched_layers(settings) for name, settings in run.record.instruments.items()}
        # What one instrument's settings do not say of a layer's width another's may.
        widths = {
            layer.name: layer.width for own in of_run.values() for layer in own if layer.width is not None
        }
        for name, own in of_run.items():
            if own:
                watched.setdefault(name, {})[run.name] = [
                    layer if layer.width is not None else replace(layer, width=widths.get(layer.name))
                    for layer in own
                ]
    return {name: matched(of_run) for name, of_run in watched.items()}


def _layers_of(run: Run, layers: Mapping[str, Sequence[Match]]) -> dict[str, dict[str, Layer]]:
    found: dict[str, dict[str, Layer]] = {}
    for instrument, matches in layers.items():
        n_matches = Counter(place for match in matches for place in match.places)
        found[instrument] = {
            match.layers[run.name].place: Layer(
                match.label, len(match.places) == 1 and all(n_matches[place] == 1 for place in match.places)
            )
            for match in matches
            if run.name in match.layers
        }
    return found


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
