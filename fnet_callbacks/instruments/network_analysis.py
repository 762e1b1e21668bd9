"""From what the neurons showed to what is known of their network: its measures, and its part of the record."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fnet_callbacks import functional as F
from fnet_callbacks.findings import EVERYTHING, Context, Findings
from fnet_callbacks.history import Previous
from fnet_callbacks.instruments.network_plan import WHOLE, Moments, NetworkPlan, Reading
from fnet_callbacks.instruments.previous import from_state, to_state
from fnet_callbacks.network import Activity, Network
from fnet_callbacks.portrait import Portrait
from fnet_callbacks.quantities.networks import measure, needs_inline, of_same_diagrams


class NetworkAnalysis:
    """Measures one functional network; remembers the last snapshot, which the next is compared with.

    Args:
        plan: What is measured.
    """

    def __init__(self, plan: NetworkPlan) -> None:
        self.name = plan.name
        self.plan = plan
        self.context = Context()
        self._previous: dict[str, Previous] = {}

    @property
    def stays_here(self) -> str | None:
        """Why no other process can make this analysis; None where one can."""
        names = needs_inline(self.plan.own)
        return f"no other process can import the function of {', '.join(names)}" if names else None

    def alike(self, part: str) -> list[str]:
        """A measure, and those that are made of the same diagrams."""
        if part == EVERYTHING:
            return [part]
        return of_same_diagrams(self.plan.quantities([part])[0], self.plan.quantities())

    def analyze(self, arrays: Reading) -> Findings:
        """Measures the whole network and its layers; costs go to the stopwatch of its context."""
        context = self.context
        with context.around(EVERYTHING), context.stopwatch.part("correlation"):
            moments = _moments(arrays)
        found, following = Findings(), dict(self._previous)
        activity = Activity(
            moments.active_share, moments.class_active_share, moments.kept, moments.kept_labels
        )

        networks: dict[str, Network] = {}
        for part in self.plan.parts():
            network = networks[part.scope] = self._network(part.scope, moments, activity, part.neurons)
            quantities = self.plan.quantities(part.measures)
            values = measure(
                network,
                quantities,
                on_error=context.on_error,
                around=context.around,
                given_up=context.given_up,
            )
            found.scalars.update({part.prefix + name: value for name, value in values.items()})
            found.notes.update({part.prefix + name: note for name, note in network.notes.items()})
            if part.scope == WHOLE or any(q.compares for q in quantities):  # the record has names that last
                with context.around(EVERYTHING):
                    following[part.scope] = network.to_previous()
        found.scalars[f"{self.name}/n_samples"] = float(moments.count)
        with context.around(EVERYTHING), context.stopwatch.part("record"):
            found.arrays.update(self._arrays(networks[WHOLE]))
            portrait = self._portrait(networks[WHOLE]) if self.plan.has_figures else None
        self._previous = following
        return replace(found, portrait=portrait)

    def state(self) -> dict[str, Any]:
        """By scope, the last snapshot."""
        return {scope: to_state(previous) for scope, previous in self._previous.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a `state`."""
        self._previous = {scope: from_state(own) for scope, own in state.items()}

    def _network(self, name: str, moments: Moments, activity: Activity, neurons: slice) -> Network:
        n_neurons = len(moments.active_share[neurons])
        previous, first_name = self._previous.get(name), 0
        # The run was resumed with other settings.
        if previous is not None and len(previous.partition) != n_neurons:
            first_name = 0 if previous.history is None else previous.history.n_names
            previous = None
        layers = self.plan.layer_of_neuron()
        # Streams of null graphs depend on seed and scope alone, so that the series is smooth in time.
        settings = replace(self.plan.graph, seed=self.plan.graph.seed + zlib.crc32(name.encode()))
        return Network(
            None if moments.correlation is None else moments.correlation[neurons, neurons],
            activity if name == WHOLE else activity.of(neurons),
            layers=layers if name == WHOLE and len(self.plan.layers) > 1 else None,
            selection=moments.selections.get(name),
            previous=previous,
            first_name=first_name,
            settings=settings,
            stopwatch=self.context.stopwatch,
        )

    def _arrays(self, whole: Network) -> dict[str, np.ndarray]:
        arrays = {"layer": self.plan.layer_of_neuron()[whole.nodes], **whole.arrays()}
        if self.plan.save_correlation:
            arrays["correlation"] = whole.correlation.astype(np.float32)
        return arrays

    def _portrait(self, whole: Network) -> Portrait:
        return Portrait(
            title=f"step {self.context.step}",
            n_neurons=whole.n_neurons,
            nodes=whole.nodes,
            correlation=whole.correlation.astype(np.float32),
            edges=whole.graph.edges,
            partition=whole.partition,
            diagrams=whole.known_diagrams,
            scale=whole.scale if whole.known_diagrams else None,
        )


def _moments(reading: Reading) -> Moments:
    if isinstance(reading, Moments):
        return reading
    rows, labels, of_class = reading.values, reading.labels, None
    if labels is not None and (known := labels >= 0).any():
        of_class = F.class_active_share(rows[known], labels[known], reading.num_classes)
    return Moments(
        count=len(rows),
        correlation=F.correlation_matrix(rows),
        active_share=F.active_share(rows),
        class_active_share=of_class,
        kept=rows if reading.has_histogram else None,
        kept_labels=labels if reading.has_histogram else None,
    )
