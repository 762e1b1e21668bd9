"""The correlation between units, from batches that come one after the other and on several ranks."""

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional.correlation import DEAD_SHARE

_BLOCK = 512  # rows that are mirrored at once


class RunningCorrelation(Metric):
    """Pearson correlation between units, accumulated in float64 about a fixed shift.

    The result is within 1e-6 of a one-shot float64 computation, whatever the batches, their order and the
    number of ranks, even where a mean is 1e4 standard deviations from zero: the moments are taken about
    the mean of the first batch, which is drawn anew after each `reset`.

    Under `torch.distributed` the first `update` after a reset is a collective, in which the ranks agree on
    the mean of all their first batches: every rank calls `update` at least once, with an empty ``[0, N]``
    batch where it has no samples. Should all of them begin with an empty batch, the shift is zero.

    Unlike most metrics it computes a NumPy array: that is what the measures take, and torchmetrics would
    squeeze the ``[1, 1]`` tensor of a single unit to a scalar and copy that of many. `correlation` gives the
    tensor.

    Args:
        num_units: Number of units N.

    Cost: O(S N²) time a batch of S samples. Memory: three ``[N, N]`` float64 (the sum, its next value, and
        the zeros that torchmetrics resets to) and one float64 copy of the batch. The metric lives on a
        device that has float64; batches are brought to it.

    >>> metric = RunningCorrelation(2)
    >>> metric.update(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    >>> metric.update(torch.tensor([[2.0, -1.0]]))
    >>> metric.compute()
    array([[ 1., -1.],
           [-1.,  1.]])
    """

    # `update` reads the shift that the first batch since the reset has set, so `forward` may not add
    # the sums of a batch that were taken about another one.
    full_state_update = True
    is_differentiable = False
    higher_is_better = None

    count: Tensor
    total: Tensor
    products: Tensor
    peak: Tensor
    shift: Tensor

    def __init__(self, num_units: int) -> None:
        # No cache: it would hold one more [N, N] array between snapshots.
        super().__init__(compute_with_cache=False)
        if num_units < 0:
            raise FnetError(f"num_units must be at least 0; got {num_units}")
        self.num_units = num_units
        zeros = torch.zeros(num_units, dtype=torch.float64)
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", zeros.clone(), dist_reduce_fx="sum")
        self.add_state(
            "products", torch.zeros(num_units, num_units, dtype=torch.float64), dist_reduce_fx="sum"
        )
        self.add_state("peak", zeros.clone(), dist_reduce_fx="max")
        # NaN until it is chosen. Equal on all ranks; the maximum of equals is exact, a mean is not.
        self.add_state("shift", torch.full_like(zeros, torch.nan), dist_reduce_fx="max")

    def update(self, activations: Tensor) -> None:
        """Add a batch.

        Args:
            activations: ``[S, N]``, any floating point type; S may be 0. A unit with a value that is not
                finite is dead from then on and does not touch the others.

        Raises:
            FnetError: ``activations`` does not have N columns, or is not floating point.
        """
        if activations.ndim != 2 or activations.shape[1] != self.num_units:
            raise FnetError(
                f"activations must be [samples, {self.num_units}]; got shape {tuple(activations.shape)}"
            )
        if not activations.is_floating_point():
            raise FnetError(f"activations must be floating point; got {activations.dtype}")
        activations = activations.detach().to(self.products.device)
        with torch.autocast(activations.device.type, enabled=False):
            if self.shift.isnan().all():
                self._choose_shift(activations)
            if len(activations):
                self._add(activations)

    def compute(self) -> np.ndarray:
        """Correlation over everything seen, on every rank.

        Returns:
            ``[N, N]`` float64, as `fnet_callbacks.functional.correlation_matrix` describes it: NaN in the
            rows and columns of dead units, all NaN below two samples.
        """
        return self._from_sums().cpu().numpy()

    def correlation(self) -> Tensor:
        """What `compute` gives, as a tensor on the metric's device; under `torch.distributed` a collective.

        Cost: O(N²) time; the result is the only ``[N, N]`` array beside the sums, and nothing crosses to the host.
        """
        with self.sync_context():
            return self._from_sums()

    def _from_sums(self) -> Tensor:
        # What `correlation_from_moments` does, in operations that round alike: on the CPU `rsqrt` is exact in
        # both of its steps where `sqrt` is not, and CUDA divides by a tensor exactly, by a number it does not.
        offset = self.total / self.count
        correlation = torch.outer(offset, self.total)
        torch.sub(self.products, correlation, out=correlation)
        deviations = correlation.diagonal().clone()
        variance = deviations / self.count
        negligible = DEAD_SHARE * ((self.shift + offset).square() + self.peak.square())
        live = (self.count > 1) & (variance > negligible) & variance.isfinite()
        scale = torch.where(live, deviations.rsqrt(), torch.nan)
        correlation.mul_(scale[:, None]).mul_(scale).clamp_(-1.0, 1.0)
        correlation.diagonal().copy_(torch.where(live, 1.0, torch.nan))
        _mirror_upper(correlation)
        return correlation

    def _choose_shift(self, activations: Tensor) -> None:
        sums = activations.sum(dim=0, dtype=torch.float64)
        seen = torch.cat([sums, sums.new_tensor([len(activations)])])
        if self.distributed_available_fn():
            torch.distributed.all_reduce(seen)
        elif not len(activations):
            return  # the next batch may have rows
        # Finite, for NaN means not chosen: a rank that chose again would be alone in the collective.
        self.shift = torch.nan_to_num(seen[:-1] / seen[-1].clamp(min=1), nan=0.0, posinf=0.0, neginf=0.0)

    def _add(self, activations: Tensor) -> None:
        centred = activations - self.shift  # float64 by promotion: the one copy of the batch
        self.count = self.count + len(centred)
        self.total = self.total + centred.sum(dim=0)
        # Not in place: a state made in inference mode must take updates outside of it.
        self.products = torch.addmm(self.products, centred.T, centred)
        self.peak = torch.maximum(self.peak, activations.abs().amax(dim=0).double())


def _mirror_upper(matrix: Tensor) -> None:
    for start in range(0, len(matrix), _BLOCK):
        rows, rest = slice(start, start + _BLOCK), slice(start + _BLOCK, None)
        corner = matrix[rows, rows]
        upper = torch.ones_like(corner, dtype=torch.bool).triu_()
        corner.copy_(torch.where(upper, corner, corner.T))
        matrix[rest, rows] = matrix[rows, rest].T
