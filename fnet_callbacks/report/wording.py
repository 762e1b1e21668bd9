"""How a report writes names and numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from fnet_callbacks.record import Key


def labels_of(entries: Mapping[str, Key]) -> dict[str, str]:
    """Of each key the quantity in words, with its instrument where two have it; no two of one layer have the same."""
    plain = {key: entry.label for key, entry in entries.items()}
    instruments: dict[str, set[str]] = {}
    for key, label in plain.items():
        instruments.setdefault(label, set()).add(entries[key].instrument)
    found = {
        key: label
        + (f" ({name})" if (name := entries[key].instrument) and len(instruments[label]) > 1 else "")
        for key, label in plain.items()
    }
    taken = Counter((label, entries[key].layer) for key, label in found.items())
    # What the run logged under names that differ by an underscore alone.
    return {
        key: label if taken[label, entries[key].layer] == 1 else f"{label} [{key}]"
        for key, label in found.items()
    }


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
