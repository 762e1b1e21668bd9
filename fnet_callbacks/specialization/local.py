"""Local specialization: are the groups into which a network falls important, and each for a part of the task?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fnet_callbacks.arguments import Names, as_integer
from fnet_callbacks.capture.batches import as_getter
from fnet_callbacks.capture.isolation import generators_kept, isolated
from fnet_callbacks.capture.layers import Signal
from fnet_callbacks.capture.reader import first_samples
from fnet_callbacks.errors import FnetError
from fnet_callbacks.specialization.analysis import analyze
from fnet_callbacks.specialization.findings import LocalSpecializationResult
from fnet_callbacks.specialization.lesions import Replacement
from fnet_callbacks.specialization.settings import ClusterScope, Correlation, Kind, Settings


def local_specialization(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    graph: Kind = "weights",
    k: int | None = 16,
    scope: ClusterScope = "global",
    partition: np.ndarray | Literal["louvain"] | None = None,
    correlation: Correlation = "spearman",
    layers: Names = "auto",
    signal: Signal = "post",
    max_samples: int = 2048,
    references: int = 19,
    shuffles: int = 0,
    replacement: Replacement = "zero",
    visualization_steps: int = 0,
    output_to_logits: Callable[[Any], Tensor] | str | int | None = None,
    batch_to_inputs: Callable[[Any], Any] | str | int | None = None,
    batch_to_labels: Callable[[Any], Any] | str | int | None = None,
    seed: int = 0,
) -> LocalSpecializationResult:
    """Partitions a classifier's units, lesions each group, and asks whether it differs from random groups.

    Args:
        model: The classifier; it is left as it was.
        loader: Batches with labels; the first ``max_samples`` samples are used.
        graph: ``"weights"``: units of consecutive layers, joined by the absolute weight between them, with BatchNorm
            and every other factor of a unit that does not depend on the input folded in; of a convolution the sum of
            its kernel. ``"activations"``: units of all watched layers, joined by the square of their correlation.
        k: Clusters; None for as many as the eigengap says.
        scope: ``"global"`` takes the clusters of the whole graph. ``"local"`` clusters the units of each layer anew,
            into as many clusters as it has of the global ones: by the weights between the layer and its neighbours, or
            by the correlations within it.
        partition: Of the watched units, in place of a clustering of the graph: ``[N]`` integers, layer after layer,
            below 0 for a unit of no cluster; or ``"louvain"``, the communities of their functional network, as
            ``FunctionalNetwork`` has them by default.
        correlation: Of activations: ``"spearman"``, of their ranks, or ``"pearson"``.
        layers: Glob patterns over module names, or ``"auto"`` for the nonlinearities.
        signal: ``"pre"`` for what goes into nonlinearities, which the paper correlates.
        max_samples: S, at most.
        references: Random groups of the same size in the same layer for each subcluster; no p is below
            ``1 / (references + 1)``.
        shuffles: Graphs with shuffled weights that n-cut is held against; 0 for none. Of a partition of your own, which
            was not made for a small n-cut, there is no z.
        replacement: What lesioned units show: ``"zero"``, ``"mean"`` (theirs over the samples), or ``"resample"`` (at
            each sample what they show at another).
        visualization_steps: Of gradient ascent from noise to an input that activates a group; 0 for none, the paper has
            64.
        output_to_logits: From what the model returns to logits ``[S, C]``. Of a model without a ``forward`` pass the
            submodule that is called.
        batch_to_inputs: From a batch to the model's inputs: a function, its dotted path, or the key or place of an
            entry, such as ``"image"`` or 0.
        batch_to_labels: From a batch to labels ``[S]``.
        seed: Of clustering, random groups and ties, which are broken at random.

    Raises:
        FnetError: An argument is out of range, the partition does not fit, or there is no label.
        CaptureError: The model cannot be run on the batches, or, for ``graph="weights"``, not be traced, or multiplies
            units by what depends on the input; the message names the operation.

    Reference: Hod, Filan, Casper, Critch & Russell (2021), Quantifying local specialization in deep neural networks,
        arXiv 2110.08058. A convolution's unit is the mean of its map (theirs the norm); the absolute mean below the
        range of damage, its floor, ties broken at random, and the sum of absolute activations that says which inputs
        activate a group most are our assumption.
    Cost: the clustering, ``shuffles`` times more where asked, and for each subcluster ``references + 1`` lesions and,
        where asked, as many visualizations.
    """
    settings = Settings(
        graph=graph,
        k=k,
        scope=scope,
        partition=partition,
        correlation=correlation,
        layers=layers,
        signal=signal,
        references=references,
        shuffles=shuffles,
        replacement=replacement,
        visualization_steps=visualization_steps,
        seed=seed,
    )
    max_samples = as_integer("max_samples", max_samples, at_least=2)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    output_to_logits = as_getter(output_to_logits, "output_to_logits")
    with isolated(model, seed=settings.seed, device=device), generators_kept(loader):
        batches = first_samples(
            loader,
            max_samples,
            model=model,
            device=device,
            to_inputs=batch_to_inputs,
            to_labels=batch_to_labels,
        )
        if not all(batch.is_labelled for batch in batches):
            raise FnetError(
                "`loader`: no labels in a batch, or some below 0 (one integer of at least 0 a sample); pass "
                "`batch_to_labels`"
            )
        return analyze(model, batches, settings, output_to_logits=output_to_logits)
