"""What goes wrong around a fit costs a value or a file, never the run or what was recorded before."""

import errno
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, Logger
from small_models import (
    Ledger,
    Net,
    Stream,
    csv_record,
    fit_to_csv,
    loader,
    monitor,
    network,
    points,
    robustness,
    trainer,
    values,
    warning_monitor,
)
from torch import Tensor
from torch.utils.data import DataLoader

from fnet_callbacks import FnetWarning, read_record
from fnet_callbacks import record as record_module
from fnet_callbacks.quantities import networks as registry
from fnet_callbacks.quantities.quantity import Quantity

# Where things are written.


def files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file()]


def test_a_log_directory_that_cannot_be_written_costs_the_record_and_not_the_run(tmp_path: Path) -> None:
    root = tmp_path / "file"
    root.write_text("a file where the directory should be")
    ledger = Ledger()
    fitted = trainer(root, warning_monitor(), logger=ledger)
    ledger_folder = str(root)
    type(ledger).save_dir = property(lambda self: ledger_folder)  # type: ignore[assignment]
    try:
        with pytest.warns(FnetWarning, match="no record is written: .*file"):
            fitted.fit(Net(), loader())
    finally:
        del type(ledger).save_dir
    assert fitted.global_step == 8
    assert ledger.steps_of("fnet/modularity") == [0, 4, 8]


def test_a_full_disk_loses_no_snapshot_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = record_module.SnapshotStore.append

    def full_at_4(self: Any, snapshot: Any) -> bool:
        if snapshot.step == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return append(self, snapshot)

    monkeypatch.setattr(record_module.SnapshotStore, "append", full_at_4)
    with pytest.warns(FnetWarning, match="step 4 is not in the record: .*No space left"):
        ledger = fit_to_csv(tmp_path, warning_monitor())
    assert csv_record(tmp_path).steps == [0, 8]
    assert ledger.steps_of("fnet/modularity") == [0, 4, 8]


class Broken(Logger):
    """Raises at every metric."""

    name, version = "broken", 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if any(k.startswith("fnet") for k in metrics):
            raise ConnectionError("nobody answers")

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


def test_a_logger_that_raises_is_named_once_and_the_others_go_on(tmp_path: Path) -> None:
    ledger = Ledger()
    with pytest.warns(FnetWarning) as caught:
        fit_to_csv(tmp_path, warning_monitor(), logger=[CSVLogger(tmp_path, name="csv"), Broken(), ledger])
    messages = [str(w.message) for w in caught if issubclass(w.category, FnetWarning)]
    assert len(messages) == 1
    assert "Broken failed" in messages[0]
    assert "nobody answers" in messages[0]
    assert ledger.steps_of("fnet/modularity") == [0, 4, 8]
    assert csv_record(tmp_path).steps == [0, 4, 8]


@pytest.mark.filterwarnings("ignore:Experiment logs directory")
def test_an_old_record_in_the_folder_is_kept(tmp_path: Path) -> None:
    for _ in range(2):
        trainer(tmp_path, warning_monitor(), logger=CSVLogger(tmp_path, name="csv", version=0)).fit(
            Net(), loader()
        )
    assert csv_record(tmp_path).steps == [0, 4, 8]
    assert read_record(tmp_path / "csv" / "version_0" / "fnet.1").steps == [0, 4, 8]


# What fails on the way.


def replaced(monkeypatch: pytest.MonkeyPatch, name: str, of: Callable[[Any], float]) -> None:
    broken = Quantity(name, "broken", "Broken.", tier="fast", function=of)
    monkeypatch.setattr(registry, "BY_NAME", {**registry.BY_NAME, name: broken})


def failing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def fail(scope: Any) -> float:
        raise ZeroDivisionError("of no use")

    replaced(monkeypatch, name, fail)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_measure_without_a_number_is_nan_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    replaced(monkeypatch, "modularity", lambda scope: value)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FnetWarning)
        ledger = fit_to_csv(tmp_path, warning_monitor(layer_measures=[]))
    assert values(ledger, "fnet/modularity") == {}
    found = csv_record(tmp_path)
    assert found.steps == [0, 4, 8]
    assert np.isnan(found.series("fnet/modularity")).all()
    reason = "not defined for this network" if np.isnan(value) else "infinite"
    assert [s.notes["fnet/modularity"] for s in found.snapshots] == [reason] * 3
    assert np.isfinite(found.series("fnet/n_communities")).all()


def test_a_measure_that_fails_is_named_once_and_is_nan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "modularity")
    with pytest.warns(FnetWarning) as caught:
        ledger = fit_to_csv(tmp_path, warning_monitor(layer_measures=[]))
    messages = [str(w.message) for w in caught if issubclass(w.category, FnetWarning)]
    assert len(messages) == 1
    assert "fnet/modularity failed: ZeroDivisionError: of no use" in messages[0]
    assert np.isnan(csv_record(tmp_path).series("fnet/modularity")).all()
    assert np.isfinite(list(values(ledger, "fnet/n_communities").values())).all()


def test_a_measure_that_fails_ends_the_run_where_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "modularity")
    with pytest.raises(ZeroDivisionError, match="of no use"):
        fit_to_csv(tmp_path, warning_monitor(on_error="raise"))


class Stumbles(Net):
    """Its forward fails outside of training, from a step on."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and self.trainer.global_step >= 4:
            raise RuntimeError("not in eval mode")
        return self.net(x)


def test_a_forward_that_fails_costs_the_snapshots_and_not_the_run(tmp_path: Path) -> None:
    with pytest.warns(FnetWarning, match="fnet: no snapshot at step 4: RuntimeError.'not in eval mode'"):
        ledger = fit_to_csv(tmp_path, warning_monitor(), model=Stumbles())
    assert ledger.steps_of("fnet/modularity") == [0]
    with pytest.raises(RuntimeError, match="not in eval mode"):
        fit_to_csv(tmp_path, warning_monitor(on_error="raise"), model=Stumbles())


def test_one_instrument_that_fails_does_not_take_the_other_with_it(tmp_path: Path) -> None:
    inputs, labels = points().tensors
    inputs = inputs.clone()
    inputs[20:] += 5  # passes later, and leaves the bounds

    class Passing(Stream):
        def __iter__(self) -> Any:
            return iter(zip(inputs, labels, strict=True))

    with pytest.warns(FnetWarning, match="robust: no snapshot at step 4: .*bounds"):
        ledger = fit_to_csv(
            tmp_path,
            monitor(4, network(), robustness(4), on_error="warn"),
            data=DataLoader(Passing(), batch_size=8),
        )
    assert ledger.steps_of("robust/clean_accuracy") == [0]
    assert ledger.steps_of("fnet/modularity") == [0, 4, 8]


def test_an_interrupted_fit_leaves_what_was_recorded(tmp_path: Path) -> None:
    class Ends(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if batch_idx == 6:
                raise ValueError("the user's own")
            return super().training_step(batch, batch_idx)

    for source in ("probe", "train"):
        with warnings.catch_warnings(), pytest.raises(ValueError, match="the user's own"):
            fit_to_csv(tmp_path / source, warning_monitor(2, source=source, figures="log"), model=Ends())
        assert csv_record(tmp_path / source).steps == [0, 2, 4, 6]
