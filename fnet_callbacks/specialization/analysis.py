"""From a classifier and its samples to what its groups of units are for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fnet_callbacks import functional as F
from fnet_callbacks.capture.batch import Batch
from fnet_callbacks.capture.batches import call_model
from fnet_callbacks.capture.layers import Layer, choose_layers, module_of
from fnet_callbacks.capture.watcher import Watcher
from fnet_callbacks.errors import FnetError
from fnet_callbacks.specialization.findings import QUESTIONS, GroupTest, LocalSpecializationResult, Subcluster
from fnet_callbacks.specialization.lesions import LayerLesions
from fnet_callbacks.specialization.node_graph import NodeGraph, functional_communities
from fnet_callbacks.specialization.settings import Settings
from fnet_callbacks.specialization.visualization import membership, visualize

_LARGEST_SHARE = 0.99  # of its layer that a subcluster may be
_TOP_INPUTS = 10  # inputs whose labels are looked at

ToLogits = Callable[[Any], Tensor] | None


def analyze(
    model: nn.Module,
    batches: Sequence[Batch],
    settings: Settings,
    *,
    output_to_logits: ToLogits = None,
) -> LocalSpecializationResult:
    """What `local_specialization` finds, of batches that are read already and a model that is isolated already.

    Raises:
        FnetError: See `local_specialization`.
    """
    layers = choose_layers(
        model,
        lambda inputs: call_model(model, inputs),
        batches[0].inputs,
        n_samples=batches[0].n_samples,
        layers=settings.layers,
        signal=settings.signal,
    )
    rows = _rows(model, batches, layers)
    if not (np.isfinite(rows).all(0) & (rows != rows[:1]).any(0)).any():
        names = ", ".join(layer.name for layer in layers)
        raise FnetError(f"no unit of {names} varies over the samples and is finite for all of them")
    graph = (
        NodeGraph.of_weights(model, batches, layers)
        if settings.graph == "weights"
        else NodeGraph.of_activations(rows, layers, settings)
    )
    given = settings.partition
    if isinstance(given, str):
        given = functional_communities(rows, seed=settings.seed)
    of_graph = graph.clusters(settings.k, given, settings.seed)
    shuffled = (
        F.clusterability(
            graph.adjacency,
            graph.shuffled,
            shuffles=settings.shuffles,
            partition=of_graph,
            seed=settings.seed,
        )
        if settings.shuffles and given is None
        else None
    )
    by_layer = [of_graph[nodes] for nodes in graph.nodes]
    if settings.scope == "local":
        by_layer = [
            graph.within(nodes, settings.seed, own) for nodes, own in zip(graph.nodes, by_layer, strict=True)
        ]
    draws, *ties = np.random.default_rng(settings.seed).spawn(1 + len(QUESTIONS))
    shown = _rows(model, batches, _outputs(model, layers)) if settings.signal == "pre" else rows
    bench = _Bench(model, batches, settings, output_to_logits, draws, dict(zip(QUESTIONS, ties, strict=True)))
    found: list[Subcluster] = []
    accuracy = bench.intact(layers[0])
    start = 0
    for layer, labels in zip(layers, by_layer, strict=True):
        found += bench.subclusters(layer, labels, shown[:, start : start + layer.n_units], accuracy)
        start += layer.n_units
    return LocalSpecializationResult(
        layers=[layer.name for layer in layers],
        n_units=[layer.n_units for layer in layers],
        partition=np.concatenate(by_layer),
        ncut=graph.ncut(of_graph),
        z_score=shuffled.z if shuffled else math.nan,
        p_value=shuffled.p if shuffled else math.nan,
        accuracy=accuracy,
        references=settings.references,
        subclusters=found,
    )


def _outputs(model: nn.Module, layers: Sequence[Layer]) -> list[Layer]:
    """What the nonlinearities make of the watched inputs, which is what later layers see; not of gated units."""
    gated = [isinstance(module_of(model, layer.module), nn.GLU) for layer in layers]
    return [layer if g else replace(layer, takes_input=False) for g, layer in zip(gated, layers, strict=True)]


def _rows(model: nn.Module, batches: Sequence[Batch], layers: Sequence[Layer]) -> np.ndarray:
    """What the units show, ``[S, N]``, layer after layer."""
    watcher = Watcher(model, layers, [np.arange(layer.n_units) for layer in layers])
    found = []
    for batch in batches:
        watcher.expect(batch.n_samples, mask=batch.mask)
        with watcher.attached():
            call_model(model, batch.inputs)
        found.append(watcher.rows().cpu())
    return torch.cat(found).numpy()


@dataclass(frozen=True, slots=True)
class _Bench:
    """Where groups of units are tested.

    Groups are drawn, and ties broken, from a stream for each: what is not asked changes nothing of the rest.
    """

    model: nn.Module
    batches: Sequence[Batch]
    settings: Settings
    output_to_logits: ToLogits
    draws: np.random.Generator
    ties: Mapping[str, np.random.Generator]

    @property
    def labels(self) -> np.ndarray:
        """Of the samples, ``[S]``."""
        return torch.cat([batch.classes for batch in self.batches]).cpu().numpy()

    def intact(self, layer: Layer) -> np.ndarray:
        """Accuracy of the model as it is, ``[C]``."""
        return self._lesions(layer).intact()

    def subclusters(
        self, layer: Layer, labels: np.ndarray, rows: np.ndarray, intact: np.ndarray
    ) -> list[Subcluster]:
        """The subclusters of a layer, each beside random groups of its size.

        Args:
            layer: The layer.
            labels: Cluster of each of its units.
            rows: What these put out, ``[S, n_units]``.
            intact: Accuracy without a lesion, ``[C]``.
        """
        joined = np.flatnonzero(labels >= 0)  # a unit without edges is in no cluster, nor in a random group
        clusters = [
            c for c in np.unique(labels[joined]) if 2 <= (labels == c).sum() <= _LARGEST_SHARE * len(joined)
        ]
        if not clusters:
            return []
        references = self.settings.references
        own = [np.flatnonzero(labels == c) for c in clusters]
        random_groups = (
            [self.draws.choice(joined, len(units), replace=False) for _ in range(references)] for units in own
        )
        groups = [
            group for units, others in zip(own, random_groups, strict=True) for group in (units, *others)
        ]
        lesions = self._lesions(layer)
        accuracies = lesions.accuracies(groups).reshape(len(own), references + 1, -1)
        damage = accuracies - intact
        means = np.nanmean(damage, axis=2)
        spread = np.nanmax(damage, axis=2) - np.nanmin(damage, axis=2)
        scores: dict[str, tuple[np.ndarray, F.Tail]] = {
            "importance": (means, "low"),
            "coherence": (spread / np.maximum(np.abs(means), 1 / lesions.n_samples), "high"),
            "label_entropy": (_label_entropies(groups, rows, self.labels), "low"),
        }
        if self.settings.visualization_steps:
            made = visualize(
                self.model,
                layer,
                groups,
                [batch.inputs for batch in self.batches],
                steps=self.settings.visualization_steps,
                output_to_logits=self.output_to_logits,
                seed=self.settings.seed,
            )
            scores |= {
                "objective": (made.objective, "high"),
                "softmax_entropy": (made.softmax_entropy, "low"),
            }
        tables: dict[str, tuple[np.ndarray, F.Tail]] = {
            name: (values.reshape(len(own), -1), tail) for name, (values, tail) in scores.items()
        }
        return [
            Subcluster(
                layer=layer.name,
                cluster=int(cluster),
                units=own[i],
                accuracy=accuracies[i, 0],
                **{
                    name: GroupTest.of(table[i], tail, self.ties[name], of_losses=name == "importance")
                    for name, (table, tail) in tables.items()
                },
            )
            for i, cluster in enumerate(clusters)
        ]

    def _lesions(self, layer: Layer) -> LayerLesions:
        return LayerLesions(
            self.model,
            layer,
            self.batches,
            num_classes=int(self.labels.max()) + 1,
            replacement=self.settings.replacement,
            output_to_logits=self.output_to_logits,
            seed=self.settings.seed,
        )


def _label_entropies(groups: Sequence[np.ndarray], rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of each group the entropy of the labels of the samples that activate it most, a share of log C; ``[G]``."""
    scores = membership(groups, rows.shape[1]) @ np.abs(np.nan_to_num(rows)).T.astype(np.float32)
    n = min(_TOP_INPUTS, rows.shape[0])
    most = np.argsort(-scores, axis=1, kind="stable")[:, :n]
    num_classes = int(labels.max()) + 1
    shares = np.stack([np.bincount(own, minlength=num_classes) for own in labels[most]]) / n
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return -(shares * logs).sum(1) / math.log(max(2, num_classes))
