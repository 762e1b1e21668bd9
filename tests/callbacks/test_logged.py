"""What loggers get of a run by default and by request, and where all the rest is."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from small_models import Ledger, Net, loader, mlp, network, record, trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from fnet_callbacks import FnetError, FunctionalCodes, Instrument, Monitor, Record, ReLURegions

OF_PARTS = ("fnet_layers/", "regions_layers/", "monitor_cost/")


def monitor(*instruments: Instrument, **options: Any) -> Monitor:
    """As a user has it, without figures."""
    return Monitor(instruments or network(), every_n_steps=4, figures=None, **options)


def fit(folder: Path, watching: Monitor, *loggers: Any, model: Any = None) -> tuple[Any, dict[str, float]]:
    """Trains; returns the trainer, and by key the last value that a logger got of the monitor's."""
    ledger = Ledger()
    fitted = trainer(folder, watching, logger=[*loggers, ledger])
    fitted.fit(model or Net(), loader())
    logged = {key: value for _, row in ledger.rows for key, value in row.items()}
    return fitted, {key: value for key, value in logged.items() if not key.startswith(("train_", "epoch"))}


def finite(found: Record) -> set[str]:
    """The keys that have a number at some snapshot of a record."""
    values = [item for s in found.snapshots for item in (s.scalars | s.cost_ms).items()]
    return {key for key, value in values if np.isfinite(value)}


def test_by_default_loggers_get_the_whole_network_and_the_rest_is_elsewhere(tmp_path: Path) -> None:
    instruments = [network(), ReLURegions(every_n_steps=4), FunctionalCodes(every_n_steps=4, grid=(2, 2))]
    tensorboard = TensorBoardLogger(tmp_path, name="tb", version=0)
    with_csv = CSVLogger(tmp_path, name="csv", version=0)
    fitted, logged = fit(tmp_path, monitor(*instruments), tensorboard, with_csv)
    found = record(tmp_path)
    everything = finite(found)
    expected = {key for key in everything if not key.startswith(OF_PARTS)}
    assert {"fnet/modularity", "regions/n_patterns", "codes/01/label_ami", "monitor/cost_ms"} <= expected
    assert logged.keys() == expected

    with open(tmp_path / "csv" / "version_0" / "metrics.csv") as file:
        columns = {*next(csv.reader(file))}
    assert {name for name in columns if "/" in name} == expected
    events = EventAccumulator(str(tmp_path / "tb" / "version_0")).Reload()
    assert {name for name in events.Tags()["scalars"] if "/" in name} == expected
    (layout,) = events.Tensors("custom_scalars__config__")
    titles = {category.title for category in Layout.FromString(layout.tensor_proto.string_val[0]).category}
    assert "fnet" in titles

    assert everything <= fitted.callback_metrics.keys()
    assert all(any(key.startswith(part) for key in everything) for part in OF_PARTS)
    assert found.manifest["monitor"]["log"] == "auto"


def test_a_model_of_two_layers_has_few_columns_and_layers_add_none(tmp_path: Path) -> None:
    _, of_two = fit(tmp_path / "two", monitor())
    _, of_six = fit(tmp_path / "six", monitor(), model=Net(mlp(*[12] * 6)))
    assert of_two.keys() == of_six.keys()
    assert len(of_two) < 60


def test_all_is_everything_that_is_finite(tmp_path: Path) -> None:
    _, logged = fit(tmp_path, monitor(log="all"))
    assert logged.keys() == finite(record(tmp_path))
    assert all(any(key.startswith(part) for key in logged) for part in ("fnet_layers/", "monitor_cost/"))


def test_globs_are_logged_in_place_of_the_default_and_charts_are_of_them(tmp_path: Path) -> None:
    tensorboard = TensorBoardLogger(tmp_path, name="tb", version=0)
    globs = ["fnet/modularity", "fnet_layers/01/mean*", "monitor_cost/fnet/total"]
    fitted, logged = fit(tmp_path, monitor(log=globs), tensorboard)
    assert logged.keys() == {
        "fnet/modularity", "fnet_layers/01/mean_abs_correlation", "monitor_cost/fnet/total"
    }  # fmt: skip
    events = EventAccumulator(str(tmp_path / "tb" / "version_0")).Reload()
    (event,) = events.Tensors("custom_scalars__config__")
    (category,) = Layout.FromString(event.tensor_proto.string_val[0]).category
    assert [list(chart.multiline.tag) for chart in category.chart] == [["^fnet/modularity$"]]
    assert {"fnet/loops", "fnet_layers/02/modularity", "monitor/step"} <= fitted.callback_metrics.keys()
    assert record(tmp_path).manifest["monitor"]["log"] == globs


def test_no_globs_log_nothing(tmp_path: Path) -> None:
    fitted, logged = fit(tmp_path, monitor(log=[]))
    assert logged == {}
    assert "fnet/modularity" in fitted.callback_metrics


def test_a_glob_that_matches_no_key_ends_the_run_before_its_first_step(tmp_path: Path) -> None:
    model = Net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(
        FnetError, match=r"`log`: 'fnet/modularty' matches no key .*: fnet/modularity, .* more"
    ):
        fit(tmp_path, monitor(log="fnet/modularty"), model=model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_network_of_zeros_gives_loggers_no_nan_and_the_record_its_reasons(tmp_path: Path) -> None:
    class Dead(Net):
        def __init__(self) -> None:
            super().__init__()
            for parameter in self.parameters():
                torch.nn.init.zeros_(parameter)

    with_csv = CSVLogger(tmp_path, name="csv", version=0)
    fitted, logged = fit(tmp_path, monitor(log="all"), with_csv, model=Dead())
    last = record(tmp_path).snapshots[-1]
    missing = {key for key, value in last.scalars.items() if np.isnan(value)}
    assert {"fnet/modularity", "fnet_layers/01/mean_abs_correlation"} <= missing <= last.notes.keys()
    assert all(np.isnan(float(fitted.callback_metrics[key])) for key in missing)
    assert np.isfinite([*logged.values()]).all()
    assert not missing & logged.keys()
    text = (tmp_path / "csv" / "version_0" / "metrics.csv").read_text()
    assert "nan" not in text.lower()
