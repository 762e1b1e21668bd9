"""Who reads our values in the middle of an epoch: for them, and only for them, a snapshot is waited for at once."""

from collections.abc import Collection

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint


def reads_now(trainer: pl.Trainer, keys: Collection[str]) -> bool:
    """Whether something acts on ``trainer.callback_metrics`` before the next end of an epoch or validation.

    That is a checkpoint that is due at this step, one that follows a clock and one of our ``keys``, or a scheduler of
    the learning rate that follows one of them from step to step. The answer is the same on all ranks.
    """
    return any(
        _is_due(callback, trainer.global_step, keys)
        for callback in trainer.checkpoint_callbacks
        if isinstance(callback, ModelCheckpoint)
    ) or any(
        config.reduce_on_plateau and config.interval == "step" and config.monitor in keys
        for config in trainer.lr_scheduler_configs
    )


def _is_due(checkpoint: ModelCheckpoint, step: int, keys: Collection[str]) -> bool:
    # Lightning has no public name for either.
    every = getattr(checkpoint, "_every_n_train_steps", 0)
    if every >= 1:
        return step % every == 0
    return getattr(checkpoint, "_train_time_interval", None) is not None and checkpoint.monitor in keys
