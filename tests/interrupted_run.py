"""A small run that can kill itself: a function, and a script that takes the function's arguments as JSON."""

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fnet_callbacks import FunctionalNetwork, Monitor, Robustness

STEPS_PER_EPOCH = 8
EPOCHS = 4


class Model(pl.LightningModule):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(6, 24), nn.ReLU(), nn.Dropout(dropout), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class KillAt(Callback):
    """Ends the process as a power cut would, after a number of batches or so many seconds later."""

    def __init__(self, step: int, seconds: float) -> None:
        self.step, self.seconds = step, seconds

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step != self.step:
            return
        if self.seconds == 0:
            self._kill()
        self.timer = threading.Timer(self.seconds, self._kill)
        self.timer.start()

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.timer.join()

    def _kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def run(
    folder: str,
    *,
    logger: str | None = "tensorboard",
    exact: bool = True,
    checkpoint_every: int = STEPS_PER_EPOCH,
    kill_at: int | None = None,
    seconds_later: float = 0.0,
    worker: Any = "process",
    resume: str | None = None,
    epochs: int = EPOCHS,
) -> Monitor:
    """Trains; ``exact`` is a run that resumes exactly: a fixed order and no dropout."""
    pl.seed_everything(1 if resume is None else 2, verbose=False)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(8 * STEPS_PER_EPOCH, 6, generator=generator)
    data = TensorDataset(inputs, (inputs[:, 0] > inputs[:, 1]).long() + (inputs[:, 2] > 0.7).long())
    loggers: Any = {
        None: lambda: False,
        "tensorboard": lambda: TensorBoardLogger(folder, name="tb"),
        "wandb": lambda: WandbLogger(save_dir=folder, project="p", offline=True),
    }[logger]()
    network = FunctionalNetwork(density=0.3, nulls=3, save_correlation=True, homology_backend="gudhi")
    robustness = Robustness(every_n_steps=3, epsilons=[0.1], bounds=(0.0, 1.0), steps=2)
    monitor = Monitor([network, robustness], every_n_steps=3, figures=None, worker=worker)
    checkpoints = ModelCheckpoint(
        dirpath=f"{folder}/checkpoints",
        filename="{step}",
        every_n_train_steps=checkpoint_every,
        save_top_k=-1,
    )
    callbacks: list[Callback] = [monitor, checkpoints]
    if kill_at is not None:
        callbacks.insert(0, KillAt(kill_at, seconds_later))
    trainer = pl.Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        logger=loggers,
        callbacks=callbacks,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1000,
    )
    trainer.fit(
        Model(0.0 if exact else 0.3), DataLoader(data, batch_size=8, shuffle=not exact), ckpt_path=resume
    )
    if logger == "wandb":
        import wandb

        wandb.finish()
    return monitor


if __name__ == "__main__":
    torch.set_num_threads(1)
    options = json.loads(sys.argv[1])
    run(options.pop("folder"), **options)
    sys.exit(f"{Path(__file__).name} was to be killed")
