"""The networks that training is slowed down for: what each is, its data, and the batches that it is trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

from experiments.data import SOURCES, DataModule, DatasetName, where
from experiments.language import Transformer
from experiments.models import build
from experiments.regularizers import Regularizer

CONTEXT, VOCABULARY = 128, 65


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A network and how it is trained.

    Attributes:
        description: Its size, in words.
        network: Makes it; its weights follow from torch's seed.
        data: From the folder of data sets, or None, to the training data and what they are, in words.
        batch_size: Samples of a training batch.
        is_language: Whether it predicts the next token of its inputs, in place of a class.
        instrument: Arguments of ``FunctionalNetwork`` that the model needs.
        monitor: Arguments of the monitor that it needs.
    """

    description: str
    network: Callable[[], nn.Module]
    data: Callable[[str | None], tuple[Dataset, str]]
    batch_size: int
    is_language: bool = False
    instrument: Mapping[str, Any] = field(default_factory=dict)
    monitor: Mapping[str, Any] = field(default_factory=dict)


class Trained(L.LightningModule):
    """A network with its loss and Adam, and the one value that everybody logs."""

    def __init__(self, network: nn.Module, *, is_language: bool) -> None:
        super().__init__()
        self.network = network
        self.is_language = is_language

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits."""
        return self.network(inputs)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy."""
        logits = self(batch[0])
        if self.is_language:
            loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch[0][:, 1:].flatten())
        else:
            loss = functional.cross_entropy(logits, batch[1])
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def mlp() -> nn.Module:
    """64-256-256-10."""
    return build("mlp", (256, 256), Regularizer(), "relu", (1, 8, 8), 10)


def three_c_three_d() -> nn.Module:
    """Three convolutions and three dense layers, as DeepOBS has them for CIFAR-10.

    Reference: Schneider, Balles & Hennig (2019), DeepOBS, arXiv 1903.05499.
    """

    def block(fan_in: int, channels: int, kernel: int, padding: int) -> list[nn.Module]:
        pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        return [nn.Conv2d(fan_in, channels, kernel, padding=padding), nn.ReLU(), pool]

    return nn.Sequential(
        *block(3, 64, 5, 0),
        *block(64, 96, 3, 0),
        *block(96, 128, 3, 1),
        nn.Flatten(),
        *(nn.Linear(128 * 3 * 3, 512), nn.ReLU()),
        *(nn.Linear(512, 256), nn.ReLU()),
        nn.Linear(256, 10),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, fan_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(fan_in, channels, 3, stride, 1, bias=False)
        self.first_norm, self.first_relu = nn.BatchNorm2d(channels), nn.ReLU()
        self.second = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.second_norm, self.second_relu = nn.BatchNorm2d(channels), nn.ReLU()
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.extend(
                [nn.Conv2d(fan_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)]
            )

    def forward(self, signal: Tensor) -> Tensor:
        """As large as the input, over the stride."""
        inner = self.first_relu(self.first_norm(self.first(signal)))
        return self.second_relu(self.second_norm(self.second(inner)) + self.shortcut(signal))


def resnet18() -> nn.Module:
    """ResNet-18 with the small stem that is usual for images of 32 x 32."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    for fan_in, channels, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)):
        layers += [ResidualBlock(fan_in, channels, stride), ResidualBlock(channels, channels, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def transformer() -> nn.Module:
    """A decoder of the size that is usual for a text by characters."""
    return Transformer(VOCABULARY, CONTEXT, layers=6, width=384, heads=6)


def digits(data_dir: str | None) -> tuple[Dataset, str]:
    """Scikit-learn's digits, without those that are kept for validation."""
    return _training_images("digits", data_dir), "digits"


def cifar10(data_dir: str | None) -> tuple[Dataset, str]:
    """CIFAR-10's training images where there are any, else noise of that shape."""
    if where("cifar10", data_dir) is not None:
        return _training_images("cifar10", data_dir), "CIFAR-10"
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4096, *SOURCES["cifar10"].input_shape, generator=generator)
    labels = torch.randint(0, 10, (len(images),), generator=generator)
    return TensorDataset(images, labels), "noise of the shape of CIFAR-10"


def characters(data_dir: str | None) -> tuple[Dataset, str]:
    """Random tokens: which they are makes no difference to the time of a step."""
    tokens = torch.randint(0, VOCABULARY, (4096, CONTEXT), generator=torch.Generator().manual_seed(0))
    return TensorDataset(tokens), "random tokens"


def _training_images(name: DatasetName, data_dir: str | None) -> Dataset:
    data = DataModule(name, data_dir)
    data.setup("fit")
    assert data.train is not None
    return data.train


BENCHMARKS = {
    "mlp": Benchmark("MLP 64-256-256-10, batches of 64", mlp, digits, 64),
    "3c3d": Benchmark("3c3d CNN of DeepOBS (0.9 M weights), batches of 128", three_c_three_d, cifar10, 128),
    "resnet18": Benchmark("ResNet-18 for 32 x 32 (11.2 M weights), batches of 32", resnet18, cifar10, 32),
    # 64 sequences of 128 tokens are 8,192 samples: as many as the monitor takes by default.
    "gpt": Benchmark(
        f"transformer, 6 layers, width 384 (10.7 M weights), batches of 8 x {CONTEXT} tokens, probe of 64 x {CONTEXT}",
        transformer,
        characters,
        8,
        is_language=True,
        instrument={"samples": "tokens"},
        monitor={"probe_size": 64},
    ),
}
