"""How the record of a run is begun: anew, or from that of the run that this one goes on from."""

from __future__ import annotations

import contextlib
import glob
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fnet_callbacks.errors import FnetWarning, RecordError
from fnet_callbacks.record import SnapshotStore, read_record
from fnet_callbacks.spans import Span, go_on, spans_of


def begin_record(
    folder: Path | None,
    manifest: Mapping[str, Any],
    resumed_from: str | None,
    writer: str | None,
    step: int,
    now: Span,
) -> tuple[SnapshotStore | None, list[Span]]:
    """A record that was begun, None where it cannot be; and the last span of the one that it goes on from."""
    if folder is None:
        return None, []
    store, before = SnapshotStore(folder), list[Span]()
    try:
        if resumed_from is not None and (source := _adopted(store, resumed_from, writer, step)) is not None:
            spans = go_on(spans_of(source), now)
            before = [span for span in spans_of(source) if span.begin < now.begin][-1:]
            told = {"spans": [span.to_manifest() for span in spans]} if len(spans) > 1 else {}
            lineage = {
                "resumed_from": source.get("writer"),
                "writers": [*_writers(source), manifest["writer"]],
            }
            store.write_manifest({**manifest, **told, **lineage})
        else:
            store.start(manifest)
    except OSError as error:
        warnings.warn(f"no record is written: {folder} cannot be ({error})", FnetWarning, stacklevel=2)
        return None, before
    return store, before


def _writers(manifest: Mapping[str, Any]) -> list[Any]:
    """The runs that wrote a record, one going on from the other, the last one last."""
    return manifest.get("writers") or [
        manifest.get(key) for key in ("resumed_from", "writer") if key in manifest
    ]


def _located(source: Path, writer: str | None) -> Path:
    """Where the record of a run is: at its place, or beside it where another run has begun one there.

    Raises:
        RecordError: It is at neither.
    """
    if writer is None:
        return source
    others = sorted(source.parent.glob(f"{glob.escape(source.name)}.*")) if source.parent.is_dir() else []
    for place in (source, *others):
        with contextlib.suppress(RecordError):
            if writer in _writers(read_record(place).manifest):
                return place
    read_record(source)  # says what is wrong, where it is not that it is another's
    raise RecordError(f"that at {source} was written by another run")


def _adopted(store: SnapshotStore, source: str, writer: str | None, step: int) -> Mapping[str, Any] | None:
    """The manifest of the record that was taken over; None where it cannot be."""
    try:
        return store.adopt(_located(Path(source), writer), step=step)
    except RecordError as error:
        warnings.warn(
            f"the record of the interrupted run is not taken over: {error}", FnetWarning, stacklevel=2
        )
        return None
