"""What is not measured, and why, is said once before the first step; an ordinary run is told nothing."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import CLASSES, FEATURES, Net, fast, mlp, monitor, points, record, trainer
from small_runs import network
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from fnet_callbacks import FnetWarning, FunctionalNetwork
from fnet_callbacks import functional as F
from fnet_callbacks.instruments.remarks import on_number
from fnet_callbacks.network import GraphSettings, Network
from fnet_callbacks.quantities.networks import MEASURES, measure, quantities_of


def said(folder: Path, model: Any, data: Any, **options: Any) -> list[str]:
    """What the user is warned of in a fit."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(folder, fast(4, **options)).fit(model, DataLoader(data, batch_size=8))
    return [str(w.message) for w in caught if issubclass(w.category, FnetWarning)]


def test_an_ordinary_run_is_told_nothing(tmp_path: Path) -> None:
    assert said(tmp_path / "plain", Net(), points()) == []
    assert said(tmp_path / "labelled", Net(), points(), batch_to_labels=lambda batch: batch[1]) == []
    assert said(tmp_path / "unlabelled", Net(), points(), batch_to_labels=lambda batch: None) == []


# Layers and neurons.


class Wide(nn.Module):
    """Graphs of unlike size: nodes one behind the other, a vector of whose they are."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.act, self.head = nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor, batch: Tensor) -> Tensor:
        return self.head(torch.zeros(int(batch[-1]) + 1, 16).index_add(0, batch, self.act(self.lift(x))))


class Graphs(Net):
    def __init__(self) -> None:
        super().__init__(Wide())

    def forward(self, x: Tensor, batch: Tensor) -> Tensor:
        return self.net(x, batch)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch["x"], batch["batch"]), batch["y"])


def joined(items: list[Any]) -> dict[str, Tensor]:
    nodes, labels = zip(*items, strict=True)
    owners = torch.repeat_interleave(torch.arange(len(nodes)), torch.tensor([len(own) for own in nodes]))
    return {"x": torch.cat(nodes), "batch": owners, "y": torch.stack(labels)}


def test_who_is_left_out_and_what_is_left_is_said_at_once(tmp_path: Path) -> None:
    graphs = [(torch.rand(2 + i % 4, FEATURES), torch.tensor(i % CLASSES)) for i in range(32)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(tmp_path, fast(4)).fit(Graphs(), DataLoader(graphs, batch_size=8, collate_fn=joined))  # type: ignore[arg-type]
    (message,) = [str(w.message) for w in caught if issubclass(w.category, FnetWarning)]
    assert "`layers='auto'` leaves out net.lift, net.act (of shape [" in message
    assert "no axis has the 8 samples of the batch" in message
    assert "watches only the output head, net.head" in message
    assert "3 neurons are watched, fewer than clustering needs" in message


def test_fewer_neurons_than_the_measures_need_are_said(tmp_path: Path) -> None:
    (message,) = said(tmp_path, Net(mlp(12)), points(), measures="standard", density=0.05)
    assert "12 neurons are watched, fewer than clustering, sigma_hqs, sigma, modularity_z need" in message
    assert "at `density=0.05` the spanning tree is 11 of 11 edges" in message
    own = record(tmp_path).snapshots[-1].scalars
    assert [
        np.isnan(own[f"fnet/{name}"]) for name in ("clustering", "sigma", "sigma_hqs", "modularity_z")
    ] == [True] * 4


@pytest.mark.parametrize("n", [2, 12, 40, 79, 80, 200])
def test_it_is_said_of_just_those_that_have_no_value(n: int) -> None:
    generator = np.random.default_rng(0)
    beyond_tree = [q.name for q in MEASURES if q.beyond_tree]
    settings = GraphSettings(nulls=2)
    scope = Network(np.corrcoef(generator.normal(size=(n, 300))), network(1.0, 0).activity, settings=settings)
    notes: dict[str, str] = {}
    measure(scope, beyond_tree)
    notes |= scope.notes
    too_few = [name for name, reason in notes.items() if reason.startswith("too few neurons")]
    message = on_number(n, quantities_of("standard"), settings)
    assert too_few == (beyond_tree if message else [])
    assert (message is None) == (n >= 80)


def test_of_measures_that_need_no_more_nothing_is_said() -> None:
    assert on_number(12, quantities_of(["modularity", "n_neurons"]), GraphSettings()) is None
    assert (
        on_number(
            12, quantities_of("clustering"), GraphSettings(F.GraphRule(method="threshold", threshold=0.5))
        )
        is None
    )
    assert "1 neuron is watched" in str(on_number(1, quantities_of("modularity"), GraphSettings()))


# Labels.


@pytest.mark.parametrize(
    ("to_labels", "reason"),
    [
        (
            lambda batch: batch[1].float(),
            r"Tensor\[16\] of float32, which is not used: labels are one integer",
        ),
        (
            lambda batch: (9 * batch[0]).long(),
            r"Tensor\[16, 8\] of int64, which is not used.*one a token is for",
        ),
        (lambda batch: batch[1] - 1, "not used: classes are integers from 0 to 9,999"),
        (lambda batch: batch[1] + 20_000, "not used: classes are integers from 0 to 9,999"),
        (lambda batch: "cats", "gives str, which is not used"),
    ],
    ids=["floats", "per token", "negative", "identifiers", "text"],
)
def test_labels_that_are_given_and_not_used_are_said(tmp_path: Path, to_labels: Any, reason: str) -> None:
    monitor = fast(4, batch_to_labels=to_labels, probe_size=16)
    with pytest.warns(FnetWarning, match=f"`batch_to_labels` gives .*{reason}|`batch_to_labels` {reason}"):
        trainer(tmp_path, monitor).fit(Net(), DataLoader(points(), batch_size=8))
    assert record(tmp_path).manifest["probe"]["num_classes"] is None


def test_the_targets_of_a_regression_are_said_where_they_are_given(tmp_path: Path) -> None:
    class Regression(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return (self(batch[0])[:, 0] - batch[1]).square().mean()

    inputs = torch.rand(400, FEATURES)
    data = TensorDataset(inputs, torch.arange(400) % 200)
    one = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, 1))
    (message,) = said(tmp_path / "given", Regression(one), data, batch_to_labels=lambda batch: batch[1])
    assert "gives 200 different integers for 400 inputs, and the model returns one number an input" in message
    assert said(tmp_path / "found", Regression(one), data) == []


def test_two_hundred_classes_of_a_classifier_are_classes(tmp_path: Path) -> None:
    data = TensorDataset(torch.rand(800, FEATURES), torch.arange(800) % 200)
    model = Net(nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, 200)))
    model.train_accuracy = MulticlassAccuracy(200)
    assert said(tmp_path, model, data, batch_to_labels=lambda batch: batch[1]) == []


def test_of_labels_that_several_instruments_read_it_is_said_once(tmp_path: Path) -> None:
    def floats(batch: Any) -> Tensor:
        return batch[1].float()

    instruments = [FunctionalNetwork(name=name, measures="fast") for name in ("a", "b")]
    watching = monitor(4, *instruments, batch_to_labels=floats)
    with pytest.warns(FnetWarning, match="`batch_to_labels` gives") as caught:
        trainer(tmp_path, watching).fit(Net(), DataLoader(points(), batch_size=8))
    assert len([w for w in caught if "batch_to_labels" in str(w.message)]) == 1


# Labels of tokens.


class Tagger(Net):
    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Embedding(20, 16), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]).flatten(0, 1), batch[1].flatten())


def sentences() -> TensorDataset:
    """Where the tag follows from the word, and every third word has none."""
    words = torch.randint(20, (32, 6), generator=torch.Generator().manual_seed(0))
    return TensorDataset(words, torch.where(words % 3 == 0, -100, words % 4))


@pytest.mark.parametrize("source", ["probe", "train"])
def test_labels_of_tokens_serve_where_tokens_are_the_samples(tmp_path: Path, source: Any) -> None:
    model, data = Tagger(), sentences()
    options: dict[str, Any] = {
        "samples": "tokens",
        "source": source,
        "probe_size": 32,
        "measures": ["selectivity_entropy"],
    }
    assert said(tmp_path, model, data, batch_to_labels=lambda batch: batch[1], **options) == []
    own = record(tmp_path)
    assert own.series("fnet/n_samples")[-1] == 192 if "fnet/n_samples" in own.snapshots[0].scalars else True
    found = own.series("fnet/selectivity_entropy")
    assert np.isfinite(found).all()
    if source == "train":
        return
    words, tags = (part.flatten() for part in data.tensors)
    with torch.no_grad():
        active = (model.net[:3](words) > 0)[tags >= 0].numpy()  # type: ignore[index]
    shares = F.class_active_share(active.astype(float), tags[tags >= 0].numpy(), 4)
    assert found[-1] == pytest.approx(F.selectivity_entropy(shares), abs=1e-12)


def test_labels_of_tokens_are_found_without_being_told(tmp_path: Path) -> None:
    assert said(tmp_path, Tagger(), sentences(), samples="tokens", measures=["selectivity_entropy"]) == []
    assert np.isfinite(record(tmp_path).series("fnet/selectivity_entropy")).all()


def test_labels_of_inputs_are_not_used_of_tokens_and_it_is_said(tmp_path: Path) -> None:
    options: dict[str, Any] = {"samples": "tokens", "batch_to_labels": lambda batch: batch[0][:, 0]}
    (message,) = said(tmp_path, Tagger(), sentences(), **options)
    assert "one integer an input, which is not used with `samples='tokens'`" in message
