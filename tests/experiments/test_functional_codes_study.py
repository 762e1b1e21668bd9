"""The study of functional codes: it trains once, tells what the seeds say, and draws."""

import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import functional_codes as study
from fnet_callbacks import FnetError

COMMAND = [
    "--datasets",
    "digits",
    "--seeds",
    "2",
    "--epochs",
    "1",
    "--train-size",
    "256",
    "--samples",
    "64",
    "--snapshots",
    "3",
    "--out",
]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["study", *COMMAND, str(folder)])
        study.main()
    return folder


def test_it_tells_of_every_layer_and_of_the_claims(out: Path) -> None:
    text = (out / "RESULTS.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    of_layers = [
        row
        for row in rows
        if row.split("|")[2].strip() in ("1", "2", "3") and row.split("|")[1].strip().isdigit()
    ]
    assert len(of_layers) == 4 * 3  # snapshots, layers
    assert sum(row.startswith(("| 1: ", "| 2: ", "| 3: ")) for row in rows) == 7
    assert (out / "codes.png").stat().st_size > 10_000
    assert "nan" not in text


def test_what_is_there_is_not_trained_again(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "_train", lambda *a: pytest.fail("trained again"))
    before = (out / "RESULTS.md").read_text()
    monkeypatch.setattr(sys, "argv", ["study", *COMMAND, str(out)])
    study.main()
    assert (out / "RESULTS.md").read_text() == before


def test_claims_are_what_the_records_say(out: Path) -> None:
    import argparse

    asked = argparse.Namespace(out=out, data_dir=None, train_size=256, epochs=1, samples=64, snapshots=3)
    runs = [study.run_of("digits", seed, asked) for seed in range(2)]
    found = study.claims(runs)
    first = runs[0]
    ami = [first.record.series(f"codes/{place}/label_ami")[-1] for place in first.places]
    assert found["1: AMI with the label, last layer less first"][0] == pytest.approx(ami[-1] - ami[0])
    ratio = first.over("participation_ratio")[:, -1]
    assert found["2: participation ratio, first layer less pixels"][0] == pytest.approx(
        ratio[0] - first.pixels
    )
    assert first.widths.tolist() == [16, 32, 64]
    assert 1 < first.pixels < 64
    assert np.isfinite(first.over("pgd_departed_share")).all()


def test_other_settings_in_the_same_folder_are_refused(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["study", *COMMAND, str(out), "--samples", "32"])
    with pytest.raises(FnetError, match="was made with"):
        study.main()
