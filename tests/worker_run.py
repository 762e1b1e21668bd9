"""A script as users write them, without a main guard: ``python tests/worker_run.py '{"folder": ...}'``."""

import json
import signal
import sys

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger
from small_models import Net, points
from torch.utils.data import DataLoader

from fnet_callbacks import FunctionalNetwork, Monitor

torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
folder = json.loads(sys.argv[1])["folder"]


class Tell(pl.Callback):
    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.global_step == 40:
            print("step 40", flush=True)


pl.Trainer(
    max_steps=10**6,
    max_epochs=-1,
    logger=CSVLogger(folder, name="csv"),
    callbacks=[
        Monitor(FunctionalNetwork(nulls=2, density=0.3), every_n_steps=5, worker="process", figures=None),
        Tell(),
    ],
    accelerator="cpu",
    enable_progress_bar=False,
    enable_model_summary=False,
    enable_checkpointing=False,
    log_every_n_steps=1000,
).fit(Net(), DataLoader(points(64), batch_size=8, num_workers=2, persistent_workers=True))
