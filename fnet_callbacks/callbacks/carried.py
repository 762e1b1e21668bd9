"""The last snapshot of a network as a checkpoint holds it, there and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fnet_callbacks.history import History, Previous


def as_kept(previous: Previous) -> dict[str, Any]:
    """In tensors and numbers; what follows from the graph is found again."""
    arrays, history = {"partition": previous.partition, "edges": previous.edges}, previous.history
    if history is not None:
        arrays |= {"names": history.names, "moves": history.moves, "chances": history.chances}
    kept: dict[str, Any] = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return kept if history is None else {**kept, "n_names": history.n_names}


def as_previous(kept: Mapping[str, Any]) -> Previous:
    """From what `as_kept` made of it."""
    history = None
    if "names" in kept:
        names, moves, chances = (kept[name].numpy() for name in ("names", "moves", "chances"))
        history = History(names, kept["n_names"], moves, chances)
    return Previous(kept["partition"].numpy(), kept["edges"].numpy().reshape(-1, 2), history)
