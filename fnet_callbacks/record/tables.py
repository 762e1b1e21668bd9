"""What a manifest says of the scalars: which instrument measured which quantity where, and what these are called."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fnet_callbacks.errors import RecordError
from fnet_callbacks.spans import Span


@dataclass(frozen=True, slots=True)
class Key:
    """What stands under a key.

    Attributes:
        instrument: Its name; ``"monitor"`` for what the monitor itself logs, empty for what the run logged.
        quantity: What was measured.
        place: Of the layer among those that the instrument watched; None for the whole network.
        layer: Name of that layer; empty for the whole network.
        label: The quantity in words.
        definition: What it is; empty where the record does not say.
    """

    instrument: str
    quantity: str
    place: str | None = None
    layer: str = ""
    label: str = ""
    definition: str = ""


def keys_of(manifest: Mapping[str, Any], spans: Sequence[Span]) -> dict[str, Key]:
    """The keys of a manifest that was checked; what several spans say of one is taken from the last."""
    quantities: dict[tuple[str, str], Mapping[str, Any]] = {}
    layers: dict[tuple[str, str], str] = {}
    last = Span(0, manifest.get("instruments", {}), monitor=manifest.get("monitor", {}))
    for span in (*spans, last):
        for name, settings in {"monitor": span.monitor, **span.instruments}.items():
            quantities |= {(name, q): words for q, words in settings.get("quantities", {}).items()}
            layers |= {(name, layer["place"]): layer["name"] for layer in settings.get("layers", [])}
    found = {}
    for key, (instrument, quantity, place) in manifest.get("keys", {}).items():
        words = quantities.get((instrument, quantity), {})
        found[key] = Key(
            instrument,
            quantity,
            place,
            "" if place is None else layers.get((instrument, place), ""),
            words.get("label") or quantity.replace("_", " "),
            words.get("definition") or "",
        )
    return found


def with_keys_of(before: Mapping[str, Any], manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """A manifest with the keys and quantities, too, that only an earlier one has, whose snapshots are taken over."""
    if not before.get("keys"):
        return manifest
    instruments = {
        name: {
            **settings,
            "quantities": {
                **before.get("instruments", {}).get(name, {}).get("quantities", {}),
                **settings.get("quantities", {}),
            },
        }
        for name, settings in manifest.get("instruments", {}).items()
    }
    return {
        **manifest,
        "instruments": instruments,
        "keys": {**before["keys"], **manifest.get("keys", {})},
    }


def check_manifest(manifest: Mapping[str, Any], path: Path) -> None:
    """That the tables of a manifest are as version 2 has them, those that are there.

    Raises:
        RecordError: One is not; it is named with the file.
    """
    spans = manifest.get("spans", [])
    wrong = {
        "instruments": not _are_instruments(manifest.get("instruments", {})),
        "keys": not _are_keys(manifest.get("keys", {})),
        "spans": not (isinstance(spans, list) and all(map(_is_span, spans))),
        "monitor": not _are_instruments({"": manifest.get("monitor", {})}),
        "probe": not isinstance(manifest.get("probe", {}), dict),
        "classes": not _are_texts(manifest.get("classes") or []),
    }
    for table, is_wrong in wrong.items():
        if is_wrong:
            raise RecordError(f"{path}: `{table}` should be {_SHAPES[table]}")


_SHAPES = {
    "instruments": "names with settings, of each its `layers` a list with places and names, its `quantities` names "
    "with label, definition and range",
    "keys": "keys with instrument, quantity, and place or null",
    "spans": "a list with steps, instruments and probes",
    "monitor": "names with settings, its `quantities` names with label, definition and range",
    "probe": "names with values",
    "classes": "a list of names, or null",
}


def _are_instruments(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(settings, dict)
        and isinstance(settings.get("layers", []), list)
        and all(map(_is_layer, settings.get("layers", [])))
        and isinstance(settings.get("quantities", {}), dict)
        and all(map(_is_quantity, settings.get("quantities", {}).values()))
        for settings in value.values()
    )


def _is_layer(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), str) for key in ("place", "name"))


def _is_quantity(value: Any) -> bool:
    if not isinstance(value, dict) or not all(
        isinstance(value.get(key, ""), str) for key in ("label", "definition")
    ):
        return False
    bounds = value.get("range")
    return bounds is None or (
        isinstance(bounds, list)
        and len(bounds) == 2
        and all(bound is None or isinstance(bound, int | float) for bound in bounds)
    )


def _are_keys(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(entry, list)
        and len(entry) == 3
        and _are_texts(entry[:2])
        and (entry[2] is None or isinstance(entry[2], str))
        for entry in value.values()
    )


def _is_span(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("begin"), int)
        and _are_instruments(value.get("instruments"))
        and isinstance(value.get("probe"), dict)
        and _are_instruments({"": value.get("monitor", {})})
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)
