"""Inputs made by gradient ascent to activate groups of units, many groups at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fnet_callbacks.attacks import differentiable_rnn
from fnet_callbacks.capture.batches import call_model, logits_of
from fnet_callbacks.capture.calls import NONLINEARITIES
from fnet_callbacks.capture.layers import Layer, module_of
from fnet_callbacks.capture.units import samples_first
from fnet_callbacks.errors import CaptureError, FnetError
from fnet_callbacks.specialization.calling import call_changed

_MAX_INPUTS = 256  # inputs that are made at once
_RATE = 0.1  # of Adam, in units of the logistic function
_START = 0.1  # spread of the first input about the middle of its range
_NOISE = 0.02  # of the range, added to an input that is no image
_SHIFT = 1 / 16  # of an image's side


@dataclass(frozen=True, slots=True)
class Visualizations:
    """Inputs that activate groups of units.

    Attributes:
        inputs: One a group, ``[G, ...]``, on the CPU.
        objective: That each attains, ``[G]``.
        softmax_entropy: Of the model's prediction for it, ``[G]``, a share of log C.
    """

    inputs: Tensor
    objective: np.ndarray
    softmax_entropy: np.ndarray


def visualize(
    model: nn.Module,
    layer: Layer,
    groups: Sequence[np.ndarray],
    examples: Sequence[Any],
    *,
    steps: int = 64,
    output_to_logits: Callable[[Any], Tensor] | None = None,
    seed: int = 0,
) -> Visualizations:
    """Makes for each group of units the input that activates it most.

    The objective is the sum over units of the absolute mean, over positions, of what goes into the nonlinearity.
    Inputs stay between the least and the largest value of the examples, in each channel of an image and each entry of a
    vector. So that they do not hang on single pixels, an image is shifted at random in each step, by up to a sixteenth
    of its sides, and anything else gets noise. All groups have the same start, shifts and noise.

    The caller sees to it that the model is in eval mode and that nothing it does lasts; see ``capture.isolation``.

    Args:
        model: What the layer is of.
        layer: With its samples on the first axis; of a nonlinearity its input is looked at.
        groups: Indices of units, G arrays.
        examples: Batches of inputs, one floating-point tensor ``[S, ...]`` each.
        steps: Of Adam.
        output_to_logits: From what the model returns to logits ``[S, C]``; None where it returns them.
        seed: Of the start, the shifts and the noise.

    Raises:
        CaptureError: The inputs are no tensors of floating-point numbers.
        FnetError: The output is no tensor ``[S, C]``.

    Reference: Hod et al. (2021), arXiv 2110.08058, for objective, entropy and 64 steps; Olah, Mordvintsev & Schubert
        (2017), Feature visualization, Distill, for shifts. Inputs by a logistic function and Adam are our assumption,
        in place of Fourier coefficients.
    Cost: ``steps`` forward and backward passes of G inputs.
    """
    if not all(isinstance(x, Tensor) and x.is_floating_point() for x in examples):
        kinds = {str(x.dtype) if isinstance(x, Tensor) else type(x).__name__ for x in examples}
        raise CaptureError(
            "`visualization_steps`: an input is made by gradient ascent, so that it should be one tensor of "
            f"floating-point numbers; these are {', '.join(sorted(kinds))}. Take 0 steps"
        )
    if isinstance(module_of(model, layer.module), NONLINEARITIES):
        shapes: list[int] = []
        before = replace(layer, takes_input=True)
        with torch.no_grad():
            call_changed(model, before, examples[0][:1], lambda t: shapes.append(t.shape[layer.unit_axis]))
        if shapes == [layer.n_units]:  # a gated unit has more inputs than outputs
            layer = before
    low, high = _bounds(examples)
    made, objectives, entropies = [], [], []
    for start in range(0, len(groups), _MAX_INPUTS):
        own = groups[start : start + _MAX_INPUTS]
        members = torch.from_numpy(membership(own, layer.n_units)).to(low.device)
        found = _ascended(model, layer, members, low, high, tuple(examples[0].shape[1:]), steps, seed)
        with torch.no_grad():
            objectives.append(_objective(model, layer, members, found).cpu())
            entropies.append(_entropy(logits_of(call_model(model, found), output_to_logits)).cpu())
        made.append(found.cpu())
    return Visualizations(
        torch.cat(made), torch.cat(objectives).double().numpy(), torch.cat(entropies).double().numpy()
    )


def membership(groups: Sequence[np.ndarray], n_units: int) -> np.ndarray:
    """``[G, n_units]`` float32: 1 for each unit of a group."""
    found = np.zeros((len(groups), n_units), np.float32)
    for row, units in zip(found, groups, strict=True):
        row[units] = 1
    return found


def _bounds(examples: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Least and largest values, of each channel of an image and of each entry of a vector; ``[1, ...]``."""
    axes = (0, *range(2, examples[0].dim()))
    if len({x.shape[1:] for x in examples}) > 1:
        raise FnetError("`visualization_steps` needs inputs of one shape; these are of several")
    low = torch.stack([x.amin(axes, keepdim=True) for x in examples]).amin(0)
    high = torch.stack([x.amax(axes, keepdim=True) for x in examples]).amax(0)
    return low, high


def _ascended(
    model: nn.Module,
    layer: Layer,
    members: Tensor,
    low: Tensor,
    high: Tensor,
    shape: tuple[int, ...],
    steps: int,
    seed: int,
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    first = _START * torch.randn(1, *shape, generator=generator, dtype=torch.float32).to(low.device)
    with torch.inference_mode(False), torch.enable_grad():
        point = first.expand(len(members), *shape).clone().requires_grad_()
        optimizer = torch.optim.Adam([point], lr=_RATE)
        with differentiable_rnn(model, point):
            for disturbed in _disturbances(shape, steps, generator):
                inputs = (low + (high - low) * disturbed(point.sigmoid())).to(low.dtype)
                objective = _objective(model, layer, members, inputs).sum()
                (gradient,) = torch.autograd.grad(objective, point)
                point.grad = -gradient
                optimizer.step()
    return (low + (high - low) * point.detach().sigmoid()).to(low.dtype)


def _disturbances(
    shape: tuple[int, ...], steps: int, generator: torch.Generator
) -> Iterator[Callable[[Tensor], Tensor]]:
    """What is done to the inputs, in [0, 1], in each step."""
    for _ in range(steps):
        if len(shape) == 3:
            most = [math.ceil(side * _SHIFT) for side in shape[1:]]
            by = [int(torch.randint(-m, m + 1, (), generator=generator)) for m in most]
            yield lambda x, by=by: x.roll(by, (-2, -1))
        else:
            noise = _NOISE * torch.randn(1, *shape, generator=generator, dtype=torch.float32)
            yield lambda x, noise=noise: x + noise.to(x)


def _objective(model: nn.Module, layer: Layer, members: Tensor, inputs: Tensor) -> Tensor:
    """Of each input for its own group, ``[G]``."""
    shown: list[Tensor] = []
    # A copy: what comes after may change the activation in place.
    call_changed(model, layer, inputs, lambda tensor: shown.append(tensor.clone()))
    values = samples_first(shown[0], layer, n_samples=len(inputs))
    others = tuple(range(1, values.dim() - 1))
    means = values.mean(others) if others else values
    return (means.float().abs() * members).sum(1)


def _entropy(logits: Tensor) -> Tensor:
    if logits.dim() != 2:
        raise FnetError("the model's output should be logits [S, C]; pass `output_to_logits`")
    logs = logits.float().log_softmax(1)
    return -(logs.exp() * logs).sum(1) / math.log(max(2, logits.shape[1]))
