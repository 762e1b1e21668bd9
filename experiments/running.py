"""One trial of a sweep, in the process that it runs in."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback

from experiments.trials import CONFIG, SET_UP, TRIAL, LoggerName, Trial, held, write_state


class SetUp(Callback):
    """Notes that a trial has trained: whatever was wrong with its set-up would have shown by then.

    Args:
        folder: Of the trial.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Notes it, once."""
        if batch_idx == 0 and trainer.current_epoch == 0:
            (self.folder / SET_UP).touch()


def run_trial(folder: Path, *, logger: LoggerName, project: str, callbacks: Sequence[Any] = ()) -> None:
    """Trains as the folder's ``trial.json`` says, in this process, and notes how it ended.

    Args:
        folder: Of the trial.
        logger: The run's logger.
        project: For W&B.
        callbacks: Beside those of the configuration.

    Raises:
        Exception: What went wrong, after it was noted.
    """
    import torch

    from experiments.data import DataModule
    from experiments.models import Classifier
    from experiments.train import TrainCLI

    start = time.perf_counter()
    with held(folder):
        try:
            trial = Trial(**json.loads((folder / TRIAL).read_text()))
            torch.set_num_threads(trial.threads)
            settings = json.loads(json.dumps(trial.settings))
            trainer = settings.setdefault("trainer", {})
            trainer["logger"] = _logger(logger, folder, settings, project)
            trainer["default_root_dir"] = str(folder)
            (folder / CONFIG).write_text(yaml.safe_dump(settings))
            TrainCLI(
                Classifier,
                DataModule,
                args=["fit", "--config", str(folder / CONFIG)],
                parser_kwargs={"exit_on_error": False},
                trainer_defaults={"callbacks": [SetUp(folder), *callbacks]},
            )
        except BaseException as error:
            if not (
                isinstance(error, SystemExit) and error.code == 0
            ):  # so a scheduler ends a trial; it says why
                write_state(folder, "failed", reason=f"{type(error).__name__}: {error}")
            raise
        write_state(folder, "finished", seconds=round(time.perf_counter() - start, 3))


def _logger(logger: LoggerName, folder: Path, settings: Mapping[str, Any], project: str) -> dict[str, Any]:
    name, arguments = {
        "tensorboard": ("TensorBoardLogger", {"version": "", "default_hp_metric": False}),
        "csv": ("CSVLogger", {"version": ""}),
        "wandb": ("WandbLogger", {"project": project, "group": settings.get("model", {}).get("regularizer")}),
    }[logger]
    place = {"save_dir": str(folder)} if logger == "wandb" else {"save_dir": str(folder.parent)}
    return {
        "class_path": f"lightning.pytorch.loggers.{name}",
        "init_args": {**place, "name": folder.name, **arguments},
    }
