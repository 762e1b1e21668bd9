"""The reader of records, of this version and the one before."""

import difflib
import json
import math
import os
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fnet_callbacks.errors import RecordError
from fnet_callbacks.record import version_1
from fnet_callbacks.record.files import read_arrays, read_bytes
from fnet_callbacks.record.snapshot import (
    FORMAT,
    MANIFEST,
    SCALARS,
    VERSION,
    Snapshot,
    array_name,
    snapshot_of,
)
from fnet_callbacks.record.tables import Key, check_manifest, keys_of
from fnet_callbacks.spans import Span, breaks, spans_of


@dataclass(frozen=True)
class Record:
    """A record that was read: its manifest and its snapshots, by step; arrays are read when asked for."""

    folder: Path
    manifest: Mapping[str, Any]
    snapshots: tuple[Snapshot, ...]

    @property
    def steps(self) -> list[int]:
        """The steps of the snapshots, ascending."""
        return [s.step for s in self.snapshots]

    def series(self, key: str) -> np.ndarray:
        """One scalar at all snapshots, ``[T]``; NaN where a snapshot does not have it.

        Raises:
            RecordError: No snapshot has it.
        """
        known = {k for s in self.snapshots for k in s.scalars}
        if key not in known:
            like = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
            raise RecordError(
                f"`key={key!r}` is in no snapshot" + (f"; there is {', '.join(like)}" if like else "")
            )
        return np.array([s.scalars.get(key, math.nan) for s in self.snapshots])

    @property
    def instruments(self) -> Mapping[str, Mapping[str, Any]]:
        """By name its kind, its options, its layers and quantities, as they were last."""
        before = {name: settings for span in self.spans for name, settings in span.instruments.items()}
        return {**before, **self.manifest.get("instruments", {})}

    def of_kind(self, kind: str) -> list[str]:
        """Names of the instruments of a kind, such as ``"FunctionalNetwork"``."""
        return [name for name, settings in self.instruments.items() if settings.get("kind") == kind]

    def layer_names(self, instrument: str) -> dict[str, str]:
        """By place, the layers that an instrument watched last, in the order of the network."""
        layers = self.instruments.get(instrument, {}).get("layers", [])
        return {layer["place"]: layer["name"] for layer in layers}

    @cached_property
    def keys(self) -> Mapping[str, Key]:
        """What stands under each key; of what the run logged itself nothing is said."""
        return keys_of(self.manifest, self.spans)

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """What was measured, and from which step on; more than one where it was resumed with other settings."""
        return spans_of(self.manifest)

    def breaks(self, instrument: str) -> list[int]:
        """The steps from which on an instrument measured something else than before, as the run was resumed so."""
        return breaks(self.spans, instrument)

    def last_span(self, instrument: str) -> list[int]:
        """The steps of the snapshots since the last of its ``breaks``: those that can be compared with the last."""
        begin = max(self.breaks(instrument), default=0)
        return [step for step in self.steps if step >= begin]

    def array_file(self, step: int) -> Path:
        """Where the arrays of a snapshot stand."""
        return self.folder / array_name(step)

    def arrays(self, step: int, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """The arrays of a snapshot; empty where it has none or their file is gone.

        Args:
            step: Of the snapshot.
            names: Those that are read, where there are such; default: all.

        Raises:
            RecordError: The file is damaged, or larger than ``MAX_BYTES`` when unpacked.
        """
        place = bisect_left(self.snapshots, step, key=lambda s: s.step)
        if place == len(self.snapshots) or self.snapshots[place].step != step:
            raise RecordError(
                f"`step={step}` has no snapshot; there are {', '.join(map(str, self.steps)) or 'none'}"
            )
        path = self.array_file(step)
        if not path.exists():
            return {}
        try:
            return read_arrays(path, names)
        except RecordError:
            raise
        except Exception as error:  # a damaged archive raises whatever the reader stumbles over
            raise RecordError(f"{path} cannot be read: {error!r}") from error


def read_record(folder: str | os.PathLike[str]) -> Record:
    """Reads a record's manifest and scalars.

    One of version 1 reads as if it were of version 2: see its layers by their places, its monitors as instruments.

    A torn last line, which a killed run may leave, is dropped; of several lines of one step the last counts.

    Args:
        folder: The record's folder, such as ``lightning_logs/version_0/fnet``.

    Raises:
        RecordError: There is no record, it is of another version, or a file is damaged or too large.

    Cost: the size of ``scalars.jsonl``.
    """
    folder = Path(folder)
    try:
        manifest = json.loads(read_bytes(folder / MANIFEST))
    except FileNotFoundError as error:
        raise RecordError(
            f"`folder={str(folder)!r}` holds no {MANIFEST}; it should be a record's folder"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{folder / MANIFEST} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise RecordError(f"{folder / MANIFEST} is no manifest of a record")
    version = manifest.get("version")
    if version not in (1, VERSION) or isinstance(version, bool):
        raise RecordError(f"{folder} is a record of version {version!r}; this package reads 1 and {VERSION}")
    snapshots = list({s.step: s for s in _read_lines(folder / SCALARS)}.values())
    if version == 1:
        manifest, snapshots = version_1.upgraded(manifest, snapshots, folder / MANIFEST)
    check_manifest(manifest, folder / MANIFEST)
    return Record(folder, manifest, tuple(sorted(snapshots, key=lambda s: s.step)))


def _read_lines(path: Path) -> Iterator[Snapshot]:
    try:
        lines = read_bytes(path).split(b"\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines[:-1], start=1):
        try:
            yield snapshot_of(line)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise RecordError(f"{path}, line {number}: not a snapshot ({error})") from error
