"""What a data set calls its classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch.utils.data import ConcatDataset, DataLoader

_ATTRIBUTES = ("classes", "class_names", "label_names")
_MAX_DEPTH = 16  # of data sets inside data sets
_MAX_CLASSES = 10_000


def class_names(source: Any) -> list[str] | None:
    """The names of the classes, by number; None where the data set does not say.

    Args:
        source: A data set, or a loader of one. Inside it is looked: a ``Subset`` has them of the set it is of, several
            sets in one where all have the same.
    """
    found = source.dataset if isinstance(source, DataLoader) else source
    for _ in range(_MAX_DEPTH):
        if (names := _own(found)) is not None:
            return names
        if isinstance(found, ConcatDataset):
            of_parts = [class_names(part) for part in found.datasets]
            return of_parts[0] if all(names == of_parts[0] for names in of_parts) else None
        found = _attribute(found, "dataset")
    return None


def _own(dataset: Any) -> list[str] | None:
    for name in _ATTRIBUTES:
        if (names := _names(_attribute(dataset, name))) is not None:
            return names
    numbers = _attribute(dataset, "class_to_idx")
    if isinstance(numbers, Mapping) and sorted(map(repr, numbers.values())) == sorted(
        map(repr, range(len(numbers)))
    ):
        return _names(sorted(numbers, key=numbers.__getitem__))
    return None


def _names(value: Any) -> list[str] | None:
    """A list of names; None for what is something else, such as the class of each item."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple) or not 0 < len(value) <= _MAX_CLASSES:
        return None
    if not all(isinstance(name, str | int) for name in value):
        return None
    names = [str(name) for name in value]
    return names if len(set(names)) == len(names) else None


def _attribute(dataset: Any, name: str) -> Any:
    try:
        return getattr(dataset, name, None)
    except Exception:  # a property of the user's own
        return None
