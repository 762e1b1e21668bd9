"""When snapshots are taken, what their steps are, and who acts on their values."""

import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from small_models import (
    Ledger,
    Net,
    TwoOptimizers,
    functional_monitor,
    loader,
    mlp,
    monitor,
    network,
    record,
    robustness,
    trainer,
    values,
)

from fnet_callbacks import (
    FnetWarning,
    FunctionalCodes,
    Instrument,
    Lesions,
    LocalSpecialization,
    Monitor,
    Quantity,
    ReLURegions,
    read_record,
)

KEY = "fnet/mean_abs_correlation"


def fit(
    folder: Path, *callbacks: pl.Callback, model: pl.LightningModule | None = None, **options: Any
) -> Ledger:
    ledger = Ledger()
    trainer(folder, *callbacks, logger=ledger, **options).fit(model or Net(), loader(), loader(16, seed=1))
    return ledger


def fast(every_n_steps: int = 3, **options: Any) -> Monitor:
    return functional_monitor(every_n_steps, **{"measures": "fast", "layer_measures": [], **options})


class Series(Instrument):
    """Measures nothing; its values are those of a series."""

    quantities = (Quantity("value", "value", "A value."),)

    def __init__(self, series: list[float]) -> None:
        super().__init__(name="series")
        self.series = series
        self.steps: list[int] = []

    def prepare(self, forward: Any, probe: Any) -> None:
        pass

    def analyze(self, arrays: Any) -> dict[str, float]:
        self.steps.append(self.context.step)
        return {"value": self.series[min(len(self.steps), len(self.series)) - 1]}


def test_snapshots_come_before_the_first_step_at_each_multiple_and_after_the_last(tmp_path: Path) -> None:
    assert fit(tmp_path, fast(3)).steps_of(KEY) == [0, 3, 6, 8]


def test_a_last_step_on_the_schedule_is_measured_once(tmp_path: Path) -> None:
    assert fit(tmp_path, fast(4)).steps_of(KEY) == [0, 4, 8]


def test_instruments_keep_their_own_schedules_and_share_the_ends(tmp_path: Path) -> None:
    ledger = fit(tmp_path, monitor(100, network(every_n_steps=3), robustness(5)))
    assert ledger.steps_of(KEY) == [0, 3, 6, 8]
    assert ledger.steps_of("robust/clean_accuracy") == [0, 5, 8]
    shared = [metrics for step, metrics in ledger.rows if step == 8 and KEY in metrics]
    assert "robust/clean_accuracy" in shared[0]


def test_instruments_without_a_schedule_take_multiples_of_the_monitors(tmp_path: Path) -> None:
    instruments = [
        network(measures=["n_neurons"], layer_measures=[]),
        robustness(None, attacks=["fgsm"]),
        Lesions(points=3),
        ReLURegions(lines=2),
        FunctionalCodes(),
        LocalSpecialization(k=2, references=3, shuffles=2),
    ]
    watching = monitor(1, *instruments, probe_size=16, on_error="warn")
    trainer(tmp_path, watching).fit(Net(mlp(12, 8)), loader(103 * 8))
    found = record(tmp_path)
    steps: dict[str, list[int]] = {}
    for snapshot in found.snapshots:
        for name in {found.manifest["keys"].get(key, [""])[0] for key in snapshot.scalars}:
            steps.setdefault(name, []).append(snapshot.step)
    assert steps["fnet"] == list(range(104))
    tenth = [*range(0, 101, 10), 103]
    assert {name: steps[name] for name in ("robust", "lesion", "regions", "codes")} == dict.fromkeys(
        ("robust", "lesion", "regions", "codes"), tenth
    )
    assert steps["specialization"] == [0, 100, 103]
    settings = found.manifest["instruments"]
    intervals = {name: own["every_n_steps"] for name, own in settings.items()}
    assert intervals == {
        "fnet": 1, "robust": 10, "lesion": 10, "regions": 10, "codes": 10, "specialization": 100,
    }  # fmt: skip


def test_a_multiple_of_a_logarithmic_schedule_is_each_tenth_of_its_steps(tmp_path: Path) -> None:
    watching = monitor("log", network(measures=["n_neurons"]), robustness(None, attacks=["fgsm"]))
    ledger = fit(tmp_path, watching, max_epochs=2)
    assert ledger.steps_of("fnet/n_neurons") == [0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 16]
    assert ledger.steps_of("robust/clean_accuracy") == [0, 1, 10, 16]


def test_steps_are_batches_that_stepped_under_accumulation(tmp_path: Path) -> None:
    # Eight batches are steps after the third and the sixth, and one at the end of the epoch.
    ledger = fit(tmp_path, fast(1), accumulate_grad_batches=3, max_epochs=2)
    assert ledger.steps_of(KEY) == [0, 1, 2, 3, 4, 5, 6]


def test_two_optimisers_in_one_batch_are_one_step(tmp_path: Path) -> None:
    fitted = trainer(tmp_path, watching := fast(4), logger=(ledger := Ledger()))
    fitted.fit(TwoOptimizers(), loader())
    assert fitted.global_step == 16
    assert ledger.steps_of(KEY) == [0, 4, 8]
    assert watching.state_dict()["step"] == 8


def test_a_batch_that_steps_no_optimiser_is_no_step(tmp_path: Path) -> None:
    class EverySecond(TwoOptimizers):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            if batch_idx % 2:
                super().training_step(batch, batch_idx)

    assert fit(tmp_path, fast(1), model=EverySecond()).steps_of(KEY) == [0, 1, 2, 3, 4]


def test_several_closures_of_lbfgs_are_one_step(tmp_path: Path) -> None:
    class Lbfgs(Net):
        def configure_optimizers(self) -> Any:
            return torch.optim.LBFGS(self.parameters(), lr=1e-2, max_iter=3)

    for source in ("probe", "train"):
        ledger = fit(tmp_path, fast(4, source=source), model=Lbfgs())
        assert ledger.steps_of(KEY) == [0, 4, 8]


def test_an_epoch_cut_by_max_steps_ends_with_a_snapshot(tmp_path: Path) -> None:
    assert fit(tmp_path, fast(4), max_epochs=-1, max_steps=13).steps_of(KEY) == [0, 4, 8, 12, 13]


def test_steps_go_on_over_epochs(tmp_path: Path) -> None:
    assert fit(tmp_path, fast(6), max_epochs=3).steps_of(KEY) == [0, 6, 12, 18, 24]


def test_nothing_is_measured_in_the_sanity_check_or_in_validation(tmp_path: Path) -> None:
    class Order(pl.Callback):
        def __init__(self) -> None:
            self.at_sanity_end: list[Any] = []

        def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
            self.at_sanity_end = [*trainer.loggers[0].steps_of("series/value"), "looked"]

    order = Order()
    ledger = fit(tmp_path, monitor(2, Series([1.0])), order, num_sanity_val_steps=2)
    assert order.at_sanity_end == ["looked"]
    assert ledger.steps_of("series/value") == [0, 2, 4, 6, 8]


def test_without_a_sanity_check_the_probe_is_still_of_the_validation_data(tmp_path: Path) -> None:
    fitted = trainer(tmp_path, fast(8), num_sanity_val_steps=0)
    fitted.fit(Net(), loader(), loader(16))
    assert record(tmp_path).manifest["probe"]["n_samples"] == 16


def test_a_fit_without_training_measures_nothing(tmp_path: Path) -> None:
    fitted = trainer(tmp_path, fast(1))
    fitted.validate(Net(), loader(), verbose=False)
    assert not [k for k in fitted.callback_metrics if k.startswith("fnet")]
    assert not list(tmp_path.rglob("manifest.json"))


def test_fast_dev_run_measures_and_writes_nothing(tmp_path: Path) -> None:
    fitted = trainer(tmp_path, monitor(1, network(), robustness(1), figures="log"), fast_dev_run=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FnetWarning)
        fitted.fit(Net(), loader(), loader(16))
    assert fitted.callback_metrics["monitor/step"] == 1
    assert not list(tmp_path.rglob("*"))


def test_without_a_logger_the_record_goes_below_the_root_dir(tmp_path: Path) -> None:
    for _ in range(2):
        trainer(tmp_path, fast(4)).fit(Net(), loader())
    records = [read_record(p.parent) for p in tmp_path.rglob("manifest.json")]
    assert [r.steps for r in records] == [[0, 4, 8]] * 2
    assert {r.folder.parents[1] for r in records} == {tmp_path}
    assert {r.folder.name for r in records} == {"fnet"}


def test_several_loggers_get_the_same_values_and_the_first_holds_the_record(tmp_path: Path) -> None:
    first, second = Ledger(), Ledger()
    loggers = [TensorBoardLogger(tmp_path, name="tb"), CSVLogger(tmp_path, name="csv"), first, second]
    trainer(tmp_path, fast(4), logger=loggers).fit(Net(), loader())
    assert values(first, KEY) == values(second, KEY)
    assert list(values(first, KEY)) == [0, 4, 8]
    found = read_record(tmp_path / "tb" / "version_0" / "fnet")
    assert found.series(KEY).tolist() == list(values(first, KEY).values())


def test_early_stopping_acts_on_a_value_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    stop = EarlyStopping(monitor="series/value", patience=1, mode="min", check_on_train_epoch_end=False)
    ledger = fit(tmp_path, monitor(2, Series([3.0, 2.0, 2.5, 2.5])), stop, val_check_interval=2, max_epochs=5)
    # Validation after the steps 2 (best), 4 (one worse) and no further.
    assert ledger.steps_of("series/value") == [0, 2, 4]
    assert stop.best_score == 2.0


def test_early_stopping_acts_on_a_measure_of_the_network(tmp_path: Path) -> None:
    stop = EarlyStopping(monitor="fnet/functional_persistence", patience=0, min_delta=1e9, mode="min")
    ledger = fit(tmp_path, functional_monitor(4), stop, max_epochs=9)
    assert ledger.steps_of("fnet/functional_persistence") == [0, 4, 8, 12, 16]
    assert stop.stopped_epoch == 1


def test_checkpoints_are_chosen_and_named_by_a_measure(tmp_path: Path) -> None:
    checkpoints = ModelCheckpoint(
        dirpath=tmp_path,
        monitor="fnet/functional_persistence",
        mode="max",
        save_top_k=1,
        filename="{step}-{fnet/functional_persistence:.4f}",
        auto_insert_metric_name=False,
        every_n_train_steps=2,
    )
    # In the callbacks' list before the monitor, to see that the order does not matter.
    ledger = fit(tmp_path, checkpoints, functional_monitor(2))
    found = values(ledger, "fnet/functional_persistence")
    best = max((step for step in found if step), key=lambda step: found[step])
    assert checkpoints.best_model_score is not None
    assert float(checkpoints.best_model_score) == pytest.approx(found[best])
    assert (tmp_path / f"{best}-{found[best]:.4f}.ckpt").exists()


def test_a_measure_is_there_at_the_first_validation_and_after_the_fit(tmp_path: Path) -> None:
    class Look(pl.Callback):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
            if not trainer.sanity_checking:
                self.seen.append(float(trainer.callback_metrics["monitor/step"]))

    look = Look()
    fitted = trainer(tmp_path, look, fast(3), val_check_interval=1, max_epochs=1)
    fitted.fit(Net(), loader(), loader(16))
    assert look.seen == [0, 0, 3, 3, 3, 6, 6, 6]
    assert fitted.callback_metrics["monitor/step"] == 8


def test_transfer_hooks_see_validation_and_not_training_during_a_snapshot(tmp_path: Path) -> None:
    stages: list[str] = []

    class Augments(Net):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            stages.append("augments" if self.trainer.training else "leaves")
            return batch

    fitted = trainer(tmp_path, fast(1), limit_val_batches=0, enable_checkpointing=False)
    fitted.fit(Augments(), loader(), loader(16))
    assert stages.count("augments") == 8
    assert stages.count("leaves") > 9


def test_a_second_trainer_starts_again_from_step_0(tmp_path: Path) -> None:
    watching = fast(4)
    assert fit(tmp_path / "a", watching).steps_of(KEY) == [0, 4, 8]
    assert fit(tmp_path / "b", watching).steps_of(KEY) == [0, 4, 8]
