"""The affine map that a piecewise-linear model is around an input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fnet_callbacks.errors import FnetError
from fnet_callbacks.regions.follower import Follower
from fnet_callbacks.regions.pieces import Elementwise, Pieces

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
        FnetError: The outputs are not ``[R, C]``.

    Reference: Montúfar, Pascanu, Cho & Bengio (2014), arXiv 1402.1869; Picchiotti & Gori (2021), arXiv 2110.06593.
    Cost: C backward passes of R inputs, or a product of R matrices for each layer.
    """
    chain = None if call is not None else _chain(model)
    parts = [
        _by_product(model, chain, own) if chain is not None else _by_gradient(call or model, own)
        for own in inputs.split(_AT_ONCE)
    ]
    weights, biases = zip(*parts, strict=True)
    return torch.cat(weights), torch.cat(biases)


def _by_gradient(call: Any, inputs: Tensor) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False), torch.enable_grad():
        point = inputs.detach().clone().requires_grad_()
        outputs = call(point)
        if not isinstance(outputs, Tensor) or outputs.dim() != 2 or len(outputs) != len(inputs):
            got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise FnetError(f"the model's output should be logits [S, C], got {got}; pass `to_logits`")
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


def _chain(model: nn.Module) -> list[nn.Module] | None:
    """The modules of nested ``Sequential``s one after the other; None where not all of them are known here."""
    parts = list(_parts(model))
    chain = [m for m in parts if not isinstance(m, (nn.Flatten, nn.Identity, nn.Dropout))]
    is_known = all(isinstance(m, _OF_A_CHAIN) for m in chain) and all(
        m.running_var is not None for m in chain if isinstance(m, nn.BatchNorm1d)
    )
    return chain if is_known and chain and isinstance(chain[0], nn.Linear) else None


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
                slope, offset = _piece(next(pieces))
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


def _piece(pieces: Elementwise) -> tuple[Tensor, Tensor]:
    """Slope and offset of each unit on its piece, ``[R, U]``."""
    slope = torch.zeros_like(pieces.z) + pieces.slopes[0]
    offset = torch.zeros_like(pieces.z) + pieces.offsets[0]
    for state, above, shift in zip(pieces.states(), pieces.slopes[1:], pieces.offsets[1:], strict=True):
        slope = torch.where(state, above, slope)
        offset = torch.where(state, shift, offset)
    return slope, offset
