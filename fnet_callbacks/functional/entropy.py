"""How predictable units are, and how many ways of acting there are. Every entropy is in nats.

Mostafa & Mondal (2021), arXiv 2106.04693, relate the predictability of neurons to performance through
entropy. We could not confirm their formula: the definitions of this room are our assumptions.
"""

import numpy as np
from scipy.special import entr

from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional.correlation import live_block

# Units a block: a histogram of many samples takes a few blocks of this width, never several copies of [S, N].
_BLOCK = 64


def binary_entropy(probability: np.ndarray) -> np.ndarray:
    """Entropy of a coin, ``-p log p - (1 - p) log(1 - p)``.

    Args:
        probability: Values in [0, 1], of any shape; NaN gives NaN.

    Returns:
        Nats in [0, log 2], of the same shape; 0 where the coin always falls the same way.

    Raises:
        FnetError: A probability lies outside [0, 1].

    Cost: O(N).

    >>> binary_entropy(np.array([0.0, 0.5, 1.0])).round(6)
    array([0.      , 0.693147, 0.      ])
    """
    p = np.asarray(probability, dtype=np.float64)
    if (p < 0).any() or (p > 1).any():
        raise FnetError("probability must lie in [0, 1]")
    return entr(p) + entr(1.0 - p)


def activation_entropy(active_share: np.ndarray) -> float:
    """Mean binary entropy of whether a unit is active.

    That activity is what counts, and that it means a value above zero, is our assumption.

    Args:
        active_share: Share of samples in which each unit is active, ``[N]``.

    Returns:
        Nats in [0, log 2]; NaN without units or samples.

    Raises:
        FnetError: A share lies outside [0, 1].

    Reference: after Mostafa & Mondal (2021), arXiv 2106.04693; the formula is ours.
    Cost: O(N).

    >>> round(activation_entropy(np.array([0.5, 1.0])), 6)
    0.346574
    """
    entropy = binary_entropy(active_share)
    return float(entropy.mean()) if entropy.size else float("nan")


def histogram_entropy(activations: np.ndarray, *, bins: int = 32) -> float:
    """Mean entropy of the histogram of each unit's values.

    Each unit has bins of its own, of equal width from its smallest to its largest value, so that scale and
    offset do not matter. The bins and their number are our assumption.

    Args:
        activations: ``[S, N]``. Units with a value that is not finite, or with one value only, are left out:
            how many of these there are is another measure (``dead_fraction``).
        bins: Number of bins.

    Returns:
        Nats in [0, log bins]; NaN where no unit is left.

    Raises:
        FnetError: ``activations`` is not two-dimensional, or ``bins`` is below 1.

    Reference: after Mostafa & Mondal (2021), arXiv 2106.04693; the formula is ours.
    Cost: O(S N) time, a few ``[S, 64]`` arrays.

    >>> round(histogram_entropy(np.array([[0.0, 3.0], [1.0, 3.0]])), 6)
    0.693147
    """
    activations = np.asarray(activations)
    if activations.ndim != 2:
        raise FnetError(f"activations must be [samples, units]; got shape {activations.shape}")
    if bins < 1:
        raise FnetError(f"bins must be at least 1; got {bins}")
    n_samples, n_units = activations.shape
    if n_samples == 0:
        return float("nan")
    blocks = [
        _block_entropies(activations[:, start : start + _BLOCK].astype(np.float64), bins)
        for start in range(0, n_units, _BLOCK)
    ]
    entropies = np.concatenate(blocks) if blocks else np.empty(0)
    return float(entropies.mean()) if len(entropies) else float("nan")


def selectivity_entropy(class_active_share: np.ndarray | None) -> float:
    """Mean entropy over classes of where a unit is active: 0 for one class only, 1 for all alike.

    For unit i, ``q_c = P(active | c) / Σ_c P(active | c)`` and the entropy ``-Σ_c q_c log q_c`` is divided by
    log C. Taking the probability of being active, not the mean activation, is our assumption.

    Args:
        class_active_share: ``P(active | class)``, ``[C, N]``, or None where there are no labels. A class
            without samples (NaN) is left out, and so are units that are never active.

    Returns:
        A dimensionless value in [0, 1]; NaN without labels, with fewer than two classes, or where no unit
        is ever active.

    Raises:
        FnetError: ``class_active_share`` is not two-dimensional.

    Reference: after Mostafa & Mondal (2021), arXiv 2106.04693; the formula is ours.
    Cost: O(C N).

    >>> selectivity_entropy(np.array([[0.5, 1.0], [0.5, 0.0]]))
    0.5
    """
    if class_active_share is None:
        return float("nan")
    share = np.asarray(class_active_share, dtype=np.float64)
    if share.ndim != 2:
        raise FnetError(f"class_active_share must be [classes, units]; got shape {share.shape}")
    share = share[~np.isnan(share).any(axis=1)]
    total = share.sum(axis=0)
    active = total > 0
    if len(share) < 2 or not active.any():
        return float("nan")
    q = share[:, active] / total[active]
    return float((entr(q).sum(axis=0) / np.log(len(share))).mean())


def effective_rank(correlation: np.ndarray) -> float:
    """Participation ratio of the spectrum of a correlation matrix, ``N² / ||R||²_F``.

    ``N² / ||R||²_F = (Σλ)² / Σλ²``: how many directions carry the variance of the standardised units.

    Args:
        correlation: ``[N, N]``; dead units (NaN) are left out of N and of R.

    Returns:
        A dimensionless value from 1 (all units alike) to N (all independent); NaN without live units.

    Raises:
        FnetError: ``correlation`` is not square.

    Reference: Gao et al. (2017), bioRxiv 214262, for the ratio; its use here is ours.
    Cost: O(N²), no eigenvalues.

    >>> effective_rank(np.eye(3))
    3.0
    """
    block = live_block(correlation)
    return len(block) ** 2 / float(np.vdot(block, block)) if len(block) else float("nan")


def degree_entropy(degrees: np.ndarray) -> float:
    """Entropy of the degree distribution: how unlike one another the nodes are in number of neighbours.

    Args:
        degrees: Degree of each node, ``[N]``, integer.

    Returns:
        Nats in [0, log N]; 0 where all degrees are equal, NaN without nodes.

    Reference: Shannon's formula on the share of nodes of each degree; its use here is ours.
    Cost: O(N log N).

    >>> round(degree_entropy(np.array([1, 1, 2, 2])), 6)
    0.693147
    """
    degrees = np.asarray(degrees)
    if degrees.size == 0:
        return float("nan")
    _, nodes = np.unique(degrees, return_counts=True)
    return float(entr(nodes / degrees.size).sum()) + 0.0  # never -0.0


def _block_entropies(values: np.ndarray, bins: int) -> np.ndarray:
    usable = np.isfinite(values).all(axis=0) & (values.max(axis=0) > values.min(axis=0))
    values = values[:, usable]
    n_samples, n_units = values.shape
    low = values.min(axis=0)
    place = (values - low) / (values.max(axis=0) - low) * bins
    index = np.minimum(place.astype(np.int64), bins - 1)  # the largest value belongs to the last bin
    index += np.arange(n_units) * bins
    counts = np.bincount(index.ravel(), minlength=n_units * bins).reshape(n_units, bins)
    return entr(counts / n_samples).sum(axis=1)
