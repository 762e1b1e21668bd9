"""What layers are called in the keys of scalars."""

import re
from collections.abc import Sequence

_NO_PART_OF_A_KEY = re.compile(r"[/\x00-\x1f\x7f]")


def folder_names(names: Sequence[str]) -> dict[str, str]:
    """What each layer is called in keys: no slash parts its name, no two are called alike."""
    folders: dict[str, str] = {}
    for name in names:
        folder = _NO_PART_OF_A_KEY.sub("_", name)
        while folder in folders.values():
            folder += "_"
        folders[name] = folder
    return folders
