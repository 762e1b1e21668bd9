"""What the training thread hands over, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from fnet_callbacks.findings import Findings, HasAlikeParts, Recipe
from fnet_callbacks.portrait import CodePortrait, Portrait


@dataclass(frozen=True, slots=True)
class Plan:
    """What holds for a whole fit.

    Attributes:
        folder: The record's; None where none is written.
        recipes: By instrument, what analyzes.
        states: By instrument, what the next snapshot is compared with.
        time_limits: By instrument, seconds after which a part of its analysis is given up; None for no limit.
        on_error: ``"raise"`` where what fails should end the run.
        given_up: By instrument and part, or `EVERYTHING`, why it is not tried any more.
        manifest: The record's, as text; see ``SnapshotStore``.
    """

    folder: str | None
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    states: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    time_limits: Mapping[str, float | None] = field(default_factory=dict)
    on_error: Literal["warn", "raise"] = "warn"
    given_up: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    manifest: str | None = None

    def alike(self, instrument: str, part: str) -> Sequence[str]:
        """A part of an instrument's analysis, with those that would fail like it."""
        analysis = self.recipes[instrument].make()
        return analysis.alike(part) if isinstance(analysis, HasAlikeParts) else [part]


@dataclass(frozen=True, slots=True)
class Job:
    """One step's snapshot.

    Attributes:
        step: The step.
        is_end: See ``Snapshot``.
        arrays: By instrument, what is to be analyzed.
        findings: By instrument, what was found on the training thread already.
        scalars: Key to value, what is known beforehand.
        cost_ms: By instrument and part, what the training thread has paid.
        draw: Instruments whose portrait is wanted. A job of this alone asks for the last that was made.
        logged: See ``Snapshot``; of a job without anything else it stands in the last snapshot as ``logged_at_end``.
        left_out: See ``Snapshot``.
        first: Instruments of which it is the first snapshot: a wrong configuration is found out by it.
    """

    step: int
    is_end: bool = False
    arrays: Mapping[str, Any] = field(default_factory=dict)
    findings: Mapping[str, Findings] = field(default_factory=dict)
    scalars: Mapping[str, float] = field(default_factory=dict)
    cost_ms: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    draw: Sequence[str] = ()
    logged: Mapping[str, float] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    first: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a job.

    Attributes:
        step: The step.
        scalars: Key to value.
        notes: Key to the reason for a NaN or a bound.
        cost_ms: Key to milliseconds.
        states: By instrument, what the next snapshot is compared with.
        portraits: By instrument, those that were wanted.
        failures: By instrument, why it has no snapshot; by ``"record"``, what became of the record.
        worker_seconds: By instrument of the job, CPU time spent off the training thread.
        error: Why training must stop; None where it need not.
    """

    step: int
    scalars: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    cost_ms: Mapping[str, float] = field(default_factory=dict)
    states: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    portraits: Mapping[str, Portrait | CodePortrait] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    worker_seconds: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A portrait that is to be drawn: of a step and a monitor."""

    step: int
    instrument: str
    portrait: Portrait | CodePortrait


@dataclass(frozen=True, slots=True)
class Pictures:
    """What came of a request.

    Attributes:
        step: See ``Request``.
        instrument: See there.
        images: By name, the bytes of a PNG file, uint8.
        seconds: CPU time that it took, off the training thread.
        failure: Why there are none.
    """

    step: int
    instrument: str
    images: dict[str, np.ndarray] = field(default_factory=dict)
    seconds: float = 0.0
    failure: str | None = None
