"""What is drawn of functional codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fnet_callbacks.codes.analysis import FunctionalCodesResult
from fnet_callbacks.codes.layer import LayerCodes
from fnet_callbacks.portrait import CodePortrait, MapPortrait

_MAX_LAYERS = 6
_LARGEST_SIDE = 32  # of a mean input


def portrait_of(
    codes: FunctionalCodesResult, inputs: Sequence[Any], *, title: str, names: Mapping[str, str]
) -> CodePortrait:
    """The maps of up to six layers, the first and the last among them.

    Args:
        codes: What was found.
        inputs: Of which it was found, by batch; of images the mean of each code's is drawn.
        title: The step, in words.
        names: What each layer is called in a file.
    """
    n = len(codes.layers)
    chosen = np.unique(np.linspace(0, n - 1, min(n, _MAX_LAYERS)).round().astype(int)) if n else []
    images = _images(inputs)
    return CodePortrait(title, [_map(codes, int(i), images, names) for i in chosen])


def _map(
    codes: FunctionalCodesResult, place: int, images: Tensor | None, names: Mapping[str, str]
) -> MapPortrait:
    layer = codes.layers[place]
    n_units = len(layer.map.weights)
    return MapPortrait(
        name=names[layer.name],
        grid=layer.map.grid,
        hits=np.bincount(layer.units, minlength=n_units),
        classes=None if codes.labels is None else commonest_class(layer.units, codes.labels, n_units),
        u_matrix=layer.map.u_matrix().float().cpu().numpy(),
        attacked={
            name: np.bincount(path.attack.units[place][path.attack.units[place] >= 0], minlength=n_units)
            for name, path in codes.paths.items()
        },
        inputs=None if images is None else _means(layer, images),
    )


def commonest_class(units: np.ndarray, classes: np.ndarray, n_units: int) -> np.ndarray:
    """The commonest class of each unit, the smallest of several; -1 without samples."""
    has = classes >= 0
    known, own = np.unique(classes[has], return_inverse=True)
    if not len(known):
        return np.full(n_units, -1)
    table = np.zeros((n_units, len(known)), np.int64)
    np.add.at(table, (units[has], own), 1)
    return np.where(table.any(axis=1), known[table.argmax(axis=1)], -1)


def _images(inputs: Sequence[Any]) -> Tensor | None:
    """``[S, 3, H, W]`` float32 with values in [0, 1], H and W at most 32; None of what are no images of one size."""
    if not all(isinstance(x, Tensor) and x.dim() == 4 and x.shape[1] in (1, 3) for x in inputs):
        return None
    if len({x.shape[1:] for x in inputs}) != 1 or min(inputs[0].shape[2:]) < 2:
        return None
    found = torch.cat([_small(x.float()) for x in inputs])
    low, high = found.amin((0, 2, 3), keepdim=True), found.amax((0, 2, 3), keepdim=True)
    return ((found - low) / torch.where(high > low, high - low, 1)).expand(-1, 3, -1, -1)


def _small(images: Tensor) -> Tensor:
    high, wide = (min(n, _LARGEST_SIDE) for n in images.shape[2:])
    return nn.functional.adaptive_avg_pool2d(images, (high, wide))


def _means(layer: LayerCodes, images: Tensor) -> np.ndarray:
    """Mean image of each unit, white without samples; ``[U, H, W, 3]`` uint8."""
    n_units = len(layer.map.weights)
    units = torch.from_numpy(layer.units).to(images.device)
    counts = torch.bincount(units, minlength=n_units)
    sums = images.new_zeros(n_units, *images.shape[1:]).index_add_(0, units, images)
    means = torch.where(counts[:, None, None, None] > 0, sums / counts.clamp(min=1)[:, None, None, None], 1)
    return (255 * means).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
