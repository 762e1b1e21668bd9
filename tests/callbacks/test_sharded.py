"""Sharded models: the functional network is followed where a pass gathers the parameters; the rest is refused."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sharded_run
import torch
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from processes import run_script
from sharded_run import Sharded
from small_models import Net, fast, loader, monitor, robustness, trainer
from torch import nn

from fnet_callbacks import (
    FnetError,
    FunctionalCodes,
    FunctionalNetwork,
    Lesions,
    LocalSpecialization,
    ReLURegions,
    read_record,
)
from fnet_callbacks.drivers.sharding import refusal


def run(folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    return run_script(sharded_run, folder, seconds=120, **options)


def read(folder: Path, rank: int, what: str) -> Any:
    return json.loads((folder / f"{what}_{rank}.json").read_text())


@pytest.mark.slow
def test_a_sharded_model_is_followed_and_trains_as_without_the_monitor(tmp_path: Path) -> None:
    for name, options in (("one", {"devices": 1}), ("watched", {}), ("alone", {"is_watched": False})):
        ended = run(tmp_path / name, **options)
        assert ended.returncode == 0, ended.stderr[-3000:]
    for rank in (0, 1):
        weights = read(tmp_path / "watched", rank, "weights")
        assert weights == read(tmp_path / "alone", rank, "weights") == read(tmp_path / "alone", 0, "weights")

    one, two = (read_record(tmp_path / name / "csv" / "version_0" / "fnet") for name in ("one", "watched"))
    assert two.steps == [0, 2, 4, 6, 8]  # each rank has half of the batches
    before, both = one.arrays(0), two.arrays(0)
    np.testing.assert_allclose(both["fnet.correlation"], before["fnet.correlation"], atol=1e-6)
    for key, value in one.snapshots[0].scalars.items():
        assert two.snapshots[0].scalars[key] == pytest.approx(value, abs=1e-6, nan_ok=True), key
    assert two.series("fnet/n_samples").tolist() == [36] * 5  # a rank's extra pass is not counted
    first, second = (read(tmp_path / "watched", rank, "rank") for rank in (0, 1))
    np.testing.assert_equal(first, second)
    assert first[-1]["monitor/step"] == 8


@pytest.mark.slow
def test_layers_that_are_split_are_refused(tmp_path: Path) -> None:
    ended = run(tmp_path / "run", tensor_parallel_size=2)
    assert ended.returncode != 0
    assert "fnet: FunctionalNetwork under ModelParallelStrategy: a rank sees only its share" in ended.stderr
    assert not list(tmp_path.rglob("scalars.jsonl"))


@pytest.fixture
def one_rank() -> Iterator[None]:
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


REFUSED = [robustness(4), Lesions(), LocalSpecialization(), FunctionalCodes(), ReLURegions()]


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("instrument", REFUSED, ids=lambda i: type(i).__name__)
def test_instruments_that_make_passes_of_their_own_are_refused(tmp_path: Path, instrument: Any) -> None:
    model = Sharded()
    watched = monitor(4, FunctionalNetwork(measures="fast"), instrument)
    made = trainer(tmp_path, watched, strategy=ModelParallelStrategy(1, 1))
    kind = type(instrument).__name__
    says = f"{instrument.name}: {kind} under ModelParallelStrategy: a pass is one of all ranks"
    with pytest.raises(FnetError, match=says):
        made.fit(model, loader())
    assert made.global_step == 0


@pytest.mark.usefixtures("one_rank")
def test_a_part_of_what_is_sharded_is_refused(tmp_path: Path) -> None:
    made = trainer(tmp_path, fast(4, model="net.0"), strategy=ModelParallelStrategy(1, 1))
    with pytest.raises(
        FnetError, match=r"under ModelParallelStrategy: `model='net\.0'` is inside of what is"
    ):
        made.fit(Sharded(), loader())


class OnCpu(FSDPStrategy):
    """Stands in for the strategy, which needs an accelerator: it leaves the model whole."""

    def _setup_model(self, model: nn.Module) -> nn.Module:
        return model


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("instrument", [FunctionalNetwork(), *REFUSED], ids=lambda i: type(i).__name__)
def test_the_older_sharding_is_refused(tmp_path: Path, instrument: Any) -> None:
    made = trainer(tmp_path, monitor(4, instrument), strategy=OnCpu())
    kind = type(instrument).__name__
    says = f"{kind} under OnCpu: no part of the model can be called on its own. `ModelParallel"
    with pytest.raises(FnetError, match=says):
        made.fit(Net(), loader())
    assert made.global_step == 0


@pytest.mark.parametrize(("stage", "is_refused"), [(1, False), (2, False), (3, True)])
def test_the_third_stage_of_deepspeed_is_refused(stage: int, is_refused: bool) -> None:
    strategy = DeepSpeedStrategy.__new__(DeepSpeedStrategy)  # to make one asks for the package
    strategy.config = {"zero_optimization": {"stage": stage}}
    net = Net()
    fitted: Any = SimpleNamespace(strategy=strategy, lightning_module=net)
    reason = refusal(fitted, net, makes_passes=False)
    assert (reason is not None) == is_refused
    says = "under DeepSpeedStrategy: no part of the model can be called on its own. Stages 1"
    assert reason is None or reason.startswith(says)
