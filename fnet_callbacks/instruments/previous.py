"""What a snapshot of a network leaves to the next one, as plain values and arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fnet_callbacks.history import History, Previous


def to_state(previous: Previous) -> dict[str, Any]:
    """In arrays and numbers; what follows from the graph is found again."""
    found: dict[str, Any] = {"partition": previous.partition, "edges": previous.edges}
    if (history := previous.history) is not None:
        arrays = {"names": history.names, "moves": history.moves, "chances": history.chances}
        found |= {**arrays, "n_names": history.n_names}
    return found


def from_state(state: Mapping[str, Any]) -> Previous:
    """What `to_state` made of one, as it was."""
    history = None
    if "names" in state:
        names, moves, chances = (np.asarray(state[name]) for name in ("names", "moves", "chances"))
        history = History(names, state["n_names"], moves, chances)
    return Previous(np.asarray(state["partition"]), np.asarray(state["edges"]).reshape(-1, 2), history)
