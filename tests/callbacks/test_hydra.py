"""A whole run from Hydra: `_target_` everywhere, callbacks and instruments by name, overrides on top."""

from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from small_models import CLASSES, FEATURES, Net, record
from torch import nn

from fnet_callbacks import FnetError, FunctionalNetwork, Lesions

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
  monitor:
    _target_: fnet_callbacks.Monitor
    every_n_steps: 4
    batch_to_labels: test_hydra.second
    worker: inline
    figures: null
    on_error: raise
    instruments:
      fnet:
        _target_: fnet_callbacks.FunctionalNetwork
        measures: [fast, loops]
        layer_measures: []
        layers: [net.1, net.3]
        density: 0.3
        seed: ${seed}
      robust:
        _target_: fnet_callbacks.Robustness
        bounds: [0, 1]
        epsilons: [0.05, 0.1]
        attacks: [pgd]
        normalize: [[0.0], [1.0]]
        steps: 2
      codes:
        _target_: fnet_callbacks.FunctionalCodes
        layers: [net.1]
        grid: [3, 4]
        epsilon: 0.1
        bounds: ${callbacks.monitor.instruments.robust.bounds}
        output_to_logits:
          _target_: hydra.utils.get_method
          path: test_hydra.as_they_are
      regions:
        _target_: fnet_callbacks.ReLURegions
        lines: 2
      lesion:
        _target_: fnet_callbacks.Lesions
        layers: [net.*]
        points: 2
      specialization:
        _target_: fnet_callbacks.LocalSpecialization
        layers: [net.1, net.3]
        k: 2
        references: 1
        shuffles: 0
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


NAMES = {"fnet", "robust", "codes", "regions", "lesion", "specialization"}


@pytest.mark.parametrize("convert", ["none", "partial", "object", "all"])
@pytest.mark.parametrize("is_listed", [False, True], ids=["by name", "in a list"])
def test_a_run_of_hydra_has_its_record_and_a_checkpoint_that_opens(
    tmp_path: Path, is_listed: bool, convert: str
) -> None:
    own = "callbacks.monitor.instruments"
    config = composed(
        tmp_path, "callbacks.monitor.every_n_steps=2", f"{own}.robust.epsilons=0.05", "widths=[9,8]"
    )
    if is_listed:
        OmegaConf.resolve(config)
        config.callbacks.monitor.instruments = [*config.callbacks.monitor.instruments.values()]
    with open_dict(config):
        config.callbacks.monitor._convert_ = convert
    model, data = instantiate(config.model), instantiate(config.data)
    if convert == "none":  # a mapping of Hydra's with the callbacks in it
        callbacks = [*instantiate(config.callbacks).values()]
    else:
        callbacks = [instantiate(one) for one in config.callbacks.values()]
    trainer = instantiate(config.trainer, callbacks=callbacks)
    trainer.fit(model, data)

    found = record(tmp_path)
    assert found.steps == [0, 2, 4]
    instruments = found.manifest["instruments"]
    assert instruments.keys() == NAMES
    assert names(instruments["fnet"]) == names(instruments["specialization"]) == ["net.1", "net.3"]
    assert [layer["n_units"] for layer in instruments["fnet"]["layers"]] == [9, 8]
    assert (instruments["fnet"]["seed"], instruments["robust"]["epsilons"]) == (3, [0.05])
    assert (instruments["robust"]["bounds"], instruments["codes"]["grid"]) == ([0.0, 1.0], [3, 4])
    assert found.manifest["configuration"]["widths"] == [9, 8]
    assert "robust/pgd_0.05_accuracy" in found.snapshots[-1].scalars

    # The model's own hyperparameters are Hydra's still.
    kept = torch.load(tmp_path / "last.ckpt", weights_only=False)["callbacks"]["fnet_callbacks"]
    torch.save(kept, tmp_path / "own.ckpt")
    # Refuses what is none of Python's and torch's.
    opened = torch.load(tmp_path / "own.ckpt", weights_only=True)
    assert opened["step"] == 4
    assert opened["instruments"].keys() == NAMES


def test_one_instrument_needs_no_list(tmp_path: Path) -> None:
    config = composed(tmp_path).callbacks.monitor
    with open_dict(config):
        config.instruments = config.instruments.lesion
    (lesions,) = instantiate(config).instruments
    assert (type(lesions), lesions.points) == (Lesions, 2)


def test_what_is_no_instrument_yet_is_shown(tmp_path: Path) -> None:
    config = composed(tmp_path).callbacks.monitor
    with open_dict(config):
        config._recursive_ = False
        config.instruments = [config.instruments.lesion]
    with pytest.raises(Exception, match=r"`instruments` has .*Lesions.*; each should be an instrument"):
        instantiate(config)


def test_a_value_that_is_left_to_be_filled_in_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(FnetError, match="`layers` cannot be read"):
        FunctionalNetwork(layers=OmegaConf.create(["net.1", "???"]))
