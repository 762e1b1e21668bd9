"""The run's own files: one folder, readable with NumPy and json alone.

``manifest.json`` says what was measured on what, ``scalars.jsonl`` holds one line a snapshot,
``snapshot_<step>.npz`` the arrays of one snapshot. A snapshot counts from the moment its line is complete;
its arrays are written before that.
"""

import difflib
import itertools
import json
import math
import os
import shutil
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fnet_callbacks.errors import RecordError
from fnet_callbacks.spans import Span, are_spans, breaks, spans_of

FORMAT = "fnet-record"
VERSION = 2
MANIFEST, SCALARS = "manifest.json", "scalars.jsonl"
# What a reader accepts of one file: far above what a snapshot of 4,096 neurons needs, far below a bomb.
MAX_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything measured at one step.

    Attributes:
        step: Batches that stepped an optimiser before it.
        scalars: Key to value; NaN where a measure has no value.
        cost_ms: Milliseconds of each part; not part of what makes two records equal.
        notes: Key to the reason why its value is NaN or bounded.
        arrays: Name to array; kept in the snapshot's npz file.
        is_end: Taken because training ended, off the schedule; dropped when training goes on.
        time: When it was taken, in seconds since 1970; not part of what makes two records equal either.
        logged: What the run itself had logged last, such as ``train_accuracy``; what is logged at the end of an epoch
            is that of the epoch before.
        logged_at_end: The same when training ended, in the last snapshot alone.
    """

    step: int
    scalars: Mapping[str, float]
    cost_ms: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    is_end: bool = False
    time: float = field(default_factory=time.time)
    logged: Mapping[str, float] = field(default_factory=dict)
    logged_at_end: Mapping[str, float] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


class SnapshotStore:
    """Writes a record; the only writer of its folder.

    Args:
        folder: The record's folder; made when first written to.
        manifest: The text of its manifest, where another store wrote it: with it the record begins anew should the
            folder be removed.
    """

    def __init__(self, folder: str | os.PathLike[str], *, manifest: str | None = None) -> None:
        self.folder = Path(folder)
        self.manifest = manifest

    def start(self, manifest: Mapping[str, Any]) -> None:
        """Begins a record; one that is already there is moved aside, never overwritten.

        Raises:
            OSError: The folder cannot be written.
        """
        if (self.folder / SCALARS).exists():
            places = (self.folder.with_name(f"{self.folder.name}.{i}") for i in itertools.count(1))
            self.folder.rename(next(place for place in places if not place.exists()))
        self.write_manifest(manifest)
        (self.folder / SCALARS).touch()

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Writes ``manifest.json`` beside itself and renames it; NaN and infinity, no JSON, become null."""
        strict = json.loads(json.dumps(dict(manifest), default=str), parse_constant=lambda _: None)
        self.manifest = json.dumps({"format": FORMAT, "version": VERSION, **strict}, indent=1)
        self._write_manifest(self.manifest)

    def _write_manifest(self, text: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        _write_beside(self.folder / MANIFEST, lambda f: f.write(text.encode()))

    def adopt(self, source: str | os.PathLike[str], *, step: int) -> Mapping[str, Any]:
        """Goes on from the record of an interrupted run: takes its snapshots up to ``step`` into this folder.

        What stands after ``step`` will be measured again; where source and folder are the same, it is moved
        to ``superseded/``, not deleted. An end snapshot is left out, as training goes on. The manifest is the
        caller's to write.

        Returns:
            The source's manifest.

        Raises:
            RecordError: The source is no record of this version.
            OSError: The folder cannot be written.
        """
        record = read_record(source)
        kept = [replace(s, logged_at_end={}) for s in record.snapshots if s.step <= step and not s.is_end]
        if Path(source).resolve() == self.folder.resolve():
            self._supersede([s for s in record.snapshots if s.step > step or s.is_end])
        else:
            self.start(record.manifest)
            for s in kept:
                if (arrays := record.array_file(s.step)).exists():
                    shutil.copyfile(arrays, self.folder / arrays.name)
        lines = b"".join(map(_line, kept))
        _write_beside(self.folder / SCALARS, lambda f: f.write(lines))
        return record.manifest

    def append(self, snapshot: Snapshot) -> bool:
        """Writes a snapshot: first its arrays, then its line.

        Returns:
            Whether the record was still there; False where somebody had removed it, and it begins anew.

        Raises:
            OSError: The disk is full or cannot be written, or another run goes on in the folder; what was recorded
                before stays readable.
        """
        was_there = self.manifest is None or self._holds(self.manifest)
        if self.manifest is not None and not was_there:
            self._write_manifest(self.manifest)
        if snapshot.arrays:
            arrays: dict[str, Any] = dict(snapshot.arrays)
            _write_beside(self.folder / _array_name(snapshot.step), lambda f: np.savez(f, **arrays))
        _append_line(self.folder / SCALARS, _line(snapshot))
        return was_there

    def _holds(self, manifest: str) -> bool:
        """Whether the folder is there, and still this run's.

        Raises:
            OSError: It is another's: a resumed run went on in it while this one's worker still had snapshots to write.
        """
        try:
            is_own = (self.folder / MANIFEST).read_text(encoding="utf-8") == manifest
        except FileNotFoundError:
            return False
        if not is_own:
            raise OSError(f"{self.folder} has been taken over by another run")
        return True

    def _supersede(self, snapshots: list[Snapshot]) -> None:
        if not snapshots:
            return
        attic = self.folder / "superseded"
        attic.mkdir(exist_ok=True)
        for s in snapshots:
            if (arrays := self.folder / _array_name(s.step)).exists():
                os.replace(arrays, attic / arrays.name)
            _append_line(attic / SCALARS, _line(s))


@dataclass(frozen=True, slots=True)
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
    def spans(self) -> tuple[Span, ...]:
        """What was measured, and from which step on; more than one where it was resumed with other settings."""
        return spans_of(self.manifest)

    def breaks(self, monitor: str) -> list[int]:
        """The steps from which on a monitor measured something else than before, as the run was resumed so."""
        return breaks(self.spans, monitor)

    def last_span(self, monitor: str) -> list[int]:
        """The steps of the snapshots since the last of its ``breaks``: those that can be compared with the last."""
        begin = max(self.breaks(monitor), default=0)
        return [step for step in self.steps if step >= begin]

    def array_file(self, step: int) -> Path:
        """Where the arrays of a snapshot stand."""
        return self.folder / _array_name(step)

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
            return _read_arrays(path, names)
        except RecordError:
            raise
        except Exception as error:  # a damaged archive raises whatever the reader stumbles over
            raise RecordError(f"{path} cannot be read: {error!r}") from error


def read_record(folder: str | os.PathLike[str]) -> Record:
    """Reads a record's manifest and scalars.

    A torn last line, which a killed run may leave, is dropped; of several lines of one step the last counts.

    Args:
        folder: The record's folder, such as ``lightning_logs/version_0/fnet``.

    Raises:
        RecordError: There is no record, it is of another version, or a file is damaged or too large.

    Cost: the size of ``scalars.jsonl``.
    """
    folder = Path(folder)
    try:
        manifest = json.loads(_read_bytes(folder / MANIFEST))
    except FileNotFoundError as error:
        raise RecordError(
            f"`folder={str(folder)!r}` holds no {MANIFEST}; it should be a record's folder"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{folder / MANIFEST} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise RecordError(f"{folder / MANIFEST} is no manifest of a record")
    if manifest.get("version") != VERSION:
        raise RecordError(
            f"{folder} is a record of version {manifest.get('version')!r}; this package reads {VERSION}"
        )
    _check_monitors(manifest.get("instruments", {}), folder / MANIFEST)
    if not are_spans(manifest.get("spans", [])):
        raise RecordError(f"{folder / MANIFEST}: `spans` should be a list with steps, monitors and probes")
    for span in spans_of(manifest):
        _check_monitors(span.instruments, folder / MANIFEST)
    snapshots = {s.step: s for s in _read_lines(folder / SCALARS)}
    return Record(folder, manifest, tuple(snapshots[step] for step in sorted(snapshots)))


def _check_monitors(monitors: Any, path: Path) -> None:
    """That they are as monitors write them, where there are any: names to settings, with layers by name."""
    is_right = isinstance(monitors, dict) and all(isinstance(s, dict) for s in monitors.values())
    layers = [settings.get("layers", []) for settings in monitors.values()] if is_right else [None]
    if not all(isinstance(own, list) and all(map(_is_layer, own)) for own in layers):
        raise RecordError(
            f"{path}: `monitors` should be names with settings, `layers` of each a list with names"
        )


def _is_layer(value: Any) -> bool:
    return isinstance(value, dict) and "name" in value


def _read_lines(path: Path) -> Iterator[Snapshot]:
    try:
        lines = _read_bytes(path).split(b"\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines[:-1], start=1):
        try:
            row = json.loads(line)
            yield Snapshot(
                step=int(row["step"]),
                scalars=_numbers(row["scalars"]),
                cost_ms={k: float(v) for k, v in row["cost_ms"].items()},
                notes=dict(row["notes"]),
                is_end=bool(row["end"]),
                time=float(row["time"]),
                logged=_numbers(row.get("logged", {})),
                logged_at_end=_numbers(row.get("logged_at_end", {})),
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise RecordError(f"{path}, line {number}: not a snapshot ({error})") from error


def _read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
        size = sum(i.file_size for i in data.zip.infolist())
        if size > MAX_BYTES:
            raise RecordError(f"{path} unpacks to {size} bytes; the limit is {MAX_BYTES}")
        arrays = {name: data[name] for name in data.files if names is None or name in names}
    if strange := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise RecordError(f"{path} holds something that is no array: {', '.join(strange)}")
    return arrays


def _read_bytes(path: Path) -> bytes:
    if path.stat().st_size > MAX_BYTES:
        raise RecordError(f"{path} is larger than the limit of {MAX_BYTES} bytes")
    return path.read_bytes()


def _array_name(step: int) -> str:
    return f"snapshot_{step}.npz"


def _line(snapshot: Snapshot) -> bytes:
    row = {
        "step": snapshot.step,
        "end": snapshot.is_end,
        "time": round(snapshot.time, 3),
        "scalars": _plain(snapshot.scalars),
        "cost_ms": {k: round(v, 3) for k, v in snapshot.cost_ms.items()},
        "notes": dict(snapshot.notes),
        "logged": _plain(snapshot.logged),
        "logged_at_end": _plain(snapshot.logged_at_end),
    }
    return json.dumps(row, allow_nan=False).encode() + b"\n"


def _plain(values: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {k: float(v) if math.isfinite(v) else None for k, v in values.items()}


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {k: math.nan if v is None else float(v) for k, v in values.items()}


def _append_line(path: Path, line: bytes) -> None:
    """Appends a whole line or nothing; a torn line that a killed run left is cut off first."""
    with open(path, "a+b", buffering=0) as file:
        end = _end_of_last_line(file)
        file.truncate(end)
        try:
            if file.write(line) != len(line):
                raise OSError(f"{path}: the disk is full")
        except OSError:
            file.truncate(end)
            raise


def _end_of_last_line(file: Any) -> int:
    size = file.seek(0, os.SEEK_END)
    block = 4096
    for start in range(size, 0, -block):
        begin = max(0, start - block)
        file.seek(begin)
        found = file.read(start - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
    return 0


def _write_beside(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Writes a file under another name and renames it, so that a reader sees all of it or nothing."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(beside, "wb") as file:
            write(file)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
