"""What a report says of layers: which of which runs are taken for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fnet_callbacks.compare.layers import Match
from fnet_callbacks.report.content import Content
from fnet_callbacks.report.tabular import Cell, Table
from fnet_callbacks.report.wording import listed

_MAX_NAMED = 8
_BY = {
    "place": "place",
    "name": "name",
    "place, name": "place; with other runs by name",
    "": "– (compared with none)",
}


def how_matched(content: Content) -> list[str]:
    """A sentence for the instruments that watched the same layers of the same runs."""
    return [
        f"{listed(instruments)} watched {_match_summary(matches)}"
        for instruments, matches in _by_matches(content)
        if len(content.runs.runs) > 1
    ]


def layer_matches(content: Content) -> Table:
    """Each layer that is compared, with what it is called in which runs."""
    rows: list[list[Cell]] = [
        [", ".join(instruments), match.label, _BY[match.by], _where(content, match)]
        for instruments, matches in _by_matches(content)
        for match in matches
    ]
    return Table(
        "layers",
        "Which layers are compared",
        ["instrument", "layer", "matched by", "called"],
        rows,
        "By place: in runs that watched as many layers of the same widths the first with the first and so on, whatever "
        "they are called. By name: where numbers or widths differ.",
    )


def layers_differ(content: Content) -> bool:
    """Whether an instrument watched layers of other names, or at other places, in some runs than in others."""
    return not all(_is_same(matches) for matches in content.runs.layers.values())


def _by_matches(content: Content) -> list[tuple[list[str], Sequence[Match]]]:
    found: list[tuple[list[str], Sequence[Match]]] = []
    for instrument, matches in content.runs.layers.items():
        alike = next((names for names, other in found if _shown(other) == _shown(matches)), None)
        if alike is None:
            found.append(([instrument], matches))
        else:
            alike.append(instrument)
    return found


def _shown(matches: Sequence[Match]) -> list[tuple[str, str, Mapping[str, str]]]:
    return [(m.label, m.by, {run: layer.name for run, layer in m.layers.items()}) for m in matches]


def _is_same(matches: Sequence[Match]) -> bool:
    """Whether all runs that have the instrument have the same layers by name and place."""
    having = {run for match in matches for run in match.layers}
    return all(
        set(match.layers) == having
        and match.by in ("place", "")
        and len({layer.name for layer in match.layers.values()}) == 1
        for match in matches
    )


def _match_summary(matches: Sequence[Match]) -> str:
    names = [match.label for match in matches]
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    if _is_same(matches):
        shown = ", ".join(names[:_MAX_NAMED]) + more if more else listed(names)
        return f"the same layers in all runs: {shown}."
    by_place = sum(match.by == "place" for match in matches)
    parts = {
        "by their place, as these runs watched as many layers of the same widths": by_place,
        "by name, as numbers or widths differ": sum("name" in match.by for match in matches),
        "with none, as no other run has a like of theirs": sum(not match.by for match in matches),
    }
    ways = "; ".join(f"{n} {how}" for how, n in parts.items() if n)
    return f"other layers in some runs than in others. Of {len(matches)} layers are matched {ways}."


def _where(content: Content, match: Match) -> str:
    """The layer's names, and the groups whose runs have it under each."""
    runs = [run.name for own in content.groups.values() for run in own if run.name in match.layers]
    names = dict.fromkeys(match.layers[run].name for run in runs)
    places_by_name = []
    for name in names:
        places = []
        for group, runs in content.groups.items():
            n = sum(run.name in match.layers and match.layers[run.name].name == name for run in runs)
            if n:
                places.append(group if n == len(runs) else f"{group} ({n} of {len(runs)} runs)")
        more = f" and {len(places) - _MAX_NAMED} more groups" if len(places) > _MAX_NAMED else ""
        places_by_name.append(f"{name} in {', '.join(places[:_MAX_NAMED])}{more}")
    return "; ".join(places_by_name)
