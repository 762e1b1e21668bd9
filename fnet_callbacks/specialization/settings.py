"""What is asked of a network: which graph and partition, how many references, and which tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from fnet_callbacks.arguments import Names, as_choice, as_integer, as_patterns, plain, refused
from fnet_callbacks.capture.layers import Signal
from fnet_callbacks.errors import FnetError
from fnet_callbacks.specialization.lesions import Replacement

Kind = Literal["weights", "activations"]
ClusterScope = Literal["global", "local"]
Correlation = Literal["spearman", "pearson"]
LOUVAIN = "louvain"


@dataclass(frozen=True, slots=True)
class Settings:
    """The arguments of `local_specialization` that are neither the model nor its data; see there.

    Raises:
        FnetError: One of them is out of range; the message names it.
    """

    graph: Kind = "weights"
    k: int | None = 16
    scope: ClusterScope = "global"
    partition: np.ndarray | Literal["louvain"] | None = None
    correlation: Correlation = "spearman"
    layers: Names = "auto"
    signal: Signal = "post"
    references: int = 19
    shuffles: int = 0
    replacement: Replacement = "zero"
    visualization_steps: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        choices: tuple[tuple[str, Any, Any], ...] = (
            ("graph", self.graph, Kind),
            ("scope", self.scope, ClusterScope),
            ("correlation", self.correlation, Correlation),
            ("signal", self.signal, Signal),
            ("replacement", self.replacement, Replacement),
        )
        own = {name: as_choice(name, value, get_args(allowed)) for name, value, allowed in choices}
        own["layers"] = as_patterns("layers", self.layers)
        own["partition"] = _as_partition(self.partition)
        own["k"] = None if plain("k", self.k) is None else as_integer("k", self.k, at_least=1)
        for name, least in (("references", 1), ("shuffles", 0), ("visualization_steps", 0), ("seed", 0)):
            own[name] = as_integer(name, getattr(self, name), at_least=least)
        for name, value in own.items():
            object.__setattr__(self, name, value)
        if self.scope == "local" and self.partition is not None:
            raise FnetError(
                "`scope='local'` clusters each layer anew; it should be 'global' with a `partition`"
            )
        if self.shuffles == 1:
            raise FnetError("`shuffles=1` should be 0, or at least 2: a spread takes two")


def _as_partition(value: Any) -> np.ndarray | Literal["louvain"] | None:
    """Clusters as an array; whether they fit the units shows later."""
    listed = plain("partition", value)
    if listed is None or listed == LOUVAIN:
        return listed
    try:
        if isinstance(listed, list) and not isinstance(value, set | frozenset):
            return np.asarray(listed)
    except ValueError:  # rows of unlike length
        pass
    raise refused("partition", listed, f"{LOUVAIN!r}, or an array of clusters")
