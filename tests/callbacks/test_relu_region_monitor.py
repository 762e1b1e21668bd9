"""The instrument of linear regions: its numbers on a finished model, and what it leaves untouched."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import seed_everything
from small_models import BareNet, Net, keys_of, loader, mlp, monitor_of, record, trainer
from torch import Tensor, nn

from fnet_callbacks import CaptureError, FnetError, Monitor, ReLURegions, relu_regions
from fnet_callbacks.attacks import fgsm
from fnet_callbacks.instruments.relu_regions import _pairs
from fnet_callbacks.regions.walk import count_crossings


def monitor(**options: Any) -> Monitor:
    return monitor_of(ReLURegions, **{"probe_size": 64, "lines": 8, **options})


def fit(folder: Path, *monitors: Monitor, model: Any = None, epochs: int = 2) -> Any:
    seed_everything(3)
    model = Net() if model is None else model
    trainer(folder, *monitors, max_epochs=epochs).fit(model, loader(), loader(16))
    return model


def test_it_logs_what_the_function_finds_of_the_finished_model(tmp_path: Path) -> None:
    data = loader(64)
    watching = monitor(probe=data, epsilon=0.1, bounds=(0.0, 1.0))
    model = fit(tmp_path, watching).eval()
    inputs, labels = data.dataset.tensors
    found = relu_regions(model.net, inputs, targets=labels, min_members=1)
    snapshot = record(tmp_path).snapshots[-1]
    scalars = snapshot.scalars
    shares = found.sizes / 64
    assert scalars["regions/n_patterns"] == found.n_regions > 3
    assert scalars["regions/singleton_share"] == found.n_singletons / 64
    assert scalars["regions/pattern_entropy"] == pytest.approx(-(shares * np.log(shares)).sum() / np.log(64))
    assert scalars["regions/purity"] == pytest.approx((found.purity * shares).sum())
    layers = found.patterns.layers
    assert scalars["regions/dead_share"] == pytest.approx(sum(layer.dead for layer in layers) / 28)
    assert scalars["regions_layers/01/always_on_share"] == pytest.approx(layers[0].always_on / 16)
    arrays = record(tmp_path).arrays(snapshot.step)
    assert sorted(np.bincount(arrays["regions.region"])) == sorted(found.sizes)
    attacked = fgsm(model.net, inputs, labels, epsilon=0.1, bounds=(0.0, 1.0))
    moved = found.patterns.distances(relu_regions(model.net, attacked).patterns).mean() / 28
    assert scalars["regions/attacked_distance"] == pytest.approx(moved)
    own = {key for key in scalars if not key.startswith("monitor")}
    assert own == keys_of(record(tmp_path))


def test_lines_are_between_inputs_of_one_class_and_of_two(tmp_path: Path) -> None:
    data = loader(64)
    model = fit(tmp_path, monitor(probe=data, lines=200, max_crossings=500)).eval()
    scalars = record(tmp_path).snapshots[-1].scalars
    inputs, labels = data.dataset.tensors
    first, second = (places.flatten() for places in np.mgrid[:64, :64])
    crossings = count_crossings(model.net, inputs[first], inputs[second]).crossings
    same = labels.numpy()[first] == labels.numpy()[second]
    for kind, chosen in (("same", same & (first != second)), ("different", ~same)):
        expected, spread = crossings[chosen].mean(), crossings[chosen].std()
        assert abs(scalars[f"regions/crossings_{kind}"] - expected) < 5 * spread / np.sqrt(200)


def test_lines_of_a_large_model_are_estimated_unless_asked(tmp_path: Path, monkeypatch: Any) -> None:
    fit(tmp_path / "small", monitor())
    monkeypatch.setattr("fnet_callbacks.instruments.relu_regions._LARGE", 27)
    monkeypatch.setattr("fnet_callbacks.instruments.relu_regions._IN_WINDOW", 2)
    fit(tmp_path / "large", monitor())
    fit(tmp_path / "exact", monitor(exact=True))
    keys = ("regions/crossings_same", "regions/crossings_different")
    small, large, exact = (
        [record(tmp_path / folder).snapshots[-1].scalars[key] for key in keys]
        for folder in ("small", "large", "exact")
    )
    assert exact == small
    # Eight lines with four windows of 2 / 28 each: borders come in steps of 28 / 2 / 32.
    assert all(value % (28 / 2 / 32) == pytest.approx(0) for value in large)
    assert large != small


def test_training_is_not_touched(tmp_path: Path) -> None:
    watched = fit(tmp_path / "with", monitor(every_n_steps=4, epsilon=0.1, bounds=(0.0, 1.0)))
    bare = fit(tmp_path / "without")
    for ours, theirs in zip(watched.state_dict().values(), bare.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in watched.modules())


def test_the_last_patterns_are_carried_over_a_checkpoint(tmp_path: Path) -> None:
    fit(tmp_path / "whole", monitor(every_n_steps=4), epochs=2)
    seed_everything(3)
    fitted = trainer(tmp_path / "first", monitor(every_n_steps=4), max_epochs=1)
    fitted.fit(Net(), loader(), loader(16))
    fitted.save_checkpoint(tmp_path / "last.ckpt")
    resumed = trainer(tmp_path / "second", monitor(every_n_steps=4), max_epochs=2)
    resumed.fit(Net(), loader(), loader(16), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    series = record(tmp_path / "whole").series("regions/unchanged_share")
    np.testing.assert_array_equal(record(tmp_path / "second").series("regions/unchanged_share"), series)
    assert np.isnan(series[0])
    assert np.isfinite(series[1:]).all()


def test_without_labels_lines_are_between_any_two(tmp_path: Path) -> None:
    watching = monitor(batch_to_labels=lambda batch: None)
    fit(tmp_path, watching)
    scalars = record(tmp_path).snapshots[-1].scalars
    assert scalars["regions/crossings"] > 0
    assert "regions/purity" not in scalars
    with pytest.raises(FnetError, match="`epsilon` needs labels"):
        fit(tmp_path, monitor(batch_to_labels=lambda batch: None, epsilon=0.1, bounds=(0.0, 1.0)))


def test_a_model_that_is_not_piecewise_linear_is_named_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"net\.1 computes gelu, which is not piecewise linear"):
        fit(tmp_path, monitor(), model=Net(mlp(8, activation=nn.GELU)))


def test_a_part_of_the_module_may_be_called(tmp_path: Path) -> None:
    trainer(tmp_path, monitor(model="net"), max_epochs=1).fit(BareNet(), loader())
    assert record(tmp_path).snapshots[-1].scalars["regions_layers/01/dead_share"] >= 0


def test_of_many_classes_there_are_as_many_lines() -> None:
    classes = np.arange(300) // 2
    same = _pairs(classes, 16, 0, of_one_class=True)
    assert same.shape == (16, 2)
    assert (classes[same[:, 0]] == classes[same[:, 1]]).all()
    assert (same[:, 0] != same[:, 1]).all()
    different = _pairs(classes, 16, 0, of_one_class=False)
    assert (classes[different[:, 0]] != classes[different[:, 1]]).all()
    assert len(_pairs(np.arange(5), 4, 0, of_one_class=True)) == 0
    assert len(_pairs(np.zeros(5, int), 4, 0, of_one_class=False)) == 0


class Half(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x.flatten(1))


def test_mixed_precision_is_the_trainers(tmp_path: Path) -> None:
    seed_everything(3)
    made = trainer(tmp_path, monitor(), max_epochs=1, precision="bf16-mixed")
    made.fit(Half(), loader(), loader(16))
    assert record(tmp_path).snapshots[-1].scalars["regions/n_patterns"] > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lines": -1}, "`lines=-1`"),
        ({"max_crossings": 0}, "`max_crossings=0`"),
        ({"epsilon": 0.1}, "belong together"),
        ({"epsilon": 0.0, "bounds": (0.0, 1.0)}, "`epsilon=0.0`"),
        ({"bounds": (0.0, 1.0)}, "belong together"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(FnetError, match=message):
        ReLURegions(**arguments)
