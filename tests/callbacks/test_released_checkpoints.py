"""Checkpoints that released versions have written: later ones go on from them."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from released_run import DATA, run
from small_models import record

import fnet_callbacks
from fnet_callbacks import FnetWarning

pytestmark = pytest.mark.filterwarnings("ignore:.*fit was interrupted in the middle of an epoch.*")

NAMES = ("fnet", "robust", "lesion", "specialization", "codes", "regions")
# What only those know that took up the last snapshot.
WITH_LAST = ("fnet/partition_ami", "fnet/edge_turnover", "specialization/partition_ami")


def states(path: Path) -> dict[str, Any]:
    """Of our monitors; read as Lightning reads them, without running code of the file."""
    return torch.load(path, weights_only=True)["callbacks"]


def test_this_version_has_its_file() -> None:
    assert (DATA / f"checkpoint_{fnet_callbacks.__version__}.ckpt").exists()


@pytest.mark.parametrize("path", sorted(DATA.glob("checkpoint_*.ckpt")), ids=lambda path: path.stem)
def test_a_run_goes_on_from_it(tmp_path: Path, path: Path) -> None:
    held = states(path)["fnet"]
    with pytest.warns(FnetWarning, match="the record of the interrupted run is not taken over"):
        went_on = run(tmp_path, resume=path)
    own = record(tmp_path)
    assert own.steps == [12, 16]
    first = own.snapshots[0].scalars
    assert held["values"].keys() - first.keys() == set()
    assert {key: math.isfinite(first[key]) for key in WITH_LAST} == dict.fromkeys(WITH_LAST, True)
    assert {name: went_on.callback_metrics[f"{name}/step"].item() for name in NAMES} == dict.fromkeys(
        NAMES, 16
    )
    # The probe is that of the checkpoint, which has kept the batches.
    assert own.manifest["probes"]["fnet"]["n_samples"] == sum(
        len(batch[0]) for batch in held["probes"]["fnet"]
    )


def test_a_checkpoint_of_all_monitors_holds_nothing_but_plain_values(tmp_path: Path) -> None:
    run(tmp_path, save=tmp_path / "now.ckpt")
    assert states(tmp_path / "now.ckpt").keys() >= set(NAMES)
