"""Few regions in place of many, and how faithful these are to the network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fnet_callbacks.regions.relu import ReLURegions


@dataclass(frozen=True, slots=True)
class Merged:
    """Merged regions, M of them.

    Attributes:
        labels: Merged region of each input, ``[S]``, from 0 for the one with most inputs.
        sizes: Inputs in each, ``[M]``.
        weights: ``[M, C, D]``: of the affine map of each, the mean of those of its regions by their sizes.
        biases: ``[M, C]``: with which the map's mean over the members is the network's.
        agreement: Share of the inputs for which the map predicts what the network does.
        r2: Share of the variance of the network's outputs that the maps explain, at most 1.
    """

    labels: np.ndarray = field(repr=False)
    sizes: np.ndarray
    weights: np.ndarray = field(repr=False)
    biases: np.ndarray = field(repr=False)
    agreement: float
    r2: float


def merged_by_coefficients(regions: ReLURegions, most: int) -> Merged:
    """Joins regions by average linkage of the cosine between their coefficients."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    n_maps = len(regions.weights)
    groups = np.zeros(n_maps, np.int64)
    if n_maps > 1:
        distances = np.clip(1 - regions.similarity(), 0, None)
        np.fill_diagonal(distances, 0)
        tree = linkage(squareform(distances, checks=False), "average")
        groups = fcluster(tree, most, "maxclust") - 1
    return _merged(regions, groups[_nearest(regions, n_maps)][regions.labels])


def merged_by_hamming(regions: ReLURegions, most: int) -> Merged:
    """Keeps the largest regions, and gives each other one to that with the nearest pattern."""
    return _merged(regions, _nearest(regions, min(most, len(regions.weights)))[regions.labels])


def _nearest(regions: ReLURegions, kept: int) -> np.ndarray:
    """Of each region the one with the nearest pattern among the largest ones, ``[K]``; of those themselves."""
    _, first = np.unique(regions.labels, return_index=True)
    others = regions.patterns.among(first[:kept], first[kept:]).argmin(axis=0)
    return np.concatenate([np.arange(kept), others])


def _merged(regions: ReLURegions, labels: np.ndarray) -> Merged:
    n_maps = len(regions.weights)
    known, sizes = np.unique(labels, return_counts=True)
    order = known[np.argsort(-sizes, kind="stable")]
    renamed, told = np.empty_like(labels), np.empty_like(regions.outputs)
    weights, biases = [], []
    for name, group in enumerate(order.tolist()):
        own = labels == group
        renamed[own] = name
        parts = regions.labels[own]
        shares = np.bincount(parts[parts < n_maps], minlength=n_maps)
        mean = np.tensordot(shares / shares.sum(), regions.weights, 1)
        bias = (regions.outputs[own] - regions.inputs[own] @ mean.T).mean(axis=0)
        weights.append(mean)
        biases.append(bias)
        told[own] = regions.inputs[own] @ mean.T + bias
    outputs = regions.outputs
    spread = ((outputs - outputs.mean(axis=0)) ** 2).sum()
    missed = ((outputs - told) ** 2).sum()
    return Merged(
        labels=renamed,
        sizes=np.bincount(renamed),
        weights=np.stack(weights),
        biases=np.stack(biases),
        agreement=float((predicted(told) == predicted(outputs)).mean()),
        r2=float(1 - missed / spread) if spread > 0 else float("nan"),
    )


def predicted(outputs: np.ndarray) -> np.ndarray:
    """Class of each row of outputs; of a single output, whether it is above 0."""
    return outputs.argmax(axis=1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).astype(np.int64)


def contrasts(weights: np.ndarray) -> np.ndarray:
    """Coefficients less their mean over classes, ``[R, C, D]``; of a single output as they are."""
    return weights - weights.mean(axis=1, keepdims=True) if weights.shape[1] > 1 else weights
