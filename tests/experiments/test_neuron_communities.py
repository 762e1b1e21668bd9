"""The study of communities and performance, on runs whose truth is known."""

import sys
from pathlib import Path

import pytest
from small_runs import write_run

from experiments import neuron_communities, sweep
from experiments.neuron_communities import relation, relations, told
from experiments.trials import read_sweep, write_state
from fnet_callbacks.compare.run import Run
from fnet_callbacks.compare.runs import read_runs
from fnet_callbacks.errors import FnetError


def runs(folder: Path, n: int = 5) -> list[Run]:
    for seed in range(n):
        write_run(folder / f"run{seed}", strength=0.8, seed=seed, steps=6)
    return list(read_runs([folder]).runs)


def test_a_measure_that_rises_with_accuracy_has_a_rho_of_1_within_runs(tmp_path: Path) -> None:
    found = relation(runs(tmp_path), "robust/pgd_0.03137_accuracy")
    assert found.within[0].mean == pytest.approx(1)
    assert found.within[1] == pytest.approx(2 / 2**5)  # five runs of one sign
    assert found.between[0].mean == pytest.approx(1)


def test_the_table_has_the_whole_network_before_its_layers(tmp_path: Path) -> None:
    own = runs(tmp_path)
    keys = [r.key for r in relations(own)]
    assert keys == ["fnet/modularity", "fnet/class_affinity", "fnet_layers/01/modularity"]
    rows = [line for line in told("mlp", own).splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(keys)
    assert "| modularity | 01 net.0 |" in rows[-1]


def test_runs_without_accuracy_are_told(tmp_path: Path) -> None:
    own = runs(tmp_path)
    for run in own:
        for snapshot in run.record.snapshots:
            snapshot.scalars.pop("robust/clean_accuracy")
    with pytest.raises(FnetError, match="none has robust/clean_accuracy"):
        relations(own)


def test_both_networks_are_trained_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for model in ("mlp", "cnn"):
        options = {"trainer.max_epochs": 1, **dict(map(sweep.option, neuron_communities.MODELS[model]))}
        for seed, trial in enumerate(read_sweep(neuron_communities.SWEEP, options)[:2]):
            folder = trial.folder(tmp_path / model)
            write_run(folder, strength=0.8, seed=seed)
            write_state(folder, "finished")
    asked: list[list[str]] = []
    monkeypatch.setattr(sweep, "main", lambda arguments: asked.append(arguments) or 0)
    monkeypatch.setattr(sys, "argv", ["x", "--out", str(tmp_path), "--workers", "1", "trainer.max_epochs=1"])
    assert neuron_communities.main() == 0
    assert [a[3] for a in asked] == ["model.model=mlp", "model.model=cnn"]
    assert all(a[-3:] == ["trainer.max_epochs=1", "--workers", "1"] for a in asked)
    assert (tmp_path / "RESULTS.md").read_text().strip() in capsys.readouterr().out
