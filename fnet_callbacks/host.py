"""What the engine asks of a training loop; a driver answers for the loop that it knows."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fnet_callbacks.capture.trees import to_device


class Host(ABC):
    """A training loop: its model, its ranks, its data, and where values go.

    What a plain loop on one rank would answer is the default. Of the collectives each is entered by every rank or by
    none.
    """

    # The model.

    @property
    @abstractmethod
    def module(self) -> nn.Module:
        """The whole model of this rank, without what a strategy wraps around it."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the model is."""

    @property
    def stateful(self) -> Sequence[object]:
        """Objects beside the model that a pass may change, such as a data module with transfer hooks."""
        return ()

    def evaluating(self) -> AbstractContextManager[None]:
        """A block in which the loop's own objects take it for validation."""
        return nullcontext()

    def autocast(self) -> AbstractContextManager[None]:
        """The loop's precision, for calls of the model."""
        return nullcontext()

    def batch_to_device(self, batch: Any) -> Any:
        """A batch of a data loader, as the loop would bring it to the model."""
        return to_device(batch, self.device)

    def convert_inputs(self, inputs: Any) -> Any:
        """Inputs in the loop's precision."""
        return inputs

    def refusal(self, called: nn.Module, *, makes_passes: bool) -> str | None:
        """Why ``called`` cannot be called outside of a training step; None where it can.

        Args:
            called: A part of the model, or all of it.
            makes_passes: Whether passes are made that are not those of all ranks together.
        """
        return None

    # The ranks.

    @property
    def rank(self) -> int:
        """Of this process among all."""
        return 0

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return 1

    @property
    def n_local_ranks(self) -> int:
        """Ranks on this machine."""
        return self.world_size

    @property
    def is_global_zero(self) -> bool:
        """Whether this is the rank that measures and writes."""
        return self.rank == 0

    def broadcast(self, value: Any) -> Any:
        """What rank 0 has, on every rank; a collective."""
        return value

    def all_true(self, value: bool) -> bool:
        """Whether it is true on every rank; a collective."""
        return value

    def any_true(self, value: bool) -> bool:
        """Whether it is true on a rank; a collective."""
        return value

    def max_over_ranks(self, count: int) -> int:
        """The largest of an integer; a collective."""
        return count

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """The sum of a tensor, on the CPU; a collective."""
        return values.cpu()

    def gather(self, value: Any) -> list[Any]:
        """What each rank has, in their order; a collective, of what can be pickled."""
        return [value]

    # The data.

    @property
    def training_loader(self) -> DataLoader | None:
        """The first loader of the training data, where there is one."""
        return None

    @property
    def n_loader_workers(self) -> int:
        """Processes that load training data, of this rank."""
        return 0 if self.training_loader is None else self.training_loader.num_workers

    def probe_sources(self) -> Iterator[tuple[str, DataLoader]]:
        """What a probe may be drawn from, the best first, with a name for messages."""
        yield from ()

    def loaders_in(self, loaders: Any) -> Iterator[DataLoader]:
        """The loaders in a collection of them, in order."""
        if isinstance(loaders, DataLoader):
            yield loaders
        elif isinstance(loaders, Mapping):
            yield from (found for loader in loaders.values() for found in self.loaders_in(loader))
        elif isinstance(loaders, (list, tuple)):
            yield from (found for loader in loaders for found in self.loaders_in(loader))

    def batches_to_end(self, *, of_epoch: bool) -> float:
        """After how many batches, this one included, training may end, or the epoch; infinite where nobody knows."""
        return math.inf

    # The run.

    def folder(self, given: Path | None) -> Path | None:
        """The run's folder, in which the record is begun; None for no record. Every rank asks.

        Args:
            given: What the user said.
        """
        return given

    @property
    def loggers(self) -> Sequence[Any]:
        """Loggers of the run; see `Loggers`."""
        return ()

    @property
    def shows_progress(self) -> bool:
        """Whether a bar may be shown for what takes long."""
        return False

    def configuration(self) -> dict[str, Any]:
        """What tells this run from others, in plain values by dotted key."""
        return {}

    def logged(self) -> dict[str, float]:
        """What the run itself has logged last, without waiting for anything."""
        return {}

    def publish(self, values: Mapping[str, float]) -> None:  # noqa: B027 - a plain loop has no such place
        """Puts values where others of the run look for them; every rank calls it."""

    def inform(self, text: str) -> None:  # noqa: B027
        """Says something to the user, once over all ranks."""
