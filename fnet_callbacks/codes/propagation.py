"""The path that an attack takes through the functional codes, beside that of noise of the same norm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fnet_callbacks.checks import checked_seed, checked_tensor, short_repr
from fnet_callbacks.codes.layer import LayerCodes
from fnet_callbacks.errors import FnetError
from fnet_callbacks.neighbourhood import Neighbourhood, Normalize, length_of

_OF_NOISE = 0.95  # the share of samples that noise displaces less than an attack must, to have left its path


@dataclass(frozen=True, slots=True)
class Shift:
    """What a change of the inputs does to the codes of L layers, for each of S samples.

    Attributes:
        displacement: Euclidean distance of a sample's code from its clean one, over the mean distance of clean codes
            from their mean, ``[L, S]``; 1 is as far as samples are from the middle.
        units: Its functional code, ``[L, S]``.
        changed: 1 where that is another than the clean one, else 0, ``[L, S]``.
        distance: Of its two units on the map, in units of the grid, ``[L, S]``.

    A layer in which nothing varies, or that the change drives to NaN or infinite values, has NaN, and units of -1.
    """

    displacement: np.ndarray = field(repr=False)
    units: np.ndarray = field(repr=False)
    changed: np.ndarray = field(repr=False)
    distance: np.ndarray = field(repr=False)

    @property
    def means(self) -> dict[str, np.ndarray]:
        """Over the samples, ``[L]`` each: ``displacement``, ``changed_share``, ``distance``."""
        return {
            "displacement": self.displacement.mean(axis=1),
            "changed_share": self.changed.mean(axis=1),
            "distance": self.distance.mean(axis=1),
        }


@dataclass(frozen=True, slots=True)
class Path:
    """What an attack does to the codes of each layer, and what noise of the same norm does.

    Attributes:
        layers: Names, L.
        attack: Of the attacked inputs.
        noise: Of the noisy ones.
    """

    layers: Sequence[str]
    attack: Shift
    noise: Shift

    @property
    def departed_share(self) -> np.ndarray:
        """Share of the samples that the attack displaces by more than noise does 95 % of them, ``[L]``.

        About 0.05 where the attack is no more than noise to a layer; NaN where a layer has no displacement. The
        definition is our assumption.
        """
        usual = np.quantile(self.noise.displacement, _OF_NOISE, axis=1)
        shares = (self.attack.displacement > usual[:, None]).mean(axis=1)
        return np.where(
            np.isfinite(usual) & np.isfinite(self.attack.displacement).all(axis=1), shares, np.nan
        )

    @property
    def departure(self) -> int | None:
        """Index in ``layers`` of the first from which on, to the last, most samples have departed; None for none.

        Layers without a share are passed over.
        """
        shares = self.departed_share
        known = np.flatnonzero(np.isfinite(shares))
        stays = np.logical_and.accumulate((shares[known] > 0.5)[::-1])[::-1]
        return int(known[stays.argmax()]) if stays.any() else None


def shift(layers: Sequence[LayerCodes], values: Sequence[Tensor]) -> Shift:
    """How far samples have moved from where their clean codes are.

    Args:
        layers: Of the clean samples.
        values: What each layer shows of the changed ones, ``[S, D]`` each.

    Raises:
        FnetError: Shapes do not fit.
    """
    if not isinstance(layers, Sequence) or not all(isinstance(layer, LayerCodes) for layer in layers):
        raise FnetError(f"`layers` should be LayerCodes, one or more, got {short_repr(layers)}")
    if not layers or not isinstance(values, Sequence) or len(values) != len(layers):
        raise FnetError(f"`values` should be a tensor for each of the {len(layers)} `layers`, one at least")
    rows = [_moved(layer, shown) for layer, shown in zip(layers, values, strict=True)]
    return Shift(*(np.array(part) for part in zip(*rows, strict=True)))


def _moved(layer: LayerCodes, values: Tensor) -> tuple[np.ndarray, ...]:
    """Rows of a `Shift`."""
    codes = layer.standardized(values)
    if len(codes) != len(layer.codes):
        raise FnetError(
            f"`values` should be of the {len(layer.codes)} samples of layer {layer.name}, got {len(codes)}"
        )
    if not layer.n_live or not torch.isfinite(codes).all():
        unknown = np.full(len(codes), np.nan)
        return unknown, np.full(len(codes), -1), unknown, unknown
    units = layer.map.nearest(codes)[:, 0].cpu().numpy()
    far = (codes - layer.codes).norm(dim=1) / layer.codes.norm(dim=1).mean()
    places = np.stack(np.divmod(units, layer.map.grid[1]), axis=1)
    changed = (units != layer.units).astype(np.float64)
    return far.double().cpu().numpy(), units, changed, np.linalg.norm(places - layer.places, axis=1)


def noise_like(
    inputs: Tensor,
    attacked: Tensor,
    *,
    epsilon: float,
    bounds: tuple[float, float],
    normalize: Normalize | None = None,
    seed: int = 0,
) -> Tensor:
    """Inputs with noise of the same Euclidean norm as an attack's on each sample.

    Every value goes up or down by ``epsilon`` as far as ``bounds`` allow, by a fair coin; what came of it is scaled to
    the attack's norm, by which alone it may leave the bounds. In half precision the norm is that but for rounding.

    Args:
        inputs: ``[S, ...]``.
        attacked: The attack's, ``[S, ...]``.
        epsilon: The attack's radius, in the units of ``bounds``.
        bounds: See ``attacks.pgd``; so is ``normalize``.
        normalize: See there.
        seed: Of the coins, which are thrown on the CPU, in a stream apart from that of PGD's starts.

    Returns:
        ``[S, ...]``; a sample that the attack left as it was is as it was.

    Raises:
        FnetError: ``attacked`` has another shape, or see ``attacks.pgd``.
    """
    checked_tensor("inputs", inputs, floating=True)
    if inputs.dim() < 2 or checked_tensor("attacked", attacked, floating=True).shape != inputs.shape:
        raise FnetError(
            f"`inputs` should be [S, ...] and `attacked` alike, got {list(inputs.shape)} and {list(attacked.shape)}"
        )
    region = Neighbourhood.around(inputs, epsilon=epsilon, bounds=bounds, normalize=normalize)
    own = int(np.random.SeedSequence((checked_seed(seed), 1)).generate_state(1)[0])
    noise = region.random_corner(torch.Generator().manual_seed(own)) - inputs
    smallest = torch.finfo(inputs.dtype).tiny
    return inputs + noise * (length_of(attacked - inputs) / length_of(noise).clamp_min(smallest))
