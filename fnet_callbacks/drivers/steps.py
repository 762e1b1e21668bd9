"""What counts as a step: a batch in which the model's weights move, by whatever way that can be seen."""

from __future__ import annotations

import warnings
import weakref
from contextlib import ExitStack
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from fnet_callbacks.capture.contents import parts_of
from fnet_callbacks.errors import FnetWarning

_LIGHTNING = ("lightning", "pytorch_lightning")
_VALUES = 64  # of each tensor, that are compared where no optimiser is seen to step


class StepWatch:
    """Says of each batch whether it was a step.

    Lightning announces the steps of its own optimisers. It knows nothing of one that a model steps itself, in its
    ``optimizer_step``, in the backward pass or past `self.optimizers()`, nor of weights that are moved by hand. So each
    step of a torch optimiser that has a parameter of the model counts, whoever takes it, in a batch. As long as none is
    seen, what counts is a batch after which weights are others, or, where they need not be looked at, one that moved
    Lightning's ``global_step``. What was not announced is said once.

    Args:
        trainer: Gives the model and what Lightning counts.
    """

    def __init__(self, trainer: pl.Trainer) -> None:
        self._trainer = trainer
        self._owners: weakref.WeakKeyDictionary[Optimizer, bool] = weakref.WeakKeyDictionary()
        self._is_announced = self._has_stepped = self._has_said = False
        self._sees_optimizers = False
        self._global_step = 0
        self._values: Tensor | None = None
        self._hook = ExitStack()

    def open(self) -> None:
        """Watches from the first batch on."""
        self._global_step = self._trainer.global_step
        self._hook.callback(register_optimizer_step_post_hook(self._after_step).remove)
        self._values = self._weights()

    def close(self) -> None:
        """Takes the hook off; safe to call twice."""
        self._hook.close()

    def announce(self) -> None:
        """Lightning is about to step an optimiser; several steps in one batch count once."""
        self._is_announced = True

    def begin_batch(self) -> None:
        """A batch begins: what stepped since the last one ended did so in a pass of the monitor."""
        self._has_stepped = False

    def was_step(self) -> bool:
        """Whether the batch that ends was a step; asked once a batch."""
        announced, stepped = self._is_announced, self._has_stepped
        self._is_announced = self._has_stepped = False
        if announced or stepped:
            self._sees_optimizers, self._values = True, None
            if not announced:
                self._say("in which an optimiser of the model steps, which Lightning does not announce")
            return True
        if self._sees_optimizers:
            return False
        counted = (now := self._trainer.global_step) != self._global_step
        self._global_step = now
        before, self._values = self._values, self._weights()
        if before is None or self._values is None:
            if counted:
                self._say("that Lightning counts as one: no optimiser of the model was seen to step")
            return counted
        has_moved = before.shape != self._values.shape or not torch.equal(before, self._values)
        if has_moved:
            self._say("after which weights are others: no optimiser of the model was seen to step")
        return has_moved

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        if self._is_announced or self._has_stepped:  # the batch is a step anyhow
            return
        is_own = self._owners.get(optimizer)
        if is_own is None:
            own = {id(p) for p in self._trainer.lightning_module.parameters()}
            groups = optimizer.param_groups
            is_own = any(id(p) in own for group in groups for p in group["params"])
            self._owners[optimizer] = is_own
        self._has_stepped = is_own

    def _weights(self) -> Tensor | None:
        """A few values of each weight; None where Lightning is sure to announce its steps."""
        module = self._trainer.lightning_module
        # One of the user's own may leave some out; Lightning has two names.
        is_own = type(module).optimizer_step.__module__.partition(".")[0] not in _LIGHTNING
        if module.automatic_optimization and self._trainer.optimizers and not is_own:
            return None
        # Running statistics move without a step: buffers count where nothing else learns.
        tensors = [p for p in module.parameters() if p.requires_grad] or list(module.buffers())
        parts = [part.detach().reshape(-1) for t in tensors for part in parts_of(t)]
        plain = [part for part in parts if not (part.is_quantized or part.is_complex())]
        spread = [part[:: max(1, len(part) // _VALUES)].double().cpu() for part in plain]
        return torch.cat(spread).nan_to_num() if spread else None

    def _say(self, what: str) -> None:
        if not self._has_said and self._trainer.is_global_zero:
            warnings.warn(f"a step is taken to be a batch {what}", FnetWarning, stacklevel=2)
        self._has_said = True
