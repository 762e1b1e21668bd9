"""Few regions in place of many, and how faithful these are to the network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fnet_callbacks.regions.relu import ReLURegionsResult


_ROUNDS = 50  # of giving regions to maps


@dataclass(frozen=True, slots=True)
class Merged:
    """Merged regions, M of them.

    Attributes:
        labels: Merged region of each input, ``[S]``, from 0 for the one with most inputs.
        sizes: Inputs in each, ``[M]``.
        weights: ``[M, C, D]``, of the affine map of each: the mean of those of its regions by their sizes, or what fits
            the network's outputs best.
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


def merged_by_fit(regions: ReLURegionsResult, most: int) -> Merged:
    """From what `merged_by_coefficients` joins, gives each region to the map that fits its members best, and so on.

    The maps are those of least squares; they are drawn to the mean of the joined maps, as if by one member more.
    """
    groups = _joined(regions, most)
    for _ in range(_ROUNDS):
        maps = _maps(regions, groups[regions.labels], is_fitted=True)
        missed = np.stack(
            [
                np.bincount(regions.labels, ((regions.inputs @ w.T + b - regions.outputs) ** 2).sum(axis=1))
                for w, b in maps
            ]
        )
        closer = missed.argmin(axis=0)
        if np.array_equal(closer, groups):
            break
        _, groups = np.unique(closer, return_inverse=True)
    return _merged(regions, groups[regions.labels], is_fitted=True)


def merged_by_coefficients(regions: ReLURegionsResult, most: int) -> Merged:
    """Joins regions by average linkage of the cosine between their coefficients."""
    return _merged(regions, _joined(regions, most)[regions.labels], is_fitted=False)


def merged_by_hamming(regions: ReLURegionsResult, most: int) -> Merged:
    """Keeps the largest regions, and gives each other one to that with the nearest pattern."""
    groups = _nearest(regions, min(most, len(regions.weights)))
    return _merged(regions, groups[regions.labels], is_fitted=False)


def _joined(regions: ReLURegionsResult, most: int) -> np.ndarray:
    """The group of each region, ``[K]``, from 0: by coefficients, without a map by the nearest pattern."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    n_maps = len(regions.weights)
    groups = np.zeros(n_maps, np.int64)
    if n_maps > 1:
        distances = np.clip(1 - regions.similarity(), 0, None)
        np.fill_diagonal(distances, 0)
        groups = fcluster(linkage(squareform(distances, checks=False), "average"), most, "maxclust") - 1
    return groups[_nearest(regions, n_maps)]


def _nearest(regions: ReLURegionsResult, kept: int) -> np.ndarray:
    """Of each region the one with the nearest pattern among the largest ones, ``[K]``; of those themselves."""
    _, first = np.unique(regions.labels, return_index=True)
    others = regions.patterns.among(first[:kept], first[kept:]).argmin(axis=0)
    return np.concatenate([np.arange(kept), others])


def _maps(
    regions: ReLURegionsResult, labels: np.ndarray, *, is_fitted: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights and biases for each group of inputs, 0 and up."""
    n_maps = len(regions.weights)
    found = []
    for group in range(labels.max() + 1):
        own = labels == group
        parts = regions.labels[own]
        shares = np.bincount(parts[parts < n_maps], minlength=n_maps)
        if not shares.any():  # of regions without a map
            shares = np.bincount(regions.labels[regions.labels < n_maps], minlength=n_maps)
        weights = np.tensordot(shares / shares.sum(), regions.weights, 1)
        inputs, outputs = regions.inputs[own], regions.outputs[own]
        middle, mean = inputs.mean(axis=0), outputs.mean(axis=0)
        if is_fitted:
            around = inputs - middle
            rest = outputs - mean - around @ weights.T
            weights = weights + _ridge(around, rest).T
        found.append((weights, mean - weights @ middle))
    return found


def _ridge(inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Coefficients ``[D, C]`` of least squares, drawn to 0 as if by one sample more; through the smaller matrix."""
    n, d = inputs.shape
    if n < d:
        return inputs.T @ np.linalg.solve(inputs @ inputs.T + np.eye(n), outputs)
    return np.linalg.solve(inputs.T @ inputs + np.eye(d), inputs.T @ outputs)


def _merged(regions: ReLURegionsResult, labels: np.ndarray, *, is_fitted: bool) -> Merged:
    known, sizes = np.unique(labels, return_counts=True)
    rank = np.empty(known.max() + 1, np.int64)
    rank[known[np.argsort(-sizes, kind="stable")]] = np.arange(len(known))
    labels = rank[labels]
    weights, biases = (
        np.stack(parts) for parts in zip(*_maps(regions, labels, is_fitted=is_fitted), strict=True)
    )
    told = np.einsum("scd,sd->sc", weights[labels], regions.inputs) + biases[labels]
    outputs = regions.outputs
    spread = ((outputs - outputs.mean(axis=0)) ** 2).sum()
    missed = ((outputs - told) ** 2).sum()
    return Merged(
        labels=labels,
        sizes=np.bincount(labels),
        weights=weights,
        biases=biases,
        agreement=float((predicted(told) == predicted(outputs)).mean()),
        r2=float(1 - missed / spread) if spread > 0 else float("nan"),
    )


def predicted(outputs: np.ndarray) -> np.ndarray:
    """Class of each row of outputs; of a single output, whether it is above 0."""
    return outputs.argmax(axis=1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).astype(np.int64)


def contrasts(weights: np.ndarray) -> np.ndarray:
    """Coefficients less their mean over classes, ``[R, C, D]``; of a single output as they are."""
    return weights - weights.mean(axis=1, keepdims=True) if weights.shape[1] > 1 else weights
