"""The registry: what is measured of a network, at which tier.

A measure is one function of a ``Scope`` and one line in ``MEASURES``. What several measures need (the graph,
its null graphs, the diagrams) is a property of the scope: computed when first asked for, once, and charged to
its own name.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from fnet_callbacks import functional as F  # noqa: N812 - as torch's functional is imported
from fnet_callbacks.errors import FnetError

Tier = Literal["fast", "standard", "full"]
TIERS: tuple[Tier, ...] = ("fast", "standard", "full")


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

    def is_computed(self, name: str) -> bool:
        """Whether a shared part was asked for and did not fail."""
        return name in vars(self)

    def require(self, n_nodes: int) -> None:
        """Raises ``NoValueError`` for fewer live neurons."""
        if len(self.nodes) < n_nodes:
            raise NoValueError(f"{len(self.nodes)} live neurons; at least {n_nodes} are needed")

    def require_more_than_tree(self) -> None:
        """Raises ``NoValueError`` where the spanning tree is more than half of the edges."""
        self.require(2)
        if self.settings.method == "mst" and 2 * len(self.tree) > self.graph.n_edges:
            raise NoValueError(f"the spanning tree is {len(self.tree)} of {self.graph.n_edges} edges")

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


def _live(scope: Scope, values: np.ndarray | None) -> np.ndarray:
    """The live neurons' entries of ``[..., N]``."""
    if values is None:
        raise NoValueError("not gathered")
    scope.require(1)
    return values[..., scope.nodes]


def _selectivity(scope: Scope) -> float:
    if scope.activity.class_active_share is None:
        raise NoValueError("the probe has no labels")
    return F.selectivity_entropy(_live(scope, scope.activity.class_active_share))


def _histogram(scope: Scope) -> float:
    if scope.activity.kept is None:
        raise NoValueError("not measured on live batches")
    return F.histogram_entropy(_live(scope, scope.activity.kept))


def _clustering(scope: Scope) -> float:
    scope.require_more_than_tree()
    return scope.wiring.clustering


def _of_pairs(measure: Callable[[Scope], float]) -> Callable[[Scope], float]:
    def guarded(scope: Scope) -> float:
        scope.require(2)
        return measure(scope)

    return guarded


def _partition_ami(scope: Scope) -> float:
    if scope.previous is None:
        raise NoValueError("no snapshot before this one")
    before = scope.previous.partition[scope.nodes]
    in_both = before >= 0
    if not in_both.any():
        raise NoValueError("no neuron was alive in both snapshots")
    return F.adjusted_mutual_information(before[in_both], scope.partition[in_both])


def _edge_turnover(scope: Scope) -> float:
    if scope.previous is None:
        raise NoValueError("no snapshot before this one")
    now = F.Graph.from_edges(scope.n_neurons, scope.nodes[scope.graph.edges])
    return F.edge_turnover(now, F.Graph.from_edges(scope.n_neurons, scope.previous.edges))


def _sigma(scope: Scope) -> float:
    scope.require_more_than_tree()
    return scope.small_world.sigma


def _sigma_hqs(scope: Scope) -> float:
    scope.require_more_than_tree()
    s = scope.settings
    return F.small_world_hqs(
        scope.correlation,
        scope.graph,
        nulls=s.nulls,
        seed=s.seed,
        method=s.method,
        density=s.density,
        threshold=s.threshold,
        sign=s.sign,
    )


def _modularity_z(scope: Scope) -> float:
    scope.require_more_than_tree()
    return F.modularity_z(
        scope.graph,
        value=F.modularity(scope.graph, scope.partition),
        nulls=scope.null_graphs,
        seed=scope.settings.seed,
        starts=1 if scope.previous is None else 2,  # a warm start is made beside the cold one
    )


def _fault_tolerance(order: F.Order) -> Callable[[Scope], float]:
    return _of_pairs(lambda s: F.fault_tolerance(s.graph, order=order, seed=s.settings.seed))


def _dead_fraction(scope: Scope) -> float:
    return 1 - len(scope.nodes) / scope.n_neurons if scope.n_neurons else math.nan


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of the registry."""

    name: str
    tier: Tier
    of: Callable[[Scope], float] = field(repr=False)


MEASURES: tuple[Measure, ...] = (
    Measure("n_neurons", "fast", lambda s: len(s.nodes)),
    Measure("dead_fraction", "fast", _dead_fraction),
    Measure("mean_abs_correlation", "fast", _of_pairs(lambda s: F.mean_abs_correlation(s.correlation))),
    Measure("effective_rank", "fast", lambda s: F.effective_rank(s.correlation)),
    Measure("activation_entropy", "fast", lambda s: F.activation_entropy(_live(s, s.activity.active_share))),
    Measure("histogram_entropy", "fast", _histogram),
    Measure("selectivity_entropy", "fast", _selectivity),
    Measure("clustering", "fast", _clustering),
    Measure("path_length", "fast", _of_pairs(lambda s: s.wiring.path_length)),
    Measure("global_efficiency", "fast", _of_pairs(lambda s: s.wiring.efficiency)),
    Measure("degree_entropy", "fast", _of_pairs(lambda s: F.degree_entropy(s.graph.degrees))),
    Measure("modularity", "fast", _of_pairs(lambda s: F.modularity(s.graph, s.partition))),
    Measure("n_communities", "fast", lambda s: len(np.unique(s.partition))),
    Measure("community_entropy", "fast", _of_pairs(lambda s: F.community_entropy(s.partition))),
    Measure("partition_ami", "fast", _partition_ami),
    Measure("edge_turnover", "fast", _edge_turnover),
    Measure("tree_mean", "fast", _of_pairs(lambda s: float(s.tree_lengths.mean()))),
    Measure("tree_std", "fast", _of_pairs(lambda s: float(s.tree_lengths.std()))),
    Measure("sigma", "standard", _sigma),
    Measure("sigma_hqs", "standard", _sigma_hqs),
    Measure("modularity_z", "standard", _modularity_z),
    Measure("betti_0", "standard", lambda s: int(s.betti[0])),
    Measure("betti_1", "standard", lambda s: int(s.betti[1])),
    Measure("loops", "standard", lambda s: len(s.diagrams[1])),
    Measure("functional_persistence", "standard", lambda s: F.functional_persistence(s.diagrams[1])),
    Measure("persistent_entropy", "standard", lambda s: F.persistent_entropy(s.diagrams[1])),
    Measure("local_efficiency", "full", _of_pairs(lambda s: F.local_efficiency(s.graph))),
    Measure("fault_tolerance_random", "full", _fault_tolerance("random")),
    Measure("fault_tolerance_degree", "full", _fault_tolerance("degree")),
)
BY_NAME: Mapping[str, Measure] = {m.name: m for m in MEASURES}
_OF_HOMOLOGY = ("betti_0", "betti_1", "loops", "functional_persistence", "persistent_entropy")


def names_of(measures: str | Iterable[str]) -> tuple[str, ...]:
    """The names that a tier or a list of names and tiers stands for, in the registry's order.

    Raises:
        FnetError: A name is neither a measure nor a tier.
    """
    asked = {measures} if isinstance(measures, str) else set(measures)
    if unknown := sorted(asked - set(TIERS) - set(BY_NAME)):
        raise FnetError(
            f"`measures`: {', '.join(map(repr, unknown))} is neither a tier ({', '.join(TIERS)}) nor a "
            f"measure ({', '.join(BY_NAME)})"
        )
    depth = max((TIERS.index(t) for t in TIERS if t in asked), default=-1)
    return tuple(m.name for m in MEASURES if m.name in asked or TIERS.index(m.tier) <= depth)


def measure(
    scope: Scope, names: Iterable[str], *, on_error: Literal["warn", "raise"] = "warn"
) -> dict[str, float]:
    """Measures a scope.

    A measure without a value here gives NaN, its reason in ``scope.notes``. One that fails gives NaN too, the
    error in ``scope.notes`` behind ``"failed: "``, unless ``on_error="raise"``. Where homology was bounded,
    the notes of its measures say so. Costs go to ``scope.stopwatch``.

    Args:
        scope: The network.
        names: Measures of the registry.
        on_error: What to do where a measure raises.

    Returns:
        Name to value.
    """
    values: dict[str, float] = {}
    for name in names:
        values[name] = math.nan
        try:
            with scope.stopwatch.part(name):
                values[name] = float(BY_NAME[name].of(scope))
        except NoValueError as reason:
            scope.notes[name] = str(reason)
        except Exception as error:
            if on_error == "raise":
                raise
            scope.notes[name] = f"failed: {type(error).__name__}: {error}"
        if math.isnan(values[name]):
            scope.notes.setdefault(name, "not defined for this network")
        elif name in _OF_HOMOLOGY and scope.homology_bound:
            scope.notes[name] = scope.homology_bound
    return values
