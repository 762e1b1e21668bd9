"""The correlation between units, from batches that come one after the other and on several ranks."""

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from fnet_callbacks.checks import checked_integer, checked_tensor
from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional.correlation import DEAD_SHARE

_BLOCK = 512  # rows that are mirrored at once


class RunningCorrelation(Metric):
    """Pearson correlation between units, accumulated in float64 about a fixed shift.

    The result is within 1e-6 of a one-shot float64 computation, whatever the batches, their order and the
    number of ranks, even where a mean is 1e4 standard deviations from zero: the moments are taken about
    the mean of the first batch, which is drawn anew after each `reset`.

    Under `torch.distributed` each rank has a shift of its own, and their sums are brought together about the mean of
    all: `update` is no collective, so that a rank on which something fails leaves no other waiting in one.

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
        self.num_units = num_units = checked_integer("num_units", num_units, at_least=0)
        zeros = torch.zeros(num_units, dtype=torch.float64)
        # Over ranks they are stacked; `_pooled` unites them.
        self.add_state("count", torch.tensor(0))
        self.add_state("total", zeros.clone())
        self.add_state("products", torch.zeros(num_units, num_units, dtype=torch.float64))
        self.add_state("peak", zeros.clone())
        self.add_state("shift", torch.full_like(zeros, torch.nan))  # until it is chosen

    def update(self, activations: Tensor) -> None:
        """Add a batch.

        Args:
            activations: ``[S, N]``, any floating point type; S may be 0. A unit with a value that is not
                finite is dead from then on and does not touch the others.

        Raises:
            FnetError: ``activations`` does not have N columns, or is not floating point.
        """
        activations = checked_tensor("activations", activations, floating=True)
        if activations.ndim != 2 or activations.shape[1] != self.num_units:
            raise FnetError(
                f"activations must be [samples, {self.num_units}]; got shape {tuple(activations.shape)}"
            )
        activations = activations.detach().to(self.products.device)
        with torch.autocast(activations.device.type, enabled=False):
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
        count, total, products, shift, peak = self._pooled()
        offset = total / count
        correlation = torch.outer(offset, total)
        torch.sub(products, correlation, out=correlation)
        deviations = correlation.diagonal().clone()
        variance = deviations / count
        negligible = DEAD_SHARE * ((shift + offset).square() + peak.square())
        live = (count > 1) & (variance > negligible) & variance.isfinite()
        scale = torch.where(live, deviations.rsqrt(), torch.nan)
        correlation.mul_(scale[:, None]).mul_(scale).clamp_(-1.0, 1.0)
        correlation.diagonal().copy_(torch.where(live, 1.0, torch.nan))
        _mirror_upper(correlation)
        return correlation

    def _pooled(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Count, total, products, shift and peak over all ranks; one rank's are left as they are."""
        if self.count.ndim == 0:
            return self.count, self.total, self.products, self.shift, self.peak
        seeing = self.count > 0
        counts, totals, shifts = self.count[seeing, None], self.total[seeing], self.shift[seeing]
        count = self.count.sum()
        shift = torch.nan_to_num((counts * shifts + totals).sum(0) / count, nan=0.0, posinf=0.0, neginf=0.0)
        total, products = torch.zeros_like(shift), torch.zeros_like(self.products[0])
        for n, own, sums, by in zip(counts, totals, self.products[seeing], shifts - shift, strict=True):
            total += own + n * by
            products += sums
            products.addr_(by, own).addr_(own + n * by, by)
        return count, total, products, shift, self.peak.amax(0)

    def _add(self, activations: Tensor) -> None:
        if self.shift.isnan().all():
            mean = activations.sum(dim=0, dtype=torch.float64) / len(activations)
            self.shift = torch.nan_to_num(mean, nan=0.0, posinf=0.0, neginf=0.0)  # NaN means not chosen
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
