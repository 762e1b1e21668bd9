"""Measures of a user's own package."""

from fnet_callbacks import Quantity
from fnet_callbacks.network import Network


def hub_share(network: Network) -> float:
    """Largest degree over the sum of all degrees."""
    network.require(2)
    degrees = network.graph.degrees
    return degrees.max() / degrees.sum()


HUBS = Quantity(
    "hub_share",
    "share of the largest hub",
    "Largest number of neighbours of a node, over the sum of all.",
    (0, 1),
    function=hub_share,
    chart="hubs",
)
NAMED = Quantity("mean_r2", "mean r²", "Mean of r² over all pairs.", function=lambda network: 0.0)
A_FUNCTION = hub_share
