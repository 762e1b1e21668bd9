"""Trainers as users have them: every instrument's numbers are there, at the steps that are due."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning import seed_everything
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    Callback,
    StochasticWeightAveraging,
    WeightAveraging,
)
from small_models import Net, loader, monitor, network, record, robustness, trainer
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fnet_callbacks import FunctionalCodes, Lesions, Monitor, ReLURegions

# Lightning's, of what these setups ask for.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


def watching() -> Monitor:
    return monitor(
        4,
        network(),
        robustness(4),
        Lesions(every_n_steps=4, points=3),
        FunctionalCodes(every_n_steps=4, epsilon=0.1, bounds=(0.0, 1.0)),
        ReLURegions(every_n_steps=4, lines=2),
        probe_size=32,
    )


KEYS = (
    *("fnet/modularity", "robust/clean_accuracy", "lesion/random_tolerance"),
    *("codes/01/quantization_error", "regions/purity"),
)


def fit(
    folder: Path,
    model: Any = None,
    *callbacks: Callback,
    feed: Callable[..., Any] | None = None,
    **options: Any,
) -> list[int]:
    """Steps of the snapshots of a fit, in each of which every instrument has its number."""
    seed_everything(0)
    fitted = trainer(folder, watching(), *callbacks, **{"max_epochs": 2, **options})
    (feed or (lambda t, m: t.fit(m, loader(), loader(16))))(fitted, model or Net())
    own = record(folder)
    for snapshot in own.snapshots:
        assert all(math.isfinite(snapshot.scalars[key]) for key in KEYS), snapshot.step
    return own.steps


@pytest.mark.filterwarnings(
    "ignore:You passed .*precision='16-mixed'.* AMP with fp16 is not supported on CPU"
)
@pytest.mark.parametrize("precision", ["64-true", "16-mixed", "bf16-mixed", "bf16-true"])
def test_precision_is_followed(tmp_path: Path, precision: str) -> None:
    assert fit(tmp_path, precision=precision) == [0, 4, 8, 12, 16]


class ByLbfgs(Net):
    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), max_iter=3)


class Checkpointed(Net):
    def forward(self, x: Tensor) -> Any:
        return checkpoint(self.net, x, use_reentrant=False)


def test_the_optimiser_may_be_called_with_a_closure_several_times(tmp_path: Path) -> None:
    assert fit(tmp_path, ByLbfgs()) == [0, 4, 8, 12, 16]


def test_activations_may_be_computed_again_for_the_gradient(tmp_path: Path) -> None:
    assert fit(tmp_path, Checkpointed()) == [0, 4, 8, 12, 16]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"accumulate_grad_batches": 3}, [0, 4, 6]),
        ({"gradient_clip_val": 0.5}, [0, 4, 8, 12, 16]),
        ({"max_steps": 6, "max_epochs": -1}, [0, 4, 6]),
        ({"limit_train_batches": 3, "limit_val_batches": 1}, [0, 4, 6]),
        ({"limit_train_batches": 0.5, "limit_val_batches": 0}, [0, 4, 8]),
        ({"val_check_interval": 3}, [0, 4, 8, 12, 16]),
        ({"overfit_batches": 2}, [0, 4]),
        ({"num_sanity_val_steps": 2}, [0, 4, 8, 12, 16]),
        ({"check_val_every_n_epoch": 2}, [0, 4, 8, 12, 16]),
    ],
)
def test_limits_and_intervals_are_the_trainers(
    tmp_path: Path, options: dict[str, Any], steps: list[int]
) -> None:
    assert fit(tmp_path, **options) == steps


def test_a_run_that_ends_by_the_clock_has_its_last_snapshot(tmp_path: Path) -> None:
    class Slow(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.steps = getattr(self, "steps", 0) + 1
            return super().training_step(batch, batch_idx)

    model = Slow()
    steps = fit(tmp_path, model, max_time="00:00:00:02", max_epochs=-1)
    assert steps[-1] == model.steps


@pytest.mark.parametrize(
    "callback", [lambda: StochasticWeightAveraging(1e-2, swa_epoch_start=1), WeightAveraging]
)
def test_averages_of_the_weights_may_be_kept(tmp_path: Path, callback: Callable[[], Callback]) -> None:
    assert fit(tmp_path, None, callback()) == [0, 4, 8, 12, 16]


class Combined(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch["a"], batch_idx)


def test_loaders_may_be_combined(tmp_path: Path) -> None:
    def feed(fitted: pl.Trainer, model: Any) -> None:
        fitted.fit(model, {"a": loader(), "b": loader(32)}, loader(16))

    assert fit(tmp_path, Combined(), feed=feed) == [0, 4, 8, 12, 16]


def test_no_validation_is_needed(tmp_path: Path) -> None:
    assert fit(tmp_path, feed=lambda t, m: t.fit(m, loader())) == [0, 4, 8, 12, 16]


class Scaled(pl.LightningDataModule):
    batch_size = 4

    def train_dataloader(self) -> Any:
        return loader(batch_size=self.batch_size)

    def val_dataloader(self) -> Any:
        return loader(16)


def test_the_batch_size_may_be_found_first(tmp_path: Path) -> None:
    data = Scaled()
    finder = BatchSizeFinder(max_trials=2, steps_per_trial=2)
    steps = fit(tmp_path, None, finder, feed=lambda t, m: t.fit(m, datamodule=data))
    assert steps[0] == 0
    assert steps[-1] == 2 * 64 // data.batch_size


class WithTest(Net):
    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)


@pytest.mark.parametrize("what", ["validate", "test"])
def test_nothing_is_measured_outside_of_training(tmp_path: Path, what: str) -> None:
    own = trainer(tmp_path, watching(), max_epochs=1)
    getattr(own, what)(WithTest(), loader(16), verbose=False)
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_monitor_may_be_used_in_two_fits(tmp_path: Path) -> None:
    own = watching()
    for name in ("first", "second"):
        seed_everything(0)
        trainer(tmp_path / name, own, max_epochs=1).fit(Net(), loader(), loader(16))
    first, second = (record(tmp_path / name) for name in ("first", "second"))
    assert first.steps == second.steps == [0, 4, 8]
    for key in KEYS:
        assert first.series(key).tolist() == second.series(key).tolist()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_values_do_not_depend_on_torchs_default_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    def values_under(default: torch.dtype, folder: Path) -> dict[str, float]:
        pl.seed_everything(0, verbose=False)
        net, data = Net(), loader()  # float32
        torch.set_default_dtype(default)
        try:
            trainer(folder, monitor(4, network(measures="fast"), robustness(4, norm="l2"))).fit(net, data)
        finally:
            torch.set_default_dtype(torch.float32)
        return dict(record(folder).snapshots[0].scalars)

    assert values_under(dtype, tmp_path / "other") == values_under(torch.float32, tmp_path / "usual")
