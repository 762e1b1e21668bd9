"""What the loggers wrote, read back from their files."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from small_models import Net, functional_monitor, loader, monitor, network, robustness, trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb_file import history, run_file, step_metrics

from fnet_callbacks import FunctionalNetwork, Monitor, Record, read_record
from fnet_callbacks.quantities.networks import names_of

STEPS = [0, 3, 6, 8]
PLACES = ("01", "02")
KEYS = [
    *(f"fnet/{name}" for name in names_of("standard")),
    *(f"fnet_layers/{place}/{name}" for place in PLACES for name in names_of("fast")),
    "fnet/n_samples",
    "robust/clean_accuracy",
    "robust/fgsm_0.1_accuracy",
    "robust/pgd_0.1_accuracy",
    "robust/pgd_0.1_zero_gradients",
]
IMAGES = {f"fnet/figures/{name}" for name in ("graph", "communities", "homology")}
ROBUST_EVERY = [0, 4, 8]


def fit(folder: Path, logger: Any, *, figures: Any = "log", **options: Any) -> Record:
    watching = monitor(3, network(), robustness(4), figures=figures)
    trainer(folder, watching, logger=logger, **options).fit(Net(), loader(), loader(16))
    (manifest,) = folder.rglob("manifest.json")
    return read_record(manifest.parent)


def steps_of(key: str) -> list[int]:
    return ROBUST_EVERY if key.startswith("robust") else STEPS


def assert_equal_to_record(found: dict[int, float], record: Record, key: str) -> None:
    recorded = dict(zip(record.steps, record.series(key).tolist(), strict=True))
    expected = {step: recorded[step] for step in steps_of(key) if np.isfinite(recorded[step])}
    assert list(found) == list(expected), key
    assert found == pytest.approx(expected, rel=1e-6), key


@pytest.mark.parametrize("log_every_n_steps", [1, 7, 1000])
def test_tensorboard_holds_every_key_at_every_snapshot(tmp_path: Path, log_every_n_steps: int) -> None:
    record = fit(tmp_path, TensorBoardLogger(tmp_path, name="tb"), log_every_n_steps=log_every_n_steps)
    events = EventAccumulator(
        str(tmp_path / "tb" / "version_0"), size_guidance={"images": 0, "scalars": 0}
    ).Reload()
    tags = events.Tags()["scalars"]
    for key in KEYS:
        found = {e.step: e.value for e in events.Scalars(key)} if key in tags else {}
        assert_equal_to_record(found, record, key)
    assert [e.step for e in events.Scalars("monitor_cost/fnet/total")] == STEPS
    assert set(events.Tags()["images"]) == IMAGES
    for tag in IMAGES:
        shown = events.Images(tag)
        assert {e.step for e in shown} == set(STEPS)
        assert all(e.encoded_image_string.startswith(b"\x89PNG") and e.width > 100 for e in shown)


def test_tensorboard_shows_curves_that_belong_together_in_one_chart(tmp_path: Path) -> None:
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

    fit(tmp_path, TensorBoardLogger(tmp_path, name="tb"), figures=None)
    events = EventAccumulator(str(tmp_path / "tb" / "version_0")).Reload()
    (event,) = events.Tensors("custom_scalars__config__")
    layout = Layout.FromString(event.tensor_proto.string_val[0])
    charts = {c.title: {x.title for x in c.chart} for c in layout.category}
    assert charts["robust"] == {"accuracy"}
    assert {"communities", "small world", "persistence", "entropy"} <= charts["fnet"]


@pytest.mark.parametrize("log_every_n_steps", [1, 7, 1000])
def test_wandb_holds_every_key_at_every_snapshot(tmp_path: Path, log_every_n_steps: int) -> None:
    import wandb

    logger = WandbLogger(save_dir=tmp_path, project="p", offline=True)
    record = fit(tmp_path, logger, log_every_n_steps=log_every_n_steps)
    wandb.finish()
    rows = history(run_file(tmp_path))
    for key in KEYS:
        found = {int(row["monitor/step"]): float(row[key]) for row in rows if key in row}
        assert_equal_to_record(found, record, key)
    for tag in IMAGES:
        shown = [row for row in rows if f"{tag}/path" in row]
        assert {int(row["monitor/step"]) for row in shown} == set(STEPS)
        assert all(
            (run_file(tmp_path).parent / "files" / row[f"{tag}/path"]).stat().st_size > 1000 for row in shown
        )
    axes = step_metrics(run_file(tmp_path))
    groups = ("fnet", "fnet_layers", "robust", "monitor", "monitor_cost")
    assert {axes[f"{group}/*"] for group in groups} == {"monitor/step"}


@pytest.mark.parametrize("log_every_n_steps", [1, 7, 1000])
def test_csv_holds_every_key_at_every_snapshot(tmp_path: Path, log_every_n_steps: int) -> None:
    logger = CSVLogger(tmp_path, name="csv")
    record = fit(tmp_path, logger, figures=None, log_every_n_steps=log_every_n_steps)
    with open(tmp_path / "csv" / "version_0" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    for key in KEYS:
        found = {int(row["step"]): float(row[key]) for row in rows if row.get(key)}
        assert_equal_to_record(found, record, key)


def test_without_a_logger_for_images_they_become_files_beside_the_record(tmp_path: Path) -> None:
    record = fit(tmp_path, CSVLogger(tmp_path, name="csv"))
    names = {p.name for p in (record.folder / "figures").iterdir()}
    assert names == {f"{step}_{tag.replace('/', '_')}.png" for tag in IMAGES for step in set(STEPS)}


def test_figures_come_at_snapshots_0_1_2_4_8_and_the_last(tmp_path: Path) -> None:
    watching = functional_monitor(1, figures="log", measures="fast", layer_measures=[])
    trainer(tmp_path, watching, max_epochs=1).fit(Net(), loader(11 * 8), loader(16))
    drawn = {int(p.name.split("_")[0]) for p in tmp_path.rglob("*_fnet_figures_graph.png")}
    assert drawn == {0, 1, 2, 4, 8, 11}


def test_figures_may_come_at_every_third_snapshot(tmp_path: Path) -> None:
    watching = functional_monitor(1, figures=3, measures="fast", layer_measures=[])
    trainer(tmp_path, watching, max_epochs=1).fit(Net(), loader(), loader(16))
    drawn = {int(p.name.split("_")[0]) for p in tmp_path.rglob("*_fnet_figures_graph.png")}
    assert drawn == {0, 3, 6, 8}


def test_the_record_holds_what_the_network_was(tmp_path: Path) -> None:
    watching = functional_monitor(4, save_correlation=True)
    trainer(tmp_path, watching, logger=CSVLogger(tmp_path)).fit(Net(), loader(), loader(16))
    (manifest,) = tmp_path.rglob("manifest.json")
    record = read_record(manifest.parent)
    settings = record.manifest["instruments"]["fnet"]
    assert [(layer["name"], layer["n_units"]) for layer in settings["layers"]] == [
        ("net.1", 16),
        ("net.3", 12),
    ]
    assert settings["every_n_steps"] == 4
    assert record.manifest["probe"]["n_samples"] == 16
    for snapshot in record.snapshots:
        arrays = {k.removeprefix("fnet."): a for k, a in record.arrays(snapshot.step).items()}
        n = int(snapshot.scalars["fnet/n_neurons"])
        assert arrays["correlation"].shape == (n, n)
        assert arrays["partition"].shape == arrays["degree"].shape == arrays["layer"].shape == (n,)
        assert np.bincount(arrays["edges"].ravel(), minlength=n).tolist() == arrays["degree"].tolist()
        assert len(np.unique(arrays["partition"])) == snapshot.scalars["fnet/n_communities"]
        assert len(arrays["diagram_1"]) == snapshot.scalars["fnet/loops"]


def test_the_notes_say_why_a_value_is_missing(tmp_path: Path) -> None:
    # 5 % of 28 nodes' pairs are less than the tree.
    watching = Monitor(FunctionalNetwork(nulls=2), every_n_steps=8, figures=None)
    trainer(tmp_path, watching, logger=CSVLogger(tmp_path)).fit(Net(), loader(), loader(16))
    (manifest,) = tmp_path.rglob("manifest.json")
    first = read_record(manifest.parent).snapshots[0]
    assert np.isnan(first.scalars["fnet/sigma"])
    assert "spanning tree" in first.notes["fnet/sigma"]
    assert first.notes["fnet/partition_ami"] == "no snapshot before this one"


def logger_of(kind: str, folder: Path) -> Any:
    return {
        "tensorboard": lambda: TensorBoardLogger(folder, name="tb"),
        "csv": lambda: CSVLogger(folder, name="csv"),
        "wandb": lambda: WandbLogger(save_dir=folder, project="p", offline=True, version="run"),
        "none": lambda: False,
    }[kind]()


@pytest.mark.parametrize("given", [False, True], ids=["by default", "where it is given"])
@pytest.mark.parametrize("kind", ["tensorboard", "csv", "wandb", "none"])
def test_the_record_and_its_figures_are_in_the_folder_of_the_run(
    tmp_path: Path, kind: str, given: bool
) -> None:
    import wandb

    root, own = tmp_path / "root", tmp_path / "mine" / "run 1"
    root.mkdir()
    watching = functional_monitor(8, figures="log", folder=own if given else None)
    trainer(root, watching, logger=logger_of(kind, root)).fit(Net(), loader())
    wandb.finish()
    (manifest,) = tmp_path.rglob("manifest.json")
    assert manifest.parent.name == "fnet"
    run = manifest.parents[1]
    if given:
        assert run == own
    elif kind == "none":
        assert run.parent == root  # and named by its time
    else:
        assert run == root / {"tensorboard": "tb/version_0", "csv": "csv/version_0", "wandb": "run"}[kind]
    assert read_record(manifest.parent).steps == [0, 8]
    takes_images = kind in ("tensorboard", "wandb")
    assert any((manifest.parent / "figures").glob("*.png")) != takes_images


def test_runs_without_a_logger_have_folders_of_their_own_below_the_root(tmp_path: Path) -> None:
    watching = functional_monitor(8, measures="fast")
    for _ in range(2):
        trainer(tmp_path, watching).fit(Net(), loader())
    assert len({manifest.parents[1] for manifest in tmp_path.glob("*/fnet/manifest.json")}) == 2


def test_a_given_folder_that_holds_a_record_keeps_it(tmp_path: Path) -> None:
    for density in (0.3, 0.4):
        watching = functional_monitor(8, measures="fast", density=density, folder=str(tmp_path / "run"))
        trainer(tmp_path, watching).fit(Net(), loader())
    kept = [read_record(tmp_path / "run" / name) for name in ("fnet", "fnet.1")]
    assert [r.manifest["instruments"]["fnet"]["density"] for r in kept] == [0.4, 0.3]
