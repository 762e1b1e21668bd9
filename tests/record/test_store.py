"""The record on disk: whole snapshots or nothing, whatever happens to the run or to the files."""

import contextlib
import json
import resource
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fnet_callbacks.errors import RecordError
from fnet_callbacks.record import Record, Snapshot, SnapshotStore, files, read_record

MANIFEST = {"model": "Net", "radius": float("inf")}


def snapshot(step: int, *, is_end: bool = False, size: int = 3) -> Snapshot:
    return Snapshot(
        step=step,
        scalars={"fnet/modularity": step / 10, "fnet/sigma": float("nan")},
        cost_ms={"monitor_cost/fnet/sigma": 1.5},
        notes={"fnet/sigma": "too small"},
        arrays={"fnet.degree": np.arange(size) + step, "fnet.edges": np.zeros((0, 2), np.int32)},
        is_end=is_end,
        time=1000.0 + step,
    )


def store(folder: Path, *steps: int, end: int | None = None) -> SnapshotStore:
    made = SnapshotStore(folder)
    made.start(MANIFEST)
    for step in steps:
        made.append(snapshot(step))
    if end is not None:
        made.append(snapshot(end, is_end=True))
    return made


def assert_whole(record: Record) -> None:
    for step in record.steps:
        np.testing.assert_array_equal(record.arrays(step)["fnet.degree"], np.arange(3) + step)


@contextlib.contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """A disk that is full: what lies beyond cannot be written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_was_written_is_read_back(tmp_path):
    store(tmp_path, 0, 10)
    record = read_record(tmp_path)
    assert record.steps == [0, 10]
    assert record.manifest["model"] == "Net"
    np.testing.assert_array_equal(record.series("fnet/modularity"), [0, 1])
    last, expected = record.snapshots[1], snapshot(10)
    assert (last.cost_ms, last.notes, last.is_end, last.time) == (
        expected.cost_ms,
        expected.notes,
        False,
        expected.time,
    )
    assert_whole(record)
    assert record.arrays(10)["fnet.edges"].shape == (0, 2)


def test_what_no_snapshot_has_is_refused_with_what_there_is(tmp_path):
    store(tmp_path, 0)
    record = read_record(tmp_path)
    with pytest.raises(RecordError, match="there is fnet/modularity"):
        record.series("modularity")
    with pytest.raises(RecordError, match="`step=7` has no snapshot; there are 0"):
        record.arrays(7)


def test_a_record_is_readable_with_json_and_numpy_alone(tmp_path):
    store(tmp_path, 0, 10)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    manifest = json.loads((tmp_path / "manifest.json").read_text(), parse_constant=refuse)
    assert (manifest["format"], manifest["version"], manifest["radius"]) == ("fnet-record", 2, None)
    lines = [
        json.loads(line, parse_constant=refuse)
        for line in (tmp_path / "scalars.jsonl").read_text().splitlines()
    ]
    assert [line["step"] for line in lines] == [0, 10]
    assert lines[1]["scalars"] == {"fnet/modularity": 1.0, "fnet/sigma": None}
    with np.load(tmp_path / "snapshot_10.npz", allow_pickle=False) as arrays:
        assert arrays["fnet.degree"].tolist() == [10, 11, 12]


@pytest.mark.parametrize("torn", [b'{"step": 20, "sc', b"\xff\xfe", b"{"])
def test_a_torn_last_line_is_dropped_and_cut_off_by_the_next(tmp_path, torn):
    writer = store(tmp_path, 0, 10)
    with open(tmp_path / "scalars.jsonl", "ab") as file:
        file.write(torn)
    assert read_record(tmp_path).steps == [0, 10]
    writer.append(snapshot(20))
    assert read_record(tmp_path).steps == [0, 10, 20]


def test_a_torn_line_that_is_longer_than_a_block_is_cut_off(tmp_path):
    writer = store(tmp_path, 0)
    with open(tmp_path / "scalars.jsonl", "ab") as file:
        file.write(b"x" * 10_000)
    writer.append(snapshot(10))
    assert read_record(tmp_path).steps == [0, 10]


def test_a_torn_first_line_leaves_an_empty_record(tmp_path):
    writer = store(tmp_path)
    (tmp_path / "scalars.jsonl").write_bytes(b'{"step"')
    assert read_record(tmp_path).steps == []
    writer.append(snapshot(0))
    assert read_record(tmp_path).steps == [0]


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    store(tmp_path, 0, 10)
    lines = (tmp_path / "scalars.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "scalars.jsonl").write_bytes(lines[0] + b"{}\n" + lines[1])
    with pytest.raises(RecordError, match=r"scalars\.jsonl, line 2: not a snapshot"):
        read_record(tmp_path)


def test_of_several_lines_of_a_step_the_last_counts(tmp_path):
    writer = store(tmp_path, 0, 10)
    writer.append(Snapshot(10, {"fnet/modularity": 7.0}))
    record = read_record(tmp_path)
    assert record.steps == [0, 10]
    assert record.series("fnet/modularity")[1] == 7


def test_no_folder_and_no_manifest_lead_to_what_is_right(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(
            RecordError, match=r"`folder=.* holds no manifest\.json; it should be a record's folder"
        ):
            read_record(folder)


def test_a_record_of_another_version_is_refused(tmp_path):
    store(tmp_path, 0)
    (tmp_path / "manifest.json").write_text('{"format": "fnet-record", "version": 3}')
    with pytest.raises(RecordError, match="a record of version 3; this package reads 1 and 2"):
        read_record(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"format": "other"}', "[" * 100_000])
def test_a_manifest_that_is_none_is_refused(tmp_path, text):
    store(tmp_path, 0)
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(RecordError, match=r"manifest\.json"):
        read_record(tmp_path)


@pytest.mark.parametrize("file", ["scalars.jsonl", "manifest.json"])
def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path, file):
    store(tmp_path)
    (tmp_path / file).unlink()
    (tmp_path / file).mkdir()
    with pytest.raises(RecordError, match=f"{file} cannot be read"):
        read_record(tmp_path)


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_a_damaged_archive_is_named_and_the_others_stay_readable(tmp_path, keep):
    store(tmp_path, 0, 10)
    file = tmp_path / "snapshot_10.npz"
    file.write_bytes(file.read_bytes()[:keep])
    record = read_record(tmp_path)
    with pytest.raises(RecordError, match=r"snapshot_10\.npz cannot be read"):
        record.arrays(10)
    assert record.arrays(0)["fnet.degree"].tolist() == [0, 1, 2]


def test_pickled_objects_are_refused(tmp_path):
    store(tmp_path, 0)
    np.savez(tmp_path / "snapshot_0.npz", bad=np.array([{}], dtype=object))
    with pytest.raises(RecordError, match="cannot be read"):
        read_record(tmp_path).arrays(0)


def test_a_member_that_is_no_array_is_refused(tmp_path):
    store(tmp_path, 0)
    with zipfile.ZipFile(tmp_path / "snapshot_0.npz", "w") as archive:
        archive.writestr("note.txt", "hello")
    with pytest.raises(RecordError, match=r"holds something that is no array: note\.txt"):
        read_record(tmp_path).arrays(0)


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    store(tmp_path, 0)
    np.savez_compressed(tmp_path / "snapshot_0.npz", zeros=np.zeros(10**6))
    assert (tmp_path / "snapshot_0.npz").stat().st_size < 10**5
    monkeypatch.setattr(files, "MAX_BYTES", 10**6)
    with pytest.raises(RecordError, match="unpacks to 8000128 bytes; the limit is 1000000"):
        read_record(tmp_path).arrays(0)


@pytest.mark.parametrize("file", ["manifest.json", "scalars.jsonl"])
def test_a_file_that_is_too_large_is_refused(tmp_path, monkeypatch, file):
    store(tmp_path, *range(10))
    (tmp_path / file).write_bytes(b" " * 10_000)
    monkeypatch.setattr(files, "MAX_BYTES", 9_999)
    with pytest.raises(RecordError, match=rf"{file} is larger than the limit of 9999 bytes"):
        read_record(tmp_path)


def test_a_second_run_in_the_same_folder_moves_the_first_aside(tmp_path):
    folder = tmp_path / "fnet"
    for step in (1, 2, 3):
        store(folder, step)
    assert [read_record(tmp_path / name).steps for name in ("fnet.1", "fnet.2", "fnet")] == [[1], [2], [3]]
    for name in ("fnet.1", "fnet.2", "fnet"):
        assert_whole(read_record(tmp_path / name))


def test_a_resumed_run_in_another_folder_takes_what_its_checkpoint_had(tmp_path):
    store(tmp_path / "old", 0, 10, 20, end=25)
    new = SnapshotStore(tmp_path / "new")
    assert new.adopt(tmp_path / "old", step=10) == read_record(tmp_path / "old").manifest
    new.write_manifest(MANIFEST)
    new.append(snapshot(20))
    record = read_record(tmp_path / "new")
    assert record.steps == [0, 10, 20]
    assert [s.time for s in record.snapshots] == [1000, 1010, 1020]
    assert_whole(record)
    assert read_record(tmp_path / "old").steps == [0, 10, 20, 25]
    assert not (tmp_path / "new" / "snapshot_25.npz").exists()


def test_a_resumed_run_moves_aside_a_record_that_stands_where_it_writes(tmp_path):
    store(tmp_path / "old", 0, 10)
    store(tmp_path / "new", 5)
    SnapshotStore(tmp_path / "new").adopt(tmp_path / "old", step=10)
    assert read_record(tmp_path / "new").steps == [0, 10]
    assert read_record(tmp_path / "new.1").steps == [5]


def test_a_resumed_run_in_the_same_folder_keeps_what_it_measures_again_as_superseded(tmp_path):
    writer = store(tmp_path, 0, 10, 20, end=25)
    SnapshotStore(tmp_path).adopt(tmp_path, step=10)
    assert read_record(tmp_path).steps == [0, 10]
    assert not (tmp_path / "snapshot_20.npz").exists()
    attic = tmp_path / "superseded"
    assert [json.loads(line)["step"] for line in (attic / "scalars.jsonl").read_text().splitlines()] == [
        20,
        25,
    ]
    assert {p.name for p in attic.glob("*.npz")} == {"snapshot_20.npz", "snapshot_25.npz"}
    writer.append(snapshot(20))
    assert_whole(read_record(tmp_path))


def test_an_end_snapshot_is_dropped_when_training_goes_on_from_its_step(tmp_path):
    store(tmp_path / "old", 0, end=10)
    SnapshotStore(tmp_path / "new").adopt(tmp_path / "old", step=10)
    assert read_record(tmp_path / "new").steps == [0]


def test_adopting_what_is_no_record_changes_nothing(tmp_path):
    store(tmp_path / "new", 5)
    with pytest.raises(RecordError):
        SnapshotStore(tmp_path / "new").adopt(tmp_path / "old", step=10)
    assert read_record(tmp_path / "new").steps == [5]


def test_an_adopted_line_is_equal_to_the_bit(tmp_path):
    store(tmp_path / "old", 0, 10)
    SnapshotStore(tmp_path / "new").adopt(tmp_path / "old", step=10)
    assert (tmp_path / "new" / "scalars.jsonl").read_bytes() == (
        tmp_path / "old" / "scalars.jsonl"
    ).read_bytes()


def test_a_disk_that_is_full_in_the_middle_of_a_line_leaves_the_lines_before_whole(tmp_path):
    writer = store(tmp_path, 0, 10)
    before = (tmp_path / "scalars.jsonl").read_bytes()
    with no_file_larger_than(len(before) + 20), pytest.raises(OSError):
        writer.append(Snapshot(20, {"fnet/modularity": 2.0}))
    assert (tmp_path / "scalars.jsonl").read_bytes() == before
    writer.append(snapshot(30))
    assert read_record(tmp_path).steps == [0, 10, 30]


def test_a_disk_that_is_full_in_the_middle_of_the_arrays_leaves_no_half_file(tmp_path):
    writer = store(tmp_path, 0, 10)
    with no_file_larger_than(4096), pytest.raises(OSError):
        writer.append(snapshot(20, size=10_000))
    record = read_record(tmp_path)
    assert record.steps == [0, 10]
    assert_whole(record)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "manifest.json",
        "scalars.jsonl",
        "snapshot_0.npz",
        "snapshot_10.npz",
    ]


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        SnapshotStore(tmp_path / "file" / "fnet").start(MANIFEST)


def test_a_store_does_not_write_into_a_record_that_another_run_has_taken_over(tmp_path):
    first = SnapshotStore(tmp_path)
    first.start({**MANIFEST, "writer": "first"})
    for step in (0, 3):
        assert first.append(snapshot(step))
    second = SnapshotStore(tmp_path)
    second.adopt(tmp_path, step=0)
    second.write_manifest({**MANIFEST, "writer": "second"})
    with pytest.raises(OSError, match="taken over by another run"):
        first.append(snapshot(6))
    assert second.append(snapshot(2))
    assert read_record(tmp_path).steps == [0, 2]
    assert not (tmp_path / "snapshot_6.npz").exists()
