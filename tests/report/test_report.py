"""What the report says, of many runs and of few, and of records that lack something."""

import csv
import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from small_runs import KEYS, write_run

from fnet_callbacks import functional as F
from fnet_callbacks.cli import main
from fnet_callbacks.compare.runs import read_runs
from fnet_callbacks.record import SCALARS, Snapshot, SnapshotStore
from fnet_callbacks.report.charts import chosen
from fnet_callbacks.report.content import Content, content_of
from fnet_callbacks.report.figures import FIGURES
from fnet_callbacks.report.names import in_html
from fnet_callbacks.report.page import page
from fnet_callbacks.report.summary import summary
from fnet_callbacks.report.tables import TABLES
from fnet_callbacks.report.wording import labels_of, number, probability

VERSION_1 = Path(__file__).parents[1] / "data" / "record_version_1"


def content(*folders: Path, **more: str) -> Content:
    return content_of(read_runs(folders), **more)


def drawn(found: Content) -> set[str]:
    return {name for name, make in FIGURES.items() if make(found) is not None}


def said(found: Content) -> str:
    return "\n".join(sentence for _, sentences in summary(found) for sentence in sentences)


@pytest.mark.parametrize("version", [1, 2])
def test_every_number_has_a_label_and_a_definition_on_the_page(sweep, version):
    found = content(VERSION_1 if version == 1 else sweep)
    labels = labels_of(found.entries)
    assert len(labels) == len(found.keys) > 10
    text = page(found)
    for key, entry in ((key, entry) for key, entry in found.entries.items() if entry.instrument):
        assert "_" not in entry.label
        assert f"<dt>{in_html(labels[key])}</dt><dd>{in_html(entry.definition)}</dd>" in text
        assert entry.definition


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.12345, "0.123"),
        (-12.3, "−12.3"),
        (123456, "123,456"),
        (999.7, "1,000"),
        (1.5e-7, "1.5e−7"),
        (math.nan, "–"),
    ],
)
def test_numbers_in_words(value, text):
    assert number(value) == text


def test_probabilities_in_words():
    assert [probability(p) for p in (0.0001, 0.012, 0.5, math.nan)] == ["< 0.001", "0.012", "0.50", "–"]


def test_neurons_that_stay_together_have_an_allegiance_of_one(sweep):
    found = content(sweep, baseline="none")
    variants = FIGURES["allegiances"](found).variants
    assert list(variants) == [found.label_of(run) for run in found.some_runs()]
    run = found.some_runs()[0]
    names = found.stories[run.name].names
    names = names[names[:, -1] >= 0]
    order = np.argsort(names[:, -1], kind="stable")
    (trace,) = variants[found.label_of(run)]["data"]
    expected = F.allegiance(names[order]).round(2)
    np.testing.assert_allclose(np.array(trace["z"], float), expected)


def test_a_sweep_has_every_figure_and_every_table(sweep):
    found = content(sweep, baseline="none")
    assert drawn(found) == set(FIGURES)
    assert all(make(found).rows for make in TABLES.values())
    assert next(iter(found.groups)) == "none"
    assert "number of loops is lower than under “none”" in said(found)
    assert "adjusted Rand index" in said(found)
    assert "Accuracy under PGD" in said(found)
    assert found.keys[:3] == ["fnet/global_efficiency", "fnet/modularity", "fnet/loops"]


def test_a_finding_is_called_so_only_where_it_is_one(sweep):
    found = content(sweep, baseline="none")
    (findings,) = (s for head, s in summary(found) if head == "What differs")
    for c in (c for c in found.contrasts if c.family):
        told = any(s.startswith(f"{c.group}: {found.entries[c.key].label} is ") for s in findings)
        assert told == (c.q <= 0.05), c
    assert findings


def test_of_three_against_three_nothing_can_be_found(tmp_path):
    for name, strength in (("none", 0.5), ("dropout", 3.0)):
        for seed in range(3):
            write_run(tmp_path / f"{name}{seed}", strength=strength, seed=seed, regularizer=name)
    found = content(tmp_path)
    assert "no p-value can be below 0.10; nothing of topology can be found at 0.05" in said(found)
    assert not [s for head, s in summary(found) if head == "What differs" and s]


def test_one_run_has_a_page(tmp_path):
    found = content(write_run(tmp_path / "one", strength=1.0, seed=0))
    assert "All runs are of one group" in said(found)
    assert found.contrasts == []
    assert drawn(found) == set(FIGURES) - {"maps", "dendrograms"}
    assert "<h1>Functional networks of 1 run</h1>" in page(found)


def test_of_one_seed_each_no_test_is_claimed(tmp_path):
    for name, strength in (("none", 0.5), ("dropout", 2.0)):
        write_run(tmp_path / name, strength=strength, seed=0, regularizer=name)
    found = content(tmp_path)
    assert "none and dropout: one run each. No test is claimed" in said(found)
    assert not [c for c in found.contrasts if c.is_finding or math.isfinite(c.effect.p)]
    assert "p = " not in said(found)
    page(found)


def test_runs_of_other_lengths_and_layers_and_one_without_homology(tmp_path):
    write_run(tmp_path / "a", strength=1.0, seed=0, steps=4, regularizer="none")
    write_run(tmp_path / "b", strength=1.0, seed=1, steps=2, regularizer="none")
    store = SnapshotStore(tmp_path / "c" / "fnet")
    layers = [{"place": "01", "name": "other", "n_units": 4}]
    keys = {
        "fnet/modularity": KEYS["fnet/modularity"],
        "fnet_layers/01/modularity": ["fnet", "modularity", "01"],
    }
    store.start(
        {
            "configuration": {"regularizer": "dropout", "seed": 0},
            "instruments": {"fnet": {"layers": layers}},
            "keys": keys,
        }
    )
    store.append(Snapshot(0, {"fnet/modularity": 0.5, "fnet_layers/01/modularity": 0.5}))
    store.append(Snapshot(7, {"fnet/modularity": 0.6, "fnet_layers/01/modularity": math.nan}))
    found = content(tmp_path)
    assert {name for curves in found.attacks.values() for name in curves} == {"a", "b"}
    (curves,) = (f for f in (FIGURES["curves"](found),) if f is not None)
    assert {chosen("modularity", place) for place in ("01 net.0", "01 other", "whole network")} <= set(
        curves.variants
    )
    page(found)


def test_a_record_without_a_number_has_a_page(tmp_path):
    store = SnapshotStore(tmp_path / "fnet")
    store.start({})
    store.append(Snapshot(0, {"fnet/modularity": math.nan}))
    found = content(tmp_path)
    assert drawn(found) == set()
    assert "No scalar has a finite value" in page(found)


def test_what_cannot_be_read_is_told_on_the_page(sweep, tmp_path):
    broken = tmp_path / "runs" / "0.3-0" / "fnet" / SCALARS
    broken.write_bytes(b"nonsense\n" + broken.read_bytes())
    found = page(content(sweep, baseline="none"))
    assert "<p>Left out:</p>" in found
    assert str(broken.parent) in found


def test_damaged_arrays_leave_the_rest_alone(sweep):
    for file in (sweep / "0.3-0" / "fnet").glob("*.npz"):
        file.write_bytes(b"nonsense")
    found = content(sweep, baseline="none")
    assert len(found.runs.runs) == 15
    assert [len(each.runs) for each in found.run_distances] == [14, 14, 15]
    page(found)


def test_names_are_escaped_and_the_figures_are_json(sweep):
    text = page(content(sweep, baseline="none"))
    assert "<script>alert" not in text
    (figures,) = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', text, re.DOTALL)
    found = json.loads(figures)
    assert set(found) >= {"curves", "scatter", "betti", "map"}
    assert "http" not in figures


def test_groups_are_told_apart_without_colour(sweep):
    (figure,) = (f for f in (FIGURES["curves"](content(sweep)),) if f is not None)
    lines = [
        t for t in figure.variants[chosen("modularity", "whole network")]["data"] if t["line"]["width"] == 2.5
    ]
    assert len({t["line"]["dash"] for t in lines}) == len({t["line"]["color"] for t in lines}) == 3


def test_the_command_writes_page_and_tables(sweep, tmp_path, capsys):
    out = tmp_path / "deep" / "report.html"
    assert main(["report", str(sweep), "-o", str(out), "--csv", str(tmp_path / "csv")]) == 0
    assert "15 runs in 3 groups" in capsys.readouterr().out
    assert out.read_text().startswith("<!doctype html>")
    with (tmp_path / "csv" / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    runs = read_runs([sweep])
    assert len(rows) == sum(len(s.scalars) for run in runs.runs for s in run.record.snapshots)
    some = next(r for r in rows if r["key"] == "fnet/modularity" and r["step"] == "20")
    (run,) = (r for r in runs.runs if r.name == some["run"])
    assert float(some["value"]) == run.final("fnet/modularity")
    with (tmp_path / "csv" / "effects.csv").open() as file:
        effects = list(csv.DictReader(file))
    assert {row["asked"] for row in effects} == {"beforehand", "exploratory"}
    assert not [row for row in effects if "nan" in row.values()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "`paths`: 'nowhere' is no folder"),
        (["."], "`paths`: there is no record that can be read"),
        (["RUNS", "--baseline", "x"], "`baseline='x'` is no group"),
        (["RUNS", "--group-by", "x"], "`group_by='x'` is in no configuration"),
        (["RUNS", "-o", "FILE/report.html"], "`output`: .* cannot be written"),
    ],
)
def test_wrong_input_is_told(sweep, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    known = {
        "RUNS": str(sweep),
        ".": str(tmp_path / "empty"),
        "FILE/report.html": str(tmp_path / "file" / "r.html"),
    }
    assert main(["report", *(known.get(a, a) for a in arguments)]) == 1
    assert re.search(message, capsys.readouterr().err)


def test_bands_are_students_intervals():
    from scipy import stats

    from fnet_callbacks.compare.effects import mean_band

    values = np.random.default_rng(0).normal(size=(5, 4))
    values[:, 3] = np.nan
    values[1:, 2] = np.nan
    mean, low, high = mean_band(values)
    for t in (0, 1):
        expected = stats.t.interval(0.95, 4, loc=values[:, t].mean(), scale=stats.sem(values[:, t]))
        assert (low[t], high[t]) == pytest.approx(expected)
    assert mean[2] == values[0, 2]
    assert np.isnan([low[2], high[2], mean[3]]).all()


def test_every_variant_can_be_chosen(sweep):
    found = content(sweep, baseline="none")
    for name, make in FIGURES.items():
        figure = make(found)
        assert figure is not None
        assert set(figure.variants) <= {
            chosen(*c) for c in itertools.product(*(o for _, o in figure.selectors))
        }, name
    (scatter,) = (f for f in (FIGURES["scatter"](found),) if f is not None)
    assert "mean |correlation|" in scatter.selectors[0][1]


def test_of_four_against_four_a_lone_effect_cannot_be_found(tmp_path):
    for name, strength in (("none", 0.3), ("dropout", 0.8)):
        for seed in range(4):
            write_run(tmp_path / f"{name}{seed}", strength=strength, seed=seed, regularizer=name)
    told = said(content(tmp_path))
    assert "alone among the 3 questions of topology cannot be found" in told
    assert "no p-value can be below" not in told


def test_what_should_be_known_of_runs_before_they_are_compared(tmp_path):
    for seed in range(2):
        write_run(tmp_path / f"a{seed}", strength=0.3, seed=seed, regularizer="none", data="x")
        write_run(tmp_path / f"b{seed}", strength=0.8, seed=seed, regularizer="l1", data="y", steps=2 + seed)
        write_run(tmp_path / f"c{seed}", strength=0.8, seed=seed, regularizer="l1", data="z")
    told = said(content(tmp_path))
    assert "the longest ends at step 20, b0 at 10." in told
    assert "Runs of one group differ in more than their seed: data." in told


def test_two_instruments_are_told_apart(tmp_path):
    store = SnapshotStore(tmp_path / "fnet")
    keys = {f"{name}/modularity": [name, "modularity", None] for name in ("fnet", "deep")}
    store.start({"configuration": {"regularizer": "none"}, "keys": keys})
    store.append(Snapshot(0, {"fnet/modularity": 0.5, "deep/modularity": 0.6}))
    found = page(content(tmp_path))
    assert "modularity (fnet)" in found
    assert "modularity (deep)" in found


def test_loops_that_were_left_open_are_in_no_distance(sweep):
    record = read_runs([sweep]).runs[0].record
    step = record.steps[-1]
    arrays = record.arrays(step)
    arrays["fnet.diagram_1"][0, 1] = np.inf
    np.savez(record.array_file(step), **arrays)
    found = content(sweep, baseline="none")
    assert [len(each.runs) for each in found.run_distances] == [14, 15, 15]
    assert len(found.drifts[found.runs.runs[0].name].x) == 1  # of two
    page(found)


def test_values_that_are_not_there_are_told_with_their_reason(tmp_path):
    for seed in range(3):
        for name, strength in (("none", 0.2), ("l1", 0.8)):
            write_run(tmp_path / f"{name}{seed}", strength=strength, seed=seed, regularizer=name)
    store = SnapshotStore(tmp_path / "l13" / "fnet")
    store.start({"configuration": {"regularizer": "l1", "seed": 3, "width": 30}, "model": "Net"})
    notes = {"fnet/loops": "failed: no time"}
    store.append(Snapshot(20, {"fnet/loops": math.nan, "fnet/modularity": 0.5}, notes=notes))
    found = content(tmp_path)
    assert "l1: number of loops has no value at the end of 1 of 4 runs (failed: no time)" in said(found)
    (table,) = [make(found) for name, make in TABLES.items() if make(found).name == "effects"]
    of_loops = next(
        dict(zip(table.header, row, strict=True)) for row in table.rows if "loops" in str(row[1]).lower()
    )
    assert (of_loops["runs"], of_loops["runs of none"]) == (3, 3)


def test_runs_that_were_not_measured_alike_or_are_one_are_told(tmp_path):
    for seed in range(2):
        write_run(tmp_path / f"a{seed}", strength=0.3, seed=0, regularizer="none")
        folder = write_run(tmp_path / f"b{seed}", strength=0.8, seed=seed, regularizer="l1") / "fnet"
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["instruments"]["fnet"]["density"] = 0.05 + seed / 100
        (folder / "manifest.json").write_text(json.dumps(manifest))
    told = said(content(tmp_path))
    assert "Not all runs were measured alike: they differ in fnet.density." in told
    assert "a0 and a1 have one configuration and one seed: they may be one run, counted 2 times." in told


def test_a_run_without_some_of_its_snapshots_is_told(tmp_path):
    folder = write_run(tmp_path / "a", strength=0.8, seed=0) / "fnet"
    lines = [json.loads(line) for line in (folder / SCALARS).read_text().splitlines()]
    for line in lines:
        line["scalars"]["monitor/skipped"] = 1_234.0
    (folder / SCALARS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_run(tmp_path / "b", strength=0.8, seed=1)
    told = said(content(tmp_path))
    assert told.count("left out though they were due") == 1
    assert "all runs, seed 0: 1,234 snapshots of its instruments were left out though they were due" in told


def test_a_network_whose_modularity_was_not_measured_is_drawn_all_the_same(tmp_path):
    folder = write_run(tmp_path / "a", strength=0.8, seed=0) / "fnet"
    lines = [json.loads(line) for line in (folder / SCALARS).read_text().splitlines()]
    for line in lines:
        line["scalars"] = {k: v for k, v in line["scalars"].items() if not k.endswith("modularity")}
    (folder / SCALARS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = content(tmp_path)
    assert found.instrument == "fnet"
    assert {"betti_curves", "diagrams", "attacks", "drifts"} <= drawn(found)
    page(found)


def test_a_name_that_is_no_text_ends_no_report(tmp_path):
    write_run(tmp_path / "runs" / "a\udcff", strength=0.3, seed=0)
    assert (
        main(
            ["report", str(tmp_path / "runs"), "-o", str(tmp_path / "r.html"), "--csv", str(tmp_path / "csv")]
        )
        == 0
    )
    assert "a?" in (tmp_path / "r.html").read_text()


def test_topology_is_told_with_the_attack_that_was_planned(tmp_path):
    for seed in range(4):
        folder = write_run(tmp_path / f"a{seed}", strength=0.2 * seed, seed=seed, regularizer="none") / "fnet"
        lines = [json.loads(line) for line in (folder / SCALARS).read_text().splitlines()]
        for line in lines:  # FGSM is logged before PGD
            line["scalars"] = {"robust/fgsm_0.03137_accuracy": 0.9 - 0.1 * seed, **line["scalars"]}
        (folder / SCALARS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = dict(summary(content(tmp_path)))["How topology goes with accuracy"]
    assert any(sentence.startswith("Accuracy under PGD") for sentence in told)
    assert not any("FGSM" in sentence for sentence in told)
