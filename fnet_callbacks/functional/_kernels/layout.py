"""Forces between the nodes of a drawing."""

import numpy as np

from fnet_callbacks.functional._kernels.base import kernel

_NEAREST = 1e-4  # square of the distance below which repulsion grows no further


@kernel
def spring_layout(indptr, indices, start, iterations, spacing, temperature):
    """Positions ``[N, 2]`` after so many moves, each at most as far as a temperature that cools linearly to 0."""
    n = len(start)
    x, y = start[:, 0].copy(), start[:, 1].copy()
    square = spacing * spacing
    for step in range(iterations):
        force_x, force_y = np.zeros(n), np.zeros(n)
        for j in range(n):
            for i in range(n):  # the inner loop sums nothing, so that it is vectorised with the same bits
                dx, dy = x[i] - x[j], y[i] - y[j]
                distance = dx * dx + dy * dy
                push = square / (distance if distance > _NEAREST else _NEAREST)
                force_x[i] += dx * push
                force_y[i] += dy * push
        for i in range(n):
            for e in range(indptr[i], indptr[i + 1]):
                dx, dy = x[indices[e]] - x[i], y[indices[e]] - y[i]
                pull = np.sqrt(dx * dx + dy * dy) / spacing
                force_x[i] += dx * pull
                force_y[i] += dy * pull
        limit = temperature * (1 - step / iterations)
        for i in range(n):
            force = np.sqrt(force_x[i] * force_x[i] + force_y[i] * force_y[i])
            share = limit / force if force > limit else 1.0
            x[i] += force_x[i] * share
            y[i] += force_y[i] * share
    return np.stack((x, y), axis=1)
