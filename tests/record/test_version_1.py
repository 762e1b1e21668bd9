"""Records of version 1 read as if they were of version 2: other names, the same numbers."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fnet_callbacks.compare.runs import read_runs
from fnet_callbacks.errors import RecordError
from fnet_callbacks.quantities.known import known
from fnet_callbacks.quantities.networks import BY_NAME
from fnet_callbacks.record import Key, Snapshot, SnapshotStore, read_record
from fnet_callbacks.report.content import content_of
from fnet_callbacks.report.page import page
from fnet_callbacks.report.tables import TABLES

RUNS = Path(__file__).parents[1] / "data" / "record_version_1"
RUN = RUNS / "run0" / "fnet"
MODULARITY = BY_NAME["modularity"]


def renamed(key: str) -> str:
    """What version 2 calls a key of the records in the folder of data."""
    for name, place in (("net.1", "01"), ("net.3", "02")):
        key = key.replace(f"/{name}/", f"/{place}/")
    return key


def test_every_number_of_every_snapshot_is_there() -> None:
    record = read_record(RUN)
    lines = [json.loads(line) for line in (RUN / "scalars.jsonl").read_text().splitlines()]
    last = {line["step"]: line for line in lines}  # of several of a step the last counts
    assert record.steps == list(last)
    for line, snapshot in zip(last.values(), record.snapshots, strict=True):
        expected = {
            renamed(key): math.nan if value is None else value
            for key, value in line["scalars"].items()
            if not key.endswith("/step")
        }
        np.testing.assert_equal(dict(snapshot.scalars), expected)
        assert snapshot.notes == {renamed(key): note for key, note in line["notes"].items()}
        assert sorted(snapshot.cost_ms.values()) == sorted(line["cost_ms"].values())
    assert record.snapshots[0].cost_ms["monitor_cost/robust/pgd"] == last[0]["cost_ms"]["robust/cost_ms/pgd"]


def test_every_key_stands_in_the_table_with_what_is_under_it() -> None:
    record = read_record(RUN)
    assert set(record.keys) == {key for s in record.snapshots for key in s.scalars}
    words = MODULARITY.label, MODULARITY.definition
    assert record.keys["fnet/modularity"] == Key("fnet", "modularity", None, "", *words)
    assert record.keys["fnet_layers/02/modularity"] == Key("fnet", "modularity", "02", "net.3", *words)
    assert record.keys["codes/01/label_ami"].label == "agreement of codes and labels (AMI)"
    assert record.keys["robust/pgd_0.1_accuracy"].label == "accuracy under PGD, ε = 0.1"
    assert record.keys["regions_layers/01/dead_share"].layer == "net.1"
    assert record.keys["robust/pgd_0.1_accuracy"].place is None
    assert all(key.definition for key in record.keys.values())


def test_monitors_are_instruments_and_what_they_share_is_the_monitors() -> None:
    record = read_record(RUN)
    kinds = {name: settings["kind"] for name, settings in record.instruments.items()}
    assert kinds == {
        "fnet": "FunctionalNetwork",
        "robust": "Robustness",
        "lesion": "Lesions",
        "specialization": "LocalSpecialization",
        "codes": "FunctionalCodes",
        "regions": "ReLURegions",
    }
    assert record.of_kind("FunctionalCodes") == ["codes"]
    assert record.layer_names("regions") == {"01": "net.1", "02": "net.3"}
    assert record.manifest["monitor"]["every_n_steps"] == 4
    assert not any("every_n_steps" in settings for settings in record.instruments.values())
    assert record.manifest["probe"]["n_samples"] == 32
    assert record.manifest["version"] == 2
    assert not {"monitors", "probes"} & record.manifest.keys()


def test_arrays_are_those_in_the_files() -> None:
    record = read_record(RUN)
    with np.load(RUN / "snapshot_8.npz") as own:
        for name, array in record.arrays(8).items():
            np.testing.assert_array_equal(array, own[name])


def test_a_report_says_the_same_of_them_once_they_are_written_in_version_2(tmp_path: Path) -> None:
    for name in ("run0", "run1"):
        record, store = read_record(RUNS / name / "fnet"), SnapshotStore(tmp_path / name / "fnet")
        store.start(record.manifest)
        for snapshot in record.snapshots:
            store.append(replace(snapshot, arrays=record.arrays(snapshot.step)))
        assert json.loads((tmp_path / name / "fnet" / "manifest.json").read_text())["version"] == 2
    before, now = content_of(read_runs([RUNS])), content_of(read_runs([tmp_path]))
    assert page(now) == page(before)
    for make in TABLES.values():
        np.testing.assert_equal(make(now).rows, make(before).rows)


def test_a_run_that_goes_on_from_one_has_its_snapshots(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "fnet")
    store.write_manifest(store.adopt(RUN, step=4))
    record = read_record(tmp_path / "fnet")
    assert record.steps == [0, 4]
    assert record.keys == read_record(RUN).keys
    assert np.isfinite(record.series("codes/01/label_ami")).all()


def test_a_run_that_goes_on_in_the_folder_of_one_is_read_whole(tmp_path: Path) -> None:
    shutil.copytree(RUN, tmp_path / "fnet")
    store = SnapshotStore(tmp_path / "fnet")
    source = store.adopt(tmp_path / "fnet", step=4)
    keys = {"fnet/modularity": ["fnet", "modularity", None]}
    store.write_manifest({"instruments": {"fnet": source["instruments"]["fnet"]}, "keys": keys})
    store.append(Snapshot(6, {"fnet/modularity": 0.5}))
    record = read_record(tmp_path / "fnet")
    assert record.steps == [0, 4, 6]
    assert np.isfinite(record.series("fnet_layers/01/modularity")).tolist() == [True, True, False]
    assert record.keys["robust/clean_accuracy"].quantity == "clean_accuracy"  # kept, as snapshots have it


def write(folder: Path, manifest: dict[str, Any], *rows: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({"format": "fnet-record", "version": 1, **manifest}))
    empty = {"end": False, "time": 0.0, "scalars": {}, "cost_ms": {}, "notes": {}}
    (folder / "scalars.jsonl").write_text("".join(json.dumps({**empty, **row}) + "\n" for row in rows))
    return folder


def test_what_was_logged_of_the_schedule_is_the_networks_and_the_monitors(tmp_path: Path) -> None:
    monitors = {
        "a": {"kind": "RobustnessMonitor"},
        "fnet": {"kind": "FunctionalNetworkMonitor", "layers": [{"name": "x/y"}, {"name": "x_y"}]},
    }
    scalars = {f"{name}/{what}": 4.0 for name in monitors for what in ("step", "interval", "skipped")}
    scalars |= {"fnet_layers/x_y/loops": 1.0, "fnet_layers/x_y_/loops": 2.0, "mine/loss": 3.0}
    record = read_record(write(tmp_path, {"monitors": monitors}, {"step": 4, "scalars": scalars}))
    assert record.snapshots[0].scalars == {
        "monitor/interval": 4.0,
        "monitor/skipped": 4.0,
        "fnet_layers/01/loops": 1.0,
        "fnet_layers/02/loops": 2.0,
        "mine/loss": 3.0,
    }
    interval = known("Monitor", "interval")
    assert interval is not None
    words = interval.label, interval.definition
    assert record.keys["monitor/interval"] == Key("monitor", "interval", None, "", *words)
    assert "mine/loss" not in record.keys


def test_words_go_by_the_class_of_the_monitor_and_are_the_name_where_there_are_none(tmp_path: Path) -> None:
    monitors = {"mine": {"kind": "FunctionalNetworkMonitor"}, "other": {"kind": "SomebodysMonitor"}}
    scalars = {"mine/modularity": 0.5, "mine/hub_share": 0.1, "other/modularity": 0.4}
    record = read_record(write(tmp_path, {"monitors": monitors}, {"step": 4, "scalars": scalars}))
    words = MODULARITY.label, MODULARITY.definition
    assert record.keys == {
        "mine/modularity": Key("mine", "modularity", None, "", *words),
        "mine/hub_share": Key("mine", "hub_share", label="hub share"),
        "other/modularity": Key("other", "modularity", label="modularity"),
    }


def test_layers_go_by_the_places_that_they_had_then(tmp_path: Path) -> None:
    def fnet(*names: str) -> dict[str, Any]:
        return {"fnet": {"kind": "FunctionalNetworkMonitor", "layers": [{"name": name} for name in names]}}

    spans = [
        {"begin": 0, "monitors": fnet("a", "b"), "probes": {"fnet": {"n_samples": 8}}},
        {"begin": 5, "monitors": fnet("b"), "probes": {}},
    ]
    rows = [
        {"step": 0, "scalars": {"fnet_layers/a/loops": 1, "fnet_layers/b/loops": 2}},
        {"step": 8, "scalars": {"fnet_layers/b/loops": 3}},
    ]
    record = read_record(write(tmp_path, {"monitors": fnet("b"), "spans": spans}, *rows))
    assert [dict(s.scalars) for s in record.snapshots] == [
        {"fnet_layers/01/loops": 1, "fnet_layers/02/loops": 2},
        {"fnet_layers/01/loops": 3},
    ]
    assert (record.keys["fnet_layers/01/loops"].layer, record.keys["fnet_layers/02/loops"].layer) == (
        "b",
        "b",
    )
    assert record.breaks("fnet") == [5]


def test_a_probe_of_a_monitors_own_is_kept_with_it(tmp_path: Path) -> None:
    probes = {"fnet": {"n_samples": 8}, "robust": {"n_samples": 4}}
    monitors = {
        "robust": {"kind": "RobustnessMonitor"},
        "fnet": {"kind": "FunctionalNetworkMonitor"},
        "regions": {"kind": "ReLURegionMonitor", "operations": ["f", "g"]},
    }
    record = read_record(write(tmp_path, {"monitors": monitors, "probes": probes}))
    assert record.manifest["probe"] == {"n_samples": 8}
    assert record.instruments["robust"]["probe"] == {"n_samples": 4}
    assert "probe" not in record.instruments["fnet"]
    assert record.layer_names("regions") == {"01": "f", "02": "g"}


@pytest.mark.parametrize(
    ("damage", "table"),
    [
        ({"monitors": 3}, "monitors"),
        ({"monitors": {"fnet": 3}}, "monitors"),
        ({"monitors": {"fnet": {"layers": [3]}}}, "monitors"),
        ({"spans": 3}, "spans"),
        ({"spans": [{"begin": "x"}]}, "spans"),
        ({"spans": [{"begin": 0, "monitors": []}]}, "monitors"),
    ],
)
def test_a_damaged_manifest_of_version_1_is_named(tmp_path: Path, damage: dict[str, Any], table: str) -> None:
    with pytest.raises(RecordError, match=rf"manifest\.json: `{table}` should be"):
        read_record(write(tmp_path, damage))
