"""How the documentation is built: ``make docs``."""

from __future__ import annotations

import re
from typing import Any

from fnet_callbacks import __version__

project = "fnet_callbacks"
author = "The fnet_callbacks authors"
version = release = __version__
html_title = f"{project} {version}"
html_theme = "furo"
html_show_copyright = False
highlight_language = "none"  # of blocks that name no language: commands

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_heading_anchors = 3  # so that pages and the README may link to a section

# A name in single backticks leads to what it names, where that is on a page; else it is shown as it is.
default_role = "py:obj"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 100


def fields(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Makes fields of the lines ``Reference: ...`` and ``Cost: ...``, which are no sections of Google's style."""
    found: list[str] = []
    for line in lines:
        field = re.sub(r"^(Reference|Cost):", r":\1:", line)
        if field != line and found and not found[-1].startswith((":", " ")):
            found.append("")
        found.append(field)
    lines[:] = found


def links(app: Any, path: Any, page: str, content: list[str]) -> None:
    """Lets the links and pictures of a file that a page includes lead to pages of the site."""
    content[0] = content[0].replace("](experiments/RESULTS.md)", "](results.md)")
    content[0] = re.sub(r"\]\((\.\./)?docs/", "](", content[0])


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", fields, priority=400)  # before Google's style is read
    app.connect("include-read", links)
