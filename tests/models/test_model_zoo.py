"""A monitor in one line on models as users bring them: what it watches, and that its numbers are there."""

import math
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import zoo
from lightning import seed_everything
from small_models import record, trainer
from torch import nn
from torch.utils.data import DataLoader
from training_trace import Trace, assert_same
from zoo import Trained

from fnet_callbacks import CaptureError, FnetWarning, FunctionalNetwork, Monitor

# Lightning, of parts that are in eval mode and of short epochs.
pytestmark = pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training")

Case = tuple[Callable[[], Any], Callable[[], DataLoader], dict[str, int]]
CASES: dict[str, Case] = {
    "MLP": (lambda: Trained(zoo.mlp()), zoo.table, {"net.1": 16, "net.3": 12}),
    "LeNet": (lambda: Trained(zoo.lenet()), zoo.images, {"net.1": 6, "net.4": 16, "net.8": 20}),
    "ResNet-18": (
        lambda: Trained(zoo.resnet()),
        lambda: zoo.images(3),
        {"net.2": 4}
        | {
            f"net.{block}.relu#{call}": width
            for block, width in zip(range(3, 11), (4, 4, 8, 8, 16, 16, 32, 32), strict=True)
            for call in range(2)
        },
    ),
    "depthwise-separable": (
        lambda: Trained(zoo.separable()),
        lambda: zoo.images(3),
        {"net.2": 3, "net.4": 8, "net.8": 8, "net.10": 12},
    ),
    "U-Net": (
        lambda: Trained(zoo.UNet()),
        zoo.masks,
        {"net.down.1": 6, "net.middle.2": 12, "net.join.1": 6},
    ),
    "GRU": (lambda: Trained(zoo.Recurrent(nn.GRU)), zoo.sequences, {"net.rnn": 12}),
    "LSTM": (lambda: Trained(zoo.Recurrent(nn.LSTM)), zoo.sequences, {"net.rnn": 12}),
    "GPT-2": (
        lambda: Trained(zoo.gpt2(), zoo.own_loss),
        zoo.language,
        {"net.transformer.h.0.mlp.act": 64, "net.transformer.h.1.mlp.act": 64},
    ),
    "ViT": (
        lambda: Trained(zoo.vit(), zoo.own_loss),
        zoo.pictures,
        {f"net.vit.layers.{k}.mlp.activation_fn": 32 for k in range(2)},
    ),
    # Its activations are functions: all that has weights, the head aside.
    "nn.TransformerEncoder": (
        lambda: Trained(zoo.Encoder()),
        zoo.tokens,
        {"net.embedding": 8}
        | {
            f"net.encoder.layers.{k}.{part}": width
            for k in range(2)
            for part, width in (("self_attn", 8), ("norm1", 8), ("linear1", 16), ("linear2", 8), ("norm2", 8))
        },
    ),
    # What an expert shows of the tokens that it was sent is of no sample.
    "mixture of experts": (lambda: Trained(zoo.Experts()), zoo.tokens, {"net.mix.1": 12}),
    "autoencoder": (
        lambda: Trained(zoo.autoencoder(), zoo.reconstruction),
        zoo.unlabelled,
        {"net.1": 16, "net.3": 4, "net.5": 16},
    ),
    "GAN": (zoo.Gan, zoo.unlabelled, {"discriminator.1": 16, "discriminator.3": 8}),
    "functional activations": (
        lambda: Trained(zoo.FunctionalOnly()),
        zoo.table,
        {"net.first": 16, "net.second": 12},
    ),
    "multilabel": (lambda: Trained(zoo.mlp(), zoo.binary_loss), zoo.multilabel, {"net.1": 16, "net.3": 12}),
    "regression": (lambda: Trained(zoo.mlp(1), zoo.squared), zoo.regression, {"net.1": 16, "net.3": 12}),
    "graph network": (
        lambda: zoo.Graphs(zoo.GraphNet(), zoo.labelled_loss),
        zoo.graphs,
        {"net.act1": 12, "net.act2": 12},
    ),
    "half precision": (
        lambda: zoo.HalfPrecision(zoo.mlp().bfloat16()),
        zoo.table,
        {"net.1": 16, "net.3": 12},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_model_is_watched_in_one_line(tmp_path: Path, name: str) -> None:
    make, data, expected = CASES[name]
    seed_everything(0)
    monitor = Monitor(every_n_steps=2, worker="inline", figures=None, on_error="raise")
    model = make()
    loaders = [data()] if isinstance(model, zoo.Gan) else [data(), data()]
    left_out = (
        pytest.warns(FnetWarning, match="leaves out net.experts.0.1") if "mixture" in name else nullcontext()
    )
    with left_out:
        trainer(tmp_path, monitor, max_epochs=1).fit(model, *loaders)
    own = record(tmp_path)
    found = {layer["name"]: layer["n_units"] for layer in own.manifest["instruments"]["fnet"]["layers"]}
    assert found == expected
    assert own.steps == [0, 2, 4]
    for snapshot in own.snapshots:
        assert snapshot.scalars["fnet/n_neurons"] >= 2
        assert 0 <= snapshot.scalars["fnet/mean_abs_correlation"] <= 1
        assert math.isfinite(snapshot.scalars["fnet/modularity"])
        assert math.isfinite(snapshot.scalars["fnet/loops"])
    has_classes = name not in ("U-Net", "GPT-2", "autoencoder", "GAN", "multilabel", "regression")
    assert math.isfinite(own.snapshots[-1].scalars["fnet/selectivity_entropy"]) == has_classes


def traces(
    folder: Path,
    make: Callable[[], Any],
    data: Callable[[], DataLoader],
    *,
    source: Literal["probe", "train"] = "probe",
    **options: Any,
) -> list[list[dict[str, Any]]]:
    """Of a fit without the monitor, and of one with it."""
    found = []
    for is_watched in (False, True):
        seed_everything(0)
        trace = Trace()
        network = FunctionalNetwork(measures="fast", source=source)
        monitor = Monitor(network, every_n_steps=2, figures=None, worker="inline", **options)
        callbacks = [trace, monitor] if is_watched else [trace]
        model = make()
        loaders = [data()] if isinstance(model, (zoo.Gan, zoo.NoForward)) else [data(), data()]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FnetWarning)  # of live batches that the model splits
            trainer(folder / f"{is_watched}", *callbacks, max_epochs=2).fit(model, *loaders)
        found.append(trace.lines)
    assert len(found[0]) > 10
    assert record(folder).steps[0] == 0
    return found


@pytest.mark.parametrize("source", ["probe", "train"])
@pytest.mark.parametrize("name", CASES)
def test_its_training_is_bit_equal_with_and_without_the_monitor(
    tmp_path: Path, name: str, source: Literal["probe", "train"]
) -> None:
    make, data, _ = CASES[name]
    assert_same(*traces(tmp_path, make, data, source=source))


def compiled(whole: bool) -> Any:
    module = Trained(zoo.mlp())
    if whole:
        return torch.compile(module, backend="eager")
    module.net = torch.compile(module.net, backend="eager")
    return module


@pytest.mark.parametrize(
    "make, options",
    [
        (zoo.NoForward, {"model": "net"}),
        (lambda: compiled(False), {}),
        (lambda: compiled(True), {}),
        (lambda: Trained(Rounded()), {}),
    ],
    ids=["no forward", "a compiled part", "compiled whole", "quantised activations"],
)
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_so_is_that_of_models_that_are_called_otherwise(
    tmp_path: Path, make: Callable[[], Any], options: dict[str, Any]
) -> None:
    assert_same(*traces(tmp_path, make, zoo.table, **options))


def test_tokens_of_a_language_model_are_samples_that_are_drawn_once(tmp_path: Path) -> None:
    seed_everything(0)
    network = FunctionalNetwork(samples="tokens", max_samples=100)
    monitor = Monitor(network, every_n_steps=2, worker="inline", figures=None, on_error="raise")
    trainer(tmp_path, monitor, max_epochs=1).fit(
        Trained(zoo.gpt2(), zoo.own_loss), zoo.language(), zoo.language()
    )
    counts = {snapshot.scalars["fnet/n_samples"] for snapshot in record(tmp_path).snapshots}
    assert len(counts) == 1
    assert 48 <= counts.pop() <= 100


def watched(folder: Path, module: Any, *, layers: Any = "auto", model: str | None = None) -> list[str]:
    """Names of the layers that are watched in a fit."""
    seed_everything(0)
    network = FunctionalNetwork(layers=layers)
    monitor = Monitor(network, every_n_steps=2, worker="inline", figures=None, on_error="raise", model=model)
    loaders = [zoo.table()] if isinstance(module, zoo.NoForward) else [zoo.table(), zoo.table()]
    trainer(folder, monitor, max_epochs=1).fit(module, *loaders)
    own = record(folder)
    assert all(math.isfinite(s.scalars["fnet/modularity"]) for s in own.snapshots)
    return [layer["name"] for layer in own.manifest["instruments"]["fnet"]["layers"]]


def test_without_forward_the_submodule_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="such as `model='net'`; there are: net"):
        watched(tmp_path / "without", zoo.NoForward())
    assert watched(tmp_path / "with", zoo.NoForward(), model="net") == ["net.1", "net.3"]


@pytest.mark.parametrize("whole", [False, True])
def test_a_compiled_model_is_watched_as_it_was(tmp_path: Path, whole: bool) -> None:
    assert watched(tmp_path, compiled(whole)) == ["net.1", "net.3"]


class Joined(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, zoo.mlp()
        self.adapt = nn.Linear(3, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.adapt(self.body(x)))


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("make", [torch.jit.script, lambda net: torch.jit.trace(net, torch.randn(2, 10))])
def test_what_is_scripted_or_traced_is_refused_by_name_and_the_rest_is_watched(
    tmp_path: Path, make: Callable[[nn.Module], nn.Module]
) -> None:
    whole = Trained(zoo.mlp())
    whole.net = make(whole.net)
    with pytest.raises(
        CaptureError, match=r"leaves nothing to watch.*takes no hooks: net; pass the model as"
    ):
        watched(tmp_path / "whole", whole)
    with pytest.raises(CaptureError, match=r"hook on net.1 never fires.*takes no hooks: net;"):
        watched(tmp_path / "named", whole, layers=["net.1"])
    assert watched(tmp_path / "part", Trained(Joined(make(zoo.mlp())))) == ["net.head.1", "net.head.3"]


class Rounded(nn.Module):
    """Eight bits between a linear layer and the next."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.head = nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        if not self.training:
            x = torch.quantize_per_tensor(x, 0.02, 128, torch.quint8)
        x = self.act(x)
        return self.head(x.dequantize() if x.is_quantized else x)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")  # torch will take it away
def test_quantised_activations_are_read_as_what_they_stand_for(tmp_path: Path) -> None:
    assert watched(tmp_path, Trained(Rounded())) == ["net.act"]
