"""What a table of a report is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Cell = str | float | int


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts and numbers; NaN is an empty cell.

    Attributes:
        name: Unique; the file's name as CSV.
        title: Above it; empty for one that is only written as CSV.
        header: Of each column.
        rows: Each as long as the header.
        note: Below it.
    """

    name: str
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
