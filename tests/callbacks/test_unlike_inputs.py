"""Batches that are lists, mappings or objects: a run counts its samples, and calls the model, as it should be."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import CLASSES, FEATURES, Net, Stream, fast, monitor, points, record, robustness, trainer
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence, pad_sequence
from torch.utils.data import DataLoader

from fnet_callbacks import CaptureError

pytestmark = pytest.mark.filterwarnings(
    "ignore:Trying to infer the `batch_size`"
)  # Lightning, of odd batches


def watched(folder: Path, make: Callable[[], Any], data: Any, **options: Any) -> tuple[int, list[str], Any]:
    """Inputs that were counted, names of the layers, and the mean correlation at each step."""
    torch.manual_seed(0)
    trainer(folder, fast(4, **options)).fit(make(), data)
    own = record(folder)
    layers = [layer["name"] for layer in own.manifest["instruments"]["fnet"]["layers"]]
    return own.manifest["probe"]["n_samples"], layers, own.series("fnet/mean_abs_correlation")


def images(channels: int) -> list[tuple[Tensor, int]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.rand(channels, 8, 8, generator=generator), i % CLASSES) for i in range(36)]


class Detector(Net):
    """Takes a list of images, and targets while it trains, as torchvision's detectors do."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Sequential(
                *(
                    nn.Conv2d(channels, 16, 3),
                    nn.ReLU(),
                    nn.AdaptiveAvgPool2d(1),
                    nn.Flatten(),
                    nn.Linear(16, 3),
                )
            )
        )

    def forward(self, images: Any, targets: Any = None) -> Any:
        logits = self.net(torch.stack(list(images)))
        return (
            {"loss": nn.functional.cross_entropy(logits, torch.tensor(targets))}
            if self.training
            else [logits]
        )

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(*batch)["loss"]


class Stacked(Detector):
    """The same, of one tensor."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(batch[0], batch[1].tolist())["loss"]


def as_tuples(items: list[Any]) -> Any:
    return tuple(zip(*items, strict=True))


def as_lists(items: list[Any]) -> Any:
    return [list(part) for part in as_tuples(items)]


def in_fours(channels: int, **options: Any) -> Any:
    return DataLoader(images(channels), batch_size=4, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("collate", [as_tuples, as_lists])
def test_a_list_of_images_is_a_batch_of_as_many(tmp_path: Path, channels: int, collate: Any) -> None:
    found = watched(tmp_path / "list", lambda: Detector(channels), in_fours(channels, collate_fn=collate))
    assert found[:2] == (36, ["net.1"])
    stacked = watched(tmp_path / "stacked", lambda: Stacked(channels), in_fours(channels))
    assert found[2][0] == pytest.approx(stacked[2][0], abs=1e-6)  # the same inputs, before the first step


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_users_list_is_counted_too(tmp_path: Path, channels: int) -> None:
    options: dict[str, Any] = {"batch_to_inputs": lambda b: (b[0],), "batch_to_labels": lambda b: None}
    data = in_fours(channels, collate_fn=as_tuples)
    assert watched(tmp_path, lambda: Detector(channels), data, **options)[:2] == (36, ["net.1"])


class Clouds(Net):
    """Point clouds of unlike length."""

    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU()))
        self.head = nn.Linear(16, CLASSES)

    def forward(self, clouds: Any) -> Tensor:
        return self.head(self.net(pad_sequence(list(clouds), batch_first=True)).amax(1))


def clouds(n: int = 24) -> list[tuple[Tensor, int]]:
    return [(torch.rand(3 + i % 5, 3), i % CLASSES) for i in range(n)]


class OfItems(Clouds):
    def forward(self, items: list[Any]) -> Tensor:
        return super().forward([cloud for cloud, _ in items])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch), torch.tensor([label for _, label in batch]))


class OfLists(Clouds):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), torch.as_tensor(batch[1]))


class OfMappings(Clouds):
    def forward(self, batch: Any) -> Tensor:
        return super().forward(batch["points"])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch), torch.tensor(batch["kinds"]))


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize(
    ("model", "collate"),
    [
        (OfItems, lambda items: items),
        (OfLists, lambda items: ([cloud for cloud, _ in items], torch.tensor([label for _, label in items]))),
        (OfMappings, lambda items: {"points": [c for c, _ in items], "kinds": [label for _, label in items]}),
    ],
    ids=["items", "lists", "mapping of lists"],
)
def test_samples_of_unlike_length_are_counted_one_by_one(
    tmp_path: Path, model: Callable[[], Net], collate: Any, batch_size: int
) -> None:
    data = DataLoader(clouds(), batch_size=batch_size, collate_fn=collate)  # type: ignore[arg-type]
    assert watched(tmp_path, model, data)[:2] == (24, ["net.1", "net.3"])


# Mappings and objects.


def mappings(name: str = "x") -> DataLoader:
    inputs, labels = points().tensors
    return DataLoader([{name: x, "y": y} for x, y in zip(inputs, labels, strict=True)], batch_size=8)  # type: ignore[arg-type]


class Whole(Net):
    """``forward`` takes the batch."""

    def forward(self, batch: Any) -> Tensor:
        return self.net(batch["x"])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch), batch["y"])


class WholeUnderAnotherName(Whole):
    def forward(self, x: Any) -> Tensor:
        return self.net(x["x"])


class ByName(Whole):
    def forward(self, x: Any) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch["x"]), batch["y"])


class Delegates(Whole):
    def forward(self, *arguments: Any, **keywords: Any) -> Tensor:
        return Whole.forward(self, *arguments, **keywords)


@pytest.mark.parametrize("model", [Whole, WholeUnderAnotherName, ByName, Delegates])
def test_a_mapping_is_passed_as_forward_takes_it(tmp_path: Path, model: type[Net]) -> None:
    found = watched(tmp_path / "own", model, mappings())
    assert found[:2] == (64, ["net.1", "net.3"])
    usual = watched(tmp_path / "usual", Net, DataLoader(points(), batch_size=8))
    assert found[2][0] == usual[2][0]


@pytest.mark.parametrize(
    "given", [lambda batch: batch, lambda batch: {"x": batch["x"]}, lambda batch: (batch,)]
)
@pytest.mark.parametrize("model", [Whole, WholeUnderAnotherName])
def test_no_entry_is_picked_out_of_what_batch_to_inputs_gives(
    tmp_path: Path, model: type[Net], given: Any
) -> None:
    assert watched(tmp_path, model, mappings(), batch_to_inputs=given)[:2] == (64, ["net.1", "net.3"])


def test_a_tuple_goes_to_a_forward_that_takes_the_batch(tmp_path: Path) -> None:
    class Pair(Net):
        def forward(self, batch: Any) -> Tensor:
            return self.net(batch[0])

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return nn.functional.cross_entropy(self(batch), batch[1])

    assert watched(tmp_path, Pair, DataLoader(points(), batch_size=8))[:2] == (64, ["net.1", "net.3"])


def test_a_tensor_that_is_called_the_batch_is_attacked_too(tmp_path: Path) -> None:
    class Named(Net):
        def forward(self, batch: Tensor) -> Tensor:
            return self.net(batch)

    trainer(tmp_path, monitor(4, robustness(4))).fit(Named(), DataLoader(points(), batch_size=8))
    assert record(tmp_path).series("robust/clean_accuracy").size == 3


def test_the_error_shows_what_forward_was_called_with(tmp_path: Path) -> None:
    class Fails(Net):
        def forward(self, x: Any) -> Tensor:
            if not self.training:
                raise KeyError("not there")
            return self.net(x)

    said = r"KeyError\('not there'\).*called as Fails\.forward\(Tensor\[32, 8\] of float32\)"
    with pytest.raises(CaptureError, match=said):
        watched(tmp_path, Fails, DataLoader(points(), batch_size=8))


@dataclass(frozen=True)
class Frozen:
    x: Tensor
    y: Tensor

    def to(self, device: torch.device, **_: Any) -> "Frozen":
        return Frozen(self.x.to(device), self.y.to(device))


@dataclass(frozen=True)
class Stays:
    """Which Lightning does not move by itself."""

    x: Tensor
    y: Tensor


class OfFields(Net):
    def loss(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        return super().loss((batch.x, batch.y))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return (
            batch
            if isinstance(batch, Stays)
            else super().transfer_batch_to_device(batch, device, dataloader_idx)
        )


@pytest.mark.parametrize("kind", [Frozen, Stays])
@pytest.mark.parametrize("source", [points, Stream])
@pytest.mark.parametrize("is_told", [False, True])
def test_a_frozen_dataclass_is_a_batch(tmp_path: Path, kind: Any, source: Any, is_told: bool) -> None:
    def collate(items: list[Any]) -> Any:
        return kind(*map(torch.stack, zip(*items, strict=True)))

    options: dict[str, Any] = (
        {"batch_to_inputs": lambda b: b.x, "batch_to_labels": lambda b: b.y} if is_told else {}
    )
    data = DataLoader(source(), batch_size=8, collate_fn=collate)
    trainer(tmp_path, fast(4, **options)).fit(OfFields(), data)
    own = record(tmp_path)
    assert own.series("fnet/n_samples")[-1] == 64
    assert own.series("fnet/selectivity_entropy")[-1] > 0


# Packed sequences.


class Packs(Net):
    def __init__(self) -> None:
        super().__init__(nn.Linear(16, CLASSES))
        self.lstm = nn.LSTM(FEATURES, 16)

    def forward(self, sequences: Any) -> Tensor:
        return self.net(self.lstm(pack_sequence(list(sequences), enforce_sorted=False))[1][0][-1])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), torch.tensor(batch[1]))


def test_a_packed_recurrent_layer_is_watched_without_its_padding(tmp_path: Path) -> None:
    items = [(torch.rand(2 + i % 6, FEATURES), i % CLASSES) for i in range(24)]
    data = DataLoader(items, batch_size=8, collate_fn=as_lists)  # type: ignore[arg-type]
    model = Packs()
    trainer(tmp_path, fast(8, save_correlation=True)).fit(model, data)
    own = record(tmp_path)
    assert [layer["name"] for layer in own.manifest["instruments"]["fnet"]["layers"]] == ["lstm"]
    with torch.no_grad():
        rows = torch.stack([model.lstm(x)[0].mean(0) for x, _ in items])
    found = own.arrays(own.steps[-1])["fnet.correlation"]
    torch.testing.assert_close(
        torch.from_numpy(found).float(), torch.corrcoef(rows.T).float(), atol=1e-5, rtol=0
    )
