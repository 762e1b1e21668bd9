"""How predictable units are, and how many ways of acting there are.

Entropies are in nats, but for ``selectivity_entropy``, a share of the largest that there can be. Mostafa & Mondal
(2021), arXiv 2106.04693, relate the predictability of neurons to performance through entropy. We could not confirm
their formula: the definitions of this room are our assumptions.
"""

import numpy as np

from fnet_callbacks.checks import checked_array, checked_integer
from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional import _kernels
from fnet_callbacks.functional.correlation import live_block
from fnet_callbacks.functional.terms import entropy_terms


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
    p = _shares_in("probability", probability)
    return entropy_terms(p) + entropy_terms(1.0 - p)


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
    entropy = binary_entropy(_shares_in("active_share", active_share))
    return float(entropy.mean()) if entropy.size else float("nan")


def active_share(activations: np.ndarray) -> np.ndarray:
    """Share of samples in which each unit is active: above zero.

    Args:
        activations: ``[S, N]``; NaN is not active.

    Returns:
        ``[N]`` in [0, 1]; NaN without samples.

    Raises:
        FnetError: ``activations`` is not two-dimensional.

    Cost: O(S N).

    >>> active_share(np.array([[1.0, -1.0], [0.5, 2.0]]))
    array([1. , 0.5])
    """
    activations = _checked_activations(activations)
    return _shares(activations, np.zeros(len(activations), np.int64), 1)[0]


def class_active_share(activations: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """The `active_share` of each unit among the samples of each class.

    Args:
        activations: ``[S, N]``; NaN is not active.
        labels: Class of each sample, ``[S]`` integers in [0, C).
        num_classes: C.

    Returns:
        ``[C, N]`` in [0, 1]; NaN for a class without samples.

    Raises:
        FnetError: ``activations`` is not two-dimensional, or ``labels`` are not as described.

    Cost: O(S N).

    >>> class_active_share(np.array([[1.0, -1.0], [0.5, 2.0]]), np.array([0, 0]), 2)
    array([[1. , 0.5],
           [nan, nan]])
    """
    activations = _checked_activations(activations)
    labels = checked_array("labels", labels, "[samples]", kind="integer").astype(np.int64)
    if len(labels) != len(activations):
        raise FnetError(
            f"labels must be integers, one for each of the {len(activations)} samples of activations; got {len(labels)}"
        )
    num_classes = checked_integer("num_classes", num_classes, at_least=0)
    if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise FnetError(f"labels must lie in [0, {num_classes}); got {labels.min()} to {labels.max()}")
    return _shares(activations, labels, num_classes)


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
    Cost: O(S N) time, O(N bins) memory.

    >>> round(histogram_entropy(np.array([[0.0, 3.0], [1.0, 3.0]])), 6)
    0.693147
    """
    entropies = histogram_entropies(activations, bins=bins)
    entropies = entropies[~np.isnan(entropies)]
    return float(entropies.mean()) if len(entropies) else float("nan")


def histogram_entropies(activations: np.ndarray, *, bins: int = 32) -> np.ndarray:
    """Entropy of the histogram of each unit's values; see `histogram_entropy`.

    Returns:
        ``[N]``, nats in [0, log bins]; NaN for a unit that has one value only or one that is not finite.
    """
    activations = _checked_activations(activations)
    counts = _kernels.histograms(activations, checked_integer("bins", bins, at_least=1))
    entropies = entropy_terms(counts / max(len(activations), 1)).sum(axis=1)
    return np.where(counts.any(axis=1), entropies, np.nan)


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
        FnetError: ``class_active_share`` is not two-dimensional, or not in [0, 1].

    Reference: after Mostafa & Mondal (2021), arXiv 2106.04693; the formula is ours.
    Cost: O(C N).

    >>> selectivity_entropy(np.array([[0.5, 1.0], [0.5, 0.0]]))
    0.5
    """
    if class_active_share is None:
        return float("nan")
    entropies = selectivity_entropies(class_active_share)
    entropies = entropies[~np.isnan(entropies)]
    return float(entropies.mean()) if len(entropies) else float("nan")


def selectivity_entropies(class_active_share: np.ndarray) -> np.ndarray:
    """Entropy of each unit over classes; see `selectivity_entropy`.

    Returns:
        ``[N]`` in [0, 1]; NaN for a unit that is never active, and with fewer than two classes.

    Raises:
        FnetError: ``class_active_share`` is not two-dimensional, or not in [0, 1].

    Cost: O(C N).
    """
    share = _shares_in("class_active_share", class_active_share, "[classes, units]")
    share = share[~np.isnan(share).any(axis=1)]
    total = share.sum(axis=0)
    found = np.full(share.shape[1], np.nan)
    active = total > 0
    if len(share) > 1:
        found[active] = entropy_terms(share[:, active] / total[active]).sum(axis=0) / np.log(len(share))
    return found


def effective_rank(correlation: np.ndarray) -> float:
    """Participation ratio of the spectrum of a correlation matrix, ``N² / ||R||²_F``.

    ``N² / ||R||²_F = (Σλ)² / Σλ²``: how many directions carry the variance of the standardised units.

    Args:
        correlation: ``[N, N]``; dead units (NaN) are left out of N and of R.

    Returns:
        A dimensionless value from 1 (all units alike) to N (all independent); NaN without live units.

    Raises:
        FnetError: ``correlation`` is none: a covariance, Fisher's z, not symmetric.

    Reference: Gao et al. (2017), bioRxiv 214262, for the ratio; its use here is ours.
    Cost: O(N²), no eigenvalues.

    >>> effective_rank(np.eye(3))
    3.0
    """
    block = live_block(correlation)
    return max(len(block) ** 2 / float(np.vdot(block, block)), 1.0) if len(block) else float("nan")


def degree_entropy(degrees: np.ndarray) -> float:
    """Entropy of the degree distribution: how unlike one another the nodes are in number of neighbours.

    Args:
        degrees: Degree of each node, ``[N]``, integer.

    Returns:
        Nats in [0, log N]; 0 where all degrees are equal, NaN without nodes.

    Raises:
        FnetError: ``degrees`` is not a vector of integers.

    Reference: Shannon's formula on the share of nodes of each degree; its use here is ours.
    Cost: O(N log N).

    >>> round(degree_entropy(np.array([1, 1, 2, 2])), 6)
    0.693147
    """
    degrees = checked_array("degrees", degrees, "[nodes]", kind="integer")
    if degrees.size == 0:
        return float("nan")
    _, nodes = np.unique(degrees, return_counts=True)
    return float(entropy_terms(nodes / degrees.size).sum()) + 0.0  # never -0.0


def _shares_in(argument: str, values: np.ndarray, shape: str = "") -> np.ndarray:
    """Values in [0, 1] or NaN, float64."""
    found = checked_array(argument, values, shape).astype(np.float64)
    if (found < 0).any() or (found > 1).any():
        raise FnetError(
            f"{argument} must lie in [0, 1], got {np.nanmin(found):.4g} to {np.nanmax(found):.4g}"
        )
    return found


def _checked_activations(activations: np.ndarray) -> np.ndarray:
    """Rows of float32 or float64, copied only where they are not that."""
    activations = checked_array("activations", activations, "[samples, units]")
    if activations.dtype not in (np.float32, np.float64):
        activations = activations.astype(np.float64)
    return np.ascontiguousarray(activations)


def _shares(activations: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    counts, sizes = _kernels.active_counts(activations, labels, n_classes)
    return counts / np.where(sizes, sizes, np.nan)[:, None]
