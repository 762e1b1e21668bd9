"""The monitor of functional codes: a map of each layer's codes, and the path of attacks through them."""

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
from fnet_callbacks.callbacks.arguments import Figures, as_figures, draws_at
from fnet_callbacks.callbacks.forward import Forward
from fnet_callbacks.callbacks.whole_probe import WholeProbeMonitor
from fnet_callbacks.capture.batch import Batch, count_samples
from fnet_callbacks.capture.batches import as_getter, call_model, logits_of, path_of
from fnet_callbacks.capture.layers import Layer, Signal, choose_layers, inside
from fnet_callbacks.capture.probe import Probe
from fnet_callbacks.codes.analysis import ATTACKS, AttackSettings, Coder, FunctionalCodesResult, analyze
from fnet_callbacks.codes.functional_codes import check_attackable
from fnet_callbacks.codes.layer import LABEL_MEASURES, MEASURES, Grid, as_grid, checked_grid
from fnet_callbacks.codes.measures import map_distance
from fnet_callbacks.codes.portraits import portrait_of
from fnet_callbacks.codes.som import SelfOrganizingMap
from fnet_callbacks.errors import FnetError
from fnet_callbacks.keys import folder_names
from fnet_callbacks.neighbourhood import Normalize, as_normalization, as_radius
from fnet_callbacks.worker.jobs import Measured

_OF_SHIFTS = ("displacement", "changed_share", "distance")


class FunctionalCodeMonitor(WholeProbeMonitor):
    """Maps the codes of each layer every N steps, and follows attacks through them.

    What `functional_codes` finds of a finished model; the map of a snapshot starts from that of the last, so that the
    picture keeps its orientation while training goes on. Keys, of each layer ``<name>/<layer>/<measure>``:

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
    the mean input of each code. The record has the functional code of each input, ``<name>.units`` ``[L, S]``, and
    ``<name>.grid``.

    Args:
        every_n_steps: Steps between snapshots.
        name: Prefix of the keys; unique in the trainer.
        layers: See ``functional_codes``; so are those down to ``normalize``. With ``model`` names are those in the
            LightningModule.
        signal: See there.
        maxima: See there.
        grid: See there.
        epsilon: See there.
        bounds: See there.
        normalize: See there.
        figures: See ``FunctionalNetworkMonitor``.
        output_to_logits: From what the model returns to logits ``[S, C]``; a callable or its dotted path.
        overhead_budget: See ``ProbeMonitor``; so are the rest.
        probe: See there.
        probe_size: See there.
        probe_seed: See there; also of PGD's starts and of the noise.
        batch_to_inputs: See there.
        batch_to_labels: See there.
        model: See there.
        on_error: See there.

    Raises:
        FnetError: An argument is out of range; layers or inputs are not found, or an attack is asked for without labels
            or logits (before the first step). A layer with NaN or infinite activations has NaN and a note.

    Reference: Lee & Vijayan (2022), arXiv 2205.10952; see ``functional_codes`` for what of it is our assumption. That
        the map is followed through training is ours.
    Cost: see ``functional_codes``, and one more forward pass; on the training thread, of rank 0, which is shown the
        probe of all ranks.
    """

    def __init__(
        self,
        every_n_steps: int | Literal["log"] = 1000,
        *,
        name: str = "codes",
        layers: Names = "auto",
        signal: Signal = "post",
        maxima: bool = False,
        grid: Grid | None = None,
        epsilon: float | None = None,
        bounds: tuple[float, float] | None = None,
        normalize: Normalize | None = None,
        figures: Figures = "log",
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
        self.layers = as_patterns("layers", layers)
        self.signal: Signal = as_choice("signal", signal, ("post", "pre"))
        self.maxima = as_flag("maxima", maxima)
        self.grid = as_grid(grid)
        self.epsilon, self.bounds = as_radius(epsilon, bounds)
        self.normalize = as_normalization(normalize)
        self.figures: Figures = as_figures(figures)
        self.output_to_logits = as_getter(output_to_logits, "output_to_logits")
        self.forget()

    @override
    def forget(self) -> None:
        self._maps: dict[str, SelfOrganizingMap] = {}
        self._places: dict[str, np.ndarray] = {}

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return {
            **self.shared_settings,
            "output_to_logits": path_of(self.output_to_logits),
            "signal": self.signal,
            "maxima": self.maxima,
            "grid": self.grid,
            "epsilon": self.epsilon,
            "bounds": self.bounds,
            "normalize": self.normalize,
            "layers": [
                {"name": layer.name, "folder": self._folders[layer.name], "n_units": layer.n_units}
                for layer in self._layers
            ],
        }

    @property
    @override
    def description(self) -> str:
        return f"maps of the codes of {', '.join(f'{x.name} ({x.n_units})' for x in self._layers)}"

    @property
    @override
    def keys(self) -> list[str]:
        of_layer = [*MEASURES, "map_change", *(LABEL_MEASURES if self._is_labelled else ())]
        for attack in self._attacks:
            of_layer += [f"{attack}_{of}{what}" for of in ("", "noise_") for what in _OF_SHIFTS]
            of_layer.append(f"{attack}_departed_share")
        found = [f"{self.name}/{folder}/{key}" for folder in self._folders.values() for key in of_layer]
        return [*found, *(f"{self.name}/{attack}_departure" for attack in self._attacks)]

    @property
    @override
    def has_figures(self) -> bool:
        return self.figures is not None

    @override
    def draws_at(self, snapshot: int) -> bool:
        return draws_at(self.figures, snapshot)

    @override
    def prepare(self, forward: Forward, probe: Probe, batch: Batch) -> None:
        self.forward = forward
        self._is_labelled = probe.num_classes is not None
        if probe.indices is not None:  # one that is kept as it passes still grows
            checked_grid(self.grid, probe.n_samples)
        with forward.autocast():
            self._layers: list[Layer] = choose_layers(
                forward.called,
                lambda inputs: call_model(forward.called, inputs),
                batch.inputs,
                n_samples=batch.n_samples,
                layers=inside(self.layers, self.model),
                signal=self.signal,
            )
        self._folders = folder_names([layer.name for layer in self._layers])
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
    def measure(self, step: int) -> Measured:
        batches = self.batches()
        if not self._is_labelled:
            batches = [replace(batch, labels=None) for batch in batches]
        with self.stopwatch.part("codes"), self.forward.undisturbed(seed=self.probe_seed):
            found = analyze(
                Coder(self.forward.called, self._layers, self.maxima, self.forward.autocast),
                batches,
                checked_grid(self.grid, count_samples(batches)),
                output_to_logits=self._to_logits,
                attack=self._attack(),
                initial=self._maps,
            )
        measured = self._measured(found)
        if self.has_figures:
            with self.stopwatch.part("figures"):
                portrait = portrait_of(
                    found, [batch.inputs for batch in batches], title=f"step {step}", names=self._folders
                )
            measured = Measured(measured.scalars, measured.notes, measured.arrays, portrait)
        # A layer that has no codes now starts later from those it had.
        self._maps |= {layer.name: layer.map for layer in found.layers}
        self._places |= {layer.name: layer.places for layer in found.layers}
        return measured

    @override
    def carry(self) -> dict[str, Any]:
        return {
            name: {
                "weights": trained.weights.cpu(),
                "grid": list(trained.grid),
                "places": torch.from_numpy(self._places[name]),
            }
            for name, trained in self._maps.items()
        }

    @override
    def take_up(self, state: Mapping[str, Any]) -> None:
        self._maps = {
            name: SelfOrganizingMap(own["weights"], (own["grid"][0], own["grid"][1]))
            for name, own in state.items()
        }
        self._places = {name: own["places"].numpy() for name, own in state.items()}

    @property
    def _attacks(self) -> Sequence[str]:
        return () if self.epsilon is None else tuple(ATTACKS)

    def _attack(self) -> AttackSettings | None:
        if self.epsilon is None or self.bounds is None:
            return None
        model = self.forward.logits_model(self.output_to_logits)
        return AttackSettings(model, self.epsilon, self.bounds, self.normalize, self.probe_seed)

    def _to_logits(self, output: Any) -> Tensor | None:
        """The logits; None where the model returns none, and no way to them is given."""
        if self.output_to_logits is None and not isinstance(output, Tensor):
            return None
        return logits_of(output, self.output_to_logits)

    def _measured(self, found: FunctionalCodesResult) -> Measured:
        scalars = dict.fromkeys(self.keys, math.nan)
        n_samples = len(found.layers[0].units) if found.layers else 0
        units = np.full((len(self._layers), n_samples), -1, np.int32)
        for layer in found.layers:
            place = f"{self.name}/{self._folders[layer.name]}"
            names = [*MEASURES, *(LABEL_MEASURES if self._is_labelled else ())]
            scalars |= {f"{place}/{name}": getattr(layer, name) for name in names}
            scalars[f"{place}/map_change"] = self._change(layer.name, layer.places)
            units[list(self._folders).index(layer.name)] = layer.units
        for attack, path in found.paths.items():
            for of, shift in (("", path.attack), ("noise_", path.noise)):
                for what, values in shift.means.items():
                    self._of_layers(scalars, path.layers, f"{attack}_{of}{what}", values)
            self._of_layers(scalars, path.layers, f"{attack}_departed_share", path.departed_share)
            if path.departure is not None:
                number = list(self._folders).index(path.layers[path.departure]) + 1
                scalars[f"{self.name}/{attack}_departure"] = float(number)
        notes = {key: self._reason(key, found) for key, value in scalars.items() if math.isnan(value)}
        grid = np.array(found.layers[0].map.grid if found.layers else (0, 0))
        return Measured(scalars, notes, {"units": units, "grid": grid})

    def _reason(self, key: str, found: FunctionalCodesResult) -> str:
        """Why a measure is NaN."""
        place, _, measure = key.rpartition("/")
        if measure.endswith("_departure"):
            if not found.paths:
                return "a sample has no label" if found.layers else "no layer has codes"
            return "from no layer on does the attack move most inputs further than noise does"
        name = next(name for name, folder in self._folders.items() if place == f"{self.name}/{folder}")
        if name in found.problems:
            return found.problems[name]
        if measure.startswith(tuple(f"{attack}_" for attack in self._attacks)):
            if not found.paths:
                return "a sample has no label"
            return "nothing varies in the layer, or what is done to the inputs makes it NaN or infinite"
        if measure == "map_distance" and name == found.layers[0].name:
            return "there is no layer before it"
        if measure == "map_change":
            last = self._places.get(name)
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
            scalars[f"{self.name}/{self._folders[name]}/{what}"] = value

    def _change(self, name: str, places: np.ndarray) -> float:
        last = self._places.get(name)
        return math.nan if last is None or last.shape != places.shape else map_distance(last, places)
