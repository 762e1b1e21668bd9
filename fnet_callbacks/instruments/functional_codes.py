"""The instrument of functional codes: a map of each layer's codes, and the path of attacks through them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from fnet_callbacks.arguments import Names, as_choice, as_flag, as_patterns
from fnet_callbacks.attacks import fgsm
from fnet_callbacks.capture.batch import Batch, count_samples
from fnet_callbacks.capture.batches import as_getter, call_model, logits_of
from fnet_callbacks.capture.layers import Layer, Signal, choose_layers, inside
from fnet_callbacks.capture.probe import Probe
from fnet_callbacks.codes.analysis import ATTACKS, AttackSettings, Coder, FunctionalCodesResult, analyze
from fnet_callbacks.codes.functional_codes import check_attackable
from fnet_callbacks.codes.layer import LABEL_MEASURES, MEASURES, Grid, as_grid, checked_grid
from fnet_callbacks.codes.measures import map_distance
from fnet_callbacks.codes.portraits import commonest_class, portrait_of
from fnet_callbacks.codes.som import SelfOrganizingMap
from fnet_callbacks.errors import FnetError
from fnet_callbacks.findings import Findings
from fnet_callbacks.instruments.forward import Forward
from fnet_callbacks.instruments.whole_probe import WholeProbeInstrument
from fnet_callbacks.keys import Key, layer_keys, places, whole_keys
from fnet_callbacks.neighbourhood import Normalize, as_normalization, as_radius
from fnet_callbacks.portrait import CodePortrait
from fnet_callbacks.quantities.codes import departure, of_layer


class FunctionalCodes(WholeProbeInstrument):
    """A map of the codes of each layer, and the path of attacks through them.

    What `functional_codes` finds of a finished model; the map of a snapshot starts from that of the last, so that the
    picture keeps its orientation while training goes on. Keys, of each layer ``<name>/<place>/<measure>``:

    - ``quantization_error``, ``topographic_error``, ``used_units``, ``code_entropy``, ``participation_ratio`` (of the
      principal components), ``map_distance`` from the map of the layer before, ``map_change``, the same from the
      layer's own map at the last snapshot. With labels ``label_nmi``, ``label_ami``, ``prediction_nmi``,
      ``prediction_ami``, ``compactness``. See ``LayerCodes`` for each.
    - With ``epsilon``, for each attack, fgsm and pgd: ``<attack>_displacement``, ``<attack>_changed_share``,
      ``<attack>_distance``, the same of noise of the same norm, ``<attack>_noise_displacement`` and so on, and
      ``<attack>_departed_share``, the share of samples that the attack displaces further than noise does 95 %.
    - ``<name>/<attack>_departure``, the number of the watched layer, from 1, from which on the attack displaces most
      samples further than noise does 95 % of them; NaN for none.

    Figures, of up to six layers: the map by class, its U-matrix, and where clean and attacked inputs lie; and of images
    the mean input of each code; during a run those of the last layer. The record has the functional code of each input,
    ``<name>.units`` ``[L, S]``, ``<name>.grid``, and for U units ``<name>.u_matrix`` ``[L, U]``, with labels
    ``<name>.commonest_class`` ``[L, U]``, and of each attack ``<name>.<attack>_units`` ``[L, S]``; -1 is for none.

    Args:
        name: Prefix of the keys; unique in the monitor.
        every_n_steps: Steps between its snapshots, or ``"log"``. Default: ten times the monitor's.
        every_n_epochs: Epochs between its snapshots, in place of steps.
        layers: See ``functional_codes``; so are those down to ``normalize``. With ``model`` names are those in the
            LightningModule.
        signal: See there.
        maxima: See there.
        grid: See there.
        epsilon: See there.
        bounds: See there.
        normalize: See there.
        output_to_logits: From what the model returns to logits ``[S, C]``; a callable or its dotted path.

    Raises:
        FnetError: An argument is out of range; layers or inputs are not found, or an attack is asked for without labels
            or logits (before the first step). A layer with NaN or infinite activations has NaN and a note.

    Reference: Lee & Vijayan (2022), arXiv 2205.10952; see ``functional_codes`` for what of it is our assumption. That
        the map is followed through training is ours.
    Cost: see ``functional_codes``, and one more forward pass; on the training thread, of rank 0, which is shown the
        probe of all ranks.
    """

    default_interval = 10

    def __init__(
        self,
        *,
        name: str = "codes",
        every_n_steps: int | Literal["log"] | None = None,
        every_n_epochs: int | None = None,
        layers: Names = "auto",
        signal: Signal = "post",
        maxima: bool = False,
        grid: Grid | None = None,
        epsilon: float | None = None,
        bounds: tuple[float, float] | None = None,
        normalize: Normalize | None = None,
        output_to_logits: Callable[[Any], Any] | str | int | None = None,
    ) -> None:
        super().__init__(name=name, every_n_steps=every_n_steps, every_n_epochs=every_n_epochs)
        self.layers = as_patterns("layers", layers)
        self.signal: Signal = as_choice("signal", signal, ("post", "pre"))
        self.maxima = as_flag("maxima", maxima)
        self.grid = as_grid(grid)
        self.epsilon, self.bounds = as_radius(epsilon, bounds)
        self.normalize = as_normalization(normalize)
        self.output_to_logits = as_getter(output_to_logits, "output_to_logits")

    @property
    @override
    def facts(self) -> dict[str, Any]:
        layers = zip(places(len(self._layers)), self._layers, strict=True)
        return {"layers": [{"place": p, "name": layer.name, "n_units": layer.n_units} for p, layer in layers]}

    @property
    @override
    def description(self) -> str:
        layers = zip(places(len(self._layers)), self._layers, strict=True)
        return f"maps of the codes of {', '.join(f'{p} {x.name} ({x.n_units})' for p, x in layers)}"

    @property
    @override
    def keys(self) -> list[Key]:
        quantities = of_layer(is_labelled=self._is_labelled, attacks=self._attacks)
        of_layers = layer_keys(self.name, quantities, list(self._places_of), folder=self.name)
        return [*of_layers, *whole_keys(self.name, map(departure, self._attacks))]

    @property
    @override
    def has_figures(self) -> bool:
        return True

    @override
    def prepare(self, forward: Forward, probe: Probe) -> None:
        batch = forward.example
        super().prepare(forward, probe)
        self._maps: dict[str, SelfOrganizingMap] = {}
        self._units: dict[str, np.ndarray] = {}
        self._is_labelled = probe.num_classes is not None
        if probe.indices is not None:  # one that is kept as it passes still grows
            checked_grid(self.grid, probe.n_samples)
        with forward.autocast():
            self._layers: list[Layer] = choose_layers(
                forward.called,
                lambda inputs: call_model(forward.called, inputs, name=forward.model),
                batch.inputs,
                n_samples=batch.n_samples,
                layers=inside(self.layers, forward.model),
                signal=self.signal,
            )
        self._places_of = dict(
            zip([layer.name for layer in self._layers], places(len(self._layers)), strict=True)
        )
        if self.epsilon is not None:
            if not self._is_labelled or batch.labels is None:
                raise FnetError(
                    "`epsilon` needs labels in the probe; pass `batch_to_labels`, or no `epsilon`"
                )
            check_attackable(batch.inputs)
            attack = self._attack()
            assert attack is not None
            fgsm(attack.logits, batch.inputs, batch.labels, **attack.reach)

    @override
    def find(self, model: Any, batches: Sequence[Batch]) -> Any:
        if not self._is_labelled:
            batches = [replace(batch, labels=None) for batch in batches]
        with self.stopwatch.part("codes"):
            found = analyze(
                Coder(model, self._layers, self.maxima, self._forward.autocast),
                batches,
                checked_grid(self.grid, count_samples(batches)),
                output_to_logits=self._to_logits,
                attack=self._attack(),
                initial=self._maps,
            )
        portrait = None
        if self.shared.has_figures:
            with self.stopwatch.part("figures"):
                title = f"step {self.context.step}"
                portrait = portrait_of(
                    found, [batch.inputs for batch in batches], title=title, names=self._places_of
                )
        return found, portrait

    @override
    def analyze(self, arrays: tuple[FunctionalCodesResult, CodePortrait | None]) -> Findings:
        found, portrait = arrays
        measured = replace(self._measured(found), portrait=portrait)
        # A layer that has no codes now starts later from those it had.
        self._maps |= {layer.name: layer.map for layer in found.layers}
        self._units |= {layer.name: layer.places for layer in found.layers}
        return measured

    @override
    def state(self) -> dict[str, Any]:
        return {
            name: {
                "weights": trained.weights.cpu().numpy(),
                "grid": list(trained.grid),
                "places": self._units[name],
            }
            for name, trained in self._maps.items()
        }

    @override
    def restore(self, state: Mapping[str, Any]) -> None:
        self._maps = {
            name: SelfOrganizingMap(torch.from_numpy(own["weights"]), (own["grid"][0], own["grid"][1]))
            for name, own in state.items()
        }
        self._units = {name: own["places"] for name, own in state.items()}

    @property
    def _attacks(self) -> Sequence[str]:
        return () if self.epsilon is None else tuple(ATTACKS)

    def _attack(self) -> AttackSettings | None:
        if self.epsilon is None or self.bounds is None:
            return None
        model = self._forward.logits_model(self.output_to_logits)
        return AttackSettings(model, self.epsilon, self.bounds, self.normalize, self.shared.probe_seed)

    def _to_logits(self, output: Any) -> Tensor | None:
        """The logits; None where the model returns none, and no way to them is given."""
        if self.output_to_logits is None and not isinstance(output, Tensor):
            return None
        return logits_of(output, self.output_to_logits)

    def _measured(self, found: FunctionalCodesResult) -> Findings:
        keys = self.keys
        scalars = dict.fromkeys([key.key for key in keys], math.nan)
        n_samples = len(found.layers[0].units) if found.layers else 0
        units = np.full((len(self._layers), n_samples), -1, np.int32)
        for layer in found.layers:
            place = f"{self.name}/{self._places_of[layer.name]}"
            names = [*MEASURES, *(LABEL_MEASURES if self._is_labelled else ())]
            scalars |= {f"{place}/{name}": getattr(layer, name) for name in names}
            scalars[f"{place}/map_change"] = self._change(layer.name, layer.places)
            units[list(self._places_of).index(layer.name)] = layer.units
        for attack, path in found.paths.items():
            for of, shift in (("", path.attack), ("noise_", path.noise)):
                for what, values in shift.means.items():
                    self._of_layers(scalars, path.layers, f"{attack}_{of}{what}", values)
            self._of_layers(scalars, path.layers, f"{attack}_departed_share", path.departed_share)
            if path.departure is not None:
                number = list(self._places_of).index(path.layers[path.departure]) + 1
                scalars[f"{self.name}/{attack}_departure"] = float(number)
        notes = {key.key: self._reason(key, found) for key in keys if math.isnan(scalars[key.key])}
        grid = np.array(found.layers[0].map.grid if found.layers else (0, 0))
        return Findings(scalars, notes, {"units": units, "grid": grid, **self._of_maps(found, units, grid)})

    def _of_maps(
        self, found: FunctionalCodesResult, units: np.ndarray, grid: np.ndarray
    ) -> dict[str, np.ndarray]:
        """What the record keeps of the maps beside the codes, so that they can be drawn from it."""
        n_layers, n_units = len(units), int(grid.prod())
        u_matrix = np.full((n_layers, n_units), np.nan, np.float32)
        classes = np.full((n_layers, n_units), -1)
        attacked = {name: np.full_like(units, -1) for name in found.paths}
        for k, layer in enumerate(found.layers):
            place = list(self._places_of).index(layer.name)
            u_matrix[place] = layer.map.u_matrix().float().cpu().numpy()
            if found.labels is not None:
                classes[place] = commonest_class(layer.units, found.labels, n_units)
            for name, path in found.paths.items():
                attacked[name][place] = path.attack.units[k]
        return {
            "u_matrix": u_matrix,
            **({} if found.labels is None else {"commonest_class": classes}),
            **{f"{name}_units": own for name, own in attacked.items()},
        }

    def _reason(self, key: Key, found: FunctionalCodesResult) -> str:
        """Why a measure is NaN."""
        name, measure = key.layer, key.quantity.name
        if name is None:  # departure
            if not found.paths:
                return "a sample has no label" if found.layers else "no layer has codes"
            return "from no layer on does the attack move most inputs further than noise does"
        if name in found.problems:
            return found.problems[name]
        if measure.startswith(tuple(f"{attack}_" for attack in self._attacks)):
            if not found.paths:
                return "a sample has no label"
            return "nothing varies in the layer, or what is done to the inputs makes it NaN or infinite"
        if measure == "map_distance" and name == found.layers[0].name:
            return "there is no layer before it"
        if measure == "map_change":
            last = self._units.get(name)
            if last is None:
                return "it has no snapshot before"
            if last.shape != found[name].places.shape:
                return "the last snapshot was of fewer inputs"
        if measure.startswith("prediction_") and found.predictions is None:
            return "the model returns no logits [S, C]; pass `output_to_logits`"
        if measure in LABEL_MEASURES:
            return "all samples are of one class, or without one, or on one unit"
        return "all samples are on one unit, or nothing varies in the layer"

    def _of_layers(
        self, scalars: dict[str, float], layers: Sequence[str], what: str, values: np.ndarray
    ) -> None:
        for name, value in zip(layers, values.tolist(), strict=True):
            scalars[f"{self.name}/{self._places_of[name]}/{what}"] = value

    def _change(self, name: str, places: np.ndarray) -> float:
        last = self._units.get(name)
        return math.nan if last is None or last.shape != places.shape else map_distance(last, places)
