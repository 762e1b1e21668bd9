"""Writes the tables of measures.md: what a measure is from its declaration, how to read it from the page itself.

``python docs/measures_tables.py`` after a quantity is added or changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from fnet_callbacks.quantities.codes import MAP_CHANGE, OF_LABELS, OF_MAP, departure, shifted
from fnet_callbacks.quantities.lesions import LESIONS
from fnet_callbacks.quantities.monitor import MONITOR
from fnet_callbacks.quantities.networks import N_SAMPLES, SECTIONS
from fnet_callbacks.quantities.quantity import Quantity, Range
from fnet_callbacks.quantities.regions import OF_LAYER, REGIONS
from fnet_callbacks.quantities.robustness import of_attacks
from fnet_callbacks.quantities.specialization import QUESTIONS, of_groups

PAGE = Path(__file__).with_name("measures.md")
_HEAD = (
    "| measure | tier | what it is | range | high, low, and with care |\n| --- | --- | --- | --- | --- |\n"
)
_OTHER_HEAD = "| key | what it is | range |\n| --- | --- | --- |\n"
_OTHERS: dict[str, tuple[tuple[str, Iterable[Quantity]], ...]] = {
    "The network's own": (("fnet", (N_SAMPLES,)),),
    "Attacks": (("robust", of_attacks(["pgd"], [8 / 255])),),
    "Silenced neurons": (("lesion", LESIONS),),
    "Groups of units": (("specialization", of_groups(QUESTIONS, has_z=True)),),
    "Linear regions": (("regions", REGIONS), ("regions_layers/01", OF_LAYER)),
    "Functional codes": (
        ("codes/01", (*OF_MAP, MAP_CHANGE, *OF_LABELS, *shifted("fgsm"))),
        ("codes", (departure("fgsm"),)),
    ),
    "The monitor": (("monitor", MONITOR),),
}
_ROW = re.compile(r"^\| `(\w[\w.+-]*)` \|.*\| (.*?) ?\|$", re.MULTILINE)


def with_tables(page: str) -> str:
    """The page with the rows of all quantities; the last column of each stays what it is."""
    for title, quantities in SECTIONS.items():
        start = page.index(_HEAD, page.index(f"### {title}\n")) + len(_HEAD)
        end = page.index("\n\n", start) + 1
        care = dict(_ROW.findall(page[start:end]))
        page = page[:start] + "".join(_row(q, care.get(q.name, "")) for q in quantities) + page[end:]
    for title, groups in _OTHERS.items():
        start = page.index(_OTHER_HEAD, page.index(f"### {title}\n")) + len(_OTHER_HEAD)
        end = page.index("\n\n", start - 1) + 1
        rows = "".join(
            _joined(f"`{prefix}/{q.name}`", q.definition, _range(q.range))
            for prefix, own in groups
            for q in own
        )
        page = page[:start] + rows + page[end:]
    return page


def _row(quantity: Quantity, care: str) -> str:
    own = _joined(f"`{quantity.name}`", quantity.tier, quantity.definition, _range(quantity.range))
    return f"{own[:-1]} {care} |\n"


def _joined(*cells: str) -> str:
    escaped = (cell.replace("|r|", "\\|r\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |\n"


def _range(bounds: Range | None) -> str:
    if bounds is None or bounds == (None, None):
        return "any"
    low, high = ("" if b is None else f"{b:.3g}".replace("-", "−") for b in bounds)
    return f"{low} to {high}" if low and high else f"{low} and more" if low else f"up to {high}"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
