"""Where to draw nodes so that neighbours stand together."""

from collections.abc import Sequence

import numpy as np

from fnet_callbacks.checks import checked_array, checked_integer
from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional.graph import Graph, checked_graph

_WIDTH = 2.0  # of the frame, a square around the unit circle
_NEAREST = np.float32(1e-4)  # square of the distance below which repulsion grows no further
# Pairs of nodes at a time: what is computed of them stays in the cache, and the products are too small for BLAS to
# wake its threads.
_PAIRS = 2**16


def spring_layout(graph: Graph, start: np.ndarray, *, iterations: int) -> np.ndarray:
    """Positions of nodes that repel each other while edges pull theirs together.

    The constants are the paper's for a frame from -1 to 1 on both axes: nodes that share it evenly stand
    ``sqrt(4 / N)`` apart, and the first move of a node is at most a tenth of its width, later ones linearly less.
    The frame has no walls: what no edge holds drifts out of it. Forces are computed in single precision.

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
    Cost: O(N² iterations) time, half a millisecond each at 512 nodes; memory for N² numbers.

    Example:
        >>> pair = Graph.from_edges(2, np.array([[0, 1]]))
        >>> spring_layout(pair, np.array([[-0.2, 0.0], [0.2, 0.0]]), iterations=100).round(1).tolist()
        [[-0.7, 0.0], [0.7, 0.0]]
    """
    positions = np.ascontiguousarray(checked_array("start", start, ""), np.float64)
    if positions.shape != (checked_graph(graph).n_nodes, 2) or not np.isfinite(positions).all():
        raise FnetError(f"start must be finite, of shape [{graph.n_nodes}, 2], got shape {positions.shape}")
    iterations = checked_integer("iterations", iterations, at_least=0)
    return spring_positions(graph.edges, positions, iterations)


def spring_positions(edges: np.ndarray, start: np.ndarray, iterations: int) -> np.ndarray:
    """What `spring_layout` gives, of checked arguments and without a compiled graph.

    A process that draws a picture now and then would take longer to get ready for compiled code than to draw it.

    Args:
        edges: ``[E, 2]``, each once.
        start: ``[N, 2]`` float64.
        iterations: See there.
    """
    n = len(start)
    if n < 2:
        return start.copy()
    spacing = np.float32(_WIDTH / np.sqrt(n))
    pulls = np.zeros((n, n), np.float32)
    pulls[edges[:, 0], edges[:, 1]] = pulls[edges[:, 1], edges[:, 0]] = 1 / spacing
    n_rows = max(1, _PAIRS // n)
    blocks = [pulls[first : first + n_rows] for first in range(0, n, n_rows)]
    positions = start.copy()
    for step in range(iterations):
        force = _forces(positions.astype(np.float32), blocks, spacing)
        size = np.hypot(force[:, 0], force[:, 1])
        limit = 0.1 * _WIDTH * (1 - step / iterations)
        positions += force * np.minimum(1, limit / np.maximum(size, limit))[:, None]
    return positions


def _forces(positions: np.ndarray, blocks: Sequence[np.ndarray], spacing: np.float32) -> np.ndarray:
    """Forces on the nodes, ``[N, 2]``: sums of differences of places, each by a weight of its pair.

    As ``Σ w (x - y) = x Σ w - Σ w y``, and likewise for the squares of distances, the sums are products of matrices.
    """
    ones, squares = np.ones((len(positions), 1), np.float32), (positions**2).sum(1, keepdims=True)
    left, right = np.hstack([squares, ones, -2 * positions]), np.hstack([ones, squares, positions]).T
    to_sum = np.hstack([ones, positions])
    sums = np.empty_like(to_sum)
    first = 0
    for pulls in blocks:
        here = slice(first, first + len(pulls))
        weights = left[here] @ right
        np.maximum(weights, _NEAREST, out=weights)
        attraction = np.sqrt(weights)
        attraction *= pulls
        np.divide(spacing * spacing, weights, out=weights)
        weights -= attraction
        np.matmul(weights, to_sum, out=sums[here])
        first = here.stop
    return positions * sums[:, :1] - sums[:, 1:]
