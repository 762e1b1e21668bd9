"""The instrument of local specialization: whether the groups of units become important and coherent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from torch import Tensor
from typing_extensions import override

from fnet_callbacks import functional as F
from fnet_callbacks.arguments import Names, as_choice, as_patterns
from fnet_callbacks.capture.batch import Batch
from fnet_callbacks.capture.batches import as_getter, call_model, logits_of
from fnet_callbacks.capture.layers import Layer, Signal, choose_layers, inside
from fnet_callbacks.capture.probe import Probe
from fnet_callbacks.errors import FnetError
from fnet_callbacks.findings import Findings
from fnet_callbacks.instruments.forward import Forward
from fnet_callbacks.instruments.whole_probe import WholeProbeInstrument
from fnet_callbacks.keys import Key, places
from fnet_callbacks.quantities.specialization import of_groups
from fnet_callbacks.specialization.analysis import analyze
from fnet_callbacks.specialization.findings import QUESTIONS, LocalSpecializationResult
from fnet_callbacks.specialization.lesions import LayerLesions, Replacement
from fnet_callbacks.specialization.node_graph import NodeGraph
from fnet_callbacks.specialization.settings import ClusterScope, Correlation, Kind, Settings

_ALPHA = 0.05  # the least p that 19 references can give


class LocalSpecialization(WholeProbeInstrument):
    """Into which groups the units fall, and whether these are important and coherent.

    What `local_specialization` asks of a finished model. Keys: ``<name>/n_subclusters``, ``<name>/ncut``, with
    ``shuffles`` its ``<name>/z_score``, ``<name>/partition_ami`` with the last snapshot, and for each question
    (importance, coherence, label_entropy, and with ``visualization_steps`` objective and softmax_entropy)
    ``<name>/<question>_p``, that of all subclusters together, ``<name>/<question>_effect``, and
    ``<name>/<question>_share``, that of the subclusters whose p is at most 0.05 (NaN with fewer than 19 references).
    The record has the cluster of each unit, ``<name>.partition``, and a row for each subcluster: ``<name>.layer``,
    ``<name>.cluster``, ``<name>.size``, ``<name>.accuracy`` ``[P, C]`` with it lesioned, and p and effect of each
    question.

    Args:
        name: Prefix of the keys; unique in the monitor.
        every_n_steps: Steps between its snapshots, or ``"log"``. Default: a hundred times the monitor's.
        every_n_epochs: Epochs between its snapshots, in place of steps.
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

    Raises:
        FnetError: An argument is out of range; layers, inputs or labels are not found, or the model cannot be traced
            where that is needed (before the first step).

    Reference: Hod, Filan, Casper, Critch & Russell (2021), arXiv 2110.08058; that it is asked during training is ours.
    Cost: see ``local_specialization``; on the training thread, of rank 0, which is shown the probe of all ranks while
        the others wait for it.
    """

    default_interval = 100

    def __init__(
        self,
        *,
        name: str = "specialization",
        every_n_steps: int | Literal["log"] | None = None,
        every_n_epochs: int | None = None,
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
    ) -> None:
        super().__init__(name=name, every_n_steps=every_n_steps, every_n_epochs=every_n_epochs)
        self.layers = as_patterns("layers", layers)
        self.settings = Settings(
            graph=graph,
            k=k,
            scope=scope,
            partition=as_choice("partition", partition, (None, "louvain")),
            correlation=correlation,
            layers=self.layers,
            signal=signal,
            references=references,
            shuffles=shuffles,
            replacement=replacement,
            visualization_steps=visualization_steps,
            seed=seed,
        )
        vars(self).update(dataclasses.asdict(self.settings))
        self.output_to_logits = as_getter(output_to_logits, "output_to_logits")

    @property
    @override
    def facts(self) -> dict[str, Any]:
        layers = zip(places(len(self._layers)), self._layers, strict=True)
        return {"layers": [{"place": p, "name": layer.name, "n_units": layer.n_units} for p, layer in layers]}

    @property
    @override
    def description(self) -> str:
        return (
            f"clustering {sum(layer.n_units for layer in self._layers)} units of {len(self._layers)} layers"
        )

    @property
    @override
    def keys(self) -> list[Key]:
        return [self.key(quantity) for quantity in of_groups(self._questions, has_z=self._has_z)]

    @override
    def prepare(self, forward: Forward, probe: Probe) -> None:
        if probe.num_classes is None:
            raise FnetError(
                "LocalSpecialization found no labels in the probe (one integer of at least 0 a sample); pass "
                "`batch_to_labels`, a function from your batch to labels [S]"
            )
        super().prepare(forward, probe)
        self._settings = dataclasses.replace(self.settings, layers=inside(self.layers, forward.model))
        self._last_partition: np.ndarray | None = None
        first = [forward.example]
        with forward.autocast():
            self._layers: list[Layer] = choose_layers(
                forward.called,
                lambda inputs: call_model(forward.called, inputs, name=forward.model),
                forward.example.inputs,
                n_samples=forward.example.n_samples,
                layers=self._settings.layers,
                signal=self._settings.signal,
            )
            # Refuses what cannot be traced, and then what is no classifier.
            if self._settings.graph == "weights":
                NodeGraph.of_weights(forward.called, first, self._layers)
            LayerLesions(
                forward.called,
                self._layers[0],
                first,
                num_classes=probe.num_classes,
                output_to_logits=self._to_logits,
            ).intact()

    @override
    def find(self, model: Any, batches: Sequence[Batch]) -> Any:
        with self.stopwatch.part("specialization"):
            return analyze(model, batches, self._settings, output_to_logits=self._to_logits)

    @override
    def analyze(self, arrays: LocalSpecializationResult) -> Findings:
        found = arrays
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
                if len(known) and 1 / (self.settings.references + 1) <= _ALPHA
                else float("nan")
            )
        self._last_partition = found.partition
        return Findings(
            scalars={f"{self.name}/{key}": value for key, value in scalars.items()},
            arrays=self._arrays(found),
        )

    @override
    def state(self) -> dict[str, Any]:
        last = self._last_partition
        return {} if last is None else {"partition": last}

    @override
    def restore(self, state: Mapping[str, Any]) -> None:
        self._last_partition = state.get("partition")

    @property
    def _has_z(self) -> bool:
        return self.settings.shuffles > 0 and self.settings.partition is None

    @property
    def _questions(self) -> Sequence[str]:
        return QUESTIONS if self.settings.visualization_steps else QUESTIONS[:3]

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
