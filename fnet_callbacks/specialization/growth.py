"""The graph of a network's weights, and how it grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.sparse import coo_array, csr_array


@dataclass(frozen=True, slots=True)
class Edges:
    """The weights of one call of one layer, those between its inputs and its units.

    Attributes:
        sources: Node of each weight's input, ``[E]``.
        targets: Node of its unit, ``[E]``.
        weights: Absolute, ``[E]`` float64.
    """

    sources: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, slots=True)
class WeightGraph:
    """Units as nodes, absolute weights as edges.

    Attributes:
        layers: The layer of each node, ``[N]``, an index of ``names``; that of the first where a residual sum has made
            units of several layers one node.
        names: Of the layers: ``"input"``, then the modules that have weights, in the order of their calls, with ``#k``
            for the k-th call of one that is called several times.
        edges: Of each layer but the input.
        units: By name of a module, the nodes that its output's units are, ``[n_units]``, where these are followed; of
            a module that is called several times by ``name#k``.
    """

    layers: np.ndarray
    names: Sequence[str]
    edges: Sequence[Edges] = field(repr=False)
    units: Mapping[str, np.ndarray] = field(repr=False)

    @property
    def n_nodes(self) -> int:
        """Number of nodes, N."""
        return len(self.layers)

    def adjacency(self, generator: np.random.Generator | None = None) -> csr_array:
        """Weights of the edges, ``[N, N]``, symmetric; weights between the same two nodes add up.

        Args:
            generator: Permutes the weights within each layer; None leaves them where they are.
        """
        shuffle = (lambda weights: weights) if generator is None else generator.permutation
        weights = np.concatenate([np.empty(0), *(shuffle(e.weights) for e in self.edges)])
        none = np.empty(0, np.int64)
        sources = np.concatenate([none, *(e.sources for e in self.edges)])
        targets = np.concatenate([none, *(e.targets for e in self.edges)])
        found = csr_array(coo_array((weights, (sources, targets)), shape=(self.n_nodes, self.n_nodes)))
        found.setdiag(0)  # a sum may have made both ends of a weight one node
        found = csr_array(found + found.T)
        found.eliminate_zeros()
        return found


class Growth:
    """A graph that grows layer by layer, in which nodes may become one."""

    def __init__(self) -> None:
        self.units: dict[str, np.ndarray] = {}
        self._names: list[str] = []
        self._layer_of: list[np.ndarray] = []
        self._parent = np.empty(0, np.int64)
        self._edges: list[Edges] = []

    def fresh(self, name: str, n_units: int) -> np.ndarray:
        """New nodes, those of a layer."""
        start = len(self._parent)
        nodes = np.arange(start, start + n_units)
        self._parent = np.concatenate([self._parent, nodes])
        self._layer_of.append(np.full(n_units, len(self._names)))
        self._names.append(name)
        self.units[name] = nodes
        return nodes

    def connect(self, sources: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> int:
        """Adds the edges of a layer; those between the same two nodes add up. Returns the layer's place."""
        # Over the positions of a flattened channel the weights add up.
        own, place = np.unique(np.stack([targets, sources]), axis=1, return_inverse=True)
        sums = np.bincount(place.ravel(), weights, minlength=own.shape[1])
        self._edges.append(Edges(own[1], own[0], sums))
        return len(self._edges) - 1

    def scale(self, layer: int, nodes: np.ndarray, gains: np.ndarray) -> None:
        """Multiplies the edges of a layer into each of some nodes."""
        of_node = np.ones(len(self._parent))
        of_node[nodes] = np.abs(gains)
        edges = self._edges[layer]
        self._edges[layer] = replace(edges, weights=edges.weights * of_node[edges.targets])

    def join(self, nodes: np.ndarray, others: np.ndarray) -> None:
        """Makes each node and the other at its place one."""
        for pair in zip(nodes.tolist(), others.tolist(), strict=True):
            low, high = sorted(int(self.root(np.array(n))) for n in pair)
            self._parent[high] = low

    def root(self, nodes: np.ndarray) -> np.ndarray:
        """What stands for each node: the same of those that have become one."""
        while (self._parent[nodes] != nodes).any():
            nodes = self._parent[nodes]
        return nodes

    def graph(self) -> WeightGraph:
        """All that has grown."""
        kept, place = np.unique(self.root(np.arange(len(self._parent))), return_inverse=True)
        layers = np.concatenate([np.empty(0, np.int64), *self._layer_of])[kept]
        edges = [replace(e, sources=place[e.sources], targets=place[e.targets]) for e in self._edges]
        return WeightGraph(layers, self._names, edges, {name: place[own] for name, own in self.units.items()})
