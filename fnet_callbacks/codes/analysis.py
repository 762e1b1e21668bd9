"""From a model and its samples to the functional codes of its layers, and to the paths of attacks through them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fnet_callbacks.attacks import Model, fgsm, pgd, predicted_classes
from fnet_callbacks.capture.batch import Batch
from fnet_callbacks.capture.batches import call_model
from fnet_callbacks.capture.layers import Layer
from fnet_callbacks.capture.watcher import Watcher
from fnet_callbacks.codes.layer import Grid, LayerCodes, layer_codes
from fnet_callbacks.codes.propagation import Path, Shift, noise_like, shift
from fnet_callbacks.codes.som import SelfOrganizingMap
from fnet_callbacks.errors import FnetError
from fnet_callbacks.neighbourhood import Normalize

ATTACKS: Mapping[str, Callable[..., Tensor]] = {"fgsm": fgsm, "pgd": pgd}
ToLogits = Callable[[Any], Tensor | None] | None


@dataclass(frozen=True, slots=True)
class FunctionalCodesResult:
    """The functional codes that a model has of S samples, layer by layer.

    Attributes:
        layers: Of those that could be coded, in the order in which they are computed.
        problems: Why a layer has none, by its name.
        labels: Class of each sample, ``[S]``, below 0 for one without; None where none were given.
        predictions: Class that the model gives each, ``[S]``; None without labels, or where it returns no logits.
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
class AttackSettings:
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

    @property
    def reach(self) -> dict[str, Any]:
        """What of it an attack and noise take alike."""
        return {"epsilon": self.epsilon, "bounds": self.bounds, "normalize": self.normalize}


@dataclass(frozen=True, slots=True)
class Coder:
    """Reads codes off a model that is isolated already.

    Attributes:
        model: The model.
        layers: Those that are coded.
        maxima: Whether largest values go beside means.
        precision: What the model is called in; nothing else is.
    """

    model: nn.Module
    layers: Sequence[Layer]
    maxima: bool = False
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext

    def values(
        self, batches: Sequence[Batch], see: Callable[[Any, int], object] | None = None
    ) -> list[Tensor]:
        """What each layer shows of the samples, ``[S, D]`` each; ``see`` is shown the model's output of each batch."""
        units = [np.arange(layer.n_units) for layer in self.layers]
        watcher = Watcher(self.model, self.layers, units, maxima=self.maxima)
        found = []
        with watcher.attached():
            for batch in batches:
                watcher.expect(batch.n_samples, mask=batch.mask)
                with self.precision():
                    output = call_model(self.model, batch.inputs)
                if see is not None:
                    see(output, batch.n_samples)
                parts = watcher.parts()
                # MPS has no float64.
                found.append([part.cpu() if part.device.type == "mps" else part for part in parts])
        return [torch.cat(parts) for parts in zip(*found, strict=True)]


def analyze(
    coder: Coder,
    batches: Sequence[Batch],
    grid: Grid,
    *,
    output_to_logits: ToLogits = None,
    attack: AttackSettings | None = None,
    initial: Mapping[str, SelfOrganizingMap] | None = None,
) -> FunctionalCodesResult:
    """What ``functional_codes`` finds, of batches that are read already and a model that is isolated already.

    Args:
        coder: Reads the codes.
        batches: The samples, S of them; labels count where all batches have them, below 0 for a sample without one.
        grid: Of the maps.
        output_to_logits: From what the model returns to logits.
        attack: None for none; left aside where a sample has no label.
        initial: Maps by layer, to start from.

    Raises:
        FnetError: See ``functional_codes``.
    """
    predicted: list[Tensor | None] = []

    def see(output: Any, n: int) -> None:
        predicted.append(_predicted(output, n, output_to_logits))

    labels = [batch.labels for batch in batches if batch.labels is not None]
    has_labels = len(labels) == len(batches)
    values = coder.values(batches, see if has_labels else None)
    classes = torch.cat(labels).cpu().numpy() if has_labels else None
    known = [part for part in predicted if part is not None]
    predictions = torch.cat(known).numpy() if known and len(known) == len(batches) else None
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
    if attack is not None and all(batch.is_labelled for batch in batches) and layers:
        paths = _paths(coder, batches, layers, attack)
    return FunctionalCodesResult(layers, problems, classes, predictions, paths)


def _paths(
    coder: Coder, batches: Sequence[Batch], layers: Sequence[LayerCodes], attack: AttackSettings
) -> dict[str, Path]:
    names = [layer.name for layer in layers]
    kept = [i for i, layer in enumerate(coder.layers) if layer.name in names]
    seeds = range(attack.seed, attack.seed + len(batches))

    def of(changed: Sequence[Tensor]) -> Shift:
        values = coder.values([replace(b, inputs=x) for b, x in zip(batches, changed, strict=True)])
        return shift(layers, [values[i] for i in kept])

    found = {}
    for name, function in ATTACKS.items():
        attacked = [
            function(
                attack.logits,
                b.inputs,
                b.classes,
                **attack.reach,
                **({} if name == "fgsm" else {"seed": seed}),
            )
            for b, seed in zip(batches, seeds, strict=True)
        ]
        triples = zip(batches, attacked, seeds, strict=True)
        noisy = [noise_like(b.inputs, x, **attack.reach, seed=seed) for b, x, seed in triples]
        found[name] = Path(names, of(attacked), of(noisy))
    return found


def _predicted(output: Any, n: int, output_to_logits: ToLogits) -> Tensor | None:
    """Class of each sample of a batch, on the CPU; None where what the model returns is no logits of them."""
    logits = output_to_logits(output) if output_to_logits else output
    if not isinstance(logits, Tensor) or logits.dim() not in (1, 2) or len(logits) != n:
        return None
    return predicted_classes(logits).cpu()
