"""What the constructors of instruments and monitors make of their arguments, and refuse, so that no snapshot has to."""

from __future__ import annotations

import math
import re
from typing import Any, Literal

from fnet_callbacks import functional as F
from fnet_callbacks.arguments import as_choice, as_integer, as_number, is_number, plain, refused
from fnet_callbacks.errors import FnetError
from fnet_callbacks.network import GraphSettings

Figures = Literal["log"] | int | None
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_RESERVED = ("monitor", "monitor_cost", "checkpoints", "figures")
_LONGEST_S = 1e8  # three years: what a timer of the system takes


def as_graph_settings(
    *,
    homology_radius: Any,
    homology_max_nodes: Any,
    homology_backend: Any,
    nulls: Any,
    seed: Any,
    **graph: Any,
) -> GraphSettings:
    """How a correlation becomes a graph, and what bounds dear measures.

    Args:
        homology_radius: A distance, ``"graph"``, or None for no bound; see ``FunctionalNetwork`` for the others.
        homology_max_nodes: See there.
        homology_backend: See there.
        nulls: See there.
        seed: See there.
        **graph: See `as_graph_rule`.

    Raises:
        FnetError: One of them is out of range; the message names it.
    """
    radius = plain("homology_radius", homology_radius)
    if radius not in ("graph", None):
        radius = as_number("homology_radius", radius, above=0)
    return GraphSettings(
        rule=as_graph_rule(**graph),
        nulls=as_integer("nulls", nulls, at_least=1),
        seed=as_integer("seed", seed, at_least=0),
        homology_radius=math.inf if radius is None else radius,
        homology_max_nodes=as_integer("homology_max_nodes", homology_max_nodes, at_least=2),
        homology_backend=as_choice("homology_backend", homology_backend, ("native", "gudhi", "ripser")),
    )


def as_graph_rule(**rule: Any) -> F.GraphRule:
    """The rule of a density, and of method, threshold and sign where they are given.

    Raises:
        FnetError: One of them is out of range; the message names it.
    """
    rule = {argument: plain(argument, value) for argument, value in rule.items()}
    for argument in ("density", "threshold"):
        value = rule.get(argument)
        if not is_number(value) and (argument == "density" or value is not None):
            raise refused(argument, value, "a number in [0, 1]")
    return F.GraphRule(**rule)


def as_figures(value: Any) -> Figures:
    """A schedule of figures.

    Raises:
        FnetError: It is none.
    """
    value = plain("figures", value)
    if isinstance(value, bool):
        return "log" if value else None
    return value if value in ("log", None) else as_integer("figures", value, at_least=1)


def as_log(value: Any) -> str | list[str]:
    """What of the values loggers get.

    Raises:
        FnetError: It is no glob pattern and no list of them, of which ``"auto"`` and ``"all"`` are two by themselves.
    """
    value = plain("log", value)
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise refused("log", value, "'auto', 'all', or glob patterns over keys, such as 'fnet/*'")
    return value


def as_timeout(value: Any) -> float | None:
    """Seconds that a measure may take, None for no limit.

    Raises:
        FnetError: It is no number above 0, or more than a timer takes.
    """
    value = plain("measure_timeout_s", value)
    if value is None:
        return None
    if as_number("measure_timeout_s", value, above=0) > _LONGEST_S:
        raise FnetError(f"`measure_timeout_s={value!r}` should be at most {_LONGEST_S:g}; None is no limit")
    return value


def as_name(value: Any) -> str:
    """The name of an instrument.

    Raises:
        FnetError: It could not be a folder and a part of keys, or is one of the monitor's own.
    """
    name = plain("name", value)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise FnetError(
            f"`name={name!r}` should be letters, digits, '_', '.', '-': it is the prefix of the keys"
        )
    if name in _RESERVED or name.endswith("_layers"):
        raise FnetError(f"`name={name!r}` is taken by other keys and folders of a run; use another")
    return name


def as_interval(every_n_steps: Any, every_n_epochs: Any) -> tuple[int | Literal["log"] | None, int | None]:
    """Steps or epochs between snapshots, at most one of them given.

    Raises:
        FnetError: Both are given, or one is out of range.
    """
    steps, epochs = plain("every_n_steps", every_n_steps), plain("every_n_epochs", every_n_epochs)
    if steps is not None and epochs is not None:
        raise FnetError(
            f"`every_n_steps={steps!r}` and `every_n_epochs={epochs!r}` are two schedules; give one of them"
        )
    if (
        steps is not None
        and steps != "log"
        and (not isinstance(steps, int) or isinstance(steps, bool) or steps < 1)
    ):
        raise FnetError(f"`every_n_steps={steps!r}` should be an integer of at least 1, or 'log'")
    return steps, None if epochs is None else as_integer("every_n_epochs", epochs, at_least=1)
