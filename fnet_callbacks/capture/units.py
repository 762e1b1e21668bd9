"""From an activation of any shape to one number a unit and sample, and the draw of the neurons."""

import numpy as np
import torch
from torch import Tensor

from fnet_callbacks.capture.layers import Layer
from fnet_callbacks.errors import CaptureError, FnetError


def draw_neurons(n_units: list[int], *, max_neurons: int, seed: int) -> list[np.ndarray]:
    """Which units of each layer become nodes.

    All of them where they are at most ``max_neurons``; else a seeded draw, each layer getting its share by largest
    remainder and at least one unit.

    Args:
        n_units: Units of each layer, L entries.
        max_neurons: The most nodes there may be; at least L.
        seed: Of the draw; the same seed and sizes draw the same units.

    Returns:
        L sorted arrays of unit indices.

    Raises:
        FnetError: ``max_neurons`` is smaller than the number of layers.
    """
    if max_neurons < len(n_units):
        raise FnetError(
            f"`max_neurons={max_neurons}` is fewer than the {len(n_units)} watched layers; each needs at least one. "
            "Choose fewer `layers` or more neurons"
        )
    total = sum(n_units)
    if total <= max_neurons:
        return [np.arange(n) for n in n_units]
    exact = np.array(n_units) * (max_neurons / total)
    share = np.maximum(1, np.floor(exact)).astype(int)
    by_remainder = np.argsort(-(exact - np.floor(exact)), kind="stable")
    for i in by_remainder[: max(0, max_neurons - share.sum())]:
        share[i] += 1
    while share.sum() > max_neurons:
        share[np.argmax(share)] -= 1
    generator = np.random.default_rng((seed, len(n_units)))
    return [np.sort(generator.choice(n, size=k, replace=False)) for n, k in zip(n_units, share, strict=True)]


def rows_of_units(
    activation: Tensor,
    layer: Layer,
    units: Tensor,
    *,
    n_samples: int,
    mask: Tensor | None = None,
    token_positions: Tensor | None = None,
) -> Tensor:
    """Reduces an activation to ``[rows, len(units)]``, in a copy that a later in-place change cannot reach.

    Axes beside samples and units are averaged, with the padding left out where ``mask`` covers the first of them; or,
    with ``token_positions``, each of the named tokens becomes a row.

    Args:
        activation: The layer's output or input, any shape with its batch and unit axis.
        layer: Says which axes those are.
        units: Indices of the units that are nodes.
        n_samples: Samples in the batch.
        mask: ``[S, T]``, True where there is a token.
        token_positions: Indices into the flattened ``[S * T]`` tokens; None averages them.

    Raises:
        CaptureError: The activation no longer has the shape of the trial pass, or has no token axis.

    Cost: one pass over the activation.
    """
    shape = list(activation.shape)
    if len(shape) < 2 or shape[layer.unit_axis % len(shape)] != layer.n_units:
        raise CaptureError(
            f"layer {layer.name} had {layer.n_units} units on axis {layer.unit_axis} in the first pass, now {shape}"
        )
    values = activation.detach()
    wide = torch.promote_types(values.dtype, torch.float32)
    folded = shape[layer.batch_axis] != n_samples
    if token_positions is None and mask is None and not folded:
        others = [a for a in range(len(shape)) if a not in (layer.batch_axis, layer.unit_axis)]
        means = values.mean(others, dtype=wide) if others else values.to(wide)
        return (means if layer.batch_axis < layer.unit_axis else means.T).index_select(1, units)
    values = values.movedim((layer.batch_axis, layer.unit_axis), (0, -1))
    if folded:
        values = values.reshape(n_samples, -1, values.shape[-1])
    values = values.index_select(-1, units).to(wide)
    if token_positions is not None:
        return values.reshape(-1, values.shape[-1])[token_positions]
    if mask is None or values.dim() == 2 or values.shape[1] != mask.shape[1]:
        return values.reshape(n_samples, -1, values.shape[-1]).mean(1)
    per_token = values.reshape(*values.shape[:2], -1, values.shape[-1]).mean(2)
    weight = mask.to(per_token)
    return (per_token * weight[..., None]).sum(1) / weight.sum(1, keepdim=True).clamp(min=1)


def draw_tokens(
    n_samples: int, n_tokens: int, *, per_sample: int, mask: Tensor | None, seed: tuple[int, ...]
) -> Tensor:
    """Positions in the flattened ``[S * T]`` tokens of a batch: up to ``per_sample`` unpadded ones of each sample.

    Args:
        n_samples: S.
        n_tokens: T.
        per_sample: The most tokens of one sample.
        mask: ``[S, T]``, True where there is a token; None means everywhere.
        seed: The same seed, sizes and mask draw the same tokens.
    """
    generator = np.random.default_rng(seed)
    present = np.ones((n_samples, n_tokens), bool) if mask is None else mask.cpu().numpy()
    priority = np.where(present, generator.random((n_samples, n_tokens)), np.inf)
    chosen = np.argsort(priority, axis=1)[:, :per_sample]
    keep = np.take_along_axis(present, chosen, axis=1)
    positions = (chosen + np.arange(n_samples)[:, None] * n_tokens)[keep]
    return torch.from_numpy(np.sort(positions))
