"""The records below some folders: each is read once, or left out for a reason that is told."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from fnet_callbacks.compare.progress import tracked
from fnet_callbacks.errors import FnetError, RecordError
from fnet_callbacks.record import MANIFEST, Record, read_record

# Where a sweep puts trials that were cut off or failed before it runs them again.
_ATTIC = "superseded"
# A record that was moved aside for a later one stands beside it under its name and a number.
_NUMBERED = re.compile(r"(.+)\.([1-9]\d*)", re.DOTALL)


def read_records(paths: Iterable[str | os.PathLike[str]]) -> tuple[list[Record], dict[str, str]]:
    """Reads all records below some folders, links followed.

    What is left out: a record that cannot be read or has no snapshot; one that was moved aside for a later one; one
    that another goes on from, which has its snapshots too; a copy of another; what is in a folder called
    ``superseded``, unless that or a folder in it is asked for; links to nothing, and to what is read already.

    Returns:
        The records, and by path why another is left out.

    Raises:
        FnetError: A path is no folder.
    """
    folders, problems = _Search(paths).result()
    records = []
    for folder in tracked(folders, "reading"):
        try:
            record = read_record(folder)
            if not record.snapshots:
                raise RecordError(
                    "the record has no snapshot: training made no step, or was stopped before it"
                )
            records.append(record)
        except RecordError as error:
            problems[str(folder)] = str(error)
    for reasons_of in (_moved_aside, _resumed, _copied):
        reasons = reasons_of(records)
        records = [record for record in records if record.folder not in reasons]
        problems |= {str(folder): reason for folder, reason in reasons.items()}
    return records, problems


class _Search:
    """Goes through folders; what is reached in two ways counts once, under its own name where it has one."""

    def __init__(self, paths: Iterable[str | os.PathLike[str]]) -> None:
        self._known: dict[str, Path] = {}  # by what it really is, each folder as it was reached first
        self._found: list[Path] = []
        self._links: deque[tuple[Path, Path]] = deque()
        self._repeated: list[Path] = []
        self._problems: dict[str, str] = {}
        roots = [Path(path) for path in paths]
        for root in roots:
            if not root.is_dir():
                raise FnetError(f"`paths`: {str(root)!r} is no folder")
        # What is asked for by itself comes before that which it is in.
        for root in sorted(roots, key=lambda root: -os.path.realpath(root).count(os.sep)):
            self._look_into(root, root)
        while self._links:
            self._follow(*self._links.popleft())

    def result(self) -> tuple[list[Path], dict[str, str]]:
        """The folders of records, and by path why another is left out."""
        read = {os.path.realpath(folder) for folder in self._found}
        for link in self._repeated:
            real = os.path.realpath(link)
            if any(folder == real or folder.startswith(real.rstrip(os.sep) + os.sep) for folder in read):
                self._problems[str(link)] = f"it is a link to {real}, which is read already"
        return self._found, self._problems

    def _look_into(self, folder: Path, root: Path) -> None:
        """Notes the records in a folder; links wait, for what they lead to may yet be met under its own name."""
        waiting = [folder]
        while waiting:
            folder = waiting.pop()
            if self._known.setdefault(os.path.realpath(folder), folder) is not folder:
                continue
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError as error:
                self._problems[str(folder)] = f"it cannot be looked into: {error.strerror or error}"
                continue
            if any(entry.name == MANIFEST for entry in entries):
                self._note(folder, root)
            waiting += [Path(e.path) for e in reversed(entries) if e.is_dir(follow_symlinks=False)]
            self._links += [(Path(entry.path), root) for entry in entries if entry.is_symlink()]

    def _note(self, folder: Path, root: Path) -> None:
        if _ATTIC in folder.relative_to(root).parts:
            self._problems[str(folder)] = (
                f"it is in a folder called {_ATTIC}, where a sweep keeps what it ran again; it is read where that "
                "folder, or one in it, is asked for"
            )
        else:
            self._found.append(folder)

    def _follow(self, link: Path, root: Path) -> None:
        if not link.exists():
            self._problems[str(link)] = f"it is a link to {os.readlink(link)}, which is not there"
        elif link.is_dir():
            if f"{os.path.realpath(link.parent)}{os.sep}".startswith(
                os.path.realpath(link).rstrip(os.sep) + os.sep
            ):
                self._problems[str(link)] = "it is a link to a folder that it is in"
                return
            if self._known.get(os.path.realpath(link), link) != link:
                self._repeated.append(link)
            self._look_into(link, root)


def _moved_aside(records: Sequence[Record]) -> dict[Path, str]:
    """Those in whose place a later record is: of the same configuration, begun when the other had ended.

    A value in a name is no such number: records that are numbered so count up from 1.
    """
    by_folder = {record.folder: record for record in records}
    found = {}
    for record in records:
        numbered = _NUMBERED.fullmatch(record.folder.name)
        later = numbered and by_folder.get(record.folder.with_name(numbered[1]))
        if not numbered or not later:
            continue
        before = (record.folder.with_name(f"{numbered[1]}.{k}") for k in range(1, int(numbered[2])))
        alike = all(record.manifest.get(key) == later.manifest.get(key) for key in ("model", "configuration"))
        if alike and record.snapshots[-1].time <= later.snapshots[0].time and all(f.exists() for f in before):
            found[record.folder] = f"it was moved aside: {later.folder} is a later run in its place"
    return found


def _resumed(records: Sequence[Record]) -> dict[Path, str]:
    """Those that another goes on from."""
    next_of = {str(record.manifest.get("resumed_from")): record.folder for record in records}
    nexts = {record.folder: next_of.get(str(record.manifest.get("writer", ""))) for record in records}
    return {
        folder: f"it was resumed: {later} goes on from it"
        for folder, later in nexts.items()
        if later is not None
    }


def _copied(records: Sequence[Record]) -> dict[Path, str]:
    """All but the longest of those that one run wrote."""
    longest: dict[str, Record] = {}
    for record in records:
        writer = record.manifest.get("writer")
        if isinstance(writer, str) and writer:
            longest[writer] = max(longest.get(writer, record), record, key=lambda r: len(r.snapshots))
    owner = {record.folder: longest.get(str(record.manifest.get("writer"))) for record in records}
    return {
        folder: f"it is a copy of {of.folder}, or what that was once: one run wrote both"
        for folder, of in owner.items()
        if of is not None and of.folder != folder
    }
