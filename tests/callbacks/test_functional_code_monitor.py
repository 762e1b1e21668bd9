"""The instrument of functional codes: its numbers on a finished model, its figures, and what it leaves untouched."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from small_models import BareNet, DictNet, Net, keys_of, loader, mlp, monitor_of, network, record, trainer
from small_models import monitor as monitor_with
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from fnet_callbacks import FnetError, FnetWarning, FunctionalCodes, Monitor, functional_codes
from fnet_callbacks.codes.layer import LABEL_MEASURES, MEASURES


def monitor(**options: Any) -> Monitor:
    return monitor_of(FunctionalCodes, **{"probe_size": 64, **options})


def fit(folder: Path, *monitors: Monitor, model: Any = None, epochs: int = 2) -> Any:
    seed_everything(3)
    model = Net() if model is None else model
    trainer(folder, *monitors, max_epochs=epochs).fit(model, loader(), loader(16))
    return model


def test_it_logs_what_the_function_finds_of_the_finished_model(tmp_path: Path) -> None:
    data = loader(64)
    watching = monitor(probe=data, epsilon=0.1, bounds=(0.0, 1.0))
    model = fit(tmp_path, watching).eval()
    own = record(tmp_path)
    scalars, start = own.snapshots[-1].scalars, own.snapshots[0]
    assert {key for key in scalars if key.startswith("codes")} == keys_of(own)
    assert len(own.snapshots) == 2
    # Cold, of the model before training, which is the seed's.
    seed_everything(3)
    found = functional_codes(
        Net().net.eval(), [tuple(data.dataset.tensors)], epsilon=0.1, bounds=(0.0, 1.0), grid=(6, 6)
    )
    assert found.layers[0].map.grid == tuple(own.arrays(0)["codes.grid"]) == (6, 6)
    for place, layer in enumerate(found.layers):
        prefix = f"codes/{place + 1:02d}"
        for name in (*MEASURES, *LABEL_MEASURES):
            key = f"{prefix}/{name}"
            close = (
                0.05 if name == "compactness" else 1e-3
            )  # whose shuffles depend on the order of the samples
            assert start.scalars[key] == pytest.approx(getattr(layer, name), rel=close, nan_ok=True), key
        means = found.paths["fgsm"].attack.means
        for what, values in means.items():
            assert start.scalars[f"{prefix}/fgsm_{what}"] == pytest.approx(values[place], rel=1e-3)
        assert sorted(own.arrays(0)["codes.units"][place]) == sorted(layer.units)
    last = functional_codes(model.net, [tuple(data.dataset.tensors)])
    assert scalars["codes/01/participation_ratio"] == pytest.approx(last.layers[0].participation_ratio)
    assert 0 <= scalars["codes/01/map_change"] <= 1
    assert np.isnan(start.scalars["codes/01/map_change"])
    for snapshot in own.snapshots:  # nothing is NaN without a reason
        unknown = {k for k, v in snapshot.scalars.items() if k.startswith("codes/") and np.isnan(v)}
        assert unknown == {k for k in snapshot.notes if k.startswith("codes/")}
    assert start.notes["codes/01/map_distance"] == "there is no layer before it"
    assert start.notes["codes/01/map_change"] == "it has no snapshot before"


def test_training_is_not_touched(tmp_path: Path) -> None:
    options = {"every_n_steps": 4, "epsilon": 0.1, "bounds": (0.0, 1.0)}
    watched = fit(tmp_path / "with", monitor(**options))
    bare = fit(tmp_path / "without")
    for ours, theirs in zip(watched.state_dict().values(), bare.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in watched.modules())


def test_the_last_maps_are_carried_over_a_checkpoint(tmp_path: Path) -> None:
    fit(tmp_path / "whole", monitor(every_n_steps=4), epochs=2)
    seed_everything(3)
    fitted = trainer(tmp_path / "first", monitor(every_n_steps=4), max_epochs=1)
    fitted.fit(Net(), loader(), loader(16))
    fitted.save_checkpoint(tmp_path / "last.ckpt")
    resumed = trainer(tmp_path / "second", monitor(every_n_steps=4), max_epochs=2)
    resumed.fit(Net(), loader(), loader(16), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    for key in ("codes/01/map_change", "codes/02/quantization_error", "codes/02/label_ami"):
        series = record(tmp_path / "whole").series(key)
        np.testing.assert_array_equal(record(tmp_path / "second").series(key), series)
        assert np.isfinite(series[1:]).all()


class Picture(Net):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 5, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(80, 6),
            nn.ReLU(),
            nn.Linear(6, 3),
        )


def test_the_map_and_the_mean_inputs_of_the_last_layer_are_drawn_to_tensorboard(tmp_path: Path) -> None:
    seed_everything(3)
    data = loader(64, shape=(1, 4, 4))
    watching = monitor(every_n_steps=8, figures="log", epsilon=0.1, bounds=(0.0, 1.0))
    logger = TensorBoardLogger(tmp_path, name="", version="")
    trainer(tmp_path, watching, max_epochs=2, logger=logger).fit(Picture(), data, data)
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    assert set(events.Tags()["images"]) == {"codes/figures/02", "codes/figures/02/inputs"}
    assert [image.step for image in events.Images("codes/figures/02")] == [0, 8, 16]
    assert "codes/02/fgsm_departed_share" in events.Tags()["scalars"]


def test_without_labels_there_is_nothing_of_classes(tmp_path: Path) -> None:
    watching = monitor(batch_to_labels=lambda batch: None)
    fit(tmp_path, watching)
    keys = record(tmp_path).manifest["keys"]
    assert not any(measure in key for key in keys for measure in LABEL_MEASURES)
    with pytest.raises(FnetError, match="`epsilon` needs labels"):
        fit(tmp_path, monitor(batch_to_labels=lambda batch: None, epsilon=0.1, bounds=(0.0, 1.0)))


class Breaking(nn.ReLU):
    """Shows NaN in eval mode after its third pass in training."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += self.training
        return super().forward(x) * (1 if self.passes < 3 or self.training else float("nan"))


def test_a_layer_that_breaks_is_nan_with_its_reason_and_training_goes_on(tmp_path: Path) -> None:
    model = Net()
    model.net[3] = nn.Sequential(Breaking())
    watching = monitor(every_n_steps=4, epsilon=0.1, bounds=(0.0, 1.0))
    fit(tmp_path, watching, model=model)
    own = record(tmp_path)
    assert [snapshot.step for snapshot in own.snapshots] == [0, 4, 8, 12, 16]
    first, last = own.snapshots[0], own.snapshots[-1]
    assert np.isfinite(first.scalars["codes/02/label_nmi"])
    assert np.isnan(last.scalars["codes/02/quantization_error"])
    assert "NaN or infinite" in last.notes["codes/02/quantization_error"]
    assert np.isfinite(last.scalars["codes/01/quantization_error"])
    units = own.arrays(16)["codes.units"]
    assert (units[1] == -1).all()
    assert (units[0] >= 0).all()


def test_a_part_of_the_module_may_be_called(tmp_path: Path) -> None:
    trainer(tmp_path, monitor(model="net", layers=["net.1"]), max_epochs=1).fit(BareNet(), loader())
    assert record(tmp_path).snapshots[-1].scalars["codes/01/used_units"] > 1


def test_logits_in_a_mapping_are_taken_where_it_is_said(tmp_path: Path) -> None:
    seed_everything(3)
    path = "small_models.logits_of_dict"
    trainer(tmp_path / "told", monitor(output_to_logits=path), max_epochs=2).fit(
        DictNet(), loader(), loader(16)
    )
    assert np.isfinite(record(tmp_path / "told").snapshots[-1].scalars["codes/01/prediction_nmi"])
    trainer(tmp_path / "untold", monitor(), max_epochs=1).fit(DictNet(), loader(), loader(16))
    scalars = record(tmp_path / "untold").snapshots[-1].scalars
    assert np.isnan(scalars["codes/01/prediction_nmi"])
    note = record(tmp_path / "untold").snapshots[-1].notes["codes/01/prediction_nmi"]
    assert "pass `output_to_logits`" in note
    assert np.isfinite(scalars["codes/01/label_nmi"])


def test_a_map_of_more_units_than_samples_is_refused_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(FnetError, match="has 100 units, more than the 64 samples"):
        fit(tmp_path, monitor(grid=(10, 10), probe=loader(64)))


def test_mixed_precision_is_the_trainers(tmp_path: Path) -> None:
    seed_everything(3)
    watching = monitor(epsilon=0.1, bounds=(0.0, 1.0))
    made = trainer(tmp_path, watching, max_epochs=1, precision="bf16-mixed")
    made.fit(Net(mlp(16, 12)), loader(), loader(16))
    assert record(tmp_path).snapshots[-1].scalars["codes/01/pgd_displacement"] > 0


def test_a_probe_that_grows_is_measured_as_it_is(tmp_path: Path) -> None:
    from small_models import Stream

    seed_everything(3)
    data = torch.utils.data.DataLoader(Stream(), batch_size=8)
    trainer(tmp_path, monitor(every_n_steps=2), max_epochs=1, limit_val_batches=0).fit(Net(), data)
    own = record(tmp_path)
    sizes = [own.arrays(snapshot.step)["codes.units"].shape[1] for snapshot in own.snapshots]
    assert sizes[0] < sizes[-1]
    assert np.isnan(own.snapshots[1].scalars["codes/01/map_change"])


def test_a_snapshot_that_fails_is_named_and_training_goes_on(tmp_path: Path, monkeypatch: Any) -> None:
    watching = monitor(every_n_steps=4, on_error="warn")
    monkeypatch.setattr(
        "fnet_callbacks.instruments.functional_codes.analyze",
        lambda *a, **k: (_ for _ in ()).throw(ValueError("no")),
    )
    with pytest.warns(FnetWarning, match="codes: no snapshot"):
        model = fit(tmp_path, watching)
    assert model.trainer.global_step == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grid": (0, 3)}, r"`grid=\(0, 3\)`"),
        ({"grid": 5}, "`grid=5`"),
        ({"epsilon": 0.1}, "belong together"),
        ({"epsilon": 0.0, "bounds": (0.0, 1.0)}, "`epsilon=0.0`"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(FnetError, match=message):
        FunctionalCodes(**arguments)


def test_beside_a_network_it_writes_to_the_same_record(tmp_path: Path) -> None:
    seed_everything(3)
    both = monitor_with(100, FunctionalCodes(), network(), probe_size=64)
    trainer(tmp_path, both, max_epochs=1).fit(Net(), loader(), loader(16))
    (manifest,) = tmp_path.rglob("manifest.json")
    assert manifest.parent.name == "fnet"
    assert {"codes/01/used_units", "fnet/modularity"} <= set(record(tmp_path).snapshots[-1].scalars)
