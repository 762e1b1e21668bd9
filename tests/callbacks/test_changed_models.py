"""Models that change while they are watched, or that nobody would build: the run goes on, the values say what was."""

import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import BackboneFinetuning
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from small_models import (
    CLASSES,
    FEATURES,
    At,
    Net,
    csv_record,
    fast,
    fit_to_csv,
    loader,
    monitor,
    network,
    record,
    robustness,
    trainer,
)
from torch import Tensor, nn
from torch.nn.utils import prune

from fnet_callbacks import FnetError, FnetWarning, Instrument, Lesions
from fnet_callbacks.quantities.networks import names_of


def fit(folder: Path, change: Any, *instruments: Instrument, **options: Any) -> list[str]:
    """Changes the model after step 3; returns what was warned of."""
    torch.manual_seed(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watched = monitor(2, *instruments, network(measures="fast"), on_error="warn")
        fit_to_csv(folder, At(3, change), watched, **options)
    return [str(w.message) for w in caught if issubclass(w.category, FnetWarning)]


# Layers that come and go.


def test_a_layer_that_was_replaced_by_one_of_its_size_is_watched_on(tmp_path: Path) -> None:
    def replaced(model: Any) -> None:
        model.net[1] = nn.Tanh()

    assert fit(tmp_path, replaced) == []
    found = csv_record(tmp_path)
    assert found.steps == [0, 2, 4, 6, 8]
    entropy = found.series("fnet_layers/01/activation_entropy")
    dead = found.series("fnet_layers/01/dead_fraction")
    assert np.isfinite(entropy).all()
    assert (dead[2:] == 0).all()  # a tanh is never dead; the rectifiers were sometimes


def test_a_layer_that_became_smaller_is_said_and_costs_the_snapshots(tmp_path: Path) -> None:
    def cut(model: Any) -> None:
        model.net[0], model.net[2] = nn.Linear(FEATURES, 6), nn.Linear(6, 12)

    messages = fit(tmp_path, cut)
    assert len(messages) == 1
    assert "fnet: no snapshot at step 4" in messages[0]
    assert "net.1" in messages[0]
    assert csv_record(tmp_path).steps == [0, 2]


@pytest.mark.parametrize("change", ["smaller", "gone"])
def test_who_shares_the_pass_goes_on_without_the_layer(tmp_path: Path, change: str) -> None:
    def changed(model: Any) -> None:
        if change == "smaller":
            model.net[0], model.net[2] = nn.Linear(FEATURES, 6), nn.Linear(6, 12)
        else:
            model.net = nn.Sequential(nn.Linear(FEATURES, CLASSES))

    messages = fit(tmp_path, changed, robustness(2))
    assert len(messages) == 1
    assert "fnet: no snapshot at step 4" in messages[0]
    found = csv_record(tmp_path)
    assert found.steps == [0, 2, 4, 6, 8]
    assert np.isfinite(found.series("robust/pgd_0.1_accuracy")).all()
    assert ["fnet/modularity" in s.scalars for s in found.snapshots] == [True, True, False, False, False]


def test_a_layer_that_is_gone_is_named(tmp_path: Path) -> None:
    def gone(model: Any) -> None:
        model.net = nn.Sequential(nn.Linear(FEATURES, CLASSES))

    (message,) = fit(tmp_path, gone)
    assert "net.1 was watched from the start and is not in the model any more" in message
    assert csv_record(tmp_path).steps == [0, 2]


def test_layers_that_are_frozen_and_thawed_are_watched_throughout(tmp_path: Path) -> None:
    class Backbone(Net):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.net = self.net[:-1], self.net[-1]  # type: ignore[index]

        def forward(self, x: Tensor) -> Any:
            return self.net(self.backbone(x))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.5)

    torch.manual_seed(0)
    thaw = BackboneFinetuning(unfreeze_backbone_at_epoch=1, lambda_func=lambda epoch: 1.5)
    trainer(tmp_path, thaw, fast(4), max_epochs=2).fit(Backbone(), loader())
    found = record(tmp_path)
    assert found.steps == [0, 4, 8, 12, 16]
    entropy = found.series("fnet/histogram_entropy")
    assert entropy[0] == entropy[1] == entropy[2]  # nothing before the head has moved
    assert len(set(entropy[2:])) == 3


def test_pruned_neurons_are_dead(tmp_path: Path) -> None:
    def pruned(model: Any) -> None:
        prune.ln_structured(model.net[0], "weight", amount=8, n=2, dim=0)
        prune.custom_from_mask(model.net[0], "bias", model.net[0].weight_mask.any(1).float())

    assert fit(tmp_path, pruned) == []
    found = csv_record(tmp_path)
    assert found.steps == [0, 2, 4, 6, 8]
    dead = found.series("fnet_layers/01/dead_fraction")
    assert (dead[2:] >= 0.5).all()
    assert (dead[:2] < 0.5).all()


# Numbers that are none.


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["a weight", "all weights"])
def test_weights_that_are_no_numbers_leave_values_or_their_reason(
    tmp_path: Path, value: float, where: str
) -> None:
    def spoilt(model: Any) -> None:
        for parameter in list(model.net.parameters())[: 1 if where == "a weight" else None]:
            parameter.data.view(-1)[0 if where == "a weight" else slice(None)] = value

    messages = fit(tmp_path, spoilt)
    assert messages == []
    found = csv_record(tmp_path)
    assert found.steps == [0, 2, 4, 6, 8]
    last = found.snapshots[-1]
    for name in names_of("fast"):
        key = f"fnet/{name}"
        assert np.isfinite(last.scalars[key]) or last.notes[key], key
    assert last.scalars["fnet/n_neurons"] <= (1 if where == "a weight" else 0)


def test_one_activation_that_is_infinite_costs_its_neuron(tmp_path: Path) -> None:
    class Overflows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x[:, :1] / (x[:, :1] > x[:, :1].median()).float(), x[:, 1:]], dim=1)

    net = nn.Sequential(nn.Linear(FEATURES, 16), nn.Sigmoid(), Overflows(), nn.ReLU(), nn.Linear(16, CLASSES))
    with warnings.catch_warnings():
        warnings.simplefilter("error", FnetWarning)
        fit_to_csv(tmp_path, fast(4, layers="net.3"), model=Net(net))
    assert csv_record(tmp_path).series("fnet/n_neurons")[0] == 15


# Layers without number, and names without shame.


class Deep(nn.Module):
    """Ten thousand activations."""

    def __init__(self, n_layers: int = 10_000) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(FEATURES, 8), nn.Linear(8, CLASSES)
        self.layers = nn.ModuleList(nn.Tanh() for _ in range(n_layers))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for layer in self.layers:
            x = layer(1.01 * x)
        return self.head(x)


@pytest.mark.slow
def test_of_ten_thousand_layers_some_are_watched_and_it_is_said(tmp_path: Path) -> None:
    watched = fast(8, on_error="warn", figures="log", worker="process")
    fitted = trainer(tmp_path, watched, logger=CSVLogger(tmp_path, name="csv"), max_steps=2)
    with pytest.warns(FnetWarning) as caught:
        fitted.fit(Net(Deep()), loader())
    ours = [str(w.message) for w in caught if issubclass(w.category, FnetWarning)]
    assert set(ours) == {
        "fnet: `layers='auto'` finds 10000 layers and takes 256 of them, evenly spaced; name others"
    }
    found = csv_record(tmp_path)
    assert found.steps == [0, 2]
    layers = found.manifest["instruments"]["fnet"]["layers"]
    places = {k.split("/")[1] for k in found.snapshots[0].scalars if k.startswith("fnet_layers/")}
    assert sorted(places) == [layer["place"] for layer in layers]
    assert (len(layers), layers[0]["place"]) == (256, "001")
    numbers = [int(layer["name"].removeprefix("net.layers.")) for layer in layers]
    assert {b - a for a, b in itertools.pairwise(numbers)} == {39, 40}
    assert found.series("fnet/n_neurons")[0] <= 1024
    figures = found.folder / "figures"
    assert {p.suffix for p in figures.iterdir()} == {".png"}
    assert max(p.stat().st_size for p in figures.iterdir()) < 10**6


ODD = [
    "a.b",
    "..",
    "../../up",
    "a/b",
    "a_b",
    "ünïcode λ",
    "<script>alert(1)</script>",
    "x\ny",
    " ",
    "%s{0}",
    "--flag",
    "n" * 300,
]


class Odd(nn.Module):
    """Modules by names that `add_module` would refuse and `setattr` does not."""

    def __init__(self) -> None:
        super().__init__()
        width = FEATURES
        for i, name in enumerate(ODD):
            setattr(self, f"linear {i}", nn.Linear(width, 10))
            setattr(self, name, nn.Sigmoid())
            width = 10
        self.head = nn.Linear(10, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for i, name in enumerate(ODD):
            x = getattr(self, name)(getattr(self, f"linear {i}")(x))
        return self.head(x)


@pytest.mark.parametrize("kind", ["tensorboard", "csv", "wandb"])
def test_odd_names_stay_inside_their_keys_and_their_folder(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    inside = tmp_path / "deep" / "er"
    logger = {
        "tensorboard": lambda: TensorBoardLogger(inside, name="tb"),
        "csv": lambda: CSVLogger(inside, name="csv"),
        "wandb": lambda: WandbLogger(save_dir=inside, project="p", offline=True),
    }[kind]()
    inside.mkdir(parents=True)
    lesions = Lesions(every_n_steps=8, points=2)
    watched = monitor(4, network(measures="fast"), lesions, worker="process", figures="log")
    trainer(inside, watched, logger=logger).fit(Net(Odd()), loader())
    if kind == "wandb":
        import wandb

        wandb.finish()
    found = record(tmp_path)
    assert found.steps == [0, 4, 8]
    keys = {k for k in found.snapshots[0].scalars if k.startswith("fnet_layers/")}
    assert {k.count("/") for k in keys} == {2}
    assert not any(c in k for k in keys for c in "\n\r\t")
    assert len({k.split("/")[1] for k in keys}) == len(ODD)
    assert [e["name"] for e in found.manifest["instruments"]["fnet"]["layers"]] == [f"net.{n}" for n in ODD]
    assert [p.name for p in tmp_path.iterdir()] == ["deep"]
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["er"]


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".", "a b", "<b>", "λ", "checkpoints", "x" + "\n"])
def test_an_instruments_name_is_a_part_of_keys_and_of_files(name: str) -> None:
    with pytest.raises(FnetError, match="`name="):
        network(name=name)
