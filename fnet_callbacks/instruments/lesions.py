"""The instrument of lesions: the accuracy that is left as neurons are silenced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from fnet_callbacks import functional as F
from fnet_callbacks.arguments import Names, as_integer, as_patterns
from fnet_callbacks.attacks import correct_predictions
from fnet_callbacks.capture.batch import Batch
from fnet_callbacks.capture.batches import as_getter, logits_of
from fnet_callbacks.capture.layers import Layer, choose_layers
from fnet_callbacks.capture.probe import Probe
from fnet_callbacks.capture.silencer import Silencer
from fnet_callbacks.capture.units import draw_neurons
from fnet_callbacks.capture.watcher import Watcher
from fnet_callbacks.errors import FnetError
from fnet_callbacks.findings import Findings
from fnet_callbacks.instruments.arguments import as_graph_rule
from fnet_callbacks.instruments.forward import Forward
from fnet_callbacks.instruments.instrument import Instrument
from fnet_callbacks.instruments.together import OfAllRanks, OfRankZero
from fnet_callbacks.keys import Key, places
from fnet_callbacks.metrics import RunningCorrelation
from fnet_callbacks.quantities.lesions import LESIONS

Order = Literal["random", "degree"]
ORDERS: tuple[Order, ...] = get_args(Order)


class Lesions(Instrument):
    """The accuracy that is left as neurons are silenced, at random and hubs first.

    What `functional.attack_curve` asks of the graph is asked of the model here: a growing share of the live watched
    neurons is set to zero, in a random order, or with those first that have the most neighbours left in the functional
    network, and the probe is classified. Keys: ``<name>/clean_accuracy``, and ``<name>/random_tolerance`` and
    ``<name>/degree_tolerance``, the area under accuracy over share relative to the accuracy of the intact model, 0 and
    more: 1 where nothing is lost until the end; NaN where the intact model is never right or no neuron is alive. The
    record has the curves: ``<name>.silenced``, the shares, and ``<name>.accuracy_<order>``.

    Args:
        name: Prefix of the keys; unique in the monitor.
        every_n_steps: Steps between its snapshots, or ``"log"``. Default: ten times the monitor's.
        every_n_epochs: Epochs between its snapshots, in place of steps.
        points: Shares at which accuracy is measured beside 0: 1/points, 2/points ... 1.
        layers: See ``FunctionalNetwork``; so are ``max_neurons`` and ``density``.
        max_neurons: The most neurons that are nodes; others are never silenced.
        density: Share of the pairs of neurons that are edges.
        seed: Of the random order.
        output_to_logits: From what the model returns to logits ``[S, C]``; a callable or its dotted path.

    Raises:
        FnetError: An argument is out of range; layers, inputs or labels are not found (before the first step).

    Reference: Morcos, Barrett, Rabinowitz & Botvinick (2018), arXiv 1803.06959, for silencing; that functional networks
        are judged by it is our assumption.
    Cost: ``2 points + 1`` passes over the probe on the training thread, and the correlation.
    """

    default_interval = 10
    analyzes_here = True

    def __init__(
        self,
        *,
        name: str = "lesion",
        every_n_steps: int | Literal["log"] | None = None,
        every_n_epochs: int | None = None,
        points: int = 10,
        layers: Names = "auto",
        max_neurons: int = 1024,
        density: float = 0.05,
        seed: int = 0,
        output_to_logits: Callable[[Any], Any] | str | int | None = None,
    ) -> None:
        super().__init__(name=name, every_n_steps=every_n_steps, every_n_epochs=every_n_epochs)
        self.points = as_integer("points", points, at_least=1)
        self.layers = as_patterns("layers", layers)
        self.max_neurons = as_integer("max_neurons", max_neurons, at_least=1)
        self.rule = as_graph_rule(density=density)
        self.density = self.rule.density
        self.seed = as_integer("seed", seed, at_least=0)
        self.output_to_logits = as_getter(output_to_logits, "output_to_logits")

    @property
    @override
    def facts(self) -> dict[str, Any]:
        return {
            "layers": [
                {"place": place, "name": layer.name, "n_units": layer.n_units, "neurons": units.tolist()}
                for place, layer, units in zip(
                    places(len(self._layers)), self._layers, self._units, strict=True
                )
            ]
        }

    @property
    @override
    def description(self) -> str:
        return f"silencing up to {sum(map(len, self._units))} neurons of {len(self._layers)} layers"

    @property
    @override
    def keys(self) -> list[Key]:
        return [self.key(quantity) for quantity in LESIONS]

    @property
    @override
    def watcher(self) -> Watcher | None:
        return self._watcher

    @override
    def prepare(self, forward: Forward, probe: Probe) -> None:
        batch = forward.example
        if batch.labels is None or probe.num_classes is None:
            raise FnetError(
                "Lesions found no labels in the probe (one integer of at least 0 a sample); pass `batch_to_labels`, a "
                "function from your batch to labels [S]"
            )
        self._layers: list[Layer] = choose_layers(
            forward.module, forward, batch.inputs, n_samples=batch.n_samples, layers=self.layers
        )
        n_units = [layer.n_units for layer in self._layers]
        self._units = draw_neurons(n_units, max_neurons=self.max_neurons, seed=self.shared.probe_seed)
        self._watcher = Watcher(forward.module, self._layers, self._units)
        self._silencer = Silencer(forward.module, self._layers)
        self._correlation = RunningCorrelation(sum(map(len, self._units))).to(forward.moments_device)
        self._forward = forward
        self._hits(forward(batch.inputs), batch)  # refuses what is not a classifier's output

    @override
    def begin(self, probe: Probe, num_classes: int) -> None:
        self._batches: list[Batch] = []
        self._correlation.reset()

    @override
    def see(self, batch: Batch, output: Any) -> None:
        with self.stopwatch.part("moments"):
            self._correlation.update(self._watcher.rows())
        self._watcher.expect(0)
        self._batches.append(batch)

    @override
    def share(self) -> Any:
        return OfAllRanks(self._correlation)

    @override
    def compute(self, model: Any) -> Any:
        """Of each lesion, correct predictions and samples."""
        batches, self._batches = self._batches, []
        lesions = list(self._lesions(self.together))
        with self.stopwatch.part("lesions"):
            counts = torch.tensor([self._counts(silenced, batches) for silenced in lesions])
        return {"counts": counts, "shares": OfRankZero(self._shares)}

    @override
    def analyze(self, arrays: Mapping[str, np.ndarray]) -> Findings:
        counts, shares = arrays["counts"], arrays["shares"]
        accuracy = counts[:, 0] / np.maximum(counts[:, 1], 1)
        clean, rest = accuracy[0], accuracy[1:].reshape(len(ORDERS), -1)
        found = Findings(scalars={f"{self.name}/clean_accuracy": float(clean)})
        found.arrays["silenced"] = shares
        for order, left in zip(ORDERS, rest, strict=True):
            curve = F.AttackCurve(shares, np.concatenate([[clean], left]))
            found.scalars[f"{self.name}/{order}_tolerance"] = curve.area / clean if clean else float("nan")
            found.arrays[f"accuracy_{order}"] = curve.remaining
        return found

    def _lesions(self, correlation: np.ndarray) -> Iterator[np.ndarray]:
        """What is silenced, neuron by neuron: nothing; then for each order growing shares of the live neurons."""
        selection = self.rule.select(correlation)
        graph = F.Graph.from_sorted_edges(len(selection.nodes), selection.edges)
        counts = np.unique(np.round(np.linspace(0, graph.n_nodes, self.points + 1)).astype(int))
        self._shares = counts / max(graph.n_nodes, 1)
        yield selection.nodes[:0]
        for order in ORDERS:
            nodes = F.removal_order(graph, order, seed=self.seed)
            for count in counts[1:]:
                yield selection.nodes[nodes[:count]]

    def _counts(self, silenced: np.ndarray, batches: Sequence[Batch]) -> tuple[int, int]:
        """Correct predictions and samples of this rank, with these neurons silenced."""
        ends = np.cumsum([0, *map(len, self._units)])
        units = [
            own[silenced[(silenced >= start) & (silenced < end)] - start]
            for own, start, end in zip(self._units, ends[:-1], ends[1:], strict=True)
        ]
        correct = total = 0
        with self._silencer.silenced(units), torch.no_grad():
            for batch in batches:
                hits = self._hits(self._forward(batch.inputs), batch)
                correct, total = correct + int(hits.sum()), total + len(hits)
        return correct, total

    def _hits(self, output: Any, batch: Batch) -> Tensor:
        if batch.labels is None:
            raise FnetError("a batch of the probe has no labels")
        return correct_predictions(logits_of(output, self.output_to_logits), batch.labels)
