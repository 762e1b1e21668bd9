"""Classes and functions by the path from which another process imports them."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any


def import_path(named: Any) -> str | None:
    """``module:qualified name`` of a class or function; None where another process cannot import it from there."""
    module, name = getattr(named, "__module__", None), getattr(named, "__qualname__", None)
    if not module or not name or module == "__main__":
        return None
    path = f"{module}:{name}"
    try:
        is_there = importlib.util.find_spec(module) is not None  # not of one that a notebook made up
        return path if is_there and imported(path) is named else None
    except Exception:  # whatever the import of the module raises
        return None


def imported(path: str) -> Any:
    """What ``module:qualified name`` leads to; None where the module has no such name.

    Raises:
        Exception: Whatever the import of the module raises.
    """
    module, _, name = path.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
