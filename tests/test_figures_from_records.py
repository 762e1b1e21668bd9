"""Pictures from a record are those that the run drew."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning import seed_everything
from lightning.pytorch.loggers import CSVLogger
from small_models import Net, loader, monitor, network, record, trainer
from small_portraits import portrait
from small_runs import write_run

from fnet_callbacks import FunctionalCodes, Record, read_record
from fnet_callbacks.figures import OF_NETWORKS, Painter, png
from fnet_callbacks.figures.canvas import image_of
from fnet_callbacks.figures.drawing import Drawing
from fnet_callbacks.figures.records import figure_names, portrait_of, replay, steps_of
from fnet_callbacks.instruments.network_analysis import NetworkAnalysis
from fnet_callbacks.portrait import CodePortrait, Portrait
from fnet_callbacks.record import Snapshot, SnapshotStore


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, dict[str, Any]]:
    """A run with both kinds of figures, and the portraits that it was drawn from, by instrument and step."""
    folder, seen = tmp_path_factory.mktemp("run"), {}
    make = NetworkAnalysis._portrait

    def noted(self: NetworkAnalysis, whole: Any) -> Portrait:
        seen["fnet", self.context.step] = make(self, whole)
        return seen["fnet", self.context.step]

    codes = FunctionalCodes(every_n_steps=4, epsilon=0.1, bounds=(0.0, 1.0))
    watching = monitor(2, network(save_correlation=True), codes, figures="log", worker="inline")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NetworkAnalysis, "_portrait", noted)
        seed_everything(3)
        trainer(folder, watching, max_epochs=2, logger=CSVLogger(folder)).fit(Net(), loader(), loader(16))
    return record(folder), seen


def bytes_of(figure: Any) -> bytes:
    return png(figure.image() if isinstance(figure, Drawing) else image_of(figure)).tobytes()


def files(own: Record, instrument: str) -> dict[tuple[int, str], bytes]:
    """By step and name what the run drew."""
    marked = f"_{instrument}_figures_"
    found = {
        path.stem: path.read_bytes() for path in (own.folder / "figures").iterdir() if marked in path.stem
    }
    return {(int(k.split(marked)[0]), k.split(marked)[1]): image for k, image in found.items()}


@pytest.mark.parametrize("instrument", ["fnet", "codes"])
def test_pictures_from_the_record_are_those_of_the_run_to_the_bit(own, instrument: str) -> None:
    record, _ = own
    expected = files(record, instrument)
    assert len({step for step, _ in expected}) > 3
    steps, names = (
        {step for step, _ in expected},
        [n for n in figure_names(record, instrument) if "/" not in n],
    )
    drawn = {
        (each.step, name): bytes_of(figure)
        for each in replay(record, instrument, steps, names)
        for name, figure in each.figures.items()
    }
    assert {key: drawn[key] for key in expected} == expected


def test_portraits_are_what_the_run_had(own) -> None:
    record, seen = own
    assert steps_of(record, "fnet") == [step for kind, step in seen if kind == "fnet"]
    for step in steps_of(record, "fnet"):
        found, expected = portrait_of(record, "fnet", step), seen["fnet", step]
        assert isinstance(found, Portrait)
        assert (found.title, found.n_neurons, found.scale) == (
            expected.title, expected.n_neurons, expected.scale,
        )  # fmt: skip
        for name in ("nodes", "correlation", "edges", "partition"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        for a, b in zip(found.diagrams, expected.diagrams, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_picture_does_not_depend_on_which_others_are_asked_for(own) -> None:
    record, _ = own
    every = {d.step: bytes_of(d.figures["graph"]) for d in replay(record, "fnet", record.steps, ["graph"])}
    assert list(every) == record.steps
    for step in record.steps:
        (alone,) = replay(record, "fnet", [step], ["graph"])
        assert bytes_of(alone.figures["graph"]) == every[step]


def test_mean_inputs_are_lacking(own) -> None:
    record, _ = own
    (drawn,) = replay(record, "codes", record.steps[-1:], ["01", "02/inputs"])
    assert set(drawn.figures) == {"01"}
    assert "inputs are not in the record" in drawn.lacking["02/inputs"]


def test_the_first_snapshot_lacks_what_shows_several_and_the_next_does_not(own) -> None:
    record, _ = own
    first, second = replay(record, "fnet", record.steps[:2], OF_NETWORKS)
    assert set(first.lacking) == {"neurons", "evolution"}
    assert "every_n_steps" in first.lacking["evolution"]
    assert not second.lacking


def test_a_record_of_version_1_is_drawn_but_for_what_it_does_not_hold() -> None:
    old = read_record(Path(__file__).parent / "data" / "record_version_1" / "run0" / "fnet")
    (drawn,) = replay(old, "fnet", [8], OF_NETWORKS)
    assert set(drawn.lacking) == {"correlation"}
    assert "save_correlation=True" in drawn.lacking["correlation"]
    found = portrait_of(old, "codes", 8)
    assert isinstance(found, CodePortrait)
    assert [(m.name, m.classes, m.u_matrix) for m in found.maps] == [("01", None, None), ("02", None, None)]
    assert set(Painter().paint(found, ["01"])) == {"01"}


def test_what_was_not_recorded_is_lacking_with_what_would_have_recorded_it(tmp_path: Path) -> None:
    folder = write_run(tmp_path, strength=0.5, seed=0) / "fnet"
    (drawn,) = replay(read_record(folder), "codes", [0], ["01"])
    assert "holds no arrays of codes" in drawn.lacking["01"]
    (folder / "snapshot_20.npz").unlink()
    own = read_record(folder)
    assert portrait_of(own, "fnet", 20) is None
    (drawn,) = replay(own, "fnet", [20], ["graph"])
    assert "snapshot_20.npz is gone" in drawn.lacking["graph"]


def test_after_a_change_of_settings_the_painter_begins_anew(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "fnet")
    settings = {
        "kind": "FunctionalNetwork",
        "layers": [{"place": "01", "name": "a", "neurons": list(range(40))}],
    }
    spans = [
        {"begin": begin, "instruments": {"fnet": {**settings, "density": density}}, "probe": {}}
        for begin, density in ((0, 0.1), (5, 0.2))
    ]
    keys = {"fnet/modularity": ["fnet", "modularity", None]}
    store.start({"instruments": spans[-1]["instruments"], "spans": spans, "keys": keys})
    sitters = {step: portrait(seed=seed, step=step) for seed, step in enumerate((0, 4, 8))}
    for step, sitter in sitters.items():
        arrays = {"neuron": sitter.nodes, "edges": sitter.edges, "partition": sitter.partition}
        named = {f"fnet.{name}": array for name, array in arrays.items()}
        store.append(Snapshot(step, {"fnet/modularity": 0.5}, arrays=named))
    record = read_record(tmp_path / "fnet")
    assert record.breaks("fnet") == [5]
    (last,) = replay(record, "fnet", [8], ["graph", "evolution"])
    assert set(last.lacking) == {"evolution"}
    alone = Painter().figures(replace(sitters[8], diagrams=[], correlation=None), ["graph"])
    assert bytes_of(last.figures["graph"]) == bytes_of(alone["graph"])
