"""The passengers of the Titanic, from the public tables: Kaggle's, seaborn's, OpenML's, titanic3, Stanford's."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from fnet_callbacks.errors import FnetError

NEEDED = ("survived", "pclass", "sex", "age", "sibsp", "parch", "fare")
MISSING = {"", "?", "na", "n/a", "nan", "none", "null", "-", ".", r"\n"}
_COLUMNS = {  # other names of columns, without what is no letter
    "passengerclass": "pclass",
    "gender": "sex",
    "siblingsspousesaboard": "sibsp",
    "siblingsspouses": "sibsp",
    "parentschildrenaboard": "parch",
    "parentschildren": "parch",
}
_WORDS: Mapping[str, Mapping[str, float]] = {
    "survived": {"yes": 1, "true": 1, "no": 0, "false": 0},
    "pclass": {"first": 1, "1st": 1, "second": 2, "2nd": 2, "third": 3, "3rd": 3},
    "sex": {"female": 1, "f": 1, "male": 0, "m": 0},
}
_ALLOWED: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "survived": (lambda v: v in (0, 1), "0 or 1, yes or no"),
    "pclass": (lambda v: v in (1, 2, 3), "1, 2 or 3, or 1st, 2nd or 3rd"),
    "sex": (lambda v: v in (0, 1), "female or male"),
}
_KNOWN = ("survived", "pclass", "sex")  # a row without one of these is no passenger


def read_passengers(folder: Path) -> dict[str, np.ndarray]:
    """The first table in a folder, by name, that has the columns survived, pclass, sex, age, sibsp, parch and fare.

    Tables are CSV or TSV with commas, semicolons (numbers may then have a decimal comma), tabs or bars between the
    fields, in UTF-8, UTF-16 or Latin-1. Names of columns may be written in any case.

    Returns:
        Of each column an array ``[S]`` float64: sex is 1 for female, age in years. A missing number is its column's
        median. Rows without class, sex or fate are left out, such as an empty last one.

    Raises:
        FnetError: There is none, it cannot be read, or a value is not what its column should hold; the message names
            the file, the line and the column.
    """
    for path in sorted(p for p in folder.glob("*") if p.suffix.lower() in (".csv", ".tsv") and p.is_file()):
        table = _table(path)
        if table is not None:
            return _passengers(path, *table)
    raise FnetError(
        f"`data_dir`: no file {folder}/*.csv has the columns {', '.join(NEEDED[:-1])} and {NEEDED[-1]}"
    )


_Rows = Sequence[tuple[int, Sequence[str]]]  # the line that each ends on, and its fields


def _table(path: Path) -> tuple[Sequence[str], _Rows, bool] | None:
    """Names of columns, rows, and whether numbers may have a decimal comma; None where columns are missing."""
    text = _text(path)
    misfit = None
    for delimiter, quote in product(",;\t|", "\"'"):
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote, skipinitialspace=True
        )
        lines = _filled(reader)
        names: list[str] = []
        try:
            names = [_name(name) for name in next(lines, (0, []))[1]]
            if not set(NEEDED) <= set(names):
                continue
            rows = list(lines)
        except csv.Error as error:
            misfit = misfit or (f"{path}: {error}" if names else None)
            continue
        wide = next(((line, row) for line, row in rows if any(row[len(names) :])), None)
        if wide is None:
            return names, rows, delimiter != ","
        misfit = misfit or (
            f"{path}, line {wide[0]}: {len(wide[1])} fields for {len(names)} columns; what holds a {delimiter!r} "
            "should be in quotes"
        )
    if misfit is not None:
        raise FnetError(misfit)
    return None


def _filled(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """The lines of a table that are not empty, nor Excel's ``sep=;``, with their numbers."""
    for row in reader:
        fields = [field.strip() for field in row]
        if any(fields) and not fields[0].lower().startswith("sep="):
            yield reader.line_num, fields


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FnetError(f"{path}: cannot be read: {error}") from error
    is_wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        return content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")  # which takes anything; letters beyond ASCII are in names alone


def _name(name: str) -> str:
    letters = re.sub(r"[^a-z]", "", name.lower())
    return _COLUMNS.get(letters, letters)


def _passengers(path: Path, names: Sequence[str], rows: _Rows, has_comma: bool) -> dict[str, np.ndarray]:
    places = {name: names.index(name) for name in NEEDED}
    values = np.full((len(rows), len(NEEDED)), np.nan)
    for i, (line, row) in enumerate(rows):
        for j, (name, place) in enumerate(places.items()):
            told = row[place] if place < len(row) else ""
            try:
                values[i, j] = _value(name, told, has_comma)
            except ValueError as error:
                raise FnetError(f"{path}, line {line}: `{name}` is {told!r}, it should be {error}") from error
    is_known = np.isfinite(values[:, [NEEDED.index(name) for name in _KNOWN]]).all(1)
    values = values[is_known]
    if not len(values):
        raise FnetError(f"{path}: of none of its {len(rows)} rows {', '.join(_KNOWN)} are known")
    columns = {}
    for name, column in zip(NEEDED, values.T, strict=True):
        there = column[np.isfinite(column)]
        if not len(there):
            raise FnetError(f"{path}: `{name}` is missing in every row")
        columns[name] = np.where(np.isfinite(column), column, np.median(there))
    return columns


def _value(name: str, told: str, has_comma: bool) -> float:
    """A number; NaN where it is missing.

    Raises:
        ValueError: It is none, or not one that the column may have; with what would be right.
    """
    word = told.strip("'\" ").lower()
    if word in MISSING:
        return np.nan
    allowed, right = _ALLOWED.get(name, (lambda v: v >= 0, "a number of at least 0, or empty"))
    words = _WORDS.get(name, {})
    word = word.removesuffix(" class") if name == "pclass" else word
    try:
        value = words[word] if word in words else float(word.replace(",", ".") if has_comma else word)
    except ValueError:
        raise ValueError(right) from None
    if not np.isfinite(value) or not allowed(value):
        raise ValueError(right)
    return value
