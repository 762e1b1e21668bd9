"""A forward pass as the trainer would make it: its device, its precision, the model's own transfer hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.trainer.states import RunningStage
from torch import Tensor, nn

from fnet_callbacks.capture.batch import Batch
from fnet_callbacks.capture.batches import (
    arguments_of,
    call_model,
    shown_call,
    submodule,
    token_mask,
)
from fnet_callbacks.capture.isolation import isolated
from fnet_callbacks.capture.logits import LogitsModel
from fnet_callbacks.capture.reader import BatchReader
from fnet_callbacks.capture.sharding import sharded_parts
from fnet_callbacks.capture.trees import detached_copy, to_device
from fnet_callbacks.capture.ways import signature_of
from fnet_callbacks.capture.writes import Writes


class Forward:
    """Calls a part of the LightningModule on a batch.

    Args:
        trainer: Gives device, precision and transfer hooks.
        model: Name of the submodule to call; None for the LightningModule itself.
        reader: Finds inputs and labels in a batch.
        writes: What passes over the LightningModule were seen to change; all that call it share one.

    Attributes:
        module: The LightningModule.
        called: What of it is called.
        reader: Finds inputs and labels; set to one of `readers` once it is known how the model is called.
        output_shape: Of what it returned last, where that was one tensor.
    """

    def __init__(
        self, trainer: pl.Trainer, *, model: str | None, reader: BatchReader, writes: Writes | None = None
    ) -> None:
        self._trainer = trainer
        self.reader = reader
        self._writes = Writes() if writes is None else writes
        self.module = trainer.lightning_module
        self.called = submodule(self.module, model)
        self.output_shape: tuple[int, ...] | None = None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._trainer.strategy.root_device

    @property
    def moments_device(self) -> torch.device:
        """Where float64 sums are kept: with the model, or on the CPU where its device has no float64."""
        return torch.device("cpu") if self.device.type == "mps" else self.device

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self._trainer.world_size

    @property
    def is_global_zero(self) -> bool:
        """Whether this is the rank that measures and writes."""
        return self._trainer.is_global_zero

    @property
    def is_collective(self) -> bool:
        """Whether a pass is one of all ranks together, as where parameters are sharded."""
        return self.world_size > 1 and bool(sharded_parts(self.module))

    def readers(self, batch: Any, n_items: int | None) -> list[BatchReader]:
        """Readers by how the model may be called with a batch, the likeliest first; see `BatchReader.ways`."""
        return self.reader.ways(signature_of(self.called), batch, n_items)

    def shown_call(self, inputs: Any) -> str:
        """What ``forward`` is called with, for a message."""
        signature = signature_of(self.called)
        arguments, keywords = ((inputs,), {}) if signature is None else arguments_of(signature, inputs)
        return f"{type(self.called).__name__}.forward{shown_call(arguments, keywords)}"

    @contextmanager
    def undisturbed(self, *, seed: int) -> Iterator[None]:
        """Runs a block as in validation, of which training notices nothing; see ``isolated``."""
        state = self._trainer.state
        stage = state.stage
        # Transfer hooks ask `trainer.training` whether to augment.
        state.stage = RunningStage.VALIDATING
        try:
            data_module = getattr(self._trainer, "datamodule", None)
            beside = () if data_module is None else (data_module,)  # its transfer hooks may keep something
            with isolated(self.module, *beside, seed=seed, device=self.device, writes=self._writes):
                yield
        finally:
            state.stage = stage

    def max_over_ranks(self, count: int) -> int:
        """The largest of an integer over all ranks; every rank calls it."""
        return int(self._trainer.strategy.reduce(torch.tensor(count, device=self.device), reduce_op="max"))

    def sum_over_ranks(self, counts: Tensor) -> Tensor:
        """The sum of an integer tensor over all ranks; every rank calls it."""
        return self._trainer.strategy.reduce(counts.to(self.device), reduce_op="sum").cpu()

    def prepare(self, batch: Any, *, has_passed: bool) -> Batch:
        """Brings a copy of a kept batch to the device.

        Args:
            batch: As the loader gave it, or, with ``has_passed``, as ``training_step`` got it.
            has_passed: The transfer hooks of the model have seen it already.
        """
        copy = detached_copy(batch)
        if has_passed:
            return self.read(to_device(copy, self.device))
        return self.read(self._trainer.strategy.batch_to_device(copy))

    def read(self, batch: Any) -> Batch:
        """Finds inputs, labels and mask in a batch that is on the device."""
        inputs, labels = self.reader.read(batch)
        return Batch(
            self._trainer.precision_plugin.convert_input(inputs),
            labels,
            self.reader.count(inputs, labels),
            token_mask(inputs),
            None if labels is not None else self.reader.token_labels(batch),
        )

    def gather(self, own: Any) -> list[Any]:
        """What each of several ranks has, in their order; every rank calls it, with what can be pickled."""
        found: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(found, own)
        return found

    def autocast(self) -> AbstractContextManager[None]:
        """The trainer's precision, for calls of ``called``."""
        return self._trainer.precision_plugin.forward_context()

    def __call__(self, inputs: Any) -> Any:
        """The model's output."""
        with self.autocast():
            output = call_model(self.called, inputs)
        self.output_shape = tuple(output.shape) if isinstance(output, Tensor) else None
        return output

    def logits_model(self, output_to_logits: Callable[[Any], Any] | None) -> nn.Module:
        """The model as a function from an input tensor to logits, which an attack takes."""
        return LogitsModel(self.called, output_to_logits, call=self)
