"""Checkpoints that earlier versions have written: later ones go on from them."""

import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from released_run import DATA, run
from small_models import Net, loader, monitor, network, record, robustness, trainer
from torch.utils.data import DataLoader

import fnet_callbacks
from fnet_callbacks import FnetWarning

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fit was interrupted in the middle of an epoch.*"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),  # callbacks that are no more
]

KEY = "fnet_callbacks"
NAMES = ("fnet", "robust", "lesion", "specialization", "codes", "regions")
# What only those know that took up the last snapshot.
WITH_LAST = ("fnet/partition_ami", "fnet/edge_turnover", "specialization/partition_ami")


def states(path: Path) -> dict[str, Any]:
    """Of all callbacks; read as Lightning reads them, without running code of the file."""
    return torch.load(path, weights_only=True)["callbacks"]


def test_this_version_has_its_file() -> None:
    assert (DATA / f"checkpoint_{fnet_callbacks.__version__}.ckpt").exists()


@pytest.mark.parametrize("path", sorted(DATA.glob("checkpoint_*.ckpt")), ids=lambda path: path.stem)
def test_a_run_goes_on_from_it(tmp_path: Path, path: Path) -> None:
    held = states(path)[KEY]
    with pytest.warns(FnetWarning, match="the record of the interrupted run is not taken over"):
        went_on = run(tmp_path, resume=path)
    own = record(tmp_path)
    assert own.steps == [12, 16]
    first = own.snapshots[0].scalars
    assert held["values"].keys() <= first.keys() | own.snapshots[0].cost_ms.keys()
    assert {key: math.isfinite(first[key]) for key in WITH_LAST} == dict.fromkeys(WITH_LAST, True)
    assert went_on.callback_metrics["monitor/step"].item() == 16
    # The probe is that of the checkpoint, which has kept the batches.
    assert own.manifest["probe"]["n_samples"] == sum(len(batch[0]) for batch in held["probe"])


def test_a_checkpoint_of_all_instruments_holds_nothing_but_plain_values(tmp_path: Path) -> None:
    run(tmp_path, save=tmp_path / "now.ckpt")
    assert states(tmp_path / "now.ckpt")[KEY]["instruments"].keys() == set(NAMES)


class Weights(pl.Callback):
    """Weights and the state of the optimiser at the first batch, which training goes on with."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if not hasattr(self, "weights"):
            self.weights = {name: own.clone() for name, own in pl_module.state_dict().items()}
            self.moments = [own["exp_avg"].clone() for own in trainer.optimizers[0].state.values()]
            self.step = trainer.global_step


# What callbacks of the time before there was one monitor wrote: the six that there were, and two of the last day.
@pytest.mark.parametrize("worker", ["inline", "process"])
@pytest.mark.parametrize("path", sorted(DATA.glob("callbacks_*.ckpt")), ids=lambda path: path.stem)
def test_from_a_checkpoint_of_earlier_callbacks_all_goes_on_but_the_record(
    tmp_path: Path, path: Path, worker: str
) -> None:
    weights, watched = Weights(), monitor(4, network(), robustness(4), probe_size=16, worker=worker)
    made = trainer(tmp_path, weights, watched, max_epochs=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FnetWarning)
        made.fit(Net(), loader(), ckpt_path=path)
    (told,) = [str(w.message) for w in caught if issubclass(w.category, FnetWarning)]
    assert "'fnet', 'robust'" in told
    assert (
        "callbacks of an earlier version: weights and all else go on from it, the record begins anew" in told
    )

    held = torch.load(path, weights_only=True)
    assert weights.step == held["global_step"] == 8
    assert all(torch.equal(own, held["state_dict"][name]) for name, own in weights.weights.items())
    moments = [own["exp_avg"] for own in held["optimizer_states"][0]["state"].values()]
    assert all(map(torch.equal, weights.moments, moments))
    own = record(tmp_path)
    assert own.steps == [8, 12, 16]  # the first is of the weights of the checkpoint
    assert "resumed_from" not in own.manifest
    assert math.isnan(own.snapshots[0].scalars["fnet/edge_turnover"])
    assert math.isfinite(own.snapshots[1].scalars["fnet/edge_turnover"])


def test_who_only_tests_is_not_told_of_a_record(tmp_path: Path) -> None:
    class Tested(Net):
        def test_step(self, batch: Any, batch_idx: int) -> None:
            self.validation_step(batch, batch_idx)

    path = shutil.copy(DATA / "callbacks_two.ckpt", tmp_path)
    data: DataLoader = loader(16)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FnetWarning)
        trainer(tmp_path, monitor(4)).test(Tested(), data, ckpt_path=path, verbose=False)
    assert not list(tmp_path.rglob("manifest.json"))
