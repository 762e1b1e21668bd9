"""The monitor of linear regions: how many patterns of active units there are, and how they change."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from fnet_callbacks.arguments import as_integer
from fnet_callbacks.attacks import fgsm
from fnet_callbacks.callbacks.forward import Forward
from fnet_callbacks.callbacks.whole_probe import WholeProbeMonitor
from fnet_callbacks.capture.batch import Batch
from fnet_callbacks.capture.batches import as_getter, path_of
from fnet_callbacks.capture.probe import Probe
from fnet_callbacks.errors import CaptureError, FnetError
from fnet_callbacks.keys import folder_names
from fnet_callbacks.neighbourhood import Normalize, as_normalization, as_radius
from fnet_callbacks.regions.patterns import Patterns, activation_patterns
from fnet_callbacks.regions.relu import purities
from fnet_callbacks.regions.walk import count_crossings
from fnet_callbacks.worker.jobs import Measured

_OF_PATTERNS = (
    "n_patterns",
    "singleton_share",
    "pattern_entropy",
    "unchanged_share",
    "dead_share",
    "always_on_share",
)


class ReLURegionMonitor(WholeProbeMonitor):
    """Groups the probe by the linear region that each input is in, every N steps.

    For models of linear layers, convolutions, BatchNorm, pooling and piecewise-linear units, as modules or functional
    calls; see ``relu_regions``. Keys:

    - ``<name>/n_patterns``, distinct activation patterns; ``<name>/singleton_share``, the share of inputs that are
      alone in theirs; ``<name>/pattern_entropy`` of their sizes, a share of log S; with labels ``<name>/purity``, the
      share of inputs that are of the commonest class of their region.
    - ``<name>/unchanged_share``, of inputs whose pattern is that of the last snapshot; NaN at the first.
    - ``<name>/dead_share`` and ``<name>/always_on_share``, of units that have slope 0 for all inputs, or are on one
      sloped piece for all (a ReLU that is never, or always, active), and the same by operation,
      ``<name>_layers/<operation>/dead_share``.
    - With ``lines``: ``<name>/crossings_same`` and ``<name>/crossings_different``, borders between regions on the
      straight line between two inputs of one class and of two, a mean over lines; ``<name>/crossings`` between any two
      without labels. A line that is cut off at ``max_crossings`` is continued at the same rate.
    - With ``epsilon``: ``<name>/attacked_distance``, the mean share of the units' breaks that FGSM moves an input over.

    The record has the region of each input, ``<name>.region``.

    Args:
        every_n_steps: Steps between snapshots.
        name: Prefix of the keys; unique in the trainer.
        lines: Lines of each kind, the same at every snapshot; 0 for none.
        max_crossings: After which a line is followed no further.
        epsilon: Radius of the attack, in the units of ``bounds``; None for none.
        bounds: See ``RobustnessMonitor``; so is ``normalize``.
        normalize: See there.
        output_to_logits: From what the model returns to logits ``[S, C]``, for the attack; a callable or its dotted
            path.
        overhead_budget: See ``ProbeMonitor``; so are the rest.
        probe: See there.
        probe_size: See there.
        probe_seed: See there; also of the lines.
        batch_to_inputs: See there.
        batch_to_labels: See there.
        model: See there; names of operations are those in the submodule.
        on_error: See there.

    Raises:
        CaptureError: The model is not piecewise linear; the message names the operation (before the first step).
        FnetError: An argument is out of range (before the first step).

    Reference: Picchiotti & Gori (2021), arXiv 2110.06593, for patterns as clusters; Hanin & Rolnick (2019), arXiv
        1901.09021, for crossings along lines.
    Cost: one forward pass, one bit a unit and input, and for lines a pass in float64 of four inputs a line for each
        crossing; on the training thread, of rank 0, which is shown the probe of all ranks.
    """

    def __init__(
        self,
        every_n_steps: int | Literal["log"] = 1000,
        *,
        name: str = "regions",
        lines: int = 16,
        max_crossings: int = 200,
        epsilon: float | None = None,
        bounds: tuple[float, float] | None = None,
        normalize: Normalize | None = None,
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
        self.lines = as_integer("lines", lines, at_least=0)
        self.max_crossings = as_integer("max_crossings", max_crossings, at_least=1)
        self.epsilon, self.bounds = as_radius(epsilon, bounds)
        self.normalize = as_normalization(normalize)
        self.output_to_logits = as_getter(output_to_logits, "output_to_logits")
        self.forget()

    @override
    def forget(self) -> None:
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return {
            **self.shared_settings,
            "output_to_logits": path_of(self.output_to_logits),
            "lines": self.lines,
            "max_crossings": self.max_crossings,
            "epsilon": self.epsilon,
            "bounds": self.bounds,
            "normalize": self.normalize,
            "n_units": self._n_units,
            "layers": [
                {"name": layer.name, "folder": self._folders[layer.name], "n_units": layer.n_units}
                for layer in self._layers
            ],
        }

    @property
    @override
    def description(self) -> str:
        return f"the pieces of {self._n_units} piecewise-linear units"

    @property
    @override
    def keys(self) -> list[str]:
        found = [*_OF_PATTERNS, *(["purity"] if self._is_labelled else []), *self._kinds_of_line]
        found += ["attacked_distance"] if self.epsilon is not None else []
        of_layers = [
            f"{self.name}_layers/{folder}/{what}"
            for folder in self._folders.values()
            for what in ("dead_share", "always_on_share")
        ]
        return [*(f"{self.name}/{key}" for key in found), *of_layers]

    @override
    def prepare(self, forward: Forward, probe: Probe, batch: Batch) -> None:
        self.forward = forward
        self._is_labelled = probe.num_classes is not None
        if (self.lines or self.epsilon is not None) and not isinstance(batch.inputs, Tensor):
            raise CaptureError(
                f"{type(self).__name__} draws lines and attacks in one tensor, the model's inputs are a "
                f"{type(batch.inputs).__name__}; pass `batch_to_inputs`, or `lines=0` and no `epsilon`"
            )
        if self.epsilon is not None and not self._is_labelled:
            raise FnetError("`epsilon` needs labels in the probe; pass `batch_to_labels`, or no `epsilon`")
        with forward.autocast():
            patterns = activation_patterns(forward.called, [batch.inputs])
        self._n_units = patterns.n_units
        self._layers = patterns.layers
        self._folders = folder_names([layer.name for layer in patterns.layers])
        if self.lines:  # refuses what has no margins
            count_crossings(forward.called, batch.inputs[:1], batch.inputs[:1])
        if self.epsilon is not None:
            self._attacked(batch)

    @override
    def measure(self, step: int) -> Measured:
        batches = self.batches()
        with self.stopwatch.part("patterns"), self._passing():
            patterns = activation_patterns(self.forward.called, [batch.inputs for batch in batches])
        labels = torch.cat([b.labels for b in batches if b.labels is not None]) if self._is_labelled else None
        found = self._of_patterns(patterns, None if labels is None else labels.cpu().numpy())
        if self.lines:
            with self.stopwatch.part("lines"), self.forward.undisturbed(seed=self.probe_seed):
                found |= self._of_lines(torch.cat([batch.inputs for batch in batches]), labels)
        if self.epsilon is not None:
            with self.stopwatch.part("attack"), self._passing():
                attacked = activation_patterns(self.forward.called, [self._attacked(b) for b in batches])
            found["attacked_distance"] = float(patterns.distances(attacked).mean() / patterns.n_breaks)
        scalars = {f"{self.name}/{key}": value for key, value in found.items()}
        for layer in patterns.layers:
            place = f"{self.name}_layers/{self._folders[layer.name]}"
            scalars[f"{place}/dead_share"] = layer.dead / layer.n_units
            scalars[f"{place}/always_on_share"] = layer.always_on / layer.n_units
        self._last = patterns.bits, patterns.places
        return Measured(scalars=scalars, arrays={"region": patterns.groups()})

    @override
    def carry(self) -> dict[str, Any]:
        if self._last is None:
            return {}
        bits, places = self._last
        return {"bits": torch.from_numpy(bits), "places": torch.from_numpy(places)}

    @override
    def take_up(self, state: Mapping[str, Any]) -> None:
        self._last = (state["bits"].numpy(), state["places"].numpy()) if "bits" in state else None

    @property
    def _kinds_of_line(self) -> Sequence[str]:
        if not self.lines:
            return ()
        return ("crossings_same", "crossings_different") if self._is_labelled else ("crossings",)

    @contextmanager
    def _passing(self) -> Iterator[None]:
        """As in validation, at the trainer's precision."""
        with self.forward.undisturbed(seed=self.probe_seed), self.forward.autocast():
            yield

    def _of_patterns(self, patterns: Patterns, labels: np.ndarray | None) -> dict[str, float]:
        regions = patterns.groups()
        sizes = np.bincount(regions)
        shares = sizes / len(regions)
        n_units, dead, always_on = (
            sum(getattr(layer, what) for layer in patterns.layers)
            for what in ("n_units", "dead", "always_on")
        )
        found = {
            "n_patterns": float(len(sizes)),
            "singleton_share": float((sizes == 1).sum() / len(regions)),
            "pattern_entropy": float(-(shares * np.log(shares)).sum() / math.log(max(2, len(regions)))),
            "unchanged_share": self._unchanged(patterns),
            "dead_share": dead / n_units if n_units else math.nan,
            "always_on_share": always_on / n_units if n_units else math.nan,
        }
        if labels is not None:
            found["purity"] = float((purities(regions, labels) * shares).sum())
        return found

    def _unchanged(self, patterns: Patterns) -> float:
        if self._last is None or self._last[0].shape != patterns.bits.shape:
            return math.nan
        bits, places = self._last
        same = (bits == patterns.bits).all(axis=1) & (places == patterns.places).all(axis=1)
        return float(same.mean())

    def _of_lines(self, inputs: Tensor, labels: Tensor | None) -> dict[str, float]:
        classes = np.zeros(len(inputs), np.int64) if labels is None else labels.cpu().numpy()
        found = {}
        for kind in self._kinds_of_line:
            pairs = _pairs(classes, self.lines, self.probe_seed, of_one_class=kind != "crossings_different")
            if not len(pairs):
                found[kind] = math.nan
                continue
            starts, ends = (inputs[torch.from_numpy(place).to(inputs.device)] for place in pairs.T)
            walk = count_crossings(self.forward.called, starts, ends, max_crossings=self.max_crossings)
            found[kind] = float((walk.crossings / walk.reached).mean())
        return found

    def _attacked(self, batch: Batch) -> Tensor:
        assert self.epsilon is not None
        assert self.bounds is not None
        if batch.labels is None:
            raise FnetError("a batch of the probe has no labels")
        model = self.forward.logits_model(self.output_to_logits)
        return fgsm(
            model,
            batch.inputs,
            batch.labels,
            epsilon=self.epsilon,
            bounds=self.bounds,
            normalize=self.normalize,
        )


def _pairs(classes: np.ndarray, most: int, seed: int, *, of_one_class: bool) -> np.ndarray:
    """Places of two different inputs of one class, or of two; ``[most, 2]``, none where there are none."""
    generator = np.random.default_rng(seed)
    sizes = np.bincount(classes)
    # The first of a pair with as many chances as it has others to go with.
    others = sizes - 1 if of_one_class else len(classes) - sizes
    chances = others[classes].astype(np.float64)
    if not chances.any():
        return np.empty((0, 2), np.int64)
    first = generator.choice(len(classes), most, p=chances / chances.sum())
    found = []
    for place in first.tolist():
        fits = (classes == classes[place]) == of_one_class
        fits[place] = False
        found.append((place, int(generator.choice(np.flatnonzero(fits)))))
    return np.array(found)
