"""The monitor of the functional network: which neurons act together, and how that changes."""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from fnet_callbacks import functional as F
from fnet_callbacks.callbacks.arguments import check_arguments
from fnet_callbacks.callbacks.forward import Batch, Forward
from fnet_callbacks.callbacks.live import LiveBatch, LiveWindow
from fnet_callbacks.callbacks.probe_monitor import Measured, ProbeMonitor
from fnet_callbacks.capture.layers import Layer, Signal, choose_layers, folder_names
from fnet_callbacks.capture.probe import Probe
from fnet_callbacks.capture.units import draw_neurons
from fnet_callbacks.capture.watcher import Watcher
from fnet_callbacks.errors import CaptureError
from fnet_callbacks.figures import Portrait
from fnet_callbacks.measures import measure, names_of
from fnet_callbacks.metrics import ActivationStatistics, RunningCorrelation
from fnet_callbacks.scope import Activity, GraphSettings, Previous, Scope

# Values kept for the histogram entropy, over all ranks: 16 MB in float32, 4096 samples of 1024 neurons. Of a larger
# probe, whose order is random, the first are read; more change a histogram of 32 bins little.
_KEPT_VALUES = 2**22
_WHOLE = ""


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
            before the first step and one after the last.
        name: Prefix of the keys, folder of the record, key of the state in a checkpoint; unique in the trainer.
        measures: For the whole network: a tier (``"fast"``, ``"standard"``, ``"full"``) or a list of tiers and names.
        layer_measures: For each layer; an empty list for none.
        layers: ``"auto"`` watches the outputs of nonlinearities and recurrent modules, where there are none those of
            parametric modules, the head left out; or glob patterns over module names.
        signal: ``"post"`` watches outputs, ``"pre"`` the input of each nonlinearity.
        samples: ``"inputs"`` makes each input a sample and averages its tokens or pixels; ``"tokens"`` makes each token
            a sample.
        max_samples: The most tokens that are samples.
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
        density: Share of the pairs of neurons that are edges.
        threshold: Smallest |r| of an edge; for ``method="threshold"``.
        sign: ``"absolute"`` takes |r|, ``"positive"`` leaves negative correlations out.
        nulls: Random graphs that sigma and the modularity's z-score are read against.
        seed: Of the null graphs and of the communities.
        homology_radius: Largest distance ``1 - |r|`` of the filtration; None for all of it.
        homology_max_nodes: The most nodes whose homology is computed; above, that of a seeded draw.
        homology_backend: ``"native"``, ``"gudhi"`` or ``"ripser"``; they agree.
        save_correlation: Keeps the correlation matrix in the record too, float32.
        figures: ``"log"`` draws the snapshots 0, 1, 2, 4, 8, ... and the last; an integer every k-th and the last; None
            none.
        on_error: ``"warn"`` lets training go on where a measure fails, ``"raise"`` does not.

    Raises:
        FnetError: An argument is out of range; layers or inputs are not found (before the first step).

    Reference: Zhang, Dong, Zhang & Lin (2022), arXiv 2205.11702.
    Cost: a forward pass on the probe, O(S N²) for the moments, and the measures; logged as ``<name>/cost_ms/...``.
    """

    def __init__(
        self,
        every_n_steps: int = 100,
        *,
        name: str = "fnet",
        measures: str | list[str] = "standard",
        layer_measures: str | list[str] = "fast",
        layers: str | list[str] = "auto",
        signal: Signal = "post",
        samples: Literal["inputs", "tokens"] = "inputs",
        max_samples: int = 8192,
        max_neurons: int = 1024,
        source: Literal["probe", "train"] = "probe",
        probe: Any = None,
        probe_size: int = 1024,
        probe_seed: int = 0,
        batch_to_inputs: Callable[[Any], Any] | str | None = None,
        batch_to_labels: Callable[[Any], Any] | str | None = None,
        model: str | None = None,
        method: F.Method = "mst",
        density: float = 0.05,
        threshold: float | None = None,
        sign: F.Sign = "absolute",
        nulls: int = 10,
        seed: int = 0,
        homology_radius: float | None = None,
        homology_max_nodes: int = 1024,
        homology_backend: F.Backend = "native",
        save_correlation: bool = False,
        figures: Literal["log"] | int | None = "log",
        on_error: Literal["warn", "raise"] = "warn",
    ) -> None:
        super().__init__(
            every_n_steps,
            name=name,
            probe=probe,
            probe_size=probe_size,
            probe_seed=probe_seed,
            batch_to_inputs=batch_to_inputs,
            batch_to_labels=batch_to_labels,
            model=model,
            on_error=on_error,
        )
        self.measures = names_of(measures)
        self.layer_measures = names_of(layer_measures, argument="layer_measures")
        self.signal: Signal = signal
        self.layers, self.samples, self.source = layers, samples, source
        self.max_samples, self.max_neurons = max_samples, max_neurons
        self.figures, self.save_correlation = figures, save_correlation
        self.graph = GraphSettings(
            method=method,
            density=density,
            threshold=threshold,
            sign=sign,
            nulls=nulls,
            seed=seed,
            homology_radius=math.inf if homology_radius is None else homology_radius,
            homology_max_nodes=homology_max_nodes,
            homology_backend=homology_backend,
        )
        check_arguments(self)
        self.forget()

    @override
    def forget(self) -> None:
        self._previous: dict[str, Previous] = {}
        self._next: dict[str, Previous] = {}
        self._live = LiveWindow(self.probe_size)
        self._watched: Batch | None = None
        self._watcher: Watcher | None = None
        self.portrait = None

    # What a monitor says of itself.

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return {
            "kind": type(self).__name__,
            "every_n_steps": self.every_n_steps,
            "measures": self.measures,
            "layer_measures": self.layer_measures,
            "signal": self.signal,
            "samples": self.samples,
            "source": self.source,
            **asdict(self.graph),
            # JSON has no infinity.
            "homology_radius": self.graph.homology_radius
            if math.isfinite(self.graph.homology_radius)
            else None,
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
        scopes = [self._key(layer.name, m) for layer in self._layers for m in self.layer_measures]
        return [self._key(_WHOLE, m) for m in self.measures] + scopes

    @property
    @override
    def is_live(self) -> bool:
        return self.source == "train"

    @property
    @override
    def watcher(self) -> Watcher | None:
        return self._watcher

    def draws_at(self, snapshot: int) -> bool:
        """Whether the snapshot of this number has figures."""
        if self.figures == "log":
            return snapshot & (snapshot - 1) == 0
        return bool(self.figures) and snapshot % int(self.figures or 1) == 0

    # A snapshot.

    @override
    def prepare(self, forward: Forward, probe: Probe, batch: Batch) -> None:
        self._layers: list[Layer] = choose_layers(
            forward.module,
            lambda: forward(batch.inputs),
            n_samples=batch.n_samples,
            layers=self.layers,
            signal=self.signal,
        )
        self._folders = folder_names([layer.name for layer in self._layers])
        n_units = [layer.n_units for layer in self._layers]
        self._units = draw_neurons(n_units, max_neurons=self.max_neurons, seed=self.probe_seed)
        self._watcher = Watcher(
            forward.module,
            self._layers,
            self._units,
            tokens_per_sample=self._tokens_per_sample(probe),
            seed=self.probe_seed,
        )
        self._forward = forward
        # Made once: a torchmetrics Metric is in a reference cycle, one a snapshot would pile up until a collection.
        self._correlation = RunningCorrelation(self._watcher.n_nodes).to(forward.moments_device)
        self._activity = self._statistics(probe.num_classes or 0)

    @override
    def begin(self, probe: Probe) -> None:
        assert self._watcher is not None
        classes = self._live.num_classes if self._live else probe.num_classes or 0
        self._has_labels = classes > 0 and self.samples == "inputs"
        # Each rank knows the labels of its own batches where they were kept as they passed.
        num_classes = self._forward.max_over_ranks(classes if self._has_labels else 0)
        if num_classes != (self._activity.num_classes or 0):
            self._activity = self._statistics(num_classes)

    @override
    def see(self, batch: Batch, output: Any, index: int) -> None:
        assert self._watcher is not None
        self._take(self._watcher.rows(), batch.labels)
        self._watcher.expect(0)

    @override
    def see_live(self) -> None:
        if not self._live:
            raise CaptureError("no live batch was seen since the last snapshot")
        for batch in self._live:
            self._take(batch.rows, batch.labels)

    @override
    def watch_live(
        self, forward: Forward, batch: Any, step: int, to_end: float
    ) -> contextlib.AbstractContextManager[None]:
        assert self._watcher is not None
        found = forward.read(batch)
        to_go = min(self.every_n_steps - step % self.every_n_steps, to_end)
        if (to_go - 1) * found.n_samples >= self.probe_size:  # not among the last before a snapshot
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
        self._live.append(LiveBatch(self._watcher.rows(), found.labels, found.n_samples))

    @override
    def reduce(self) -> None:
        with self.stopwatch.part("moments"):
            if not self._correlation.update_called:
                empty = torch.empty(0, self._correlation.num_units)
                self._correlation.update(empty)
                self._activity.update(empty)
            try:
                self._matrix = self._correlation.compute()
                self._summary = self._activity.compute()
            finally:
                self._correlation.reset()
                self._activity.reset()
                self._live.clear()

    @override
    def measure(self, step: int, advance: Callable[[], object]) -> Measured:
        summary, found, self._advance = self._summary, Measured(), advance
        activity = Activity(summary.active_share, summary.class_active_share, summary.kept)
        whole = self._measure_scope(_WHOLE, self._matrix, activity, self.measures, found)
        start = 0
        for layer, units in zip(self._layers, self._units, strict=True):
            if not self.layer_measures:
                break
            own = slice(start, start := start + len(units))
            self._measure_scope(
                layer.name, self._matrix[own, own], activity.of(own), self.layer_measures, found
            )
        found.scalars[f"{self.name}/n_samples"] = float(summary.count)
        with self.stopwatch.part("record"):
            self._keep(whole, found, step)
        del self._matrix, self._summary
        return found

    def settle(self) -> None:
        """Makes the last snapshot the one that the next is compared with."""
        self._previous = {**self._previous, **self._next}

    @override
    def carry(self) -> dict[str, Any]:
        return {
            scope: {"partition": torch.from_numpy(p.partition), "edges": torch.from_numpy(p.edges)}
            for scope, p in self._previous.items()
        }

    @override
    def take_up(self, state: Mapping[str, Any]) -> None:
        self._previous = {
            scope: Previous(p["partition"].numpy(), p["edges"].numpy().reshape(-1, 2))
            for scope, p in state.items()
        }

    def _take(self, rows: Tensor, labels: Tensor | None) -> None:
        with self.stopwatch.part("moments"):
            self._correlation.update(rows)
            has_labels = self._has_labels and labels is not None and len(labels) == len(rows)
            self._activity.update(rows, labels if has_labels else None)

    def _statistics(self, num_classes: int) -> ActivationStatistics:
        n = self._correlation.num_units
        keep = 0 if self.is_live else max(2, _KEPT_VALUES // (self._forward.world_size * max(n, 1)))
        return ActivationStatistics(n, num_classes or None, keep=keep).to(self._forward.moments_device)

    def _tokens_per_sample(self, probe: Probe) -> int | None:
        """Tokens of one input that are samples; where batches are kept as they pass, the probe is still growing."""
        if self.samples == "inputs":
            return None
        n_inputs = self.probe_size if probe.indices is None else probe.n_samples
        return max(1, self.max_samples // n_inputs)

    def _measure_scope(
        self,
        scope_name: str,
        correlation: np.ndarray,
        activity: Activity,
        names: Sequence[str],
        found: Measured,
    ) -> Scope:
        previous = self._previous.get(scope_name)
        if previous is not None and len(previous.partition) != len(correlation):
            previous = None  # the run was resumed with another choice of neurons
        # Streams of null graphs depend on seed and scope alone, so that the series is smooth in time.
        settings = replace(self.graph, seed=self.graph.seed + zlib.crc32(scope_name.encode()))
        scope = Scope(correlation, activity, previous=previous, settings=settings, stopwatch=self.stopwatch)
        values = measure(scope, names, on_error=self.on_error, advance=self._advance)
        found.scalars |= {self._key(scope_name, name): value for name, value in values.items()}
        found.notes |= {self._key(scope_name, name): note for name, note in scope.notes.items()}
        if not {"partition_ami", "edge_turnover"}.isdisjoint(names):
            self._next[scope_name] = scope.to_previous()
        return scope

    def _keep(self, scope: Scope, found: Measured, step: int) -> None:
        """What the record and the figures have of the whole network."""
        layers = np.repeat(np.arange(len(self._units)), [len(u) for u in self._units])
        found.arrays = {"layer": layers[scope.nodes], **scope.arrays()}
        if self.save_correlation:
            found.arrays["correlation"] = scope.correlation.astype(np.float32)
        if self.figures is not None:
            found.portrait = Portrait(
                title=f"step {step}",
                n_neurons=scope.n_neurons,
                nodes=scope.nodes,
                correlation=scope.correlation.astype(np.float32),
                edges=scope.graph.edges,
                partition=scope.partition,
                diagrams=scope.known_diagrams,
                scale=scope.scale if scope.known_diagrams else None,
            )

    def _key(self, scope: str, measure_name: str) -> str:
        if scope == _WHOLE:
            return f"{self.name}/{measure_name}"
        return f"{self.name}_layers/{self._folders[scope]}/{measure_name}"
