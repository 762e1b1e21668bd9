"""Records that are read together: names, groups, curves, and what cannot be read."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from fnet_callbacks.compare.runs import read_runs
from fnet_callbacks.errors import FnetError
from fnet_callbacks.record import SCALARS, Snapshot, SnapshotStore


def write(folder: Path, series: dict[str, dict[int, float]], **configuration: object) -> Path:
    """A record of scalars by key and step."""
    store = SnapshotStore(folder)
    store.start({"configuration": configuration})
    for step in sorted({step for values in series.values() for step in values}):
        store.append(Snapshot(step, {key: values[step] for key, values in series.items() if step in values}))
    return folder


def test_runs_have_the_names_that_tell_them_apart_and_the_groups_of_their_configuration(tmp_path):
    for regularizer, seed in (("none", 10), ("none", 9), ("dropout", 0)):
        write(
            tmp_path / f"{regularizer}{seed}" / "fnet", {"q": {0: seed}}, regularizer=regularizer, seed=seed
        )
    found = read_runs([tmp_path])
    assert [run.name for run in found.runs] == ["dropout0", "none9", "none10"]
    assert [len(own) for own in found.groups.values()] == [1, 2]
    assert found.grouped_by == "regularizer"
    assert found.final("q").tolist() == [0, 9, 10]
    assert found.problems == {}


@pytest.mark.parametrize(
    ("configurations", "group_by", "key", "groups"),
    [
        ([{"lr": 1, "seed": 0}, {"lr": 2, "seed": 1}], None, "lr", ["1", "2"]),
        ([{"lr": 1, "width": 3}, {"lr": 2, "width": 4}], None, "", ["a0", "a1"]),
        ([{"lr": 1, "width": 3}, {"lr": 2, "width": 4}], "width", "width", ["3", "4"]),
        ([{}, {}], None, "", ["a0", "a1"]),
    ],
)
def test_a_group_is_what_runs_differ_by(tmp_path, configurations, group_by, key, groups):
    for i, configuration in enumerate(configurations):
        write(tmp_path / f"a{i}" / "fnet", {"q": {0: 1.0}}, **configuration)
    found = read_runs([tmp_path], group_by=group_by)
    assert found.grouped_by == key
    assert list(found.groups) == groups


def test_curves_share_their_steps_and_are_not_continued_beyond_their_ends(tmp_path):
    write(tmp_path / "a" / "fnet", {"q": {0: 0.0, 4: 4.0, 8: math.nan}})
    write(tmp_path / "b" / "fnet", {"q": {2: 5.0, 6: 9.0}, "other": {2: 1.0}})
    found = read_runs([tmp_path])
    steps, values = found.curves("q")
    assert steps.tolist() == [0, 2, 4, 6]
    np.testing.assert_array_equal(values, [[0, 2, 4, np.nan], [np.nan, 5, 7, 9]])
    assert found.keys == ["q", "other"]
    assert math.isnan(found.runs[0].final("q"))
    assert found.curves("nothing")[1].shape == (2, 0)


def test_what_cannot_be_read_is_told_and_leaves_the_rest_alone(tmp_path):
    write(tmp_path / "good" / "fnet", {"q": {0: 1.0}})
    write(tmp_path / "empty" / "fnet", {})
    (write(tmp_path / "broken" / "fnet", {"q": {0: 1.0}}) / SCALARS).write_text("{not json\n")
    found = read_runs([tmp_path])
    assert [run.name for run in found.runs] == ["good"]
    reasons = {Path(folder).parent.name: reason for folder, reason in found.problems.items()}
    assert "no snapshot" in reasons["empty"]
    assert "not a snapshot" in reasons["broken"]
    shutil.rmtree(tmp_path / "good")
    with pytest.raises(FnetError, match=r"no record that can be read below them: .*no snapshot"):
        read_runs([tmp_path])


def test_a_record_that_was_moved_aside_is_no_run_but_a_name_may_end_in_a_number(tmp_path):
    for _ in range(2):
        write(tmp_path / "lr=0.5" / "fnet", {"q": {0: 1.0}})
    assert (tmp_path / "lr=0.5" / "fnet.1").exists()
    assert [run.name for run in read_runs([tmp_path]).runs] == ["lr=0.5"]


def test_wrong_paths_and_keys(tmp_path):
    with pytest.raises(FnetError, match=r"`paths`: '.*nowhere' is no folder"):
        read_runs([tmp_path / "nowhere"])
    write(tmp_path / "a" / "fnet", {"q": {0: 1.0}}, lr=1)
    with pytest.raises(FnetError, match=r"`group_by='width'` is in no configuration; there is lr"):
        read_runs([tmp_path], group_by="width")


def test_the_gap_follows_from_what_a_run_logged(tmp_path):
    for name, logged, gap in (
        ("a", {"train_accuracy": 0.9, "val_accuracy": 0.7}, 0.2),
        ("b", {"train/acc_epoch": 0.9, "valid/acc_epoch": 0.8}, 0.1),
        ("c", {"train_loss": 0.9, "val_loss": 0.8, "train_accuracy": 1.0}, math.nan),
    ):
        store = SnapshotStore(tmp_path / name / "fnet")
        store.start({})
        store.append(Snapshot(0, {"fnet/modularity": 0.5}, logged=logged))
        (run,) = read_runs([tmp_path / name]).runs
        assert run.final("generalization_gap") == pytest.approx(gap, nan_ok=True)
        assert run.final("fnet/modularity") == 0.5
        assert {key: run.final(key) for key in logged} == logged


def test_what_a_sweep_moved_aside_is_no_run(tmp_path):
    series = {"fnet/modularity": {0: 0.5}}
    write(tmp_path / "out" / "a" / "fnet", series, regularizer="none")
    write(tmp_path / "out" / "superseded" / "a.1" / "fnet", series, regularizer="none")
    assert len(read_runs([tmp_path / "out"]).runs) == 1
    assert len(read_runs([tmp_path / "out" / "superseded" / "a.1"]).runs) == 1  # asked for by name


@pytest.mark.parametrize(
    ("configurations", "grouped_by", "groups"),
    [
        # The regularisation only where runs differ in it.
        ([{"regularizer": "l1", "lr": 1}, {"regularizer": "l1", "lr": 2}], "lr", ["1", "2"]),
        ([{"regularizer": "l1"}, {"regularizer": "l1"}], "regularizer", ["l1"]),
        ([{"width": 3, "seed": 0}, {"width": 3, "seed": 1}], "", ["all runs"]),
        ([{"width": 3, "lr": 0}, {"width": 4, "lr": 1}], "", ["0", "1"]),
        ([{"regularizer": "l1"}, {}], "regularizer", ["l1", "regularizer not set"]),
        ([{}, {}], "", ["0", "1"]),
    ],
)
def test_groups(tmp_path, configurations, grouped_by, groups):
    for i, configuration in enumerate(configurations):
        write(tmp_path / str(i) / "fnet", {"fnet/modularity": {0: 0.5}}, **configuration)
    found = read_runs([tmp_path])
    assert (found.grouped_by, list(found.groups)) == (grouped_by, groups)


def test_the_runs_own_seed_comes_before_that_of_its_data(tmp_path):
    write(tmp_path / "fnet", {"fnet/modularity": {0: 0.5}}, seed=0, seed_everything=7)
    assert read_runs([tmp_path]).runs[0].seed == "7"


def measured(
    folder: Path, seed: int, *, model: str = "Net", resumed_from: str | None = None, **settings: object
) -> Path:
    store = SnapshotStore(folder)
    store.start(
        {
            "model": model,
            "writer": folder.parent.name,
            **({"resumed_from": resumed_from} if resumed_from else {}),
            "configuration": {"seed": seed},
            "instruments": {
                "fnet": {
                    "kind": "FunctionalNetwork",
                    "layers": [{"name": f"{seed}", "place": "01"}],
                    **settings,
                }
            },
            "probe": {"n_samples": 100 + seed // 10, "seed": 0},
        }
    )
    store.append(Snapshot(0, {"q": float(seed)}))
    return folder


def test_runs_that_were_measured_in_two_ways_are_told_apart(tmp_path):
    for seed in range(4):
        measured(tmp_path / f"a{seed}" / "fnet", seed, density=0.05 if seed < 2 else 0.1, worker=str(seed))
    found = read_runs([tmp_path])
    assert found.grouped_by == "fnet.density"
    assert {group: len(runs) for group, runs in found.groups.items()} == {"0.05": 2, "0.1": 2}
    assert found.measured_differently == []
    measured(tmp_path / "b" / "fnet", 10, density=0.1)
    again = read_runs([tmp_path], group_by="fnet.density")
    assert again.measured_differently == ["probe.n_samples"]
    measured(tmp_path / "c" / "fnet", 11)  # of a version that did not say
    assert read_runs([tmp_path / "a0", tmp_path / "a1", tmp_path / "c"]).differing == ["probe.n_samples"]


def test_models_of_two_classes_are_two_groups(tmp_path):
    for seed in range(4):
        measured(tmp_path / f"{seed}" / "fnet", seed, model=("Net", "Other")[seed % 2])
    assert list(read_runs([tmp_path]).groups) == ["Net", "Other"]


def test_a_run_that_was_resumed_is_counted_once(tmp_path):
    for name, before in (("v0", None), ("v1", "v0"), ("v2", "v1"), ("other", None)):
        measured(tmp_path / name / "fnet", 3, resumed_from=before)
    found = read_runs([tmp_path])
    assert [run.name for run in found.runs] == ["other", "v2"]
    assert {Path(folder).parent.name: reason.split(":")[0] for folder, reason in found.problems.items()} == {
        "v0": "it was resumed",
        "v1": "it was resumed",
    }
    assert [[run.name for run in same] for same in found.repeated] == [["other", "v2"]]


def test_a_folder_that_is_named_twice_is_read_once(tmp_path, monkeypatch):
    measured(tmp_path / "a" / "fnet", 0)
    monkeypatch.chdir(tmp_path)
    assert len(read_runs(["a", tmp_path, Path("a") / ".." / "a"]).runs) == 1
