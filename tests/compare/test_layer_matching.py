"""Which layers of runs are taken for one."""

import math
from pathlib import Path

import numpy as np
import pytest

from fnet_callbacks.compare.layers import Watched, matched, watched_layers
from fnet_callbacks.compare.runs import Runs, read_runs
from fnet_callbacks.keys import places
from fnet_callbacks.record import Snapshot, SnapshotStore


def watched(*names: str, widths: tuple[int | None, ...] | int | None = 64) -> list[Watched]:
    found = widths if isinstance(widths, tuple) else (widths,) * len(names)
    return [Watched(*layer) for layer in zip(names, places(len(names)), found, strict=True)]


def told(**runs: list[Watched]) -> dict[str, tuple[str, dict[str, str]]]:
    """By label, how its layers were matched and what they are called in which run."""
    return {
        match.label: (match.by, {run: layer.name for run, layer in match.layers.items()})
        for match in matched(runs)
    }


def test_layers_are_matched_by_place_where_numbers_and_widths_agree():
    plain, normed = watched("net.2", "net.4", "net.6"), watched("net.3", "net.6", "net.9")
    assert told(a=plain, b=normed, c=plain) == {
        "01 net.2 | net.3": ("place", {"a": "net.2", "b": "net.3", "c": "net.2"}),
        "02 net.4 | net.6": ("place", {"a": "net.4", "b": "net.6", "c": "net.4"}),
        "03 net.6 | net.9": ("place", {"a": "net.6", "b": "net.9", "c": "net.6"}),
    }


def test_layers_of_the_same_names_go_by_them():
    both = watched("net.2", "net.10", widths=(64, 32))
    assert told(a=both, b=both) == {
        "01 net.2": ("place", {"a": "net.2", "b": "net.2"}),
        "02 net.10": ("place", {"a": "net.10", "b": "net.10"}),
    }


def test_where_numbers_differ_names_say_which_are_alike():
    found = told(a=watched("net.1", "net.3"), b=watched("net.1", "net.3", "net.5"))
    assert found == {
        "01 net.1": ("name", {"a": "net.1", "b": "net.1"}),
        "02 net.3": ("name", {"a": "net.3", "b": "net.3"}),
        "03 net.5": ("", {"b": "net.5"}),
    }


def test_where_widths_differ_names_say_which_are_alike():
    found = told(a=watched("net.1", "net.3"), b=watched("net.1", "net.3", widths=128))
    assert {label: by for label, (by, _) in found.items()} == {"01 net.1": "name", "02 net.3": "name"}


def test_a_name_at_two_places_is_matched_with_its_places_beside_it():
    found = told(a=watched("net.2", "net.4", "net.6"), b=watched("net.3", "net.6", "net.9", widths=128))
    assert found["02 | 03 net.6"] == ("name", {"a": "net.6", "b": "net.6"})
    assert [by for by, _ in found.values()].count("") == 4


def test_two_of_three_runs_agree_and_the_third_goes_by_name():
    found = told(
        none=watched("net.2", "net.4", "net.6"),
        norm=watched("net.3", "net.6", "net.9"),
        short=watched("net.2", "net.4"),
    )
    assert found == {
        "01 net.2 | net.3": ("place, name", {"none": "net.2", "norm": "net.3", "short": "net.2"}),
        "02 net.4 | net.6": ("place, name", {"none": "net.4", "norm": "net.6", "short": "net.4"}),
        "03 net.6 | net.9": ("place", {"none": "net.6", "norm": "net.9"}),
    }


def test_a_sweep_over_depth_and_regularisation_is_matched_by_both():
    found = told(
        none3=watched("net.2", "net.4", "net.6"),
        norm3=watched("net.3", "net.6", "net.9"),
        none4=watched("net.2", "net.4", "net.6", "net.8"),
        norm4=watched("net.3", "net.6", "net.9", "net.12"),
    )
    assert list(found) == [
        "01 net.2 | net.3",
        "02 net.4 | net.6",
        "03 net.6 | net.9",
        "04 net.8 | net.12",
    ]
    assert found["02 net.4 | net.6"][1] == {
        "none3": "net.4",
        "norm3": "net.6",
        "none4": "net.4",
        "norm4": "net.6",
    }


def test_what_could_be_either_of_two_is_matched_with_none():
    found = told(
        none=watched("net.2", "net.4", "net.6"),
        norm=watched("net.3", "net.6", "net.9"),
        one=watched("net.6", widths=32),
    )
    assert found["01 net.6"] == ("", {"one": "net.6"})
    assert found["02 net.4 | net.6"][0] == "place"


def test_layers_that_are_called_several_times():
    calls, modules = watched("relu#0", "relu#1"), watched("act1", "act2")
    assert list(told(a=calls, b=modules)) == ["01 act1 | relu#0", "02 act2 | relu#1"]
    found = told(a=calls, b=watched("relu#0", "relu#1", "relu#2"), c=watched("relu"))
    assert {label: by for label, (by, _) in found.items()} == {
        "01 relu#0": "name",
        "02 relu#1": "name",
        "01 relu": "",
        "03 relu#2": "",
    }


def test_labels_are_distinct_and_in_the_order_of_the_networks():
    found = told(a=watched("x", "y"), b=watched("y", "x", widths=32), c=watched("z", "z2", "y", "x"))
    assert len(found) == 4
    many = {f"r{k}": watched(f"m{k}.0", f"m{k}.1", f"m{k}.2") for k in range(30)}
    assert [label[:3] for label in told(**many)] == ["01 ", "02 ", "03 "]
    assert all(label.endswith("and 27 more") for label in told(**many))
    apart = told(a=watched("a", "b"), b=watched("c", "d"), c=watched("b", "x", "y", "c", widths=8))
    assert len(apart) == len(set(apart))


def test_unmatched_layers_of_one_name_are_told_apart_by_their_width():
    found = told(
        a=watched("net.2", "net.4", "net.6"),
        b=watched("net.3", "net.6", "net.9"),
        c=watched("x", "net.6", widths=(8, 32)),
        d=watched("y", "x", "net.6", "z", widths=16),
    )
    assert sum("net.6" in label for label in found) == len({k for k in found if "net.6" in k})


def test_runs_without_widths_go_by_name():
    found = told(a=watched("f", "g", widths=None), b=watched("g", "h", widths=None))
    assert found["01 | 02 g"][0] == "name"
    listed = [{"place": "01", "name": "f"}, {"place": "02", "name": "g", "n_units": "many"}]
    assert watched_layers({"layers": listed}) == watched("f", "g", widths=None)
    assert watched_layers({}) == []


def write(folder: Path, regularizer: str, layers: list[Watched], seed: int = 0) -> None:
    store = SnapshotStore(folder / "fnet")
    named = [{"name": layer.name, "place": layer.place, "n_units": layer.width} for layer in layers]
    store.start(
        {
            "configuration": {"regularizer": regularizer, "seed": seed},
            "instruments": {"fnet": {"layers": named}, "codes": {"layers": named}},
            "keys": {
                key: entry
                for layer in layers
                for key, entry in (
                    (f"fnet_layers/{layer.place}/modularity", ["fnet", "modularity", layer.place]),
                    (f"codes/{layer.place}/label_ami", ["codes", "label_ami", layer.place]),
                )
            },
        }
    )
    for step in (0, 8):
        scalars = {}
        for k, layer in enumerate(layers, start=1):
            scalars[f"fnet_layers/{layer.place}/modularity"] = k + step / 100
            scalars[f"codes/{layer.place}/label_ami"] = k + step / 1000
        store.append(Snapshot(step, scalars))


@pytest.fixture
def shifted(tmp_path: Path) -> Runs:
    write(tmp_path / "a", "none", watched("net.2", "net.4", "net.6"))
    write(tmp_path / "b", "batch_norm", watched("net.3", "net.6", "net.9"))
    return read_runs([tmp_path])


def test_layers_of_one_place_share_a_key_and_a_label(shifted):
    assert shifted.final("fnet_layers/02/modularity").tolist() == [2.08, 2.08]
    assert shifted.final("codes/02/label_ami").tolist() == [2.008, 2.008]
    assert [run.layers("fnet")[1] for run in shifted.runs] == ["02 net.4 | net.6"] * 2
    assert shifted.entries["codes/02/label_ami"].layer == "02 net.4 | net.6"
    assert len(shifted.keys) == 6
    steps, values = shifted.curves("fnet_layers/02/modularity")
    assert steps.tolist() == [0, 8]
    assert values.tolist() == [[2.0, 2.08]] * 2


def test_an_instrument_that_says_no_widths_has_them_from_another(tmp_path):
    for name, layers in (("a", ["net.1", "net.3"]), ("b", ["net.2", "net.5"])):
        store = SnapshotStore(tmp_path / name)
        named = {
            "layers": [
                {"name": n, "place": p, "n_units": 8} for n, p in zip(layers, ["01", "02"], strict=True)
            ]
        }
        bare = {"layers": [{"name": n, "place": p} for n, p in zip(layers, ["01", "02"], strict=True)]}
        keys = {"regions_layers/01/dead_share": ["regions", "dead_share", "01"]}
        store.start({"instruments": {"fnet": named, "regions": bare}, "keys": keys})
        store.append(Snapshot(0, {"regions_layers/01/dead_share": 0.5}))
    found = read_runs([tmp_path])
    assert found.keys == ["regions_layers/01/dead_share"]
    assert found.entries["regions_layers/01/dead_share"].layer == "01 net.1 | net.2"


def test_a_layer_of_one_run_alone_is_compared_with_nothing(tmp_path):
    write(tmp_path / "a", "none", watched("net.2", "net.4"))
    write(tmp_path / "b", "batch_norm", watched("net.2", "net.4", "net.6"))
    found = read_runs([tmp_path])
    (lacking,) = (run for run in found.runs if run.group == "none")
    assert math.isnan(lacking.final("fnet_layers/03/modularity"))
    assert np.isfinite(found.final("fnet_layers/02/modularity")).all()


def test_layers_of_one_place_that_are_not_compared_have_keys_of_their_own(tmp_path):
    write(tmp_path / "a", "a", watched("net.1", "net.3"))
    write(tmp_path / "b", "b", watched("net.3", "net.5", widths=32))
    found = read_runs([tmp_path])
    joint = [key for key, entry in found.entries.items() if entry.instrument == "codes"]
    assert joint == ["codes/01 net.1/label_ami", "codes/01 | 02 net.3/label_ami", "codes/02 net.5/label_ami"]
    first, second = found.runs
    assert (first.final(joint[1]), second.final(joint[1])) == (2.008, 1.008)
    assert math.isnan(second.final(joint[0]))


def test_names_with_a_slash_are_names_like_others(tmp_path):
    for name, layer in (("a", Watched("x/y", "01", 3)), ("b", Watched("x_y", "01", 4))):
        write(tmp_path / name, name, [layer])
    found = read_runs([tmp_path])
    assert {entry.layer for entry in found.entries.values()} == {"01 x/y", "01 x_y"}
    assert len(found.keys) == 4
