"""The words and numbers of a report: the name of a scalar, its definition, and how a value is written."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# What a report works out of what runs logged themselves.
_DERIVED = {
    "generalization_gap": "Training accuracy less validation accuracy, both as the run logged them. The former is as a "
    "rule that of train mode over an epoch, which dropout lowers by itself.",
}


@dataclass(frozen=True, slots=True)
class Word:
    """What a scalar is, for a reader.

    Attributes:
        label: Its name in words.
        definition: What it is; empty where that is not known.
        instrument: The instrument that measured it; empty for what the run logged itself.
        quantity: The name of the quantity; empty for what the run logged itself.
        place: The place or the label of its layer; empty for the whole network.
    """

    label: str
    definition: str = ""
    instrument: str = ""
    quantity: str = ""
    place: str = ""


class Words(dict[str, Word]):
    """Keys to what they are; a key that no manifest names is shown as it is, without underscores."""

    def __missing__(self, key: str) -> Word:
        return Word(key.replace("_", " "), _DERIVED.get(key, ""))


def words_of(manifest: Mapping[str, Any]) -> Words:
    """What a record's manifest says of its keys; what it says otherwise than manifests do is left out."""
    found, instruments = Words(), _mapping(manifest.get("instruments"))
    for key, entry in _mapping(manifest.get("keys")).items():
        if not isinstance(entry, list | tuple) or len(entry) != 3:
            continue
        instrument, quantity, place = (str(part) if part is not None else "" for part in entry)
        own = _mapping(_mapping(_mapping(instruments.get(instrument)).get("quantities")).get(quantity))
        label, definition = (str(own.get(of) or "") for of in ("label", "definition"))
        found[key] = Word(label or quantity.replace("_", " "), definition, instrument, quantity, place)
    return found


def labels_of(keys: Iterable[str], words: Mapping[str, Word]) -> dict[str, str]:
    """A scalar's name in words, with its instrument's where two have it; no two of one layer have the same."""
    parts = {key: words[key] for key in keys}
    instruments: dict[str, set[str]] = {}
    for part in parts.values():
        instruments.setdefault(part.label, set()).add(part.instrument)
    found = {
        key: part.label
        + (f" ({part.instrument})" if part.instrument and len(instruments[part.label]) > 1 else "")
        for key, part in parts.items()
    }
    taken = Counter((label, parts[key].place) for key, label in found.items())
    # What the run logged under names that differ by an underscore alone.
    return {
        key: label if taken[label, parts[key].place] == 1 else f"{label} [{key}]"
        for key, label in found.items()
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def number(value: float, digits: int = 3) -> str:
    """A number with so many digits that count; a dash for none."""
    if not math.isfinite(value):
        return "∞" if value == math.inf else "−∞" if value == -math.inf else "–"
    if value == 0:
        return "0"
    if round(abs(value)) >= 10**digits:
        return f"{value:,.0f}".replace("-", "−")
    text = f"{value:.{digits}g}"
    return text.replace("e-0", "e-").replace("-", "−")


def probability(p: float) -> str:
    """A p-value; a dash for none."""
    if not math.isfinite(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def counted(n: int, what: str) -> str:
    """So many of something that has a regular plural."""
    return f"{n:,} {what}{'s' * (n != 1)}"


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them; at least one."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
