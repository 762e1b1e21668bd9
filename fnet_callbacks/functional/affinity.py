"""What communities are made of, and what they are about: layers, and classes."""

import numpy as np

from fnet_callbacks.checks import checked_array, checked_integer
from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional.communities import checked_partition
from fnet_callbacks.functional.terms import entropy_terms

_BINS = 8


def composition(partition: np.ndarray, layers: np.ndarray) -> np.ndarray:
    """How many nodes each community has in each layer.

    Args:
        partition: Community of each node, ``[N]``, integers.
        layers: Layer of each node, ``[N]``, integers of 0 or more.

    Returns:
        ``[K, L]`` int64: a row for each community, in the order of their numbers; L is one more than the largest layer.

    Raises:
        FnetError: They are not vectors of integers of one length.

    Cost: O(N log N).

    >>> composition(np.array([0, 0, 1]), np.array([0, 1, 1])).tolist()
    [[1, 1], [0, 1]]
    """
    labels = checked_partition(partition, "partition")
    checked_partition(layers, "layers", labels.size)
    layers = np.asarray(layers, dtype=np.int64)
    if layers.min(initial=0) < 0:
        raise FnetError(f"layers must be 0 or more, got {layers.min()}")
    found = np.zeros((int(labels.max(initial=-1)) + 1, int(layers.max(initial=-1)) + 1), np.int64)
    np.add.at(found, (labels, layers), 1)
    return found


def layer_entropy(counts: np.ndarray) -> np.ndarray:
    """How evenly each community is spread over the layers: whether it is a layer, or crosses them.

    Args:
        counts: ``[K, L]``, as of `composition`.

    Returns:
        ``[K]``: entropy of the community's shares of the layers' nodes, divided by log L. 0 for a community in one
        layer, 1 for one that has as many in each; NaN where there is only one layer, or for an empty community.

    Raises:
        FnetError: ``counts`` is not ``[K, L]``, or negative.

    Reference: Shannon (1948), Bell System Technical Journal 27, 379; as a measure of communities it is our assumption.
    Cost: O(K L).
    """
    counts = checked_array("counts", counts, "[communities, layers]")
    if (counts < 0).any():
        raise FnetError(f"counts must be 0 or more, got {counts.min()}")
    if counts.shape[1] < 2:
        return np.full(len(counts), np.nan)
    with np.errstate(invalid="ignore"):
        return entropy_terms(counts / counts.sum(1, keepdims=True)).sum(1) / np.log(counts.shape[1])


def preferred_class(class_active_share: np.ndarray) -> np.ndarray:
    """The class for which each neuron is active most often.

    Args:
        class_active_share: P(active | class), ``[C, N]``; NaN in the row of a class that no sample has.

    Returns:
        ``[N]`` int64, the first of several; -1 for a neuron that is active for none.

    Raises:
        FnetError: ``class_active_share`` is not ``[C, N]``.

    Reference: the partition by class selectivity that communities are compared with; the rule is our assumption.
    Cost: O(C N).
    """
    shares = checked_array("class_active_share", class_active_share, "[classes, neurons]").astype(np.float64)
    known = np.nan_to_num(shares, nan=0.0)
    if not len(known):
        return np.full(shares.shape[1], -1)
    return np.where(known.max(0) > 0, known.argmax(0), -1)


def class_affinity(values: np.ndarray, labels: np.ndarray, *, bins: int = _BINS) -> np.ndarray:
    """How much of the class is known from a value: their mutual information over the entropy of the class.

    Args:
        values: ``[S]`` or ``[S, K]``, such as the mean activation of each of K communities.
        labels: Class of each sample, ``[S]``, integer; those below 0 are left out.
        bins: The values are counted in so many bins by their rank; equal values have their mean rank, and share one.

    Returns:
        A scalar array, or ``[K]``: in [0, 1], near 0 where value and class are independent, thanks to the correction
        of Miller and Madow, and no lower; NaN where there is only one class, or a value that is not finite.

    Raises:
        FnetError: Shapes do not fit, labels are no integers, or ``bins`` is below 2.

    Reference: Shannon (1948); Miller (1955), Note on the bias of information estimates. Equal counts: our assumption.
    Cost: O(K S log S).

    >>> labels = np.arange(400) % 2
    >>> float(class_affinity(labels.astype(float), labels).round(2))
    1.0
    """
    labels = checked_array("labels", labels, "[samples]", kind="integer")
    values = checked_array("values", values, "").astype(np.float64)
    if values.ndim not in (1, 2) or len(values) != len(labels):
        raise FnetError(
            f"values must be [{len(labels)}] or [{len(labels)}, K], as labels are, got shape {values.shape}"
        )
    bins = checked_integer("bins", bins, at_least=2)
    known = labels >= 0
    _, classes = np.unique(labels[known], return_inverse=True)
    columns = values[known] if values.ndim == 2 else values[known, None]
    found = np.array([_information(column, classes, bins) for column in columns.T], dtype=np.float64)
    return found.reshape(values.shape[1:])


def _information(values: np.ndarray, classes: np.ndarray, bins: int) -> float:
    n_classes = int(classes.max(initial=-1)) + 1
    if n_classes < 2 or not np.isfinite(values).all():
        return float("nan")
    n = len(values)
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = counts.cumsum() - counts / 2  # of the ranks of equal values, from 0 to n
    table = np.zeros((bins, n_classes))
    np.add.at(table, ((middle * bins / n).astype(np.int64)[place], classes), 1)
    of_value, of_class, of_both = (
        entropy_terms(counts / n).sum() + (np.count_nonzero(counts) - 1) / (2 * n)
        for counts in (table.sum(1), table.sum(0), table)
    )
    return float(np.clip((of_value + of_class - of_both) / of_class, 0.0, 1.0))
