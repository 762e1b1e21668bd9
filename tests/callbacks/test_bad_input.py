"""Bad input gives the written result or an error that names the argument; training goes on unless told otherwise."""

import errno
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, Logger
from small_models import (
    CLASSES,
    FEATURES,
    BareNet,
    DictNet,
    Ledger,
    Net,
    Stream,
    functional_monitor,
    loader,
    points,
    robustness_monitor,
    trainer,
    values,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fnet_callbacks import CaptureError, FnetError, FnetWarning, read_record
from fnet_callbacks import measures as registry
from fnet_callbacks import record as record_module
from fnet_callbacks.measures import names_of


def monitor(every_n_steps: int = 4, **options: Any) -> Any:
    """As a user has it: failures are warned of."""
    return functional_monitor(every_n_steps, **{"on_error": "warn", **options})


def assert_stops_before_the_first_step(
    folder: Path, model: Any, *callbacks: Any, match: str, data: Any = None
) -> None:
    fitted = trainer(folder, *callbacks)
    with pytest.raises(FnetError, match=match):
        fitted.fit(model, loader() if data is None else data)
    assert fitted.global_step == 0


def fit(folder: Path, *callbacks: Any, model: Any = None, data: Any = None, **options: Any) -> Ledger:
    """Trains to the end: eight steps."""
    ledger = Ledger()
    loggers = [CSVLogger(folder, name="csv"), ledger]
    fitted = trainer(folder, *callbacks, **{"logger": loggers, **options})
    fitted.fit(model or Net(), loader() if data is None else data)
    assert fitted.global_step == 8
    return ledger


def record(folder: Path) -> Any:
    return read_record(folder / "csv" / "version_0" / "fnet")


# The model and its data.


def test_no_matching_layer(tmp_path: Path) -> None:
    assert_stops_before_the_first_step(
        tmp_path,
        Net(),
        monitor(layers=["encoder.*"]),
        match=r"`layers`: 'encoder.\*' matches no module; there are: net",
    )


def test_a_model_without_layers_to_watch(tmp_path: Path) -> None:
    class Plain(Net):
        def __init__(self) -> None:
            super().__init__(nn.Identity())
            self.weight = nn.Parameter(torch.randn(FEATURES, CLASSES))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight

    assert_stops_before_the_first_step(
        tmp_path, Plain(), monitor(), match="`layers='auto'` leaves nothing to watch"
    )


def test_a_hook_that_never_fires(tmp_path: Path) -> None:
    class Idle(Net):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Linear(3, 3)

    assert_stops_before_the_first_step(
        tmp_path, Idle(), monitor(layers=["unused"]), match="the hook on unused never fires"
    )


@pytest.mark.parametrize("on_error", ["warn", "raise"])
def test_a_hook_that_stops_firing_on_live_batches(tmp_path: Path, on_error: str) -> None:
    class Skips(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.net[4](self.net[2](x.repeat(1, 2)).relu()) if self.training else self.net(x)  # type: ignore[index]

    live = monitor(source="train", on_error=on_error)
    if on_error == "raise":
        with pytest.raises(CaptureError, match="did not fire"):
            fit(tmp_path, live, model=Skips())
        return
    with pytest.warns(FnetWarning) as caught:
        ledger = fit(tmp_path, live, model=Skips())
    messages = [str(w.message) for w in caught if issubclass(w.category, FnetWarning)]
    assert sum("a live batch was not seen" in m and "did not fire" in m for m in messages) == 1
    assert sum("no snapshot at step 4" in m for m in messages) == 1
    assert len(messages) == 2
    assert ledger.steps_of("fnet/modularity") == [0]


def test_a_batch_whose_inputs_cannot_be_found(tmp_path: Path) -> None:
    class Strings(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.net(torch.rand(4, FEATURES)).sum()

    data = DataLoader(["a", "b", "c", "d"], batch_size=2)  # type: ignore[arg-type]
    assert_stops_before_the_first_step(
        tmp_path, Strings(), monitor(), match="no input tensor found.*pass `batch_to_inputs`", data=data
    )


def test_a_forward_that_returns_a_dict_has_a_functional_network(tmp_path: Path) -> None:
    assert fit(tmp_path, monitor(), model=DictNet()).steps_of("fnet/modularity") == [0, 4, 8]


def test_a_forward_that_returns_a_dict_has_no_logits(tmp_path: Path) -> None:
    assert_stops_before_the_first_step(
        tmp_path, DictNet(), robustness_monitor(), match="returns a dict; pass `output_to_logits`"
    )


def test_no_forward_at_all(tmp_path: Path) -> None:
    assert_stops_before_the_first_step(
        tmp_path, BareNet(), monitor(), match="BareNet has no `forward`; pass `model='net'`"
    )


def test_a_submodule_that_is_not_there(tmp_path: Path) -> None:
    assert_stops_before_the_first_step(
        tmp_path,
        BareNet(),
        monitor(model="body"),
        match="`model='body'` is no submodule; the direct ones are: net",
    )


def test_fewer_neurons_than_layers(tmp_path: Path) -> None:
    assert_stops_before_the_first_step(
        tmp_path, Net(), monitor(max_neurons=1), match="`max_neurons=1` is fewer than the 2"
    )


def test_a_probe_without_items(tmp_path: Path) -> None:
    for probe in (Stream(), []):
        assert_stops_before_the_first_step(tmp_path, Net(), monitor(probe=probe), match="`probe`")


def test_labels_missing_leave_selectivity_without_a_value(tmp_path: Path) -> None:
    class Unlabelled(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self(batch[0]).square().mean()

    data = DataLoader(TensorDataset(points().tensors[0]), batch_size=8)
    ledger = fit(tmp_path, monitor(), model=Unlabelled(), data=data)
    assert np.isnan(list(values(ledger, "fnet/selectivity_entropy").values())).all()
    assert record(tmp_path).snapshots[-1].notes["fnet/selectivity_entropy"] == "the probe has no labels"
    assert np.isfinite(list(values(ledger, "fnet/activation_entropy").values())).all()


def test_labels_below_zero_count_as_none(tmp_path: Path) -> None:
    class Ignores(Net):
        def loss(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
            return super().loss((batch[0], batch[1].clamp(min=0)))

    inputs, labels = points().tensors
    data = DataLoader(TensorDataset(inputs, torch.where(labels == 0, -100, labels)), batch_size=8)
    for source in ("probe", "train"):
        ledger = fit(tmp_path, monitor(source=source), model=Ignores(), data=data)
        assert np.isnan(values(ledger, "fnet/selectivity_entropy")[8])
        assert np.isfinite(values(ledger, "fnet/modularity")[8])
    assert_stops_before_the_first_step(
        tmp_path, Ignores(), robustness_monitor(), match="no labels in the probe", data=data
    )


# Degenerate activations.


class Degenerate(Net):
    """``spoil`` sees what the first layer gives, ``[S, 16]``, and returns what the rest gets."""

    def __init__(self, spoil: nn.Module) -> None:
        super().__init__(nn.Sequential(nn.Linear(FEATURES, 16), spoil, nn.Linear(16, CLASSES)))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(batch[0]).nan_to_num(0.0, 0.0, 0.0).square().mean()


class Spoil(nn.Module):
    """Writes a value into some of the units."""

    def __init__(self, value: float, units: slice) -> None:
        super().__init__()
        self.value, self.units = value, units

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        x[:, self.units] = self.value
        return x


SINGLE = {"layers": ["net.1"], "layer_measures": [], "measures": "full"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, 7.5])
def test_units_without_a_correlation_are_dead_and_do_not_touch_the_others(
    tmp_path: Path, value: float
) -> None:
    ledger = fit(tmp_path, monitor(**SINGLE), model=Degenerate(Spoil(value, slice(0, 4))))
    assert set(values(ledger, "fnet/dead_fraction").values()) == {0.25}
    assert set(values(ledger, "fnet/n_neurons").values()) == {12}
    assert np.isfinite(list(values(ledger, "fnet/mean_abs_correlation").values())).all()
    assert np.isfinite(list(values(ledger, "fnet/functional_persistence").values())).all()


@pytest.mark.parametrize("value", [np.nan, 0.0])
@pytest.mark.parametrize("live", [0, 1])
def test_all_units_dead_and_one_live_neuron_have_written_results(
    tmp_path: Path, live: int, value: float
) -> None:
    ledger = fit(
        tmp_path, monitor(**SINGLE, on_error="raise"), model=Degenerate(Spoil(value, slice(live, None)))
    )
    for step in (0, 8):
        row = {name: values(ledger, f"fnet/{name}")[step] for name in names_of("full")}
        assert row["n_neurons"] == live
        assert row["dead_fraction"] == 1 - live / 16
        assert row["n_communities"] == live
        for name in ("clustering", "path_length", "modularity", "sigma", "mean_abs_correlation", "tree_mean"):
            assert np.isnan(row[name]), name
        for name in ("loops", "functional_persistence"):
            assert row[name] == 0, name
    notes = record(tmp_path).snapshots[0].notes
    assert f"{live} live neurons" in notes["fnet/clustering"]
    assert not [note for note in notes.values() if note.startswith("failed")]


def test_dead_units_draw_no_figures_and_no_error(tmp_path: Path) -> None:
    fit(tmp_path, monitor(**SINGLE, figures="log"), model=Degenerate(Spoil(0.0, slice(0, None))))
    assert record(tmp_path).steps == [0, 4, 8]


@pytest.mark.parametrize("size", [2, 3])
def test_a_probe_of_two_samples_has_written_results(tmp_path: Path, size: int) -> None:
    ledger = fit(
        tmp_path,
        monitor(measures="full", probe_size=size, on_error="raise"),
        robustness_monitor(4, probe_size=size),
    )
    assert set(values(ledger, "fnet/n_samples").values()) == {size}
    if size == 2:  # two points lie on a line: every correlation is 1 or -1
        assert list(values(ledger, "fnet/mean_abs_correlation").values()) == pytest.approx([1.0] * 3)
        assert set(values(ledger, "fnet/loops").values()) == {0}


# Where things are written.


def files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file()]


def test_a_log_directory_that_cannot_be_written_costs_the_record_and_not_the_run(tmp_path: Path) -> None:
    root = tmp_path / "file"
    root.write_text("a file where the directory should be")
    ledger = Ledger()
    fitted = trainer(root, monitor(), logger=ledger)
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

    def full_at_4(self: Any, snapshot: Any) -> None:
        if snapshot.step == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, snapshot)

    monkeypatch.setattr(record_module.SnapshotStore, "append", full_at_4)
    with pytest.warns(FnetWarning, match="step 4 is not in the record: .*No space left"):
        ledger = fit(tmp_path, monitor())
    assert record(tmp_path).steps == [0, 8]
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
        fit(tmp_path, monitor(), logger=[CSVLogger(tmp_path, name="csv"), Broken(), ledger])
    messages = [str(w.message) for w in caught if issubclass(w.category, FnetWarning)]
    assert len(messages) == 1
    assert "Broken failed" in messages[0]
    assert "nobody answers" in messages[0]
    assert ledger.steps_of("fnet/modularity") == [0, 4, 8]
    assert record(tmp_path).steps == [0, 4, 8]


@pytest.mark.filterwarnings("ignore:Experiment logs directory")
def test_an_old_record_in_the_folder_is_kept(tmp_path: Path) -> None:
    for _ in range(2):
        trainer(tmp_path, monitor(), logger=CSVLogger(tmp_path, name="csv", version=0)).fit(Net(), loader())
    assert record(tmp_path).steps == [0, 4, 8]
    assert read_record(tmp_path / "csv" / "version_0" / "fnet.1").steps == [0, 4, 8]


# What fails on the way.


def failing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def fail(scope: Any) -> float:
        raise ZeroDivisionError("of no use")

    broken = registry.Measure(name, "fast", fail)
    monkeypatch.setattr(registry, "BY_NAME", {**registry.BY_NAME, name: broken})


def test_a_measure_that_fails_is_named_once_and_is_nan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "modularity")
    with pytest.warns(FnetWarning) as caught:
        ledger = fit(tmp_path, monitor(layer_measures=[]))
    messages = [str(w.message) for w in caught if issubclass(w.category, FnetWarning)]
    assert len(messages) == 1
    assert "fnet/modularity failed: ZeroDivisionError: of no use" in messages[0]
    assert np.isnan(list(values(ledger, "fnet/modularity").values())).all()
    assert np.isfinite(list(values(ledger, "fnet/n_communities").values())).all()


def test_a_measure_that_fails_ends_the_run_where_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "modularity")
    with pytest.raises(ZeroDivisionError, match="of no use"):
        fit(tmp_path, monitor(on_error="raise"))


class Stumbles(Net):
    """Its forward fails outside of training, from a step on."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and self.trainer.global_step >= 4:
            raise RuntimeError("not in eval mode")
        return self.net(x)


def test_a_forward_that_fails_costs_the_snapshots_and_not_the_run(tmp_path: Path) -> None:
    with pytest.warns(FnetWarning, match="fnet: no snapshot at step 4: RuntimeError.'not in eval mode'"):
        ledger = fit(tmp_path, monitor(), model=Stumbles())
    assert ledger.steps_of("fnet/modularity") == [0]
    with pytest.raises(RuntimeError, match="not in eval mode"):
        fit(tmp_path, monitor(on_error="raise"), model=Stumbles())


def test_one_monitor_that_fails_does_not_take_the_other_with_it(tmp_path: Path) -> None:
    inputs, labels = points().tensors
    inputs = inputs.clone()
    inputs[20:] += 5  # passes later, and leaves the bounds

    class Passing(Stream):
        def __iter__(self) -> Any:
            return iter(zip(inputs, labels, strict=True))

    with pytest.warns(FnetWarning, match="robust: no snapshot at step 4: .*bounds"):
        ledger = fit(
            tmp_path,
            monitor(),
            robustness_monitor(4, on_error="warn"),
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
            fit(tmp_path / source, monitor(2, source=source, figures="log"), model=Ends())
        assert record(tmp_path / source).steps == [0, 2, 4, 6]


def test_a_forward_that_fails_at_once_is_refused_before_the_first_step_and_says_what_to_pass(
    tmp_path: Path,
) -> None:
    class NeverInEval(Net):
        def forward(self, x: Tensor) -> Tensor:
            assert self.training, "not in eval mode"
            return self.net(x)

    with pytest.raises(FnetError, match=r"fnet: the model fails .*not in eval mode.*`batch_to_inputs`"):
        fit(tmp_path, monitor(), model=NeverInEval())


def test_layers_whose_names_differ_in_a_slash_keep_keys_of_their_own(tmp_path: Path) -> None:
    net = torch.nn.Sequential()
    for name, part in {
        "a": torch.nn.Linear(8, 9),
        "r/1": torch.nn.ReLU(),
        "b": torch.nn.Linear(9, 7),
    }.items():
        net.add_module(name, part)
    net.add_module("r_1", torch.nn.ReLU())
    net.add_module("head", torch.nn.Linear(7, 3))
    ledger = fit(tmp_path, monitor(), model=Net(net))
    counts = {
        k: v for _, row in ledger.rows for k, v in row.items() if k.endswith("n_neurons") and "layers" in k
    }
    assert len(counts) == 2
    assert {k.split("/")[1] for k in counts} == {"net.r_1", "net.r_1_"}
