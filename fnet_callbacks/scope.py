"""A network at one step, and what its measures share: each part computed when first asked for, once."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fnet_callbacks import functional as F


@dataclass(frozen=True, slots=True)
class GraphSettings:
    """How a correlation becomes a graph, what bounds dear measures; see ``FunctionalNetworkMonitor``."""

    method: F.Method = "mst"
    density: float = 0.05
    threshold: float | None = None
    sign: F.Sign = "absolute"
    nulls: int = 10
    seed: int = 0
    homology_radius: float = math.inf
    homology_max_nodes: int = 1024
    homology_backend: F.Backend = "native"


@dataclass(frozen=True, slots=True)
class Activity:
    """What the entropies need of the neurons, all of them, N: see ``ActivationStatistics``."""

    active_share: np.ndarray
    class_active_share: np.ndarray | None = None
    kept: np.ndarray | None = None

    def of(self, neurons: slice) -> "Activity":
        """That of some of the neurons."""
        parts = (self.active_share, self.class_active_share, self.kept)
        return Activity(*(None if p is None else p[..., neurons] for p in parts))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Previous:
    """What is carried on to the next snapshot: communities ``[N]`` (-1 where dead) and edges, by neuron."""

    partition: np.ndarray
    edges: np.ndarray


class Stopwatch:
    """Milliseconds of named parts; the time of a part inside another is not counted twice."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}
        self._inner: list[float] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds the time of a block, less that of the parts inside it, to ``name``."""
        start = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            elapsed = (time.perf_counter() - start) * 1e3
            own = elapsed - self._inner.pop()
            self.ms[name] = self.ms.get(name, 0.0) + own
            if self._inner:
                self._inner[-1] += elapsed


class NoValueError(Exception):
    """A measure has no value here; the message says why, and goes to the record."""


class Scope:
    """A network at one step: the whole one, or a layer's.

    Args:
        correlation: Of all neurons in the scope, ``[N, N]``; NaN where a unit is dead.
        activity: Of the same neurons.
        previous: The last snapshot of this scope; None at the first.
        settings: How the graph is built.
        stopwatch: Takes the cost of what is computed.
    """

    def __init__(
        self,
        correlation: np.ndarray,
        activity: Activity,
        *,
        previous: Previous | None = None,
        settings: GraphSettings | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        self.n_neurons = len(correlation)
        live = F.live_units(correlation)
        self.nodes = np.flatnonzero(live)
        self.correlation = correlation if live.all() else correlation[np.ix_(live, live)]
        self.activity = activity
        self.previous = previous
        self.settings = settings or GraphSettings()
        self.stopwatch = stopwatch or Stopwatch()
        self.notes: dict[str, str] = {}

    @cached_property
    def tree(self) -> np.ndarray:
        """The maximum spanning tree, ``[n - 1, 2]``."""
        with self.stopwatch.part("graph"):
            return F.spanning_tree(self.correlation, sign=self.settings.sign)

    @cached_property
    def tree_lengths(self) -> np.ndarray:
        """``1 - |r|`` along the tree: the deaths of H0."""
        return 1 - np.abs(self.correlation[self.tree[:, 0], self.tree[:, 1]])

    @cached_property
    def graph(self) -> F.Graph:
        """The functional network over the live neurons, n nodes."""
        s = self.settings
        tree = self.tree if s.method == "mst" else None
        with self.stopwatch.part("graph"):
            return F.graph_from_correlation(
                self.correlation,
                method=s.method,
                density=s.density,
                threshold=s.threshold,
                sign=s.sign,
                tree=tree,
            )

    @cached_property
    def partition(self) -> np.ndarray:
        """The communities, ``[n]``, warm-started from the last snapshot's."""
        with self.stopwatch.part("communities"):
            return F.communities(self.graph, initial=self._initial_partition(), seed=self.settings.seed)

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
    def small_world(self) -> F.SmallWorld:
        """Clustering and path length against the null graphs."""
        nulls = self.null_graphs
        with self.stopwatch.part("sigma"):
            return F.small_world(self.graph, nulls=nulls)

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
                threshold=s.homology_radius,
                backend=s.homology_backend,
            )

    @property
    def homology_bound(self) -> str | None:
        """What was left out of the diagrams; None where nothing was."""
        s, n = self.settings, len(self.nodes)
        bounds = []
        if n > s.homology_max_nodes:
            bounds.append(f"{s.homology_max_nodes} of {n} neurons")
        if s.homology_radius < 1:
            bounds.append(f"distances up to {s.homology_radius:g}")
        return f"homology of {', '.join(bounds)}" if bounds else None

    @cached_property
    def betti(self) -> np.ndarray:
        """Betti numbers at the graph's own scale."""
        if self.scale > self.settings.homology_radius:
            raise NoValueError(f"the graph's scale {self.scale:.3f} is beyond homology_radius")
        return F.betti_numbers(self.diagrams, self.scale)

    @cached_property
    def scale(self) -> float:
        """The radius on ``1 - |r|`` at which the complex has the graph's edges."""
        tree = self.tree if self.settings.method == "mst" else None
        return F.graph_scale(self.correlation, self.graph, tree)

    @property
    def known_diagrams(self) -> list[np.ndarray]:
        """The diagrams where a measure has asked for them, else none."""
        return self.diagrams if "diagrams" in vars(self) else []

    def arrays(self) -> dict[str, np.ndarray]:
        """What the record keeps of the network; edges and all that follows are by node."""
        diagrams = self.known_diagrams
        return {
            "neuron": self.nodes,
            "edges": self.graph.edges,
            "degree": self.graph.degrees,
            "partition": self.partition,
            **{f"diagram_{k}": d for k, d in enumerate(diagrams)},
            **{f"betti_curve_{k}": F.betti_curve(d) for k, d in enumerate(diagrams)},
        }

    def require(self, n_nodes: int) -> None:
        """Raises ``NoValueError`` for fewer live neurons."""
        if len(self.nodes) < n_nodes:
            raise NoValueError(f"{len(self.nodes)} live neurons; at least {n_nodes} are needed")

    def require_more_than_tree(self) -> None:
        """Raises ``NoValueError`` where the spanning tree is more than half of the edges."""
        self.require(2)
        if self.settings.method == "mst" and 2 * len(self.tree) > self.graph.n_edges:
            raise NoValueError(
                f"too few neurons: the spanning tree is {len(self.tree)} of {self.graph.n_edges} edges"
            )

    def to_previous(self) -> Previous:
        """What the next snapshot of this scope starts from."""
        partition = np.full(self.n_neurons, -1, np.int64)
        partition[self.nodes] = self.partition
        return Previous(partition, self.nodes[self.graph.edges])

    def _initial_partition(self) -> np.ndarray | None:
        if self.previous is None or len(self.previous.partition) != self.n_neurons:
            return None
        initial = self.previous.partition[self.nodes].copy()
        new = initial < 0
        initial[new] = initial.max(initial=-1) + 1 + np.arange(new.sum())
        return initial
