"""The instrument of the functional network: which neurons act together, and how that changes."""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import Tensor
from typing_extensions import override

from fnet_callbacks import functional as F
from fnet_callbacks.arguments import Names, as_choice, as_flag, as_integer, as_patterns
from fnet_callbacks.capture.batch import Batch
from fnet_callbacks.capture.layers import Layer, Signal, look_for_layers
from fnet_callbacks.capture.probe import Probe
from fnet_callbacks.capture.units import draw_neurons
from fnet_callbacks.capture.watcher import Watcher
from fnet_callbacks.findings import Analysis, Findings
from fnet_callbacks.history import Previous
from fnet_callbacks.instruments.arguments import as_graph_settings, as_timeout
from fnet_callbacks.instruments.forward import Forward
from fnet_callbacks.instruments.instrument import Instrument
from fnet_callbacks.instruments.live import LiveBatches
from fnet_callbacks.instruments.network_analysis import NetworkAnalysis
from fnet_callbacks.instruments.network_plan import LayerPlan, NetworkPlan, Reading
from fnet_callbacks.instruments.previous import from_state, to_state
from fnet_callbacks.instruments.readings import reader_of
from fnet_callbacks.instruments.remarks import on_number, remark
from fnet_callbacks.instruments.token_labels import TokenClasses
from fnet_callbacks.keys import Key, places
from fnet_callbacks.quantities.networks import Measures, own_quantities, quantities_of


class FunctionalNetwork(Instrument):
    """Which neurons of the model act together: its functional network.

    The activations of a probe give a correlation between neurons, its strongest entries a graph, and the graph the
    measures: how it clusters, which communities and loops it has. Keys: ``<name>/<measure>`` and, of layers,
    ``<name>_layers/<place>/<measure>``, where the place is the layer's among those that are watched, from 01.

    Args:
        name: Prefix of the keys; unique in the monitor.
        every_n_steps: Steps between its snapshots, or ``"log"``. Default: the monitor's.
        every_n_epochs: Epochs between its snapshots, in place of steps.
        measures: For the whole network: a tier (``"fast"``, ``"standard"``, ``"full"``), or a list of tiers, names and
            measures of your own, each a ``Quantity`` or its dotted path.
        layer_measures: For each layer; an empty list for none.
        layers: ``"auto"`` watches the outputs of nonlinearities and recurrent modules, where there are none those of
            parametric modules, the head left out; or glob patterns over module names, in which ``*`` crosses dots: of
            nested matches the innermost count, a name without wildcards is taken as it is.
        signal: ``"post"`` watches outputs, ``"pre"`` the input of each nonlinearity.
        samples: ``"inputs"`` makes each input a sample and averages its tokens or pixels; ``"tokens"`` makes each token
            a sample; labels are then one integer a token, ``[S, T]``, below 0 where one has none.
        max_samples: The most tokens that are samples; at least one of each input is.
        max_neurons: The most neurons that are nodes; a seeded draw, stratified by layer, fixed for the run.
        source: ``"probe"`` measures a fixed set of inputs in eval mode; ``"train"`` the last live batches, dropout and
            augmentation on, without an extra forward pass (step 0 is an isolated pass on the first batch).
        method: ``"mst"`` (spanning tree and strongest edges up to ``density``), ``"density"`` or ``"threshold"``.
        density: Share of the pairs of neurons that are edges, in [0, 1].
        threshold: Smallest ``|r|`` of an edge; for ``method="threshold"``.
        sign: ``"absolute"`` takes ``|r|``, ``"positive"`` leaves negative correlations out.
        nulls: Random graphs that sigma and the modularity's z-score are read against.
        seed: Of the null graphs and of the communities.
        homology_radius: Largest distance ``1 - |r|`` of the filtration; ``"graph"`` for the radius at which the complex
            has the graph's edges, None for all of it.
        homology_max_nodes: The most nodes whose homology is computed; above, that of a seeded draw.
        homology_backend: ``"native"``, ``"gudhi"`` or ``"ripser"``; they agree.
        save_correlation: Keeps the correlation matrix in the record too, float32.
        measure_timeout_s: Seconds after which the worker gives a measure up: it is NaN from that snapshot on, and a
            warning names it; the second time the network is measured no more. None for no limit. On the training
            thread (``worker="inline"``) nothing is cut off.

    Raises:
        FnetError: An argument is out of range; layers or inputs are not found (before the first step).

    Reference: Zhang, Dong, Zhang & Lin (2022), arXiv 2205.11702.
    Cost: on the training thread a forward pass on the probe, and handing over what the neurons showed; logged as
        ``monitor_cost/<name>/...``, with what the worker takes.
    """

    makes_passes = False

    def __init__(
        self,
        *,
        name: str = "fnet",
        every_n_steps: int | Literal["log"] | None = None,
        every_n_epochs: int | None = None,
        measures: Measures = "standard",
        layer_measures: Measures = "fast",
        layers: Names = "auto",
        signal: Signal = "post",
        samples: Literal["inputs", "tokens"] = "inputs",
        max_samples: int = 8192,
        max_neurons: int = 1024,
        source: Literal["probe", "train"] = "probe",
        method: F.Method = "mst",
        density: float = 0.05,
        threshold: float | None = None,
        sign: F.Sign = "absolute",
        nulls: int = 10,
        seed: int = 0,
        homology_radius: float | Literal["graph"] | None = None,
        homology_max_nodes: int = 1024,
        homology_backend: F.Backend = "native",
        save_correlation: bool = False,
        measure_timeout_s: float | None = 600.0,
    ) -> None:
        super().__init__(name=name, every_n_steps=every_n_steps, every_n_epochs=every_n_epochs)
        whole = quantities_of(measures)
        of_layers = quantities_of(layer_measures, argument="layer_measures", beside=whole)
        self.measures, self.layer_measures = (tuple(q.name for q in own) for own in (whole, of_layers))
        self._own_measures = own_quantities(
            [*whole, *of_layers]
        )  # the package's are not pickled, being known
        self.layers = as_patterns("layers", layers)
        self.signal: Signal = as_choice("signal", signal, ("post", "pre"))
        self.samples = as_choice("samples", samples, ("inputs", "tokens"))
        self.source: Literal["probe", "train"] = as_choice("source", source, ("probe", "train"))
        self.max_samples = as_integer("max_samples", max_samples, at_least=2)
        self.max_neurons = as_integer("max_neurons", max_neurons, at_least=1)
        self.save_correlation = as_flag("save_correlation", save_correlation)
        self.measure_timeout_s = as_timeout(measure_timeout_s)
        self.graph = as_graph_settings(
            method=method,
            density=density,
            threshold=threshold,
            sign=sign,
            nulls=nulls,
            seed=seed,
            homology_radius=homology_radius,
            homology_max_nodes=homology_max_nodes,
            homology_backend=homology_backend,
        )
        rule, radius = self.graph.rule, self.graph.homology_radius
        self.method, self.density, self.threshold, self.sign = (
            rule.method,
            rule.density,
            rule.threshold,
            rule.sign,
        )
        self.nulls, self.seed = self.graph.nulls, self.graph.seed
        self.homology_radius = None if radius == math.inf else radius
        self.homology_max_nodes = self.graph.homology_max_nodes
        self.homology_backend = self.graph.homology_backend

    # What it says of itself.

    @property
    @override
    def facts(self) -> dict[str, Any]:
        return {
            "layers": [
                {"place": plan.place, "name": layer.name, "n_units": layer.n_units, "neurons": units.tolist()}
                for plan, layer, units in zip(self._plan.layers, self._layers, self._units, strict=True)
            ]
        }

    @property
    @override
    def description(self) -> str:
        shown = [f"{layer.place} {layer.name} ({layer.n_neurons})" for layer in self._plan.layers]
        more = [f"... {len(shown) - 8} more"] if len(shown) > 8 else []
        return f"watching {sum(map(len, self._units))} neurons of {', '.join(shown[:8] + more)}"

    @property
    @override
    def keys(self) -> list[Key]:
        return self._plan.keys()

    @property
    @override
    def watcher(self) -> Watcher | None:
        return self._watcher

    @property
    @override
    def live(self) -> LiveBatches | None:
        return self._live

    @property
    @override
    def takes_token_labels(self) -> bool:
        return self.samples == "tokens"

    @property
    @override
    def has_figures(self) -> bool:
        return True

    @property
    @override
    def time_limit(self) -> float | None:
        return self.measure_timeout_s

    @property
    @override
    def analysis(self) -> Analysis:
        return NetworkAnalysis(self._plan)

    # What it does.

    @override
    def prepare(self, forward: Forward, probe: Probe) -> None:
        batch, seed = forward.example, self.shared.probe_seed
        choice = look_for_layers(
            forward.module,
            forward,
            batch.inputs,
            n_samples=batch.n_samples,
            layers=self.layers,
            signal=self.signal,
            may_repeat=not forward.is_collective,
        )
        self._layers: list[Layer] = choice.layers
        n_units = [layer.n_units for layer in self._layers]
        self._units = draw_neurons(n_units, max_neurons=self.max_neurons, seed=seed)
        n_neurons = sum(map(len, self._units))
        self._plan = self._planned()
        remark(
            self.name, [choice.remark, on_number(n_neurons, self._plan.quantities(self.measures), self.graph)]
        )
        self._watcher = Watcher(
            forward.module,
            self._layers,
            self._units,
            tokens_per_sample=self._tokens_per_sample(probe),
            seed=seed,
        )
        self._live = self._live_batches()
        size = max(probe.n_samples, self.shared.probe_size)
        self._reader = reader_of(
            forward,
            self._plan,
            n_samples=self.max_samples if self.samples == "tokens" else size,
            has_histogram=self._live is None,
        )
        self._token_classes = TokenClasses(forward)

    @override
    def num_classes(self, probe: Probe) -> int:
        if self._live:
            return self._live.num_classes
        return self._token_classes.of(probe) if self.takes_token_labels else probe.num_classes or 0

    @override
    def begin(self, probe: Probe, num_classes: int) -> None:
        self._reader.begin(num_classes)

    @override
    def see(self, batch: Batch, output: Any) -> None:
        with self.stopwatch.part("moments"):
            self._reader.take(self._watcher.rows(), self._labels_of_rows(batch))
        self._watcher.expect(0)

    @override
    def compute(self, model: Any) -> Any:
        with self.stopwatch.part("moments"):
            for batch in self._live.taken() if self._live else ():
                self._reader.take(batch.rows, batch.labels)
            return self._reader.result()

    @override
    def analyze(self, arrays: Reading) -> Findings:
        return NetworkAnalysis(self._plan).analyze(arrays)

    @staticmethod
    @override
    def after_change(state: Any) -> dict[str, Any]:
        previous: dict[str, Previous] = {scope: from_state(own) for scope, own in state.items()}
        return {scope: to_state(own.names_alone()) for scope, own in previous.items()}

    def _planned(self) -> NetworkPlan:
        """What the worker is to measure."""
        layers = zip(places(len(self._layers)), self._layers, self._units, strict=True)
        return NetworkPlan(
            self.name,
            self.measures,
            self.layer_measures,
            [LayerPlan(layer.name, place, len(units)) for place, layer, units in layers],
            self.graph,
            self.save_correlation,
            self.shared.has_figures,
            self._own_measures,
        )

    def _live_batches(self) -> LiveBatches | None:
        if self.source != "train":
            return None
        return LiveBatches(
            self._watcher,
            size=self.shared.probe_size,
            labels_of=self._labels_of_rows,
            of_tokens=self.takes_token_labels,
        )

    def _labels_of_rows(self, batch: Batch) -> Tensor | None:
        """The labels of what is a sample, an input or a token, as the watcher has just seen the batch."""
        if not self.takes_token_labels:
            return batch.labels
        return None if batch.token_labels is None else self._watcher.labels_of_rows(batch.token_labels)

    def _tokens_per_sample(self, probe: Probe) -> int | None:
        """Tokens of one input that are samples; where batches are kept as they pass, the probe is still growing."""
        if self.samples == "inputs":
            return None
        n_inputs = self.shared.probe_size if probe.indices is None else probe.n_samples
        return max(1, self.max_samples // n_inputs)
