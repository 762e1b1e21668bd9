"""From a model and its samples to the functional codes of its layers, and to the paths of attacks through them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fnet_callbacks.attacks import Model, fgsm, pgd, predicted_classes
from fnet_callbacks.capture.batches import batch_size, call_model, token_mask
from fnet_callbacks.capture.layers import Layer
from fnet_callbacks.capture.watcher import Watcher
from fnet_callbacks.codes.layer import Grid, LayerCodes, layer_codes
from fnet_callbacks.codes.propagation import Path, noise_like, shift
from fnet_callbacks.codes.som import SelfOrganizingMap
from fnet_callbacks.errors import FnetError
from fnet_callbacks.neighbourhood import Normalize

ATTACKS: Mapping[str, Callable[..., Tensor]] = {"fgsm": fgsm, "pgd": pgd}
ToLogits = Callable[[Any], Tensor | None] | None


@dataclass(frozen=True, slots=True)
class FunctionalCodes:
    """The functional codes that a model has of S samples, layer by layer.

    Attributes:
        layers: Of those that could be coded, in the order in which they are computed.
        problems: Why a layer has none, by its name.
        labels: Class of each sample, ``[S]``; None where none were given.
        predictions: Class that the model gives each, ``[S]``; None without labels or logits.
        paths: By attack, its path through the layers; empty where none was asked for.
    """

    layers: Sequence[LayerCodes]
    problems: Mapping[str, str] = field(default_factory=dict)
    labels: np.ndarray | None = field(default=None, repr=False)
    predictions: np.ndarray | None = field(default=None, repr=False)
    paths: Mapping[str, Path] = field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> LayerCodes:
        """A layer by its name.

        Raises:
            KeyError: There is no such layer, or it has a problem.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(
            self.problems.get(name, f"{name!r} is none of {', '.join(x.name for x in self.layers)}")
        )


@dataclass(frozen=True, slots=True)
class Attack:
    """How inputs are attacked.

    Attributes:
        logits: The classifier.
        epsilon: Radius, in the units of ``bounds``.
        bounds: See ``attacks.pgd``; so is ``normalize``.
        normalize: See there.
        seed: Of PGD's starts and of the noise.
    """

    logits: Model
    epsilon: float
    bounds: tuple[float, float]
    normalize: Normalize | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Coder:
    """Reads codes off a model that is isolated already.

    Attributes:
        model: The model.
        layers: Those that are coded.
        maxima: Whether largest values go beside means.
    """

    model: nn.Module
    layers: Sequence[Layer]
    maxima: bool = False

    def values(self, batches: Sequence[Any]) -> tuple[list[Tensor], list[Any]]:
        """What each layer shows of the samples, ``[S, D]`` each, and what the model returns of each batch."""
        units = [np.arange(layer.n_units) for layer in self.layers]
        watcher = Watcher(self.model, self.layers, units, maxima=self.maxima)
        found, outputs = [], []
        with watcher.attached():
            for inputs in batches:
                watcher.expect(batch_size(inputs), mask=token_mask(inputs))
                outputs.append(call_model(self.model, inputs))
                found.append(watcher.parts())
        return [torch.cat(parts) for parts in zip(*found, strict=True)], outputs


def coded(
    coder: Coder,
    batches: Sequence[Any],
    labels: Sequence[Tensor] | None,
    grid: Grid,
    *,
    to_logits: ToLogits = None,
    attack: Attack | None = None,
    initial: Mapping[str, SelfOrganizingMap] | None = None,
) -> FunctionalCodes:
    """What ``functional_codes`` finds, of batches that are read already and a model that is isolated already.

    Args:
        coder: Reads the codes.
        batches: Inputs.
        labels: Of each batch; None where there are none.
        grid: Of the maps.
        to_logits: From what the model returns to logits.
        attack: None for none.
        initial: Maps by layer, to start from.

    Raises:
        FnetError: See ``functional_codes``.
    """
    values, outputs = coder.values(batches)
    classes = None if labels is None else torch.cat(list(labels)).cpu().numpy()
    predictions = None if labels is None else _predictions(outputs, to_logits)
    layers: list[LayerCodes] = []
    problems: dict[str, str] = {}
    for layer, shown in zip(coder.layers, values, strict=True):
        try:
            found = layer_codes(layer.name, shown, grid, initial=(initial or {}).get(layer.name))
        except FnetError as error:
            problems[layer.name] = str(error)
            continue
        if classes is not None:
            found = found.of_labels(classes, predictions)
        layers.append(found.after(layers[-1]) if layers else found)
    paths: dict[str, Path] = {}
    if attack is not None and labels is not None and layers:
        paths = _paths(coder, batches, labels, layers, attack)
    return FunctionalCodes(layers, problems, classes, predictions, paths)


def _paths(
    coder: Coder,
    batches: Sequence[Any],
    labels: Sequence[Tensor],
    layers: Sequence[LayerCodes],
    attack: Attack,
) -> dict[str, Path]:
    how: dict[str, Any] = {
        "epsilon": attack.epsilon,
        "bounds": attack.bounds,
        "normalize": attack.normalize,
    }
    known = {layer.name for layer in layers}
    kept = [i for i, layer in enumerate(coder.layers) if layer.name in known]

    def of(changed: Sequence[Tensor]) -> Any:
        values, _ = coder.values(changed)
        return shift(layers, [values[i] for i in kept])

    found = {}
    for name, function in ATTACKS.items():
        seeds = [{} if name == "fgsm" else {"seed": attack.seed + i} for i in range(len(batches))]
        attacked = [
            function(attack.logits, x, y, **how, **seed)
            for x, y, seed in zip(batches, labels, seeds, strict=True)
        ]
        noisy = [
            noise_like(x, a, **how, seed=attack.seed + i)
            for i, (x, a) in enumerate(zip(batches, attacked, strict=True))
        ]
        found[name] = Path([layer.name for layer in layers], of(attacked), of(noisy))
    return found


def _predictions(outputs: Sequence[Any], to_logits: ToLogits) -> np.ndarray | None:
    """Class of each sample; None where what the model returns are no logits."""
    logits = [to_logits(output) if to_logits else output for output in outputs]
    known = [part for part in logits if isinstance(part, Tensor) and part.dim() in (1, 2)]
    if len(known) < len(logits):
        return None
    return torch.cat([predicted_classes(part) for part in known]).cpu().numpy()
