"""Reports of many groups, of long trainings, and of names that nobody thought of."""

import itertools
import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from small_runs import write_run

from fnet_callbacks.compare.runs import read_runs
from fnet_callbacks.record import Key
from fnet_callbacks.report.charts import Style, chosen, plain
from fnet_callbacks.report.content import content_of
from fnet_callbacks.report.figures import FIGURES, WHOLE_NETWORK
from fnet_callbacks.report.page import page
from fnet_callbacks.report.wording import labels_of


def test_no_two_of_many_groups_look_alike() -> None:
    styles = [Style.of(i) for i in range(150)]
    assert len({(s.colour, s.dash) for s in styles}) == len(styles)
    assert len({(s.colour, s.symbol) for s in styles}) == len(styles)
    # Nor do they where colours are printed in grey, as far as there are dashes.
    assert len({s.dash for s in styles[:6]}) == 6


def test_the_lines_and_points_of_ten_groups_differ(tmp_path: Path) -> None:
    for i in range(10):
        write_run(tmp_path / f"r{i}", strength=0.3 + 0.05 * i, seed=0, regularizer=f"g{i}")
    found = content_of(read_runs([tmp_path]))
    lines = FIGURES["curves"](found).variants[chosen("modularity", WHOLE_NETWORK)]["data"]
    assert len({(t["line"]["color"], t["line"]["dash"]) for t in lines if t["name"]}) == 10
    points = next(iter(FIGURES["scatter"](found).variants.values()))["data"]
    assert len({(t["marker"]["color"], t["marker"]["symbol"]) for t in points}) == 10


def test_steps_are_drawn_to_the_step(tmp_path: Path) -> None:
    write_run(tmp_path / "a", strength=0.4, seed=0, every=1_234_567)
    found = content_of(read_runs([tmp_path]))
    (line,) = (
        t for t in FIGURES["curves"](found).variants[chosen("modularity", WHOLE_NETWORK)]["data"] if t["name"]
    )
    assert line["x"] == [0, 1_234_567, 2_469_134]
    assert plain(np.array([12_345_678])) == [12_345_678]
    assert plain([0.123456789, float("nan")]) == [0.123457, None]


def logged(key: str) -> Key:
    """What the run logged itself."""
    return Key("", key, label=key.replace("_", " "))


@pytest.mark.parametrize(
    ("entries", "labels"),
    [
        ([logged("val_acc"), logged("val acc")], ["val acc [0]", "val acc [1]"]),
        ([logged("acc"), Key("fnet", "acc", label="acc")], ["acc", "acc (fnet)"]),
        ([Key("a", "x", label="acc"), Key("b", "y", label="acc")], ["acc (a)", "acc (b)"]),
        (
            [Key("fnet", "n", label="neurons"), Key("fnet", "n", "01", "01 net.1", "neurons")],
            ["neurons", "neurons"],
        ),
        ([logged("train/loss")], ["train/loss"]),
        ([Key("mine", "new", label="what is new")], ["what is new"]),
    ],
)
def test_scalars_have_labels_of_their_own(entries: list[Key], labels: list[str]) -> None:
    assert list(labels_of({str(k): entry for k, entry in enumerate(entries)}).values()) == labels


def test_every_name_shows_its_own_figure(odd_sweep: Path) -> None:
    found = content_of(read_runs([odd_sweep]), baseline="plain")
    html = page(found)
    figures = json.loads(re.search(r'id="figures">(.*?)</script>', html, re.DOTALL)[1])
    for name in ("diagrams", "curves"):
        offered = [
            re.findall(r'<option value="([^"]*)">', select)
            for select in re.findall(rf'<select data-figure="{name}">.*?</select>', html, re.DOTALL)
        ]
        keys = {"\x1f".join(options) for options in itertools.product(*offered)}
        assert len(figures[name]["variants"]) == len(FIGURES[name](found).variants)
        assert set(figures[name]["variants"]) <= set(map(unescape, keys))
    assert len(figures["diagrams"]["variants"]) == len(found.some_runs())
    body = html[html.index("<main>") : html.index("<noscript>")]
    assert not re.search(r"[\0-\x08\x0b-\x1f\ud800-\udfff]", body)
    assert "<bdi>שלום</bdi> (2)" in body
