"""Functional codes of a finished model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fnet_callbacks.arguments import Names, as_choice, as_flag, as_integer, as_patterns
from fnet_callbacks.capture.batch import count_samples
from fnet_callbacks.capture.batches import as_getter, call_model
from fnet_callbacks.capture.isolation import generators_kept, isolated
from fnet_callbacks.capture.layers import Signal, choose_layers
from fnet_callbacks.capture.logits import LogitsModel
from fnet_callbacks.capture.reader import first_samples
from fnet_callbacks.codes.analysis import AttackSettings, Coder, FunctionalCodesResult, analyze
from fnet_callbacks.codes.layer import Grid, as_grid, checked_grid
from fnet_callbacks.errors import CaptureError, FnetError
from fnet_callbacks.neighbourhood import Normalize, as_normalization, as_radius


def functional_codes(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    layers: Names = "auto",
    signal: Signal = "post",
    maxima: bool = False,
    grid: Grid | None = None,
    max_samples: int = 2048,
    epsilon: float | None = None,
    bounds: tuple[float, float] | None = None,
    normalize: Normalize | None = None,
    output_to_logits: Callable[[Any], Tensor] | str | int | None = None,
    batch_to_inputs: Callable[[Any], Any] | str | int | None = None,
    batch_to_labels: Callable[[Any], Any] | str | int | None = None,
    seed: int = 0,
) -> FunctionalCodesResult:
    """Finds the few codes that each layer uses, what they know of classes, and how attacks move through them.

    What the units of a layer show of a sample (a convolution's each the mean of its map) is a code; a self-organising
    map of all samples' codes has units that each stand for the codes near it, and a sample's functional code is its
    nearest unit.

    Args:
        model: It is left as it was.
        loader: Batches, with labels or without; the first ``max_samples`` samples are used.
        layers: See ``FunctionalNetwork``; so is ``signal``. Tokens are averaged.
        signal: See there.
        maxima: Puts the largest value of each map beside its mean.
        grid: Rows and columns of the maps, of at most S units; None for a square of about ``5 sqrt(S)``.
        max_samples: S, at most.
        epsilon: Radius of FGSM and of PGD in ten steps (L∞), in the units of ``bounds``; None for no attack.
        bounds: Smallest and largest legal value of a raw input; belongs to ``epsilon``.
        normalize: ``(mean, std)`` that were applied to the raw input.
        output_to_logits: From what the model returns to logits ``[S, C]``.
        batch_to_inputs: From a batch to the model's inputs: a function, its dotted path, or the key or place of an
            entry, such as ``"image"`` or 0.
        batch_to_labels: From a batch to labels ``[S]``; a sample with one below 0 has none.
        seed: Of PGD's starts and of the noise that attacks are compared with.

    Returns:
        A layer that shows NaN or infinite values has no codes; ``problems`` says so. An attack without a gradient
        leaves inputs as they are; ``Robustness`` counts these.

    Raises:
        FnetError: An argument is out of range, or an attack is asked for without labels or logits.
        CaptureError: The model cannot be run on the batches, or a layer is not found.

    Reference: Lee & Vijayan (2022), Analysis of functional neural codes of deep learning models, arXiv 2205.10952.
        Spatial means as codes, their standardisation, the size of the map and noise of the same norm are our
        assumptions: the paper's own are not known to us.
    Cost: a forward pass, ``train_map`` for each layer, and with ``epsilon`` eleven backward and some fifteen forward
        passes.
    """
    output_to_logits = as_getter(output_to_logits, "output_to_logits")
    layers, signal = as_patterns("layers", layers), as_choice("signal", signal, ("post", "pre"))
    maxima, grid = as_flag("maxima", maxima), as_grid(grid)
    epsilon, bounds = as_radius(epsilon, bounds)
    normalize = as_normalization(normalize)
    max_samples = as_integer("max_samples", max_samples, at_least=2)
    seed = as_integer("seed", seed, at_least=0)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with isolated(model, seed=seed, device=device), generators_kept(loader):
        batches = first_samples(
            loader,
            max_samples,
            model=model,
            device=device,
            to_inputs=batch_to_inputs,
            to_labels=batch_to_labels,
        )
        attack = None
        if epsilon is not None and bounds is not None:
            if not all(batch.is_labelled for batch in batches):
                raise FnetError(
                    "`epsilon` needs labels, one integer of at least 0 a sample; pass `batch_to_labels`"
                )
            check_attackable(batches[0].inputs)
            attack = AttackSettings(LogitsModel(model, output_to_logits), epsilon, bounds, normalize, seed)
        watched = choose_layers(
            model,
            lambda inputs: call_model(model, inputs),
            batches[0].inputs,
            n_samples=batches[0].n_samples,
            layers=layers,
            signal=signal,
        )
        return analyze(
            Coder(model, watched, maxima),
            batches,
            checked_grid(grid, count_samples(batches)),
            output_to_logits=output_to_logits,
            attack=attack,
        )


def check_attackable(inputs: Any) -> None:
    """Refuses inputs that are not one tensor."""
    if not isinstance(inputs, Tensor):
        raise CaptureError(
            f"`epsilon`: attacks change one tensor, the model's inputs are a {type(inputs).__name__}; pass "
            "`batch_to_inputs`, or no `epsilon`"
        )
