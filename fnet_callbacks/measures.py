"""The registry: what is measured of a network, at which tier.

A measure is one function of a ``Scope`` and one line in ``MEASURES``. What several measures need (the graph,
its null graphs, the diagrams) is a property of the scope and charged to its own name.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from fnet_callbacks import functional as F
from fnet_callbacks.errors import FnetError
from fnet_callbacks.scope import NoValueError, Scope

Tier = Literal["fast", "standard", "full"]
TIERS: tuple[Tier, ...] = ("fast", "standard", "full")


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
    entropies = _live(scope, scope.activity.histogram_entropies)
    entropies = entropies[~np.isnan(entropies)]
    return entropies.mean() if len(entropies) else math.nan


def _clustering(scope: Scope) -> float:
    scope.require_more_than_tree()
    return scope.of_graph("clustering", lambda: scope.wiring.clustering)


def _of_graph(name: str, measure: Callable[[Scope], float]) -> Callable[[Scope], float]:
    return lambda scope: scope.of_graph(name, lambda: measure(scope))


def _of_pairs(measure: Callable[[Scope], float]) -> Callable[[Scope], float]:
    def guarded(scope: Scope) -> float:
        scope.require(2)
        return measure(scope)

    return guarded


def _partition_ami(scope: Scope) -> float:
    before = scope.require_previous().partition[scope.nodes]
    in_both = before >= 0
    if not in_both.any():
        raise NoValueError("no neuron was alive in both snapshots")
    return F.adjusted_mutual_information(before[in_both], scope.partition[in_both])


def _flexibility(scope: Scope) -> float:
    scope.require_previous()
    moves, chances = (found[scope.nodes] for found in (scope.history.moves, scope.history.chances))
    if not chances.any():
        raise NoValueError("no neuron was alive in both snapshots")
    return (moves[chances > 0] / chances[chances > 0]).mean()


def _events(kind: F.EventKind) -> Callable[[Scope], float]:
    return lambda scope: sum(event.kind == kind for event in scope.events)


def _participation(scope: Scope) -> float:
    return F.participation_coefficient(scope.graph, scope.partition).mean()


def _layers(scope: Scope) -> np.ndarray:
    scope.require(2)
    if scope.layers is None:
        raise NoValueError("there is only one layer")
    return scope.layers[scope.nodes]


def _layer_entropy(scope: Scope) -> float:
    counts = F.composition(scope.partition, _layers(scope))
    several = counts.sum(1) > 1
    if not several.any():
        raise NoValueError("every neuron is a community of its own")
    return np.average(F.layer_entropy(counts[several]), weights=counts[several].sum(1))


def _class_ami(scope: Scope) -> float:
    if scope.activity.class_active_share is None:
        raise NoValueError("the probe has no labels")
    preferred = F.preferred_class(_live(scope, scope.activity.class_active_share))
    known = preferred >= 0
    if not known.any():
        raise NoValueError("no neuron is ever active")
    return F.adjusted_mutual_information(scope.partition[known], preferred[known])


def _class_affinity(scope: Scope) -> float:
    affinity, sizes = scope.class_affinity, np.bincount(scope.partition)
    known = np.isfinite(affinity) & (sizes > 1)
    return np.average(affinity[known], weights=sizes[known]) if known.any() else math.nan


def _edge_turnover(scope: Scope) -> float:
    return F.edge_turnover(scope.edges, scope.require_previous().edges)


def _sigma(scope: Scope) -> float:
    scope.require_more_than_tree()

    def sigma() -> float:
        nulls = scope.null_graphs
        with scope.stopwatch.part("sigma"):
            return F.small_world(scope.graph, nulls=nulls).sigma

    return scope.of_graph("sigma", sigma)


def _sigma_hqs(scope: Scope) -> float:
    scope.require_more_than_tree()
    s = scope.settings
    return F.small_world_hqs(scope.correlation, scope.graph, nulls=s.nulls, seed=s.seed, rule=s.rule)


def _modularity_z(scope: Scope) -> float:
    scope.require_more_than_tree()
    mean, spread = (
        scope.of_graph(
            f"null modularity of {scope.starts} starts, {part}", lambda k=k: scope.null_modularity[k]
        )
        for k, part in enumerate(("mean", "spread"))
    )
    return F.z_score(F.modularity(scope.graph, scope.partition), mean, spread)


def _fault_tolerance(order: F.Order) -> Callable[[Scope], float]:
    return _of_pairs(
        _of_graph(
            f"fault tolerance, {order}",
            lambda s: F.fault_tolerance(s.graph, order=order, seed=s.settings.seed),
        )
    )


def _local_efficiency(scope: Scope) -> float:
    return F.local_efficiency(scope.graph)


def _dead_fraction(scope: Scope) -> float:
    return 1 - len(scope.nodes) / scope.n_neurons if scope.n_neurons else math.nan


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of the registry.

    ``reads`` is what it needs beside the activity: what ``functional.select`` says of the correlation, the whole
    matrix, or the diagrams, which are made from the matrix. ``compares`` is whether it looks at snapshots before,
    ``is_beyond_tree`` whether it has no value where the spanning tree is more than half of the edges.
    """

    name: str
    tier: Tier
    of: Callable[[Scope], float] = field(repr=False)
    reads: Literal["selection", "correlation", "diagrams"] = "selection"
    compares: bool = False
    is_beyond_tree: bool = False


MEASURES: tuple[Measure, ...] = (
    Measure("n_neurons", "fast", lambda s: len(s.nodes)),
    Measure("dead_fraction", "fast", _dead_fraction),
    Measure("mean_abs_correlation", "fast", _of_pairs(lambda s: s.selection.mean_abs_correlation)),
    Measure("effective_rank", "fast", lambda s: s.selection.effective_rank),
    Measure("activation_entropy", "fast", lambda s: F.activation_entropy(_live(s, s.activity.active_share))),
    Measure("histogram_entropy", "fast", _histogram),
    Measure("selectivity_entropy", "fast", _selectivity),
    Measure("clustering", "fast", _clustering, is_beyond_tree=True),
    Measure("path_length", "fast", _of_pairs(_of_graph("path_length", lambda s: s.wiring.path_length))),
    Measure(
        "global_efficiency", "fast", _of_pairs(_of_graph("global_efficiency", lambda s: s.wiring.efficiency))
    ),
    Measure("degree_entropy", "fast", _of_pairs(lambda s: F.degree_entropy(s.graph.degrees))),
    Measure("modularity", "fast", _of_pairs(lambda s: F.modularity(s.graph, s.partition))),
    Measure("n_communities", "fast", lambda s: len(np.unique(s.partition))),
    Measure("community_entropy", "fast", _of_pairs(lambda s: F.community_entropy(s.partition))),
    Measure("partition_ami", "fast", _partition_ami, compares=True),
    Measure("flexibility", "fast", _flexibility, compares=True),
    Measure("participation", "fast", _of_pairs(_participation)),
    Measure("edge_turnover", "fast", _edge_turnover, compares=True),
    Measure("tree_mean", "fast", _of_pairs(lambda s: float(s.tree_lengths.mean()))),
    Measure("tree_std", "fast", _of_pairs(lambda s: float(s.tree_lengths.std()))),
    Measure("births", "standard", _events("birth"), compares=True),
    Measure("deaths", "standard", _events("death"), compares=True),
    Measure("splits", "standard", _events("split"), compares=True),
    Measure("merges", "standard", _events("merge"), compares=True),
    Measure("layer_ami", "standard", lambda s: F.adjusted_mutual_information(s.partition, _layers(s))),
    Measure("layer_entropy", "standard", _layer_entropy),
    Measure("class_ami", "standard", _class_ami),
    Measure("class_affinity", "standard", _class_affinity),
    # First, while its null matrices are all that takes memory; the next two share null graphs.
    Measure("sigma_hqs", "standard", _sigma_hqs, "correlation", is_beyond_tree=True),
    Measure("sigma", "standard", _sigma, is_beyond_tree=True),
    Measure("modularity_z", "standard", _modularity_z, is_beyond_tree=True),
    Measure("betti_0", "standard", lambda s: int(s.betti[0]), "diagrams"),
    Measure("betti_1", "standard", lambda s: int(s.betti[1]), "diagrams"),
    Measure("loops", "standard", lambda s: len(s.diagrams[1]), "diagrams"),
    Measure(
        "functional_persistence", "standard", lambda s: F.functional_persistence(s.diagrams[1]), "diagrams"
    ),
    Measure("persistent_entropy", "standard", lambda s: F.persistent_entropy(s.diagrams[1]), "diagrams"),
    Measure(
        "local_efficiency",
        "full",
        _of_pairs(_of_graph("local_efficiency", lambda s: F.local_efficiency(s.graph))),
    ),
    Measure("fault_tolerance_random", "full", _fault_tolerance("random")),
    Measure("fault_tolerance_degree", "full", _fault_tolerance("degree")),
)
BY_NAME: Mapping[str, Measure] = {m.name: m for m in MEASURES}


def names_of(measures: str | Iterable[str], *, argument: str = "measures") -> tuple[str, ...]:
    """The names that a tier or a list of names and tiers stands for, in the registry's order.

    An error calls them by ``argument``.

    Raises:
        FnetError: A name is neither a measure nor a tier.
    """
    listed: list[Any] = [measures]
    if not isinstance(measures, str) and isinstance(measures, Iterable):
        listed = [*measures]
    if not all(isinstance(name, str) for name in listed):
        raise FnetError(
            f"`{argument}={measures!r}` should be a tier or a list of tiers and names; [] is none"
        )
    asked = set(listed)
    if unknown := sorted(asked - set(TIERS) - set(BY_NAME)):
        raise FnetError(
            f"`{argument}`: {', '.join(map(repr, unknown))} is neither a tier ({', '.join(TIERS)}) nor a "
            f"measure ({', '.join(BY_NAME)})"
        )
    depth = max((TIERS.index(t) for t in TIERS if t in asked), default=-1)
    return tuple(m.name for m in MEASURES if m.name in asked or TIERS.index(m.tier) <= depth)


def compare_snapshots(names: Iterable[str]) -> bool:
    """Whether one of these measures looks at snapshots before."""
    return any(BY_NAME[name].compares for name in names)


def beyond_tree(names: Iterable[str]) -> list[str]:
    """Those of these measures that have no value where the spanning tree is more than half of the edges."""
    return [name for name in names if BY_NAME[name].is_beyond_tree]


def read_correlation(names: Iterable[str]) -> bool:
    """Whether one of these measures reads the correlation matrix itself, beyond what is selected from it."""
    return any(BY_NAME[name].reads != "selection" for name in names)


def reading_alike(name: str) -> list[str]:
    """A measure, and those that are made of the same diagrams; what is no measure is by itself."""
    if name in BY_NAME and BY_NAME[name].reads == "diagrams":
        return [m.name for m in MEASURES if m.reads == "diagrams"]
    return [name]


def measure(
    scope: Scope,
    names: Iterable[str],
    *,
    on_error: Literal["warn", "raise"] = "warn",
    around: Callable[[str], AbstractContextManager[object]] = nullcontext,
    given_up: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """Measures a scope.

    A measure without a value here gives NaN, its reason in ``scope.notes``. One that fails gives NaN too, the
    error in ``scope.notes`` behind ``"failed: "``, unless ``on_error="raise"``. Where homology was bounded,
    the notes of its measures say so. Costs go to ``scope.stopwatch``.

    Args:
        scope: The network.
        names: Measures of the registry.
        on_error: What to do where a measure raises.
        around: From the name of a measure to what it is taken in.
        given_up: Measures that are taken as failed without being tried, and why.

    Returns:
        Name to value.
    """
    values: dict[str, float] = {}
    for name in names:
        values[name] = math.nan
        try:
            if given_up and name in given_up:
                raise TimeoutError(given_up[name])
            with around(name), scope.stopwatch.part(name):
                values[name] = float(BY_NAME[name].of(scope))
        except NoValueError as reason:
            scope.notes[name] = str(reason)
        except Exception as error:
            if on_error == "raise":
                raise
            scope.notes[name] = f"failed: {type(error).__name__}: {error}"
        if math.isinf(values[name]):  # which JSON does not have: loggers and record are to say the same
            values[name] = math.nan
            scope.notes[name] = "infinite"
        if math.isnan(values[name]):
            scope.notes.setdefault(name, "not defined for this network")
        elif BY_NAME[name].reads == "diagrams" and scope.homology_bound:
            scope.notes[name] = scope.homology_bound
    return values
