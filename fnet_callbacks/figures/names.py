"""The names of figures: which there are, which can be drawn of what, and what the others would need."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

from fnet_callbacks.errors import FnetError
from fnet_callbacks.portrait import CodePortrait, Portrait

OF_NETWORKS = ("graph", "communities", "homology", "correlation", "neurons", "evolution")
DEFAULT = OF_NETWORKS[:3]  # those that someone looks at while a run goes on
_OF_SEVERAL = ("neurons", "evolution")


def available(portrait: Portrait, n_snapshots: int) -> list[str]:
    """The figures that can be drawn of a network after so many snapshots, its own among them."""
    return [name for name in OF_NETWORKS if lacking(name, portrait, n_snapshots) is None]


def lacking(name: str, portrait: Portrait, n_snapshots: int) -> str | None:
    """What is missing for a figure of a network, and how it would be there; None where nothing is."""
    if len(portrait.nodes) < 2:
        return "there are fewer than two live neurons"
    if name == "homology" and not portrait.diagrams:
        return (
            "the persistence diagrams were not computed; "
            '`FunctionalNetwork(measures=...)` with "standard" or one such as "loops" records them'
        )
    if name == "correlation" and portrait.correlation is None:
        return "there is no correlation matrix; `FunctionalNetwork(save_correlation=True)` records it"
    if name in _OF_SEVERAL and n_snapshots < 2:
        return (
            "it shows several snapshots, and this is the first; "
            "a smaller `every_n_steps` of the instrument or of the `Monitor` records more"
        )
    return None


def of_codes(portrait: CodePortrait, *, last: bool = False) -> list[str]:
    """The figures of all layers of codes, or of the last one: its map, and of images the mean inputs."""
    layers = portrait.maps[-1:] if last else portrait.maps
    return [
        name
        for layer in layers
        for name in (layer.name, *([f"{layer.name}/inputs"] if layer.inputs is not None else []))
    ]


def checked_names(names: Collection[str], known: Sequence[str] = OF_NETWORKS) -> list[str]:
    """Names of figures.

    Raises:
        FnetError: One is none of those that are known; the message has the nearest.
    """
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise FnetError(f"`names`: {name!r} is no figure; there is {', '.join(known) or 'none'}{hint}")
    return list(names)
