"""What the training thread keeps of the activations until they are handed over: all of them, or running sums."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fnet_callbacks.callbacks.forward import Forward
from fnet_callbacks.metrics import ActivationStatistics, RunningCorrelation
from fnet_callbacks.worker.jobs import Moments, Reading, Rows

# Values that are handed over, or kept for the histogram entropy, over all ranks: 16 MB in float32, 4096 samples of
# 1024 neurons. Of a larger probe, whose order is random, the histogram reads the first; more change it little.
_MOST_VALUES = 2**22


class Reader(Protocol):
    """Takes in what the nodes show at one snapshot."""

    def begin(self, num_classes: int) -> None:
        """Starts with nothing seen; 0 classes where there are no labels."""

    def take(self, rows: Tensor, labels: Tensor | None) -> None:
        """Takes in a batch, ``[S, N]``."""

    def reduce(self) -> Reading:
        """What was seen, on all ranks; every rank calls it."""
        ...


def reader_of(forward: Forward, *, n_neurons: int, n_samples: int, has_histogram: bool) -> Reader:
    """The reader for a model.

    Activations in the host's memory, of one rank and not too many, are handed over as they are: the sums that the
    correlation needs are then the worker's. Else they are summed where they are.
    """
    is_here = forward.device.type == "cpu" and forward.world_size == 1
    if is_here and n_samples * n_neurons <= _MOST_VALUES:
        return _AllRows(n_neurons, has_histogram)
    return _Sums(forward, n_neurons, has_histogram)


class _AllRows:
    def __init__(self, n_neurons: int, has_histogram: bool) -> None:
        self._n_neurons, self._has_histogram = n_neurons, has_histogram

    def begin(self, num_classes: int) -> None:
        self._num_classes = num_classes
        self._rows: list[Tensor] = []
        self._labels: list[Tensor] = []

    def take(self, rows: Tensor, labels: Tensor | None) -> None:
        self._rows.append(rows.detach() if rows.dtype == torch.float64 else rows.detach().float())
        if labels is None or len(labels) != len(rows):
            labels = torch.full((len(rows),), -1)
        self._labels.append(labels.long())

    def reduce(self) -> Rows:
        rows, labels = self._rows, self._labels
        self._rows, self._labels = [], []
        return Rows(
            values=torch.cat(rows).numpy() if rows else np.empty((0, self._n_neurons), np.float32),
            labels=torch.cat(labels).numpy() if self._num_classes and labels else None,
            num_classes=self._num_classes,
            has_histogram=self._has_histogram,
        )


class _Sums:
    def __init__(self, forward: Forward, n_neurons: int, has_histogram: bool) -> None:
        self._device = forward.moments_device
        self._keep = max(2, _MOST_VALUES // (forward.world_size * max(n_neurons, 1))) if has_histogram else 0
        # Made once: a torchmetrics Metric is in a reference cycle, one a snapshot would pile up until a collection.
        self._correlation = RunningCorrelation(n_neurons).to(self._device)
        self._activity = self._statistics(0)

    def begin(self, num_classes: int) -> None:
        if num_classes != (self._activity.num_classes or 0):
            self._activity = self._statistics(num_classes)

    def take(self, rows: Tensor, labels: Tensor | None) -> None:
        self._correlation.update(rows)
        known = self._activity.num_classes is not None and labels is not None and len(labels) == len(rows)
        self._activity.update(rows, labels if known else None)

    def reduce(self) -> Moments:
        if not self._correlation.update_called:
            empty = torch.empty(0, self._correlation.num_units)
            self._correlation.update(empty)
            self._activity.update(empty)
        try:
            correlation, summary = self._correlation.compute(), self._activity.compute()
        finally:
            self._correlation.reset()
            self._activity.reset()
        return Moments(
            summary.count, correlation, summary.active_share, summary.class_active_share, summary.kept
        )

    def _statistics(self, num_classes: int) -> ActivationStatistics:
        n_neurons = self._correlation.num_units
        return ActivationStatistics(n_neurons, num_classes or None, keep=self._keep).to(self._device)
