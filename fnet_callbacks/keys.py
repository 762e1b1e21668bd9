"""The keys of scalars, each written down once, with what it is of; nothing reads them apart again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Key:
    """The key of a scalar.

    Attributes:
        key: As loggers and record have it.
        instrument: Name of the instrument that it comes from.
        quantity: What is measured.
        place: Place of the layer among those that are watched, from 01; None for the whole network.
        layer: Name of that layer.
    """

    key: str
    instrument: str
    quantity: str
    place: str | None = None
    layer: str | None = None


def places(n_layers: int) -> list[str]:
    """The places of layers in keys: two digits from 01, three where there are 100 layers or more."""
    width = max(2, len(str(n_layers)))
    return [f"{number:0{width}d}" for number in range(1, n_layers + 1)]
