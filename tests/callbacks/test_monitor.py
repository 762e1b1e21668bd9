"""A trainer has one monitor, whose instruments have names, keys and costs of their own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import (
    CLASSES,
    Ledger,
    Net,
    fast,
    fit,
    functional_monitor,
    loader,
    monitor,
    network,
    record,
    robustness,
    trainer,
    values,
)

from fnet_callbacks import FnetError, Lesions, Robustness

CORRELATION = "fnet/mean_abs_correlation"


def ours(ledger: Ledger) -> list[tuple[Any, dict[str, float]]]:
    """Everything but the costs."""
    return [
        (step, {k: v for k, v in m.items() if k.startswith(("fnet", "robust", "late"))})
        for step, m in ledger.rows
    ]


def test_two_instruments_of_one_name_are_refused() -> None:
    with pytest.raises(FnetError, match="`instruments` has 'same' twice"):
        monitor(8, network(measures="fast", name="same"), robustness(8, name="same"))


@pytest.mark.parametrize("brought_by", ["trainer", "model"])
def test_a_second_monitor_is_refused_before_anything_is_written(tmp_path: Path, brought_by: str) -> None:
    two = [fast(), monitor(8, robustness(8))]

    class Brings(Net):
        def configure_callbacks(self) -> Any:
            return two if brought_by == "model" else []

    with pytest.raises(FnetError, match=r"two monitors.*give one monitor all `instruments`"):
        trainer(tmp_path, *(two if brought_by == "trainer" else [])).fit(Brings(), loader())
    assert not list(tmp_path.rglob("manifest.json"))


def test_one_instrument_is_in_two_monitors_and_in_two_fits_and_keeps_nothing(tmp_path: Path) -> None:
    shared = network(measures="fast")
    before = repr(shared), dict(vars(shared))
    first, second = monitor(4, shared), monitor(8, shared, robustness(8))
    ledgers = []
    for number, one in enumerate((first, first, second)):
        torch.manual_seed(0)
        ledgers.append(fit(tmp_path / str(number), one))
    assert (repr(shared), dict(vars(shared))) == before
    assert [ledger.steps_of("fnet/modularity") for ledger in ledgers] == [[0, 4, 8], [0, 4, 8], [0, 8]]
    np.testing.assert_equal(ours(ledgers[0]), ours(ledgers[1]))
    # What is compared with the snapshot before it has another one before it.
    for key in ("fnet/clustering", "fnet/tree_mean", "fnet_layers/02/mean_abs_correlation"):
        assert values(ledgers[0], key)[8] == values(ledgers[2], key)[8]


def test_measures_may_be_named(tmp_path: Path) -> None:
    ledger = fit(
        tmp_path, functional_monitor(8, measures=["modularity", "loops"], layer_measures=["n_neurons"])
    )
    assert {k for _, m in ledger.rows for k in m if k.startswith("fnet")} == {
        *(f"fnet/{name}" for name in ("modularity", "loops", "n_samples")),
        *(f"fnet_layers/{place}/n_neurons" for place in ("01", "02")),
    }


def test_every_key_is_in_callback_metrics_and_in_the_manifest_and_nothing_else(tmp_path: Path) -> None:
    fitted = trainer(tmp_path, monitor(4, network(), robustness(4), overhead_budget=1.0))
    fitted.fit(Net(), loader())
    found = record(tmp_path)
    last = found.snapshots[-1]
    own = {k for k in fitted.callback_metrics if k.startswith(("fnet", "robust", "monitor"))}
    assert own == last.scalars.keys() | last.cost_ms.keys()
    assert last.scalars.keys() | {"monitor/cost_ms"} == found.manifest["keys"].keys()
    for key, value in last.scalars.items():
        assert float(fitted.callback_metrics[key]) == pytest.approx(value, rel=1e-6, nan_ok=True)


def test_costs_are_logged_and_add_up(tmp_path: Path) -> None:
    ledger = fit(tmp_path, monitor(8, network(measures="fast"), robustness(8)))
    row = next(m for s, m in ledger.rows if s == 8 and "monitor/cost_ms" in m)
    cost = {k.removeprefix("monitor_cost/fnet/"): v for k, v in row.items() if "_cost/fnet/" in k}
    total, here, there = (cost.pop(whole) for whole in ("total", "training_thread", "worker"))
    assert {"probe", "moments", "output", "modularity"} <= cost.keys()
    assert total == here == pytest.approx(sum(cost.values()))
    assert there == 0
    assert row["monitor/cost_ms"] == pytest.approx(total + row["monitor_cost/robust/total"])


class NoisyNet(Net):
    """One that is random in eval mode too."""

    def forward(self, x: Any) -> Any:
        return super().forward(x) + 2 * torch.randn(len(x), CLASSES)


class Draws(Robustness):
    """One that draws from the global streams as it sees and as it computes."""

    makes_passes = True

    def see(self, batch: Any, output: Any) -> None:
        torch.rand(3)
        super().see(batch, output)

    def compute(self, model: Any) -> Any:
        torch.rand(5)
        return super().compute(model)


def test_what_a_random_model_gives_does_not_depend_on_who_else_is_due(tmp_path: Path) -> None:
    def accuracies(folder: str, *beside: Any) -> dict[str, float]:
        instruments = [*beside, robustness(4), Lesions(every_n_steps=4, points=3)]
        torch.manual_seed(0)
        ledger = fit(tmp_path / folder, monitor(4, *instruments), model=NoisyNet())
        return {
            k: v for _, row in ledger.rows for k, v in row.items() if k.startswith(("robust/", "lesion/"))
        }

    alone = accuracies("alone")
    assert alone
    assert accuracies("beside", Draws(name="draws", attacks=["pgd"], bounds=(0, 1), every_n_steps=4)) == alone
