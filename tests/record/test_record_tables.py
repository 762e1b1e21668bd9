"""What a manifest says of the scalars, and manifests that say it wrongly."""

import json
from pathlib import Path
from typing import Any

import pytest

from fnet_callbacks.errors import RecordError
from fnet_callbacks.keys import places
from fnet_callbacks.record import MANIFEST, Key, Snapshot, SnapshotStore, read_record

FNET = {
    "kind": "FunctionalNetwork",
    "layers": [{"place": "01", "name": "net.1", "n_units": 8}],
    "quantities": {"loops": {"label": "number of loops", "definition": "Points.", "range": [0, None]}},
}
TABLES = {
    "instruments": {"fnet": FNET},
    "keys": {
        "fnet/loops": ["fnet", "loops", None],
        "fnet_layers/01/loops": ["fnet", "loops", "01"],
        "fnet/n_neurons": ["fnet", "n_neurons", None],
        "monitor/interval": ["monitor", "interval", None],
    },
    "classes": ["cat", "dog"],
    "probe": {"n_samples": 4},
    "monitor": {"quantities": {"interval": {"label": "interval", "definition": "Steps.", "range": None}}},
}


def test_a_key_has_its_label_its_definition_and_the_name_of_its_layer(tmp_path: Path) -> None:
    SnapshotStore(tmp_path).start(TABLES)
    record = read_record(tmp_path)
    assert record.keys == {
        "fnet/loops": Key("fnet", "loops", None, "", "number of loops", "Points."),
        "fnet_layers/01/loops": Key("fnet", "loops", "01", "net.1", "number of loops", "Points."),
        "fnet/n_neurons": Key("fnet", "n_neurons", label="n neurons"),
        "monitor/interval": Key("monitor", "interval", label="interval", definition="Steps."),
    }
    assert (record.of_kind("FunctionalNetwork"), record.of_kind("Robustness")) == (["fnet"], [])
    assert (record.layer_names("fnet"), record.layer_names("other")) == ({"01": "net.1"}, {})


def test_why_an_instrument_was_left_out_stands_in_the_line(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    store.start(TABLES)
    store.append(Snapshot(0, {"fnet/loops": 1.0}))
    store.append(Snapshot(4, {"fnet/loops": 1.0}, left_out={"robust": "the budget is spent"}))
    assert [s.left_out for s in read_record(tmp_path).snapshots] == [{}, {"robust": "the budget is spent"}]
    first, second = (json.loads(line) for line in (tmp_path / "scalars.jsonl").read_text().splitlines())
    assert "left_out" not in first
    assert second["left_out"] == {"robust": "the budget is spent"}


def test_a_resumed_run_keeps_the_keys_of_the_snapshots_that_it_takes_over(tmp_path: Path) -> None:
    SnapshotStore(tmp_path / "old").start(TABLES)
    store = SnapshotStore(tmp_path / "new")
    store.adopt(tmp_path / "old", step=0)
    own = {"kind": "FunctionalNetwork", "quantities": {"sigma": {"label": "σ", "definition": ""}}}
    store.write_manifest({"instruments": {"fnet": own}, "keys": {"fnet/sigma": ["fnet", "sigma", None]}})
    keys = read_record(tmp_path / "new").keys
    assert set(keys) == {*TABLES["keys"], "fnet/sigma"}
    assert (keys["fnet/loops"].label, keys["fnet/sigma"].label) == ("number of loops", "σ")


def test_what_earlier_spans_say_of_a_key_is_known_where_the_last_does_not(tmp_path: Path) -> None:
    spans = [
        {"begin": 0, "instruments": {"fnet": FNET}, "probe": {}},
        {"begin": 5, "instruments": {"robust": {}}, "probe": {}},
    ]
    SnapshotStore(tmp_path).start({**TABLES, "instruments": {"robust": {}}, "spans": spans})
    assert read_record(tmp_path).keys["fnet_layers/01/loops"].layer == "net.1"


def test_a_bare_manifest_has_no_tables(tmp_path: Path) -> None:
    SnapshotStore(tmp_path).start({})
    record = read_record(tmp_path)
    assert (dict(record.keys), dict(record.instruments)) == ({}, {})


@pytest.mark.parametrize(
    ("table", "damage"),
    [
        ("instruments", 3),
        ("instruments", {"fnet": 3}),
        ("instruments", {"fnet": {"layers": 3}}),
        ("instruments", {"fnet": {"layers": [{"name": "net.1"}]}}),
        ("instruments", {"fnet": {"layers": [{"place": 1, "name": "net.1"}]}}),
        ("instruments", {"fnet": {"quantities": []}}),
        ("instruments", {"fnet": {"quantities": {"loops": "number of loops"}}}),
        ("instruments", {"fnet": {"quantities": {"loops": {"label": 3}}}}),
        ("instruments", {"fnet": {"quantities": {"loops": {"range": [0]}}}}),
        ("instruments", {"fnet": {"quantities": {"loops": {"range": ["0", "1"]}}}}),
        ("keys", []),
        ("keys", {"fnet/loops": "fnet"}),
        ("keys", {"fnet/loops": ["fnet", "loops"]}),
        ("keys", {"fnet/loops": ["fnet", "loops", 1]}),
        ("keys", {"fnet/loops": [None, "loops", None]}),
        ("monitor", 3),
        ("probe", 3),
        ("classes", 3),
        ("classes", [3]),
        ("spans", {}),
    ],
    ids=str,
)
def test_a_damaged_table_is_named_with_its_file(tmp_path: Path, table: str, damage: Any) -> None:
    SnapshotStore(tmp_path).start(TABLES)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**manifest, table: damage}))
    with pytest.raises(RecordError, match=rf"{tmp_path.name}/manifest\.json: `{table}` should be"):
        read_record(tmp_path)


def test_places_have_as_many_digits_as_the_last() -> None:
    assert places(0) == []
    assert places(3) == ["01", "02", "03"]
    assert (places(99)[0], places(99)[-1]) == ("01", "99")
    assert (places(100)[0], places(100)[-1]) == ("001", "100")
    assert sorted(places(1000)) == places(1000)
