"""A measure of a user's own package: in the worker, loggers, record and report, without an edit of this package."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from own_measures import HUBS
from small_models import Net, csv_record, fit_to_csv, functional_monitor, loader, trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fnet_callbacks import FnetError, FnetWarning, FunctionalNetwork, Quantity, Record, read_record
from fnet_callbacks.cli import main

CHOSEN: dict[str, Any] = {"measures": ["n_neurons", HUBS], "layer_measures": [HUBS]}
SQUARE = Quantity(
    "mean_r2",
    "mean r²",
    "Mean of r² over all pairs.",
    function=lambda network: (network.correlation**2).mean(),
    needs="correlation",
)


def fit(folder: Path, **options: Any) -> Record:
    """The same weights each time."""
    torch.manual_seed(0)
    fit_to_csv(folder, functional_monitor(4, **options))
    return csv_record(folder)


def messages(caught: Any) -> list[str]:
    return [str(w.message) for w in caught if issubclass(w.category, FnetWarning)]


def test_the_worker_imports_it_and_its_values_are_those_of_the_training_thread(tmp_path: Path) -> None:
    inline = fit(tmp_path / "inline", worker="inline", **CHOSEN)
    worker = fit(tmp_path / "worker", worker="process", **CHOSEN)
    assert inline.steps == worker.steps == [0, 4, 8]
    for key in ("fnet/hub_share", "fnet_layers/01/hub_share", "fnet_layers/02/hub_share"):
        values = worker.series(key)
        assert ((values > 0) & (values <= 0.5)).all(), key
        np.testing.assert_array_equal(values, inline.series(key))
    cost = worker.snapshots[1].cost_ms
    assert cost["monitor_cost/fnet/worker"] > 0
    assert cost["monitor_cost/fnet/hub_share"] > 0


def test_loggers_record_and_report_have_its_words(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="tb")
    torch.manual_seed(0)
    trainer(tmp_path, functional_monitor(4, **CHOSEN), logger=logger).fit(Net(), loader(), loader(16))
    folder = tmp_path / "tb" / "version_0"
    events = EventAccumulator(str(folder)).Reload()
    assert [e.step for e in events.Scalars("fnet/hub_share")] == [0, 4, 8]
    assert events.SummaryMetadata("fnet/hub_share").summary_description == HUBS.definition
    of_layer = events.SummaryMetadata("fnet_layers/01/hub_share").summary_description
    assert of_layer == f"Layer `net.1`. {HUBS.definition}"
    manifest = read_record(folder / "fnet").manifest
    assert manifest["instruments"]["fnet"]["quantities"]["hub_share"] == HUBS.described()
    assert manifest["keys"]["fnet/hub_share"] == ["fnet", "hub_share", None]
    page = tmp_path / "page.html"
    assert main(["report", str(folder), "-o", str(page)]) == 0
    text = page.read_text()
    assert f"<dt>{HUBS.label}</dt><dd>{HUBS.definition}</dd>" in text


def test_one_that_no_process_can_import_is_measured_on_the_training_thread_said_once(tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"measures": ["n_neurons", "loops", SQUARE], "layer_measures": [SQUARE]}
    expected = fit(tmp_path / "inline", worker="inline", **chosen)
    with pytest.warns(FnetWarning) as caught:
        found = fit(tmp_path / "process", worker="process", **chosen)
    (message,) = messages(caught)
    assert message == (
        "fnet: is analyzed on the training thread: no other process can import the function of mean_r2. Define it in a "
        "module of its own for the worker"
    )
    assert found.steps == [0, 4, 8]
    assert np.isfinite(found.series("fnet/mean_r2")).all()
    for key in ("fnet/mean_r2", "fnet/loops", "fnet_layers/01/mean_r2"):
        np.testing.assert_array_equal(found.series(key), expected.series(key))


# Imported by the run, but not by the worker.
HALF = """
import sys
from fnet_callbacks import Quantity
if "fnet_callbacks.worker.analyst" in sys.orig_argv:
    raise RuntimeError("not in the worker")

def half(network):
    return len(network.nodes) / 2

HALF = Quantity("half", "half of the neurons", "Half of the neurons.", function=half)
"""


def test_nothing_is_lost_where_the_worker_fails_to_import_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "half_measures.py").write_text(HALF)
    monkeypatch.syspath_prepend(tmp_path / "path")
    monkeypatch.delitem(sys.modules, "half_measures", raising=False)
    with pytest.warns(FnetWarning) as caught:
        record = fit(
            tmp_path, worker="process", measures=["n_neurons", "half_measures.HALF"], layer_measures=[]
        )
    (message,) = messages(caught)
    assert message == (
        "snapshots are measured on the training thread: in the worker half_measures:half cannot be imported: "
        "RuntimeError: not in the worker"
    )
    assert record.steps == [0, 4, 8]
    np.testing.assert_array_equal(record.series("fnet/half"), record.series("fnet/n_neurons") / 2)


def test_one_that_fails_is_nan_with_its_reason_and_the_others_go_on(tmp_path: Path) -> None:
    broken = Quantity("broken", "broken", "Broken.", function=_broken)
    with pytest.warns(FnetWarning, match="fnet/broken failed: ZeroDivisionError") as caught:
        record = fit(
            tmp_path, worker="process", on_error="warn", measures=["n_neurons", broken], layer_measures=[]
        )
    assert len(messages(caught)) == 1
    assert np.isnan(record.series("fnet/broken")).all()
    assert np.isfinite(record.series("fnet/n_neurons")).all()


def _broken(network: Any) -> float:
    return 1 / 0


def test_what_is_no_measure_is_refused_as_the_monitor_is_made() -> None:
    with pytest.raises(FnetError, match=r"`measures`: 'own_measures\.GONE' is no importable"):
        FunctionalNetwork(measures=["own_measures.GONE"])
    with pytest.raises(FnetError, match="`layer_measures`: there are two quantities 'hub_share'"):
        FunctionalNetwork(
            measures=[HUBS], layer_measures=[Quantity("hub_share", "other", "Other.", function=_broken)]
        )
