"""An instrument of one's own: where it is analyzed, where its values go, and what does not change in it."""

import copy
import importlib
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from own_instruments import Confidence, Whereabouts
from own_measures import HUBS
from small_models import DictNet, Ledger, Net, fit, loader, monitor, network, record, trainer, values
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fnet_callbacks import (
    FnetError,
    FnetWarning,
    Instrument,
    Lesions,
    Monitor,
    Quantity,
    Robustness,
    read_record,
)
from fnet_callbacks.cli import main


def fitted(folder: Path, watching: Monitor, **options: Any) -> Any:
    torch.manual_seed(0)
    return fit(folder, watching, val=loader(32, seed=1), **options)


# Where it is analyzed.


def test_it_is_analyzed_in_the_worker(tmp_path: Path) -> None:
    fitted(tmp_path, monitor(4, Whereabouts(), worker="process"))
    for snapshot in record(tmp_path).snapshots:
        assert snapshot.scalars["where/pid_of_training"] == os.getpid()
        assert snapshot.scalars["where/pid"] not in (0, os.getpid())
    arrays = record(tmp_path).arrays(8)
    assert arrays["where.pids"].tolist()[1] == os.getpid()
    assert record(tmp_path).snapshots[0].notes == {"where/pid": "whoever asks"}


def test_the_numbers_are_the_same_wherever_that_is(tmp_path: Path) -> None:
    found = {}
    for worker in ("process", "inline"):
        own = [network(), Confidence(), Confidence(name="cold", temperature=0.1)]
        fitted(tmp_path / worker, monitor(4, *own, worker=worker))
        found[worker] = [
            {key: value.hex() for key, value in s.scalars.items() if not key.startswith("monitor")}
            for s in record(tmp_path / worker).snapshots
        ]
    assert found["process"] == found["inline"]
    assert {"confidence/mean", "cold/change", "fnet/modularity"} <= found["inline"][0].keys()


def test_one_of_a_function_is_analyzed_on_the_training_thread_and_it_is_said_once(tmp_path: Path) -> None:
    class Local(Whereabouts):
        pass

    with pytest.warns(FnetWarning) as caught:
        ledger = fitted(tmp_path, monitor(4, network(), Local(), Confidence(), worker="process"))
    (message,) = [str(w.message) for w in caught if issubclass(w.category, FnetWarning)]
    assert message.startswith("where: is analyzed on the training thread: ")
    assert "Local" in message
    assert "Define it in a module of its own" in message
    assert set(values(ledger, "where/pid").values()) == {os.getpid()}
    assert len(values(ledger, "confidence/mean")) == len(values(ledger, "fnet/modularity")) == 3


def test_one_of_a_script_is_analyzed_on_the_training_thread_and_it_is_said_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, sys
            from pathlib import Path
            from own_instruments import Whereabouts
            from small_models import Net, loader, monitor, trainer

            class Mine(Whereabouts):
                pass

            if __name__ == "__main__":
                made = trainer(Path(sys.argv[1]), monitor(4, Mine(), worker="process"))
                made.fit(Net(), loader())
                assert made.callback_metrics["where/pid"] == os.getpid()
            """
        )
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, script, tmp_path], capture_output=True, text=True, env=env, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is analyzed on the training thread") == 1
    assert "Mine of __main__ cannot be imported by another process" in done.stderr


# Imported by the run, but not by the worker.
SHY = """
import sys
from own_instruments import Whereabouts
if "fnet_callbacks.worker.analyst" in sys.orig_argv:
    raise RuntimeError("not in the worker")

class Shy(Whereabouts):
    pass
"""


def test_nothing_is_lost_where_the_worker_fails_to_import_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "shy_instruments.py").write_text(SHY)
    monkeypatch.syspath_prepend(tmp_path / "path")
    shy = importlib.import_module("shy_instruments").Shy()
    with pytest.warns(FnetWarning) as caught:
        ledger = fitted(tmp_path, monitor(4, network(), shy, worker="process"))
    (message,) = [str(w.message) for w in caught if issubclass(w.category, FnetWarning)]
    assert message == (
        "snapshots are measured on the training thread: in the worker shy_instruments:Shy cannot be imported: "
        "RuntimeError: not in the worker"
    )
    assert values(ledger, "where/pid") == dict.fromkeys([0, 4, 8], os.getpid())
    assert values(ledger, "fnet/modularity").keys() == {0, 4, 8}


# Where its values go.


@pytest.mark.parametrize("worker", ["process", "inline"])
def test_its_values_reach_loggers_metrics_record_and_checkpoint(tmp_path: Path, worker: str) -> None:
    watching = monitor(4, Confidence(temperature=0.5), worker=worker)
    model = Net()
    ledger = Ledger()
    made = trainer(tmp_path, watching, ModelCheckpoint(tmp_path, filename="last"), logger=ledger)
    made.fit(model, loader(), loader(32, seed=1))
    keys = {f"confidence/{quantity.name}" for quantity in Confidence.quantities}
    assert keys <= made.callback_metrics.keys()
    found = record(tmp_path)
    assert found.steps == [0, 4, 8]
    last = found.snapshots[-1].scalars
    with torch.no_grad():
        inputs, _ = loader(32, seed=1).dataset.tensors  # type: ignore[attr-defined]
        sure = (model.eval()(inputs) / 0.5).softmax(1).amax(1)
    assert last["confidence/mean"] == pytest.approx(float(sure.mean()))
    assert last["confidence/spread"] == pytest.approx(float(sure.std(correction=0)), rel=1e-4)
    means = found.series("confidence/mean")
    assert list(values(ledger, "confidence/mean").values()) == means.tolist()
    np.testing.assert_array_equal(found.series("confidence/change")[1:], np.diff(means))
    assert float(made.callback_metrics["confidence/mean"]) == pytest.approx(means[-1])
    settings = found.manifest["instruments"]["confidence"]
    assert (settings["kind"], settings["temperature"]) == ("Confidence", 0.5)
    assert found.manifest["keys"]["confidence/mean"] == ["confidence", "mean", None]
    assert "monitor_cost/confidence/total" in {**found.snapshots[0].cost_ms}
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]["fnet_callbacks"]
    assert kept["instruments"]["confidence"]["state"] == {"last": means[-1]}
    assert kept["values"]["confidence/mean"] == means[-1]


@pytest.mark.parametrize("worker", ["process", "inline"])
def test_it_goes_on_from_its_state(tmp_path: Path, worker: str) -> None:
    def made(folder: str, epochs: int) -> Any:
        return trainer(tmp_path / folder, monitor(4, Confidence(), worker=worker), max_epochs=epochs)

    torch.manual_seed(0)
    made("whole", 2).fit(Net(), loader())
    torch.manual_seed(0)
    first = made("first", 1)
    first.fit(Net(), loader())
    first.save_checkpoint(tmp_path / "last.ckpt")
    made("second", 2).fit(Net(), loader(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    for quantity in Confidence.quantities:
        series = record(tmp_path / "whole").series(f"confidence/{quantity.name}")
        np.testing.assert_array_equal(
            record(tmp_path / "second").series(f"confidence/{quantity.name}"), series
        )
        assert np.isfinite(series[1:]).all()


@pytest.mark.parametrize("worker", ["process", "inline"])
def test_loggers_record_and_report_have_the_words_of_its_quantities(tmp_path: Path, worker: str) -> None:
    logger = TensorBoardLogger(tmp_path, name="tb")
    own = [Confidence(), Confidence(name="cold", temperature=0.1)]
    trainer(tmp_path, monitor(4, *own, worker=worker), logger=logger).fit(Net(), loader(), loader(16))
    folder = tmp_path / "tb" / "version_0"
    events = EventAccumulator(str(folder)).Reload()
    found = read_record(folder / "fnet")
    page = tmp_path / "page.html"
    assert main(["report", str(folder), "-o", str(page)]) == 0
    text = page.read_text()
    for quantity in Confidence.quantities:
        for name in ("confidence", "cold"):
            key = f"{name}/{quantity.name}"
            # Nothing is before the first snapshot, and a logger gets no NaN.
            steps = [4, 8] if quantity.name == "change" else [0, 4, 8]
            assert [e.step for e in events.Scalars(key)] == steps
            assert events.SummaryMetadata(key).summary_description == quantity.definition
            assert found.manifest["instruments"][name]["quantities"][quantity.name] == quantity.described()
            assert found.manifest["keys"][key] == [name, quantity.name, None]
            assert f"<dt>{quantity.label} ({name})</dt><dd>{quantity.definition}</dd>" in text


def test_early_stopping_may_follow_it(tmp_path: Path) -> None:
    from fnet_callbacks import BurnInEarlyStopping

    stopping = BurnInEarlyStopping("confidence/mean", burn_in=1, patience=1, min_delta=10.0)
    made = trainer(tmp_path, monitor(4, Confidence()), stopping, max_epochs=9)
    made.fit(Net(), loader(), loader(16))
    assert made.current_epoch == 3


# What goes wrong.


def test_what_it_cannot_measure_stops_the_run_before_its_first_step(tmp_path: Path) -> None:
    made = trainer(tmp_path, monitor(4, Confidence(), on_error="warn"))
    with pytest.raises(FnetError, match="confidence needs logits"):
        made.fit(DictNet(), loader())
    assert made.global_step == 0


class Breaking(Confidence):
    """Fails in the worker after the first snapshot."""

    def analyze(self, arrays: Any) -> Any:
        if self.context.step > 0:
            raise ZeroDivisionError("no")
        return super().analyze(arrays)


class Lists(Confidence):
    def analyze(self, arrays: Any) -> Any:
        return [0.5]


class Generous(Confidence):
    def analyze(self, arrays: Any) -> Any:
        return {**super().analyze(arrays), "luck": 1.0}  # type: ignore[dict-item]


@pytest.mark.parametrize("worker", ["process", "inline"])
def test_where_it_fails_training_and_the_others_go_on(tmp_path: Path, worker: str) -> None:
    watching = monitor(4, network(), Breaking(), worker=worker, on_error="warn")
    with pytest.warns(FnetWarning, match=r"confidence.*ZeroDivisionError\('no'\)") as caught:
        ledger = fitted(tmp_path, watching)
    assert len([w for w in caught if "ZeroDivisionError" in str(w.message)]) == 1
    assert values(ledger, "confidence/mean").keys() == {0}
    assert values(ledger, "fnet/modularity").keys() == {0, 4, 8}


def test_what_is_no_value_by_quantity_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        Exception, match="`analyze` should give findings, or values by quantity, and gave a list"
    ):
        fitted(tmp_path, monitor(4, Lists()))


def test_a_quantity_that_it_does_not_declare_is_named_once(tmp_path: Path) -> None:
    with pytest.warns(FnetWarning, match=r"confidence/luck.*`quantities`") as caught:
        ledger = fitted(tmp_path, monitor(4, Generous()))
    assert len([w for w in caught if "confidence/luck" in str(w.message)]) == 1
    assert set(values(ledger, "confidence/mean")) == {0, 4, 8}


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        (("mean",), "should be a list of Quantity"),
        ("mean", "should be a list of Quantity"),
        (HUBS, "should be a list of Quantity"),
        ([HUBS, Quantity("hub_share", "other", "Other.")], "has two of one name: hub_share, hub_share"),
    ],
)
def test_quantities_that_say_nothing_are_refused_as_the_class_is_made(declared: Any, why: str) -> None:
    with pytest.raises(FnetError, match=f"`quantities` of Silent {why}"):
        type("Silent", (Confidence,), {"quantities": declared})


# What does not change.


def test_an_option_is_fixed_once_it_is_made(tmp_path: Path) -> None:
    own = Confidence(temperature=0.5)
    for instrument, name in ((own, "temperature"), (own, "name"), (Lesions(), "every_n_steps")):
        before = getattr(instrument, name)
        with pytest.raises(FnetError, match=f"`{name}` of {type(instrument).__name__} is fixed"):
            setattr(instrument, name, "other")
        assert getattr(instrument, name) == before


class Warm(Confidence):
    """Of a constructor of its own, which goes on after its parent's."""

    def __init__(self, *, name: str = "warm", floor: float = 0.0) -> None:
        super().__init__(name=name, temperature=2.0)
        self.floor = floor


class Same(Warm):
    pass


def test_constructors_that_inherit_may_go_on_after_their_parents() -> None:
    for kind in (Warm, Same):
        own = kind(floor=0.5)
        assert (own.floor, own.temperature) == (0.5, 2.0)
        with pytest.raises(FnetError, match="`floor` of"):
            own.floor = 0.1
        with pytest.raises(TypeError, match=f"{kind.__name__} has no option `flor`; did you mean `floor`"):
            kind(flor=0.5)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="has no option `probe_size`; it is the monitor's"):
            kind(probe_size=64)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "own",
    [
        Confidence(temperature=0.5),
        Same(floor=0.25),
        network(layers=["net.*"]),
        network(measures=["fast", HUBS], layer_measures="full"),
        Robustness(bounds=(0, 1), output_to_logits="logits"),
        Lesions(points=3),
    ],
    ids=lambda own: type(own).__name__,
)
def test_it_is_copied_pickled_and_shown(own: Instrument) -> None:
    for other in (copy.copy(own), copy.deepcopy(own), pickle.loads(pickle.dumps(own))):
        assert type(other) is type(own)
        assert other.options == own.options
        assert repr(other) == repr(own)
        with pytest.raises(FnetError, match=r"`name` of .* is fixed"):
            other.name = "other"
    assert repr(own).startswith(f"{type(own).__name__}(")
    assert repr(Confidence(temperature=0.5)) == "Confidence(temperature=0.5)"
    assert eval(repr(Lesions(points=3))).points == 3


def test_one_object_may_be_in_two_fits(tmp_path: Path) -> None:
    own, lesions = Confidence(every_n_steps=4), Lesions(every_n_steps=4, points=2, density=0.3)
    before = {key: value for one in (own, lesions) for key, value in vars(one).items()}
    watching = Monitor([own, lesions], every_n_steps=4, worker="inline", figures=None, on_error="raise")
    for folder, again in (("first", watching), ("second", monitor(2, own, lesions)), ("third", watching)):
        fitted(tmp_path / folder, again)
    assert {key: value for one in (own, lesions) for key, value in vars(one).items()} == before
    first, second, third = (record(tmp_path / folder) for folder in ("first", "second", "third"))
    assert first.steps == second.steps == third.steps == [0, 4, 8]
    for key in (key for key in first.manifest["keys"] if not key.startswith("monitor/")):
        np.testing.assert_array_equal(first.series(key), second.series(key))
        np.testing.assert_array_equal(first.series(key), third.series(key))
