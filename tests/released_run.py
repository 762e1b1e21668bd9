"""A run of all instruments that leaves a checkpoint, so that later versions can be asked to go on from it.

At a release: ``PYTHONPATH=.:tests python tests/released_run.py`` adds its file to ``tests/data``.
"""

import tempfile
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from small_models import Net, Stream, monitor, network, robustness, trainer
from torch.utils.data import DataLoader

import fnet_callbacks
from fnet_callbacks import (
    BurnInEarlyStopping,
    FunctionalCodes,
    Lesions,
    LocalSpecialization,
    ReLURegions,
)

DATA = Path(__file__).parent / "data"
STEPS_PER_EPOCH = 8


class SaveAfter(Checkpoint):
    """Saves a checkpoint at the end of the first epoch, after all others had their turn."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.path)


def run(folder: Path, *, save: Path | None = None, resume: Path | None = None) -> pl.Trainer:
    """Two epochs on batches that are kept as they pass, so that the checkpoint holds the probe too."""
    torch.manual_seed(0)
    watched = monitor(
        4,
        network(),
        robustness(4),
        Lesions(every_n_steps=4, points=3),
        LocalSpecialization(every_n_steps=4, k=3, references=5, shuffles=2),
        FunctionalCodes(every_n_steps=4, epsilon=0.1, bounds=(0.0, 1.0)),
        ReLURegions(every_n_steps=4, lines=2),
        probe_size=16,
        worker="inline",
    )
    fitted = trainer(
        folder,
        watched,
        BurnInEarlyStopping("fnet/mean_abs_correlation", patience=9, check_on_train_epoch_end=True),
        *([] if save is None else [SaveAfter(save)]),
        max_epochs=2,
    )
    fitted.fit(Net(), DataLoader(Stream(8 * STEPS_PER_EPOCH), batch_size=8), ckpt_path=resume)
    return fitted


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    path = DATA / f"checkpoint_{fnet_callbacks.__version__}.ckpt"
    with tempfile.TemporaryDirectory() as made:
        run(Path(made), save=path)
    held = torch.load(path, weights_only=True)
    for state in held["callbacks"].values():
        if "record" in state:
            state["record"] = "where it was written"  # a folder that nobody else has
    torch.save(held, path)
    print(f"{path.name}: {path.stat().st_size} bytes")
