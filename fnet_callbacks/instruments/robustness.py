"""The instrument of adversarial robustness: clean and attacked accuracy, at the steps of the functional network."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from fnet_callbacks.arguments import Numbers, as_choice, as_flag, as_integer, as_list, as_number, plain
from fnet_callbacks.attacks import (
    Loss,
    Norm,
    RobustAccuracy,
    correct_predictions,
    cross_entropy,
    robust_accuracy,
)
from fnet_callbacks.capture.batch import Batch
from fnet_callbacks.capture.batches import as_getter, logits_of, resolve
from fnet_callbacks.capture.probe import Probe
from fnet_callbacks.errors import FnetError, FnetWarning
from fnet_callbacks.findings import Findings
from fnet_callbacks.instruments.forward import Forward
from fnet_callbacks.instruments.instrument import Instrument
from fnet_callbacks.keys import Key
from fnet_callbacks.neighbourhood import Normalize, as_bounds, as_normalization
from fnet_callbacks.quantities.robustness import attack_name, of_attacks

AttackName = Literal["fgsm", "pgd"]


class Robustness(Instrument):
    """Accuracy on the probe, clean and under attack.

    Keys: ``<name>/clean_accuracy``, ``<name>/<attack>_<epsilon>_accuracy``, and
    ``<name>/<attack>_<epsilon>_zero_gradients``, the share of inputs on which the attack found no gradient. Works
    in the inference mode of validation too, leaves no gradient on parameters and advances no global random stream.
    PGD is reported as it is, never as the better of the two: where it is weaker than FGSM by more than chance, or
    most gradients are zero, gradients are masked and the accuracy overstates robustness; a warning says so once.

    Args:
        name: Prefix of the keys; unique in the monitor.
        every_n_steps: Steps between its snapshots, or ``"log"``. Default: ten times the monitor's.
        every_n_epochs: Epochs between its snapshots, in place of steps.
        bounds: Smallest and largest legal value of a raw input, such as ``(0.0, 1.0)``; required.
        attacks: ``"fgsm"``, ``"pgd"``, or both.
        epsilons: Radii of the ball around an input, in the units of ``bounds``; each above 0.
        normalize: ``(mean, std)`` that the model's inputs were normalised with, numbers or one a channel.
        norm: ``"linf"`` or ``"l2"``.
        steps: Gradient steps of PGD.
        step_size: Length of a PGD step; default ``2.5 epsilon / steps``.
        random_start: Whether PGD starts from a random point of the ball.
        restarts: Independent runs of PGD, the strongest of which counts.
        loss: ``loss(logits, labels)`` of each sample, which the attack increases; a callable or its dotted path.
            Default cross-entropy.
        output_to_logits: From what the model returns to logits ``[S, C]``; a callable or its dotted path.

    Raises:
        FnetError: An argument is out of range; labels are missing or inputs leave ``bounds`` (before the first step).

    Reference: Goodfellow et al. (2015), arXiv 1412.6572; Madry et al. (2018), arXiv 1706.06083; on masked
        gradients Athalye et al. (2018), arXiv 1802.00420.
    Cost: for each epsilon one forward and backward pass on the probe for FGSM, ``steps * restarts`` for PGD.
    """

    default_interval = 10
    analyzes_here = True

    def __init__(
        self,
        *,
        name: str = "robust",
        every_n_steps: int | Literal["log"] | None = None,
        every_n_epochs: int | None = None,
        bounds: tuple[float, float],
        attacks: AttackName | Sequence[AttackName] = ("fgsm", "pgd"),
        epsilons: Numbers = (8 / 255,),
        normalize: Normalize | None = None,
        norm: Norm = "linf",
        steps: int = 10,
        step_size: float | None = None,
        random_start: bool = True,
        restarts: int = 1,
        loss: Loss | str | None = None,
        output_to_logits: Callable[[Any], Any] | str | int | None = None,
    ) -> None:
        super().__init__(name=name, every_n_steps=every_n_steps, every_n_epochs=every_n_epochs)
        right = "numbers above 0, in the units of `bounds`"
        listed = as_list("epsilons", epsilons, right)
        self.epsilons = tuple(float(as_number("epsilons", e, above=0)) for e in listed)
        if len({f"{e:.4g}" for e in self.epsilons}) < len(self.epsilons):
            raise FnetError(
                f"`epsilons={listed}` should differ in their first four digits: they name the keys"
            )
        listed = as_list("attacks", attacks, "'fgsm', 'pgd'")
        self.attacks: tuple[AttackName, ...] = tuple(
            as_choice("attacks", a, get_args(AttackName)) for a in listed
        )
        self.bounds = as_bounds(bounds)
        width = self.bounds[1] - self.bounds[0]
        self.norm: Norm = as_choice("norm", norm, ("linf", "l2"))
        if self.norm == "linf" and 0 < width <= max(self.epsilons):
            raise FnetError(
                f"`epsilons={list(self.epsilons)}` are in the units of `bounds={self.bounds}` and should be below "
                f"their width; 8 of 255 grey levels are {8 / 255 * width:.4g} here"
            )
        self.normalize = as_normalization(normalize)
        self.steps = as_integer("steps", steps, at_least=1)
        self.step_size = plain("step_size", step_size)
        self.random_start = as_flag("random_start", random_start)
        self.restarts = as_integer("restarts", restarts, at_least=1)
        self.loss = cast(Loss, resolve(cast(Any, loss), "loss") or cross_entropy)
        self.output_to_logits = as_getter(output_to_logits, "output_to_logits")
        self._check_attacks()

    @property
    @override
    def description(self) -> str:
        return f"attacking with {', '.join(self.attacks)} at {', '.join(f'{e:.4g}' for e in self.epsilons)}"

    @property
    @override
    def keys(self) -> list[Key]:
        return [self.key(quantity) for quantity in of_attacks(self.attacks, self.epsilons)]

    @override
    def prepare(self, forward: Forward, probe: Probe) -> None:
        batch = forward.example
        if batch.labels is None or probe.num_classes is None:
            raise FnetError(
                "Robustness found no labels in the probe (one integer of at least 0 a sample); pass "
                "`batch_to_labels`, a function from your batch to labels [S]"
            )
        if not isinstance(batch.inputs, Tensor):
            raise FnetError(
                f"Robustness attacks one tensor, the model's inputs are a {type(batch.inputs).__name__}; pass "
                "`batch_to_inputs`, a function from your batch to the one tensor that the model is called with"
            )
        if not batch.inputs.is_floating_point():
            raise FnetError(
                f"Robustness attacks floating-point inputs, these are {batch.inputs.dtype}; token ids have no "
                "gradient. Leave the instrument out, or let `model` and `batch_to_inputs` start behind the embedding"
            )
        low, high = float(batch.inputs.min()), float(batch.inputs.max())
        if self.normalize is None and 0 < high - low < 0.02 * (self.bounds[1] - self.bounds[0]):
            warnings.warn(
                f"{self.name}: inputs span [{low:.4g}, {high:.4g}], a fraction of `bounds={self.bounds}`; `epsilons` "
                "are in the units of `bounds`, so the attack may be far weaker than meant",
                FnetWarning,
                stacklevel=2,
            )
        self._has_warned = False
        self._model = forward.logits_model(self.output_to_logits)
        # Refuses what is not a classifier's output.
        correct_predictions(self._model(batch.inputs), batch.labels)

    @override
    def begin(self, probe: Probe, num_classes: int) -> None:
        self._clean, self._attacked = RobustAccuracy(), dict.fromkeys(self._cases, RobustAccuracy())

    @override
    def see(self, batch: Batch, output: Any) -> None:
        if batch.labels is None:
            raise FnetError("a batch of the probe has no labels")
        with self.stopwatch.part("clean"):
            hits = correct_predictions(logits_of(output, self.output_to_logits), batch.labels)
            self._clean += RobustAccuracy.of_hits(hits)
        for attack, epsilon in self._cases:
            with self.stopwatch.part(attack):
                self._attacked[attack, epsilon] += self._accuracy(attack, epsilon, batch)

    @override
    def compute(self, model: Any) -> Any:
        return torch.tensor([astuple(own) for own in (self._clean, *self._attacked.values())])

    @override
    def analyze(self, arrays: np.ndarray) -> Findings:
        clean, *rest = (RobustAccuracy(*row) for row in arrays.tolist())
        attacked = dict(zip(self._cases, rest, strict=True))
        found = Findings(scalars={f"{self.name}/clean_accuracy": clean.accuracy})
        for (attack, epsilon), counts in attacked.items():
            key = self._prefix(attack, epsilon)
            found.scalars[f"{key}_accuracy"] = counts.accuracy
            found.scalars[f"{key}_zero_gradients"] = counts.zero_gradient_share
            if counts.zero_gradient_share > 0.5:
                found.notes[f"{key}_accuracy"] = (
                    f"gradients are zero on {counts.zero_gradient_share:.0%} of the inputs"
                )
        for epsilon in self.epsilons:
            if (
                note := _weakness(attacked.get(("fgsm", epsilon)), attacked.get(("pgd", epsilon)))
            ) is not None:
                found.notes[f"{self._prefix('pgd', epsilon)}_accuracy"] = note
        if found.notes and not self._has_warned:
            self._has_warned = True
            key, note = next(iter(found.notes.items()))
            warnings.warn(
                f"{key} overstates robustness (masked gradients): {note}, at step {self.context.step}",
                FnetWarning,
                stacklevel=2,
            )
        return found

    def _accuracy(self, attack: AttackName, epsilon: float, batch: Batch) -> RobustAccuracy:
        assert batch.labels is not None
        return robust_accuracy(
            self._model,
            [(batch.inputs, batch.labels)],
            attack=attack,
            epsilon=epsilon,
            bounds=self.bounds,
            normalize=self.normalize,
            norm=self.norm,
            loss=self.loss,
            steps=self.steps,
            step_size=self.step_size,
            random_start=self.random_start,
            restarts=self.restarts,
            seed=self.shared.probe_seed + batch.index,
        )

    def _check_attacks(self) -> None:
        """Attacks a sample in the middle of the bounds, so that wrong arguments are named at once."""
        mean, std = self.normalize or (0.0, 1.0)
        mean, std = (torch.as_tensor(part, dtype=torch.float32).reshape(1, -1, 1) for part in (mean, std))
        middle = (sum(self.bounds) / 2 - mean) / std
        for attack, epsilon in self._cases:
            robust_accuracy(
                lambda x: torch.cat([x.flatten(1), -x.flatten(1)], dim=1),
                [(middle, torch.zeros(1, dtype=torch.int64))],
                attack=attack,
                epsilon=epsilon,
                bounds=self.bounds,
                normalize=self.normalize,
                norm=self.norm,
                steps=self.steps,
                step_size=self.step_size,
                random_start=self.random_start,
                restarts=self.restarts,
            )

    @property
    def _cases(self) -> list[tuple[AttackName, float]]:
        return list(itertools.product(self.attacks, self.epsilons))

    def _prefix(self, attack: AttackName, epsilon: float) -> str:
        return f"{self.name}/{attack_name(attack, epsilon)}"


def _weakness(fgsm: RobustAccuracy | None, pgd: RobustAccuracy | None) -> str | None:
    """Why PGD overstates robustness beside FGSM; None where it does not."""
    if fgsm is None or pgd is None or not pgd.total:
        return None
    # Two standard errors: a few samples more are chance, of the random start and where FGSM is all but optimal.
    if pgd.correct - fgsm.correct <= 2 * math.sqrt(pgd.variance + fgsm.variance):
        return None
    return f"PGD ({pgd.accuracy:.3f}) is weaker than FGSM ({fgsm.accuracy:.3f})"
