"""What of two manifests says that a run went on measuring something else."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fnet_callbacks import RecordError, read_record
from fnet_callbacks.record import SnapshotStore
from fnet_callbacks.spans import Span, breaks, changes, go_on, spans_of

LAYERS = [
    {"place": "01", "name": "net.1", "n_units": 4, "neurons": [0, 1, 3]},
    {"place": "02", "name": "net.3", "n_units": 2, "neurons": [0, 1]},
]
FNET = {"kind": "FunctionalNetwork", "density": 0.1, "every_n_steps": 10, "layers": LAYERS}
MONITOR = {"every_n_steps": 10, "batch_to_inputs": None, "worker": "process"}
PROBE = {
    "n_samples": 3,
    "size": 64,
    "seed": 0,
    "source": "validation data",
    "indices": [4, 0, 2],
    "means": [[0.5, 0.3]],
}


def span(begin: int = 0, probe: Any = None, monitor: Any = None, **settings: Any) -> Span:
    parts = {
        "instruments": {"fnet": {**FNET, **settings}},
        "probe": {**PROBE, **(probe or {})},
        "monitor": {**MONITOR, **(monitor or {})},
    }
    return Span.of(parts, begin=begin)


def changed(**other: Any) -> list[str]:
    return list(changes(span(), span(**other)).get("fnet", {}))


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({}, []),
        ({"every_n_steps": 3, "worker": "inline", "density": 0.1}, []),
        ({"density": np.float64(0.2)}, ["density"]),
        ({"kind": "Robustness"}, ["kind"]),
        ({"layers": LAYERS[:1]}, ["layers"]),
        ({"layers": LAYERS[::-1]}, ["layers"]),
        ({"layers": [{**LAYERS[0], "neurons": [0, 1, 2]}, LAYERS[1]]}, ["layers"]),
        (
            {
                "layers": [
                    {"place": own["place"], "name": own["name"], "n_units": own["n_units"]} for own in LAYERS
                ]
            },
            [],
        ),  # does not say
        ({"new_setting": 1}, []),  # of a later version
        ({"quantities": {"loops": {"label": "loops"}}}, []),
        ({"monitor": {"every_n_steps": 3, "every_n_epochs": 1, "worker": "inline"}}, []),
        ({"monitor": {"batch_to_inputs": "image"}}, ["batch_to_inputs"]),
        ({"probe": {"seed": 1}}, ["probe_seed"]),
        ({"probe": {"size": 65}}, []),  # of three that there are
        ({"probe": {"size": 65, "indices": None}}, ["probe_size", "probe"]),
        ({"probe": {"indices": [0, 2, 4]}}, []),
        ({"probe": {"indices": [0, 2, 5]}}, ["probe"]),
        ({"probe": {"source": "training data"}}, []),  # the same inputs
        ({"probe": {"means": None, "source": "training data"}}, ["probe"]),
        ({"probe": {"means": [[0.5 + 1e-5, 0.3]]}}, []),  # another machine
        ({"probe": {"means": [[0.5 + 1e-3, 0.3]]}}, ["probe"]),
        ({"probe": {"means": [[0.5, 0.3], [0.5, 0.3]]}}, ["probe"]),
        ({"probe": {"means": [[None, 0.3]]}}, ["probe"]),
    ],
    ids=str,
)
def test_what_counts_is_what_values_follow_from(other: dict[str, Any], expected: list[str]) -> None:
    assert changed(**other) == expected


def test_a_probe_with_what_is_no_number_is_the_same_as_itself() -> None:
    own = span(probe={"means": [[float("nan"), float("inf")]]})
    assert changes(own, own) == {}


def test_tuples_and_lists_ones_and_decimals_are_the_same() -> None:
    assert changes(span(bounds=(0, 1.0)), span(bounds=[0.0, 1])) == {}
    assert list(changes(span(bounds=(0, 1)), span(bounds=(0, 2)))["fnet"]) == ["bounds"]


def test_a_change_is_told_in_few_words() -> None:
    many = [{"name": f"layer{i}", "n_units": 8} for i in range(9)]
    own = changes(span(), span(density=0.2, layers=many, bounds=[0.1] * 90))["fnet"]
    assert own["density"] == ("0.1", "0.2")
    shown = "layer0 (8), layer1 (8), layer2 (8), layer3 (8), ... 5 more"
    assert own["layers"] == ("net.1 (3), net.3 (2)", shown)


def test_instruments_that_only_one_has_are_no_change() -> None:
    other = Span.of({"instruments": {"robust": {"kind": "Robustness"}}, "probe": {}}, begin=5)
    assert changes(span(), other) == changes(other, span()) == {}
    assert breaks([span(), other, span(9, density=0.2)], "fnet") == [9]
    assert breaks([span(), other, span(9)], "fnet") == []


def test_spans_of_a_resumed_run() -> None:
    first, second = span(), span(9, density=0.2)
    assert go_on([first], span(5, every_n_steps=3)) == [span(every_n_steps=3)]  # nothing that counts
    assert go_on([first], second) == [first, second]
    assert go_on([first, second], span(17)) == [first, second, span(17)]
    assert go_on([first, second], span(9)) == [span()]  # from a checkpoint before the change
    assert go_on([first, second], span(5, density=0.3)) == [first, span(5, density=0.3)]


def test_a_record_without_spans_has_one(tmp_path: Path) -> None:
    SnapshotStore(tmp_path).start({"instruments": {"fnet": FNET}})
    record = read_record(tmp_path)
    assert [own.begin for own in record.spans] == [0]
    assert record.spans[0].instruments == {"fnet": FNET}
    assert (record.breaks("fnet"), record.last_span("fnet")) == ([], [])


def test_spans_are_read_as_they_were_written(tmp_path: Path) -> None:
    spans = [span(), span(9, density=0.2)]
    spans_in_manifest = [own.to_manifest() for own in spans]
    SnapshotStore(tmp_path).start({"instruments": {"fnet": FNET}, "spans": spans_in_manifest})
    record = read_record(tmp_path)
    assert list(record.spans) == spans
    assert spans_of(record.manifest) == record.spans
    assert record.breaks("fnet") == [9]


@pytest.mark.parametrize(
    "spans",
    [
        3,
        "text",
        {"begin": 0},
        [3],
        [{}],
        [{"begin": "0", "instruments": {}, "probe": {}}],
        [{"begin": 0, "instruments": [], "probe": {}}],
        [{"begin": 0, "instruments": {"fnet": 3}, "probe": {}}],
        [{"begin": 0, "instruments": {"fnet": {"layers": [3]}}, "probe": {}}],
        [{"begin": 0, "instruments": {"fnet": {"layers": [{"name": "net.1"}]}}, "probe": {}}],
        [{"begin": 0, "instruments": {}, "probe": 3}],
        [{"begin": 0, "instruments": {}, "probe": {}, "monitor": 3}],
    ],
    ids=json.dumps,
)
def test_spans_that_are_none_are_refused(tmp_path: Path, spans: Any) -> None:
    SnapshotStore(tmp_path).start({"instruments": {}, "spans": spans})
    with pytest.raises(RecordError, match=r"manifest\.json: `spans` should be"):
        read_record(tmp_path)


def test_what_a_setting_is_by_itself_is_not_what_the_others_have() -> None:
    own = span(monitor={"batch_to_inputs": "a"}, batch_to_inputs="c")
    assert changes(own, span(monitor={"batch_to_inputs": "b"}, batch_to_inputs="c")) == {}


def test_a_probe_that_only_one_knows_or_that_is_odd_is_left_aside() -> None:
    assert changes(Span(0, {"fnet": FNET}), span()) == {}
    assert changes(span(probe={"indices": 3, "means": None}), span(probe={"indices": 3, "means": None})) == {}
    assert changes(span(probe={"means": 3}), span(probe={"means": [[1, 2, 3]]})) != {}
