"""The sections of functional codes and of linear regions, from records that a real monitor wrote."""

from pathlib import Path

import numpy as np
import pytest
from lightning import seed_everything
from lightning.pytorch.callbacks import Callback
from small_models import Net, loader, monitor, trainer

from fnet_callbacks import FunctionalCodes, ReLURegions
from fnet_callbacks.compare.runs import read_runs
from fnet_callbacks.report.charts import chosen
from fnet_callbacks.report.codes import code_layers, codes
from fnet_callbacks.report.content import Content, content_of
from fnet_callbacks.report.page import page
from fnet_callbacks.report.regions import region_values, regions


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Content:
    folders = []
    for seed in range(2):
        folder = tmp_path_factory.mktemp(f"run_{seed}")
        seed_everything(seed)
        watching = FunctionalCodes(every_n_steps=8, epsilon=0.1, bounds=(0.0, 1.0))
        counting = ReLURegions(every_n_steps=8, lines=4)
        callback = monitor(8, watching, counting, probe_size=32)
        trainer(folder, callback, max_epochs=2).fit(Net(), loader(), loader(32))
        folders.append(folder)
    return content_of(read_runs(folders))


def test_a_measure_is_drawn_over_depth_at_the_end_and_before_training(content: Content) -> None:
    figure = codes(content)
    assert figure is not None
    (measures, whens) = (options for _, options in figure.selectors)
    assert list(whens) == ["at the end", "before training"]
    assert "displacement of codes by PGD" in measures
    assert "displacement of codes by noise of PGD's norm" in measures
    label = "agreement of codes and labels (AMI)"
    first = next(t for t in figure.variants[chosen(label, "at the end")]["data"] if len(t["x"]) == 2)
    run = content.runs.runs[0]
    expected = [run.final(f"codes/0{k}/label_ami") for k in (1, 2)]
    assert first["y"] == pytest.approx(expected, rel=1e-5)
    assert first["x"] == [1, 2]


def test_the_tables_have_a_row_for_each_layer_and_for_each_run(content: Content) -> None:
    table = code_layers(content)
    n_groups = len(content.groups)
    assert [row[1] for row in table.rows] == ["01 net.1", "02 net.3"] * n_groups
    place = list(table.header).index("participation ratio of codes")
    group = next(iter(content.groups.values()))
    values = [run.final("codes/01/participation_ratio") for run in group]
    assert table.rows[0][place] == pytest.approx(sum(values) / len(values))
    of_runs = region_values(content)
    assert len(of_runs.rows) == 2
    assert of_runs.rows[0][1] == content.runs.runs[0].final("regions/n_patterns")
    figure = regions(content)
    assert figure is not None
    assert "linear regions that are inhabited" in figure.variants


def test_both_have_a_section_and_every_number_a_definition(content: Content) -> None:
    text = page(content)
    assert '<section id="functional-codes">' in text
    assert '<section id="linear-regions">' in text
    for measure in ("<dt>participation ratio of codes</dt>", "<dt>purity of regions</dt>"):
        assert measure in text
    entries = [entry for run in content.runs.runs for entry in run.record.keys.values()]
    assert {entry.instrument for entry in entries} == {"codes", "regions", "monitor"}
    for entry in entries:
        assert entry.definition, entry
        assert "_" not in entry.label


def test_two_instruments_have_rows_of_their_own_and_the_end_is_where_they_measured_last(
    tmp_path: Path,
) -> None:
    seed_everything(0)
    callback = monitor(
        1,
        FunctionalCodes(name="first", every_n_steps=8),
        FunctionalCodes(name="second", every_n_steps=8, epsilon=0.1, bounds=(0.0, 1.0)),
        ReLURegions(every_n_steps=3, lines=0),
        probe_size=32,
    )

    class Interrupted(Callback):
        def on_train_batch_end(self, trainer, *args) -> None:
            if trainer.global_step == 14:
                raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        trainer(tmp_path, callback, Interrupted(), max_epochs=2).fit(Net(), loader(), loader(32))
    content = content_of(read_runs([tmp_path]))
    run = content.runs.runs[0]
    assert run.record.steps[-1] == 12
    table = code_layers(content)
    assert [row[:3:2] for row in table.rows] == [
        [name, layer] for name in ("first", "second") for layer in ("01 net.1", "02 net.3")
    ]
    place = list(table.header).index("agreement of codes and labels (AMI)")
    at_8 = run.record.snapshots[list(run.record.steps).index(8)]
    assert table.rows[0][place] == at_8.scalars["first/01/label_ami"]
    of_pgd = list(table.header).index("displacement of codes by PGD")
    assert np.isnan(table.rows[0][of_pgd])
    assert table.rows[2][of_pgd] > 0
