"""The keys of scalars: made once, of an instrument, a quantity and a place, and never taken apart again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fnet_callbacks.quantities.known import known
from fnet_callbacks.quantities.quantity import Quantity

# What was a class of its own in version 1.
_KINDS = {
    "FunctionalNetworkMonitor": "FunctionalNetwork",
    "RobustnessMonitor": "Robustness",
    "LesionMonitor": "Lesions",
    "LocalSpecializationMonitor": "LocalSpecialization",
    "ReLURegionMonitor": "ReLURegions",
    "FunctionalCodeMonitor": "FunctionalCodes",
}
_NO_PART_OF_A_KEY = re.compile(r"[/\x00-\x1f\x7f]")


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


def version_1_keys(
    kinds: Mapping[str, str], keys: Iterable[str], *, own: Iterable[Quantity] = ()
) -> list[Key]:
    """The keys of a record of version 1, whose manifest does not say what they are; unknown quantities are left out.

    Args:
        kinds: By name of the monitor, its class.
        keys: ``<name>/<measure>``, ``<name>_layers/<layer>/<measure>``, of codes ``<name>/<layer>/<measure>``.
        own: Quantities of the user's own.
    """
    named, found = {q.name: q for q in own}, list[Key]()
    for key in keys:
        folder, _, name = key.rpartition("/")
        start, _, layer = folder.partition("/")
        monitor = start if start in kinds else start.removesuffix("_layers")
        kind = _KINDS.get(kinds.get(monitor, ""), "")
        if (quantity := named.get(name) or known(kind, name)) is not None:
            found.append(Key(key, monitor, quantity, layer or None, layer or None))
    return found


def folder_names(names: Sequence[str]) -> dict[str, str]:
    """What each layer is called in keys: no slash parts its name, no two are called alike."""
    folders: dict[str, str] = {}
    for name in names:
        folder = _NO_PART_OF_A_KEY.sub("_", name)
        while folder in folders.values():
            folder += "_"
        folders[name] = folder
    return folders
