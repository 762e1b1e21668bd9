"""Writes the tables of measures.md: what a measure is from its declaration, how to read it from the page itself.

``python docs/measures_tables.py`` after a quantity is added or changed.
"""

from __future__ import annotations

import re
from pathlib import Path

from fnet_callbacks.quantities.networks import SECTIONS
from fnet_callbacks.quantities.quantity import Quantity, Range

PAGE = Path(__file__).with_name("measures.md")
_HEAD = (
    "| measure | tier | what it is | range | high, low, and with care |\n| --- | --- | --- | --- | --- |\n"
)
_ROW = re.compile(r"^\| `(\w[\w.+-]*)` \|.*\| (.*?) ?\|$", re.MULTILINE)


def with_tables(page: str) -> str:
    """The page with the rows of all quantities; the last column of each stays what it is."""
    for title, quantities in SECTIONS.items():
        start = page.index(_HEAD, page.index(f"### {title}\n")) + len(_HEAD)
        end = page.index("\n\n", start) + 1
        care = dict(_ROW.findall(page[start:end]))
        page = page[:start] + "".join(_row(q, care.get(q.name, "")) for q in quantities) + page[end:]
    return page


def _row(quantity: Quantity, care: str) -> str:
    cells = [f"`{quantity.name}`", quantity.tier, quantity.definition, _range(quantity.range), care]
    escaped = (cell.replace("|r|", "\\|r\\|") if cell is not care else cell for cell in cells)
    return f"| {' | '.join(escaped)} |\n"


def _range(bounds: Range | None) -> str:
    if bounds is None or bounds == (None, None):
        return "any"
    low, high = ("" if b is None else f"{b:.3g}".replace("-", "−") for b in bounds)
    return f"{low} to {high}" if low and high else f"{low} and more" if low else f"up to {high}"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
