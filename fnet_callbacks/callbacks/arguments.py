"""What the constructor of ``FunctionalNetworkMonitor`` refuses, so that no snapshot has to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fnet_callbacks import functional as F
from fnet_callbacks.errors import FnetError

if TYPE_CHECKING:
    from fnet_callbacks.callbacks.functional_network import FunctionalNetworkMonitor


def check_arguments(monitor: FunctionalNetworkMonitor) -> None:
    """The arguments that only a snapshot would have refused.

    Raises:
        FnetError: One of them is out of range; the message names it.
    """
    g = monitor.graph
    F.graph_from_correlation(
        np.eye(2), method=g.method, density=g.density, threshold=g.threshold, sign=g.sign
    )
    choices: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
        ("signal", monitor.signal, ("post", "pre")),
        ("samples", monitor.samples, ("inputs", "tokens")),
        ("source", monitor.source, ("probe", "train")),
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
        if number < smallest:
            raise FnetError(f"`{argument}={number}` should be at least {smallest}")
    if not g.homology_radius > 0:
        raise FnetError(f"`homology_radius={g.homology_radius}` should be above 0, or None")
    if monitor.figures not in ("log", None) and (not isinstance(monitor.figures, int) or monitor.figures < 1):
        raise FnetError(f"`figures={monitor.figures!r}` should be 'log', an integer of at least 1, or None")
