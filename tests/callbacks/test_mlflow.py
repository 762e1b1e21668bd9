"""A run that MLflow logs: no two keys are one curve there, and MLflow's folder holds nothing that it does not know."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import MLFlowLogger
from small_models import (
    CLASSES,
    FEATURES,
    Ledger,
    Net,
    fast,
    loader,
    monitor,
    network,
    record,
    robustness,
    trainer,
)
from torch import Tensor, nn

from fnet_callbacks.engine.loggers import Loggers
from fnet_callbacks.keys import Key
from fnet_callbacks.quantities.networks import BY_NAME

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*filesystem tracking backend.*:FutureWarning",  # in which everything is a file, as here
    "ignore::DeprecationWarning:mlflow.*",
)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """It tells nobody of its use, writes files, and is set back for whoever comes next."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    import mlflow

    yield
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]


class Twice(Net):
    """Calls one ReLU twice, which gives `relu#0` and `relu#1`, and another that is called `relu0`."""

    def __init__(self) -> None:
        super().__init__(nn.Identity())
        self.a, self.b, self.c = nn.Linear(FEATURES, 12), nn.Linear(12, 11), nn.Linear(11, CLASSES)
        self.relu, self.relu0 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.relu(self.b(self.relu0(self.relu(self.a(x))))))


def history(logger: MLFlowLogger, key: str) -> dict[int, float]:
    return {m.step: m.value for m in logger.experiment.get_metric_history(logger.run_id, key)}


def store_of(logger: MLFlowLogger) -> Path:
    assert logger.save_dir is not None
    return Path(logger.save_dir).resolve()


def test_layers_that_mlflow_would_call_alike_keep_curves_of_their_own(tmp_path: Path) -> None:
    logger = MLFlowLogger("exp", save_dir=str(tmp_path / "mlruns"))
    trainer(tmp_path, monitor(4, network(), robustness(4)), logger=logger).fit(Twice(), loader())
    found = record(tmp_path)
    assert found.steps == [0, 4, 8]
    layers = {layer["place"]: layer["name"] for layer in found.manifest["instruments"]["fnet"]["layers"]}
    assert layers == {"01": "relu#0", "02": "relu0", "03": "relu#1"}
    for place in layers:
        key = f"fnet_layers/{place}/modularity"
        expected = dict(zip(found.steps, found.series(key).tolist(), strict=True))
        assert history(logger, key) == pytest.approx(expected)
    numbers = {key for key, value in found.snapshots[-1].scalars.items() if math.isfinite(value)}
    assert numbers <= logger.experiment.get_run(logger.run_id).data.metrics.keys()
    assert {e.name for e in logger.experiment.search_experiments()} == {"Default", "exp"}


@pytest.mark.parametrize("store", ["mlruns", "."], ids=["below the root folder", "the root folder itself"])
@pytest.mark.parametrize("is_first", [True, False])
def test_the_record_is_not_in_mlflows_folder(tmp_path: Path, store: str, is_first: bool) -> None:
    root = tmp_path / "project"
    own = MLFlowLogger("exp", save_dir=str(root / store))
    loggers: list[Any] = [own, Ledger()] if is_first else [Ledger(), own]
    trainer(root, fast(8), logger=loggers).fit(Net(), loader())
    folder = record(tmp_path).folder.resolve()
    run = own.run_id if is_first else "0"
    assert folder == (tmp_path if store == "." else root) / str(run) / "fnet"
    known = {e.experiment_id for e in own.experiment.search_experiments()}
    assert {p.name for p in store_of(own).iterdir() if p.is_dir()} <= known | {".trash", "models"}


def test_a_server_elsewhere_leaves_the_record_where_the_trainer_writes(tmp_path: Path) -> None:
    own = MLFlowLogger("exp", tracking_uri=str(tmp_path / "server"))  # one that Lightning knows no folder of
    assert own.save_dir is None
    trainer(tmp_path / "root", fast(8), logger=own).fit(Net(), loader())
    assert record(tmp_path).folder == tmp_path / "root" / str(own.run_id) / "fnet"


KEYS = [
    "fnet/modularity",
    *(
        f"fnet_layers/{layer}/modularity"
        for layer in (
            "conv#0",
            "conv0",
            "conv_0",
            "conv_0_2",
            "conv(0",
            "conv 0",
            "α",
            "β",
            "_",
            "..",
            "x" * 400,
        )
    ),
    f"fnet_layers/{'x' * 400}#/modularity",
    f"fnet_layers/{'x' * 400}/path_length",
]


def test_keys_that_differ_stay_different_whatever_is_in_them(tmp_path: Path) -> None:
    logger = MLFlowLogger("exp", save_dir=str(tmp_path / "mlruns"))
    values = {key: float(i) for i, key in enumerate(KEYS)}
    for order in (KEYS, KEYS[::-1]):
        loggers = Loggers([logger], keys=[Key(key, "fnet", BY_NAME["modularity"]) for key in order])
        loggers.scalars(0, values)
        loggers.scalars(1, {**values, "monitor/step": 1.0, "fnet_layers/conv[0/late": 2.0})
    metrics = logger.experiment.get_run(logger.run_id).data.metrics
    assert sorted(metrics.values()) == sorted([*values.values(), 1.0, 2.0])
    for key in ("fnet/modularity", "fnet_layers/conv0/modularity", "fnet_layers/conv 0/modularity"):
        assert metrics[key] == values[key]  # what MLflow takes stays as it is
    assert max(map(len, metrics)) <= 250
