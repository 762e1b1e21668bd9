"""What the engine asks of a Lightning trainer."""

from __future__ import annotations

import math
import re
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from lightning.pytorch.trainer.states import RunningStage
from lightning.pytorch.utilities import CombinedLoader, rank_zero_info
from torch import Tensor, nn
from torch.utils.data import DataLoader
from typing_extensions import override

from fnet_callbacks.drivers.configuration import configuration
from fnet_callbacks.drivers.kinds import is_a
from fnet_callbacks.drivers.sharding import refusal
from fnet_callbacks.host import Host

_MAX_METRICS = 500  # of 90 bytes each, in a pipe of 64 kB


class TrainerHost(Host):
    """A Lightning trainer while it fits.

    Args:
        trainer: The trainer.
    """

    def __init__(self, trainer: pl.Trainer) -> None:
        self._trainer = trainer

    # The model.

    @property
    @override
    def module(self) -> nn.Module:
        return self._trainer.lightning_module

    @property
    @override
    def device(self) -> torch.device:
        return self._trainer.strategy.root_device

    @property
    @override
    def stateful(self) -> Sequence[object]:
        data_module = getattr(self._trainer, "datamodule", None)
        return () if data_module is None else (data_module,)  # its transfer hooks may keep something

    @override
    @contextmanager
    def evaluating(self) -> Iterator[None]:
        # Transfer hooks ask `trainer.training` whether to augment.
        state = self._trainer.state
        stage, state.stage = state.stage, RunningStage.VALIDATING
        try:
            yield
        finally:
            state.stage = stage

    @override
    def autocast(self) -> AbstractContextManager[None]:
        return self._trainer.precision_plugin.forward_context()

    @override
    def batch_to_device(self, batch: Any) -> Any:
        return self._trainer.strategy.batch_to_device(batch)

    @override
    def convert_inputs(self, inputs: Any) -> Any:
        return self._trainer.precision_plugin.convert_input(inputs)

    @override
    def refusal(self, called: nn.Module, *, makes_passes: bool) -> str | None:
        return refusal(self._trainer, called, makes_passes=makes_passes)

    # The ranks.

    @property
    @override
    def rank(self) -> int:
        return self._trainer.global_rank

    @property
    @override
    def world_size(self) -> int:
        return self._trainer.world_size

    @property
    @override
    def n_local_ranks(self) -> int:
        return min(self._trainer.num_devices, self._trainer.world_size)

    @override
    def broadcast(self, value: Any) -> Any:
        return self._trainer.strategy.broadcast(value, src=0)

    @override
    def all_true(self, value: bool) -> bool:
        return self._trainer.strategy.reduce_boolean_decision(value, all=True)

    @override
    def any_true(self, value: bool) -> bool:
        return self._trainer.strategy.reduce_boolean_decision(value, all=False)

    @override
    def max_over_ranks(self, count: int) -> int:
        return int(self._trainer.strategy.reduce(torch.tensor(count, device=self.device), reduce_op="max"))

    @override
    def sum_over_ranks(self, values: Tensor) -> Tensor:
        return self._trainer.strategy.reduce(values.to(self.device), reduce_op="sum").cpu()

    @override
    def gather(self, value: Any) -> list[Any]:
        found: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(found, value)
        return found

    # The data.

    @property
    @override
    def training_loader(self) -> DataLoader | None:
        return next(self.loaders_in(self._trainer.train_dataloader), None)

    @property
    @override
    def n_loader_workers(self) -> int:
        return sum(loader.num_workers for loader in self.loaders_in(self._trainer.train_dataloader))

    @override
    def probe_sources(self) -> Iterator[tuple[str, DataLoader]]:
        trainer = self._trainer
        sources = {"validation data": trainer.val_dataloaders, "training data": trainer.train_dataloader}
        for origin, loaders in sources.items():
            yield from ((origin, loader) for loader in self.loaders_in(loaders))

    @override
    def loaders_in(self, loaders: Any) -> Iterator[DataLoader]:
        yield from super().loaders_in(loaders.iterables if is_a(loaders, CombinedLoader) else loaders)

    @override
    def batches_to_end(self, *, of_epoch: bool) -> float:
        trainer = self._trainer
        in_epoch = trainer.num_training_batches - trainer.fit_loop.batch_idx
        if of_epoch or trainer.max_steps < 0:
            return in_epoch if math.isfinite(in_epoch) else 1
        return min(in_epoch, (trainer.max_steps - trainer.global_step) / max(1, len(trainer.optimizers)))

    # The run.

    @override
    def folder(self, given: Path | None) -> Path | None:
        trainer = self._trainer
        log_dir = trainer.log_dir  # a collective
        if getattr(trainer, "fast_dev_run", False):
            return None
        if given is not None:
            return given
        if trainer.loggers and is_a(trainer.loggers[0], TensorBoardLogger, CSVLogger) and log_dir:
            return Path(log_dir)
        version = trainer.loggers[0].version if trainer.loggers else None
        run = re.sub(r"[^A-Za-z0-9_-]+", "_", str(version or ""))  # stays inside, whatever the logger says
        unnamed = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
        return self._outside(Path(log_dir or trainer.default_root_dir)) / (run or unnamed)

    def _outside(self, folder: Path) -> Path:
        """A folder for runs that is not in MLflow's own, in which it takes every folder for an experiment."""
        stores = [
            Path(logger.save_dir).resolve()
            for logger in self._trainer.loggers
            if is_a(logger, MLFlowLogger) and logger.save_dir is not None
        ]
        for candidate in (folder, Path(self._trainer.default_root_dir), *(store.parent for store in stores)):
            if not any(candidate.resolve().is_relative_to(store) for store in stores):
                return candidate
        return folder

    @property
    @override
    def loggers(self) -> Sequence[Any]:
        return self._trainer.loggers

    @property
    @override
    def shows_progress(self) -> bool:
        return bool(getattr(self._trainer.progress_bar_callback, "is_enabled", False))

    @override
    def configuration(self) -> dict[str, Any]:
        return configuration(self._trainer)

    @override
    def logged(self) -> dict[str, float]:
        # `trainer.callback_metrics` would wait for ours.
        found = vars(self._trainer._logger_connector).get("_callback_metrics", {})
        return {
            key: float(value)
            for key, value in found.items()
            if isinstance(value, torch.Tensor) and value.numel() == 1
        }

    @override
    def publish(self, values: Mapping[str, float]) -> None:
        # In one storage: of such tensors three times as many fit into what `shorten` says of.
        tensors = torch.tensor([*values.values()], dtype=torch.float32)
        self._trainer.callback_metrics.update(zip(values, tensors, strict=True))

    def shorten(self, expendable: Collection[str]) -> None:
        """Takes some values out of the metrics where there are more than a rank can hand back at its end.

        A rank that was forked or spawned hands the metrics back through a pipe that nobody reads before it has ended.
        """
        metrics = self._trainer.callback_metrics
        launcher = self._trainer.strategy.launcher
        if len(metrics) > _MAX_METRICS and is_a(launcher, _MultiProcessingLauncher):
            for key in expendable:
                metrics.pop(key, None)
            self.inform(
                "after the run `trainer.callback_metrics` has no values of layers and no costs; the record has them"
            )

    @override
    def inform(self, text: str) -> None:
        rank_zero_info(text)
