"""Where no core is free the graph alone is drawn, by the training thread, and little of the run goes into it."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger
from small_models import Net, csv_record, loader, monitor, network, trainer

from fnet_callbacks import FunctionalCodes
from fnet_callbacks.engine import output
from fnet_callbacks.engine.cores import WorkerChoice


def drawn(folder: Path, monkeypatch: pytest.MonkeyPatch, *, n_free: int, share: float) -> set[str]:
    """The pictures of a run of 16 steps with nine snapshots."""
    monkeypatch.setattr(
        output, "choose_worker", lambda asked, host: WorkerChoice("inline", n_free, "said by a test")
    )
    monkeypatch.setattr(output, "_SHARE_OF_PICTURES", share)
    instruments: list[Any] = [network(), FunctionalCodes(every_n_steps=2)]
    fitted = trainer(
        folder, monitor(2, *instruments, figures="log"), max_epochs=2, logger=CSVLogger(folder, name="csv")
    )
    fitted.fit(Net(), loader(), loader(40, seed=1))
    return {path.stem for path in (csv_record(folder).folder / "figures").glob("*.png")}


def test_the_graphs_of_the_snapshots_that_are_due_are_drawn_as_long_as_that_takes_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = drawn(tmp_path, monkeypatch, n_free=0, share=1e9)
    assert found == {f"{step}_fnet_figures_graph" for step in (0, 2, 4, 8, 16)}


def test_the_last_graph_is_drawn_however_short_the_run_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert drawn(tmp_path, monkeypatch, n_free=0, share=0.0) == {"16_fnet_figures_graph"}


def test_where_a_core_is_free_a_process_draws_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = drawn(tmp_path, monkeypatch, n_free=1, share=0.0)
    assert {f"{step}_fnet_figures_graph" for step in (0, 2, 4, 8, 16)} < found
    assert any("communities" in name for name in found)
    assert any("codes" in name for name in found)
