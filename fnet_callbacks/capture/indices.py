"""Which items of a data set form a probe: a seeded draw, stratified by their labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from fnet_callbacks.capture.batches import label_in
from fnet_callbacks.capture.candidates import Candidates

_LABEL_ATTRIBUTES = ("targets", "labels", "y")
# Drawing by label reads the labels; where only items have them, a data set of up to so many probes is read.
_MAX_READ = 4


def draw_indices(dataset: Any, *, size: int, seed: int, candidates: Candidates | None = None) -> list[Any]:
    """Which items form the probe: a seeded draw in which each class has its share, in random order.

    Labels are taken from the data set's ``targets``, ``labels`` or ``y`` (or a TensorDataset's second
    tensor, or those of the parts of a Subset or ConcatDataset); a small data set is read; else the draw is
    not stratified. Nor is it where items have chances of their own, which it follows.

    Args:
        dataset: With a length and items by index.
        size: Number of items wanted; all of them where there are fewer.
        seed: Of the draw.
        candidates: What it is asked for; all of it where that is not said.
    """
    candidates = candidates or Candidates(range(len(dataset)))
    keys, n = candidates.keys, len(candidates.keys)
    if size >= n or candidates.chances is not None:
        return [keys[place] for place in candidates.order(seed)[:size]]
    generator = np.random.default_rng(seed)
    order = generator.permutation(n)
    labels = _labels_of(dataset, keys)
    if labels is None and n <= _MAX_READ * size:
        labels = _read_labels(dataset, keys)
    if labels is None:
        return [keys[place] for place in order[:size].tolist()]
    shuffled = labels[order]
    _, group, counts = np.unique(shuffled, return_inverse=True, return_counts=True)
    rank_in_class = np.empty(n)
    by_class = np.argsort(group, kind="stable")
    rank_in_class[by_class] = np.concatenate([np.arange(c) for c in counts])
    # Every class is spread evenly over [0, 1); the first `size` of that order hold each class's share.
    spread = (rank_in_class + 0.5) / counts[group]
    chosen = np.argsort(spread, kind="stable")[:size]
    return [keys[place] for place in order[generator.permutation(chosen)].tolist()]


def dataset_labels(dataset: Any) -> np.ndarray | None:
    """The labels of all items where the data set carries them, ``[len(dataset)]``, else None."""
    if isinstance(dataset, Subset):
        labels = dataset_labels(dataset.dataset)
        return None if labels is None else labels[np.asarray(dataset.indices)]
    if isinstance(dataset, ConcatDataset):
        parts = [dataset_labels(d) for d in dataset.datasets]
        return None if any(p is None for p in parts) else np.concatenate(parts)  # type: ignore[arg-type]
    if isinstance(dataset, TensorDataset):
        values: Any = dataset.tensors[1] if len(dataset.tensors) > 1 else None
    else:
        values = next((getattr(dataset, a) for a in _LABEL_ATTRIBUTES if hasattr(dataset, a)), None)
    if values is None or callable(values):
        return None
    try:
        labels = values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    except ValueError:  # ragged: what stands there is no label
        return None
    return labels if labels.shape == (len(dataset),) and labels.dtype.kind in "iub" else None


def _labels_of(dataset: Any, keys: Sequence[Any]) -> np.ndarray | None:
    """The labels of some items where the data set carries all, and is asked by number."""
    labels = dataset_labels(dataset)
    if labels is None or keys == range(len(labels)):
        return labels
    places = np.asarray(keys)
    if (
        places.dtype.kind not in "iu"
        or places.ndim != 1
        or not -len(labels) <= places.min() <= places.max() < len(labels)
    ):
        return None
    return labels[places]


def _read_labels(dataset: Any, keys: Sequence[Any]) -> np.ndarray | None:
    labels = []
    for key in keys:
        try:
            label = label_in(dataset[key])
        except Exception:  # it may not be among those that are drawn
            return None
        if isinstance(label, Tensor) and label.dim() == 0 and not label.is_floating_point():
            label = label.item()
        if not isinstance(label, (int, np.integer)):
            return None
        labels.append(int(label))
    return np.array(labels)
