"""Pictures of a functional network, as images that every logger takes.

matplotlib is loaded when the first picture is drawn that needs it: all but the graph.
"""

from fnet_callbacks.figures.names import DEFAULT, OF_NETWORKS
from fnet_callbacks.figures.painter import Painter
from fnet_callbacks.figures.png import png

__all__ = ["DEFAULT", "OF_NETWORKS", "Painter", "png"]
