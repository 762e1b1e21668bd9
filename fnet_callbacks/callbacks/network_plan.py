"""What the worker is to measure of a functional network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fnet_callbacks.capture.layers import Layer
from fnet_callbacks.keys import folder_names
from fnet_callbacks.quantities.networks import own_quantities
from fnet_callbacks.worker.jobs import LayerPlan, NetworkPlan

if TYPE_CHECKING:
    from fnet_callbacks.callbacks.functional_network import FunctionalNetworkMonitor


def planned(
    monitor: FunctionalNetworkMonitor, layers: Sequence[Layer], units: Sequence[np.ndarray]
) -> NetworkPlan:
    """The plan of a monitor that watches these units of these layers."""
    folders = folder_names([layer.name for layer in layers])
    return NetworkPlan(
        monitor.name,
        [quantity.name for quantity in monitor.measures],
        [quantity.name for quantity in monitor.layer_measures],
        [
            LayerPlan(layer.name, folders[layer.name], len(own))
            for layer, own in zip(layers, units, strict=True)
        ],
        monitor.graph,
        monitor.save_correlation,
        monitor.has_figures,
        monitor.on_error,
        monitor.measure_timeout_s,
        own_quantities([*monitor.measures, *monitor.layer_measures]),
    )
