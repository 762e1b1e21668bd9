"""Records of version 1, as they read in version 2.

Version 1 had a monitor for each kind of measurement, with a probe of its own, and called layers by their names in keys.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fnet_callbacks.errors import RecordError
from fnet_callbacks.keys import places
from fnet_callbacks.quantities.known import known
from fnet_callbacks.record.snapshot import Snapshot

KINDS = {
    "FunctionalNetworkMonitor": "FunctionalNetwork",
    "RobustnessMonitor": "Robustness",
    "LesionMonitor": "Lesions",
    "LocalSpecializationMonitor": "LocalSpecialization",
    "ReLURegionMonitor": "ReLURegions",
    "FunctionalCodeMonitor": "FunctionalCodes",
}
# Settings that version 2 has once, and what each monitor logged of its schedule.
_SHARED = (
    "every_n_steps",
    "overhead_budget",
    "model",
    "batch_to_inputs",
    "batch_to_labels",
    "worker",
    "when_busy",
)
_OF_SCHEDULE = ("interval", "overhead_share", "skipped")
Entry = tuple[str, str, str | None]  # instrument, quantity, place
_NO_PART_OF_A_KEY = str.maketrans(dict.fromkeys(["/", *map(chr, range(32)), "\x7f"], "_"))


class Names:
    """The monitors of a manifest, by which keys are read: version 1 wrote down no table of them.

    Args:
        monitors: Their settings.
    """

    def __init__(self, monitors: Mapping[str, Any]) -> None:
        self.main = next(
            (n for n, s in monitors.items() if s.get("kind") == "FunctionalNetworkMonitor"),
            next(iter(monitors), ""),
        )
        self._places = {name: _places(settings) for name, settings in monitors.items()}

    def entry(self, key: str) -> Entry | None:
        """Instrument, quantity and place of a key; None for one that no monitor has written."""
        place, _, quantity = key.rpartition("/")
        first, slash, folder = place.partition("/")
        if not slash:
            return (first, quantity, None) if first in self._places else None
        for name in (first, first.removesuffix("_layers")):
            if folder in self._places.get(name, {}):
                return name, quantity, self._places[name][folder]
        return None

    def entries(self, keys: Iterable[str]) -> dict[str, Entry]:
        """By what version 2 calls a key, what stands under it."""
        found = {}
        for key in keys:
            entry, new = self.entry(key), self.key(key)
            if entry is not None and new is not None:
                found[new] = ("monitor", *entry[1:]) if entry[1] in _OF_SCHEDULE else entry
        return found

    def key(self, key: str) -> str | None:
        """What version 2 calls a key; None for one that it has no more."""
        entry = self.entry(key)
        if entry is None:
            return key
        name, quantity, place = entry
        if place is not None:
            return f"{key.partition('/')[0]}/{place}/{quantity}"
        if quantity in _OF_SCHEDULE:
            return f"monitor/{quantity}" if name == self.main else None
        return None if quantity == "step" else key

    def upgraded(self, snapshot: Snapshot) -> Snapshot:
        """A snapshot under the keys of version 2."""
        new = {key: self.key(key) for key in (*snapshot.scalars, *snapshot.notes)}
        return replace(
            snapshot,
            scalars={n: v for key, v in snapshot.scalars.items() if (n := new[key]) is not None},
            notes={n: note for key, note in snapshot.notes.items() if (n := new[key]) is not None},
            cost_ms={_cost_key(key): ms for key, ms in snapshot.cost_ms.items()},
        )


def upgraded(
    manifest: Mapping[str, Any], snapshots: Sequence[Snapshot], path: Path
) -> tuple[dict[str, Any], list[Snapshot]]:
    """A record of version 1 in the shape of version 2.

    Args:
        manifest: As the file has it.
        snapshots: The same.
        path: Of the manifest, for errors.

    Raises:
        RecordError: The manifest is damaged.
    """
    spans = manifest.get("spans", [])
    if not isinstance(spans, list) or not all(
        isinstance(span, dict) and isinstance(span.get("begin"), int) for span in spans
    ):
        raise RecordError(f"{path}: `spans` should be a list with steps, monitors and probes")
    for part in (manifest, *spans):
        _check(part.get("monitors", {}), path)
    # What layers are called in keys follows from those that were watched then.
    names = {span["begin"]: Names(span.get("monitors", {})) for span in spans}
    names = dict(sorted(names.items())) or {0: Names(manifest.get("monitors", {}))}
    begins, entries, found = list(names), dict[str, Entry](), []
    for s in snapshots:
        own = names[begins[max(bisect_right(begins, s.step) - 1, 0)]]
        entries |= own.entries(s.scalars)
        found.append(own.upgraded(s))
    return upgraded_manifest(manifest, entries), found


def upgraded_manifest(manifest: Mapping[str, Any], entries: Mapping[str, Entry]) -> dict[str, Any]:
    """A manifest of version 1 that was checked, in the shape of version 2; ``entries`` are those of its keys."""
    left = {key: value for key, value in manifest.items() if key not in ("monitors", "probes", "spans")}
    spans = {"spans": [_span(one, entries) for one in manifest["spans"]]} if manifest.get("spans") else {}
    keys = {key: list(entry) for key, entry in entries.items()}
    return {**left, "version": 2, **_span(manifest, entries), **spans, "classes": None, "keys": keys}


def _span(manifest: Mapping[str, Any], entries: Mapping[str, Entry]) -> dict[str, Any]:
    """Monitor, instruments and probe, of a manifest or of one of its spans."""
    monitors, probes = manifest.get("monitors", {}), manifest.get("probes", {})
    main = Names(monitors).main
    shared = {key: monitors[main][key] for key in _SHARED if key in monitors.get(main, {})}
    own = probes if isinstance(probes, Mapping) else {}
    probe = own.get(main, next(iter(own.values()), {}))
    instruments = {}
    for name, settings in monitors.items():
        kind = _kind(settings.get("kind"))
        instruments[name] = {
            **{
                k: v
                for k, v in settings.items()
                if not (k in shared and v == shared[k]) and k != "operations"
            },
            **({} if kind is None else {"kind": kind}),
            **({"layers": listed} if (listed := _layers(settings)) else {}),
            # Of a probe of its own it says so; all others read the one.
            **({"probe": own[name]} if name in own and own[name] != probe else {}),
            "quantities": _quantities(name, kind, entries),
        }
    shared["quantities"] = _quantities("monitor", "Monitor", entries)
    begin = {"begin": manifest["begin"]} if "begin" in manifest else {}
    probe = probe if isinstance(probe, Mapping) else {}
    return {**begin, "monitor": shared, "probe": probe, "instruments": instruments}


def _cost_key(key: str) -> str:
    name, slash, part = key.partition("/cost_ms/")
    return f"monitor_cost/{name}/{part}" if slash else key


def _quantities(name: str, kind: str | None, entries: Mapping[str, Entry]) -> dict[str, dict[str, Any]]:
    """The words of all that an instrument measured."""
    measured = dict.fromkeys(entry[1] for entry in entries.values() if entry[0] == name)
    return {quantity: _words(kind, quantity) for quantity in measured}


def _words(kind: str | None, name: str) -> dict[str, Any]:
    """Label, definition and range of a quantity, of which version 1 says nothing."""
    quantity = None if kind is None else known(kind, name)
    return (
        {"label": name.replace("_", " "), "definition": "", "range": None}
        if quantity is None
        else quantity.described()
    )


def _kind(kind: Any) -> str | None:
    return KINDS.get(kind, kind) if isinstance(kind, str) else None


def _layers(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    listed = _listed(settings)
    return [
        {"place": place, **{k: v for k, v in layer.items() if k != "folder"}, "name": str(layer["name"])}
        for place, layer in zip(places(len(listed)), listed, strict=True)
    ]


def _listed(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The layers as they were written; the first records of linear regions have their names alone."""
    names = settings.get("operations")
    return settings.get("layers") or [{"name": name} for name in (names if isinstance(names, list) else [])]


def _places(settings: Mapping[str, Any]) -> dict[str, str]:
    """Places of layers by what keys call them."""
    listed = _listed(settings)
    folders = _folders([str(layer["name"]) for layer in listed])
    return {
        str(layer.get("folder", folder)): place
        for layer, folder, place in zip(listed, folders, places(len(listed)), strict=True)
    }


def _folders(names: Sequence[str]) -> list[str]:
    """What keys call layers: no slash parts a name, no two names are called alike."""
    found: dict[str, str] = {}
    for name in names:
        folder = name.translate(_NO_PART_OF_A_KEY)
        while folder in found.values():
            folder += "_"
        found[name] = folder
    return [found[name] for name in names]


def _check(monitors: Any, path: Path) -> None:
    is_right = isinstance(monitors, dict) and all(isinstance(s, dict) for s in monitors.values())
    layers = [settings.get("layers", []) for settings in monitors.values()] if is_right else [None]
    if not all(isinstance(own, list) and all(map(_is_layer, own)) for own in layers):
        raise RecordError(
            f"{path}: `monitors` should be names with settings, `layers` of each a list with names"
        )


def _is_layer(value: Any) -> bool:
    return isinstance(value, dict) and "name" in value
