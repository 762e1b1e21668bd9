"""What two partitions share by chance."""

import numpy as np

from fnet_callbacks.functional._kernels.base import kernel


@kernel
def expected_information(a_sizes, b_sizes, log_factorial):
    """Mean mutual information, in nats, over all pairs of partitions of N nodes with these sizes.

    ``log_factorial`` has log k! for k from 0 to N.
    """
    n = len(log_factorial) - 1
    total = 0.0
    for a in a_sizes:
        for b in b_sizes:
            fixed = log_factorial[a] + log_factorial[b] + log_factorial[n - a] + log_factorial[n - b]
            fixed -= log_factorial[n]
            for both in range(max(1, a + b - n), min(a, b) + 1):
                chosen = log_factorial[both] + log_factorial[a - both] + log_factorial[b - both]
                chance = np.exp(fixed - chosen - log_factorial[n - a - b + both])
                total += both / n * np.log(n * both / (a * b)) * chance
    return total
