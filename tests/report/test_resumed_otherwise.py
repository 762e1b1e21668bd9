"""The report of a run that was resumed with other settings: curves break there, and nothing is compared across."""

import json
from pathlib import Path

import numpy as np
import pytest
from small_runs import write_run

from fnet_callbacks.compare.curves import Curve, aligned
from fnet_callbacks.compare.runs import read_runs
from fnet_callbacks.record import MANIFEST
from fnet_callbacks.report.charts import chosen
from fnet_callbacks.report.content import Content, content_of
from fnet_callbacks.report.figures import FIGURES, WHOLE_NETWORK
from fnet_callbacks.report.summary import summary


@pytest.fixture
def content(tmp_path: Path) -> Content:
    """Two runs of eight snapshots each, of which one has another density from step 35 on."""
    for seed in range(2):
        write_run(
            tmp_path / f"r{seed}", strength=0.4, seed=seed, steps=8, logged={"val_acc": 0.5 + 0.1 * seed}
        )
    path = tmp_path / "r0" / "fnet" / MANIFEST
    manifest = json.loads(path.read_text())
    spans = [
        {
            "begin": begin,
            "instruments": {
                **manifest["instruments"],
                "fnet": {**manifest["instruments"]["fnet"], "density": density},
            },
            "probe": {},
        }
        for begin, density in ((0, 0.05), (35, 0.1))
    ]
    path.write_text(json.dumps({**manifest, "instruments": spans[1]["instruments"], "spans": spans}))
    return content_of(read_runs([tmp_path]))


def test_curves_are_interrupted_where_settings_changed(content: Content) -> None:
    variant = FIGURES["curves"](content).variants[chosen("modularity", WHOLE_NETWORK)]
    thin = {t["name"]: t for t in variant["data"] if t["line"].get("width") == 1}
    assert thin["r0"]["x"] == [0, 10, 20, 30, 35, 40, 50, 60, 70]
    assert [y is None for y in thin["r0"]["y"]] == [False] * 4 + [True] + [False] * 4
    assert thin["r1"]["x"] == list(range(0, 80, 10))
    assert [shape["x0"] for shape in variant["layout"]["shapes"]] == [35]
    (band,) = (t for t in variant["data"] if t.get("fill"))
    assert band["x"].count(None) == band["y"].count(None) == 1
    drift = next(iter(FIGURES["drifts"](content).variants.values()))
    assert [shape["x0"] for shape in drift["layout"]["shapes"]] == [35]
    # What another monitor measured goes on.
    lesions = FIGURES["curves"](content).variants[chosen("tolerance of lesions, hubs first", WHOLE_NETWORK)]
    assert "shapes" not in lesions["layout"]


def test_nothing_is_compared_across_a_change(content: Content) -> None:
    changed, other = content.runs.runs
    assert list(content.stories[changed.name].steps) == [40, 50, 60, 70]
    assert list(content.stories[other.name].steps) == list(range(0, 80, 10))
    assert content.drifts[changed.name].x.tolist() == [10, 20, 30, 50, 60, 70]
    assert np.isfinite(changed.comparable("fnet/modularity")).tolist() == [False] * 4 + [True] * 4
    assert np.isfinite(changed.comparable("val_acc")).all()
    assert np.isnan(changed.first("fnet/modularity"))
    assert np.isfinite(changed.first("codes/01/label_ami"))


def test_the_summary_says_what_changed_and_where(content: Content) -> None:
    said = "\n".join(s for _, sentences in summary(content) for s in sentences)
    assert "seed 0 was resumed with other settings from step 35 on (fnet: density 0.05 → 0.1)" in said
    assert "seed 1 was resumed" not in said


def test_curves_are_aligned_within_their_stretches() -> None:
    a = Curve(np.array([0, 10, 20, 30]), np.array([0.0, 1.0, 5.0, 6.0]), gaps=(15.0,))
    b = Curve(np.array([5, 12, 25]), np.array([1.0, 1.0, 1.0]))
    x, (ours, theirs) = aligned([a, b])
    assert x.tolist() == [0, 5, 10, 12, 15, 20, 25, 30]
    np.testing.assert_allclose(ours, [0, 0.5, 1, np.nan, np.nan, 5, 5.5, 6])
    np.testing.assert_allclose(theirs, [np.nan, 1, 1, 1, 1, 1, 1, np.nan])
    assert aligned([])[1].shape == (0, 0)
    assert aligned([Curve(np.array([]), np.array([]), gaps=(3.0,))])[1].shape == (1, 0)
