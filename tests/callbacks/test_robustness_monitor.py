"""Clean and attacked accuracy on the probe, while a real trainer trains."""

import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from small_models import (
    CLASSES,
    FEATURES,
    DictNet,
    Ledger,
    Net,
    keys_of,
    loader,
    logits_of_dict,
    points,
    record,
    robustness_monitor,
    trainer,
    values,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from experiments.data import DataModule
from experiments.models import Classifier
from fnet_callbacks import FnetError, FnetWarning, Monitor
from fnet_callbacks.findings import as_findings

MEAN, STD = 0.4, 0.25


def fit(folder: Path, *monitors: pl.Callback, model: Any = None, data: Any = None, **options: Any) -> Ledger:
    ledger = Ledger()
    validation = loader(32, seed=1) if data is None else data
    trainer(folder, *monitors, logger=ledger, **options).fit(model or Net(), data or loader(), validation)
    return ledger


def last(ledger: Ledger, key: str) -> float:
    return list(values(ledger, key).values())[-1]


def test_pgd_is_stronger_than_fgsm_and_both_than_nothing_on_trained_digits(tmp_path: Path) -> None:
    pl.seed_everything(0, verbose=False)
    model = Classifier("mlp", hidden=[64, 64], lr=3e-3, input_shape=(1, 8, 8), num_classes=10)
    monitor = robustness_monitor(30, epsilons=[0.05, 0.1], steps=10)
    ledger = Ledger()
    trainer(tmp_path, monitor, logger=ledger, max_epochs=4).fit(model, DataModule("digits"))
    clean = last(ledger, "robust/clean_accuracy")
    assert clean > 0.9
    for epsilon in ("0.05", "0.1"):
        fgsm, pgd = (last(ledger, f"robust/{attack}_{epsilon}_accuracy") for attack in ("fgsm", "pgd"))
        assert pgd < fgsm < clean
        assert last(ledger, f"robust/pgd_{epsilon}_zero_gradients") < 0.05
    assert last(ledger, "robust/pgd_0.1_accuracy") < last(ledger, "robust/pgd_0.05_accuracy")


def test_clean_accuracy_is_that_of_validation(tmp_path: Path) -> None:
    monitor = robustness_monitor(8, probe_size=32)
    fitted = trainer(tmp_path, monitor, max_epochs=3)
    fitted.fit(Net(), loader(), loader(32, seed=1))
    metrics = fitted.callback_metrics
    assert metrics["robust/clean_accuracy"] == pytest.approx(float(metrics["val_accuracy"]))


class MeasuresInValidation(pl.Callback):
    """Shows the probe to an instrument at the end of validation, where gradients are off."""

    def __init__(self, monitor: Monitor, *, inference_mode: bool) -> None:
        self.monitor = monitor
        self.inference_mode = inference_mode
        self.found: list[dict[str, float]] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        engine = self.monitor._engine
        if trainer.sanity_checking or engine is None:
            return
        assert not torch.is_grad_enabled()
        with torch.inference_mode(self.inference_mode), torch.no_grad():
            (entry,) = engine._entries
            ((_, arrays),) = engine._passes.show([entry], engine.step)
            assert entry.analysis is not None
            self.found.append(dict(as_findings(entry.analysis.analyze(arrays), entry.name).scalars))


@pytest.mark.parametrize("inference_mode", [True, False])
@pytest.mark.parametrize("net", ["mlp", "gru"])
def test_attacks_find_the_same_within_validation(tmp_path: Path, inference_mode: bool, net: str) -> None:
    monitor = robustness_monitor(8)
    look = MeasuresInValidation(monitor, inference_mode=inference_mode)
    model = Net(Gru() if net == "gru" else None)
    ledger = fit(tmp_path, monitor, look, model=model, max_epochs=2)
    assert len(look.found) == 2
    for step, found in zip((8, 16), look.found, strict=True):
        for key, value in found.items():
            assert value == values(ledger, key)[step], key


class Gru(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, 12, batch_first=True)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x[:, None])[0][:, -1])


class Masked(Net):
    """Sees its input in black and white: right on it, and without a gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x > 0.5).float())


def test_gradient_masking_is_warned_of_once(tmp_path: Path) -> None:
    with pytest.warns(FnetWarning) as caught:
        ledger = fit(tmp_path, robustness_monitor(2), model=Masked(), max_epochs=2)
    messages = [str(w.message) for w in caught if issubclass(w.category, FnetWarning)]
    assert len(messages) == 1
    assert "masked gradients" in messages[0]
    assert "gradients are zero on 100% of the inputs" in messages[0]
    assert set(values(ledger, "robust/pgd_0.1_zero_gradients").values()) == {1.0}


def test_pgd_weaker_than_fgsm_is_a_sign_of_masking_and_reported_as_it_is(tmp_path: Path) -> None:
    # A step of 1e-6 leads nowhere: what a PGD looks like that gradients mislead.
    monitor = robustness_monitor(
        8, epsilons=[0.3], steps=1, step_size=1e-6, random_start=False, on_error="warn"
    )
    with pytest.warns(FnetWarning, match=r"pgd_0.3_accuracy overstates.*PGD .* is weaker than FGSM"):
        ledger = fit(tmp_path, monitor, max_epochs=6)
    assert last(ledger, "robust/pgd_0.3_accuracy") == last(ledger, "robust/clean_accuracy")
    assert last(ledger, "robust/fgsm_0.3_accuracy") < last(ledger, "robust/clean_accuracy")


def test_an_honest_network_is_not_accused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FnetWarning)
        fit(tmp_path, robustness_monitor(8, steps=5), max_epochs=4)


@pytest.mark.parametrize("scale, shift", [(2.0, 0.0), (1.0, -0.1)])
def test_inputs_that_leave_the_bounds_stop_the_run_before_its_first_step(
    tmp_path: Path, scale: float, shift: float
) -> None:
    inputs, labels = points().tensors
    data = DataLoader(TensorDataset(inputs * scale + shift, labels), batch_size=8)
    fitted = trainer(tmp_path, robustness_monitor(on_error="warn"))
    with pytest.raises(FnetError, match=r"bounds are \(0.0, 1.0\) but the raw inputs span"):
        fitted.fit(Net(), data)
    assert fitted.global_step == 0


def normalized() -> DataLoader:
    inputs, labels = points().tensors
    return DataLoader(TensorDataset((inputs - MEAN) / STD, labels), batch_size=8)


class Raw(Net):
    """Undoes the normalisation, so that it is the raw inputs' network."""

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x * STD + MEAN)


def test_epsilons_are_in_input_space_where_inputs_are_normalized(tmp_path: Path) -> None:
    def run(model: Net, data: DataLoader, **options: Any) -> Ledger:
        torch.manual_seed(0)
        for p in model.parameters():
            nn.init.normal_(p, std=0.5)
        monitor = robustness_monitor(8, epsilons=[0.05], **options)
        return fit(tmp_path, monitor, model=model, data=data, max_epochs=4)

    raw = run(Net(), loader())
    same = run(Raw(), normalized(), normalize=(MEAN, STD))
    keys = ["robust/clean_accuracy", "robust/fgsm_0.05_accuracy", "robust/pgd_0.05_accuracy"]
    for key in keys:
        assert list(values(same, key).values()) == pytest.approx(list(values(raw, key).values()), abs=0.04)
    assert last(raw, keys[1]) < last(raw, keys[0])


def test_a_forward_that_returns_a_dict_needs_output_to_logits(tmp_path: Path) -> None:
    fitted = trainer(tmp_path, robustness_monitor(on_error="warn"))
    with pytest.raises(FnetError, match="returns a dict; pass `output_to_logits`"):
        fitted.fit(DictNet(), loader())
    assert fitted.global_step == 0


@pytest.mark.parametrize("output_to_logits", [logits_of_dict, "small_models.logits_of_dict"])
def test_output_to_logits_is_a_callable_or_its_dotted_path(tmp_path: Path, output_to_logits: Any) -> None:
    ledger = fit(tmp_path, robustness_monitor(8, output_to_logits=output_to_logits), model=DictNet())
    assert 0 <= last(ledger, "robust/pgd_0.1_accuracy") <= last(ledger, "robust/clean_accuracy") <= 1


def negative_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """A loss of the user's own, by its dotted path."""
    return logits.logsumexp(1) - logits.gather(1, labels[:, None])[:, 0]


@pytest.mark.parametrize("loss", [negative_margin, "torch.nn.functional.cross_entropy"])
def test_the_loss_is_a_callable_or_its_dotted_path(tmp_path: Path, loss: Any) -> None:
    ledger = fit(tmp_path, robustness_monitor(8, loss=loss), max_epochs=3)
    plain = fit(tmp_path, robustness_monitor(8), max_epochs=3)
    assert last(ledger, "robust/fgsm_0.1_accuracy") <= last(ledger, "robust/clean_accuracy")
    assert values(ledger, "robust/clean_accuracy").keys() == values(plain, "robust/clean_accuracy").keys()


def test_labels_missing_stop_the_run_before_its_first_step(tmp_path: Path) -> None:
    class Unlabelled(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self(batch[0]).square().mean()

    fitted = trainer(tmp_path, robustness_monitor(on_error="warn"))
    data = DataLoader(TensorDataset(points().tensors[0]), batch_size=8)
    with pytest.raises(FnetError, match=r"no labels in the probe.*`batch_to_labels`"):
        fitted.fit(Unlabelled(), data)
    assert fitted.global_step == 0


def test_inputs_that_are_no_floating_point_tensor_are_refused(tmp_path: Path) -> None:
    class Tokens(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.float())

    inputs, labels = points().tensors
    data = DataLoader(TensorDataset((inputs * 9).long(), labels), batch_size=8)
    with pytest.raises(FnetError, match=r"floating-point inputs, these are torch.int64.*`batch_to_inputs`"):
        trainer(tmp_path, robustness_monitor()).fit(Tokens(), data)


def test_keys_name_the_attack_and_its_epsilon(tmp_path: Path) -> None:
    monitor = robustness_monitor(8, name="adv", attacks=["pgd"], epsilons=[8 / 255, 0.5])
    ledger = fit(tmp_path, monitor)
    keys = {k for _, m in ledger.rows for k in m if k.startswith(("adv", "monitor_cost"))}
    measured = {
        "adv/clean_accuracy",
        *(f"adv/pgd_{e}_{what}" for e in ("0.03137", "0.5") for what in ("accuracy", "zero_gradients")),
    }
    parts = ("clean", "probe", "pgd", "analysis", "output", "total", "training_thread", "worker")
    assert keys == {*measured, *(f"monitor_cost/adv/{part}" for part in parts)}
    assert keys_of(record(tmp_path)) == measured


def test_l2_and_restarts_are_carried_through(tmp_path: Path) -> None:
    monitor = robustness_monitor(8, norm="l2", epsilons=[0.3], restarts=2, steps=3)
    ledger = fit(tmp_path, monitor, max_epochs=4)
    assert last(ledger, "robust/pgd_0.3_accuracy") < last(ledger, "robust/clean_accuracy")


def test_bounds_far_wider_than_the_inputs_are_pointed_out(tmp_path: Path) -> None:
    with pytest.warns(FnetWarning, match=r"a fraction of `bounds=\(0.0, 255.0\)`"):
        trainer(tmp_path, robustness_monitor(bounds=(0.0, 255.0))).fit(Net(), loader())
