"""The communities of one run: who they were at each snapshot, what happened to them, what those at the end are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from fnet_callbacks import functional as F
from fnet_callbacks.compare.run import Run
from fnet_callbacks.compare.topology import arrays_of

ENTROPIES = ("activation_entropy", "histogram_entropy", "selectivity_entropy")


@dataclass(frozen=True, slots=True)
class Community:
    """A community at the last snapshot.

    Attributes:
        name: As of `functional.trace`.
        size: Neurons.
        since: Step of the snapshot at which it appeared.
        persistence: See `functional.Lifetimes`.
        flexibility: Mean over its neurons, see `functional.flexibility`.
        promiscuity: Mean over its neurons, see `functional.promiscuity`.
        participation: Mean over its neurons, see `functional.participation_coefficient`.
        layers: How many of its neurons are in which layer, by ``Run.layers``, those with none left out.
        class_affinity: See `functional.class_affinity`; NaN where it was not measured.
        entropies: Mean over its neurons of those that the record has, by name.
    """

    name: int
    size: int
    since: int
    persistence: float
    flexibility: float
    promiscuity: float
    participation: float
    layers: Mapping[str, int]
    class_affinity: float
    entropies: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Story:
    """The communities of a run.

    Attributes:
        steps: Of the T snapshots that have a graph, since what is measured last changed.
        names: Community of each neuron, ``[N, T]``, as of `functional.trace`; -1 where it is dead or not watched.
        events: What happened, by the step of the later snapshot.
        last: Those at the end that have two neurons or more, the largest first.
    """

    steps: Sequence[int]
    names: np.ndarray = field(repr=False)
    events: Mapping[int, Sequence[F.Event]]
    last: Sequence[Community]


def story(run: Run, instrument: str) -> Story:
    """The communities of a run since its settings last changed; without a step where no snapshot has a graph.

    Cost: reads every snapshot once.
    """
    steps = run.record.last_span(instrument)
    found = [(step, arrays_of(run, step, instrument, ("neuron", "partition"))) for step in steps]
    found = [(step, arrays) for step, arrays in found if len(arrays.get("partition", ()))]
    if not found:
        return Story([], np.empty((0, 0), np.int64), {}, [])
    n_neurons = max(int(arrays["neuron"].max()) + 1 for _, arrays in found)
    partitions = np.full((n_neurons, len(found)), -1)
    for t, (_, arrays) in enumerate(found):
        partitions[arrays["neuron"], t] = arrays["partition"]
    steps, names = [step for step, _ in found], F.trace(partitions)
    events = {step: F.events(*pair) for step, pair in zip(steps[1:], pairwise(names.T), strict=True)}
    return Story(steps, names, events, _last(run, instrument, steps, names))


def _last(run: Run, instrument: str, steps: Sequence[int], names: np.ndarray) -> list[Community]:
    arrays = arrays_of(run, steps[-1], instrument)
    if "edges" not in arrays:  # the file is damaged in other places than those that were read before
        return []
    nodes, partition = arrays["neuron"], arrays["partition"]
    graph = F.Graph.from_edges(len(nodes), arrays["edges"])
    participation = F.participation_coefficient(graph, partition)
    flexibility, promiscuity = F.flexibility(names)[nodes], F.promiscuity(names)[nodes]
    lives = F.lifetimes(names)
    persistence = dict(zip(lives.names.tolist(), lives.persistence.tolist(), strict=True))
    layers = run.layers(instrument)
    affinity = arrays.get("class_affinity", np.full(len(partition), np.nan))
    found = []
    for community in np.unique(partition).tolist():
        own = partition == community
        if own.sum() < 2:
            continue
        named = int(names[nodes[own][0], -1])
        counts = np.bincount(arrays["layer"][own], minlength=len(layers)) if "layer" in arrays else ()
        found.append(
            Community(
                name=named,
                size=int(own.sum()),
                since=steps[int((names == named).any(0).argmax())],
                persistence=persistence[named],
                flexibility=_mean(flexibility[own]),
                promiscuity=_mean(promiscuity[own]),
                participation=_mean(participation[own]),
                layers={name: int(n) for name, n in zip(layers, counts, strict=False) if n},
                class_affinity=float(affinity[community]),
                entropies={key: _mean(arrays[key][own]) for key in ENTROPIES if key in arrays},
            )
        )
    return sorted(found, key=lambda c: -c.size)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan
