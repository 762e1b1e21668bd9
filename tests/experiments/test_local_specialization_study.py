"""The study of local specialization: a small one from its networks to its table."""

import sys
from pathlib import Path

import pytest

from experiments import local_specialization as study
from experiments.local_specialization import Case, told
from fnet_callbacks import FnetError


def answer(p: float, z: float) -> dict[str, object]:
    each = {"p": [p, 1.0], "effect": 1.2, "fisher": p}
    rest = {key: {"p": [], "effect": float("nan"), "fisher": float("nan")} for key in study.QUESTIONS[2:]}
    return {"accuracy": 0.9, "z": z, "importance": each, "coherence": {**each, "fisher": 0.9}, **rest}


def test_seeds_share_a_row_and_their_p_values_are_combined() -> None:
    found = {Case("mlp", "none", seed): {"weights global": answer(0.05, seed)} for seed in range(2)}
    rows = told(found).splitlines()[2:]
    assert [cell.strip() for cell in rows[0].split("|")[1:-1]] == [
        *("mlp", "none", "weights global", "0.5"),
        "50%, 1.2, **p 0.005**",  # (2 x 0.05)² / 2
        "50%, 1.2, p 0.98",
        *("–, –, p –", "–, –, p –"),
    ]
    assert len(rows) == 1


def test_the_command_trains_tells_and_does_not_do_so_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(study, "MODELS", {"mlp": [12, 12]})
    monkeypatch.setattr(study, "REGULARIZERS", ("none",))
    monkeypatch.setattr(study, "SHUFFLES", 2)
    monkeypatch.setattr(study, "STEPS", 2)
    options = [
        "--out",
        tmp_path,
        "--dataset",
        "digits",
        "--train-size",
        200,
        "--epochs",
        1,
        "--seeds",
        2,
        "--k",
        3,
    ]
    monkeypatch.setattr(sys, "argv", ["local_specialization", *map(str, options)])
    study.main()
    first = capsys.readouterr().out
    assert len(first.splitlines()) == 2 + len(study.GRAPHS) * len(study.SCOPES)
    assert first.strip() == (tmp_path / "RESULTS.md").read_text().strip()
    monkeypatch.setattr(study, "trained", lambda *_, **__: pytest.fail("trained again"))
    study.main()
    assert capsys.readouterr().out == first
    monkeypatch.setattr(sys, "argv", ["local_specialization", *map(str, options), "--train-size", "100"])
    with pytest.raises(FnetError, match=r"was made with .*'train_size': 200.*take another folder"):
        study.main()
