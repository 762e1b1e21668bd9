"""What the functional network watches, on which inputs, and with whom it shares them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.utilities import CombinedLoader
from small_models import (
    CLASSES,
    BareNet,
    Ledger,
    Net,
    Stream,
    counting,
    fast,
    fit,
    loader,
    mlp,
    monitor,
    network,
    points,
    record,
    robustness,
    values,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from fnet_callbacks import FunctionalNetwork
from fnet_callbacks.functional import correlation_matrix

CORRELATION = "fnet/mean_abs_correlation"


def quick(**options: Any) -> FunctionalNetwork:
    """One of the fast tier."""
    return network(**{"measures": "fast", **options})


def ours(ledger: Ledger) -> list[tuple[Any, dict[str, float]]]:
    """Everything but the costs."""
    return [
        (step, {k: v for k, v in m.items() if k.startswith(("fnet", "robust", "late"))})
        for step, m in ledger.rows
    ]


# The probe.


def test_instruments_share_a_pass(tmp_path: Path) -> None:
    instruments = [quick(name="a"), quick(name="b", layers=["net.1"]), robustness(8, attacks=["fgsm"])]
    fit(tmp_path, monitor(8, *instruments, probe_size=20), model=counting(sizes := []))
    # Each of three is given a first batch to look at, and half of it where it finds its layers itself; then come two
    # snapshots, at 0 and 8. Of each batch of the probe, of which there is one, there is one pass for all, and in the
    # attack one with a gradient and one on the attacked inputs.
    assert sizes == [20, 10, 20, 20] + [20] * 3 * 2


def test_the_order_of_instruments_does_not_matter(tmp_path: Path) -> None:
    found = []
    for order in (1, -1):
        instruments = [
            quick(every_n_steps=3),
            robustness(2),
            quick(name="late", layers=["net.1"], every_n_steps=4),
        ]
        pl.seed_everything(0, verbose=False)
        ledger = fit(tmp_path / str(order), monitor(100, *instruments[::order]))
        found.append((ours(ledger), record(tmp_path / str(order))))
    np.testing.assert_equal(found[0][0], found[1][0])
    first, second = (r for _, r in found)
    assert first.steps == second.steps == [0, 2, 3, 4, 6, 8]
    for a, b in zip(first.snapshots, second.snapshots, strict=True):
        np.testing.assert_equal(dict(a.scalars), dict(b.scalars))
        np.testing.assert_equal(first.arrays(a.step), second.arrays(b.step))


def test_the_correlation_is_that_of_the_probes_activations(tmp_path: Path) -> None:
    class Final(pl.Callback):
        def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
            self.weights = {k: v.clone() for k, v in pl_module.state_dict().items()}

    final, model = Final(), Net()
    validation = points(32, seed=1)
    fit(
        tmp_path, fast(8, save_correlation=True), final, model=model, val=DataLoader(validation, batch_size=5)
    )
    model.load_state_dict(final.weights)
    with torch.no_grad():
        first = model.net[:2](validation.tensors[0])
        both = torch.cat([first, model.net[2:4](first)], dim=1).numpy()
    expected = correlation_matrix(both)
    live = np.flatnonzero(~np.isnan(np.diag(expected)))
    arrays = record(tmp_path).arrays(8)
    assert arrays["fnet.neuron"].tolist() == live.tolist()
    np.testing.assert_allclose(arrays["fnet.correlation"], expected[np.ix_(live, live)], atol=1e-6)


def test_layers_are_measured_on_their_own_block(tmp_path: Path) -> None:
    together = fit(tmp_path, fast(8, layer_measures=["mean_abs_correlation", "modularity", "n_neurons"]))
    torch.manual_seed(0)
    alone = fit(tmp_path, fast(8, layers=["net.3"], layer_measures=[]))
    torch.manual_seed(0)
    again = fit(tmp_path, fast(8, layer_measures=["mean_abs_correlation", "modularity", "n_neurons"]))
    assert values(again, "fnet_layers/02/n_neurons") == values(alone, "fnet/n_neurons")
    for step, value in values(again, "fnet_layers/02/mean_abs_correlation").items():
        assert value == pytest.approx(values(alone, CORRELATION)[step], rel=1e-12)
    assert not [k for _, m in alone.rows for k in m if k.startswith("fnet_layers")]
    assert together.steps_of("fnet_layers/01/modularity") == [0, 8]


@pytest.mark.parametrize("given", ["dataset", "loader", "path"])
def test_the_probe_may_be_given(tmp_path: Path, given: str) -> None:
    probe = {
        "dataset": points(40),
        "loader": loader(40, batch_size=16),
        "path": "test_functional_monitor.forty",
    }[given]
    ledger = fit(tmp_path, fast(8, probe=probe), val=loader(16))
    assert set(values(ledger, "fnet/n_samples").values()) == {40}


def forty() -> Dataset:
    return points(40)


def test_the_probe_is_of_the_training_data_where_there_is_no_other(tmp_path: Path) -> None:
    assert set(values(fit(tmp_path, fast(8)), "fnet/n_samples").values()) == {64}


@pytest.mark.parametrize("kind", ["list", "dict", "combined"])
def test_several_validation_loaders_give_the_first_one(tmp_path: Path, kind: str) -> None:
    loaders: Any = {"a": loader(24, seed=1), "b": loader(16, seed=2)}
    val = {
        "list": list(loaders.values()),
        "dict": loaders,
        "combined": CombinedLoader(loaders, "sequential"),
    }[kind]

    class Several(Net):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log("val_loss", self.loss(batch)[0])

    ledger = fit(tmp_path, fast(8), model=Several(), val=val)
    assert set(values(ledger, "fnet/n_samples").values()) == {24}


def test_a_run_of_another_seed_sees_the_same_probe(tmp_path: Path) -> None:
    indices = []
    for seed in (1, 2):
        pl.seed_everything(seed, verbose=False)
        fit(tmp_path / str(seed), fast(8, probe_size=20))
        indices.append(record(tmp_path / str(seed)).manifest["probe"]["indices"])
    assert indices[0] == indices[1]
    assert len(set(indices[0])) == 20


# Data that cannot be drawn from.


def test_of_an_iterable_dataset_the_passing_batches_are_kept(tmp_path: Path) -> None:
    stream = Stream()
    ledger = fit(tmp_path, fast(2, probe_size=20), model=Net(), data=DataLoader(stream, batch_size=8))
    assert stream.iterations == 1
    # Before the first step there is the first batch; from then on batches are added until there are 20 inputs.
    assert values(ledger, "fnet/n_samples") == {0: 8, 2: 16, 4: 24, 6: 24, 8: 24}


def test_a_class_that_passes_later_is_counted(tmp_path: Path) -> None:
    inputs, labels = points().tensors
    order = labels.argsort()

    class Sorted(Stream):
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            return iter([(inputs[i], labels[i]) for i in order])

    for source in ("probe", "train"):
        ledger = fit(tmp_path, fast(4, source=source, probe_size=64), data=DataLoader(Sorted(), batch_size=8))
        entropies = list(values(ledger, "fnet/selectivity_entropy").values())
        assert np.isfinite(entropies[1:]).all()


def test_validation_data_is_drawn_from_where_training_streams(tmp_path: Path) -> None:
    ledger = fit(tmp_path, fast(8), data=DataLoader(Stream(), batch_size=8), val=loader(16))
    assert set(values(ledger, "fnet/n_samples").values()) == {16}


# Layers, units, samples.


def test_two_instruments_watch_different_layers(tmp_path: Path) -> None:
    instruments = [
        quick(name="first", layers=["net.1"]),
        quick(name="second", layers=["net.3"], signal="pre"),
    ]
    ledger = fit(tmp_path, monitor(8, *instruments))
    layers = {k.rpartition("/")[0] for _, m in ledger.rows for k in m if "_layers/" in k}
    assert layers == {"first_layers/01", "second_layers/01"}
    settings = record(tmp_path).manifest["instruments"]
    found = [layer for name in ("first", "second") for layer in settings[name]["layers"]]
    assert [(layer["place"], layer["name"], layer["n_units"]) for layer in found] == [
        ("01", "net.1", 16),
        ("01", "net.3", 12),
    ]


@pytest.mark.parametrize(
    "layers, expected",
    [
        ("auto", ["net.1", "net.3"]),
        ("net.*", [f"net.{i}" for i in range(5)]),
        (["net.[02]"], ["net.0", "net.2"]),
    ],
)
def test_layers_are_chosen_by_patterns(tmp_path: Path, layers: Any, expected: list[str]) -> None:
    fit(tmp_path, fast(8, layers=layers))
    assert [layer["name"] for layer in record(tmp_path).manifest["instruments"]["fnet"]["layers"]] == expected


def test_max_neurons_caps_the_network_by_a_draw_that_stays(tmp_path: Path) -> None:
    neurons = []
    for seed in (1, 2):
        pl.seed_everything(seed, verbose=False)
        ledger = fit(
            tmp_path / str(seed), fast(4, max_neurons=14), model=Net(mlp(32, 24, activation=nn.Tanh))
        )
        assert set(values(ledger, "fnet/n_neurons").values()) == {14}
        layers = record(tmp_path / str(seed)).manifest["instruments"]["fnet"]["layers"]
        neurons.append([layer["neurons"] for layer in layers])
    assert neurons[0] == neurons[1]
    assert [len(n) for n in neurons[0]] == [8, 6]


class Transformer(pl.LightningModule):
    """Tokens, padded, in a mapping, as a tokenizer gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.hidden = nn.Linear(8, 12)
        self.activation = nn.GELU()
        self.head = nn.Linear(12, CLASSES)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.activation(self.hidden(self.embedding(input_ids)))
        weight = attention_mask.float()
        return self.head((hidden * weight[..., None]).sum(1) / weight.sum(1, keepdim=True))

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch["input_ids"], batch["attention_mask"]), batch["labels"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-2)


class Sentences(Dataset):
    def __init__(self, n: int = 32, length: int = 6) -> None:
        generator = torch.Generator().manual_seed(0)
        self.ids = torch.randint(20, (n, length), generator=generator)
        self.lengths = torch.randint(2, length + 1, (n,), generator=generator)
        self.labels = torch.randint(CLASSES, (n,), generator=generator)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        mask = (torch.arange(self.ids.shape[1]) < self.lengths[i]).long()
        return {"input_ids": self.ids[i], "attention_mask": mask, "labels": self.labels[i]}


def test_a_mapping_of_padded_tokens_is_averaged_over_its_tokens(tmp_path: Path) -> None:
    data = Sentences()
    model = Transformer()
    ledger = fit(tmp_path, fast(4, save_correlation=True), model=model, data=DataLoader(data, batch_size=8))
    assert set(values(ledger, "fnet/n_samples").values()) == {32}
    assert np.isfinite(list(values(ledger, "fnet/selectivity_entropy").values())).all()
    items = [data[i] for i in range(len(data))]
    rows = []
    with torch.no_grad():
        for item in items:
            kept = item["input_ids"][item["attention_mask"].bool()]
            rows.append(model.activation(model.hidden(model.embedding(kept))).mean(0))
    expected = correlation_matrix(torch.stack(rows).numpy())
    np.testing.assert_allclose(record(tmp_path).arrays(4)["fnet.correlation"], expected, atol=1e-6)


@pytest.mark.parametrize("source", ["probe", "train"])
def test_tokens_are_samples_up_to_max_samples_without_the_padding(tmp_path: Path, source: Any) -> None:
    data = Sentences()
    per_input = 3
    watching = fast(4, samples="tokens", max_samples=32 * per_input, probe_size=32, source=source)
    ledger = fit(tmp_path, watching, model=Transformer(), data=DataLoader(data, batch_size=8))
    expected = int(data.lengths.clamp(max=per_input).sum())
    assert values(ledger, "fnet/n_samples")[4] == expected
    assert np.isnan(record(tmp_path).series("fnet/selectivity_entropy")).all()  # labels are of inputs


def test_the_submodule_is_called_where_there_is_no_forward(tmp_path: Path) -> None:
    ledger = fit(tmp_path, monitor(8, quick(), robustness(8), model="net"), model=BareNet())
    assert ledger.steps_of("fnet/modularity") == [0, 8]
    assert ledger.steps_of("robust/pgd_0.1_accuracy") == [0, 8]


def unusual_inputs(batch: Any) -> Tensor:
    return batch["here"]["x"]


def unusual_labels(batch: Any) -> Tensor:
    return batch["there"]


@pytest.mark.parametrize("as_path", [False, True])
def test_inputs_and_labels_are_found_by_the_users_functions(tmp_path: Path, as_path: bool) -> None:
    class Unusual(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return super().training_step((unusual_inputs(batch), unusual_labels(batch)), batch_idx)

    inputs, labels = points().tensors
    items = [{"here": {"x": x}, "there": y} for x, y in zip(inputs, labels, strict=True)]
    options: dict[str, Any] = {"batch_to_inputs": unusual_inputs, "batch_to_labels": unusual_labels}
    if as_path:
        options = {k: f"test_functional_monitor.{f.__name__}" for k, f in options.items()}
    both = monitor(8, quick(), robustness(8), **options)
    ledger = fit(tmp_path, both, model=Unusual(), data=DataLoader(items, batch_size=8))  # type: ignore[arg-type]
    assert np.isfinite(values(ledger, "fnet/selectivity_entropy")[8])
    assert np.isfinite(values(ledger, "robust/clean_accuracy")[8])


def test_reduced_precision_is_followed(tmp_path: Path) -> None:
    dtypes: set[torch.dtype] = set()

    class Typed(Net):
        def forward(self, x: Tensor) -> Tensor:
            logits = self.net(x)
            dtypes.add(logits.dtype)
            return logits

    ledger = fit(tmp_path, monitor(8, quick(), robustness(8)), model=Typed(), precision="bf16-mixed")
    assert dtypes == {torch.bfloat16}
    assert np.isfinite(list(values(ledger, CORRELATION).values())).all()


def test_a_compiled_network_is_watched(tmp_path: Path) -> None:
    model = Net()
    model.net = torch.compile(model.net, backend="eager")  # type: ignore[assignment]
    fit(tmp_path, fast(8), model=model)
    assert [x["name"] for x in record(tmp_path).manifest["instruments"]["fnet"]["layers"]] == [
        "net.1",
        "net.3",
    ]
