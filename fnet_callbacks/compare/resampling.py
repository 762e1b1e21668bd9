"""How runs are shuffled and drawn again: the same for every number of as many runs, so it is drawn once."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import combinations, permutations

import numpy as np

_KEPT = 8  # numbers of runs, as a rule the groups' sizes
_AT_ONCE = 2**20  # numbers that are looked at together


@lru_cache(_KEPT)
def splits(n_treated: int, n_baseline: int, most: int, seed: int) -> np.ndarray:
    """Ways to split runs into two groups of these sizes: all, or ``most`` at random where there are more.

    Returns:
        ``[P, R]`` bool, whether a run is in the first group.
    """
    n = n_treated + n_baseline
    if math.comb(n, n_treated) <= most:
        chosen = np.array(list(combinations(range(n), n_treated)))
    else:
        generator = np.random.default_rng(seed)
        chosen = np.stack([generator.permutation(n)[:n_treated] for _ in range(most)])
    found = np.zeros((len(chosen), n), bool, order="F")
    np.put_along_axis(found, chosen, True, axis=1)
    return _fixed(found)


@lru_cache(_KEPT)
def pairings(n: int, most: int, seed: int) -> np.ndarray:
    """Orders of n things: all, or ``most`` at random where there are more; ``[P, n]``."""
    if n <= 12 and math.factorial(n) <= most:
        return _fixed(np.array(list(permutations(range(n))), np.int32))
    ordered = np.tile(np.arange(n), (most, 1))
    return _fixed(np.random.default_rng(seed).permuted(ordered, axis=1).astype(np.int32))


@lru_cache(_KEPT)
def signs(n: int, most: int, seed: int) -> np.ndarray:
    """``most`` times n signs at random, ``[P, n]`` of -1 and 1."""
    return _fixed(np.random.default_rng(seed).choice((-1.0, 1.0), size=(most, n)).astype(np.int8, order="F"))


@lru_cache(_KEPT)
def resamples(n: int, most: int, seed: int) -> np.ndarray:
    """``most`` times n of n things, drawn with replacement; ``[P, n]``."""
    return _fixed(np.random.default_rng(seed).integers(0, n, (most, n)).astype(np.int32))


def sums_of(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """``weights @ values`` for small integers ``[P, n]`` and ``[n]``, as no matrix of floats need be made; ``[P]``."""
    found = np.zeros(len(weights))
    for column, value in zip(weights.T, values.tolist(), strict=True):
        found += column * value
    return found


def sums_in_order(orders: np.ndarray, values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """``values[orders] @ others`` for ``[P, n]`` orders of ``[n]`` values, some rows at a time; ``[P]``."""
    rows = max(1, _AT_ONCE // max(orders.shape[1], 1))
    parts = (values[orders[k : k + rows]] for k in range(0, len(orders), rows))
    return np.concatenate([np.einsum("pn,n->p", part, others) for part in parts])


def _fixed(array: np.ndarray) -> np.ndarray:
    """What is shared is not to be written to."""
    array.flags.writeable = False
    return array
