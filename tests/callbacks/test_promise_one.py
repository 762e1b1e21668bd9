"""Training is not touched: everything is bit-equal with and without the monitor."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from small_models import (
    CLASSES,
    FEATURES,
    Ledger,
    Net,
    TwoOptimizers,
    functional_monitor,
    loader,
    monitor,
    network,
    robustness,
    trainer,
)
from torch import Tensor, nn
from training_trace import Trace, assert_same, is_ours

from fnet_callbacks import (
    FunctionalCodes,
    FunctionalNetwork,
    Instrument,
    Lesions,
    LocalSpecialization,
    Monitor,
    ReLURegions,
)

# Lightning, of the frozen BatchNorm.
pytestmark = pytest.mark.filterwarnings("ignore:Found 1 module.s. in eval mode at the start of training")


class FrozenNormCnn(nn.Module):
    """A BatchNorm that stays in eval mode while the rest trains, and one that does not; in-place activations."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.frozen = nn.BatchNorm2d(6)
        self.first = nn.ReLU(inplace=True)
        self.second_conv = nn.Conv2d(6, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.ReLU(inplace=True)
        self.head = nn.Linear(8, CLASSES)
        self.frozen.eval()

    def train(self, mode: bool = True) -> "FrozenNormCnn":
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.frozen(self.conv(x)))
        return self.head(self.second(self.norm(self.second_conv(x))).mean((2, 3)))


class OwnNoise(nn.Module):
    """Draws from a generator of its own, in eval mode too, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU())
        self.head = nn.Linear(16, CLASSES)
        self.generator = torch.Generator().manual_seed(3)
        self.calls = 0
        self.history: list[float] = []
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen += len(x)
        hidden = self.body(x)
        hidden = hidden + 0.1 * torch.randn(hidden.shape, generator=self.generator)
        hidden = hidden + 0.01 * torch.rand(()) + 0.01 * random.random() + 0.01 * np.random.rand()  # noqa: NPY002
        self.history.append(float(hidden.detach().mean()))
        return self.head(hidden)


class Gru(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 12, num_layers=2, batch_first=True, dropout=0.2)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0][:, -1])


def dropout_mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, CLASSES)
    )


MODELS: dict[str, tuple[Callable[[], nn.Module], Sequence[int]]] = {
    "mlp with dropout and batch norm": (dropout_mlp, (FEATURES,)),
    "cnn with a frozen batch norm": (FrozenNormCnn, (1, 4, 4)),
    "own generator": (OwnNoise, (FEATURES,)),
    "gru": (Gru, (4, 2)),
}


def run(
    folder: Path, model: Callable[[], Any], shape: Sequence[int], watched: list[Monitor], **options: Any
) -> Any:
    pl.seed_everything(0, verbose=False)
    trace, ledger = Trace(), Ledger()
    fit = trainer(
        folder,
        trace,
        *watched,
        logger=ledger,
        max_epochs=2,
        log_every_n_steps=2,
        val_check_interval=4,
        gradient_clip_val=options.pop("gradient_clip_val", 0.5),
        **options,
    )
    fit.fit(model(), loader(shape=shape), loader(32, shape=shape, seed=1))
    logged = [(step, {k: v for k, v in m.items() if not is_ours(k)}) for step, m in ledger.rows]
    return trace.lines, [(step, metrics) for step, metrics in logged if metrics], ledger


def assert_untouched(
    folder: Path, model: Callable[[], Any], shape: Sequence[int], source: str, **options: Any
) -> None:
    watching = monitor(2, network(source=source, measures="fast"), robustness(3))
    bare, bare_log, _ = run(folder / "bare", model, shape, [], **options)
    watched, watched_log, ledger = run(folder / "watched", model, shape, [watching], **options)
    assert len(bare) > 20
    assert_same(bare, watched)
    assert watched_log == bare_log
    assert {"train_loss", "train_accuracy", "val_accuracy"} <= {
        k.removesuffix("_step") for _, m in bare_log for k in m
    }
    assert ledger.steps_of("fnet/modularity")[:2] == [0, 2]  # there was something to be touched by
    assert ledger.steps_of("robust/pgd_0.1_accuracy")[:2] == [0, 3]


@pytest.mark.parametrize("source", ["probe", "train"])
@pytest.mark.parametrize("name", MODELS)
def test_training_is_bit_equal_with_and_without_the_monitor(tmp_path: Path, name: str, source: str) -> None:
    make, shape = MODELS[name]
    assert_untouched(tmp_path, lambda: Net(make()), shape, source)


@pytest.mark.parametrize("source", ["probe", "train"])
@pytest.mark.parametrize("name", MODELS)
def test_gradients_in_the_middle_of_accumulation_are_bit_equal(
    tmp_path: Path, name: str, source: str
) -> None:
    make, shape = MODELS[name]
    assert_untouched(tmp_path, lambda: Net(make()), shape, source, accumulate_grad_batches=3)


@pytest.mark.parametrize("name", MODELS)
def test_all_instruments_at_once_leave_training_bit_equal(tmp_path: Path, name: str) -> None:
    make, shape = MODELS[name]
    instruments: list[Instrument] = [
        network(),
        FunctionalNetwork(name="fnet_live", source="train", measures="fast"),
        robustness(4),
        Lesions(every_n_steps=4, points=2),
        LocalSpecialization(
            every_n_steps=3,
            graph="activations",
            k=2,
            shuffles=2,
            visualization_steps=2,
            replacement="resample",
        ),
        FunctionalCodes(every_n_steps=2, epsilon=0.1, bounds=(0.0, 1.0), maxima=True),
    ]
    is_piecewise_linear = name not in ("gru", "own generator")
    if is_piecewise_linear:
        instruments.append(ReLURegions(every_n_steps=2, lines=2, epsilon=0.1, bounds=(0.0, 1.0)))
    watching = monitor(2, *instruments, probe_size=32, on_error="warn", figures="log")
    bare, bare_log, _ = run(tmp_path / "bare", lambda: Net(make()), shape, [])
    watched, watched_log, ledger = run(tmp_path / "watched", lambda: Net(make()), shape, [watching])
    assert_same(bare, watched)
    assert watched_log == bare_log
    assert ledger.steps_of("fnet/modularity")[:2] == ledger.steps_of("fnet_live/modularity")[:2] == [0, 2]
    assert ledger.steps_of("robust/clean_accuracy")[:2] == [0, 4]
    assert ledger.steps_of("lesion/clean_accuracy")[:2] == [0, 4]
    assert ledger.steps_of("specialization/ncut")[:2] == [0, 3]
    assert ledger.steps_of("codes/01/used_units")[:2] == [0, 2]
    assert not is_piecewise_linear or ledger.steps_of("regions/n_patterns")[:2] == [0, 2]


@pytest.mark.parametrize("source", ["probe", "train"])
def test_two_optimisers_are_bit_equal(tmp_path: Path, source: str) -> None:
    assert_untouched(tmp_path, TwoOptimizers, (FEATURES,), source, gradient_clip_val=None)


def test_the_trace_sees_one_draw_of_a_random_number(tmp_path: Path) -> None:
    class Draws(pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            torch.rand(1)

    bare, _, _ = run(tmp_path, lambda: Net(dropout_mlp()), (FEATURES,), [])
    disturbed, _, _ = run(tmp_path, lambda: Net(dropout_mlp()), (FEATURES,), [Draws()])
    assert bare != disturbed


def test_a_frozen_batch_norm_stays_frozen_and_its_neighbour_does_not(tmp_path: Path) -> None:
    cnn = FrozenNormCnn()
    assert cnn.frozen.running_mean is not None
    before = cnn.frozen.running_mean.clone()
    trainer(tmp_path, functional_monitor()).fit(Net(cnn), loader(shape=(1, 4, 4)))
    assert not cnn.frozen.training
    assert torch.equal(cnn.frozen.running_mean, before)
    assert cnn.norm.training
    assert int(cnn.norm.num_batches_tracked or 0) == 8


def test_two_runs_of_one_seed_measure_the_same(tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        watching = monitor(2, network(layer_measures=[]), robustness())
        ledger = run(tmp_path, lambda: Net(dropout_mlp()), (FEATURES,), [watching])[2]
        found.append(
            [(s, {k: v for k, v in m.items() if is_ours(k) and "cost" not in k}) for s, m in ledger.rows]
        )
    np.testing.assert_equal(found[0], found[1])


class Momentum(nn.Module):
    """A key encoder that follows the query encoder within forward."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = dropout_mlp(), dropout_mlp()
        self.state = (torch.zeros(FEATURES),)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.state[0].mul_(0.9).add_(0.1 * x.mean(0))
            for q, k in zip(self.query.parameters(), self.key.parameters(), strict=True):
                k.data = 0.9 * k.data + 0.1 * q.data
        return self.query(x - self.state[0]) + self.key(x).detach()


@pytest.mark.parametrize("source", ["probe", "train"])
def test_training_of_a_model_that_writes_to_weights_in_forward_is_bit_equal(
    tmp_path: Path, source: str
) -> None:
    assert_untouched(tmp_path, lambda: Net(Momentum()), (FEATURES,), source)


class Augmenting(pl.LightningDataModule):
    """Draws from a generator of its own, counts and averages in its transfer hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(1)
        self.calls, self.mean = 0, torch.zeros(FEATURES)

    def train_dataloader(self) -> Any:
        return loader()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.calls += 1
        self.mean.mul_(0.9).add_(batch[0].mean(0))
        noise = torch.randn(batch[0].shape, generator=self.generator)
        return batch[0] + 0.1 * noise - 0.01 * self.mean, batch[1]


def test_what_a_data_module_keeps_in_its_transfer_hooks_is_as_it_was(tmp_path: Path) -> None:
    def fit(*watching: Monitor) -> tuple[Any, Augmenting]:
        pl.seed_everything(0, verbose=False)
        net, data = Net(), Augmenting()
        trainer(tmp_path, *watching, max_epochs=2).fit(net, datamodule=data)
        return net.state_dict(), data

    (bare, alone), (watched, beside) = fit(), fit(functional_monitor(2, measures="fast"))
    assert all(torch.equal(bare[k], watched[k]) for k in bare)
    assert (alone.calls, beside.calls) == (16, 16)
    assert torch.equal(alone.mean, beside.mean)
