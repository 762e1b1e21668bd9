"""What an instrument finds at one step, and what analyzes it, in a form that reaches another process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from fnet_callbacks.imports import import_path, imported
from fnet_callbacks.portrait import CodePortrait, Portrait
from fnet_callbacks.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True)
class Findings:
    """What an instrument found at one step.

    Attributes:
        scalars: Full key to value.
        notes: Full key to the reason for a NaN or a bound.
        arrays: Name to array, for the record.
        portrait: What can be drawn of it.
    """

    scalars: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    portrait: Portrait | CodePortrait | None = None


# What each part of an analysis, by its name, is taken in: a time limit, a progress bar.
Around = Callable[[str], AbstractContextManager[object]]
EVERYTHING = ""  # the name of what is done beside the parts that have one


def nothing_around(part: str) -> AbstractContextManager[object]:
    """Takes a part as it is."""
    return nullcontext()


@dataclass(slots=True)
class Context:
    """What an analysis finds at one step.

    Attributes:
        step: The step.
        on_error: ``"raise"`` where a part that fails should end it.
        stopwatch: Takes the cost of its parts.
        around: What each part is taken in.
        given_up: Parts that are not tried any more, and why.
    """

    step: int = 0
    on_error: Literal["warn", "raise"] = "warn"
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    around: Around = nothing_around
    given_up: Mapping[str, str] = field(default_factory=dict)


class Analysis(Protocol):
    """What makes findings of what an instrument brought together: itself, as a rule.

    Attributes:
        name: The instrument's.
        context: Set before each call of `analyze`.
    """

    name: str
    context: Context

    def analyze(self, arrays: Any) -> Findings | Mapping[str, float]:
        """Findings, or values by quantity."""
        ...

    def state(self) -> dict[str, Any]:
        """What the next snapshot is compared with: numbers, texts, arrays, in lists and dictionaries."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a `state`; a new run does not call it."""
        ...


LEFT_BEHIND = "_left_behind"  # an analysis' attribute in the worker: what did not reach it, by name its kind


@runtime_checkable
class HasAlikeParts(Protocol):
    """An analysis that knows which of its parts would fail together."""

    def alike(self, part: str) -> Sequence[str]:
        """A part and those that are made of the same."""
        ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """How another process makes the same analysis.

    Attributes:
        path: Of its class, ``module:qualified name``.
        attributes: Those of its attributes that can travel.
    """

    path: str
    attributes: Mapping[str, Any]

    @classmethod
    def of(cls, analysis: Analysis) -> Recipe:
        """The recipe of an analysis.

        Raises:
            ImportError: Its class cannot be imported elsewhere, as where it is defined in a script or a notebook.
        """
        kind = type(analysis)
        if (reason := getattr(analysis, "stays_here", None)) is not None:
            raise ImportError(reason)
        if (path := import_path(kind)) is None:
            raise ImportError(
                f"{kind.__qualname__} of {kind.__module__} cannot be imported by another process"
            )
        attributes = {name: value for name, value in vars(analysis).items() if travels(value)}
        left = {n: type(v).__name__ for n, v in vars(analysis).items() if n not in attributes}
        return cls(path, {**attributes, LEFT_BEHIND: left})

    def make(self) -> Analysis:
        """The analysis.

        Raises:
            ImportError: Its class cannot be imported here.
        """
        try:
            kind = imported(self.path)
        except Exception as error:
            raise ImportError(f"{self.path} cannot be imported: {type(error).__name__}: {error}") from error
        if kind is None:
            raise ImportError(f"{self.path} is no class")
        made = object.__new__(kind)
        vars(made).update(self.attributes)
        return made


def as_findings(found: Findings | Mapping[str, float], name: str) -> Findings:
    """Findings of an instrument, also where it gave values by quantity.

    Raises:
        TypeError: It gave something else.
    """
    if isinstance(found, Findings):
        return found
    if not isinstance(found, Mapping):
        raise TypeError(
            f"`analyze` should give findings, or values by quantity, and gave a {type(found).__name__}"
        )
    return Findings(scalars={f"{name}/{quantity}": float(value) for quantity, value in found.items()})


def travels(value: Any) -> bool:
    """Whether a value reaches another process: plain values, arrays, what is imported, and dataclasses of such."""
    if value is None or isinstance(value, bool | int | float | str | np.generic):
        return True
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    if isinstance(value, list | tuple):
        return all(map(travels, value))
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and travels(own) for key, own in value.items())
    if is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        return import_path(kind) is not None and all(travels(getattr(value, f.name)) for f in fields(value))
    return callable(value) and import_path(value) is not None
