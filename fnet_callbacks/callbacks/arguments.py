"""What the constructors of monitors refuse, so that no snapshot has to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fnet_callbacks import functional as F
from fnet_callbacks.errors import FnetError

if TYPE_CHECKING:
    from fnet_callbacks.callbacks.functional_network import FunctionalNetworkMonitor


_LONGEST_S = 1e8  # three years: what a timer of the system takes


def check_integer(argument: str, value: Any, *, at_least: int) -> None:
    """Refuses what is no integer, or too small.

    Raises:
        FnetError: Naming ``argument``.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise FnetError(f"`{argument}={value!r}` should be an integer of at least {at_least}")


def check_number(argument: str, value: Any, *, above: float) -> None:
    """Refuses what is no number, or too small.

    Raises:
        FnetError: Naming ``argument``.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > above:
        raise FnetError(f"`{argument}={value!r}` should be a number above {above:g}")


def check_arguments(monitor: FunctionalNetworkMonitor) -> None:
    """The arguments that only a snapshot would have refused.

    Raises:
        FnetError: One of them is out of range; the message names it.
    """
    g = monitor.graph
    check_number("density", g.density, above=-1)  # how large it may be says the graph
    if g.homology_radius != "graph":
        check_number("homology_radius", g.homology_radius, above=0)
    F.graph_from_correlation(
        np.eye(2), method=g.method, density=g.density, threshold=g.threshold, sign=g.sign
    )
    choices: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
        ("signal", monitor.signal, ("post", "pre")),
        ("samples", monitor.samples, ("inputs", "tokens")),
        ("source", monitor.source, ("probe", "train")),
        ("worker", monitor.worker, ("process", "inline")),
        ("when_busy", monitor.when_busy, ("wait", "skip")),
        ("homology_backend", g.homology_backend, ("native", "gudhi", "ripser")),
    )
    for argument, value, allowed in choices:
        if value not in allowed:
            raise FnetError(f"`{argument}={value!r}` should be {' or '.join(map(repr, allowed))}")
    least = (
        ("max_samples", monitor.max_samples, 2),
        ("max_neurons", monitor.max_neurons, 1),
        ("nulls", g.nulls, 1),
        ("seed", g.seed, 0),
        ("homology_max_nodes", g.homology_max_nodes, 2),
    )
    for argument, number, smallest in least:
        check_integer(argument, number, at_least=smallest)
    check_figures(monitor.figures)
    if monitor.source == "train" and monitor.probe is not None:
        raise FnetError(
            "`probe` is not measured with `source='train'`, which takes live batches; leave one out"
        )
    if monitor.measure_timeout_s is not None:
        check_number("measure_timeout_s", monitor.measure_timeout_s, above=0)
        if monitor.measure_timeout_s > _LONGEST_S:
            raise FnetError(
                f"`measure_timeout_s={monitor.measure_timeout_s!r}` should be at most {_LONGEST_S:g}; None is no limit"
            )
    patterns = [monitor.layers] if isinstance(monitor.layers, str) else monitor.layers
    if not isinstance(patterns, (list, tuple)) or not all(isinstance(p, str) for p in patterns):
        raise FnetError(f"`layers={monitor.layers!r}` should be 'auto' or glob patterns over module names")


def check_figures(figures: Literal["log"] | int | None) -> None:
    """Refuses what is no schedule of figures."""
    if figures not in ("log", None):
        check_integer("figures", figures, at_least=1)


def draws_at(figures: Literal["log"] | int | None, snapshot: int) -> bool:
    """Whether the snapshot of this number has figures: 0, 1, 2, 4, 8, ..., or every k-th."""
    if figures == "log":
        return snapshot & (snapshot - 1) == 0
    return bool(figures) and snapshot % int(figures or 1) == 0
