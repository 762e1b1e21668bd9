"""What the training thread hands over, and what comes back."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from fnet_callbacks.functional.selection import GraphRule, Selection
from fnet_callbacks.history import History, Previous
from fnet_callbacks.network import GraphSettings
from fnet_callbacks.portrait import PORTRAITS, CodePortrait, Portrait
from fnet_callbacks.quantities.networks import by_name, needs_inline
from fnet_callbacks.quantities.quantity import Quantity


@dataclass(frozen=True, slots=True)
class Rows:
    """The activations that were seen: all that is measured follows from them.

    Attributes:
        values: ``[S, N]``, float32 or float64.
        labels: Class of each sample, ``[S]``, -1 where it has none; None without labels.
        num_classes: C.
        has_histogram: Whether the histogram entropy is taken of them.
    """

    values: np.ndarray
    labels: np.ndarray | None
    num_classes: int
    has_histogram: bool


@dataclass(frozen=True, slots=True)
class Moments:
    """What running sums give where the activations are too many to hand over, or spread over ranks or on a GPU.

    Attributes:
        count: Samples.
        correlation: ``[N, N]`` float64; None where ``selections`` are enough.
        active_share: See ``Activity``; so are the next two.
        class_active_share: See there.
        kept: See there.
        kept_labels: See there.
        selections: By scope, where edges were selected on the model's device.
    """

    count: int
    correlation: np.ndarray | None
    active_share: np.ndarray
    class_active_share: np.ndarray | None
    kept: np.ndarray | None
    kept_labels: np.ndarray | None = None
    selections: Mapping[str, Selection] = field(default_factory=dict)


Reading = Rows | Moments
EVERYTHING = ""  # that is done for a monitor, beside its measures by name
WHOLE = ""  # the scope of the whole network, beside those of its layers


@dataclass(frozen=True, slots=True)
class Measured:
    """What a monitor found at one step.

    Attributes:
        scalars: Full key to value.
        notes: Full key to the reason for a NaN or a bound.
        arrays: Name to array, for the record.
        portrait: What can be drawn of it.
    """

    scalars: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    portrait: Portrait | CodePortrait | None = None


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """A layer of the network: its name, its part of the keys, its number of neurons."""

    name: str
    folder: str
    n_neurons: int


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """What is measured of a functional network; see ``FunctionalNetworkMonitor``.

    ``measures`` and ``layer_measures`` are names; ``own`` has the user's own quantities among them, for another process
    as ``Quantity.to_plain`` has them.
    """

    name: str
    measures: Sequence[str]
    layer_measures: Sequence[str]
    layers: Sequence[LayerPlan]
    graph: GraphSettings
    save_correlation: bool
    has_figures: bool
    on_error: Literal["warn", "raise"]
    measure_timeout_s: float | None = None
    own: Sequence[Quantity | Mapping[str, Any]] = ()

    def quantities(self, names: Iterable[str] | None = None) -> list[Quantity]:
        """Those of some names, else all that are measured."""
        known = by_name(q for q in self.own if isinstance(q, Quantity))
        return [
            known[n]
            for n in (dict.fromkeys([*self.measures, *self.layer_measures]) if names is None else names)
        ]

    def to_plain(self) -> NetworkPlan:
        """The plan for another process; raises `FnetError` where a quantity cannot be imported there."""
        return replace(self, own=[q.to_plain() if isinstance(q, Quantity) else q for q in self.own])

    def imported(self) -> NetworkPlan:
        """The plan of another process with its quantities; raises `FnetError` where one cannot be imported here."""
        return replace(self, own=[q if isinstance(q, Quantity) else Quantity.from_plain(q) for q in self.own])

    def scopes(self) -> list[tuple[str, str, slice, Sequence[str]]]:
        """What is measured: the scope's name, where its keys begin, its neurons, its measures; the whole first."""
        layers = self.layers if self.layer_measures else ()
        ends = itertools.accumulate(layer.n_neurons for layer in layers)
        return [
            (WHOLE, f"{self.name}/", slice(None), self.measures),
            *(
                (
                    layer.name,
                    f"{self.name}_layers/{layer.folder}/",
                    slice(end - layer.n_neurons, end),
                    self.layer_measures,
                )
                for layer, end in zip(layers, ends, strict=True)
            ),
        ]


@dataclass(frozen=True, slots=True)
class Plan:
    """What holds for a whole fit.

    Attributes:
        folder: The record's; None where none is written.
        networks: By monitor.
        carry: By monitor and scope, what the next snapshot is compared with.
        given_up: By monitor and measure, or `EVERYTHING`, why it is not tried any more.
        manifest: The record's, as text; see ``SnapshotStore``.
    """

    folder: str | None
    networks: Mapping[str, NetworkPlan]
    carry: Mapping[str, Mapping[str, Previous]]
    given_up: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    manifest: str | None = None

    @property
    def needs_inline(self) -> list[str]:
        """The names of the quantities that no other process can import."""
        return [
            name
            for network in self.networks.values()
            for name in needs_inline(q for q in network.own if isinstance(q, Quantity))
        ]

    def to_plain(self) -> Plan:
        """See `NetworkPlan.to_plain`."""
        return replace(self, networks={name: own.to_plain() for name, own in self.networks.items()})

    def imported(self) -> Plan:
        """See `NetworkPlan.imported`."""
        return replace(self, networks={name: own.imported() for name, own in self.networks.items()})


@dataclass(frozen=True, slots=True)
class Job:
    """One step's snapshot.

    Attributes:
        step: The step.
        is_end: See ``Snapshot``.
        readings: By monitor, to be measured.
        measured: By monitor, what was measured on the training thread already.
        scalars: Key to value, what is known beforehand.
        cost_ms: By monitor and part, what the training thread has paid.
        draw: Monitors whose portrait is wanted. A job of this alone asks for the last that was made.
        logged: See ``Snapshot``; of a job without readings it is what stands in the last snapshot as ``logged_at_end``.
    """

    step: int
    is_end: bool = False
    readings: Mapping[str, Reading] = field(default_factory=dict)
    measured: Mapping[str, Measured] = field(default_factory=dict)
    scalars: Mapping[str, float] = field(default_factory=dict)
    cost_ms: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    draw: Sequence[str] = ()
    logged: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a job.

    Attributes:
        step: The step.
        scalars: Key to value.
        notes: Key to the reason for a NaN or a bound.
        cost_ms: Key to milliseconds.
        carry: By monitor and scope, what the next snapshot is compared with.
        portraits: By monitor, those that were wanted.
        failures: By monitor, why it has no snapshot; by ``"record"``, what became of the record.
        worker_seconds: By monitor, CPU time spent off the training thread.
        error: Why training must stop; None where it need not.
    """

    step: int
    scalars: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    cost_ms: Mapping[str, float] = field(default_factory=dict)
    carry: Mapping[str, Mapping[str, Previous]] = field(default_factory=dict)
    portraits: Mapping[str, Portrait | CodePortrait] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    worker_seconds: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None


TYPES = (
    Rows,
    Moments,
    Measured,
    LayerPlan,
    NetworkPlan,
    Plan,
    Job,
    Result,
    GraphSettings,
    GraphRule,
    Previous,
    History,
    *PORTRAITS,
    Selection,
)
