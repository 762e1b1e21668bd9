"""A snapshot, and its line in ``scalars.jsonl``."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

FORMAT = "fnet-record"
VERSION = 2
MANIFEST, SCALARS = "manifest.json", "scalars.jsonl"


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
        at_end: Of a snapshot on the schedule, the instruments that were due only because training ended there; what
            they measured is dropped when training goes on.
        time: When it was taken, in seconds since 1970; not part of what makes two records equal either.
        logged: What the run itself had logged last, such as ``train_accuracy``; what is logged at the end of an epoch
            is that of the epoch before.
        logged_at_end: The same when training ended, in the last snapshot alone.
        left_out: Instrument that was due to the reason why it was not measured.
    """

    step: int
    scalars: Mapping[str, float]
    cost_ms: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    is_end: bool = False
    at_end: Sequence[str] = ()
    time: float = field(default_factory=time.time)
    logged: Mapping[str, float] = field(default_factory=dict)
    logged_at_end: Mapping[str, float] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


def without_end(snapshot: Snapshot, keys: Mapping[str, str]) -> Snapshot:
    """A snapshot without what was measured only because training ended there.

    Args:
        snapshot: With its arrays, where these are wanted.
        keys: By key of a scalar, its instrument.
    """
    gone = set(snapshot.at_end)
    return replace(
        snapshot,
        scalars={k: v for k, v in snapshot.scalars.items() if keys.get(k) not in gone},
        notes={k: v for k, v in snapshot.notes.items() if keys.get(k) not in gone},
        arrays={
            k: a for k, a in snapshot.arrays.items() if not any(k.startswith(f"{name}.") for name in gone)
        },
        at_end=(),
        logged_at_end={},
    )


def array_name(step: int) -> str:
    """The file of a snapshot's arrays."""
    return f"snapshot_{step}.npz"


def line_of(snapshot: Snapshot) -> bytes:
    """A snapshot without its arrays, as a line of JSON."""
    row: dict[str, Any] = {
        "step": snapshot.step,
        "end": snapshot.is_end,
        "time": round(snapshot.time, 3),
        "scalars": _plain(snapshot.scalars),
        "cost_ms": {k: round(v, 3) for k, v in snapshot.cost_ms.items()},
        "notes": dict(snapshot.notes),
        "logged": _plain(snapshot.logged),
        "logged_at_end": _plain(snapshot.logged_at_end),
    }
    if snapshot.at_end:
        row["at_end"] = list(snapshot.at_end)
    if snapshot.left_out:
        row["left_out"] = dict(snapshot.left_out)
    return json.dumps(row, allow_nan=False).encode() + b"\n"


def snapshot_of(line: bytes) -> Snapshot:
    """The snapshot of a line.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError: It is none.
    """
    row = json.loads(line)
    return Snapshot(
        step=int(row["step"]),
        scalars=_numbers(row["scalars"]),
        cost_ms={k: float(v) for k, v in row["cost_ms"].items()},
        notes=dict(row["notes"]),
        is_end=bool(row["end"]),
        at_end=tuple(map(str, row.get("at_end", ()))),
        time=float(row["time"]),
        logged=_numbers(row.get("logged", {})),
        logged_at_end=_numbers(row.get("logged_at_end", {})),
        left_out={str(k): str(v) for k, v in row.get("left_out", {}).items()},
    )


def _plain(values: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {k: float(v) if math.isfinite(v) else None for k, v in values.items()}


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {k: math.nan if v is None else float(v) for k, v in values.items()}
