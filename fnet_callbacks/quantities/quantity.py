"""A quantity: what is measured, in words, and how."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from fnet_callbacks.arguments import as_choice, as_flag, is_number, refused
from fnet_callbacks.network import Network

Tier = Literal["fast", "standard", "full"]
TIERS: tuple[Tier, ...] = get_args(Tier)
Needs = Literal["selection", "correlation", "diagrams"]
Range = tuple[float | None, float | None]

_KEY_PART = re.compile(r"[A-Za-z0-9_.+-]+")


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number that is measured: its name, its words, its range, and the function that computes it.

    Loggers, record, report and docs take all they say of it from here. A measure of your own is a quantity with a
    function, given in ``measures=[...]`` of ``FunctionalNetwork``, itself or its dotted path:

    >>> def hub_share(network):
    ...     degrees = network.graph.degrees
    ...     return degrees.max() / max(degrees.sum(), 1)
    >>> hubs = Quantity("hub_share", "share of the largest hub", "Largest degree over the sum of all degrees.", (0, 1))

    A function of a module is imported again by the worker; a lambda, or a function of a notebook or script, cannot be,
    and is measured on the training thread.

    Args:
        name: Last part of its key: letters, digits, ``_``, ``.``, ``-`` and ``+``.
        label: Its name in a few words.
        definition: What it is, in a sentence or two, with its unit.
        range: Smallest and largest value, None for no bound; None where neither is known.
        tier: The first tier that has it: ``"fast"``, ``"standard"`` or ``"full"``.
        function: From a ``Network`` to the value; None for what an instrument computes itself. It returns NaN, or
            raises ``NoValueError`` with the reason, where there is no value.
        chart: Chart in TensorBoard's custom scalars, shared by quantities of one scale; None for none.
        needs: ``"selection"`` for the graph and what follows from it, ``"correlation"`` for the matrix itself,
            ``"diagrams"`` for the persistence diagrams.
        compares: Whether it looks at snapshots before.
        beyond_tree: Whether it has no value where the spanning tree is more than half of the edges.

    Raises:
        FnetError: An argument is none of these; the message names it.
    """

    name: str
    label: str
    definition: str
    range: Range | None = None
    tier: Tier = "full"
    function: Callable[[Network], float] | None = field(default=None, repr=False)
    chart: str | None = None
    needs: Needs = "selection"
    compares: bool = False
    beyond_tree: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _KEY_PART.fullmatch(self.name):
            raise refused("name", self.name, "letters, digits, `_`, `.`, `-` and `+`, at least one")
        _as_words("label", self.label)
        _as_words("definition", self.definition)
        if self.chart is not None:
            _as_words("chart", self.chart)
        object.__setattr__(self, "range", _as_range(self.range))
        as_choice("tier", self.tier, TIERS)
        as_choice("needs", self.needs, get_args(Needs))
        object.__setattr__(self, "compares", as_flag("compares", self.compares))
        object.__setattr__(self, "beyond_tree", as_flag("beyond_tree", self.beyond_tree))
        if self.function is not None and not callable(self.function):
            raise refused("function", self.function, "a function of a Network, or None")

    def described(self) -> dict[str, Any]:
        """Its words and range, as a manifest has them."""
        return {
            "label": self.label,
            "definition": self.definition,
            "range": None if self.range is None else list(self.range),
        }


def _as_words(argument: str, value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise refused(argument, value, "a text that is not empty")


def _as_range(value: Any) -> Range | None:
    if value is None:
        return None
    right = "the smallest and the largest value, each None for no bound, or None"
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise refused("range", value, right)
    low, high = value
    if not all(bound is None or (is_number(bound) and bound == bound) for bound in value):
        raise refused("range", value, right)
    if low is not None and high is not None and low > high:
        raise refused("range", value, right)
    return low, high
