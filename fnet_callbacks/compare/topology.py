"""What the records keep of topologies beside scalars: how far runs are apart in it, and how it holds and drifts."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from typing import Any, TypeGuard, get_args

import numpy as np

from fnet_callbacks import functional as F
from fnet_callbacks.compare.curves import Curve
from fnet_callbacks.compare.distances import (
    betti_distance,
    bottleneck,
    graph_filtration_distance,
    measure_distance,
    pairwise,
    wasserstein,
)
from fnet_callbacks.compare.progress import tracked
from fnet_callbacks.compare.run import Run
from fnet_callbacks.errors import FnetError, RecordError

_OF_DIAGRAMS: Mapping[str, Callable[[Any, Any], float]] = {
    "Wasserstein distance of the loops": wasserstein,
    "bottleneck distance of the loops": bottleneck,
    "distance of the Betti-1 curves": betti_distance,
}
_OF_FILTRATIONS: Mapping[str, Callable[[Any, Any], float]] = {
    "distance of the graph filtrations": graph_filtration_distance
}


@dataclass(frozen=True, slots=True)
class RunDistances:
    """How far runs are from each other at the end of training.

    Attributes:
        runs: R runs, those that have what it takes.
        distances: By name, ``[R, R]``.
    """

    runs: Sequence[Run]
    distances: Mapping[str, np.ndarray] = field(repr=False)


def arrays_of(
    run: Run, step: int, instrument: str, names: Collection[str] | None = None
) -> dict[str, np.ndarray]:
    """What a record keeps of one instrument's network at a step; empty where that is nothing or cannot be read.

    Args:
        run: The run.
        step: Of a snapshot.
        instrument: Its name.
        names: Those that are read; default: all.
    """
    arrays = None if names is None else {f"{instrument}.{name}" for name in names}
    try:
        found = run.record.arrays(step, arrays)
    except RecordError:
        return {}
    return {k.removeprefix(f"{instrument}."): v for k, v in found.items() if k.startswith(f"{instrument}.")}


def run_distances(runs: Sequence[Run], instrument: str, keys: Sequence[str]) -> list[RunDistances]:
    """Distances of runs at their last snapshot: between diagrams, graph filtrations, and vectors of measures.

    Args:
        runs: The runs.
        instrument: Name of the one whose networks are compared.
        keys: The scalars of a vector of measures.

    Returns:
        What there is: without homology no distances of diagrams, nor of those with loops that were left open where
        the filtration was ended; none of filtrations below three live neurons; and none of measures where none is
        finite in all runs.

    Cost: R (R - 1) / 2 distances of each kind; a bottleneck distance of 800 loops takes some tens of milliseconds, one
        of 1,900 more than half a second.
    """
    found = []
    names = ("diagram_1", "tree_weights", "weight_counts")
    arrays = [(run, arrays_of(run, run.record.steps[-1], instrument, names)) for run in runs]
    loops = [(run, of_run["diagram_1"]) for run, of_run in arrays if _is_closed(of_run.get("diagram_1"))]
    filtrations = [
        (run, (of_run["tree_weights"], of_run["weight_counts"]))
        for run, of_run in arrays
        if "weight_counts" in of_run and len(of_run["tree_weights"]) > 1
    ]
    for having, distances in ((loops, _OF_DIAGRAMS), (filtrations, _OF_FILTRATIONS)):
        if len(having) > 1:
            things = [thing for _, thing in having]
            found.append(
                RunDistances(
                    [run for run, _ in having], {k: pairwise(things, d) for k, d in distances.items()}
                )
            )
    try:
        vectors = np.array([[run.final(key) for key in keys] for run in runs])
        found.append(
            RunDistances(list(runs), {"distance of the vectors of measures": measure_distance(vectors)})
        )
    except FnetError:
        pass
    return found


def _is_closed(diagram: np.ndarray | None) -> TypeGuard[np.ndarray]:
    return diagram is not None and bool(np.isfinite(diagram).all())


def attack_curves(
    runs: Sequence[Run], instrument: str
) -> dict[tuple[F.Order, F.AttackMeasure], dict[str, F.AttackCurve]]:
    """By order of removal and measure, and by name of the run: what is left of the last snapshot's graph.

    See ``F.attack_curve``. Runs without a graph are left out. The curves follow from the edges that the record keeps.

    Cost: at 1,024 neurons about two seconds a run, for the order by betweenness; runs side by side in threads.
    """

    def of(run: Run) -> dict[tuple[F.Order, F.AttackMeasure], F.AttackCurve]:
        arrays = arrays_of(run, run.record.steps[-1], instrument, ("neuron", "edges"))
        if len(arrays.get("edges", ())) == 0:
            return {}
        graph = F.Graph.from_edges(len(arrays["neuron"]), arrays["edges"])
        orders: dict[F.Order, np.ndarray] = {
            order: F.removal_order(graph, order) for order in get_args(F.Order)
        }
        return {
            (order, measure): F.attack_curve(graph, order=nodes, measure=measure)
            for order, nodes in orders.items()
            for measure in get_args(F.AttackMeasure)
        }

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        curves_of = tracked(pool.map(of, runs), "fault tolerance", total=len(runs))
        found = dict(zip([run.name for run in runs], curves_of, strict=True))
    kinds = list(product(get_args(F.Order), get_args(F.AttackMeasure)))
    return {kind: {name: curves[kind] for name, curves in found.items() if kind in curves} for kind in kinds}


def drift(run: Run, instrument: str) -> Curve:
    """Topological drift: the distance of each snapshot's Betti-1 curve to that of the snapshot before.

    Returns:
        The distances at the later one's step; empty where there is no homology, or loops that were left open where
        the filtration was ended, whose deaths nobody knows. There is none across a change of settings.
    """
    steps, distances = [], []
    before, gaps = None, run.gaps(instrument)
    starts = {step for _, step in gaps}
    for step in run.record.steps:
        before = None if step in starts else before
        diagram = arrays_of(run, step, instrument, ("diagram_1",)).get("diagram_1")
        if _is_closed(diagram) and _is_closed(before):
            steps.append(step)
            distances.append(betti_distance(before, diagram))
        before = diagram
    return Curve(np.array(steps, np.int64), np.array(distances, float), tuple((a + b) / 2 for a, b in gaps))
