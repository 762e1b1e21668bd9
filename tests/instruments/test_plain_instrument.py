"""An instrument of one's own that has the documented methods and nothing else."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import Net, fit, loader, monitor, network, trainer, values

from fnet_callbacks import FnetError, FnetWarning, Instrument, Monitor, Quantity


def fitted(folder: Path, watching: Monitor, **options: Any) -> Any:
    torch.manual_seed(0)
    return fit(folder, watching, val=loader(32, seed=1), **options)


class OfTheTable(Instrument):
    """One with the methods of the table alone, written as one reads it."""

    quantities = (Quantity("norm", "norm of the weights", "Sum of the squares of all weights."),)

    def prepare(self, forward: Any, probe: Any) -> None:
        self.seen: list[int] = []

    def see(self, batch: Any, output: Any) -> None:
        self.seen.append(len(output))

    def compute(self, model: Any) -> Any:
        return {"squares": sum(float((p**2).sum()) for p in model.parameters())}

    def analyze(self, arrays: Any) -> dict[str, float]:
        self.last = float(arrays["squares"])
        return {"norm": self.last}

    def state(self) -> dict[str, Any]:
        return {"last": self.last}

    def restore(self, state: Any) -> None:
        self.last = state["last"]


@pytest.mark.parametrize("worker", ["inline", "process"])
def test_the_methods_of_the_table_are_enough(tmp_path: Path, worker: str) -> None:
    watching = monitor(4, OfTheTable(name="weights"), worker=worker)
    ledger = fitted(tmp_path, watching)
    assert all(np.isfinite(list(values(ledger, "weights/norm").values())))
    assert len(values(ledger, "weights/norm")) == 3
    again = pickle.loads(pickle.dumps(watching))
    assert repr(again.instruments) == repr(watching.instruments)
    trainer(tmp_path / "again", again).fit(Net(), loader())


def test_one_whose_state_fails_leaves_its_snapshot_out(tmp_path: Path) -> None:
    class Forgetful(OfTheTable):
        def state(self) -> dict[str, Any]:
            raise KeyError("nothing kept")

    with pytest.warns(FnetWarning, match="nothing kept"):
        ledger = fitted(tmp_path, monitor(4, network(), Forgetful(name="mine"), on_error="warn"))
    assert len(values(ledger, "fnet/modularity")) == 3


class Unprepared(OfTheTable):
    def prepare(self, forward: Any, probe: Any) -> None:
        forward(forward.example.inputs)
        raise KeyError("mine")


def test_what_fails_in_its_own_preparation_is_not_told_of_the_model(tmp_path: Path) -> None:
    with pytest.raises(FnetError, match=r"mine: `prepare` of Unprepared fails: KeyError\('mine'\)"):
        fitted(tmp_path, monitor(4, Unprepared(name="mine")))


class Heavy(OfTheTable):
    def prepare(self, forward: Any, probe: Any) -> None:
        super().prepare(forward, probe)
        self.weights = torch.ones(3)

    def analyze(self, arrays: Any) -> dict[str, float]:
        self.last = float(self.weights.sum())
        return {"norm": self.last}


def test_what_does_not_reach_the_worker_is_named_there(tmp_path: Path) -> None:
    assert set(values(fitted(tmp_path / "inline", monitor(4, Heavy(name="mine"))), "mine/norm").values()) == {
        3.0
    }
    with pytest.warns(FnetWarning, match="`weights` is a Tensor, which does not reach the worker"):
        fitted(
            tmp_path,
            monitor(4, network(measures="fast"), Heavy(name="mine"), worker="process", on_error="warn"),
        )
