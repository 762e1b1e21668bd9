"""A whole run from Hydra: `_target_` everywhere, callbacks as a mapping of configurations, overrides on top."""

from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from small_models import CLASSES, FEATURES, Net, record
from torch import nn

CONFIG = """
seed: 3
widths: [16, 12]
model:
  _target_: test_hydra.Sized
  widths: ${widths}
  lr: 1e-2
data:
  _target_: small_models.loader
  n: 32
trainer:
  _target_: lightning.pytorch.Trainer
  max_epochs: 1
  accelerator: cpu
  enable_progress_bar: false
  enable_model_summary: false
  log_every_n_steps: 1
  default_root_dir: ???
  logger:
    _target_: lightning.pytorch.loggers.CSVLogger
    save_dir: ${trainer.default_root_dir}
callbacks:
  fnet:
    _target_: fnet_callbacks.FunctionalNetworkMonitor
    every_n_steps: 4
    worker: inline
    measures: [fast, loops]
    layer_measures: []
    layers: [net.1, net.3]
    density: 0.3
    seed: ${seed}
    figures: null
    on_error: raise
  robust:
    _target_: fnet_callbacks.RobustnessMonitor
    every_n_steps: 4
    bounds: [0, 1]
    epsilons: [0.05, 0.1]
    attacks: [pgd]
    normalize: [[0.0], [1.0]]
    steps: 2
    on_error: raise
  codes:
    _target_: fnet_callbacks.FunctionalCodeMonitor
    every_n_steps: 4
    layers: [net.1]
    grid: [3, 4]
    epsilon: 0.1
    bounds: ${callbacks.robust.bounds}
    output_to_logits:
      _target_: hydra.utils.get_method
      path: test_hydra.as_they_are
    figures: null
    on_error: raise
  regions:
    _target_: fnet_callbacks.ReLURegionMonitor
    every_n_steps: 4
    lines: 2
    on_error: raise
  lesion:
    _target_: fnet_callbacks.LesionMonitor
    every_n_steps: 4
    layers: [net.*]
    points: 2
    batch_to_labels: test_hydra.second
    on_error: raise
  specialization:
    _target_: fnet_callbacks.LocalSpecializationMonitor
    every_n_steps: 4
    layers: [net.1, net.3]
    k: 2
    references: 1
    shuffles: 0
    on_error: raise
  stopping:
    _target_: fnet_callbacks.BurnInEarlyStopping
    monitor: fnet/loops
    patience: 5
  checkpoint:
    _target_: lightning.pytorch.callbacks.ModelCheckpoint
    dirpath: ${trainer.default_root_dir}
    filename: last
"""


class Sized(Net):
    """Saves its hyperparameters, a list of Hydra's among them."""

    def __init__(self, widths: Any, lr: float) -> None:
        sizes = [FEATURES, *widths]
        parts = [p for a, b in zip(sizes, widths, strict=False) for p in (nn.Linear(a, b), nn.ReLU())]
        super().__init__(nn.Sequential(*parts, nn.Linear(sizes[-1], CLASSES)), lr=lr)
        self.save_hyperparameters(ignore=["net"])


def as_they_are(output: Any) -> Any:
    return output


def second(batch: Any) -> Any:
    return batch[1]


def composed(folder: Path, *overrides: str) -> DictConfig:
    """What Hydra makes of the file and of the command line."""
    (folder / "config.yaml").write_text(CONFIG)
    with hydra.initialize_config_dir(str(folder), version_base=None):
        return hydra.compose("config", [f"trainer.default_root_dir={folder}", *overrides])


def names(one: Any) -> list[str]:
    return [layer["name"] for layer in one["layers"]]


@pytest.mark.parametrize("is_whole", [False, True], ids=["one by one", "as a whole"])
def test_a_run_of_hydra_has_its_record_and_a_checkpoint_that_opens(tmp_path: Path, is_whole: bool) -> None:
    config = composed(
        tmp_path, "callbacks.fnet.every_n_steps=2", "callbacks.robust.epsilons=0.05", "widths=[9,8]"
    )
    model, data = instantiate(config.model), instantiate(config.data)
    if is_whole:  # a mapping of Hydra's with the callbacks in it
        callbacks = [*instantiate(config.callbacks).values()]
    else:
        callbacks = [instantiate(one) for one in config.callbacks.values()]
    trainer = instantiate(config.trainer, callbacks=callbacks)
    trainer.fit(model, data)

    found = record(tmp_path)
    assert found.steps == [0, 2, 4]
    monitors = found.manifest["monitors"]
    assert monitors.keys() == {"fnet", "robust", "codes", "regions", "lesion", "specialization"}
    assert names(monitors["fnet"]) == names(monitors["specialization"]) == ["net.1", "net.3"]
    assert [layer["n_units"] for layer in monitors["fnet"]["layers"]] == [9, 8]
    assert (monitors["fnet"]["seed"], monitors["robust"]["epsilons"]) == (3, [0.05])
    assert (monitors["robust"]["bounds"], monitors["codes"]["grid"]) == ([0.0, 1.0], [3, 4])
    assert found.manifest["configuration"]["widths"] == [9, 8]
    assert "robust/pgd_0.05_accuracy" in found.snapshots[-1].scalars

    own = {"fnet", "robust", "codes", "regions", "lesion", "specialization"}
    # The model's own hyperparameters are Hydra's still.
    kept = torch.load(tmp_path / "last.ckpt", weights_only=False)["callbacks"]
    torch.save({name: kept[name] for name in own}, tmp_path / "own.ckpt")
    opened = torch.load(
        tmp_path / "own.ckpt", weights_only=True
    )  # refuses what is none of Python's and torch's
    assert {state["step"] for state in opened.values()} == {4}


def test_a_value_that_is_left_to_be_filled_in_is_refused_by_its_name(tmp_path: Path) -> None:
    from fnet_callbacks import FnetError, FunctionalNetworkMonitor

    with pytest.raises(FnetError, match="`layers` cannot be read"):
        FunctionalNetworkMonitor(layers=OmegaConf.create(["net.1", "???"]))
