"""Which records are read: each once, whatever way leads to it; all others are named with the reason."""

import os
import shutil
import time
from pathlib import Path

import pytest

from fnet_callbacks.compare.records import read_records
from fnet_callbacks.compare.runs import read_runs
from fnet_callbacks.errors import FnetError
from fnet_callbacks.record import Snapshot, SnapshotStore


def write(folder: Path, *, started: float | None = None, writer: str = "", **configuration: object) -> Path:
    store = SnapshotStore(folder)
    store.start({"configuration": configuration, "writer": writer})
    begun = time.time() if started is None else started
    for step in (0, 8):
        store.append(Snapshot(step, {"q": 1.0}, time=begun + step))
    return folder


def read(*paths: Path) -> tuple[list[str], dict[str, str]]:
    """Folders of what is read, and why others are not, below what they have in common."""
    records, problems = read_records(paths)
    base = Path(os.path.commonpath([path.absolute() for path in paths]))
    return (
        [str(record.folder.relative_to(base)) for record in records],
        {str(Path(folder).relative_to(base)): reason for folder, reason in problems.items()},
    )


def test_runs_that_are_links_are_read_and_go_by_the_links_names(tmp_path):
    for name in ("x", "y"):
        write(tmp_path / "store" / f"{name}-4711" / "fnet", dropout=name)
        (tmp_path / "runs").mkdir(exist_ok=True)
        (tmp_path / "runs" / name).symlink_to(tmp_path / "store" / f"{name}-4711")
    found = read_runs([tmp_path / "runs"])
    assert [run.name for run in found.runs] == ["x", "y"]
    assert found.problems == {}


def test_a_record_that_is_itself_a_link_and_a_path_that_is_one(tmp_path):
    write(tmp_path / "store" / "a")
    (tmp_path / "runs" / "v0").mkdir(parents=True)
    (tmp_path / "runs" / "v0" / "fnet").symlink_to(Path("..") / ".." / "store" / "a")
    (tmp_path / "link").symlink_to("runs")
    assert read(tmp_path / "runs") == (["v0/fnet"], {})
    assert read(tmp_path / "link") == (["v0/fnet"], {})


def test_a_run_that_is_found_in_two_ways_is_read_once_under_its_own_name(tmp_path):
    write(tmp_path / "version_1" / "fnet")
    (tmp_path / "latest").symlink_to("version_1")
    found, problems = read(tmp_path)
    assert found == ["version_1/fnet"]
    assert list(problems) == ["latest"]
    assert "which is read already" in problems["latest"]


def test_two_links_to_one_run_are_one_run(tmp_path):
    write(tmp_path / "store" / "fnet")
    (tmp_path / "runs").mkdir()
    for name in ("a", "b"):
        (tmp_path / "runs" / name).symlink_to(tmp_path / "store")
    found, problems = read(tmp_path / "runs")
    assert found == ["a/fnet"]
    assert list(problems) == ["b"]


def test_links_that_lead_in_a_circle_end(tmp_path):
    write(tmp_path / "runs" / "a" / "fnet")
    write(tmp_path / "beside" / "fnet")
    (tmp_path / "runs" / "a" / "up").symlink_to("..")
    (tmp_path / "runs" / "a" / "out").symlink_to(tmp_path)
    (tmp_path / "runs" / "self").symlink_to("self")
    (tmp_path / "runs" / "one").symlink_to("two")
    (tmp_path / "runs" / "two").symlink_to("one")
    found, problems = read(tmp_path / "runs")
    assert found == ["a/fnet"]
    assert {name: reason.split(",")[-1].strip() for name, reason in problems.items()} == {
        "a/up": "it is a link to a folder that it is in",
        "a/out": "it is a link to a folder that it is in",
        "one": "which is not there",
        "self": "which is not there",
        "two": "which is not there",
    }


def test_two_folders_that_lead_into_each_other_are_read_once(tmp_path):
    write(tmp_path / "a" / "run" / "fnet")
    write(tmp_path / "b" / "run" / "fnet")
    (tmp_path / "a" / "b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "a").symlink_to(tmp_path / "a")
    found, _ = read(tmp_path / "a")
    assert found == ["run/fnet", "b/run/fnet"]


def test_a_link_to_nothing_is_told(tmp_path):
    write(tmp_path / "a" / "fnet")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    found, problems = read(tmp_path)
    assert found == ["a/fnet"]
    assert problems["gone"].endswith("nowhere, which is not there")


@pytest.mark.parametrize("configured", [True, False])
def test_folders_that_are_named_by_a_value_are_runs(tmp_path, configured):
    for k, value in enumerate((0, 0.25, 0.5, 1, 1.5)):
        write(
            tmp_path / f"dropout_{value}", started=1e9 - 100 * k, **({"dropout": value} if configured else {})
        )
    found, problems = read(tmp_path)
    assert len(found) == 5
    assert problems == {}


def test_values_that_count_up_from_one_are_told_apart_by_their_configuration_or_their_time(tmp_path):
    for k, value in enumerate(("0", "0.1", "0.2")):
        write(tmp_path / "up" / f"dropout_{value}", started=1e9 + 100 * k)
        write(tmp_path / "down" / f"dropout_{value}", started=1e9 - 100 * k, dropout=value)
    assert len(read(tmp_path / "up")[0]) == 3
    assert len(read(tmp_path / "down")[0]) == 3


def test_records_that_were_moved_aside_are_named(tmp_path):
    for k in range(3):
        write(tmp_path / "v0" / "fnet", started=1e9 + 100 * k, lr=1)
    found, problems = read(tmp_path)
    assert found == ["v0/fnet"]
    assert sorted(problems) == ["v0/fnet.1", "v0/fnet.2"]
    assert "is a later run in its place" in problems["v0/fnet.1"]
    assert read(tmp_path / "v0" / "fnet.1")[0] == ["."]  # asked for by name


def test_a_record_that_was_moved_aside_for_one_of_another_configuration_or_for_an_empty_one_is_read(tmp_path):
    write(tmp_path / "v0" / "fnet", started=1e9, lr=1)
    write(tmp_path / "v0" / "fnet", started=2e9, lr=2)
    write(tmp_path / "v1" / "fnet", started=1e9, lr=1)
    SnapshotStore(tmp_path / "v1" / "fnet").start({"configuration": {"lr": 1}})
    found, problems = read(tmp_path)
    assert found == ["v0/fnet", "v0/fnet.1", "v1/fnet.1"]
    assert list(problems) == ["v1/fnet"]


def test_what_is_in_a_folder_called_superseded_is_named_and_read_where_it_is_asked_for(tmp_path):
    write(tmp_path / "out" / "a" / "fnet", lr=1)
    old = write(tmp_path / "out" / "superseded" / "a.1" / "fnet", lr=2).parent
    found, problems = read(tmp_path / "out")
    assert found == ["a/fnet"]
    assert "superseded" in problems["superseded/a.1/fnet"]
    for asked in (old, old.parent, old / "fnet"):
        assert len(read(asked)[0]) == 1
        assert sorted(read(tmp_path / "out", asked)[0]) == ["a/fnet", "superseded/a.1/fnet"]


def test_a_copy_of_a_run_is_named(tmp_path):
    write(tmp_path / "a" / "fnet", writer="x")
    shutil.copytree(tmp_path / "a", tmp_path / "backup")
    SnapshotStore(tmp_path / "a" / "fnet").append(Snapshot(16, {"q": 1.0}))
    write(tmp_path / "b" / "fnet")
    write(tmp_path / "c" / "fnet")
    found, problems = read(tmp_path)
    assert found == ["a/fnet", "b/fnet", "c/fnet"]
    assert "one run wrote both" in problems["backup/fnet"]


def test_a_manifest_of_something_else_hides_no_run_below_it(tmp_path):
    write(tmp_path / "a" / "fnet")
    (tmp_path / "manifest.json").write_text('{"name": "an app"}')
    found, problems = read(tmp_path)
    assert found == ["a/fnet"]
    assert "is no manifest of a record" in problems["."]


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    for path in (tmp_path / "file", tmp_path / "link"):
        with pytest.raises(FnetError, match=r"`paths`: '.*' is no folder"):
            read_records([path])


def test_the_reason_is_told_where_nothing_is_left(tmp_path):
    write(tmp_path / "superseded" / "a" / "fnet")
    with pytest.raises(
        FnetError, match=r"no record that can be read below them: .*a folder called superseded"
    ):
        read_runs([tmp_path])
