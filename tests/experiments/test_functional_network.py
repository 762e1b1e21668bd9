"""The study: each claim beside what was found, on runs whose truth is known."""

import math
import sys
from pathlib import Path

import pytest
from small_runs import write_run

from experiments import functional_network, sweep
from experiments.functional_network import CLAIMS, Claim, judged, told
from experiments.trials import read_sweep, write_state
from fnet_callbacks.compare.runs import Runs, read_runs
from fnet_callbacks.errors import FnetError

LOOPS = "fnet/loops"


def runs(folder: Path, seeds: int = 5, **strengths: float) -> Runs:
    for name, strength in strengths.items():
        for seed in range(seeds):
            logged = {"train_accuracy": 0.9, "val_accuracy": 0.8 - 0.1 * strength + 0.01 * seed}
            write_run(folder / f"{name}{seed}", strength=strength, seed=seed, logged=logged, regularizer=name)
    return read_runs([folder])


@pytest.mark.parametrize(("sign", "verdict"), [(-1, "shown"), (1, "opposite")])
def test_a_claim_is_shown_in_its_own_direction(tmp_path, sign, verdict):
    (found,) = judged(runs(tmp_path, none=0.3, dropout=0.8), [Claim("loops", "dropout", LOOPS, sign)])
    assert found.verdict == verdict
    assert found.own - found.baseline == pytest.approx(found.effect.difference.mean)
    assert found.q == found.effect.p  # the only one


def test_where_nothing_differs_nothing_is_shown(tmp_path):
    (found,) = judged(runs(tmp_path, none=0.3, dropout=0.3), [Claim("loops", "dropout", LOOPS, 1)])
    assert (found.effect.difference.mean, found.verdict) == (0, "not shown")


def test_another_reading_is_told_and_not_judged(tmp_path):
    claims = [Claim("a", "dropout", LOOPS, 1), Claim("b", "dropout", LOOPS, 1, is_judged=False)]
    first, second = judged(runs(tmp_path, none=0.3, dropout=0.8), claims)
    assert first.q == first.effect.p == second.effect.p
    assert (math.isnan(second.q), second.verdict) == (True, "")


def test_every_claim_of_the_abstract_has_a_row(tmp_path):
    found = told(runs(tmp_path, none=0.3, dropout=0.8, batch_norm=0.5))
    rows = [line for line in found.splitlines() if line.startswith("|")]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows[2 : 2 + len(CLAIMS)]] == [
        c.text for c in CLAIMS
    ]
    for row, claim in zip(rows[2:], CLAIMS, strict=False):
        assert row.rstrip("| ").endswith(("shown", "opposite")) == claim.is_judged
    assert "Wasserstein distance of the loops" in found
    assert "numpy " in found


def test_a_regularisation_that_was_not_run_is_told(tmp_path):
    with pytest.raises(FnetError, match=r"`runs`: there is none of batch_norm; there is dropout, none"):
        told(runs(tmp_path, seeds=1, none=0.3, dropout=0.8))


def test_runs_that_are_there_are_judged_and_not_trained_again(tmp_path, monkeypatch, capsys):
    runs(tmp_path / "out", none=0.3, dropout=0.8, batch_norm=0.5)
    trials = read_sweep(functional_network.SWEEP, {"trainer.max_epochs": 1})
    for folder, trial in zip(sorted((tmp_path / "out").iterdir()), trials, strict=False):
        write_state(folder, "failed" if folder.name == "none4" else "finished")
        folder.rename(trial.folder(tmp_path / "out"))
    write_state(
        write_run(tmp_path / "out" / "of another sweep", strength=0.3, seed=9, regularizer="none"), "finished"
    )
    asked: list[list[str]] = []
    monkeypatch.setattr(sweep, "main", lambda arguments: asked.append(arguments) or 0)
    monkeypatch.setattr(
        sys, "argv", ["x", "--out", str(tmp_path / "out"), "--data-dir", "d", "trainer.max_epochs=1"]
    )
    assert functional_network.main() == 0
    (arguments,) = asked
    assert arguments[1:] == ["--out", str(tmp_path / "out"), "trainer.max_epochs=1", "--data-dir", "d"]
    found = (tmp_path / "out" / "RESULTS.md").read_text()
    assert found.strip() in capsys.readouterr().out
    assert "none (4)" in found  # the one that failed is none of them
