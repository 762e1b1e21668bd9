"""The monitor of the functional network: which neurons act together, and how that changes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Literal

from torch import Tensor
from typing_extensions import override

from fnet_callbacks import functional as F
from fnet_callbacks.arguments import Names, as_choice, as_flag, as_integer, as_patterns, plain
from fnet_callbacks.callbacks.arguments import Figures, as_figures, as_graph_settings, as_timeout, draws_at
from fnet_callbacks.callbacks.carried import kept, taken_up
from fnet_callbacks.callbacks.forward import Batch, Forward
from fnet_callbacks.callbacks.live import LiveBatch, LiveWindow
from fnet_callbacks.callbacks.network_plan import planned
from fnet_callbacks.callbacks.probe_monitor import ProbeMonitor
from fnet_callbacks.callbacks.readings import reader_of
from fnet_callbacks.callbacks.remarks import on_number, remark
from fnet_callbacks.callbacks.token_labels import TokenClasses
from fnet_callbacks.capture.layers import Layer, Signal, look_for_layers
from fnet_callbacks.capture.probe import Probe
from fnet_callbacks.capture.units import draw_neurons
from fnet_callbacks.capture.watcher import Watcher
from fnet_callbacks.errors import CaptureError, FnetError
from fnet_callbacks.history import Previous
from fnet_callbacks.measures import names_of
from fnet_callbacks.worker.jobs import NetworkPlan, Reading

_NO_CLASSES = 2**31 - 1  # more than there can be


class FunctionalNetworkMonitor(ProbeMonitor):
    """Measures the functional network of the model every N steps and logs it.

    The activations of a fixed probe give a correlation between neurons, its strongest entries a graph, and the graph
    the measures: how it clusters, which communities and loops it has. They go to all loggers under
    ``<name>/<measure>`` and ``<name>_layers/<layer>/<measure>``, to ``trainer.callback_metrics`` (so that
    ``EarlyStopping`` and ``ModelCheckpoint`` act on them), and to a record in the run's log directory.

    Training is not touched: weights, optimiser, buffers, random streams, modes and gradients are bit-equal with and
    without the monitor.

    Args:
        every_n_steps: Steps between snapshots; a step is a batch that stepped an optimiser. One snapshot is taken
            before the first step and one after the last. ``"log"`` takes ten a decade.
        name: Prefix of the keys, key of the state in a checkpoint; unique in the trainer.
        overhead_budget: Share of the wall time that it should cost at most; see ``ProbeMonitor``.
        worker: ``"process"`` measures in a process of its own while training goes on; ``"inline"`` on the training
            thread. The numbers are the same. Monitors of one trainer share the process, as soon as one asks for it.
        when_busy: Where the worker is behind, ``"wait"`` until it has caught up, so that no snapshot is left out, or
            ``"skip"`` the snapshot; ``<name>/skipped`` counts.
        measures: For the whole network: a tier (``"fast"``, ``"standard"``, ``"full"``) or a list of tiers and names.
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
        probe: See ``ProbeMonitor``; so are ``probe_size``, ``probe_seed``, ``batch_to_inputs``, ``batch_to_labels``,
            ``model`` and ``on_error``.
        probe_size: Inputs in the probe, S.
        probe_seed: Of the draw of inputs, neurons and tokens.
        batch_to_inputs: From a batch to the model's inputs.
        batch_to_labels: From a batch to labels ``[S]``.
        model: Name of the submodule to call where the LightningModule has no ``forward``.
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
        figures: ``"log"`` draws the snapshots 0, 1, 2, 4, 8, ... and the last; an integer every k-th and the last; None
            none.
        measure_timeout_s: Seconds after which the worker gives a measure up: it is NaN from that snapshot on, and a
            warning names it; the second time the network is measured no more. None for no limit. On the training
            thread (``worker="inline"``) nothing is cut off.
        on_error: ``"warn"`` lets training go on where a measure fails, ``"raise"`` does not.

    Raises:
        FnetError: An argument is out of range; layers or inputs are not found (before the first step).

    Reference: Zhang, Dong, Zhang & Lin (2022), arXiv 2205.11702.
    Cost: on the training thread a forward pass on the probe, and handing over what the neurons showed; logged as
        ``<name>/cost_ms/...``, with what the worker takes.
    """

    def __init__(
        self,
        every_n_steps: int | Literal["log"] = 100,
        *,
        name: str = "fnet",
        overhead_budget: float | None = None,
        worker: Literal["process", "inline"] = "process",
        when_busy: Literal["wait", "skip"] = "wait",
        measures: Names = "standard",
        layer_measures: Names = "fast",
        layers: Names = "auto",
        signal: Signal = "post",
        samples: Literal["inputs", "tokens"] = "inputs",
        max_samples: int = 8192,
        max_neurons: int = 1024,
        source: Literal["probe", "train"] = "probe",
        probe: Any = None,
        probe_size: int = 1024,
        probe_seed: int = 0,
        batch_to_inputs: Callable[[Any], Any] | str | int | None = None,
        batch_to_labels: Callable[[Any], Any] | str | int | None = None,
        model: str | None = None,
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
        figures: Figures = "log",
        measure_timeout_s: float | None = 600.0,
        on_error: Literal["warn", "raise"] = "warn",
    ) -> None:
        super().__init__(
            every_n_steps,
            name=name,
            overhead_budget=overhead_budget,
            probe=probe,
            probe_size=probe_size,
            probe_seed=probe_seed,
            batch_to_inputs=batch_to_inputs,
            batch_to_labels=batch_to_labels,
            model=model,
            on_error=on_error,
        )
        self.measures = names_of(plain("measures", measures))
        self.layer_measures = names_of(plain("layer_measures", layer_measures), argument="layer_measures")
        self.layers = as_patterns("layers", layers)
        self.signal: Signal = as_choice("signal", signal, ("post", "pre"))
        self.samples = as_choice("samples", samples, ("inputs", "tokens"))
        self.source = as_choice("source", source, ("probe", "train"))
        self.worker = as_choice("worker", worker, ("process", "inline"))
        self.when_busy = as_choice("when_busy", when_busy, ("wait", "skip"))
        self.max_samples = as_integer("max_samples", max_samples, at_least=2)
        self.max_neurons = as_integer("max_neurons", max_neurons, at_least=1)
        self.figures: Figures = as_figures(figures)
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
        if self.source == "train" and self.probe is not None:
            raise FnetError(
                "`probe` is not measured with `source='train'`, which takes live batches; leave one out"
            )
        self.forget()

    @override
    def forget(self) -> None:
        self._previous: dict[str, Previous] = {}
        self._live = LiveWindow(self.probe_size)
        self._watched: Batch | None = None
        self._watcher: Watcher | None = None

    # What a monitor says of itself.

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return {
            **self.shared_settings,
            "worker": self.worker,
            "when_busy": self.when_busy,
            "measure_timeout_s": self.measure_timeout_s,
            "measures": self.measures,
            "layer_measures": self.layer_measures,
            "signal": self.signal,
            "samples": self.samples,
            "max_samples": self.max_samples,
            "max_neurons": self.max_neurons,
            "source": self.source,
            **{key: value for key, value in asdict(self.graph).items() if key != "rule"},
            **asdict(self.graph.rule),
            # JSON has no infinity.
            "homology_radius": None if self.graph.homology_radius == math.inf else self.graph.homology_radius,
            "layers": [
                {"name": layer.name, "n_units": layer.n_units, "neurons": units.tolist()}
                for layer, units in zip(self._layers, self._units, strict=True)
            ],
        }

    @property
    @override
    def description(self) -> str:
        shown = [f"{layer.name} ({len(u)})" for layer, u in zip(self._layers, self._units, strict=True)]
        more = [f"... {len(shown) - 8} more"] if len(shown) > 8 else []
        return f"watching {sum(map(len, self._units))} neurons of {', '.join(shown[:8] + more)}"

    @property
    @override
    def keys(self) -> list[str]:
        return [prefix + name for _, prefix, _, names in self.plan.scopes() for name in names]

    @property
    @override
    def plan(self) -> NetworkPlan:
        return self._plan

    @property
    @override
    def previous(self) -> Mapping[str, Previous]:
        return self._previous

    @property
    @override
    def has_worker(self) -> bool:
        return self.worker == "process"

    @property
    @override
    def has_figures(self) -> bool:
        return self.figures is not None

    @property
    @override
    def is_live(self) -> bool:
        return self.source == "train"

    @property
    @override
    def is_shard_safe(self) -> bool:
        return True

    @property
    @override
    def takes_token_labels(self) -> bool:
        return self.samples == "tokens"

    @property
    @override
    def watcher(self) -> Watcher | None:
        return self._watcher

    @override
    def draws_at(self, snapshot: int) -> bool:
        return draws_at(self.figures, snapshot)

    # A snapshot.

    @override
    def prepare(self, forward: Forward, probe: Probe, batch: Batch) -> None:
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
        self._units = draw_neurons(n_units, max_neurons=self.max_neurons, seed=self.probe_seed)
        n_neurons = sum(map(len, self._units))
        remark(self.name, [choice.remark, on_number(n_neurons, self.measures, self.graph)])
        self._plan = planned(self, self._layers, self._units)
        self._watcher = Watcher(
            forward.module,
            self._layers,
            self._units,
            tokens_per_sample=self._tokens_per_sample(probe),
            seed=self.probe_seed,
        )
        self._reader = reader_of(
            forward,
            self.plan,
            n_samples=self.max_samples if self.samples == "tokens" else max(probe.n_samples, self.probe_size),
            has_histogram=not self.is_live,
        )
        self._token_classes = TokenClasses(forward)
        self._forward = forward

    @override
    def begin(self, probe: Probe) -> None:
        if self._live:
            own = self._live.num_classes(of_tokens=self.takes_token_labels)
        else:
            own = self._token_classes.of(probe) if self.takes_token_labels else probe.num_classes
        # Each rank knows the labels of its own batches where they were kept as they passed; on all they are classes,
        # or on none.
        most = self._forward.max_over_ranks(own or _NO_CLASSES)
        self._reader.begin(0 if most == _NO_CLASSES else most)

    @override
    def see(self, batch: Batch, output: Any, index: int) -> None:
        assert self._watcher is not None
        with self.stopwatch.part("moments"):
            self._reader.take(self._watcher.rows(), self._labels_of_rows(batch))
        self._watcher.expect(0)

    @property
    @override
    def has_seen(self) -> bool:
        return not self.is_live or bool(self._live)

    @override
    def see_live(self) -> None:
        if not self._live:
            raise CaptureError("no live batch was seen since the last snapshot")
        with self.stopwatch.part("moments"):
            for batch in self._live:
                self._reader.take(batch.rows, batch.labels)

    @override
    def watch_live(
        self, forward: Forward, batch: Any, step: int, to_end: float
    ) -> contextlib.AbstractContextManager[None]:
        assert self._watcher is not None
        found = forward.read(batch).with_own_labels()
        to_go = min(self.schedule.next_after(step) - step, to_end)
        if (to_go - 1) * found.n_samples >= self.probe_size:  # not among the last before a snapshot
            self._live.clear()
            return contextlib.nullcontext()
        self._watched = found
        self._watcher.expect(found.n_samples, mask=found.mask, batch_index=step)
        return self._watcher.attached()

    @override
    def keep_live(self) -> None:
        found, self._watched = self._watched, None
        if found is None:
            return
        assert self._watcher is not None
        self._live.append(LiveBatch(self._watcher.rows(), self._labels_of_rows(found), found.n_samples))

    @override
    def reduce(self) -> None:
        try:
            with self.stopwatch.part("moments"):
                self._reading = self._reader.reduce()
        finally:
            self._live.clear()

    @override
    def measure(self, step: int) -> Reading:
        reading = self._reading
        del self._reading
        return reading

    @override
    def settle(self, previous: Mapping[str, Previous]) -> None:
        self._previous = {**self._previous, **previous}

    @override
    def carry(self) -> dict[str, Any]:
        return {scope: kept(previous) for scope, previous in self._previous.items()}

    @override
    def take_up(self, state: Mapping[str, Any]) -> None:
        self._previous = {scope: taken_up(own) for scope, own in state.items()}

    def _labels_of_rows(self, batch: Batch) -> Tensor | None:
        """The labels of what is a sample, an input or a token, as the watcher has just seen the batch."""
        if not self.takes_token_labels:
            return batch.labels
        assert self._watcher is not None
        return None if batch.token_labels is None else self._watcher.labels_of_rows(batch.token_labels)

    @override
    def begin_anew(self) -> None:
        self._previous = {scope: previous.names_alone() for scope, previous in self._previous.items()}

    def _tokens_per_sample(self, probe: Probe) -> int | None:
        """Tokens of one input that are samples; where batches are kept as they pass, the probe is still growing."""
        if self.samples == "inputs":
            return None
        n_inputs = self.probe_size if probe.indices is None else probe.n_samples
        return max(1, self.max_samples // n_inputs)
