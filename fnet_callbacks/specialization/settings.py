"""What is asked of a network: which graph and partition, how many references, and which tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from fnet_callbacks.capture.layers import Signal
from fnet_callbacks.errors import FnetError
from fnet_callbacks.specialization.lesions import Replacement

Kind = Literal["weights", "activations"]
Scope = Literal["global", "local"]
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
    scope: Scope = "global"
    partition: np.ndarray | Literal["louvain"] | None = None
    correlation: Correlation = "spearman"
    layers: str | Sequence[str] = "auto"
    signal: Signal = "post"
    references: int = 19
    shuffles: int = 0
    replacement: Replacement = "zero"
    visualization_steps: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        choices: tuple[tuple[str, Any, Any], ...] = (
            ("graph", self.graph, Kind),
            ("scope", self.scope, Scope),
            ("correlation", self.correlation, Correlation),
            ("signal", self.signal, Signal),
            ("replacement", self.replacement, Replacement),
        )
        for name, value, allowed in choices:
            if value not in get_args(allowed):
                raise FnetError(f"`{name}={value!r}` should be {' or '.join(map(repr, get_args(allowed)))}")
        if self.scope == "local" and self.partition is not None:
            raise FnetError(
                "`scope='local'` clusters each layer anew; it should be 'global' with a `partition`"
            )
        if isinstance(self.partition, str) and self.partition != LOUVAIN:
            raise FnetError(f"`partition={self.partition!r}` should be {LOUVAIN!r}, or an array of clusters")
        patterns = [self.layers] if isinstance(self.layers, str) else self.layers
        if not isinstance(patterns, (list, tuple)) or not all(isinstance(p, str) for p in patterns):
            raise FnetError(f"`layers={self.layers!r}` should be 'auto' or glob patterns over module names")
        for name, value, least in (
            ("k", self.k if self.k is not None else 1, 1),
            ("references", self.references, 1),
            ("shuffles", self.shuffles, 0),
            ("visualization_steps", self.visualization_steps, 0),
            ("seed", self.seed, 0),
        ):
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
                raise FnetError(f"`{name}={value!r}` should be an integer of at least {least}")
        if self.shuffles == 1:
            raise FnetError("`shuffles=1` should be 0, or at least 2: a spread takes two")
