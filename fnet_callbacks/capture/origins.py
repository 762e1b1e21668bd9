"""Whose code a class is: the user's own, or that of a package."""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path

# Objects of these packages hold the world (a trainer, a data set); their modules' classes are nobody's own.
FRAMEWORKS = frozenset({"torch", "lightning", "pytorch_lightning", "lightning_fabric", "fnet_callbacks"})
NOT_OWN = FRAMEWORKS | {"builtins", "abc", "typing", "torchmetrics", "transformers"}


def root_of(of: type) -> str:
    """The top-level module that a class is defined in."""
    return of.__module__.partition(".")[0]


@lru_cache(maxsize=4096)
def own_classes(of: type) -> tuple[type, ...]:
    """The classes of a module that are the user's."""
    return tuple(base for base in of.__mro__ if root_of(base) not in NOT_OWN)


@lru_cache(maxsize=4096)
def is_users_own(root: str) -> bool:
    """Whether a top-level module is a file, or a folder of files, that nobody installed."""
    if root == "__main__":  # a notebook's has no file
        return True
    if root in NOT_OWN or root in sys.stdlib_module_names:
        return False
    module = sys.modules.get(root)
    # A folder without an `__init__.py` has no file, but a path.
    places = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", ())]
    return any(place and not any(p.endswith("-packages") for p in Path(place).parts) for place in places)
