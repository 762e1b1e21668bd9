"""Who reads our values: a snapshot is waited for where somebody looks, and nowhere else.

In a single process that is when ``trainer.callback_metrics`` is asked for. Several ranks have to wait together, so
there it is at places that all of them come by.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint

from fnet_callbacks.drivers.kinds import is_a


@contextmanager
def waiting_when_read(trainer: pl.Trainer, wait: Callable[[], None]) -> Iterator[None]:
    """Calls ``wait`` whenever ``trainer.callback_metrics`` is asked for, as long as the context is open."""
    connector = trainer._logger_connector
    plain: Any = type(connector)

    class Awaited(plain):
        @property
        def callback_metrics(self) -> Any:
            wait()
            return plain.callback_metrics.fget(self)

    connector.__class__ = Awaited
    try:
        yield
    finally:
        connector.__class__ = plain


def reads_now(trainer: pl.Trainer, keys: Collection[str]) -> bool:
    """Whether something acts on ``trainer.callback_metrics`` before the next end of an epoch or validation.

    That is a checkpoint that is due at this step, one that follows a clock and one of our ``keys``, or a scheduler of
    the learning rate that follows one of them from step to step. The answer is the same on all ranks.
    """
    return any(
        _is_due(callback, trainer.global_step, keys)
        for callback in trainer.checkpoint_callbacks
        if is_a(callback, ModelCheckpoint)
    ) or any(
        config.reduce_on_plateau and config.interval == "step" and config.monitor in keys
        for config in trainer.lr_scheduler_configs
    )


def _is_due(checkpoint: Any, step: int, keys: Collection[str]) -> bool:
    # Lightning has no public name for either.
    every = getattr(checkpoint, "_every_n_train_steps", 0)
    if every >= 1:
        return step % every == 0
    return getattr(checkpoint, "_train_time_interval", None) is not None and checkpoint.monitor in keys
