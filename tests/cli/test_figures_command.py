"""``fnet figures``: pictures from a record."""

import io
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from lightning import seed_everything
from lightning.pytorch.loggers import CSVLogger
from PIL import Image
from small_models import Net, functional_monitor, loader, monitor, robustness, trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fnet_callbacks.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that drew nothing: six snapshots, without the correlation matrix."""
    folder = tmp_path_factory.mktemp("run")
    seed_everything(3)
    watching = functional_monitor(2)
    trainer(folder, watching, max_epochs=1, logger=CSVLogger(folder)).fit(Net(), loader(72), loader(16))
    return folder


OF_LAST = {"graph", "communities", "homology", "neurons", "evolution"}


def told(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What a command that fails says."""
    assert main(["figures", *map(str, words)]) == 1
    return capsys.readouterr().err


def test_the_last_snapshot_is_drawn_beside_the_record_as_far_as_it_goes(
    run: Path, tmp_path: Path, capsys
) -> None:
    shutil.copytree(run, tmp_path / "copy")
    assert main(["figures", str(tmp_path / "copy")]) == 0
    said = capsys.readouterr()
    (folder,) = (tmp_path / "copy").rglob("figures")
    assert folder.parent.name == "fnet"
    assert {path.name for path in folder.iterdir()} == {f"9_fnet_figures_{name}.png" for name in OF_LAST}
    assert said.out == f"wrote 5 figures to {folder}\n"
    assert "left out: correlation" in said.err
    assert "save_correlation=True" in said.err
    with Image.open(folder / "9_fnet_figures_graph.png") as image:
        assert image.size == (660, 660)


def test_svg_of_some_steps_and_names(run: Path, tmp_path: Path) -> None:
    words = (
        "--format",
        "svg",
        "--steps",
        "0",
        "last",
        "--names",
        "graph",
        "homology",
        "--out",
        str(tmp_path),
    )
    assert main(["figures", str(run), *words]) == 0
    expected = {f"{step}_fnet_figures_{name}.svg" for step in (0, 9) for name in ("graph", "homology")}
    assert {path.name for path in tmp_path.iterdir()} == expected
    first = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert all(ElementTree.fromstring(text).tag.endswith("svg") for text in first.values())
    assert main(["figures", str(run), *words]) == 0
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == first


def test_all_snapshots_go_to_an_event_file(run: Path, tmp_path: Path) -> None:
    words = (
        "--logger",
        "tensorboard",
        "--steps",
        "all",
        "--names",
        "graph",
        "evolution",
        "--out",
        str(tmp_path),
    )
    assert main(["figures", str(run), *words]) == 0
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    assert {*events.Tags()["images"]} == {"fnet/figures/graph", "fnet/figures/evolution"}
    shown = events.Images("fnet/figures/graph")
    assert [image.step for image in shown] == [0, 2, 4, 6, 8, 9]
    assert [image.step for image in events.Images("fnet/figures/evolution")] == [2, 4, 6, 8, 9]
    assert np.asarray(Image.open(io.BytesIO(shown[0].encoded_image_string))).shape == (660, 660)


def test_each_of_several_records_has_a_folder_of_its_own(run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        seed_everything(3)
        watching = functional_monitor(8, folder=tmp_path / name, measures="fast", layer_measures=[])
        trainer(tmp_path, watching, max_epochs=1).fit(Net(), loader(), loader(16))
    assert main(["figures", str(tmp_path), "--names", "graph", "--out", str(tmp_path / "out")]) == 0
    assert len([*(tmp_path / "out").rglob("*.png")]) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--names", "correlation"],
            "no correlation: there is no correlation matrix; `FunctionalNetwork(save_corr",
        ),
        (
            ["--names", "evolution", "--steps", "0"],
            "no evolution: it shows several snapshots, and this is the first;",
        ),
        (["--names", "grpah"], "'grpah' is no figure; there is graph, communities, "),
        (["--names", "grpah"], "did you mean 'graph'?"),
        (["--steps", "5"], "there is no snapshot of step 5; the nearest are 4 and 6"),
        (["--steps", "first"], "'first' should be the step of a snapshot, 'last' or 'all'"),
        (["--instrument", "fnt"], "`instrument`: 'fnt' is no instrument of "),
        (["--instrument", "fnt"], "there is fnet"),
    ],
)
def test_what_cannot_be_drawn_is_told(
    run: Path, tmp_path: Path, capsys, words: list[str], message: str
) -> None:
    assert message in told(capsys, run, "--out", tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()


def test_a_figure_of_diagrams_that_were_not_computed_is_told(tmp_path: Path, capsys) -> None:
    watching = functional_monitor(8, measures="fast", layer_measures=[], folder=tmp_path / "run")
    trainer(tmp_path, watching, max_epochs=1).fit(Net(), loader(), loader(16))
    text = told(capsys, tmp_path / "run", "--names", "homology", "graph")
    assert "no homology: the persistence diagrams were not computed; `FunctionalNetwork(measures=" in text
    assert [path.name for path in tmp_path.rglob("*.png")] == ["8_fnet_figures_graph.png"]


def test_a_record_without_anything_to_draw_and_a_folder_without_a_record_are_told(
    tmp_path: Path, capsys
) -> None:
    watching = monitor(8, robustness(8), folder=tmp_path / "run")
    trainer(tmp_path, watching, max_epochs=1).fit(Net(), loader(), loader(16))
    for words in ((), ("--names", "graph"), ("--instrument", "robust")):
        text = told(capsys, tmp_path / "run", *words)
        assert (
            "has nothing to draw: there is robust (Robustness); figures are of a `FunctionalNetwork()`"
            in text
        )
    (tmp_path / "empty").mkdir()
    assert "there is no record that can be read below" in told(capsys, tmp_path / "empty")
    assert "nowhere" in told(capsys, tmp_path / "nowhere")
    (tmp_path / "file").touch()
    assert "is a file; it should be a folder" in told(capsys, tmp_path / "run", "--out", tmp_path / "file")
