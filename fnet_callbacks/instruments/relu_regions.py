"""The instrument of linear regions: how many patterns of active units there are, and how they change."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from fnet_callbacks.arguments import as_flag, as_integer
from fnet_callbacks.attacks import fgsm
from fnet_callbacks.capture.batch import Batch
from fnet_callbacks.capture.batches import as_getter
from fnet_callbacks.capture.probe import Probe
from fnet_callbacks.errors import CaptureError, FnetError
from fnet_callbacks.findings import Findings
from fnet_callbacks.instruments.forward import Forward
from fnet_callbacks.instruments.whole_probe import WholeProbeInstrument
from fnet_callbacks.keys import Key, layer_keys, places, whole_keys
from fnet_callbacks.neighbourhood import Normalize, as_normalization, as_radius
from fnet_callbacks.quantities.regions import (
    ALWAYS_ON_SHARE,
    ATTACKED_DISTANCE,
    DEAD_SHARE,
    LINES,
    OF_LAYER,
    OF_PATTERNS,
    PURITY,
)
from fnet_callbacks.regions.patterns import Patterns, activation_patterns
from fnet_callbacks.regions.relu import purities
from fnet_callbacks.regions.walk import count_crossings, estimate_crossings

_LARGE = 8192  # breaks, above which a line crosses more borders than there is time to follow
_IN_WINDOW = 64  # of the breaks there would be in a window if each were once on the line


class ReLURegions(WholeProbeInstrument):
    """In which linear region of the model each input of the probe is.

    For models of linear layers, convolutions, BatchNorm, pooling and piecewise-linear units, as modules or functional
    calls; see ``relu_regions``. Keys:

    - ``<name>/n_patterns``, distinct activation patterns; ``<name>/singleton_share``, the share of inputs that are
      alone in theirs; ``<name>/pattern_entropy`` of their sizes, a share of log S; with labels ``<name>/purity``, the
      share of inputs that are of the commonest class of their region.
    - ``<name>/unchanged_share``, of inputs whose pattern is that of the last snapshot; NaN at the first.
    - ``<name>/dead_share`` and ``<name>/always_on_share``, of units that have slope 0 for all inputs, or are on one
      sloped piece for all (a ReLU that is never, or always, active), and the same by operation,
      ``<name>_layers/<place>/dead_share``.
    - With ``lines``: ``<name>/crossings_same`` and ``<name>/crossings_different``, borders between regions on the
      straight line between two inputs of one class and of two, a mean over lines; ``<name>/crossings`` between any two
      without labels. A line that is cut off at ``max_crossings`` is continued at the same rate. In a model of more than
      8,192 breaks between pieces lines are not followed, unless ``exact``, but their borders estimated from those in
      four short windows of each, at random places that are the same at every snapshot; see ``estimate_crossings``.
      With 16 lines the error of a mean is some 3 % beside that of so few lines; more lines make both smaller.
    - With ``epsilon``: ``<name>/attacked_distance``, the mean share of the units' breaks that FGSM moves an input over.

    The record has the region of each input, ``<name>.region``.

    Args:
        name: Prefix of the keys; unique in the monitor.
        every_n_steps: Steps between its snapshots, or ``"log"``. Default: ten times the monitor's.
        every_n_epochs: Epochs between its snapshots, in place of steps.
        lines: Lines of each kind, the same at every snapshot; 0 for none.
        max_crossings: After which a line is followed no further.
        exact: Whether lines are followed border by border in a model of any size: minutes a snapshot in a convolutional
            one.
        epsilon: Radius of the attack, in the units of ``bounds``; None for none.
        bounds: See ``Robustness``; so is ``normalize``.
        normalize: See there.
        output_to_logits: From what the model returns to logits ``[S, C]``, for the attack; a callable or its dotted
            path.

    Raises:
        CaptureError: The model is not piecewise linear; the message names the operation (before the first step).
        FnetError: An argument is out of range (before the first step).

    Reference: Picchiotti & Gori (2021), arXiv 2110.06593, for patterns as clusters; Hanin & Rolnick (2019), arXiv
        1901.09021, for crossings along lines.
    Cost: one forward pass, one bit a unit and input, and for lines a pass in float64 of two inputs a line for each
        crossing, or for each of four windows where they are estimated; on the training thread, of rank 0, which is
        shown the probe of all ranks.
    """

    default_interval = 10

    def __init__(
        self,
        *,
        name: str = "regions",
        every_n_steps: int | Literal["log"] | None = None,
        every_n_epochs: int | None = None,
        lines: int = 16,
        max_crossings: int = 200,
        exact: bool = False,
        epsilon: float | None = None,
        bounds: tuple[float, float] | None = None,
        normalize: Normalize | None = None,
        output_to_logits: Callable[[Any], Any] | str | int | None = None,
    ) -> None:
        super().__init__(name=name, every_n_steps=every_n_steps, every_n_epochs=every_n_epochs)
        self.lines = as_integer("lines", lines, at_least=0)
        self.max_crossings = as_integer("max_crossings", max_crossings, at_least=1)
        self.exact = as_flag("exact", exact)
        self.epsilon, self.bounds = as_radius(epsilon, bounds)
        self.normalize = as_normalization(normalize)
        self.output_to_logits = as_getter(output_to_logits, "output_to_logits")

    @property
    @override
    def facts(self) -> dict[str, Any]:
        layers = zip(places(len(self._layers)), self._layers, strict=True)
        return {
            "n_units": self._n_units,
            "layers": [{"place": p, "name": layer.name, "n_units": layer.n_units} for p, layer in layers],
        }

    @property
    @override
    def description(self) -> str:
        return f"the pieces of {self._n_units} piecewise-linear units"

    @property
    @override
    def keys(self) -> list[Key]:
        lines = [quantity for quantity in LINES if quantity.name in self._kinds_of_line]
        found = [*OF_PATTERNS, *([PURITY] if self._is_labelled else []), *lines]
        found += [ATTACKED_DISTANCE] if self.epsilon is not None else []
        layers = [layer.name for layer in self._layers]
        return [*whole_keys(self.name, found), *layer_keys(self.name, OF_LAYER, layers)]

    @override
    def prepare(self, forward: Forward, probe: Probe) -> None:
        batch = forward.example
        super().prepare(forward, probe)
        self._is_labelled = probe.num_classes is not None
        self._last: tuple[np.ndarray, np.ndarray] | None = None
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
        if self.lines:  # refuses what has no margins
            count_crossings(forward.called, batch.inputs[:1], batch.inputs[:1])
        if self.epsilon is not None:
            self._attacked(batch)

    @override
    def find(self, model: Any, batches: Sequence[Batch]) -> Any:
        with self.stopwatch.part("patterns"):
            patterns = activation_patterns(model, [batch.inputs for batch in batches])
        labels = torch.cat([b.labels for b in batches if b.labels is not None]) if self._is_labelled else None
        found = self._of_patterns(patterns, None if labels is None else labels.cpu().numpy())
        if self.lines:
            with self.stopwatch.part("lines"):
                inputs = torch.cat([batch.inputs for batch in batches])
                found |= self._of_lines(inputs, labels, patterns.n_breaks)
        if self.epsilon is not None:
            with self.stopwatch.part("attack"):
                attacked = activation_patterns(model, [self._attacked(b) for b in batches])
            found["attacked_distance"] = float(patterns.distances(attacked).mean() / patterns.n_breaks)
        return patterns, found

    @override
    def analyze(self, arrays: tuple[Patterns, dict[str, float]]) -> Findings:
        patterns, found = arrays
        found = {**found, "unchanged_share": self._unchanged(patterns)}
        scalars = {f"{self.name}/{key}": value for key, value in found.items()}
        for place, layer in zip(places(len(patterns.layers)), patterns.layers, strict=True):
            scalars[self.key(DEAD_SHARE, place).key] = layer.dead / layer.n_units
            scalars[self.key(ALWAYS_ON_SHARE, place).key] = layer.always_on / layer.n_units
        self._last = patterns.bits, patterns.places
        return Findings(scalars=scalars, arrays={"region": patterns.groups()})

    @override
    def state(self) -> dict[str, Any]:
        return {} if self._last is None else {"bits": self._last[0], "places": self._last[1]}

    @override
    def restore(self, state: Mapping[str, Any]) -> None:
        self._last = (state["bits"], state["places"]) if "bits" in state else None

    @property
    def _kinds_of_line(self) -> Sequence[str]:
        if not self.lines:
            return ()
        return ("crossings_same", "crossings_different") if self._is_labelled else ("crossings",)

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
            "unchanged_share": math.nan,  # known where the last snapshot is
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

    def _of_lines(self, inputs: Tensor, labels: Tensor | None, n_breaks: int) -> dict[str, float]:
        classes = np.zeros(len(inputs), np.int64) if labels is None else labels.cpu().numpy()
        seed = self.shared.probe_seed
        pairs = [
            _pairs(classes, self.lines, seed, of_one_class=kind != "crossings_different")
            for kind in self._kinds_of_line
        ]
        starts, ends = (
            inputs[torch.from_numpy(own).to(inputs.device)] for own in np.concatenate(pairs).T
        )  # of all kinds at once
        if not len(starts):
            crossings = np.empty(0)
        elif self.exact or n_breaks <= _LARGE:
            walk = count_crossings(self._forward.called, starts, ends, max_crossings=self.max_crossings)
            crossings = walk.crossings / walk.reached
        else:
            width = _IN_WINDOW / n_breaks
            crossings = estimate_crossings(self._forward.called, starts, ends, width=width, seed=seed)
        of_kinds = np.split(crossings, np.cumsum([len(own) for own in pairs])[:-1])
        return {
            kind: float(own.mean()) if len(own) else math.nan
            for kind, own in zip(self._kinds_of_line, of_kinds, strict=True)
        }

    def _attacked(self, batch: Batch) -> Tensor:
        assert self.epsilon is not None
        assert self.bounds is not None
        if batch.labels is None:
            raise FnetError("a batch of the probe has no labels")
        model = self._forward.logits_model(self.output_to_logits)
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
