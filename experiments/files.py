"""YAML as a sweep reads it: a number is one however it is written, and no key stands twice."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from fnet_callbacks.errors import FnetError

_MOST_VALUES = 100_000


class _Loader(yaml.SafeLoader):
    """Takes `1e-3` for a number, as YAML 1.2 and `experiments.train` do."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set[Hashable]()
        for node_of_key, _ in node.value:
            if (
                node_of_key.tag == "tag:yaml.org,2002:merge"
            ):  # what is merged in stands behind what is said here
                continue
            key = self.construct_object(node_of_key, deep=True)
            if isinstance(key, Hashable):  # else it is refused below
                if key in seen:
                    line = node_of_key.start_mark.line + 1
                    raise FnetError(f"`{key}` stands twice, the second time in line {line}; which is meant?")
                seen.add(key)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def from_yaml(text: str) -> Any:
    """The value of a text.

    Raises:
        FnetError: A key of a mapping stands twice.
        yaml.YAMLError: It is no YAML.
    """
    loader = _Loader(text)  # a safe one
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a file, from names to values.

    Raises:
        FnetError: The file cannot be read, a key stands twice, or it holds something else.
    """
    try:
        found = from_yaml(path.read_text())
        _check_size(found, path)
        json.dumps(found, default=str)
    except FnetError as error:
        raise FnetError(f"{path}: {error}") from error
    except Exception as error:  # what is no configuration raises whatever the parser stumbles over
        raise FnetError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise FnetError(f"{path} should be a mapping from names to values")
    return found


def _check_size(content: Any, path: Path) -> None:
    """Refuses what is little text and, by aliases within aliases, more values than memory holds."""
    left, n_values = [content], 1
    while left:
        value = left.pop()
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        n_values += len(
            inner
        )  # before they are taken in: little text may say a thousand times the same thousand
        if n_values > _MOST_VALUES:
            raise FnetError(f"{path} holds more than {_MOST_VALUES} values; it is no configuration")
        left += inner
