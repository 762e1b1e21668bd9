"""What a classifier gets wrong when groups of units are lesioned, many groups at once.

The activations up to the lesioned layer are computed once, and the rest of the model is run on all lesions stacked.
Where the model cannot be cut there, the whole of it is run on stacked inputs, and a hook lesions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from fnet_callbacks.attacks import correct_predictions
from fnet_callbacks.capture.batch import Batch, count_samples
from fnet_callbacks.capture.batches import logits_of
from fnet_callbacks.capture.layers import Layer
from fnet_callbacks.errors import CaptureError, FnetError
from fnet_callbacks.specialization.cutting import Cut, State, prepared

Replacement = Literal["zero", "mean", "resample"]
_MAX_SAMPLES = 4096  # that are stacked: what follows is found in the cache
_MAX_NUMBERS = 2**25  # of the layer's activation that are stacked


class LayerLesions:
    """Lesions of one layer of a classifier.

    The caller sees to it that the model is in eval mode, that gradients are off and that nothing it does lasts; see
    ``capture.isolation``. Weights are never changed.

    Args:
        model: The classifier, or what comes before ``output_to_logits``.
        layer: The lesioned layer, with its samples on the first axis and not folded.
        batches: The samples, with labels; at least one batch.
        num_classes: C.
        replacement: What a lesioned unit shows: 0, its mean over the samples (at each position), or, at each sample,
            what it shows at another one, drawn once.
        output_to_logits: From what the model returns to logits ``[S, C]``; None where it returns them.
        seed: Of the draw.

    Raises:
        FnetError: ``replacement`` is unknown, there is no batch, or the layer cannot be lesioned.

    Reference: the lesions are those of Hod et al. (2021), arXiv 2110.08058, by zeroed outputs.
    Cost: one pass over the samples and the activations of the layer in memory.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: Layer,
        batches: Sequence[Batch],
        *,
        num_classes: int,
        replacement: Replacement = "zero",
        output_to_logits: Callable[[Any], Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        if replacement not in get_args(Replacement):
            raise FnetError(
                f"`replacement={replacement!r}` should be one of {', '.join(get_args(Replacement))}"
            )
        if not batches:
            raise FnetError("`batches` are empty; there should be one at least")
        if layer.batch_axis != 0 or layer.is_folded:
            raise CaptureError(
                f"layer {layer.name}: its samples are not on the first axis, so that it is not lesioned"
            )
        self._layer, self._batches, self._num_classes = layer, batches, num_classes
        self._output_to_logits = output_to_logits
        inputs = [batch.inputs for batch in batches]
        self._tail, self._states, self._is_stacked = prepared(model, layer, inputs)
        self._replacements = self._replaced(replacement, seed)

    @property
    def is_cut(self) -> bool:
        """Whether the model is run from the layer on, and not as a whole."""
        return isinstance(self._tail, Cut)

    @property
    def n_samples(self) -> int:
        """S."""
        return count_samples(self._batches)

    def intact(self) -> np.ndarray:
        """Accuracy without a lesion, ``[C]``; NaN for a class that no sample has."""
        return self.accuracies([np.empty(0, np.int64)])[0]

    def accuracies(self, groups: Sequence[np.ndarray]) -> np.ndarray:
        """Accuracy in each class with each group of units lesioned.

        Args:
            groups: Indices of units, G arrays.

        Returns:
            ``[G, C]`` float64; NaN for a class that no sample has.

        Raises:
            FnetError: A unit is not of the layer.

        Cost: G times the pass from the layer on; of the first linear layer or convolution after it only what the
            lesioned units bring to it.
        """
        units = [torch.from_numpy(np.asarray(group, np.int64)) for group in groups]
        if any(len(u) and (u.min() < 0 or u.max() >= self._layer.n_units) for u in units):
            raise FnetError(f"`groups`: layer {self._layer.name} has units 0 to {self._layer.n_units - 1}")
        hits = torch.zeros(len(groups), self._num_classes, dtype=torch.float64)
        totals = torch.zeros(self._num_classes, dtype=torch.float64)
        for batch, state, replacement in zip(self._batches, self._states, self._replacements, strict=True):
            labels, n = batch.classes.cpu(), len(batch.classes)
            totals.index_add_(0, labels, torch.ones(n, dtype=torch.float64))
            at_once = min(_MAX_SAMPLES // n, _MAX_NUMBERS // state.shown.numel())
            step = max(1, at_once) if self._is_stacked else 1
            for start in range(0, len(groups), step):
                own = [u.to(batch.classes.device) for u in units[start : start + step]]
                logits = self._logits(state, own, replacement)
                right = correct_predictions(logits, batch.classes.repeat(len(own))).view(len(own), n).cpu()
                hits[start : start + step].index_add_(1, labels, right.double())
        return (hits / torch.where(totals > 0, totals, torch.nan)).numpy()

    def _logits(self, state: State, units: Sequence[Tensor], replacement: Tensor) -> Tensor:
        found = logits_of(self._tail.run(state, units, replacement), self._output_to_logits)
        if found.dim() > 1 and found.shape[1] > 1 and self._num_classes > found.shape[1]:
            raise FnetError(f"labels go up to {self._num_classes - 1}, the model has {found.shape[1]} logits")
        return found

    def _replaced(self, replacement: Replacement, seed: int) -> list[Tensor]:
        shown = [state.shown for state in self._states]
        if replacement != "zero" and len({values.shape[1:] for values in shown}) > 1:
            raise FnetError(
                f"`replacement={replacement!r}` needs samples of one shape; layer {self._layer.name} shows several"
            )
        if replacement == "zero":
            return [torch.zeros_like(values[:1]) for values in shown]
        if replacement == "mean":
            wide = torch.promote_types(shown[0].dtype, torch.float32)
            sums = torch.stack([values.sum(0, keepdim=True, dtype=wide) for values in shown])
            return [(sums.sum(0) / sum(map(len, shown))).to(shown[0].dtype)] * len(shown)
        n = sum(map(len, shown))
        if n < 2:
            raise FnetError("`replacement='resample'` needs two samples at least")
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        other = torch.empty_like(order)
        other[order] = order.roll(1)  # none is its own
        return list(torch.cat(shown)[other.to(shown[0].device)].split([len(values) for values in shown]))
