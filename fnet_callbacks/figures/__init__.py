"""Pictures of a functional network, as images that every logger takes."""

from fnet_callbacks.figures.painter import Painter

__all__ = ["Painter"]
