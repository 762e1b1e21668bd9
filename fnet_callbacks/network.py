"""A network at one step, and what its measures share: each part computed when first asked for, once."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from fnet_callbacks import functional as F
from fnet_callbacks.errors import FnetError
from fnet_callbacks.history import History, Previous
from fnet_callbacks.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True)
class GraphSettings:
    """How a correlation becomes a graph, and what bounds costly measures; see ``FunctionalNetwork``."""

    rule: F.GraphRule = field(default_factory=F.GraphRule)
    nulls: int = 10
    seed: int = 0
    homology_radius: float | Literal["graph"] = math.inf
    homology_max_nodes: int = 1024
    homology_backend: F.Backend = "native"


@dataclass(frozen=True)
class Activity:
    """What the entropies need of the neurons, all of them, N: see ``ActivationStatistics``.

    ``kept_labels`` are the classes of the rows in ``kept``, below 0 where one has none. ``part_of`` is set where these
    are some neurons of a network: what is known of a neuron is computed once.
    """

    active_share: np.ndarray
    class_active_share: np.ndarray | None = None
    kept: np.ndarray | None = None
    kept_labels: np.ndarray | None = None
    part_of: "tuple[Activity, slice] | None" = field(default=None, repr=False)

    def of(self, neurons: slice) -> "Activity":
        """That of some of the neurons."""
        parts = (self.active_share, self.class_active_share, self.kept)
        own = (None if p is None else p[..., neurons] for p in parts)
        return Activity(*own, kept_labels=self.kept_labels, part_of=(self, neurons))  # type: ignore[arg-type]

    @cached_property
    def histogram_entropies(self) -> np.ndarray | None:
        """Of each neuron, ``[N]``; None where no activations were kept."""
        if self.kept is None or self.part_of is None:
            return None if self.kept is None else F.histogram_entropies(self.kept)
        whole, neurons = self.part_of
        return whole.histogram_entropies[neurons]  # type: ignore[index]


class NoValueError(Exception):
    """A measure has no value here; the message says why, and goes to the record."""


class Network:
    """A functional network at one step: the whole one, or a layer's. A measure is a function of it.

    Everything is computed when a measure first reads it, once.

    Args:
        correlation: Of all neurons of the network, ``[N, N]``; NaN where a unit is dead. None where there is a
            selection and no measure that reads the matrix itself: homology, ``sigma_hqs``.
        activity: Of the same neurons.
        layers: The layer of each of them, ``[N]``, where they are of several.
        selection: What ``functional.select`` says of the correlation, where it is known already.
        previous: The last snapshot of this network; None at the first.
        first_name: The first name that is free for a community, where there is no last snapshot.
        settings: How the graph is built.
        stopwatch: Takes the cost of what is computed.

    Attributes:
        n_neurons: N.
        nodes: The live neurons, the nodes of the graph, ``[n]``.
        graph: Over the nodes; ``edges`` and ``degrees`` are by node.
        edges: The graph's edges by neuron, ``[E, 2]``.
        selection: What is read off the correlation once: the tree, the edges, ``mean_abs_correlation``,
            ``effective_rank``.
        correlation: Of the nodes, ``[n, n]``; for a quantity with ``needs="correlation"``.
        partition: Community of each node, ``[n]``.
        layers: Layer of each neuron, ``[N]``; None where there is one.
        activity: ``active_share`` of each neuron, ``[N]``; see `Activity`.
        wiring: Clustering, path length and efficiency of the graph.
        null_graphs: Rewired graphs with the same degrees.
        diagrams: Persistence diagrams H0 and H1; for a quantity with ``needs="diagrams"``.
        betti: Betti numbers at the graph's own scale, for the same.
        scale: The radius on ``1 - |r|`` at which the complex has the graph's edges.
        previous: The last snapshot, or None; for a quantity with ``compares=True``.
        history: The communities so far, for the same.
        events: What happened to the communities since the last snapshot, for the same.
        settings: How the graph is built; its ``seed`` is for what a measure draws.
        notes: By quantity, why it has no value.

    Raises:
        FnetError: There is neither a correlation nor a selection, or they are of different neurons.
    """

    def __init__(
        self,
        correlation: np.ndarray | None,
        activity: Activity,
        *,
        layers: np.ndarray | None = None,
        selection: F.Selection | None = None,
        previous: Previous | None = None,
        first_name: int = 0,
        settings: GraphSettings | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        if selection is not None:
            if correlation is not None and len(correlation) != selection.n_neurons:
                raise FnetError(
                    f"selection must be of the {len(correlation)} neurons of correlation, got {selection.n_neurons}"
                )
            self.selection = selection
            self.n_neurons, self.nodes = selection.n_neurons, selection.nodes
        elif correlation is not None:
            self.n_neurons, self.nodes = len(correlation), np.flatnonzero(F.live_units(correlation))
        else:
            raise FnetError("a network needs a correlation, or a selection made from one")
        self._given = correlation
        self.activity = activity
        self.layers = layers
        self.previous = previous
        self._first_name = first_name
        self.settings = settings or GraphSettings()
        self.stopwatch = stopwatch or Stopwatch()
        self.notes: dict[str, str] = {}
        self._of_graph: dict[str, float] = {}

    @cached_property
    def correlation(self) -> np.ndarray:
        """Of the live neurons, ``[n, n]``, contiguous; the given matrix itself where it is that.

        Raises:
            FnetError: The network was made from a selection alone.
        """
        if self._given is None:
            raise FnetError("correlation is needed here, and this network was made from a selection alone")
        if len(self.nodes) == self.n_neurons:
            return np.ascontiguousarray(self._given)
        return self._given[np.ix_(self.nodes, self.nodes)]

    @cached_property
    def selection(self) -> F.Selection:
        """The tree, the edges and what else is read off the correlation once."""
        with self.stopwatch.part("graph"):
            of_live = self.settings.rule.select(self.correlation)
            return replace(of_live, n_neurons=self.n_neurons, nodes=self.nodes)

    @property
    def tree_lengths(self) -> np.ndarray:
        """``1 - |r|`` along the maximum spanning tree, ``[n - 1]``: the deaths of H0."""
        return 1 - self.selection.tree_weights

    @property
    def scale(self) -> float:
        """The radius on ``1 - |r|`` at which the complex has the graph's edges."""
        return self.selection.scale

    @cached_property
    def graph(self) -> F.Graph:
        """The functional network over the live neurons, n nodes."""
        with self.stopwatch.part("graph"):
            return F.Graph.from_sorted_edges(len(self.nodes), self.selection.edges)

    @cached_property
    def edges(self) -> np.ndarray:
        """The graph's edges by neuron, ``[E, 2]``."""
        return self.nodes[self.selection.edges]

    @cached_property
    def is_unchanged(self) -> bool:
        """Whether the graph is that of the last snapshot: the same neurons live, the same edges."""
        return (
            self.previous is not None
            and len(self.previous.partition) == self.n_neurons
            and np.array_equal(np.flatnonzero(self.previous.partition >= 0), self.nodes)
            and np.array_equal(self.previous.edges, self.edges)
        )

    def of_graph(self, name: str, compute: Callable[[], float]) -> float:
        """What follows from the graph, the seed and the number of nulls alone.

        Computed once, and not at all where the last snapshot has it and the graph is the same.
        """
        key = f"{name} (seed {self.settings.seed}, {self.settings.nulls} nulls)"
        if key not in self._of_graph:
            known = self.previous.of_graph if self.previous is not None and self.is_unchanged else {}
            self._of_graph[key] = known[key] if key in known else compute()
        return self._of_graph[key]

    @cached_property
    def partition(self) -> np.ndarray:
        """The communities, ``[n]``, warm-started from the last snapshot's."""
        with self.stopwatch.part("communities"):
            if self.previous is not None and self.previous.is_settled and self.is_unchanged:
                return self.previous.partition[self.nodes]
            return F.communities(self.graph, initial=self._initial_partition(), seed=self.settings.seed)

    @cached_property
    def history(self) -> History:
        """The communities so far, this snapshot's among them."""
        with self.stopwatch.part("communities"):
            partition = np.full(self.n_neurons, -1, np.int64)
            partition[self.nodes] = self.partition
            return self._history_before.next(partition)

    @cached_property
    def events(self) -> Sequence[F.Event]:
        """What happened to the communities since the last snapshot."""
        if self.require_previous().history is None:
            raise NoValueError("the communities of the last snapshot have no names")
        return F.events(self._history_before.names, self.history.names)

    @cached_property
    def class_affinity(self) -> np.ndarray:
        """Of each community's mean activation with the class, ``[K]``; NaN for a community of one neuron."""
        rows, labels = self.activity.kept, self.activity.kept_labels
        if rows is None:
            raise NoValueError("not measured on live batches")
        if labels is None or not (labels >= 0).any():
            raise NoValueError("the probe has no labels")
        self.require(2)
        with self.stopwatch.part("class_affinity"):
            sizes = np.bincount(self.partition)
            several = np.flatnonzero(sizes > 1)
            members = (self.partition[:, None] == several).astype(rows.dtype)
            found = np.full(len(sizes), np.nan)
            found[several] = F.class_affinity(rows[:, self.nodes] @ members, labels)
            return found

    @property
    def _history_before(self) -> History:
        before = None if self.previous is None else self.previous.history
        if before is None or len(before.names) != self.n_neurons:
            return History.of_none(self.n_neurons, n_names=self._first_name)
        return before

    @property
    def starts(self) -> int:
        """Runs of Louvain that made the partition: a warm start beside the cold one where there is a last snapshot."""
        return 1 if self.previous is None else 2

    @cached_property
    def wiring(self) -> F.Wiring:
        """Clustering, path length and efficiency, the last two from one search."""
        with self.stopwatch.part("wiring"):
            return F.wiring(self.graph)

    @cached_property
    def null_graphs(self) -> Sequence[F.Graph]:
        """Degree-preserving rewirings of the graph."""
        with self.stopwatch.part("null_graphs"):
            return F.null_graphs(self.graph, nulls=self.settings.nulls, seed=self.settings.seed)

    @cached_property
    def null_modularity(self) -> tuple[float, float]:
        """Mean and standard deviation of the null graphs' modularity, of as many starts as the graph had."""
        return F.null_modularity(self.null_graphs, starts=self.starts, seed=self.settings.seed)

    @cached_property
    def diagrams(self) -> list[np.ndarray]:
        """Persistence diagrams H0 and H1 of the Vietoris-Rips filtration on ``1 - |r|``."""
        s = self.settings
        correlation = self.correlation
        with self.stopwatch.part("homology"):
            if len(correlation) > s.homology_max_nodes:
                order = np.random.default_rng(s.seed).permutation(len(correlation))
                kept = np.sort(order[: s.homology_max_nodes])
                correlation = correlation[np.ix_(kept, kept)]
            return F.persistence(
                F.correlation_distance(correlation),
                max_dim=1,
                threshold=self.radius,
                backend=s.homology_backend,
            )

    @property
    def radius(self) -> float:
        """Longest edge of the filtration."""
        radius = self.settings.homology_radius
        return self.scale if radius == "graph" else radius

    @property
    def homology_bound(self) -> str | None:
        """What was left out of the diagrams; None where nothing was."""
        s, n = self.settings, len(self.nodes)
        bounds = []
        if n > s.homology_max_nodes:
            bounds.append(f"{s.homology_max_nodes} of {n} neurons")
        if s.homology_radius == "graph":
            bounds.append(f"distances up to the graph's scale, {self.scale:.3f}")
        elif s.homology_radius < 1:
            bounds.append(f"distances up to {s.homology_radius:g}")
        return f"homology of {', '.join(bounds)}" if bounds else None

    @cached_property
    def betti(self) -> np.ndarray:
        """Betti numbers at the graph's own scale."""
        if self.scale > self.radius:
            raise NoValueError(f"the graph's scale {self.scale:.3f} is beyond homology_radius")
        return F.betti_numbers(self.diagrams, self.scale)

    @property
    def known_diagrams(self) -> list[np.ndarray]:
        """The diagrams where a measure has read them, else none."""
        return self.diagrams if "diagrams" in vars(self) else []

    def arrays(self) -> dict[str, np.ndarray]:
        """What the record keeps of the network; edges and all that follows are by node."""
        diagrams = self.known_diagrams
        return {
            "neuron": self.nodes,
            "edges": self.graph.edges,
            "weights": np.rint(255 * np.minimum(self.selection.edge_weights, 1)).astype(np.uint8),
            "degree": self.graph.degrees,
            "partition": self.partition,
            "community": self.history.names[self.nodes],
            "tree_weights": self.selection.tree_weights,
            "weight_counts": self.selection.weight_counts.astype(np.int32),
            **self._of_nodes(),
            **({"class_affinity": self.class_affinity} if "class_affinity" in vars(self) else {}),
            **({"scale": np.array(self.scale)} if diagrams else {}),
            **{f"diagram_{k}": d for k, d in enumerate(diagrams)},
            **{f"betti_curve_{k}": F.betti_curve(d) for k, d in enumerate(diagrams)},
        }

    def _of_nodes(self) -> dict[str, np.ndarray]:
        """Of each node what is known of its activity: entropies ``[n]``, and of labelled inputs its classes."""
        activity, of_class = self.activity, {}
        found = {"activation_entropy": F.binary_entropy(activity.active_share[self.nodes])}
        if activity.class_active_share is not None:
            shares = activity.class_active_share[:, self.nodes]
            found["selectivity_entropy"] = F.selectivity_entropies(shares)
            of_class = {
                "preferred_class": F.preferred_class(shares),
                "class_activity": shares.astype(np.float16),
            }
        if "histogram_entropies" in vars(activity) and activity.histogram_entropies is not None:
            found["histogram_entropy"] = activity.histogram_entropies[self.nodes]
        return {**{name: values.astype(np.float32) for name, values in found.items()}, **of_class}

    def require_previous(self) -> Previous:
        """The last snapshot; raises ``NoValueError`` where there is none to compare with."""
        if self.previous is None:
            alike = " that was measured alike" if self._first_name else ""
            raise NoValueError(f"no snapshot before this one{alike}")
        return self.previous

    def require(self, n_nodes: int) -> None:
        """Raises ``NoValueError`` for fewer live neurons."""
        if len(self.nodes) < n_nodes:
            raise NoValueError(f"{len(self.nodes)} live neurons; at least {n_nodes} are needed")

    def require_more_than_tree(self) -> None:
        """Raises ``NoValueError`` where the spanning tree is more than half of the edges."""
        self.require(2)
        n_tree, n_edges = len(self.selection.tree), len(self.selection.edges)
        if self.settings.rule.method == "mst" and 2 * n_tree > n_edges:
            raise NoValueError(f"too few neurons: the spanning tree is {n_tree} of {n_edges} edges")

    def to_previous(self) -> Previous:
        """What the next snapshot of this network starts from."""
        partition = np.full(self.n_neurons, -1, np.int64)
        partition[self.nodes] = self.partition
        initial = self._initial_partition()
        is_settled = initial is not None and np.array_equal(initial, self.partition)
        return Previous(partition, self.edges, self.history, dict(self._of_graph), is_settled)

    def _initial_partition(self) -> np.ndarray | None:
        if self.previous is None or len(self.previous.partition) != self.n_neurons:
            return None
        initial = self.previous.partition[self.nodes].copy()
        new = initial < 0
        initial[new] = initial.max(initial=-1) + 1 + np.arange(new.sum())
        return initial
