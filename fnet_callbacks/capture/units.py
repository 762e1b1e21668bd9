"""From an activation of any shape to one number a unit and sample, and the draw of the neurons."""

import numpy as np
import torch
from torch import Tensor

from fnet_callbacks.capture.layers import Layer
from fnet_callbacks.errors import CaptureError, FnetError


def draw_neurons(n_units: list[int], *, max_neurons: int, seed: int) -> list[np.ndarray]:
    """Which units of each layer become nodes.

    All of them where they are at most ``max_neurons``; else a seeded draw, each layer getting its share by
    largest remainder and at least one unit.

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
            f"`max_neurons={max_neurons}` is fewer than the {len(n_units)} watched layers; each needs at "
            "least one. Choose fewer `layers` or more neurons"
        )
    total = sum(n_units)
    if total <= max_neurons:
        return [np.arange(n) for n in n_units]
    exact = np.array(n_units) * (max_neurons / total)
    share = np.maximum(1, np.floor(exact)).astype(int)
    for i in np.argsort(share - exact, kind="stable")[: max(0, max_neurons - share.sum())]:
        share[i] += 1
    while share.sum() > max_neurons:
        share[np.argmax(share)] -= 1
    generator = np.random.default_rng((seed, len(n_units)))
    return [np.sort(generator.choice(n, size=k, replace=False)) for n, k in zip(n_units, share, strict=True)]


def samples_first(activation: Tensor, layer: Layer, *, n_samples: int) -> Tensor:
    """An activation as ``[S, ..., units]``, without a copy where its layout allows.

    Args:
        activation: The layer's output or input, any shape with its batch and unit axis.
        layer: Says which axes those are.
        n_samples: Samples in the batch, by which tokens that were folded into the batch are told apart. An
            activation without folded tokens has as many samples as it shows: a training step may call the
            model on a part of its batch, or on two views of it.

    Raises:
        CaptureError: The activation no longer has the layout of the trial pass.
    """
    shape = list(activation.shape)
    if len(shape) <= max(layer.batch_axis, layer.unit_axis) or shape[layer.unit_axis] != layer.n_units:
        raise CaptureError(
            f"layer {layer.name} had {layer.n_units} units on axis {layer.unit_axis} in the trial pass; "
            f"its shape is now {shape}"
        )
    values = activation.movedim((layer.batch_axis, layer.unit_axis), (0, -1))
    if not layer.is_folded:
        return values
    if len(values) % n_samples:
        raise CaptureError(f"layer {layer.name} has shape {shape}, which {n_samples} samples do not divide")
    return values.unflatten(0, (n_samples, -1))


def rows_of_units(
    values: Tensor, units: Tensor, *, mask: Tensor | None = None, token_positions: Tensor | None = None
) -> Tensor:
    """Reduces an activation to ``[rows, len(units)]``, in a copy that a later in-place change cannot reach.

    Axes beside samples and units are averaged, padding left out; or, with ``token_positions``, each of these
    tokens becomes a row. Of complex values the modulus is taken first.

    Args:
        values: ``[S, ..., units]``, as `samples_first` gives it.
        units: Indices of the units that are nodes.
        mask: ``[S, T]``, True where there is a token; used where the second axis of ``values`` is T. A sample
            of padding alone gives 0.
        token_positions: Indices into the flattened ``[S * T]`` tokens.

    Returns:
        float32, or float64 where ``values`` is.

    Cost: one pass over the activation.
    """
    values = values.abs() if values.is_complex() else values
    wide = torch.promote_types(values.dtype, torch.float32)
    if token_positions is not None:
        return values.flatten(0, -2)[token_positions].index_select(1, units).to(wide)
    if mask is None or values.dim() == 2 or values.shape[:2] != mask.shape:
        others = tuple(range(1, values.dim() - 1))
        means = values.mean(others, dtype=wide) if others else values.to(wide)
        return means.index_select(1, units)
    per_token = values.index_select(-1, units).to(wide).unsqueeze(2).flatten(2, -2).mean(2)
    present = torch.where(mask[..., None], per_token, 0)  # not a product: padding may hold NaN
    return present.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def maxima_of_units(values: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """The largest value, or modulus, of each unit over the axes beside samples and units, padding left out; ``[S, N]``.

    Args:
        values: ``[S, ..., units]``, as `samples_first` gives it, with an axis beside the two.
        mask: See `rows_of_units`.

    Cost: one pass over the activation.
    """
    values = values.abs() if values.is_complex() else values
    wide = torch.promote_types(values.dtype, torch.float32)
    others = tuple(range(1, values.dim() - 1))
    if mask is None or values.shape[:2] != mask.shape:
        return values.amax(others).to(wide)
    hidden = ~mask.view(*mask.shape, *[1] * (values.dim() - 2))
    found = values.masked_fill(hidden, -torch.inf).amax(others).to(wide)
    return torch.where(mask.any(1, keepdim=True), found, 0)


def draw_tokens(
    n_samples: int, n_tokens: int, *, per_sample: int, mask: Tensor | None, seed: tuple[int, ...]
) -> Tensor:
    """Draws up to ``per_sample`` unpadded tokens of each sample, as positions in the flattened ``[S * T]``.

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
