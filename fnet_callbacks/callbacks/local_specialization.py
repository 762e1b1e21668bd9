"""The monitor of local specialization: whether the groups into which the units fall become important and coherent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from fnet_callbacks import functional as F
from fnet_callbacks.arguments import Names, as_choice, as_patterns
from fnet_callbacks.callbacks.forward import Forward
from fnet_callbacks.callbacks.whole_probe import WholeProbeMonitor
from fnet_callbacks.capture.batch import Batch
from fnet_callbacks.capture.batches import as_getter, call_model, logits_of, path_of
from fnet_callbacks.capture.layers import Layer, Signal, choose_layers, inside
from fnet_callbacks.capture.probe import Probe
from fnet_callbacks.errors import FnetError
from fnet_callbacks.specialization.analysis import analyze
from fnet_callbacks.specialization.findings import QUESTIONS, LocalSpecializationResult
from fnet_callbacks.specialization.lesions import LayerLesions, Replacement
from fnet_callbacks.specialization.node_graph import NodeGraph
from fnet_callbacks.specialization.settings import ClusterScope, Correlation, Kind, Settings
from fnet_callbacks.worker.jobs import Measured

_ALPHA = 0.05  # the least p that 19 references can give


class LocalSpecializationMonitor(WholeProbeMonitor):
    """Asks every N steps into which groups the units fall, and whether these are important and coherent.

    What `local_specialization` asks of a finished model. Keys: ``<name>/n_subclusters``, ``<name>/ncut``, with
    ``shuffles`` its ``<name>/z_score``, ``<name>/partition_ami`` with the last snapshot, and for each question
    (importance, coherence, label_entropy, and with ``visualization_steps`` objective and softmax_entropy)
    ``<name>/<question>_p``, that of all subclusters together, ``<name>/<question>_effect``, and
    ``<name>/<question>_share``, that of the subclusters whose p is at most 0.05 (NaN with fewer than 19 references).
    The record has the cluster of each unit, ``<name>.partition``, and a row for each subcluster: ``<name>.layer``,
    ``<name>.cluster``, ``<name>.size``, ``<name>.accuracy`` ``[P, C]`` with it lesioned, and p and effect of each
    question.

    Args:
        every_n_steps: Steps between snapshots.
        name: Prefix of the keys; unique in the trainer.
        graph: See ``local_specialization``; so are those down to ``seed``.
        k: See there.
        scope: See there.
        partition: None, or ``"louvain"``.
        correlation: See there.
        layers: See there; with ``model`` names are those in the LightningModule.
        signal: See there.
        references: See there.
        shuffles: See there; each is one more clustering, as a rule the dearest part.
        replacement: See there.
        visualization_steps: See there.
        seed: See there.
        output_to_logits: From what the model returns to logits ``[S, C]``; a callable or its dotted path.
        overhead_budget: See ``ProbeMonitor``; so are the rest.
        probe: See there.
        probe_size: See there.
        probe_seed: See there.
        batch_to_inputs: See there.
        batch_to_labels: See there.
        model: See there.
        on_error: See there.

    Raises:
        FnetError: An argument is out of range; layers, inputs or labels are not found, or the model cannot be traced
            where that is needed (before the first step).

    Reference: Hod, Filan, Casper, Critch & Russell (2021), arXiv 2110.08058; that it is asked during training is ours.
    Cost: see ``local_specialization``; on the training thread, of rank 0, which is shown the probe of all ranks while
        the others wait for it.
    """

    def __init__(
        self,
        every_n_steps: int | Literal["log"] = 1000,
        *,
        name: str = "specialization",
        graph: Kind = "weights",
        k: int | None = 16,
        scope: ClusterScope = "global",
        partition: Literal["louvain"] | None = None,
        correlation: Correlation = "spearman",
        layers: Names = "auto",
        signal: Signal = "post",
        references: int = 19,
        shuffles: int = 10,
        replacement: Replacement = "zero",
        visualization_steps: int = 0,
        seed: int = 0,
        output_to_logits: Callable[[Any], Any] | str | int | None = None,
        overhead_budget: float | None = None,
        probe: Any = None,
        probe_size: int = 1024,
        probe_seed: int = 0,
        batch_to_inputs: Callable[[Any], Any] | str | int | None = None,
        batch_to_labels: Callable[[Any], Any] | str | int | None = None,
        model: str | None = None,
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
        layers = as_patterns("layers", layers)
        self.options = Settings(
            graph=graph,
            k=k,
            scope=scope,
            partition=as_choice("partition", partition, (None, "louvain")),
            correlation=correlation,
            layers=inside(layers, self.model),
            signal=signal,
            references=references,
            shuffles=shuffles,
            replacement=replacement,
            visualization_steps=visualization_steps,
            seed=seed,
        )
        self.output_to_logits = as_getter(output_to_logits, "output_to_logits")
        self.forget()

    @override
    def forget(self) -> None:
        self._last_partition: np.ndarray | None = None

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return {
            **self.shared_settings,
            "output_to_logits": path_of(self.output_to_logits),
            **dataclasses.asdict(self.options),
            "layers": [{"name": layer.name, "n_units": layer.n_units} for layer in self._layers],
        }

    @property
    @override
    def description(self) -> str:
        return (
            f"clustering {sum(layer.n_units for layer in self._layers)} units of {len(self._layers)} layers"
        )

    @property
    @override
    def keys(self) -> list[str]:
        found = ["n_subclusters", "ncut", *(["z_score"] if self._has_z else []), "partition_ami"]
        found += [f"{question}_{what}" for question in self._questions for what in ("p", "effect", "share")]
        return [f"{self.name}/{key}" for key in found]

    @override
    def prepare(self, forward: Forward, probe: Probe, batch: Batch) -> None:
        if probe.num_classes is None:
            raise FnetError(
                "LocalSpecializationMonitor found no labels in the probe (one integer of at least 0 a sample); pass "
                "`batch_to_labels`, a function from your batch to labels [S]"
            )
        self.forward = forward
        first = [batch]
        with forward.autocast():
            self._layers: list[Layer] = choose_layers(
                forward.called,
                lambda inputs: call_model(forward.called, inputs),
                batch.inputs,
                n_samples=batch.n_samples,
                layers=self.options.layers,
                signal=self.options.signal,
            )
            # Refuses what cannot be traced, and then what is no classifier.
            if self.options.graph == "weights":
                NodeGraph.of_weights(forward.called, first, self._layers)
            LayerLesions(
                forward.called,
                self._layers[0],
                first,
                num_classes=probe.num_classes,
                output_to_logits=self._to_logits,
            ).intact()

    @override
    def measure(self, step: int) -> Measured:
        batches = self.batches()
        with (
            self.stopwatch.part("specialization"),
            self.forward.undisturbed(seed=self.probe_seed),
            self.forward.autocast(),
        ):
            found = analyze(self.forward.called, batches, self.options, output_to_logits=self._to_logits)
        scalars = {"n_subclusters": float(len(found.subclusters)), "ncut": found.ncut}
        if self._has_z:
            scalars["z_score"] = found.z_score
        scalars["partition_ami"] = self._ami_with_last(found.partition)
        for question in self._questions:
            test = getattr(found, question)
            p = np.array([getattr(s, question).p_value for s in found.subclusters])
            known = p[np.isfinite(p)]
            scalars[f"{question}_p"], scalars[f"{question}_effect"] = test.p_value, test.effect
            scalars[f"{question}_share"] = (
                float((known <= _ALPHA).mean())
                if len(known) and 1 / (self.options.references + 1) <= _ALPHA
                else float("nan")
            )
        self._last_partition = found.partition
        return Measured(
            scalars={f"{self.name}/{key}": value for key, value in scalars.items()},
            arrays=self._arrays(found),
        )

    @override
    def carry(self) -> dict[str, Any]:
        last = self._last_partition
        return {} if last is None else {"partition": torch.from_numpy(last)}

    @override
    def take_up(self, state: Mapping[str, Any]) -> None:
        last = state.get("partition")
        self._last_partition = None if last is None else last.numpy()

    @property
    def _has_z(self) -> bool:
        return self.options.shuffles > 0 and self.options.partition is None

    @property
    def _questions(self) -> Sequence[str]:
        return QUESTIONS if self.options.visualization_steps else QUESTIONS[:3]

    def _ami_with_last(self, partition: np.ndarray) -> float:
        last = self._last_partition
        if last is None or last.shape != partition.shape:
            return float("nan")
        both = (last >= 0) & (partition >= 0)
        return F.adjusted_mutual_information(last[both], partition[both])

    def _arrays(self, found: LocalSpecializationResult) -> dict[str, np.ndarray]:
        subclusters = found.subclusters
        rows = {
            "layer": [found.layers.index(s.layer) for s in subclusters],
            "cluster": [s.cluster for s in subclusters],
            "size": [len(s.units) for s in subclusters],
        }
        arrays: dict[str, np.ndarray] = {name: np.array(values, np.int64) for name, values in rows.items()}
        arrays["partition"] = found.partition
        arrays["clean_accuracy"] = found.accuracy
        lesioned = [s.accuracy for s in subclusters]
        arrays["accuracy"] = np.stack(lesioned) if lesioned else np.empty((0, len(found.accuracy)))
        for question in self._questions:
            tests = [getattr(s, question) for s in subclusters]
            arrays[f"{question}_p"] = np.array([t.p_value for t in tests])
            arrays[f"{question}_effect"] = np.array([t.effect for t in tests])
        return arrays

    def _to_logits(self, output: Any) -> Tensor:
        return logits_of(output, self.output_to_logits)
