"""What is measured of a functional network, and what was seen of it: plain values and arrays, for the worker."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fnet_callbacks.functional import Selection
from fnet_callbacks.keys import Key, layer_keys, whole_keys
from fnet_callbacks.network import GraphSettings
from fnet_callbacks.quantities.networks import N_SAMPLES, by_name
from fnet_callbacks.quantities.quantity import Quantity

WHOLE = ""  # the scope of the whole network, beside those of its layers


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


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """A layer of the network: its name, its place in the keys, its number of neurons."""

    name: str
    place: str
    n_neurons: int


@dataclass(frozen=True, slots=True)
class Part:
    """What is measured together: the whole network or a layer.

    Attributes:
        scope: `WHOLE`, or the layer's name.
        prefix: Where its keys begin.
        neurons: Those in it.
        measures: Names of its measures.
        layer: The layer; None for the whole.
    """

    scope: str
    prefix: str
    neurons: slice
    measures: Sequence[str]
    layer: LayerPlan | None = None


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """What is measured of a functional network; see ``FunctionalNetwork``.

    ``measures`` and ``layer_measures`` are names; ``own`` has the user's own quantities among them.
    """

    name: str
    measures: Sequence[str]
    layer_measures: Sequence[str]
    layers: Sequence[LayerPlan]
    graph: GraphSettings
    save_correlation: bool
    has_figures: bool
    own: Sequence[Quantity] = ()

    def parts(self) -> list[Part]:
        """What is measured together, the whole network first."""
        layers = self.layers if self.layer_measures else ()
        ends = itertools.accumulate(layer.n_neurons for layer in layers)
        return [
            Part(WHOLE, f"{self.name}/", slice(None), self.measures),
            *(
                Part(
                    layer.name,
                    f"{self.name}_layers/{layer.place}/",
                    slice(end - layer.n_neurons, end),
                    self.layer_measures,
                    layer,
                )
                for layer, end in zip(layers, ends, strict=True)
            ),
        ]

    def layer_of_neuron(self) -> np.ndarray:
        """The layer of each neuron, by its place in ``layers``, ``[N]``."""
        return np.repeat(np.arange(len(self.layers)), [layer.n_neurons for layer in self.layers])

    def quantities(self, names: Iterable[str] | None = None) -> list[Quantity]:
        """Those of some names, else all that are measured."""
        known = by_name(self.own)
        every = dict.fromkeys([*self.measures, *self.layer_measures])
        return [known[name] for name in (every if names is None else names)]

    def keys(self) -> list[Key]:
        """The keys of all values."""
        layers = [layer.name for layer in self.layers] if self.layer_measures else []
        return [
            *whole_keys(self.name, [N_SAMPLES, *self.quantities(self.measures)]),
            *layer_keys(self.name, self.quantities(self.layer_measures), layers),
        ]
