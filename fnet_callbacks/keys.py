"""The keys of scalars: made once, of an instrument, a quantity and a place, and never taken apart again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fnet_callbacks.quantities.quantity import Quantity


@dataclass(frozen=True, slots=True)
class Key:
    """A key and what it stands for.

    Attributes:
        key: As loggers and record have it.
        instrument: The name of the instrument.
        quantity: What is measured.
        place: Of the layer among the watched ones, as in the key; None for the whole network.
        layer: The layer's name; None for the whole network.
    """

    key: str
    instrument: str
    quantity: Quantity
    place: str | None = None
    layer: str | None = None

    @property
    def description(self) -> str:
        """What a logger says of it, in Markdown."""
        where = "" if self.layer is None else f"Layer `{self.layer}`. "
        return where + self.quantity.definition


def places(n: int) -> list[str]:
    """The places of n layers in keys: ``01``, ``02`` ..., of three digits from 100 layers on.

    >>> places(2), places(100)[0]
    (['01', '02'], '001')
    """
    width = 2 if n < 100 else len(str(n))
    return [f"{number:0{width}}" for number in range(1, n + 1)]


def whole_keys(instrument: str, quantities: Iterable[Quantity]) -> list[Key]:
    """``<instrument>/<quantity>`` of the whole network."""
    return [Key(f"{instrument}/{q.name}", instrument, q) for q in quantities]


def layer_keys(
    instrument: str, quantities: Iterable[Quantity], layers: Sequence[str], *, folder: str | None = None
) -> list[Key]:
    """``<instrument>_layers/<place>/<quantity>`` of each layer, by its place among ``layers``.

    Args:
        instrument: The name of the instrument.
        quantities: What is measured of each.
        layers: Their names.
        folder: First part of the keys, in place of ``<instrument>_layers``.
    """
    named = list(quantities)
    start = f"{instrument}_layers" if folder is None else folder
    return [
        Key(f"{start}/{place}/{q.name}", instrument, q, place, layer)
        for place, layer in zip(places(len(layers)), layers, strict=True)
        for q in named
    ]


def manifest_keys(keys: Iterable[Key]) -> dict[str, list[str | None]]:
    """What the manifest says of each key: the instrument, the quantity's name, the place."""
    return {k.key: [k.instrument, k.quantity.name, k.place] for k in keys}


def manifest_quantities(keys: Iterable[Key]) -> dict[str, dict[str, Any]]:
    """What the manifest says of the quantities of each instrument: by instrument and name their words."""
    found: dict[str, dict[str, Any]] = {}
    for k in keys:
        found.setdefault(k.instrument, {})[k.quantity.name] = k.quantity.described()
    return found
