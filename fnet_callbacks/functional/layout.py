"""Where to draw nodes so that neighbours stand together."""

import numpy as np

from fnet_callbacks.checks import checked_array, checked_integer
from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional import _kernels
from fnet_callbacks.functional.graph import Graph, checked_graph

_WIDTH = 2.0  # of the frame, a square around the unit circle


def spring_layout(graph: Graph, start: np.ndarray, *, iterations: int) -> np.ndarray:
    """Positions of nodes that repel each other while edges pull theirs together.

    The constants are the paper's for a frame from -1 to 1 on both axes: nodes that share it evenly stand
    ``sqrt(4 / N)`` apart, and the first move of a node is at most a tenth of its width, later ones linearly less.
    The frame has no walls: what no edge holds drifts out of it. Nodes at one place with the same neighbours
    stay together.

    Args:
        graph: The functional network, N nodes.
        start: Where they stand before, ``[N, 2]``, best within the frame; a layout drawn from an earlier one
            stays like it.
        iterations: How often all nodes move; dimensionless.

    Returns:
        ``[N, 2]`` float64; ``start`` itself, copied, for no iterations.

    Raises:
        FnetError: ``start`` does not have N finite rows of two, or ``iterations`` is negative.

    Reference: Fruchterman & Reingold (1991), Software: Practice and Experience 21(11), 1129-1164.
    Cost: O(iterations (N² + E)).

    Example:
        >>> pair = Graph.from_edges(2, np.array([[0, 1]]))
        >>> spring_layout(pair, np.array([[-0.2, 0.0], [0.2, 0.0]]), iterations=100).round(1).tolist()
        [[-0.7, 0.0], [0.7, 0.0]]
    """
    positions = np.ascontiguousarray(checked_array("start", start, ""), np.float64)
    if positions.shape != (checked_graph(graph).n_nodes, 2) or not np.isfinite(positions).all():
        raise FnetError(f"start must be finite, of shape [{graph.n_nodes}, 2], got shape {positions.shape}")
    iterations = checked_integer("iterations", iterations, at_least=0)
    spacing = _WIDTH / np.sqrt(max(graph.n_nodes, 1))
    return _kernels.spring_layout(graph.indptr, graph.indices, positions, iterations, spacing, 0.1 * _WIDTH)
