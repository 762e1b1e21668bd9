"""The graph whose nodes are clustered, and which of them are the units of each watched layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_array
from torch import Tensor, nn

from fnet_callbacks import functional as F
from fnet_callbacks.capture.batch import Batch
from fnet_callbacks.capture.layers import Layer
from fnet_callbacks.errors import CaptureError, FnetError
from fnet_callbacks.specialization.settings import Settings
from fnet_callbacks.specialization.weight_graph import weight_graph


@dataclass(frozen=True, slots=True)
class NodeGraph:
    """A weighted graph of units.

    Attributes:
        adjacency: ``[N, N]``, symmetric.
        nodes: Of each watched layer the nodes that its units are.
        joins_layers: Whether its edges run between layers alone, so that those of one layer have none among them.
        shuffled: Gives a graph that its n-cut is held against.
    """

    adjacency: csr_array
    nodes: Sequence[np.ndarray]
    joins_layers: bool
    shuffled: Callable[[np.random.Generator], csr_array]

    @classmethod
    def of_activations(cls, rows: np.ndarray, layers: Sequence[Layer], settings: Settings) -> NodeGraph:
        """Units joined by the square of their correlation; its entries are permuted for a shuffled graph."""
        ends = np.cumsum([0, *(layer.n_units for layer in layers)])
        nodes = [np.arange(a, b) for a, b in pairwise(ends)]
        weights = np.nan_to_num(F.correlation_matrix(rows, method=settings.correlation) ** 2)
        np.fill_diagonal(weights, 0.0)  # of a dead unit all are 0
        return cls(
            csr_array(weights), nodes, False, lambda generator: csr_array(_permuted(weights, generator))
        )

    @classmethod
    def of_weights(cls, model: nn.Module, batches: Sequence[Batch], layers: Sequence[Layer]) -> NodeGraph:
        """See `weight_graph`; weights are permuted within their layers for a shuffled graph."""
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
        """The cluster of each node, found by the spectrum, or given for each watched unit."""
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

    def ncut(self, partition: np.ndarray) -> float:
        """See ``functional.ncut``; NaN where no edge is between nodes that are in a cluster."""
        known = np.flatnonzero(partition >= 0)
        return F.ncut(self.adjacency, partition) if self.adjacency[known][:, known].nnz else math.nan

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


def functional_communities(rows: np.ndarray, *, seed: int) -> np.ndarray:
    """Louvain communities of the functional network, as its monitor has them by default; ``[N]``, -1 where dead."""
    selection = F.select(F.correlation_matrix(rows))
    graph = F.Graph.from_sorted_edges(len(selection.nodes), selection.edges)
    found = np.full(rows.shape[1], -1)
    found[selection.nodes] = F.communities(graph, seed=seed)
    return found


def _permuted(weights: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """With the weights between nodes that have any in another order."""
    joined = np.flatnonzero(weights.any(0))
    upper = np.triu_indices(len(joined), 1)
    pairs = joined[upper[0]], joined[upper[1]]
    found = np.zeros_like(weights)
    found[pairs] = generator.permutation(weights[pairs])
    return found + found.T
