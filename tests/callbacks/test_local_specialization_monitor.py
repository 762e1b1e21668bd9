"""The instrument of local specialization says what `local_specialization` does of the same weights, in training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import seed_everything
from small_models import BareNet, DictNet, Net, keys_of, loader, logits_of_dict, monitor_of, record, trainer
from torch import Tensor

from fnet_callbacks import CaptureError, FnetError, LocalSpecialization, Monitor, local_specialization

SMALL = {"k": 3, "references": 19, "shuffles": 3, "probe_size": 64}


def monitor(**options: Any) -> Monitor:
    return monitor_of(LocalSpecialization, **{**SMALL, **options})


def fit(folder: Path, *monitors: Monitor, model: Any = None, epochs: int = 2) -> Any:
    seed_everything(3)
    model = Net() if model is None else model
    trainer(folder, *monitors, max_epochs=epochs).fit(model, loader(), loader(16))
    return model


@pytest.mark.parametrize("options", [{}, {"graph": "activations", "visualization_steps": 4}])
def test_it_says_what_the_function_says_of_the_finished_model(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    data = loader(64)
    watching = monitor(probe=data, **options)
    model = fit(tmp_path, watching).eval()
    same = {"k": 3, "references": 19, "shuffles": 3, **options}
    expected = local_specialization(model, data, **same)
    found = record(tmp_path)
    last = found.snapshots[-1]
    arrays = {name.removeprefix("specialization."): a for name, a in found.arrays(last.step).items()}
    np.testing.assert_array_equal(arrays["partition"], expected.partition)
    np.testing.assert_allclose(arrays["clean_accuracy"], expected.accuracy)
    np.testing.assert_allclose(arrays["accuracy"], [s.accuracy for s in expected.subclusters], atol=1e-12)
    assert arrays["layer"].tolist() == [expected.layers.index(s.layer) for s in expected.subclusters]
    assert arrays["cluster"].tolist() == [s.cluster for s in expected.subclusters]
    assert arrays["size"].tolist() == [len(s.units) for s in expected.subclusters]
    scalars = last.scalars
    assert scalars["specialization/ncut"] == pytest.approx(expected.ncut, rel=1e-6)
    assert scalars["specialization/z_score"] == pytest.approx(expected.z_score, rel=1e-5)
    assert scalars["specialization/n_subclusters"] == len(expected.subclusters)
    for question in ("importance", "coherence"):
        test = getattr(expected, question)
        assert scalars[f"specialization/{question}_p"] == pytest.approx(test.p_value)
        assert scalars[f"specialization/{question}_effect"] == pytest.approx(test.effect, nan_ok=True)
        p = [getattr(s, question).p_value for s in expected.subclusters]
        np.testing.assert_allclose(arrays[f"{question}_p"], p)
        assert scalars[f"specialization/{question}_share"] == pytest.approx(np.mean(np.array(p) <= 0.05))
    own = {key for key in scalars if not key.startswith("monitor")}
    assert own == keys_of(found)
    assert ("specialization/objective_p" in own) == ("visualization_steps" in options)


def test_training_is_not_touched(tmp_path: Path) -> None:
    watched = fit(tmp_path / "with", monitor(every_n_steps=4, visualization_steps=2))
    bare = fit(tmp_path / "without")
    for ours, theirs in zip(watched.state_dict().values(), bare.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in watched.modules())


def test_the_last_partition_is_carried_over_a_checkpoint(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    fit(whole, monitor(every_n_steps=4), epochs=2)
    first = tmp_path / "first"
    seed_everything(3)
    fitted = trainer(first, monitor(every_n_steps=4), max_epochs=1)
    fitted.fit(Net(), loader(), loader(16))
    fitted.save_checkpoint(first / "last.ckpt")
    resumed = trainer(tmp_path / "second", monitor(every_n_steps=4), max_epochs=2)
    resumed.fit(Net(), loader(), loader(16), ckpt_path=first / "last.ckpt", weights_only=True)
    series = record(whole).series("specialization/partition_ami")
    np.testing.assert_array_equal(record(tmp_path / "second").series("specialization/partition_ami"), series)
    assert np.isnan(series[0])
    assert np.isfinite(series[1:]).all()


class Branching(Net):
    def forward(self, x: Tensor) -> Any:
        return self.net(x if x.sum() > -1e9 else -x)


def test_a_model_that_cannot_be_traced_is_named_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="Branching cannot be traced"):
        fit(tmp_path / "weights", monitor(), model=Branching())
    fit(tmp_path / "activations", monitor(graph="activations"), model=Branching())
    assert record(tmp_path / "activations").snapshots[-1].scalars["specialization/n_subclusters"] > 0


def test_a_part_of_the_module_may_be_called_and_a_mapping_returned(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    watching = monitor(model="net", layers=["net.3"])
    trainer(bare, watching, max_epochs=1).fit(BareNet(), loader())
    (layer,) = record(bare).manifest["instruments"]["specialization"]["layers"]
    assert layer["name"] == "3"
    fit(
        tmp_path / "dict",
        monitor(graph="activations", output_to_logits="small_models.logits_of_dict"),
        model=DictNet(),
    )
    scalars = record(tmp_path / "dict").snapshots[-1].scalars
    assert 0 <= scalars["specialization/importance_p"] <= 1
    assert logits_of_dict({"logits": torch.ones(1)}) == 1


def test_what_needs_labels_says_so(tmp_path: Path) -> None:
    with pytest.raises(FnetError, match="LocalSpecialization found no labels"):
        fit(tmp_path, monitor(batch_to_labels=lambda batch: None))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"graph": "both"}, "`graph='both'`"),
        ({"k": 0}, "`k=0`"),
        ({"partition": np.zeros(3, int)}, "should be None or 'louvain'"),
        ({"references": 0}, "`references=0`"),
        ({"every_n_steps": 0}, "every_n_steps"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(FnetError, match=message):
        LocalSpecialization(**arguments)


def test_more_clusters_than_units_stop_the_run_before_its_first_step(tmp_path: Path) -> None:
    with pytest.raises(FnetError, match="`k=400` should be from 1 to"):
        fit(tmp_path, monitor(k=400))
