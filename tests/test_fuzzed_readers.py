"""Files that somebody else wrote, or that a disk spoilt: a reader gives what is there, or an ``FnetError``.

Some fifty cases a reader; ``FNET_ALL=1`` makes them 100,000 over all.
"""

import contextlib
import copy
import gzip
import json
import lzma
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from cells import EVERY_CELL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.data import read_cifar10, read_idx
from experiments.trials import read_sweep
from fnet_callbacks.compare.runs import read_runs
from fnet_callbacks.errors import FnetError
from fnet_callbacks.record import Record, Snapshot, SnapshotStore, read_record
from fnet_callbacks.report.content import content_of
from fnet_callbacks.report.page import write_page

READERS = 7
CASES = 100_000 // READERS + 1 if EVERY_CELL else 50
FUZZ = settings(
    deadline=None,
    max_examples=CASES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
VERSION_1 = Path(__file__).parent / "data" / "record_version_1" / "run0" / "fnet"
pytestmark = pytest.mark.timeout(300 if CASES < 1000 else 7200)

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def spoilt(data: st.DataObject, good: bytes) -> bytes:
    """Bytes with some of them changed, a part left out, or others altogether."""
    content = bytearray(good)
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    start = data.draw(st.integers(0, len(content)))
    del content[start : start + data.draw(st.sampled_from([0, 0, 1, 40]))]
    return data.draw(st.sampled_from([bytes(content), bytes(content), data.draw(st.binary(max_size=60))]))


def with_something_else(data: st.DataObject, good: Any) -> Any:
    """JSON with a value somewhere in it that does not belong there."""
    found = place = copy.deepcopy({"": good})
    key: Any = ""
    while isinstance(place[key], (dict, list)) and place[key] and data.draw(st.integers(0, 3)):
        place = place[key]
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
    place[key] = data.draw(JSON)
    return found[""]


# Records.


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record as a run leaves it."""
    folder = tmp_path_factory.mktemp("whole") / "fnet"
    store = SnapshotStore(folder)
    generator = np.random.default_rng(0)
    store.start(
        {
            "configuration": {"model.regularizer": "none", "seed": 1},
            "monitor": {"every_n_steps": 5},
            "instruments": {
                "fnet": {
                    "kind": "FunctionalNetwork",
                    "layers": [{"place": "01", "name": "a", "n_units": 6}],
                    "quantities": {"modularity": {"label": "Q", "definition": "", "range": [-0.5, 1]}},
                }
            },
            "probe": {"n_samples": 8},
            "classes": ["even", "odd"],
            "keys": {
                "fnet/modularity": ["fnet", "modularity", None],
                "fnet_layers/01/modularity": ["fnet", "modularity", "01"],
                "robust/clean_accuracy": ["robust", "clean_accuracy", None],
                "monitor/interval": ["monitor", "interval", None],
            },
            "versions": {"python": "3"},
        }
    )
    for step in (0, 5, 10):
        arrays = {
            "fnet.partition": generator.integers(0, 2, 6),
            "fnet.layer": np.zeros(6, int),
            "fnet.neuron": np.arange(6),
            "fnet.edges": np.array([[0, 1], [1, 2], [3, 4]]),
            "fnet.degrees": np.array([1, 2, 1, 1, 1, 0]),
            "fnet.community": generator.integers(0, 2, 6),
            "fnet.diagram_1": generator.random((4, 2)),
        }
        scalars = {"monitor/interval": 5, "fnet/modularity": 0.1 * step, "robust/clean_accuracy": 0.5}
        scalars["fnet_layers/01/modularity"] = 0.2
        cost = {"monitor_cost/fnet/total": 3.0}
        store.append(
            Snapshot(step, scalars, cost, {"fnet/sigma": "small"}, arrays, logged={"val_accuracy": 0.5})
        )
    return folder


def copied(whole: Path, folder: Path) -> Path:
    """A record that may be spoilt."""
    folder.mkdir(exist_ok=True)
    for file in whole.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@FUZZ
@given(data=st.data())
def test_the_text_of_a_record(tmp_path: Path, whole: Path, data: st.DataObject) -> None:
    for name in ("manifest.json", "scalars.jsonl"):
        (tmp_path / name).write_bytes(spoilt(data, (whole / name).read_bytes()))
    with contextlib.suppress(FnetError):
        read_record(tmp_path)


@FUZZ
@given(
    row=st.fixed_dictionaries(
        dict.fromkeys(("step", "scalars", "cost_ms", "notes", "end", "time"), JSON),
        optional={"left_out": JSON, "logged": JSON},
    ),
    version=st.sampled_from([1, 2]),
)
def test_any_json_in_the_place_of_a_snapshot(tmp_path: Path, row: Any, version: int) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"format": "fnet-record", "version": version}))
    (tmp_path / "scalars.jsonl").write_text(json.dumps(row) + "\n")
    with contextlib.suppress(FnetError):
        read_record(tmp_path)


@FUZZ
@given(data=st.data())
def test_the_archives_of_a_record(tmp_path: Path, whole: Path, data: st.DataObject) -> None:
    good = tmp_path / "good.npz"
    if not good.exists():
        np.savez_compressed(good, a=np.arange(4), b=np.zeros((0, 2)))
    source = data.draw(st.sampled_from([good, whole / "snapshot_0.npz"]))
    (tmp_path / "snapshot_0.npz").write_bytes(spoilt(data, source.read_bytes()))
    with contextlib.suppress(FnetError):
        Record(tmp_path, {}, (Snapshot(0, {}),)).arrays(0)


@FUZZ
@given(data=st.data())
def test_runs_that_are_compared(tmp_path: Path, whole: Path, data: st.DataObject) -> None:
    folder = copied(whole, tmp_path / "fnet")
    manifest = json.loads((whole / "manifest.json").read_text())
    lines = [json.loads(line) for line in (whole / "scalars.jsonl").read_text().splitlines()]
    if data.draw(st.booleans()):
        manifest = with_something_else(data, manifest)
    if data.draw(st.booleans()):
        lines = with_something_else(data, lines)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    rows = lines if isinstance(lines, list) else [lines]
    (folder / "scalars.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with contextlib.suppress(FnetError):
        runs = read_runs([folder])
        assert len(runs.runs) + len(runs.problems) == 1


@FUZZ
@given(data=st.data())
def test_records_of_version_1(tmp_path: Path, data: st.DataObject) -> None:
    folder = copied(VERSION_1, tmp_path / "fnet")
    manifest = json.loads((VERSION_1 / "manifest.json").read_text())
    for part in ("monitors", "probes"):  # those of which a small part is enough
        manifest[part] = {name: manifest[part][name] for name in ("fnet", "codes", "regions")}
    if data.draw(st.booleans()):
        manifest["spans"] = [
            {"begin": begin, "monitors": manifest["monitors"], "probes": manifest["probes"]}
            for begin in (0, 5)
        ]
    (folder / "manifest.json").write_text(json.dumps(with_something_else(data, manifest)))
    with contextlib.suppress(FnetError):
        runs = read_runs([folder])
        assert len(runs.runs) + len(runs.problems) == 1


@settings(FUZZ, max_examples=max(10, CASES // 100))
@given(data=st.data())
def test_the_page_of_two_runs_of_which_one_is_spoilt(
    tmp_path: Path, whole: Path, data: st.DataObject
) -> None:
    one, other = (copied(whole, tmp_path / name) for name in ("one", "other"))
    kind = data.draw(st.sampled_from(["manifest", "scalars", "arrays"]))
    if kind == "manifest":
        spoilt_one = with_something_else(data, json.loads((whole / "manifest.json").read_text()))
        (one / "manifest.json").write_text(json.dumps(spoilt_one))
    elif kind == "scalars":
        (one / "scalars.jsonl").write_bytes(spoilt(data, (whole / "scalars.jsonl").read_bytes()))
    else:
        (one / "snapshot_10.npz").write_bytes(spoilt(data, (whole / "snapshot_10.npz").read_bytes()))
    with contextlib.suppress(FnetError):
        write_page(content_of(read_runs([one, other])), tmp_path / "page.html")


# Configurations.

SWEEP = """\
config: base.yaml
seed_everything: [0, 1]
model.regularizer: [none, dropout]
threads: 1
"""
BASE = (
    "model: {regularizer: none, hidden: [3, 4]}\ntrainer: {max_epochs: 1, callbacks: [{class_path: a.B}]}\n"
)
YAML = st.sampled_from(
    [
        "- " * 3000,
        "[" * 3000,
        "a: &a [*a]",
        "a: &a {b: *a}",
        "&a [1]: 2",
        "? [1, 2]\n: 3",
        "a: !!python/object/apply:os.system [true]",
        "a: !!timestamp nonsense",
        "a: 2001-99-99",
        "a: 2001-01-01\n2001-01-01: {2001-01-01: 1}",
        "a: !!int x",
        "a: !!binary x",
        "a: .nan\nb: .inf",
        "a: &a [1,1,1,1,1,1,1,1,1]\n"
        + "\n".join(
            f"{n}: &{n} [{','.join([f'*{m}'] * 9)}]" for m, n in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "\0",
        "{1: 2}",
        "<<: 3",
        "a: " + "9" * 5000,
    ]
)


@FUZZ
@given(data=st.data())
def test_a_sweep_and_its_configuration(tmp_path: Path, data: st.DataObject) -> None:
    for name, good in (("sweep.yaml", SWEEP), ("base.yaml", BASE)):
        kind = data.draw(st.sampled_from(["good", "spoilt", "else", "odd"]))
        text: bytes = good.encode()
        if kind == "spoilt":
            text = spoilt(data, text)
        elif kind == "else":
            text = yaml.safe_dump(with_something_else(data, yaml.safe_load(good))).encode()
        elif kind == "odd":
            text += data.draw(YAML).encode()
        (tmp_path / name).write_bytes(text)
    with contextlib.suppress(FnetError):
        for trial in read_sweep(tmp_path / "sweep.yaml"):
            assert trial.folder(tmp_path).parent == tmp_path


@pytest.mark.parametrize("text", YAML.elements)
def test_an_odd_configuration_is_refused_or_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "base.yaml").write_text(text)
    (tmp_path / "sweep.yaml").write_text("config: base.yaml\nseed_everything: [0, 1]")
    with contextlib.suppress(FnetError):
        assert len(read_sweep(tmp_path / "sweep.yaml")) == 2


# Images.

PACK = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}
IDX = bytes([0, 0, 8, 2]) + struct.pack(">2I", 3, 4) + bytes(range(12))
CIFAR = b"\x03" + bytes(3072)


@FUZZ
@given(data=st.data(), suffix=st.sampled_from(list(PACK)), packed=st.booleans())
def test_image_files(tmp_path: Path, data: st.DataObject, suffix: str, packed: bool) -> None:
    read, good = data.draw(st.sampled_from([(read_idx, IDX), (read_cifar10, CIFAR)]))
    content = PACK[suffix](spoilt(data, good)) if packed else spoilt(data, PACK[suffix](good))
    path = tmp_path / f"images{suffix}"
    path.write_bytes(content)
    with contextlib.suppress(FnetError):
        found = read(path)
        images = found[0] if isinstance(found, tuple) else found
        assert images.dtype == np.uint8
        assert images.size <= max(len(content), 3073 if packed or suffix else 0)


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
@pytest.mark.parametrize("read", [read_idx, read_cifar10])
def test_an_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, suffix: str, read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.image_files.MAX_BYTES", 10**6)
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(PACK[suffix](bytes(10**6 + 1)))
    with pytest.raises(FnetError, match="more than 1000000 bytes"):
        read(path)
