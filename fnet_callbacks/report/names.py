"""Names that came with a record, as a page shows them: nothing in them hides, spreads or turns other text around."""

from __future__ import annotations

import html
import re
import textwrap
import unicodedata
from functools import lru_cache

_LINE = 30  # letters
_ISOLATE, _POP = "\u2068", "\u2069"
_LETTER = "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]"
_RIGHT_TO_LEFT = re.compile(
    f"{_LETTER}(?:(?:{_LETTER}|[\\d\\s._\u200c\u200d-])*{_LETTER})?"
)  # a word, or several
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_JOINERS = "\u200c\u200d"  # which shape the letters beside them
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def visible(text: object) -> str:
    """A text in which control characters, marks of direction, halves of characters and blank names are seen."""
    found = str(text)
    if not found.isprintable():
        found = "".join(map(_seen, found))
    return f"“{found}”" if found.isspace() else found


def in_html(text: object) -> str:
    """A text as HTML, in which words that are written from right to left move nothing beside them."""
    isolated = _isolated(visible(text))
    return html.escape(isolated).replace(_ISOLATE, "<bdi>").replace(_POP, "</bdi>")


def in_attribute(text: object) -> str:
    """A text as the value of an HTML attribute, or inside an element that takes no others."""
    return html.escape(_isolated(visible(text)))


@lru_cache(maxsize=4096)
def in_figure(text: object, width: int = _LINE) -> str:
    """A text in which Plotly finds no markup, broken into lines of at most so many letters."""
    lines = textwrap.wrap(visible(text), width, break_on_hyphens=False) or [""]
    return "<br>".join(html.escape(_isolated(line), quote=False) for line in lines)


def _seen(character: str) -> str:
    is_letter = character in _JOINERS or re.match(_LETTER, character)
    if is_letter or unicodedata.category(character) not in _HIDDEN:
        return character
    return _SHORT.get(character) or f"\\u{ord(character):04x}"


def _isolated(text: str) -> str:
    return _RIGHT_TO_LEFT.sub(lambda found: f"{_ISOLATE}{found[0]}{_POP}", text)
