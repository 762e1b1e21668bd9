"""Bad input gives the written result or an error that names the argument; training goes on unless told otherwise."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import (
    CLASSES,
    FEATURES,
    BareNet,
    DictNet,
    Net,
    Stream,
    csv_record,
    fit_to_csv,
    loader,
    monitor,
    network,
    points,
    robustness,
    robustness_monitor,
    trainer,
    values,
    warning_monitor,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fnet_callbacks import CaptureError, FnetError, FnetWarning, Monitor
from fnet_callbacks.quantities.networks import names_of


def assert_stops_before_the_first_step(
    folder: Path, model: Any, *callbacks: Any, match: str, data: Any = None
) -> None:
    fitted = trainer(folder, *callbacks)
    with pytest.raises(FnetError, match=match):
        fitted.fit(model, loader() if data is None else data)
    assert fitted.global_step == 0


# The model and its data.


def test_no_matching_layer(tmp_path: Path) -> None:
    assert_stops_before_the_first_step(
        tmp_path,
        Net(),
        warning_monitor(layers=["encoder.*"]),
        match=r"`layers`: 'encoder.\*' matches no module; there are: net",
    )


@pytest.mark.parametrize("wanted", ["blocks.17.actt", ["blocks.1?0.act", "block.*"]])
def test_a_mistyped_pattern_on_a_model_of_many_modules_names_the_nearest(tmp_path: Path, wanted: Any) -> None:
    class Deep(Net):
        def __init__(self) -> None:
            super().__init__()
            parts = [nn.ModuleDict({"norm": nn.LayerNorm(FEATURES), "act": nn.ReLU()}) for _ in range(170)]
            self.blocks = nn.ModuleList(parts)

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                x = x + block["act"](block["norm"](x))  # type: ignore[index]
            return self.net(x)

    model = Deep()
    assert len(dict(model.named_modules())) > 500
    fitted = trainer(tmp_path, warning_monitor(layers=wanted))
    with pytest.raises(FnetError, match=r"`layers`: '.*' matches no module; there are: ") as caught:
        fitted.fit(model, loader())
    message = str(caught.value)
    assert len(message) < 500
    assert "blocks." in message
    assert "more" in message
    if isinstance(wanted, str):
        assert "blocks.17.act" in message


def test_a_model_without_layers_to_watch(tmp_path: Path) -> None:
    class Plain(Net):
        def __init__(self) -> None:
            super().__init__(nn.Identity())
            self.weight = nn.Parameter(torch.randn(FEATURES, CLASSES))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight

    assert_stops_before_the_first_step(
        tmp_path, Plain(), warning_monitor(), match="`layers='auto'` leaves nothing to watch"
    )


def test_a_hook_that_never_fires(tmp_path: Path) -> None:
    class Idle(Net):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Linear(3, 3)

    assert_stops_before_the_first_step(
        tmp_path, Idle(), warning_monitor(layers=["unused"]), match="the hook on unused never fires"
    )


@pytest.mark.parametrize("on_error", ["warn", "raise"])
def test_a_hook_that_stops_firing_on_live_batches(tmp_path: Path, on_error: str) -> None:
    class Skips(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.net[4](self.net[2](x.repeat(1, 2)).relu()) if self.training else self.net(x)  # type: ignore[index]

    live = warning_monitor(source="train", on_error=on_error)
    if on_error == "raise":
        with pytest.raises(CaptureError, match="did not fire"):
            fit_to_csv(tmp_path, live, model=Skips())
        return
    with pytest.warns(FnetWarning) as caught:
        ledger = fit_to_csv(tmp_path, live, model=Skips())
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
        tmp_path,
        Strings(),
        warning_monitor(),
        match="no input tensor found.*pass `batch_to_inputs`",
        data=data,
    )


def test_a_forward_that_returns_a_dict_has_a_functional_network(tmp_path: Path) -> None:
    assert fit_to_csv(tmp_path, warning_monitor(), model=DictNet()).steps_of("fnet/modularity") == [0, 4, 8]


def test_a_forward_that_returns_a_dict_has_no_logits(tmp_path: Path) -> None:
    assert_stops_before_the_first_step(
        tmp_path, DictNet(), robustness_monitor(), match="returns a dict; pass `output_to_logits`"
    )


def test_no_forward_at_all(tmp_path: Path) -> None:
    assert_stops_before_the_first_step(
        tmp_path,
        BareNet(),
        warning_monitor(),
        match=r"BareNet has no `forward`; pass .* such as `model='net'`; there are: net",
    )


def test_no_forward_among_several_submodules(tmp_path: Path) -> None:
    class Pair(BareNet):
        def __init__(self) -> None:
            super().__init__()
            self.teacher = nn.Linear(FEATURES, 3)
            self.loss_of = nn.CrossEntropyLoss()

    assert_stops_before_the_first_step(
        tmp_path,
        Pair(),
        warning_monitor(),
        match=r"Pair has no `forward`; pass .*`model='.*there are: .*teacher",
    )


def test_a_submodule_that_is_not_there(tmp_path: Path) -> None:
    assert_stops_before_the_first_step(
        tmp_path,
        BareNet(),
        warning_monitor(model="body"),
        match="`model='body'` is no submodule; there are: net, net.0",
    )


def test_fewer_neurons_than_layers(tmp_path: Path) -> None:
    assert_stops_before_the_first_step(
        tmp_path, Net(), warning_monitor(max_neurons=1), match="`max_neurons=1` is fewer than the 2"
    )


def test_a_probe_without_items(tmp_path: Path) -> None:
    for probe in (Stream(), []):
        assert_stops_before_the_first_step(tmp_path, Net(), warning_monitor(probe=probe), match="`probe`")


def test_labels_missing_leave_selectivity_without_a_value(tmp_path: Path) -> None:
    class Unlabelled(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self(batch[0]).square().mean()

    data = DataLoader(TensorDataset(points().tensors[0]), batch_size=8)
    ledger = fit_to_csv(tmp_path, warning_monitor(), model=Unlabelled(), data=data)
    assert values(ledger, "fnet/selectivity_entropy") == {}
    assert np.isnan(csv_record(tmp_path).series("fnet/selectivity_entropy")).all()
    assert csv_record(tmp_path).snapshots[-1].notes["fnet/selectivity_entropy"] == "the probe has no labels"
    assert np.isfinite(list(values(ledger, "fnet/activation_entropy").values())).all()


def test_labels_below_zero_count_as_none(tmp_path: Path) -> None:
    class Ignores(Net):
        def loss(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
            return super().loss((batch[0], batch[1].clamp(min=0)))

    inputs, labels = points().tensors
    data = DataLoader(TensorDataset(inputs, torch.where(labels == 0, -100, labels)), batch_size=8)
    for source in ("probe", "train"):
        ledger = fit_to_csv(tmp_path, warning_monitor(source=source), model=Ignores(), data=data)
        assert values(ledger, "fnet/selectivity_entropy") == {}
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
    ledger = fit_to_csv(tmp_path, warning_monitor(**SINGLE), model=Degenerate(Spoil(value, slice(0, 4))))
    assert set(values(ledger, "fnet/dead_fraction").values()) == {0.25}
    assert set(values(ledger, "fnet/n_neurons").values()) == {12}
    assert np.isfinite(list(values(ledger, "fnet/mean_abs_correlation").values())).all()
    assert np.isfinite(list(values(ledger, "fnet/functional_persistence").values())).all()


@pytest.mark.parametrize("value", [np.nan, 0.0])
@pytest.mark.parametrize("live", [0, 1])
def test_all_units_dead_and_one_live_neuron_have_written_results(
    tmp_path: Path, live: int, value: float
) -> None:
    ledger = fit_to_csv(
        tmp_path,
        warning_monitor(**SINGLE, on_error="raise"),
        model=Degenerate(Spoil(value, slice(live, None))),
    )
    assert all(np.isfinite(list(logged.values())).all() for _, logged in ledger.rows)
    for snapshot in csv_record(tmp_path).snapshots:
        row = {name: snapshot.scalars[f"fnet/{name}"] for name in names_of("full")}
        assert row["n_neurons"] == live
        assert row["dead_fraction"] == 1 - live / 16
        assert row["n_communities"] == live
        for name in ("clustering", "path_length", "modularity", "sigma", "mean_abs_correlation", "tree_mean"):
            assert np.isnan(row[name]), name
        for name in ("loops", "functional_persistence"):
            assert row[name] == 0, name
    notes = csv_record(tmp_path).snapshots[0].notes
    assert f"{live} live neurons" in notes["fnet/clustering"]
    assert not [note for note in notes.values() if note.startswith("failed")]


def test_dead_units_draw_no_figures_and_no_error(tmp_path: Path) -> None:
    fit_to_csv(
        tmp_path, warning_monitor(**SINGLE, figures="log"), model=Degenerate(Spoil(0.0, slice(0, None)))
    )
    assert csv_record(tmp_path).steps == [0, 4, 8]


@pytest.mark.parametrize("size", [2, 3])
def test_a_probe_of_two_samples_has_written_results(tmp_path: Path, size: int) -> None:
    ledger = fit_to_csv(
        tmp_path,
        monitor(4, network(measures="full"), robustness(4), probe_size=size),
    )
    assert set(values(ledger, "fnet/n_samples").values()) == {size}
    if size == 2:  # two points lie on a line: every correlation is 1 or -1
        assert list(values(ledger, "fnet/mean_abs_correlation").values()) == pytest.approx([1.0] * 3)
        assert set(values(ledger, "fnet/loops").values()) == {0}


def test_a_forward_that_fails_at_once_is_refused_before_the_first_step_and_says_what_to_pass(
    tmp_path: Path,
) -> None:
    class NeverInEval(Net):
        def forward(self, x: Tensor) -> Tensor:
            assert self.training, "not in eval mode"
            return self.net(x)

    with pytest.raises(FnetError, match=r"fnet: the model fails .*not in eval mode.*`batch_to_inputs`"):
        fit_to_csv(tmp_path, warning_monitor(), model=NeverInEval())


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
    ledger = fit_to_csv(tmp_path, warning_monitor(), model=Net(net))
    counts = {
        k: v for _, row in ledger.rows for k, v in row.items() if k.endswith("n_neurons") and "layers" in k
    }
    assert len(counts) == 2
    assert counts.keys() == {"fnet_layers/01/n_neurons", "fnet_layers/02/n_neurons"}
    layers = csv_record(tmp_path).manifest["instruments"]["fnet"]["layers"]
    assert [(layer["place"], layer["name"]) for layer in layers] == [("01", "net.r/1"), ("02", "net.r_1")]


# Two of what there may be one of.


def test_two_monitors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        FnetError, match="two monitors, and a run has one record; give one monitor all `instrum"
    ):
        trainer(tmp_path, warning_monitor(), robustness_monitor()).fit(Net(), loader())


def test_a_monitor_that_joins_later_is_refused_too(tmp_path: Path) -> None:
    made = trainer(tmp_path, warning_monitor())
    made.callbacks.append(robustness_monitor())  # type: ignore[attr-defined]
    with pytest.raises(FnetError, match="two monitors"):
        made.fit(Net(), loader())


def test_a_class_in_place_of_a_monitor_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        AttributeError, match=r"`callbacks` has the class Monitor; it should be an object, Monitor\("
    ):
        trainer(tmp_path, Monitor).fit(Net(), loader())
    assert Monitor().state_key == "fnet_callbacks"


# What has a natural meaning.


def test_a_place_in_the_batch_is_where_inputs_are(tmp_path: Path) -> None:
    by_place = fit_to_csv(tmp_path / "place", warning_monitor(batch_to_inputs=0, batch_to_labels=1))
    plain = fit_to_csv(tmp_path / "plain", warning_monitor())
    assert values(by_place, "fnet/modularity").keys() == values(plain, "fnet/modularity").keys()
    assert csv_record(tmp_path / "place").manifest["monitor"]["batch_to_inputs"] == 0


@pytest.mark.parametrize("key", ["image", 3, "3"])
@pytest.mark.parametrize("argument", ["batch_to_inputs", "batch_to_labels"])
def test_a_key_that_the_batch_does_not_have_is_named(tmp_path: Path, argument: str, key: Any) -> None:
    assert_stops_before_the_first_step(
        tmp_path,
        Net(),
        warning_monitor(**{argument: key}),
        match=rf"^`{argument}={key!r}` is no entry of a list of 2",
    )


def test_inputs_without_a_tensor_are_shown(tmp_path: Path) -> None:
    assert_stops_before_the_first_step(
        tmp_path,
        Net(),
        warning_monitor(batch_to_inputs=lambda batch: "an input"),
        match="`batch_to_inputs` gives str, in which there is no tensor",
    )


def test_no_figures_are_drawn_where_they_are_false(tmp_path: Path) -> None:
    fit_to_csv(tmp_path, warning_monitor(figures=False))
    assert not list(tmp_path.rglob("*.png"))
