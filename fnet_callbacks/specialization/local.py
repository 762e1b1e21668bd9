"""Local specialization: are the groups into which a network falls important, and each for a part of the task?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from fnet_callbacks import functional as F
from fnet_callbacks.capture.batches import (
    as_labels,
    batch_inputs,
    batch_size,
    call_model,
    label_in,
    to_device,
)
from fnet_callbacks.capture.isolation import generators_kept, isolated
from fnet_callbacks.capture.layers import Layer, choose_layers
from fnet_callbacks.capture.watcher import Watcher
from fnet_callbacks.errors import CaptureError, FnetError
from fnet_callbacks.specialization.lesions import LabelledBatch, Lesions, Replacement
from fnet_callbacks.specialization.weight_graph import weight_graph

Kind = Literal["weights", "activations"]
Scope = Literal["global", "local"]
_LARGEST_SHARE = 0.99  # of its layer that a subcluster may be


@dataclass(frozen=True, slots=True)
class GroupTest:
    """A score against that of random groups.

    Attributes:
        effect: See ``functional.relative_effect``; of several groups the mean of theirs.
        p_value: See ``functional.reference_p``; of several groups ``functional.fisher_p``.
        score: Of the group; NaN of several.
    """

    effect: float
    p_value: float
    score: float = math.nan


@dataclass(frozen=True, slots=True)
class Subcluster:
    """The units of one cluster in one layer.

    Attributes:
        layer: Its name.
        cluster: Number of the cluster.
        units: Indices of its units in the layer.
        accuracy: In each class with these units lesioned, ``[C]``.
        importance: Whether accuracy, the mean over classes, is lower than with random units lesioned.
        coherence: Whether the damage is spread over classes more unevenly: the range of the classes' losses over the
            absolute mean loss, which counts at no less than one sample; 0 where there is no damage.
    """

    layer: str
    cluster: int
    units: np.ndarray = field(repr=False)
    accuracy: np.ndarray = field(repr=False)
    importance: GroupTest
    coherence: GroupTest


@dataclass(frozen=True, slots=True)
class LocalSpecialization:
    """What `local_specialization` finds.

    Attributes:
        layers: The watched layers, by name.
        partition: Cluster of each unit of these, ``[N]``, layer after layer; -1 for a unit without edges. With
            ``scope="local"`` the numbers of different layers have nothing to do with each other.
        ncut: Of the partition of the whole graph, also with ``scope="local"``.
        z_score: Of n-cut against shuffled graphs, see ``functional.Clusterability``; NaN where none were made.
        p_value: Of n-cut.
        accuracy: Of the intact model in each class, ``[C]``.
        subclusters: Those of two units or more, and no whole layer.
        importance: All together.
        coherence: All together.
    """

    layers: Sequence[str]
    partition: np.ndarray = field(repr=False)
    ncut: float
    z_score: float
    p_value: float
    accuracy: np.ndarray
    subclusters: Sequence[Subcluster] = field(repr=False)
    importance: GroupTest
    coherence: GroupTest


def local_specialization(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    graph: Kind = "weights",
    k: int | None = 16,
    scope: Scope = "global",
    partition: np.ndarray | None = None,
    layers: str | Sequence[str] = "auto",
    max_samples: int = 2048,
    references: int = 19,
    shuffles: int = 0,
    replacement: Replacement = "zero",
    to_logits: Callable[[Any], Tensor] | None = None,
    batch_to_inputs: Callable[[Any], Any] | None = None,
    batch_to_labels: Callable[[Any], Any] | None = None,
    seed: int = 0,
) -> LocalSpecialization:
    """Partitions a classifier's units, lesions each group, and asks whether it differs from random groups.

    Args:
        model: The classifier; it is left as it was.
        loader: Batches with labels; the first ``max_samples`` samples are used.
        graph: ``"weights"``: see ``weight_graph``. ``"activations"``: units of all watched layers, joined by the square
            of their rank correlation.
        k: Clusters; None for as many as the eigengap says.
        scope: ``"global"`` takes the clusters of the whole graph. ``"local"`` clusters the units of each layer anew,
            into as many clusters as it has of the global ones: by the weights between the layer and its neighbours, or
            by the correlations within it.
        partition: Of the watched units, in place of a clustering of the graph: ``[N]`` integers, layer after layer,
            below 0 for a unit of no cluster.
        layers: See ``FunctionalNetworkMonitor``.
        max_samples: S, at most.
        references: Random groups of the same size in the same layer for each subcluster; no p is below
            ``1 / (references + 1)``.
        shuffles: Graphs with shuffled weights that n-cut is held against; 0 for none.
        replacement: What lesioned units show, see ``Lesions``.
        to_logits: From what the model returns to logits ``[S, C]``.
        batch_to_inputs: From a batch to the model's inputs.
        batch_to_labels: From a batch to labels ``[S]``.
        seed: Of clustering, random groups and ties, which are broken at random.

    Raises:
        FnetError: An argument is out of range, the partition does not fit, or there is no label.
        CaptureError: The model cannot be run on the batches, or, for ``graph="weights"``, not be traced.

    Reference: Hod, Filan, Casper, Critch & Russell (2021), Quantifying local specialization in deep neural networks,
        arXiv 2110.08058. The absolute mean below the range of damage, its floor, and ties broken at random are our
        assumption.
    Cost: the clustering, ``shuffles`` times more where asked, and ``references + 1`` lesions for each subcluster.
    """
    if graph not in get_args(Kind):
        raise FnetError(f"`graph={graph!r}` should be 'weights' or 'activations'")
    if scope not in get_args(Scope) or (scope == "local" and partition is not None):
        raise FnetError(f"`scope={scope!r}` should be 'global', or 'local' without a partition of your own")
    for name, value, least in (
        ("references", references, 1),
        ("max_samples", max_samples, 2),
        ("shuffles", shuffles, 0),
    ):
        if not isinstance(value, int) or value < least:
            raise FnetError(f"`{name}={value!r}` should be an integer of at least {least}")
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with torch.random.fork_rng(devices=[]), generators_kept(loader):
        batches = _read(loader, max_samples, device, batch_to_inputs, batch_to_labels)
    num_classes = int(max(batch.labels.max() for batch in batches)) + 1
    with isolated(model, seed=seed, device=device):
        chosen = _layers(model, batches[0], layers)
        made = _Graph.of(model, batches, chosen, graph)
        of_graph = made.clusters(k, partition, seed)
        shuffled = (
            F.clusterability(made.adjacency, made.shuffled, shuffles=shuffles, partition=of_graph, seed=seed)
            if shuffles
            else None
        )
        by_layer = [of_graph[nodes] for nodes in made.nodes]
        if scope == "local":
            by_layer = [
                made.within(nodes, seed, own) for nodes, own in zip(made.nodes, by_layer, strict=True)
            ]
        generator = np.random.default_rng(seed)
        found: list[Subcluster] = []
        intact = np.full(num_classes, math.nan)
        for layer, labels in zip(chosen, by_layer, strict=True):
            lesions = Lesions(
                model,
                layer,
                batches,
                num_classes=num_classes,
                replacement=replacement,
                to_logits=to_logits,
                seed=seed,
            )
            intact = lesions.intact()
            found += _subclusters(lesions, layer, labels, intact, references, generator)
    return LocalSpecialization(
        layers=[layer.name for layer in chosen],
        partition=np.concatenate(by_layer),
        ncut=F.ncut(made.adjacency, of_graph),
        z_score=shuffled.z if shuffled else math.nan,
        p_value=shuffled.p if shuffled else math.nan,
        accuracy=intact,
        subclusters=found,
        importance=_together([s.importance for s in found], references),
        coherence=_together([s.coherence for s in found], references),
    )


@dataclass(frozen=True, slots=True)
class _Graph:
    """A graph, and which of its nodes are the units of each watched layer.

    ``joins_layers`` is whether its edges run between layers alone, so that those of one layer have none among them.
    """

    adjacency: csr_array
    nodes: Sequence[np.ndarray]
    joins_layers: bool
    shuffled: Callable[[np.random.Generator], csr_array]

    @classmethod
    def of(
        cls, model: nn.Module, batches: Sequence[LabelledBatch], layers: Sequence[Layer], kind: Kind
    ) -> _Graph:
        if kind == "activations":
            ends = np.cumsum([0, *(layer.n_units for layer in layers)])
            nodes = [np.arange(a, b) for a, b in pairwise(ends)]
            weights = _rank_correlation(model, batches, layers)
            return cls(
                csr_array(weights), nodes, False, lambda generator: csr_array(_permuted(weights, generator))
            )
        inputs = batches[0].inputs
        if not isinstance(inputs, (Tensor, tuple, list)):
            raise CaptureError(
                f"`graph='weights'` traces a model of positional inputs, these are a {type(inputs).__name__}; pass "
                "`batch_to_inputs`, or take graph='activations'"
            )
        made = weight_graph(model, inputs[:2] if isinstance(inputs, Tensor) else tuple(inputs))
        missing = [layer.name for layer in layers if layer.name not in made.units]
        if missing:
            raise CaptureError(f"`graph='weights'`: no units were followed to {', '.join(missing)}")
        return cls(made.adjacency(), [made.units[layer.name] for layer in layers], True, made.adjacency)

    def clusters(self, k: int | None, partition: np.ndarray | None, seed: int) -> np.ndarray:
        """The cluster of each node."""
        if partition is None:
            return F.spectral_clusters(self.adjacency, k, seed=seed)
        watched = np.concatenate(self.nodes)
        labels = np.asarray(partition)
        if labels.shape != watched.shape or not np.issubdtype(labels.dtype, np.integer):
            raise FnetError(
                f"`partition` should be integers of shape ({len(watched)},), one for each watched unit; got "
                f"{labels.dtype} {labels.shape}"
            )
        found = np.full(self.adjacency.shape[0], -1)  # type: ignore[index]
        found[watched] = labels
        if not np.array_equal(found[watched], labels):
            raise FnetError(
                "`partition`: units that a residual sum makes one node are of several clusters; give them one, or take "
                "graph='activations'"
            )
        return found

    def within(self, nodes: np.ndarray, seed: int, globally: np.ndarray) -> np.ndarray:
        """Clusters of the units of one layer, as many as it has of the global ones."""
        k = len(np.unique(globally[globally >= 0]))
        if k == 0:
            return globally
        near = nodes
        if self.joins_layers:
            near = np.union1d(nodes, np.flatnonzero(self.adjacency[nodes].sum(0)))
        graph = self.adjacency[near][:, near]
        n_joined = int((graph.sum(1) > 0).sum())
        found = (
            F.spectral_clusters(graph, min(k, n_joined), seed=seed) if n_joined else np.full(len(near), -1)
        )
        return found[np.searchsorted(near, nodes)]


def _read(
    loader: Iterable[Any],
    most: int,
    device: torch.device,
    to_inputs: Callable[[Any], Any] | None,
    to_labels: Callable[[Any], Any] | None,
) -> list[LabelledBatch]:
    found, seen = [], 0
    for batch in loader:
        labels = as_labels((to_labels or label_in)(batch))
        if labels is None or (labels < 0).any():
            raise FnetError(
                "`loader`: no labels in a batch, or some below 0 (one integer of at least 0 a sample); pass "
                "`batch_to_labels`"
            )
        inputs = (to_inputs or batch_inputs)(batch)
        if isinstance(inputs, Tensor):
            inputs, labels = inputs[: most - seen], labels[: most - seen]
        found.append(LabelledBatch(to_device(inputs, device), labels.to(device)))
        seen += batch_size(inputs, labels)
        if seen >= most:
            break
    if not found:
        raise FnetError("`loader` has no batch")
    return found


def _layers(model: nn.Module, batch: LabelledBatch, layers: str | Sequence[str]) -> list[Layer]:
    return choose_layers(
        model, lambda: call_model(model, batch.inputs), n_samples=len(batch.labels), layers=layers
    )


def _rank_correlation(
    model: nn.Module, batches: Sequence[LabelledBatch], layers: Sequence[Layer]
) -> np.ndarray:
    """Squares of the rank correlation of units, ``[N, N]``, 0 on the diagonal and for dead units."""
    watcher = Watcher(model, layers, [np.arange(layer.n_units) for layer in layers])
    rows = []
    for batch in batches:
        watcher.expect(len(batch.labels))
        with watcher.attached():
            call_model(model, batch.inputs)
        rows.append(watcher.rows().cpu())
    found = np.nan_to_num(F.correlation_matrix(torch.cat(rows).numpy(), method="spearman") ** 2)
    np.fill_diagonal(found, 0.0)
    return found


def _permuted(weights: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    upper = np.triu_indices(len(weights), 1)
    found = np.zeros_like(weights)
    found[upper] = generator.permutation(weights[upper])
    return found + found.T


def _subclusters(
    lesions: Lesions,
    layer: Layer,
    labels: np.ndarray,
    intact: np.ndarray,
    references: int,
    generator: np.random.Generator,
) -> list[Subcluster]:
    """The subclusters of a layer, each beside random groups of its size."""
    clusters = [
        c for c in np.unique(labels[labels >= 0]) if 2 <= (labels == c).sum() <= _LARGEST_SHARE * len(labels)
    ]
    groups = []
    for cluster in clusters:
        units = np.flatnonzero(labels == cluster)
        groups += [
            units,
            *(generator.choice(len(labels), len(units), replace=False) for _ in range(references)),
        ]
    if not groups:
        return []
    accuracies = lesions.accuracies(groups).reshape(len(clusters), references + 1, -1)
    found = []
    for cluster, units, accuracy in zip(clusters, groups[:: references + 1], accuracies, strict=True):
        damage = accuracy - intact
        means, spread = np.nanmean(damage, axis=1), np.nanmax(damage, axis=1) - np.nanmin(damage, axis=1)
        unevenness = spread / np.maximum(np.abs(means), 1 / lesions.n_samples)
        found.append(
            Subcluster(
                layer=layer.name,
                cluster=int(cluster),
                units=units,
                accuracy=accuracy[0],
                importance=_test(means, "low", generator),
                coherence=_test(unevenness, "high", generator),
            )
        )
    return found


def _test(scores: np.ndarray, tail: F.Tail, generator: np.random.Generator) -> GroupTest:
    """The first score against the others."""
    own, others = float(scores[0]), scores[1:].tolist()
    return GroupTest(
        F.relative_effect(own, others), F.reference_p(own, others, tail=tail, generator=generator), own
    )


def _together(tests: Sequence[GroupTest], references: int) -> GroupTest:
    effects = [t.effect for t in tests if math.isfinite(t.effect)]
    p = F.fisher_p([t.p_value for t in tests], n_references=references)
    return GroupTest(float(np.mean(effects)) if effects else math.nan, p)
