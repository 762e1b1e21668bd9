"""Every part of the report compares the same layers, and the page says which."""

from pathlib import Path

import pytest
from small_runs import write_run

from fnet_callbacks.compare.runs import read_runs
from fnet_callbacks.report.charts import chosen
from fnet_callbacks.report.codes import code_layers, codes
from fnet_callbacks.report.content import Content, content_of
from fnet_callbacks.report.figures import curves
from fnet_callbacks.report.page import page
from fnet_callbacks.report.tables import communities, effects

FIRST, SECOND = "01 net.2 | net.3", "02 net.4 | net.6"


@pytest.fixture
def shifted(tmp_path: Path) -> Content:
    """Two models of two layers of the same widths, which one module more gives other names."""
    for name, names in (("none", ("net.2", "net.4")), ("batch_norm", ("net.3", "net.6"))):
        for seed in range(2):
            write_run(tmp_path / f"{name}{seed}", strength=0.5, seed=seed, names=names, regularizer=name)
    return content_of(read_runs([tmp_path]))


def test_effects_compare_layers_of_one_place(shifted):
    rows = [dict(zip(effects(shifted).header, row, strict=True)) for row in effects(shifted).rows]
    compared = [row for row in rows if row["of"] != "whole network"]
    assert {row["of"] for row in compared} == {FIRST, SECOND}
    assert all((row["runs"], row["runs of none"]) == (2, 2) for row in compared)


def test_curves_and_codes_show_layers_of_one_place(shifted):
    (figure,) = (f for f in (curves(shifted),) if f is not None)
    data = figure.variants[chosen("modularity", FIRST)]["data"]
    assert {trace["name"] for trace in data if trace["line"]["width"] == 2.5} == {"none", "batch_norm"}
    assert not {"net.2", "net.3"} & set(figure.selectors[1][1])
    (figure,) = (f for f in (codes(shifted),) if f is not None)
    assert f"1: {FIRST}, 2: {SECOND}." in figure.note
    table = code_layers(shifted)
    assert [row[:2] for row in table.rows] == [
        [group, layer] for group in ("none", "batch_norm") for layer in (FIRST, SECOND)
    ]


def test_communities_are_of_layers_of_one_place(shifted):
    place = list(communities(shifted).header).index("neurons of which layer")
    cells = [str(row[place]) for row in communities(shifted).rows]
    assert all(f" of {FIRST}" in cell or f" of {SECOND}" in cell for cell in cells)


def test_the_page_says_which_layers_are_compared(shifted, tmp_path):
    text = page(shifted)
    assert "<td>net.2 in none; net.3 in batch_norm</td>" in text
    assert "Of 2 layers are matched 2 by their place" in text
    write_run(tmp_path / "one" / "a", strength=0.5, seed=0, regularizer="none")
    write_run(tmp_path / "one" / "b", strength=0.5, seed=0, regularizer="l1")
    same = page(content_of(read_runs([tmp_path / "one"])))
    assert (
        "fnet and codes watched the same layers in all runs: 01 net.0 and 02 net.&lt;b&gt;1&lt;/b&gt;."
        in same
    )
    assert 'id="table-layers"' not in same


def test_codes_of_networks_of_other_depths_stand_at_the_places_of_their_layers(tmp_path):
    write_run(tmp_path / "a", strength=0.5, seed=0, names=("net.1", "net.3"), regularizer="none")
    write_run(tmp_path / "b", strength=0.5, seed=0, names=("net.3", "net.5"), regularizer="none")
    manifest = tmp_path / "b" / "fnet" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"n_units": 15', '"n_units": 16'))  # so that names count
    found = content_of(read_runs([tmp_path]))
    (figure,) = (f for f in (codes(found),) if f is not None)
    data = figure.variants[chosen("agreement of codes and labels (AMI)", "at the end")]["data"]
    assert sorted(trace["x"] for trace in data if trace["line"]["width"] == 1) == [[1, 2], [2, 3]]
