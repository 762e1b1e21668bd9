"""The affine map that a piecewise-linear model is around an input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fnet_callbacks.errors import FnetError
from fnet_callbacks.regions.follower import Follower
from fnet_callbacks.regions.pieces import Elementwise, Pieces

TOLERANCE = 1e-3  # of the largest output, by which a map may miss
_ROUNDING = 1e-5  # of the largest output, in float32
_AT_ONCE = 64  # inputs whose maps are made together
_OF_A_CHAIN = (
    *(nn.Linear, nn.BatchNorm1d),
    *(nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ReLU6, nn.Hardtanh, nn.Threshold),
)

Model = Callable[[Tensor], Tensor]


def affine_maps(model: nn.Module, inputs: Tensor, *, call: Model | None = None) -> tuple[Tensor, Tensor]:
    """``y = W x + b`` on the region of each input.

    Of a chain of linear layers, BatchNorm and elementwise units it is their product; of any other model the gradient of
    its outputs, one backward pass for each.

    Args:
        model: Piecewise linear, in eval mode.
        inputs: ``[R, ...]``, D numbers each.
        call: From inputs to outputs ``[R, C]``; None for the model itself.

    Returns:
        Weights ``[R, C, D]`` and biases ``[R, C]``, in the inputs' type.

    Raises:
        FnetError: The outputs are not ``[R, C]``, or the map is not what the model computes.

    Reference: Montúfar, Pascanu, Cho & Bengio (2014), arXiv 1402.1869; Picchiotti & Gori (2021), arXiv 2110.06593.
    Cost: C backward passes of R inputs, or a product of R matrices for each layer, and a forward pass that checks it;
        where an input is at a unit's break, D forward passes of it.
    """
    chain = _chain(model, inputs) if call is None else None
    parts = []
    for own in inputs.split(_AT_ONCE):
        found = _by_product(model, chain, own) if chain is not None else _by_gradient(call or model, own)
        missed, scale, moved = _missed(call or model, own, found)
        # Where a unit is at its break autograd may take a gradient of neither piece. How much that one counts is seen
        # beside how far the outputs move, not beside a bias that may be larger by far.
        doubtful = ~(missed <= TOLERANCE * moved + _ROUNDING * scale)
        if doubtful.any():
            better = _by_differences(call or model, own[doubtful])
            found = (found[0].index_put((doubtful,), better[0]), found[1].index_put((doubtful,), better[1]))
            missed, scale, _ = _missed(call or model, own, found)
            if not (missed <= TOLERANCE * scale).all():
                raise FnetError(
                    "the affine map of a region is not what the model computes there: what it makes of a sample "
                    "depends on the others, part of it is hidden from torch, or its numbers are too coarse (take "
                    "float32 or float64)"
                )
        parts.append(found)
    weights, biases = zip(*parts, strict=True)
    return torch.cat(weights), torch.cat(biases)


def _missed(call: Any, inputs: Tensor, found: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """How far maps are from the network's at other points of space, were these on the same pieces.

    Returns:
        By how much each misses, ``[R]``, the largest output there, and how far each moves the outputs from those at its
        input, ``[R]``.
    """
    generator = torch.Generator().manual_seed(0)
    size = inputs.abs().max()
    away = torch.randn(inputs.shape, generator=generator).to(inputs) * torch.where(size > 0, size, 1.0)
    weights, biases = found
    moved = torch.einsum("rcd,rd->rc", weights, away.flatten(1))
    told = torch.einsum("rcd,rd->rc", weights, inputs.flatten(1)) + biases + moved
    true = _continued(call, inputs, inputs + away)
    return (told - true).abs().amax(1), true.abs().max().clamp(min=1e-6), moved.abs().amax(1)


def _continued(call: Any, inputs: Tensor, others: Tensor) -> Tensor:
    """What the model would return for others, were they on the pieces of the inputs."""
    follower = Follower(lambda *_: None, frozen=True)
    with torch.no_grad(), follower:
        return call(follower.follow(torch.cat([inputs, others])))[len(inputs) :]


def _by_differences(call: Any, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """A unit along each entry, on the pieces of the input."""
    rows, biases = [], []
    for own in inputs:
        n = own.numel()
        along = torch.eye(n, dtype=own.dtype, device=own.device).view(n, *own.shape)
        base = _continued(call, own[None], torch.zeros_like(own)[None])
        moved = torch.cat([_continued(call, own.expand_as(a), a) for a in along.split(_AT_ONCE)])
        rows.append((moved - base).T)
        biases.append(base[0])
    return torch.stack(rows), torch.stack(biases)


def _by_gradient(call: Any, inputs: Tensor) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False), torch.enable_grad():
        point = inputs.detach().clone().requires_grad_()
        outputs = call(point.clone())  # the model may write into what it is given
        if not isinstance(outputs, Tensor) or outputs.dim() != 2 or len(outputs) != len(inputs):
            got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise FnetError(f"the model's output should be logits [S, C], got {got}; pass `output_to_logits`")
        rows = []
        for c in range(outputs.shape[1]):
            total = outputs[:, c].sum()
            keep = c + 1 < outputs.shape[1]
            # An output that no path leads to from the input has no gradient.
            (row,) = (
                torch.autograd.grad(total, point, retain_graph=keep, allow_unused=True)
                if total.requires_grad
                else (None,)
            )
            rows.append(torch.zeros_like(point) if row is None else row)
    weights = torch.stack([row.flatten(1) for row in rows], dim=1)
    return weights, outputs.detach() - torch.einsum("rcd,rd->rc", weights, inputs.flatten(1))


def _chain(model: nn.Module, inputs: Tensor) -> list[nn.Module] | None:
    """The modules of nested ``Sequential``s one after the other; None where not all of them are known here."""
    parts = [m for m in _parts(model) if type(m) not in (nn.Identity, nn.Dropout)]
    if parts and type(parts[0]) is nn.Flatten and (parts[0].start_dim, parts[0].end_dim) == (1, -1):
        parts = parts[1:]
    elif inputs.dim() > 2:
        return None
    is_known = all(type(m) in _OF_A_CHAIN for m in parts) and all(
        m.running_var is not None for m in parts if isinstance(m, nn.BatchNorm1d)
    )
    has_hooks = any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    return parts if is_known and not has_hooks and parts and type(parts[0]) is nn.Linear else None


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    if type(module) is not nn.Sequential:
        yield module
        return
    for child in module.children():
        yield from _parts(child)


def _by_product(model: nn.Module, chain: list[nn.Module], inputs: Tensor) -> tuple[Tensor, Tensor]:
    found: list[Elementwise] = []

    def see(_: str, pieces: Pieces) -> None:
        assert isinstance(pieces, Elementwise)
        found.append(pieces)

    with torch.no_grad():
        follower = Follower(see)
        with follower:
            model(follower.follow(inputs.clone()))
        pieces = iter(found)
        own, bias = _weights(chain[0], inputs)
        weights, biases = own.expand(len(inputs), *own.shape), bias.expand(len(inputs), len(own))
        for module in chain[1:]:
            if isinstance(module, nn.Linear):
                own, bias = _weights(module, inputs)
                weights, biases = own @ weights, biases @ own.T + bias
            elif isinstance(module, nn.BatchNorm1d):
                gain, shift = _normalization(module)
                weights, biases = weights * gain[:, None], biases * gain + shift
            else:
                slope, offset = next(pieces).affine()
                weights, biases = weights * slope[..., None], biases * slope + offset
    return weights, biases


def _weights(module: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    bias = like.new_zeros(module.out_features) if module.bias is None else module.bias
    return module.weight, bias


def _normalization(module: Any) -> tuple[Tensor, Tensor]:
    """Gain and shift of a BatchNorm in eval mode."""
    gain = (module.running_var + module.eps).rsqrt()
    if module.weight is not None:
        gain = gain * module.weight
    shift = -module.running_mean * gain
    return gain, shift if module.bias is None else shift + module.bias
