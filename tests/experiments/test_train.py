"""The demo's command, with fewer epochs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fnet_callbacks import read_record

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_demo_trains_prints_its_table_and_says_how_to_see_it(tmp_path):
    command = [sys.executable, "-m", "experiments.train", "fit"]
    command += ["--config", "experiments/configs/digits_mlp.yaml", "--trainer.max_epochs", "4"]
    command += ["--trainer.logger.init_args.save_dir", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr

    record = read_record(tmp_path / "digits_mlp" / "version_0" / "fnet")
    assert record.steps == [0, 48, 96]
    assert record.series("robust/clean_accuracy")[-1] > 0.8
    table = {row.split()[0]: row.split()[1:] for row in ended.stdout.splitlines() if row[:1].isalpha()}
    assert table["step"][0::2] == ["0", "96"]
    assert {"robust/pgd_0.1_accuracy", "fnet/modularity", "fnet/sigma", "fnet/loops"} <= set(table)
    assert float(table["fnet/modularity"][2]) == pytest.approx(record.series("fnet/modularity")[-1], rel=1e-3)
    assert f"--logdir {tmp_path / 'digits_mlp'}" in ended.stdout
