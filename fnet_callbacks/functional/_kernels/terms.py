"""The terms of an entropy."""

import numpy as np

from fnet_callbacks.functional._kernels.base import kernel


@kernel
def entropy_terms(p):
    """``-p log p`` of each, 0 of 0, NaN of NaN, -inf of what is negative."""
    found = np.empty(len(p))
    for i in range(len(p)):
        x = p[i]
        if x > 0:
            found[i] = -x * np.log(x)
        elif x == 0:
            found[i] = 0.0
        else:
            found[i] = np.nan if x != x else -np.inf
    return found
