"""What the entropies need of the activations: how often each unit is active, and some values of it."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from fnet_callbacks.checks import checked_integer, checked_tensor
from fnet_callbacks.errors import FnetError


class ActivationSummary(NamedTuple):
    """What `ActivationStatistics` has seen, on every rank.

    Attributes:
        count: Number of samples S.
        active_share: Share of samples in which each unit is active, ``[N]`` float64; NaN without samples.
        class_active_share: The same within each class, ``[C, N]`` float64; NaN for a class without samples,
            None where no labels were given.
        kept: The activations themselves, ``[S', N]`` float32, None where ``keep`` is 0.
        kept_labels: Their classes, ``[S']`` int64, -1 for a row that came without; None where ``keep`` is 0.
    """

    count: int
    active_share: np.ndarray
    class_active_share: np.ndarray | None
    kept: np.ndarray | None
    kept_labels: np.ndarray | None


class ActivationStatistics(Metric):
    """Counts of active samples for each unit, over all and within each class. Active means above zero.

    Args:
        num_units: Number of units N.
        num_classes: Number of classes C; None where there are no labels.
        keep: How many activations (rows) each rank keeps for a histogram, the first it sees. They take
            ``4 keep N`` bytes on each rank and that times the number of ranks in `compute`; 0 keeps none.

    Under `torch.distributed` every rank calls `update` at least once, with an empty ``[0, N]`` batch where it
    has no samples. NaN is not active.

    Cost: O(S N) time a batch, O((C + keep) N) memory.

    >>> metric = ActivationStatistics(2, num_classes=2)
    >>> metric.update(torch.tensor([[1.0, -1.0], [0.0, 3.0]]), torch.tensor([0, 1]))
    >>> metric.compute().class_active_share
    array([[1., 0.],
           [0., 1.]])
    """

    # How many rows are still kept depends on what the state already holds.
    full_state_update = True
    is_differentiable = False
    higher_is_better = None

    count: Tensor
    active: Tensor
    class_count: Tensor
    class_active: Tensor
    kept: list[Tensor]
    kept_labels: list[Tensor]

    def __init__(self, num_units: int, num_classes: int | None = None, *, keep: int = 0) -> None:
        super().__init__()
        self.num_units = num_units = checked_integer("num_units", num_units, at_least=0)
        if num_classes is not None:
            num_classes = checked_integer("num_classes", num_classes, at_least=1)
        self.num_classes = num_classes
        self.keep = keep = checked_integer("keep", keep, at_least=0)
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("active", torch.zeros(num_units, dtype=torch.int64), dist_reduce_fx="sum")
        if num_classes is not None:
            self.add_state("class_count", torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")
            self.add_state(
                "class_active", torch.zeros(num_classes, num_units, dtype=torch.int64), dist_reduce_fx="sum"
            )
        if keep:
            self.add_state("kept", [], dist_reduce_fx="cat")
            self.add_state("kept_labels", [], dist_reduce_fx="cat")

    def update(self, activations: Tensor, labels: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            activations: ``[S, N]``; S may be 0.
            labels: Class of each sample, ``[S]``, integer in ``[0, C)``; a batch without them counts
                towards the whole only.

        Raises:
            FnetError: ``activations`` does not have N columns; ``labels`` does not have S entries, is not
                integer or out of range, or comes where ``num_classes`` is None.
        """
        activations = checked_tensor("activations", activations)
        if activations.ndim != 2 or activations.shape[1] != self.num_units:
            raise FnetError(
                f"activations must be [samples, {self.num_units}]; got shape {tuple(activations.shape)}"
            )
        activations = activations.detach().to(self.active.device)
        active = (activations > 0).long()
        if labels is not None:
            labels = self._checked(labels, len(activations))
            self.class_count = self.class_count.index_add(0, labels, torch.ones_like(labels))
            self.class_active = self.class_active.index_add(0, labels, active)
        self.count = self.count + len(activations)
        self.active = self.active + active.sum(dim=0)
        if self.keep:
            self._keep(activations, labels)

    def compute(self) -> ActivationSummary:
        """Shares and kept activations of all ranks, as NumPy arrays."""
        count = int(self.count)
        return ActivationSummary(
            count=count,
            active_share=_share(self.active, self.count),
            class_active_share=self._class_active_share(),
            kept=self._kept_rows() if self.keep else None,
            kept_labels=self._kept_labels() if self.keep else None,
        )

    def _checked(self, labels: Tensor, n_samples: int) -> Tensor:
        if self.num_classes is None:
            raise FnetError("labels were given, but num_classes is None; say how many classes there are")
        if checked_tensor("labels", labels).shape != (n_samples,):
            raise FnetError(f"labels must be [{n_samples}], one a sample; got shape {tuple(labels.shape)}")
        if labels.is_floating_point():
            raise FnetError(f"labels must be integer; got {labels.dtype}")
        labels = labels.to(self.active.device).long()
        if ((labels < 0) | (labels >= self.num_classes)).any():
            raise FnetError(
                f"labels must lie in [0, {self.num_classes}); got {int(labels.min())} to {int(labels.max())}"
            )
        return labels

    def _keep(self, activations: Tensor, labels: Tensor | None) -> None:
        room = self.keep - sum(map(len, self.kept))
        # The first piece is kept even when empty: ranks gather [0, N], not a shape of their own.
        if room or not self.kept:
            self.kept.append(activations[:room].float().clone())
            none = torch.full((len(activations),), -1, device=activations.device)
            self.kept_labels.append((none if labels is None else labels)[:room].clone())

    def _class_active_share(self) -> np.ndarray | None:
        if self.num_classes is None or not self.class_count.any():
            return None
        return _share(self.class_active, self.class_count[:, None])

    def _kept_rows(self) -> np.ndarray:
        if not len(self.kept):
            return np.empty((0, self.num_units), dtype=np.float32)
        return dim_zero_cat(self.kept).cpu().numpy()

    def _kept_labels(self) -> np.ndarray:
        if not len(self.kept_labels):
            return np.empty(0, dtype=np.int64)
        return dim_zero_cat(self.kept_labels).cpu().numpy()


def _share(part: Tensor, whole: Tensor) -> np.ndarray:
    return (part.double() / whole).cpu().numpy()  # 0 / 0 is NaN
