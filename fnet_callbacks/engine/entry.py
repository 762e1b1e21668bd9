"""What the engine keeps of an instrument in a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from fnet_callbacks.engine.schedule import Schedule
from fnet_callbacks.findings import Analysis, Recipe
from fnet_callbacks.instruments.instrument import Instrument

# What a checkpoint holds of a run.
_KINDS = {
    "step": int,
    "last_step": int | None,
    "record": str | None,
    "writer": str | None,
    "values": dict,
    "probe": list | None,
    "measured": dict | None,
    "instruments": dict,
}


def check_kinds(state: Mapping[str, Any]) -> None:
    """Sees whether a checkpoint's state has what is needed of it.

    Raises:
        KeyError: It lacks something.
        TypeError: Something is of a wrong kind.
    """
    for key, kind in _KINDS.items():
        if not isinstance(state[key], kind):
            raise TypeError(f"its {key!r} is a {type(state[key]).__name__}")


@dataclass(slots=True)
class Entry:
    """An instrument in a run.

    Attributes:
        instrument: The copy that the run works on.
        schedule: When it is due.
        count: Snapshots so far, the one after the last step left out.
        last_step: Of its last snapshot; None before the first.
        last_drawn: The step of which there are figures; None before the first.
        left_out: Snapshots for which there was no time.
        missed: Those of them that no snapshot of the record tells of yet: by reason the first step, the last, how many.
        state: What its next snapshot is compared with; see ``Instrument.state``.
        state_before_end: The same before the snapshot after the last step, which is dropped if training goes on.
        analysis: What analyzes on the training thread; None where the worker does.
        recipe: What the worker analyzes with; None where the training thread does.
    """

    instrument: Instrument
    schedule: Schedule
    count: int = 0
    last_step: int | None = None
    last_drawn: int | None = None
    left_out: int = 0
    missed: dict[str, list[int]] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)
    state_before_end: Mapping[str, Any] | None = None
    analysis: Analysis | None = None
    recipe: Recipe | None = None

    @property
    def name(self) -> str:
        """The instrument's."""
        return self.instrument.name

    @property
    def is_first(self) -> bool:
        """Whether it has no snapshot yet."""
        return self.last_step is None

    def leave_out(self, step: int, reason: str) -> None:
        """Counts a snapshot for which there is no time."""
        self.left_out += 1
        first, _, n = self.missed.get(reason, (step, step, 0))
        self.missed[reason] = [first, step, n + 1]

    def take_missed(self) -> str:
        """Why it was not measured when it was due since this was last asked; empty where it always was."""
        missed, self.missed = self.missed, {}
        return "; ".join(
            f"at step {last}: {reason}" if n == 1 else f"{n} times from step {first} to {last}: {reason}"
            for reason, (first, last, n) in missed.items()
        )

    def saved(self) -> dict[str, Any]:
        """For a checkpoint, in plain Python and torch."""
        state = self.state if self.state_before_end is None else self.state_before_end
        return {
            "kind": type(self.instrument).__name__,
            "count": self.count,
            "last_step": self.last_step,
            "left_out": self.left_out,
            "missed": {reason: list(steps) for reason, steps in self.missed.items()},
            "state": _to_torch(state),
        }

    def go_on_from(self, saved: Mapping[str, Any]) -> None:
        """Goes on from what a checkpoint holds, unless that is of an instrument of another kind under this name."""
        kind = type(self.instrument).__name__
        if saved.get("kind", kind) != kind:
            return
        self.count, self.last_step = int(saved["count"]), saved["last_step"]
        self.left_out = int(saved["left_out"])
        self.missed = {reason: list(steps) for reason, steps in saved.get("missed", {}).items()}
        self.state = dict(_to_numpy(saved["state"]))


def _to_torch(value: Any) -> Any:
    """With tensors in place of arrays: a checkpoint is read with nothing else allowed in it."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {name: _to_torch(own) for name, own in value.items()}
    return [_to_torch(own) for own in value] if isinstance(value, list | tuple) else value


def _to_numpy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.numpy()
    if isinstance(value, Mapping):
        return {name: _to_numpy(own) for name, own in value.items()}
    return [_to_numpy(own) for own in value] if isinstance(value, list | tuple) else value
