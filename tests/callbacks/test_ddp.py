"""Two ranks: they measure together, hold the same values, and none is left waiting."""

import io
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ranks_run
import torch
from cells import EVERY_CELL
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from processes import run_script
from small_models import Net, loader, monitor, network, trainer

from fnet_callbacks import Record, read_record
from fnet_callbacks.drivers.trainer_host import TrainerHost

pytestmark = pytest.mark.slow


def run(folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    return run_script(ranks_run, folder, seconds=120, **options)


def fit(folder: Path, **options: Any) -> tuple[Record, list[list[dict[str, float]]]]:
    ended = run(folder, **options)
    assert ended.returncode == 0, ended.stderr[-3000:]
    diaries = [json.loads(p.read_text()) for p in sorted(folder.glob("rank_*.json"))]
    return read_record(folder / "csv" / "version_0" / "fnet"), diaries


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The record of a single rank."""
    return fit(tmp_path_factory.mktemp("ranks") / "one", devices=1)[0]


@pytest.mark.parametrize(
    "strategy", ["ddp_fork", "ddp", *(["ddp_spawn", "ddp_notebook"] if EVERY_CELL else [])]
)
def test_two_ranks_measure_what_one_does(tmp_path: Path, one: Record, strategy: str) -> None:
    two, diaries = fit(tmp_path / "two", devices=2, strategy=strategy)
    assert one.steps == [0, 4, 8, 12, 16]
    assert two.steps == [0, 4, 8]  # each rank has half of the batches
    assert two.snapshots[0].scalars.keys() == one.snapshots[0].scalars.keys()

    # On the same weights, at step 0, the sums over two halves of the probe are those of the whole.
    before, both = one.arrays(0), two.arrays(0)
    np.testing.assert_array_equal(both["fnet.neuron"], before["fnet.neuron"])
    np.testing.assert_allclose(both["fnet.correlation"], before["fnet.correlation"], atol=1e-6)
    for key, value in one.snapshots[0].scalars.items():
        assert two.snapshots[0].scalars[key] == pytest.approx(value, abs=1e-6, nan_ok=True), key
    assert two.snapshots[0].scalars["fnet/n_samples"] == 44

    assert len(diaries) == 2
    assert len(diaries[0]) == len(diaries[1]) == 9
    for first, second in zip(*diaries, strict=True):
        np.testing.assert_equal(first, second)
    assert {page["monitor/step"] for page in diaries[0]} == {0, 4, 8}
    assert len(list((tmp_path / "two").rglob("manifest.json"))) == 1


def test_what_a_rank_hands_back_at_the_end_is_small(tmp_path: Path) -> None:
    """Lightning reads it when the rank has ended, which cannot while a pipe of 64 kB is full."""
    made = trainer(tmp_path, monitor(8, *(network(name=f"fnet_{i}") for i in range(8))))
    made.fit(Net(), loader())
    held = made.callback_metrics
    assert len(held) > 500
    expendable = [key for key in held if "_layers/" in key or key.startswith("monitor_cost/")]
    TrainerHost(made).shorten(expendable)
    assert len(held) > 500  # one that runs in this process hands back nothing
    made.strategy._launcher = _MultiProcessingLauncher(made.strategy, start_method="fork")
    TrainerHost(made).shorten(expendable)
    assert not held.keys() & {*expendable}
    assert {"monitor/cost_ms", "fnet_0/modularity", "fnet_7/loops"} <= held.keys()
    file = io.BytesIO()
    torch.save(held, file)
    assert file.tell() < 110 * len(held) < 2**16


def test_early_stopping_on_a_measure_stops_all_ranks(tmp_path: Path) -> None:
    record, diaries = fit(tmp_path / "run", devices=2, stop=True, epochs=9)
    assert record.steps == [0, 4, 8]
    assert [d[-1]["global_step"] for d in diaries] == [8, 8]


@pytest.mark.parametrize(
    "options", [{"data": "streamed"}, {"source": "train"}], ids=["passing batches", "live batches"]
)
def test_each_rank_brings_its_own_batches(tmp_path: Path, options: dict[str, Any]) -> None:
    record, diaries = fit(tmp_path / "run", devices=2, probe_size=32, **options)
    assert record.steps[:3] == [0, 4, 8]
    assert record.series("fnet/n_samples")[:3].tolist() == [16, 32, 32] or options.get("source") == "train"
    assert np.isfinite(record.series("fnet/selectivity_entropy")[1:]).all()
    np.testing.assert_equal(diaries[0][-1], diaries[1][-1])


@pytest.mark.parametrize("source", ["probe", "train"])
def test_labels_that_one_rank_lacks_are_those_of_none(tmp_path: Path, source: str) -> None:
    options = {"model": "Clamped", "data": "labelled on one rank", "only_network": True}
    record, _ = fit(tmp_path / "run", devices=2, source=source, **options)
    assert record.steps[:2] == [0, 4]
    assert np.isfinite(record.series("fnet/modularity")).all()
    assert np.isnan(record.series("fnet/selectivity_entropy")).all()


@pytest.mark.parametrize("on_error", ["warn", "raise"])
def test_what_fails_on_one_rank_leaves_no_other_waiting(tmp_path: Path, on_error: str) -> None:
    ended = run(tmp_path / "run", devices=2, model="Fails", on_error=on_error)
    record = read_record(tmp_path / "run" / "csv" / "version_0" / "fnet")
    assert record.steps == [0]
    assert "could not be shown to the model on another rank" in ended.stderr or on_error == "raise"
    assert (ended.returncode == 0) == (on_error == "warn"), ended.stderr[-3000:]


def test_lesions_that_fail_on_one_rank_leave_no_other_waiting(tmp_path: Path) -> None:
    record, diaries = fit(tmp_path / "run", devices=2, model="FailsSilenced", data="drawn")
    assert record.steps == [0, 4, 8]
    assert [s.step for s in record.snapshots if "lesion/clean_accuracy" in s.scalars] == [0]
    assert len(diaries) == 2


@pytest.mark.parametrize(
    "options",
    [{"probe_size": 8}, {"source": "train"}],
    ids=["one rank has no batch of the probe", "live batches"],
)
def test_a_shorter_last_batch_leaves_no_rank_waiting(tmp_path: Path, options: dict[str, Any]) -> None:
    record, diaries = fit(tmp_path / "run", devices=2, data="uneven", **options)
    assert record.steps == [0, 4, 8]
    keys = (
        "fnet/modularity",
        "robust/clean_accuracy",
        "lesion/clean_accuracy",
        "codes/01/quantization_error",
    )
    for key in keys:
        assert np.isfinite(record.series(key)).all(), key
    # Of live batches the last that hold the probe's inputs: 8, 8 and 6 of each rank and 8 before.
    wanted = [8, 8, 8] if "probe_size" in options else [16, 60, 60]
    assert record.series("fnet/n_samples").tolist() == wanted
    np.testing.assert_equal(*diaries)


def test_a_rank_without_a_training_batch_is_refused_by_lightning(tmp_path: Path) -> None:
    ended = run(tmp_path / "run", devices=2, data="one rank's")
    assert ended.returncode != 0
    assert "`DataLoader` within local rank has zero length" in ended.stderr
