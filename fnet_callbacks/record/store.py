"""The writer of a record."""

import itertools
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fnet_callbacks.record.files import append_line, write_arrays, write_beside
from fnet_callbacks.record.reader import read_record
from fnet_callbacks.record.snapshot import (
    FORMAT,
    MANIFEST,
    SCALARS,
    VERSION,
    Snapshot,
    array_name,
    line_of,
    without_end,
)
from fnet_callbacks.record.tables import with_keys_of


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
        self._before: Mapping[str, Any] = {}  # the manifest of the record that this one goes on from

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
        """Writes ``manifest.json`` beside itself and renames it; NaN and infinity, no JSON, become null.

        Keys that only the record has which this one goes on from stay in its table.
        """
        manifest = with_keys_of(self._before, manifest)
        strict = json.loads(json.dumps(dict(manifest), default=str), parse_constant=lambda _: None)
        self.manifest = json.dumps({**strict, "format": FORMAT, "version": VERSION}, indent=1)
        self._write_manifest(self.manifest)

    def _write_manifest(self, text: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_beside(self.folder / MANIFEST, lambda f: f.write(text.encode()))

    def adopt(self, source: str | os.PathLike[str], *, step: int) -> Mapping[str, Any]:
        """Goes on from the record of an interrupted run: takes its snapshots up to ``step`` into this folder.

        What stands after ``step`` will be measured again; where source and folder are the same, it is moved
        to ``superseded/``, not deleted. An end snapshot is left out, as training goes on, and of a snapshot on the
        schedule what the end alone made due. The manifest is the caller's to write.

        Returns:
            The source's manifest.

        Raises:
            RecordError: The source is no record that can be read.
            OSError: The folder cannot be written.
        """
        record = read_record(source)
        self._before = record.manifest
        keys = {key: entry.instrument for key, entry in record.keys.items()}
        before = [s for s in record.snapshots if s.step <= step and not s.is_end]
        ended = [replace(s, arrays=record.arrays(s.step)) for s in before if s.at_end]
        if Path(source).resolve() == self.folder.resolve():
            self._supersede([s for s in record.snapshots if s.step > step or s.is_end or s.at_end])
        else:
            self.start(record.manifest)
            for s in before:
                if (arrays := record.array_file(s.step)).exists():
                    shutil.copyfile(arrays, self.folder / arrays.name)
        for s in ended:
            write_arrays(self.folder / array_name(s.step), without_end(s, keys).arrays)
        lines = b"".join(line_of(without_end(s, keys)) for s in before)
        write_beside(self.folder / SCALARS, lambda f: f.write(lines))
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
            write_arrays(self.folder / array_name(snapshot.step), snapshot.arrays)
        append_line(self.folder / SCALARS, line_of(snapshot))
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
            if (arrays := self.folder / array_name(s.step)).exists():
                os.replace(arrays, attic / arrays.name)
            append_line(attic / SCALARS, line_of(s))
