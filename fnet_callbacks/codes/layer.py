"""The functional codes of one layer: a map of what its units show, and what it says."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fnet_callbacks import functional as F
from fnet_callbacks.arguments import plain, refused
from fnet_callbacks.checks import checked_integer, checked_tensor, short_repr
from fnet_callbacks.codes.measures import (
    code_entropy,
    compactness,
    live_scale,
    map_distance,
    normalized_mutual_information,
    participation_ratio,
)
from fnet_callbacks.codes.som import SelfOrganizingMap, checked_sides, train_map
from fnet_callbacks.errors import FnetError

Grid = tuple[int, int]


@dataclass(frozen=True, slots=True)
class LayerCodes:
    """What a layer showed of S samples, as codes, and a self-organising map of them.

    A code has an entry for each unit (and, with maxima, another), standardised over the samples; an entry that does not
    vary is 0. The *functional code* of a sample is the unit of the map that is nearest to its code.

    Attributes:
        name: The layer's.
        mean: What was subtracted, ``[D]`` float64.
        scale: What was divided by, ``[D]`` float64; infinite where the entry does not vary.
        map: Of the standardised codes.
        codes: Standardised, ``[S, D]``.
        units: Functional code of each sample, ``[S]``.
        quantization_error: Mean distance of codes from those of their units; it grows as the root of D.
        topographic_error: Share of samples whose two nearest units are no neighbours.
        used_units: Units that are some sample's.
        code_entropy: Entropy of the functional codes, a share of the largest that there can be, in [0, 1]; NaN for one
            unit or sample.
        participation_ratio: How many principal components the codes spread over, in [1, min(S - 1, D)]; NaN where no
            entry varies.
        label_nmi: Normalised mutual information of functional code and label, over samples that have one, in [0, 1];
            NaN without labels, as the next, or with one class.
        label_ami: The same, adjusted for chance.
        prediction_nmi: Of functional code and predicted class.
        prediction_ami: The same, adjusted for chance.
        compactness: How close the codes of a class lie on the map, beside the same with shuffled labels: about 1 where
            they lie anywhere, 0 where each class has a unit of its own.
        map_distance: From the map of the layer before, the last that has codes: Procrustes disparity, in [0, 1], 0 for
            one picture; NaN for the first.
    """

    name: str
    mean: Tensor = field(repr=False)
    scale: Tensor = field(repr=False)
    map: SelfOrganizingMap
    codes: Tensor = field(repr=False)
    units: np.ndarray = field(repr=False)
    quantization_error: float
    topographic_error: float
    used_units: float
    code_entropy: float
    participation_ratio: float
    label_nmi: float = math.nan
    label_ami: float = math.nan
    prediction_nmi: float = math.nan
    prediction_ami: float = math.nan
    compactness: float = math.nan
    map_distance: float = math.nan

    @property
    def places(self) -> np.ndarray:
        """Row and column of each sample's unit on the map, ``[S, 2]``."""
        return np.stack(np.divmod(self.units, self.map.grid[1]), axis=1)

    @property
    def n_live(self) -> int:
        """Entries of the code that vary."""
        return int(torch.isfinite(self.scale).sum())

    def standardized(self, values: Tensor) -> Tensor:
        """Codes of what the layer shows of other samples, ``[S', D]``.

        Raises:
            FnetError: They have another number of entries.
        """
        if checked_tensor("values", values).dim() != 2 or values.shape[1] != len(self.mean):
            raise FnetError(f"`values` should be [S, {len(self.mean)}], got {list(values.shape)}")
        return ((values.double() - self.mean) / self.scale).to(self.codes)

    def of_labels(self, labels: np.ndarray, predictions: np.ndarray | None) -> LayerCodes:
        """With what the codes know of classes; a label below 0 is none."""
        has = labels >= 0
        found = replace(
            self,
            label_nmi=normalized_mutual_information(self.units[has], labels[has]),
            label_ami=_adjusted(self.units[has], labels[has]),
            compactness=compactness(self.places[has], labels[has]),
        )
        if predictions is None:
            return found
        return replace(
            found,
            prediction_nmi=normalized_mutual_information(self.units, predictions),
            prediction_ami=_adjusted(self.units, predictions),
        )

    def after(self, before: LayerCodes) -> LayerCodes:
        """With the distance from the map of the layer before."""
        return replace(self, map_distance=map_distance(before.places, self.places))


# Of a layer, in the order of `LayerCodes`; the second lot is of labelled samples.
MEASURES = (
    "quantization_error",
    "topographic_error",
    "used_units",
    "code_entropy",
    "participation_ratio",
    "map_distance",
)
LABEL_MEASURES = ("label_nmi", "label_ami", "prediction_nmi", "prediction_ami", "compactness")


def default_grid(n_samples: int) -> Grid:
    """A square of about ``5 sqrt(S)`` units, and never more of them than samples.

    Raises:
        FnetError: ``n_samples`` is no integer, or negative.

    Reference: Vesanto & Alhoniemi (2000), IEEE Trans. Neural Networks 11, 586, for the number.
    """
    n_samples = checked_integer("n_samples", n_samples, at_least=0)
    side = max(1, min(round(math.sqrt(5 * math.sqrt(n_samples))), math.isqrt(n_samples)))
    return side, side


def as_grid(value: Any) -> Grid | None:
    """Rows and columns, or None, in plain Python.

    Raises:
        FnetError: They are no integers of at least 1.
    """
    value = plain("grid", value)
    if value is None:
        return None
    sides = tuple(value) if isinstance(value, list) else ()
    if len(sides) != 2 or not all(isinstance(n, int) and n is not True and n >= 1 for n in sides):
        raise refused("grid", sides or value, "rows and columns, integers of at least 1, or None")
    return sides


def checked_grid(grid: Any, n_samples: int) -> Grid:
    """Rows and columns for so many samples.

    Raises:
        FnetError: They are no integers of at least 1, or more units than samples.
    """
    if (sides := as_grid(grid)) is None:
        return default_grid(n_samples)
    n_samples = checked_integer("n_samples", n_samples, at_least=0)
    if math.prod(sides) > n_samples:
        raise FnetError(
            f"`grid={sides!r}` has {math.prod(sides)} units, more than the {n_samples} samples; take a smaller grid"
        )
    return sides


def layer_codes(
    name: str, values: Tensor, grid: Grid, *, initial: SelfOrganizingMap | None = None
) -> LayerCodes:
    """Standardises what a layer showed, trains a map of it, and measures both.

    Args:
        name: The layer's.
        values: ``[S, D]``.
        grid: Rows and columns of the map.
        initial: Where the map starts, such as that of the last snapshot; left aside where it does not fit.

    Raises:
        FnetError: ``values`` is not ``[S, D]`` or not finite, ``grid`` no grid, or ``initial`` no map.

    Cost: see ``train_map``.
    """
    grid = checked_sides(grid)
    if checked_tensor("values", values).dim() != 2 or not values.numel():
        raise FnetError(f"`values` should be [S, D], one sample and entry at least, got {list(values.shape)}")
    if initial is not None and not isinstance(initial, SelfOrganizingMap):
        raise FnetError(f"`initial={short_repr(initial)}` should be a SelfOrganizingMap, or None")
    values = values.detach()
    if not torch.isfinite(values).all():
        raise FnetError(f"layer {name} shows NaN or infinite values")
    mean, scale = live_scale(values)
    codes = ((values.double() - mean) / scale).float()
    if initial is not None and (initial.grid != grid or initial.weights.shape[1] != codes.shape[1]):
        initial = None
    trained = train_map(codes, grid, initial=initial)
    units = trained.nearest(codes)[:, 0].cpu().numpy()
    return LayerCodes(
        name=name,
        mean=mean,
        scale=scale,
        map=trained,
        codes=codes,
        units=units,
        quantization_error=trained.quantization_error(codes),
        topographic_error=trained.topographic_error(codes),
        used_units=float(len(np.unique(units))),
        code_entropy=code_entropy(units, len(trained.weights)),
        participation_ratio=participation_ratio(codes),
    )


def _adjusted(units: np.ndarray, classes: np.ndarray) -> float:
    if len(np.unique(classes)) < 2:
        return math.nan
    return F.adjusted_mutual_information(units, np.unique(classes, return_inverse=True)[1])
