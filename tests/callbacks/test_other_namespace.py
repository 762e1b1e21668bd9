"""A user's `import pytorch_lightning as pl`: the same code under another name, which our callbacks run in too."""

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import loader, mlp, monitor, network
from torch import nn

from fnet_callbacks import (
    BurnInEarlyStopping,
    Monitor,
    Record,
    Robustness,
    read_record,
)

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("pytorch_lightning") is None, reason="is not installed"),
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning"),
]


def classifier(pl: Any) -> Any:
    class Classifier(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp(16, 12)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    return Classifier()


def fit(namespace: str, folder: Path, *callbacks: Any, epochs: int = 2) -> tuple[Any, Any]:
    """A fit as a user of this namespace writes it: logger, checkpoints and two validation loaders."""
    pl = importlib.import_module(namespace)
    pl.seed_everything(0, verbose=False)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[pl.callbacks.ModelCheckpoint(folder, every_n_train_steps=4, save_top_k=-1), *callbacks],
        logger=pl.loggers.CSVLogger(str(folder), name="csv"),
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    model = classifier(pl)
    trainer.fit(model, loader(), [loader(40, seed=1), loader(24, seed=2)])
    return trainer, model


def followed(namespace: str, folder: Path) -> tuple[Record, dict[str, torch.Tensor]]:
    watching = monitor(4, network(), Robustness(every_n_steps=4, bounds=(0.0, 1.0), steps=2))
    trainer, model = fit(namespace, folder, watching)
    assert trainer.callback_metrics["monitor/step"] == 16
    assert {"fnet/modularity", "robust/clean_accuracy"} <= trainer.callback_metrics.keys()
    return read_record(folder / "csv" / "version_0" / "fnet"), model.state_dict()


@pytest.mark.parametrize("worker", ["inline", "process"])
def test_monitors_write_the_same_record_under_either_name(
    tmp_path: Path, worker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Monitor.__init__.__kwdefaults__, "worker", worker)
    (ours, weights), (theirs, same_weights) = (
        followed(namespace, tmp_path / namespace) for namespace in ("lightning.pytorch", "pytorch_lightning")
    )
    assert ours.steps == theirs.steps == [0, 4, 8, 12, 16]
    for expected, found in zip(ours.snapshots, theirs.snapshots, strict=True):
        assert f"{found.scalars}" == f"{expected.scalars}"
    assert ours.manifest["probe"] == theirs.manifest["probe"]
    for name, weight in weights.items():
        assert torch.equal(weight, same_weights[name])


def test_checkpoints_hold_the_snapshots_before_them(tmp_path: Path) -> None:
    fit("pytorch_lightning", tmp_path, monitor(4, network()))
    steps = [
        torch.load(path, weights_only=True)["callbacks"]["fnet_callbacks"]["values"]["monitor/step"]
        for path in sorted(tmp_path.glob("*.ckpt"), key=lambda p: int(p.stem.rpartition("=")[2]))
    ]
    assert steps == [4, 8, 12, 16]


def test_early_stopping_stops(tmp_path: Path) -> None:
    stopping = BurnInEarlyStopping("val_loss/dataloader_idx_0", burn_in=1, patience=1, min_delta=10.0)
    trainer, _ = fit("pytorch_lightning", tmp_path, stopping, epochs=9)
    assert trainer.current_epoch == 3


def test_the_package_does_not_import_it() -> None:
    code = "import sys, fnet_callbacks; fnet_callbacks.Monitor; assert 'pytorch_lightning' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
