"""Data without items by index: the first batches that pass become the probe, whatever they are made of."""

import warnings
from collections import UserDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from small_models import CLASSES, FEATURES, Net, fast, monitor, network, points, record, robustness, trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, default_collate

from fnet_callbacks import CaptureError, FnetWarning

# Lightning, of batches that are mappings, and of checkpoints that go elsewhere.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`"),
    pytest.mark.filterwarnings("ignore:.*The dirpath has changed.*"),
]


class Encoding(UserDict):
    """A mapping of a class of its own, as tokenizers return."""


class Examples(IterableDataset):
    def __init__(self, start: int = 0) -> None:
        self.start = start

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        data = points()
        return iter({"x": data[i][0], "labels": data[i][1]} for i in range(self.start, len(data)))


def collated(items: list[Any]) -> Encoding:
    return Encoding(default_collate(items))


class Encoded(Net):
    def loss(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        assert type(batch) is Encoding
        logits, labels = self(batch["x"]), batch["labels"]
        return nn.functional.cross_entropy(logits, labels), logits, labels


def encodings(start: int = 0) -> DataLoader:
    return DataLoader(Examples(start), batch_size=8, collate_fn=collated)


def inputs_of(batch: Any) -> Tensor:
    assert type(batch) is Encoding
    return batch["x"]


def test_a_checkpoint_that_holds_the_probe_opens_safely_and_the_probe_is_the_same(tmp_path: Path) -> None:
    options: dict[str, Any] = {"batch_to_inputs": inputs_of, "probe_size": 24}
    keeper = ModelCheckpoint(tmp_path / "kept", every_n_train_steps=4, save_top_k=-1)
    trainer(tmp_path / "cut", fast(2, **options), keeper, max_steps=6).fit(Encoded(), encodings())
    (checkpoint,) = (tmp_path / "kept").glob("*step=4*.ckpt")
    kept = torch.load(checkpoint, weights_only=True)["callbacks"]["fnet_callbacks"]["probe"]
    assert [type(batch) for batch in kept] == [dict] * 3
    assert torch.equal(torch.cat([batch["x"] for batch in kept]), points().tensors[0][:24])

    torch.manual_seed(0)
    again = ModelCheckpoint(tmp_path / "again", every_n_train_steps=4, save_top_k=-1)
    resumed = trainer(tmp_path / "resumed", fast(2, **options), again, max_steps=8)
    resumed.fit(Encoded(), encodings(start=32), ckpt_path=str(checkpoint))
    assert record(tmp_path / "resumed").series("fnet/n_samples").tolist() == [8, 16, 24, 24, 24]


class Opaque:
    """What neither a checkpoint nor a collate function knows."""

    def __init__(self, values: Tensor) -> None:
        self.values = values


def opaque_inputs(batch: Any) -> Tensor:
    return batch[0].values


def test_a_probe_that_no_checkpoint_can_hold_is_not_in_it(tmp_path: Path) -> None:
    class Net2(Net):
        def loss(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
            return super().loss((batch[0].values, batch[1]))

    def joined(items: list[Any]) -> tuple[Opaque, Tensor]:
        batch = default_collate(items)
        return Opaque(batch["x"]), batch["labels"]

    keeper = ModelCheckpoint(tmp_path / "kept", every_n_train_steps=4, save_top_k=-1)
    data = DataLoader(Examples(), batch_size=8, collate_fn=joined)
    trainer(tmp_path, fast(4, batch_to_inputs=opaque_inputs), keeper).fit(Net2(), data)
    (checkpoint,) = (tmp_path / "kept").glob("*step=4*.ckpt")
    assert torch.load(checkpoint, weights_only=True)["callbacks"]["fnet_callbacks"]["probe"] is None


class Uneven(IterableDataset):
    """Three batches with inputs, then one without: what a combined loader of streams gives at the end."""

    def __iter__(self) -> Iterator[dict[str, Tensor | None]]:
        inputs, labels = points().tensors
        for i in range(0, 64, 8):
            yield {
                "probed": inputs[i : i + 8] if i < 24 else None,
                "x": inputs[i : i + 8],
                "y": labels[i : i + 8],
            }


def probed(batch: Any) -> Tensor:
    return batch["probed"].clone()


@pytest.mark.parametrize("on_error", ["warn", "raise"])
def test_a_batch_that_cannot_be_read_is_left_out_of_the_probe(tmp_path: Path, on_error: str) -> None:
    class Parts(Net):
        def loss(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
            return super().loss((batch["x"], batch["y"]))

    made = trainer(
        tmp_path,
        monitor(
            *(4, network(measures="fast"), robustness(4)),
            batch_to_inputs=probed,
            batch_to_labels=labels_of,
            on_error=on_error,
        ),
    )
    data = DataLoader(Uneven(), batch_size=None)
    if on_error == "raise":
        with pytest.raises(AttributeError, match="clone"):
            made.fit(Parts(), data)
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made.fit(Parts(), data)
    told = [str(w.message) for w in caught if issubclass(w.category, FnetWarning)]
    assert [message.split("(")[0] for message in told] == [
        "fnet: a batch was not kept for the probe at step 3: AttributeError"
    ]
    assert record(tmp_path).series("fnet/n_samples").tolist() == [8, 24, 24]


def labels_of(batch: Any) -> Tensor:
    return batch["y"]


def test_a_loader_of_batches_as_items_shows_them_as_they_are(tmp_path: Path) -> None:
    inputs, labels = points().tensors
    batches = TensorDataset(inputs.reshape(8, 8, FEATURES), labels.reshape(8, 8))
    trainer(tmp_path, fast(4)).fit(Net(), DataLoader(batches, batch_size=None))
    own = record(tmp_path)
    assert own.manifest["probe"]["source"] == "passing batches"
    assert own.series("fnet/n_samples").tolist() == [8, 32, 64]
    with pytest.raises(CaptureError, match=r"`probe`: .*or a loader of one with a `batch_size`"):
        trainer(tmp_path, fast(4, probe=DataLoader(batches, batch_size=None))).fit(
            Net(), DataLoader(batches, batch_size=None)
        )


def test_joined_transcripts_are_no_labels(tmp_path: Path) -> None:
    class Speech(Net):
        def loss(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
            return super().loss((batch[0], batch[2]))

    def joined(items: list[Any]) -> tuple[Tensor, Tensor, Tensor]:
        x, y = (torch.stack(part) for part in zip(*items, strict=True))
        return x, torch.arange(3 * len(x) + 1) % CLASSES, y

    trainer(tmp_path, fast(4)).fit(Speech(), DataLoader(points(), batch_size=8, collate_fn=joined))
    own = record(tmp_path)
    assert own.manifest["probe"]["num_classes"] is None
    assert own.series("fnet/n_samples").tolist() == [64, 64, 64]


class InPlace(Net):
    """Its step changes the batch that it was given, inputs and labels."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            SHOWN.append(x.clone())
        return super().forward(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step([part.clone() for part in batch], batch_idx)
        batch[0].add_(10.0)
        batch[1].fill_(CLASSES - 1)
        return loss


SHOWN: list[Tensor] = []


def test_batches_are_kept_as_the_loader_gave_them(tmp_path: Path) -> None:
    SHOWN.clear()
    trainer(tmp_path, fast(4)).fit(InPlace(), DataLoader(Points(), batch_size=8))
    inputs, labels = points().tensors
    assert torch.equal(torch.cat(SHOWN[-8:]), inputs)
    own = record(tmp_path)
    assert own.manifest["probe"]["num_classes"] == len(labels[:8].unique())
    assert own.series("fnet/selectivity_entropy")[-1] > 0


class Points(IterableDataset):
    def __iter__(self) -> Iterator[Any]:
        data = points()
        return iter([data[i] for i in range(len(data))])


def test_labels_of_live_batches_are_those_before_the_step(tmp_path: Path) -> None:
    found = []
    for name, model in (("plain", Net), ("in place", InPlace)):
        torch.manual_seed(0)
        data = DataLoader(Points(), batch_size=8)
        trainer(tmp_path / name, fast(4, source="train", probe_size=32)).fit(model(), data)
        found.append(record(tmp_path / name).series("fnet/selectivity_entropy"))
    torch.testing.assert_close(*map(torch.from_numpy, found), equal_nan=True)


def test_a_batch_whose_step_failed_is_not_kept(tmp_path: Path) -> None:
    class Fails(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if batch_idx == 5:
                raise KeyError("step")
            return super().training_step(batch, batch_idx)

    watching = fast(4)
    with pytest.raises(KeyError, match="step"):
        trainer(tmp_path, watching).fit(Fails(), DataLoader(Points(), batch_size=8))
    assert len(watching.state_dict()["probe"]) == 5
