"""The clusters that activation patterns make of inputs, and the affine map that a network is on each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fnet_callbacks.arguments import as_choice, as_integer, plain, refused
from fnet_callbacks.capture.isolation import isolated
from fnet_callbacks.capture.logits import LogitsModel
from fnet_callbacks.errors import FnetError
from fnet_callbacks.regions.maps import TOLERANCE, affine_maps
from fnet_callbacks.regions.merging import (
    Merged,
    contrasts,
    merged_by_coefficients,
    merged_by_fit,
    merged_by_hamming,
    predicted,
)
from fnet_callbacks.regions.patterns import Patterns, activation_patterns


@dataclass(frozen=True, slots=True)
class ReLURegionsResult:
    """Inputs by the linear region that they are in; K regions, of which the R largest have a map.

    Attributes:
        labels: Region of each input, ``[S]``, from 0 for the one with most inputs; those below R have a map.
        sizes: Inputs in each region, ``[K]``, falling.
        weights: Of the maps, ``[R, C, D]`` float64.
        biases: Of the maps, ``[R, C]`` float64.
        errors: The largest difference of a map's outputs and the network's over the members, as a share of the largest
            absolute output, ``[R]``.
        outputs: Of the network, ``[S, C]`` float64.
        inputs: Flattened, ``[S, D]`` float64.
        targets: Class of each input, ``[S]``; None where none were given.
        patterns: The activation patterns.
    """

    labels: np.ndarray = field(repr=False)
    sizes: np.ndarray
    weights: np.ndarray = field(repr=False)
    biases: np.ndarray = field(repr=False)
    errors: np.ndarray = field(repr=False)
    outputs: np.ndarray = field(repr=False)
    inputs: np.ndarray = field(repr=False)
    targets: np.ndarray | None = field(repr=False)
    patterns: Patterns = field(repr=False)

    @property
    def n_regions(self) -> int:
        """K."""
        return len(self.sizes)

    @property
    def n_singletons(self) -> int:
        """Regions of a single input."""
        return int((self.sizes == 1).sum())

    @property
    def predictions(self) -> np.ndarray:
        """Class that the network gives each input, ``[S]``; of one output, whether it is above 0."""
        return predicted(self.outputs)

    @property
    def purity(self) -> np.ndarray:
        """Share of the commonest class in each region, ``[K]``; NaN without targets."""
        if self.targets is None:
            return np.full(self.n_regions, math.nan)
        return purities(self.labels, self.targets)

    @property
    def accuracy(self) -> np.ndarray:
        """Share of each region's inputs that the network gets right, ``[K]``; NaN without targets."""
        if self.targets is None:
            return np.full(self.n_regions, math.nan)
        hits = np.bincount(self.labels, self.predictions == self.targets, minlength=self.n_regions)
        return hits / self.sizes

    def importance(self) -> np.ndarray:
        """How much each feature counts in each region that has a map, ``[R, D]``, rows that sum to 1.

        The mean over members of the absolute coefficient of the feature for the class that the network gives the
        member, times the feature's standard deviation over all inputs. Coefficients are taken less their mean over
        classes, which no prediction depends on. A row is 0 where all coefficients are.

        Reference: after Picchiotti & Gori (2021), arXiv 2110.06593; the definition is our assumption.
        """
        contrast = contrasts(self.weights)
        scale = self.inputs.std(axis=0)
        chosen = self.predictions if contrast.shape[1] > 1 else np.zeros(len(self.labels), np.int64)
        found = np.zeros((len(contrast), contrast.shape[2]))
        for region in range(len(contrast)):
            classes, counts = np.unique(chosen[self.labels == region], return_counts=True)
            found[region] = np.average(np.abs(contrast[region, classes]), axis=0, weights=counts) * scale
        total = found.sum(axis=1, keepdims=True)
        return found / np.where(total > 0, total, 1)

    def contributions(self, sample: int) -> np.ndarray:
        """What each feature of an input adds to each output, ``[C, D]``: with the bias they sum to the output.

        Args:
            sample: Its place among the inputs.

        Raises:
            FnetError: There is no such input, or its region has no map.
        """
        sample = plain("sample", sample)
        if not isinstance(sample, int) or not 0 <= sample < len(self.labels):
            raise refused("sample", sample, f"from 0 to {len(self.labels) - 1}")
        region = int(self.labels[sample])
        if region >= len(self.weights):
            raise FnetError(
                f"`sample={sample}` is in a region of {self.sizes[region]}, which has no map; take a smaller "
                "`min_members`"
            )
        return self.weights[region] * self.inputs[sample]

    def similarity(self) -> np.ndarray:
        """Cosine between the coefficients of regions that have a map, less their means over classes; ``[R, R]``."""
        rows = contrasts(self.weights).reshape(len(self.weights), -1)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = rows / np.where(lengths > 0, lengths, 1)
        return np.clip(rows @ rows.T, -1, 1)

    def merged(
        self, max_regions: int = 10, *, by: Literal["fit", "coefficients", "hamming"] = "fit"
    ) -> Merged:
        """Few regions, and how faithful they are to the network.

        Args:
            max_regions: How many at most.
            by: ``"coefficients"`` joins regions whose coefficients are alike, by average linkage of their cosine, and
                gives inputs without a map to the region with the nearest pattern. ``"fit"`` starts from there, gives
                each region to the map that fits its members best, fits the maps again, and so on. ``"hamming"`` keeps
                the largest regions and gives every other input to the one with the nearest pattern.

        Raises:
            FnetError: ``max_regions`` is below 1, ``by`` is unknown, or no region has a map.

        Cost: O(R² + R K) for coefficients, for a fit some tens of passes over the inputs, O(K R) for patterns.
        """
        max_regions = as_integer("max_regions", max_regions, at_least=1)
        ways = {"fit": merged_by_fit, "coefficients": merged_by_coefficients, "hamming": merged_by_hamming}
        by = as_choice("by", by, tuple(ways))
        if not len(self.weights):
            raise FnetError("no region has a map to be merged; take a smaller `min_members`")
        return ways[by](self, max_regions)


def relu_regions(
    model: nn.Module,
    inputs: Tensor,
    *,
    targets: Tensor | np.ndarray | None = None,
    min_members: int = 10,
    output_to_logits: Callable[[Any], Tensor] | None = None,
    batch_size: int = 512,
) -> ReLURegionsResult:
    """Groups inputs by the linear region of a piecewise-linear network that they are in, with the affine map on each.

    A region is an activation pattern: which ReLUs are active (Hardtanh and ReLU6 have three states, LeakyReLU, PReLU
    and Threshold two), and which entries max-pooling takes. On it the network is ``y = W x + b``, exactly. In a wide
    network nearly every input has a region of its own.

    Args:
        model: Of linear layers, convolutions, BatchNorm, pooling and the units above, as modules or functional calls;
            it is run in eval mode and left as it was.
        inputs: ``[S, ...]`` floating point, D numbers each.
        targets: Class of each, ``[S]`` integers.
        min_members: Inputs that a region must have to get a map; the rest are counted. 1 for all.
        output_to_logits: From what the model returns to outputs ``[S, C]``; piecewise linear.
        batch_size: Inputs that are shown at once.

    Raises:
        CaptureError: The model is not piecewise linear; the message names the operation.
        FnetError: An argument is out of range, shapes do not fit, inputs or outputs are not finite, or a map is not
            what the model computes, at a member or elsewhere on its pieces.

    Reference: Picchiotti & Gori (2021), Clustering-based interpretation of deep ReLU network, arXiv 2110.06593.
    Cost: one forward pass, a sort of S patterns, and C backward passes for each region that gets a map (a matrix
        product a layer in a fully connected network).
    """
    min_members = as_integer("min_members", min_members, at_least=1)
    batch_size = as_integer("batch_size", batch_size, at_least=1)
    if (
        not isinstance(inputs, Tensor)
        or not inputs.is_floating_point()
        or inputs.dim() < 2
        or not len(inputs)
    ):
        raise FnetError(
            "`inputs` should be a tensor [S, ...] of floating-point numbers, with one sample at least"
        )
    classes = (
        None if targets is None else np.asarray(targets.cpu() if isinstance(targets, Tensor) else targets)
    )
    if classes is not None and classes.dtype == bool:
        classes = classes.astype(np.int64)
    if classes is not None and (
        classes.shape != (len(inputs),) or not np.issubdtype(classes.dtype, np.integer)
    ):
        raise FnetError(
            f"`targets` should be integers [{len(inputs)}], got {classes.dtype} {list(classes.shape)}"
        )
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    inputs = inputs.detach().to(device)
    flat = inputs.flatten(1).double().cpu().numpy()
    if not np.isfinite(flat).all():
        raise FnetError("`inputs` hold NaN or infinite values, which are in no region")
    call = None if output_to_logits is None else LogitsModel(model, output_to_logits)
    with isolated(model, seed=0, device=device):
        try:
            patterns = activation_patterns(model, inputs.split(batch_size), output_to_logits=output_to_logits)
        except RuntimeError as error:
            raise FnetError(
                f"`inputs` of shape {list(inputs.shape)} and {inputs.dtype}: the model fails on them: {error}"
            ) from error
        outputs = _outputs(patterns.outputs)
        labels = patterns.groups()
        sizes = np.bincount(labels)
        n_maps = int((sizes >= min_members).sum())
        _, first = np.unique(labels, return_index=True)
        weights, biases = np.empty((0, outputs.shape[1], flat.shape[1])), np.empty((0, outputs.shape[1]))
        if n_maps:
            found = affine_maps(model, inputs[torch.from_numpy(first[:n_maps]).to(device)], call=call)
            weights, biases = (part.detach().double().cpu().numpy() for part in found)
    errors = _errors(labels, weights, biases, flat, outputs)
    if not (errors <= TOLERANCE).all():
        raise FnetError(
            f"the affine map of a region misses the network's outputs by {errors.max():.2g} of the largest: the model "
            "computes something that depends on other samples, or its numbers are too coarse; take float32 or float64"
        )
    return ReLURegionsResult(labels, sizes, weights, biases, errors, outputs, flat, classes, patterns)


def _outputs(found: Sequence[Any]) -> np.ndarray:
    """``[S, C]`` float64."""
    for output in found:
        if not isinstance(output, Tensor) or output.dim() != 2:
            got = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise FnetError(f"the model's output should be logits [S, C], got {got}; pass `output_to_logits`")
    outputs = torch.cat(list(found)).double().cpu().numpy()
    if not np.isfinite(outputs).all():
        raise FnetError("the model's outputs hold NaN or infinite values")
    return outputs


def purities(labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Share of the commonest class in each group, ``[K]``."""
    classes, of_each = np.unique(targets, return_inverse=True)
    counts = np.zeros((labels.max() + 1, len(classes)))
    np.add.at(counts, (labels, of_each), 1)
    return counts.max(axis=1) / counts.sum(axis=1)


def _errors(
    labels: np.ndarray, weights: np.ndarray, biases: np.ndarray, inputs: np.ndarray, outputs: np.ndarray
) -> np.ndarray:
    """The largest difference from the network over each region's members, over the largest absolute output."""
    scale = np.abs(outputs).max() or 1.0
    found = np.zeros(len(weights))
    for region in range(len(weights)):
        own = labels == region
        told = inputs[own] @ weights[region].T + biases[region]
        found[region] = np.abs(told - outputs[own]).max() / scale
    return found
