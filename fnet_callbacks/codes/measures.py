"""What functional codes say of a layer: how many there are, what they know of the classes, how they are laid out."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import entr
from torch import Tensor

from fnet_callbacks.checks import checked_array, checked_integer, checked_seed, checked_tensor
from fnet_callbacks.errors import FnetError

_SHUFFLES = 20


def code_entropy(units: np.ndarray, n_units: int) -> float:
    """Entropy of the functional codes, as a share of the largest that there can be.

    Args:
        units: Functional code of each sample, ``[S]``, from 0.
        n_units: U.

    Returns:
        In [0, 1]: entropy over ``log min(U, S)``; NaN for one unit, one sample or none.

    Raises:
        FnetError: ``units`` is no vector of integers from 0 to U - 1.
    """
    units = checked_array("units", units, "[S]", kind="integer").astype(np.int64)
    n_units = checked_integer("n_units", n_units, at_least=0)
    if len(units) and not 0 <= units.min() <= units.max() < n_units:
        raise FnetError(f"`units` should be from 0 to {n_units - 1}, got {units.min()} to {units.max()}")
    most = min(n_units, len(units))
    if most < 2:
        return math.nan
    shares = np.bincount(units, minlength=n_units) / len(units)
    return float(entr(shares).sum() / math.log(most))


def normalized_mutual_information(units: np.ndarray, classes: np.ndarray) -> float:
    """Mutual information of code and class, over the mean of their entropies.

    Codes that many samples share by chance know a little of any labels: see the adjusted one beside it.

    Args:
        units: Functional code of each sample, ``[S]``, from 0.
        classes: Class of each sample, ``[S]``, from 0.

    Returns:
        In [0, 1]; NaN where all samples are of one class, or there are none.

    Raises:
        FnetError: They are not vectors of integers of one length.

    Reference: Strehl & Ghosh (2002), J. Mach. Learn. Res. 3, 583, with the arithmetic mean.
    Cost: O(S + U C).
    """
    units = checked_array("units", units, "[S]", kind="integer")
    classes = _classes_of(classes, len(units))
    if len(np.unique(classes)) < 2:
        return math.nan
    units, classes = (np.unique(each, return_inverse=True)[1] for each in (units, classes))
    shape = (int(units.max()) + 1, int(classes.max()) + 1)
    table = np.bincount(units * shape[1] + classes, minlength=shape[0] * shape[1]).reshape(shape)
    of_units, of_classes, of_both = (
        entr(counts / len(units)).sum() for counts in (table.sum(1), table.sum(0), table)
    )
    return float(np.clip(2 * (of_units + of_classes - of_both) / (of_units + of_classes), 0, 1))


def compactness(places: np.ndarray, classes: np.ndarray, *, seed: int = 0) -> float:
    """How close to each other the codes of a class lie on the map, beside the same with shuffled classes.

    The mean over classes of the mean Euclidean distance of a class's samples from their centre.

    Args:
        places: Row and column of each sample's unit, ``[S, 2]``.
        classes: ``[S]``, from 0.
        seed: Of the 20 shuffles, the mean of which is taken.

    Returns:
        0 or more: about 1 where classes lie anywhere, 0 where each has a unit of its own. NaN where all samples are of
        one class or on one unit, or each is of its own class.

    Raises:
        FnetError: ``places`` is not ``[S, 2]``, finite, or ``classes`` not S integers.

    Reference: after Lee & Vijayan (2022), arXiv 2205.10952; the ratio to shuffled classes is our assumption.
    Cost: O(S), and 20 shuffles.
    """
    places = _places("places", places)
    classes = _classes_of(classes, len(places))
    generator = np.random.default_rng(checked_seed(seed))
    if len(np.unique(classes)) < 2:
        return math.nan
    shuffled = np.mean([_spread(places, generator.permutation(classes)) for _ in range(_SHUFFLES)])
    return float(_spread(places, classes) / shuffled) if shuffled > 0 else math.nan


def participation_ratio(codes: Tensor) -> float:
    r"""How many principal components the codes spread over: :math:`(\sum \lambda)^2 / \sum \lambda^2`.

    Args:
        codes: ``[S, D]``.

    Returns:
        In [1, min(S - 1, D)]; NaN where no entry varies.

    Raises:
        FnetError: ``codes`` is not ``[S, D]``.

    Reference: Gao et al. (2017), bioRxiv 214262, of the eigenvalues of the covariance.
    Cost: O(S D min(S, D)), no eigenvalues.
    """
    if checked_tensor("codes", codes).dim() != 2:
        raise FnetError(f"`codes` should be [S, D], got {list(codes.shape)}")
    wide = codes.detach().double()
    around = wide - wide.mean(0)
    product = around.T @ around if around.shape[1] <= len(around) else around @ around.T
    total = float(product.diagonal().sum())
    return total**2 / float(product.square().sum()) if total > 0 else math.nan


def map_distance(a: np.ndarray, b: np.ndarray) -> float:
    """How differently two maps lay out the same samples, once shifted, turned, mirrored and scaled onto each other.

    Args:
        a: Row and column of each sample's unit on one map, ``[S, 2]``.
        b: The same on another map, of any grid and any layer.

    Returns:
        Procrustes disparity, in [0, 1]: 0 for one picture, 1 for two that have nothing in common. NaN where all samples
        are on one unit of either.

    Raises:
        FnetError: They are not finite, ``[S, 2]``, or differ in shape.

    Reference: Gower (1975), Psychometrika 40, 33. That maps are compared by where their samples are, which maps of
        layers of any widths allow, is our assumption.
    Cost: O(S).
    """
    from scipy.spatial import procrustes  # slow to import, and needed here only

    a, b = _places("a", a), _places("b", b)
    if a.shape != b.shape:
        raise FnetError(f"`b` should be {list(a.shape)}, a place for each sample, got {list(b.shape)}")
    if any(len(np.unique(places, axis=0)) < 2 for places in (a, b)):
        return math.nan
    return float(np.clip(procrustes(a, b)[2], 0, 1))


def live_scale(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each entry, ``[D]``; the deviation of one that does not vary is infinite.

    Standardised by them such an entry is 0 for every sample, also for one that is attacked.
    """
    wide = values.double()
    mean = wide.mean(0)
    variance = (wide - mean).square().mean(0)
    floor = 1e-12 * (mean.square() + wide.abs().amax(0).square())
    return mean, torch.where(variance > floor, variance.sqrt(), torch.inf)


def _places(argument: str, places: np.ndarray) -> np.ndarray:
    found = checked_array(argument, places, "").astype(np.float64)
    if found.ndim != 2 or found.shape[1] != 2 or not np.isfinite(found).all():
        raise FnetError(
            f"`{argument}` should be row and column of each sample, finite, [S, 2], got {list(found.shape)}"
        )
    return found


def _classes_of(classes: np.ndarray, n_samples: int) -> np.ndarray:
    found = checked_array("classes", classes, "[S]", kind="integer")
    if len(found) != n_samples:
        raise FnetError(f"`classes` should be [{n_samples}], one for each sample, got [{len(found)}]")
    return found


def _spread(places: np.ndarray, classes: np.ndarray) -> float:
    """Mean over classes of the mean distance from the class's centre."""
    _, own = np.unique(classes, return_inverse=True)
    counts = np.bincount(own)
    centres = np.stack([np.bincount(own, axis) / counts for axis in places.T], axis=1)
    far = np.linalg.norm(places - centres[own], axis=1)
    return float((np.bincount(own, far) / counts).mean())
