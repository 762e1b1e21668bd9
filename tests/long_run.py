"""Some thousand steps with a snapshot every 50, in a process of its own, that prints resident memory (kB) on the way:
the training process's and the worker's, after 2,000 steps and at the end."""

import os
import tempfile
from pathlib import Path

import lightning.pytorch as pl
import torch
from cells import EVERY_CELL
from lightning.pytorch.loggers import TensorBoardLogger
from processes import workers_of
from small_models import Net, loader, mlp

from fnet_callbacks import FunctionalNetwork, Monitor

STEPS = 20_000 if EVERY_CELL else 4_000


class Tell(pl.Callback):
    """Prints resident memory, when both processes have nothing on the way."""

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.global_step in (2_000, STEPS):
            print(_resident(os.getpid()), *map(_resident, workers_of(os.getpid())), flush=True)


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0])


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = tempfile.mkdtemp()
    pl.Trainer(
        max_steps=STEPS,
        max_epochs=-1,
        logger=TensorBoardLogger(folder),
        callbacks=[Monitor(FunctionalNetwork(density=0.1, nulls=2), every_n_steps=50, figures=None), Tell()],
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
    ).fit(Net(mlp(64, 64)), loader(800, batch_size=8))
