"""Classes and functions by the path from which another process imports them, and names that are imported on demand."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
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


def found_on_demand(package: str, home: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package whose names are imported when they are first asked for.

    Args:
        package: Its ``__name__``.
        home: By name, the module of the package that has it.
    """

    def find(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(f"{package}.{home[name]}"), name)
        setattr(sys.modules[package], name, found)
        return found

    return find
