"""The study of linear regions: coefficients are recovered, and few regions do what the network does."""

import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import relu_regions as study
from fnet_callbacks import FnetError, relu_regions


def test_coefficients_of_a_piecewise_linear_function_are_recovered() -> None:
    assert max(study.simulated(seed) for seed in range(3)) < 0.05


def test_ten_regions_predict_what_the_network_does() -> None:
    table = study.breast_cancer()
    network, accuracy = study.trained(table, 0, epochs=150)
    assert accuracy > 0.9
    found = relu_regions(network, table.values, targets=table.labels, min_members=1)
    merged = found.merged(10)
    assert len(merged.sizes) <= 10
    assert merged.agreement >= 0.95
    rows = study.rows_of(table, found, merged).splitlines()
    assert len(rows) == 2 + len(merged.sizes)
    assert sum(int(row.split("|")[2]) for row in rows[2:]) == 569


def test_the_command_prints_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "titanic").mkdir()
    generator = np.random.default_rng(0)
    rows = ["Survived,Pclass,Name,Sex,Age,SibSp,Parch,Fare"]
    for _ in range(120):
        female, age = generator.random() < 0.5, generator.integers(1, 80)
        told = "" if age > 70 else str(age)
        rows.append(
            f'{int(female)},{generator.integers(1, 4)},"A, B",{"female" if female else "male"},{told},0,1,9.5'
        )
    (tmp_path / "titanic" / "passengers.csv").write_text("\n".join(rows) + "\n")
    arguments = ["--data-dir", tmp_path, "--out", tmp_path / "found.png", "--simulations", 1]
    monkeypatch.setattr(sys, "argv", ["relu_regions", *map(str, arguments)])
    study.main()
    said = capsys.readouterr().out
    assert "relative L2 error of the coefficients" in said
    assert "Titanic: 120 samples" in said
    assert "female +" in said
    assert (tmp_path / "found.png").stat().st_size > 1000


def test_a_folder_without_passengers_is_named(tmp_path: Path) -> None:
    with pytest.raises(FnetError, match="`data_dir`: no file"):
        study.titanic(tmp_path)
