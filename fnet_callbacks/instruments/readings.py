"""What the training thread keeps of the activations until they are handed over: all of them, or running sums."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from typing_extensions import override

from fnet_callbacks.functional import Selection
from fnet_callbacks.host import Host
from fnet_callbacks.instruments.forward import Forward
from fnet_callbacks.instruments.network_plan import Moments, NetworkPlan, Rows
from fnet_callbacks.metrics import ActivationStatistics, RunningCorrelation, select_on_device

# Values that are handed over, or kept for the histogram entropy, over all ranks: 16 MB in float32, 4096 samples of
# 1024 neurons. Of a larger probe, whose order is random, the histogram reads the first; more change it little.
_MAX_VALUES = 2**22


class Reader(Protocol):
    """Takes in what the nodes show at one snapshot."""

    def begin(self, num_classes: int) -> None:
        """Starts with nothing seen; 0 classes where there are no labels."""

    def take(self, rows: Tensor, labels: Tensor | None) -> None:
        """Takes in a batch, ``[S, N]``."""

    def result(self) -> Any:
        """What was seen, as it is, or with a way in which it is brought together."""
        ...


def reader_of(forward: Forward, plan: NetworkPlan, *, n_samples: int, has_histogram: bool) -> Reader:
    """The reader for a model.

    Activations in the host's memory, of one rank and not too many, are handed over as they are: the sums that the
    correlation needs are then the worker's. Else they are summed where they are, and on an accelerator the edges are
    selected there too.
    """
    n_neurons = sum(layer.n_neurons for layer in plan.layers)
    host = forward.host
    if forward.device.type == "cpu" and host.world_size == 1 and n_samples * n_neurons <= _MAX_VALUES:
        return RowReader(n_neurons, has_histogram=has_histogram)
    return SumReader(
        plan,
        device=forward.moments_device,
        keep=max(2, _MAX_VALUES // (host.world_size * max(n_neurons, 1))) if has_histogram else 0,
        is_selecting=forward.moments_device.type != "cpu",
        is_measuring=host.is_global_zero,
    )


class RowReader(Reader):
    """Hands all rows over; for activations in the host's memory.

    They stand in one array that is used again for the next snapshot: fresh memory would cost more than the copy. Who
    measures has copied it, or is done with it, by then.
    """

    def __init__(self, n_neurons: int, *, has_histogram: bool) -> None:
        self._n_neurons, self._has_histogram = n_neurons, has_histogram
        self._rows = torch.empty(0, n_neurons, dtype=torch.float32)  # whatever the default is
        self._count = 0

    @override
    def begin(self, num_classes: int) -> None:
        self._num_classes, self._count = num_classes, 0
        self._labels: list[Tensor] = []

    @override
    def take(self, rows: Tensor, labels: Tensor | None) -> None:
        end = self._count + len(rows)
        dtype = torch.float64 if rows.dtype == torch.float64 else self._rows.dtype
        if end > len(self._rows) or dtype != self._rows.dtype:
            grown = torch.empty(max(end, 2 * self._count), self._n_neurons, dtype=dtype)
            grown[: self._count] = self._rows[: self._count]
            self._rows = grown
        self._rows[self._count : end] = rows.detach()
        self._count = end
        if labels is None or len(labels) != len(rows):
            labels = torch.full((len(rows),), -1)
        self._labels.append(labels.long().clamp(min=-1))

    @override
    def result(self) -> Rows:
        rows, self._count = self._rows[: self._count], 0
        return Rows(
            values=rows.numpy(),
            labels=torch.cat(self._labels).numpy() if self._num_classes and self._labels else None,
            num_classes=self._num_classes,
            has_histogram=self._has_histogram,
        )


class SumReader(Reader):
    """Sums where the activations are.

    Args:
        plan: What is measured of them.
        device: Where the sums are.
        keep: Rows that each rank keeps for the histogram entropy.
        is_selecting: Whether edges are selected there too. The matrix then crosses to the host only for what reads it.
        is_measuring: Whether this is the rank whose reading is measured; those of the others have no correlation.
    """

    def __init__(
        self, plan: NetworkPlan, *, device: torch.device, keep: int, is_selecting: bool, is_measuring: bool
    ) -> None:
        self._plan, self._device, self._keep = plan, device, keep
        self.is_selecting, self._is_measuring = is_selecting, is_measuring
        # Made once: a torchmetrics Metric is in a reference cycle, one a snapshot would pile up until a collection.
        self._correlation = RunningCorrelation(sum(layer.n_neurons for layer in plan.layers)).to(device)
        self._activity = self._statistics(0)

    @override
    def begin(self, num_classes: int) -> None:
        if num_classes != (self._activity.num_classes or 0):
            self._activity = self._statistics(num_classes)

    @override
    def take(self, rows: Tensor, labels: Tensor | None) -> None:
        self._correlation.update(rows)
        if self._activity.num_classes is None or labels is None or len(labels) != len(rows):
            self._activity.update(rows, None)
            return
        has_none = labels < 0
        if not has_none.all():
            self._activity.update(rows[~has_none], labels[~has_none])
        if has_none.any():
            self._activity.update(rows[has_none], None)

    @override
    def result(self) -> SumReader:
        return self

    def together(self, host: Host) -> Moments:
        """The sums of all ranks, which torchmetrics brings together; a collective."""
        if not self._correlation.update_called:
            empty = torch.empty(0, self._correlation.num_units, dtype=torch.float32)
            self._correlation.update(empty)
            self._activity.update(empty)
        try:
            correlation, summary = self._correlation.correlation(), self._activity.compute()
        finally:
            self._correlation.reset()
            self._activity.reset()
        is_crossing = self._is_measuring and (not self.is_selecting or _reads_matrix(self._plan))
        return Moments(
            summary.count,
            correlation.cpu().numpy() if is_crossing else None,
            summary.active_share,
            summary.class_active_share,
            summary.kept,
            summary.kept_labels,
            self._selections(correlation) if self._is_measuring and self.is_selecting else {},
        )

    def _statistics(self, num_classes: int) -> ActivationStatistics:
        n_neurons = self._correlation.num_units
        return ActivationStatistics(n_neurons, num_classes or None, keep=self._keep).to(self._device)

    def _selections(self, correlation: Tensor) -> dict[str, Selection]:
        """Of the whole network, and of the layers where they are measured."""
        return {
            part.scope: select_on_device(correlation[part.neurons, part.neurons], self._plan.graph.rule)
            for part in self._plan.parts()
        }


def _reads_matrix(plan: NetworkPlan) -> bool:
    """Whether anything needs more of the correlation than what is selected from it."""
    needs = {quantity.needs for quantity in plan.quantities()}
    return plan.save_correlation or plan.has_figures or bool(needs - {"selection"})
