"""Which layers of runs are taken for one: by their place among the watched ones, else by name, else none."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import combinations, pairwise
from typing import Any, Literal

_MAX_NAMED = 3  # in a label
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Watched:
    """A layer that an instrument of one run watched.

    Attributes:
        name: In the model.
        place: Among the watched ones, as the record has it.
        width: Its units; None where the record does not say.
    """

    name: str
    place: str
    width: int | None


@dataclass(frozen=True, slots=True)
class Match:
    """Layers of runs that are compared with each other, at most one of each run.

    Attributes:
        label: What they are called together: their places and their names, such as ``02 net.4 | net.6``.
        by: ``"place"`` or ``"name"``; ``"place, name"`` where some by the one, these with others by the other; empty
            for a layer of one run that has no like in the others.
        layers: By name of the run.
    """

    label: str
    by: Literal["place", "name", "place, name", ""]
    layers: Mapping[str, Watched]

    @property
    def places(self) -> set[str]:
        """Where they are in their runs."""
        return {layer.place for layer in self.layers.values()}


@dataclass(frozen=True, slots=True)
class _Place:
    """The layers at one place in runs whose watched layers are as many and as wide."""

    shape: int
    number: int  # from 1
    of: int
    layers: Mapping[str, Watched]
    names: frozenset[str]


def watched_layers(settings: Mapping[str, Any]) -> list[Watched]:
    """The layers in an instrument's settings, as the record has them, in the order of the network."""
    return [
        Watched(layer["name"], layer["place"], _width(layer.get("n_units")))
        for layer in settings.get("layers", [])
    ]


def matched(watched: Mapping[str, Sequence[Watched]]) -> list[Match]:
    """Matches the layers that one instrument watched in several runs.

    Runs that watch as many layers of the same widths are matched by place, whatever the layers are called: where one
    model has a module more between two layers, the numbers in the names are others. Between runs that watch other
    numbers or widths, layers of one name are; where a name stands at two places, since it was matched by place
    elsewhere, with the place that shares more names, or is at the same place. What is still in doubt is matched with
    nothing.

    Args:
        watched: By name of the run, its layers in the order of the network.

    Returns:
        Each layer of each run in one match, in an order that keeps that of each run where they agree in it.
    """
    runs: dict[tuple[object, ...], list[str]] = {}
    for run, layers in watched.items():
        runs.setdefault(_shape(layers), []).append(run)
    shapes = [
        [_place(k, i, {run: watched[run] for run in own}) for i in range(len(watched[own[0]]))]
        for k, own in enumerate(runs.values())
    ]
    parts = _in_order(list(_joined(shapes)), shapes)
    labels = _distinct([_label(part) for part in parts], parts)
    return [
        Match(label, _how(part), {run: layer for place in part for run, layer in place.layers.items()})
        for label, part in zip(labels, parts, strict=True)
    ]


def _place(shape: int, i: int, watched: Mapping[str, Sequence[Watched]]) -> _Place:
    layers = {run: own[i] for run, own in watched.items()}
    of = len(next(iter(watched.values())))
    return _Place(shape, i + 1, of, layers, frozenset(layer.name for layer in layers.values()))


def _width(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _shape(layers: Sequence[Watched]) -> tuple[object, ...]:
    """What runs have in common that are matched by place; without widths only names say that layers are alike."""
    return tuple(layer.name if layer.width is None else layer.width for layer in layers)


def _joined(shapes: Sequence[Sequence[_Place]]) -> Iterator[list[_Place]]:
    """Places of all shapes in parts that are taken for one layer."""
    of: dict[tuple[int, int], list[_Place]] = {(p.shape, p.number): [p] for own in shapes for p in own}
    for own, other in combinations(shapes, 2):
        for place, like in _pairs(own, other):
            one, two = of[place.shape, place.number], of[like.shape, like.number]
            if one is not two:
                one.extend(two)
                for each in two:
                    of[each.shape, each.number] = one
    for part in {id(part): part for part in of.values()}.values():
        if max(Counter(place.shape for place in part).values()) == 1:
            yield part
        else:  # by name one layer of a run would be two
            yield from ([place] for place in part)


def _pairs(own: Sequence[_Place], other: Sequence[_Place]) -> Iterator[tuple[_Place, _Place]]:
    """Places of two shapes of which each is most like the other, by the names that they share."""
    of_own, of_other = _by_name(own), _by_name(other)
    for place in own:
        like = _most_like(place, of_other)
        if like is not None and _most_like(like, of_own) is place:
            yield place, like


def _by_name(places: Sequence[_Place]) -> dict[str, list[_Place]]:
    found: dict[str, list[_Place]] = {}
    for place in places:
        for name in place.names:
            found.setdefault(name, []).append(place)
    return found


def _most_like(place: _Place, by_name: Mapping[str, Sequence[_Place]]) -> _Place | None:
    others = {other.number: other for name in place.names for other in by_name.get(name, ())}
    scores = {k: (len(place.names & other.names), k == place.number) for k, other in others.items()}
    best = [k for k, score in scores.items() if score == max(scores.values())]
    return others[best[0]] if len(best) == 1 else None


def _in_order(parts: Sequence[list[_Place]], shapes: Sequence[Sequence[_Place]]) -> list[list[_Place]]:
    """As the runs have them; where that leaves a choice, those first that are less deep in their networks."""
    part_of = {(place.shape, place.number): k for k, part in enumerate(parts) for place in part}
    after: list[set[int]] = [set() for _ in parts]
    for own in shapes:
        for one, two in pairwise(part_of[place.shape, place.number] for place in own):
            after[one].add(two)
    n_before = Counter(k for each in after for k in each)
    depths = [sum((p.number - 0.5) / p.of for p in part) / len(part) for part in parts]
    left = sorted(range(len(parts)), key=lambda k: (depths[k], k))
    heap = [(depths[k], k) for k in left if not n_before[k]]
    waiting, found = dict.fromkeys(left), []
    while waiting:
        # Runs that disagree leave none that is free.
        k = heappop(heap)[1] if heap else next(iter(waiting))
        if k not in waiting:
            continue
        del waiting[k]
        found.append(parts[k])
        for other in after[k]:
            n_before[other] -= 1
            if not n_before[other]:
                heappush(heap, (depths[other], other))
    return found


def _how(part: Sequence[_Place]) -> Literal["place", "name", "place, name", ""]:
    by_place = any(len(place.layers) > 1 for place in part)
    by_name = len(part) > 1
    return "place, name" if by_place and by_name else "place" if by_place else "name" if by_name else ""


def _label(part: Sequence[_Place]) -> str:
    layers = [layer for place in part for layer in place.layers.values()]
    places = sorted({layer.place for layer in layers}, key=_natural)
    names = sorted({layer.name for layer in layers}, key=_natural)
    return f"{_some(places)} {_some(names)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return " | ".join(names[:_MAX_NAMED]) + more


def _distinct(labels: Sequence[str], parts: Sequence[Sequence[_Place]]) -> list[str]:
    """Labels of which no two are the same: by the widths of the layers, else by numbers."""
    found: dict[str, None] = {}
    alike = Counter(labels)
    for label, part in zip(labels, parts, strict=True):
        widths = {layer.width for place in part for layer in place.layers.values()} - {None}
        if alike[label] > 1 and widths:
            label += f" ({' | '.join(f'{width:,}' for width in sorted(filter(None, widths)))} units)"
        number = 2
        while label in found:
            label = f"{label.removesuffix(f' [{number - 1}]')} [{number}]"
            number += 1
        found[label] = None
    return list(found)


def _natural(text: str) -> list[tuple[int, str]]:
    """Numbers in a name by size: net.9 before net.10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _DIGITS.split(text)]
