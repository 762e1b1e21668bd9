"""What a snapshot leaves to the next one, as a checkpoint holds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fnet_callbacks.history import History, Previous


def kept(previous: Previous) -> dict[str, Any]:
    """For a checkpoint; numbers that follow from the graph are found again."""
    arrays, history = {"partition": previous.partition, "edges": previous.edges}, previous.history
    if history is not None:
        arrays |= {"names": history.names, "moves": history.moves, "chances": history.chances}
    found: dict[str, Any] = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return found if history is None else {**found, "n_names": history.n_names}


def taken_up(carried: Mapping[str, Any]) -> Previous:
    """What `kept` made of one, as it was."""
    history = None
    if "names" in carried:
        names, moves, chances = (carried[name].numpy() for name in ("names", "moves", "chances"))
        history = History(names, carried["n_names"], moves, chances)
    return Previous(carried["partition"].numpy(), carried["edges"].numpy().reshape(-1, 2), history)
