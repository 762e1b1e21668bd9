"""What is written to each kind of logger, and what happens when one of them fails."""

import csv
import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import wandb
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from PIL import Image
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from wandb_file import history, run_file, step_metrics

from fnet_callbacks.engine.loggers import Loggers
from fnet_callbacks.errors import FnetWarning
from fnet_callbacks.keys import layer_keys, whole_keys
from fnet_callbacks.quantities.networks import BY_NAME
from fnet_callbacks.quantities.quantity import Quantity
from fnet_callbacks.quantities.robustness import of_attacks

OWN = Quantity("own.share", "share of mine", "Share of what is *mine*.", chart="mine")
KEYS = [
    *whole_keys("fnet", [BY_NAME["modularity"], BY_NAME["loops"], OWN]),
    *layer_keys("fnet", [BY_NAME["modularity"]], ["relu#0"]),
    *whole_keys("robust", of_attacks(["pgd"], [0.1])),
]
VALUES = {
    "monitor/step": 7.0,
    "fnet/modularity": 0.5,
    "fnet/loops": 3.0,
    "fnet_layers/01/modularity": 0.25,
}
NOT_FINITE = {"fnet/n_loops": float("nan"), "fnet/sigma": float("inf"), "fnet/omega": float("-inf")}


def png() -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)).save(file, "PNG")
    return np.frombuffer(file.getvalue(), np.uint8)


IMAGE = png()


class Failing:
    """A logger whose server is down."""

    def log_metrics(self, metrics, step=None):
        raise ConnectionError("server is down")


class Remembering:
    """A logger that this package has never heard of."""

    def __init__(self):
        self.rows = []
        self.saved = 0

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, metrics))

    def save(self):
        self.saved += 1


def events_of(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()


@pytest.fixture
def tensorboard(tmp_path):
    logger = TensorBoardLogger(tmp_path, name="tb", version=0, default_hp_metric=False)
    yield logger
    logger.finalize("success")


def test_tensorboard_holds_values_and_images_under_their_keys_and_steps_without_waiting(
    tmp_path, tensorboard
):
    loggers = Loggers([tensorboard], keys=KEYS, figure_folder=tmp_path / "figures")
    loggers.scalars(7, VALUES | NOT_FINITE)
    loggers.figures(7, {"fnet/figures/graph": IMAGE})
    events = events_of(tmp_path / "tb" / "version_0")
    assert {*events.Tags()["scalars"]} == {*VALUES}
    for key, value in VALUES.items():
        (event,) = events.Scalars(key)
        assert event.step == 7
        assert event.value == pytest.approx(value)
    (image,) = events.Images("fnet/figures/graph")
    assert (image.step, image.height, image.width) == (7, 4, 5)
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize("kind", ["prefix", "own log_metrics"])
def test_a_tensorboard_logger_that_renames_values_is_asked_to(tmp_path, kind):
    class Renaming(TensorBoardLogger):
        def log_metrics(self, metrics, step=None):
            super().log_metrics({f"run-{k}": v for k, v in metrics.items()}, step)

    logger = (
        TensorBoardLogger(tmp_path, name="tb", version=0, prefix="run")
        if kind == "prefix"
        else Renaming(tmp_path, name="tb", version=0)
    )
    Loggers([logger], keys=KEYS).scalars(7, VALUES)
    assert events_of(tmp_path / "tb" / "version_0").Scalars("run-fnet/modularity")[0].value == 0.5


def test_tensorboards_charts_hold_the_curves_that_belong_together(tmp_path, tensorboard):
    Loggers([tensorboard], keys=KEYS).scalars(0, {"monitor/step": 0.0})
    (event,) = events_of(tmp_path / "tb" / "version_0").Tensors("custom_scalars__config__")
    layout = Layout.FromString(event.tensor_proto.string_val[0])
    charts = {c.title: {x.title: list(x.multiline.tag) for x in c.chart} for c in layout.category}
    assert set(charts) == {"fnet", "robust"}
    assert charts["fnet"] == {
        "communities": ["^fnet/modularity$"],
        "loops": ["^fnet/loops$"],
        "mine": [r"^fnet/own\.share$"],
    }
    assert charts["robust"] == {"accuracy": ["^robust/clean_accuracy$", r"^robust/pgd_0\.1_accuracy$"]}


def test_tensorboard_has_the_definition_and_the_layer_of_each_tag_with_its_first_value(tmp_path, tensorboard):
    loggers = Loggers([tensorboard], keys=KEYS)
    loggers.scalars(0, {"fnet/modularity": 0.25})
    loggers.scalars(7, VALUES | {"fnet/own.share": 0.125})
    folder = tmp_path / "tb" / "version_0"
    events = events_of(folder)
    assert [e.value for e in events.Scalars("fnet/modularity")] == [0.25, 0.5]
    assert events.Scalars("fnet/own.share")[0].value == 0.125
    definition = BY_NAME["modularity"].definition
    described = {
        "fnet/modularity": definition,
        "fnet/loops": BY_NAME["loops"].definition,
        "fnet_layers/01/modularity": f"Layer `relu#0`. {definition}",
        "fnet/own.share": "Share of what is *mine*.",
    }
    assert {key: events.SummaryMetadata(key).summary_description for key in described} == described
    read_by_pages(tmp_path / "tb", described)


def read_by_pages(folder: Path, described: dict[str, str]) -> None:
    """What TensorBoard's pages show: by its Python reader, and by the fast one where that is installed."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    provider = MultiplexerDataProvider(multiplexer, str(folder))
    scalars = {"ctx": RequestContext(), "experiment_id": "", "plugin_name": "scalars"}
    values = provider.read_scalars(**scalars, downsample=10)["version_0"]
    found = {
        tag: [own.description, [[v.step, v.value] for v in values[tag]]]
        for tag, own in provider.list_scalars(**scalars)["version_0"].items()
    }
    assert {tag: description for tag, (description, _) in found.items()} == described | {"monitor/step": ""}
    assert found["fnet/modularity"][1] == [[0, 0.25], [7, 0.5]]
    assert found["fnet/own.share"][1] == [[7, 0.125]]
    if importlib.util.find_spec("tensorboard_data_server") is not None:
        reader = [sys.executable, Path(__file__).parents[1] / "fast_reader.py", folder]
        fast = json.loads(subprocess.run(reader, capture_output=True, check=True).stdout)["version_0"]
        np.testing.assert_equal(fast, found)


def test_wandb_holds_values_and_images_on_an_axis_of_their_own(tmp_path):
    logger = WandbLogger(save_dir=tmp_path, project="p", offline=True)
    loggers = Loggers([logger], keys=[*KEYS, *whole_keys("my_layers", [BY_NAME["loops"]])])
    loggers.scalars(7, {k: v for k, v in VALUES.items() if k != "monitor/step"} | NOT_FINITE)
    loggers.figures(7, {"fnet/figures/graph": IMAGE})
    wandb.finish()
    file = run_file(tmp_path)
    scalars, figures = history(file)
    assert {key: float(scalars[key]) for key in VALUES} == VALUES  # the axis is among them in any case
    assert not NOT_FINITE.keys() & scalars.keys()
    assert figures["monitor/step"] == 7
    image = file.parent / "files" / figures["fnet/figures/graph/path"]
    assert image.read_bytes().startswith(b"\x89PNG")
    groups = ("fnet", "fnet_layers", "robust", "my_layers", "monitor", "monitor_cost")
    assert {step_metrics(file)[f"{group}/*"] for group in groups} == {"monitor/step"}


def test_csv_holds_values_at_once_and_new_columns_when_they_come(tmp_path):
    logger = CSVLogger(tmp_path, name="csv", version=0)
    loggers = Loggers([logger], keys=KEYS)
    loggers.scalars(7, VALUES | NOT_FINITE)
    loggers.scalars(9, {"fnet/modularity": 0.75, "fnet/new": 1.0})
    with open(tmp_path / "csv" / "version_0" / "metrics.csv") as file:
        first, second = csv.DictReader(file)
    assert first.keys() == {"step", "fnet/new", *VALUES}
    assert (first["step"], first["fnet/modularity"], first["fnet/new"]) == ("7", "0.5", "")
    assert (second["step"], second["fnet/modularity"], second["fnet/new"]) == ("9", "0.75", "1.0")


def test_any_other_logger_gets_the_values_by_log_metrics():
    logger = Remembering()
    Loggers([logger], keys=KEYS).scalars(7, {"fnet/loops": 3.0})
    assert logger.rows == [(7, {"fnet/loops": 3.0})]
    assert logger.saved == 1


def test_values_of_which_none_is_finite_are_not_written():
    logger = Remembering()
    Loggers([logger], keys=KEYS).scalars(7, NOT_FINITE)
    assert (logger.rows, logger.saved) == ([], 0)


def test_tensorboard_gets_no_charts_where_nothing_of_a_chart_is_logged(tmp_path, tensorboard):
    loggers = Loggers([tensorboard], keys=layer_keys("fnet", [BY_NAME["modularity"]], ["relu#0"]))
    loggers.scalars(7, VALUES)
    assert not events_of(tmp_path / "tb" / "version_0").Tags()["tensors"]


def test_images_become_files_where_no_logger_takes_them(tmp_path):
    Loggers([Remembering()], keys=KEYS, figure_folder=tmp_path / "figures").figures(
        7, {"fnet/figures/graph": IMAGE}
    )
    (file,) = (tmp_path / "figures").iterdir()
    assert file.name == "7_fnet_figures_graph.png"
    assert file.read_bytes() == IMAGE.tobytes()


def test_without_a_folder_images_that_nobody_takes_are_dropped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Loggers([], keys=KEYS).figures(7, {"fnet/figures/graph": IMAGE})
    assert not list(tmp_path.iterdir())


def test_a_logger_that_raises_is_named_once_and_the_others_get_every_value():
    others = Remembering(), Remembering()
    loggers = Loggers([others[0], Failing(), others[1]], keys=KEYS)
    with pytest.warns(FnetWarning, match=r"Failing failed: ConnectionError\('server is down'\)"):
        loggers.scalars(1, {"fnet/loops": 3.0})
    loggers.scalars(2, {"fnet/loops": 4.0})
    assert [[step for step, _ in other.rows] for other in others] == [[1, 2], [1, 2]]


def test_two_loggers_of_one_kind_that_raise_are_both_named():
    with pytest.warns(FnetWarning) as told:
        Loggers([Failing(), Failing()], keys=KEYS).scalars(1, {"fnet/loops": 3.0})
    assert len(told) == 2


def test_a_logger_that_cannot_start_is_a_warning(tmp_path):
    (tmp_path / "file").touch()
    logger = TensorBoardLogger(tmp_path / "file", name="tb")
    with pytest.warns(FnetWarning, match="TensorBoardLogger failed"):
        Loggers([logger], keys=KEYS).scalars(1, {"fnet/loops": 3.0})


def test_a_folder_for_figures_that_cannot_be_made_is_a_warning(tmp_path):
    (tmp_path / "file").touch()
    loggers = Loggers([], keys=KEYS, figure_folder=tmp_path / "file" / "figures")
    with pytest.warns(FnetWarning, match="NotADirectoryError"):
        loggers.figures(1, {"fnet/figures/graph": IMAGE})
    loggers.figures(2, {"fnet/figures/graph": IMAGE})
