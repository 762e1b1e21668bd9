"""A forward pass as the training loop would make it: its device, its precision, its way to bring a batch there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
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
from fnet_callbacks.host import Host


class Forward:
    """Calls the model, or a part of it, on a batch.

    Args:
        host: Gives device, precision and the way to bring a batch to the model.
        model: Name of the submodule to call; None for the whole model.
        reader: Finds inputs and labels in a batch.
        writes: What passes over the model were seen to change; all that call it share one.

    Attributes:
        host: See above.
        model: See above.
        module: The whole model.
        called: What of it is called.
        reader: Finds inputs and labels; set to one of `readers` once it is known how the model is called.
        example: The first batch of the probe on the model's device, while instruments are prepared.
        output_shape: Of what it returned last, where that was one tensor.
    """

    example: Batch

    def __init__(
        self, host: Host, *, model: str | None, reader: BatchReader, writes: Writes | None = None
    ) -> None:
        self.host, self.model = host, model
        self.reader = reader
        self._writes = Writes() if writes is None else writes
        self.module = host.module
        self.called = submodule(self.module, model)
        self.output_shape: tuple[int, ...] | None = None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.host.device

    @property
    def moments_device(self) -> torch.device:
        """Where float64 sums are kept: with the model, or on the CPU where its device has no float64."""
        return torch.device("cpu") if self.device.type == "mps" else self.device

    @property
    def is_collective(self) -> bool:
        """Whether a pass is one of all ranks together, as where parameters are sharded."""
        return self.host.world_size > 1 and bool(sharded_parts(self.module))

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
        host = self.host
        with (
            host.evaluating(),
            isolated(self.module, *host.stateful, seed=seed, device=self.device, writes=self._writes),
        ):
            yield

    def prepare(self, batch: Any, *, has_passed: bool, index: int = 0) -> Batch:
        """Brings a copy of a kept batch to the device.

        Args:
            batch: As the loader gave it, or, with ``has_passed``, as the training step got it.
            has_passed: The transfer hooks of the model have seen it already.
            index: See ``Batch``.
        """
        copy = detached_copy(batch)
        if has_passed:
            return self.read(to_device(copy, self.device), index=index)
        return self.read(self.host.batch_to_device(copy), index=index)

    def read(self, batch: Any, *, index: int = 0) -> Batch:
        """Finds inputs, labels and mask in a batch that is on the device."""
        inputs, labels = self.reader.read(batch)
        return Batch(
            self.host.convert_inputs(inputs),
            labels,
            self.reader.count(inputs, labels),
            token_mask(inputs),
            None if labels is not None else self.reader.token_labels(batch),
            index,
        )

    def autocast(self) -> AbstractContextManager[None]:
        """The loop's precision, for calls of ``called``."""
        return self.host.autocast()

    def __call__(self, inputs: Any) -> Any:
        """The model's output."""
        with self.autocast():
            output = call_model(self.called, inputs, name=self.model)
        self.output_shape = tuple(output.shape) if isinstance(output, Tensor) else None
        return output

    def logits_model(self, output_to_logits: Callable[[Any], Any] | None) -> nn.Module:
        """The model as a function from an input tensor to logits, which an attack takes."""
        return LogitsModel(self.called, output_to_logits, call=self)
