"""What acts on a value of ours acts on that of the last snapshot: checkpoints, and pruning of trials."""

import os
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import optuna
import pytest
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from processes import eventually, workers_of
from small_models import Net, fast, loader, record, trainer

KEY = "fnet/mean_abs_correlation"


@pytest.mark.parametrize("worker", ["inline", "process"])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_checkpoint_is_that_of_the_best_snapshot(tmp_path: Path, worker: str, mode: Any) -> None:
    checkpoints = ModelCheckpoint(tmp_path, "{step}", monitor=KEY, mode=mode, every_n_train_steps=4)
    trainer(tmp_path, fast(4, worker=worker), checkpoints, max_epochs=2).fit(Net(lr=0.05), loader())
    found = {s.step: s.scalars[KEY] for s in record(tmp_path).snapshots if s.step > 0}
    best = {"min": min, "max": max}[mode](found, key=found.__getitem__)
    assert len(set(found.values())) == len(found) == 4
    assert Path(checkpoints.best_model_path).name == f"step={best}.ckpt"
    assert float(checkpoints.best_model_score) == pytest.approx(found[best])  # type: ignore[arg-type]


class Pruning(Callback):
    """Tells Optuna a value at each end of an epoch, and stops the trial where that is behind."""

    def __init__(self, trial: optuna.Trial, key: str) -> None:
        self.trial, self.key = trial, key

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.trial.report(float(trainer.callback_metrics[self.key]), step=trainer.current_epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned


@pytest.mark.parametrize("is_last", [False, True], ids=["before the monitor", "behind it"])
def test_optuna_prunes_a_trial_that_is_behind(tmp_path: Path, is_last: bool) -> None:
    def objective(trial: optuna.Trial) -> float:
        pl.seed_everything(0, verbose=False)
        callbacks = [fast(4, worker="process"), Pruning(trial, KEY)]
        folder = tmp_path / str(trial.number)
        made = trainer(folder, *callbacks[:: 1 if is_last else -1], max_epochs=3)
        made.fit(Net(lr=trial.suggest_categorical("lr", [0.05, 1e-9])), loader())
        return float(made.callback_metrics[KEY])

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.GridSampler({"lr": [0.05, 1e-9]}),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=1),
    )
    for lr in (0.05, 1e-9):
        study.enqueue_trial({"lr": lr})
    study.optimize(objective, n_trials=2)
    assert [t.state.name for t in study.trials] == ["COMPLETE", "PRUNED"]
    for trial, epochs in zip(study.trials, (3, 1), strict=True):
        own = record(tmp_path / str(trial.number))
        at_ends = own.series(KEY)[[own.steps.index(8 * (epoch + 1)) for epoch in range(epochs)]]
        assert list(trial.intermediate_values.values()) == pytest.approx(at_ends.tolist())
    assert eventually(lambda: not workers_of(os.getpid()))  # also of the run that was left in the middle
