"""Models as users bring them: small, with random weights, each with its data and its loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

N = 48
Loss = Callable[[Any, Any], Tensor]


def cross_entropy(output: Any, batch: Any) -> Tensor:
    """Of logits, with the batch's second part."""
    return functional.cross_entropy(output, batch[1])


class Trained(pl.LightningModule):
    """A network that is called with the first part of a batch, or with a mapping by its keys."""

    def __init__(self, net: nn.Module, loss: Loss = cross_entropy) -> None:
        super().__init__()
        self.net, self.loss = net, loss

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        return self.net(*arguments, **keywords)

    def called(self, batch: Any) -> Any:
        return self(**batch) if isinstance(batch, Mapping) else self(batch[0])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(self.called(batch), batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(self.called(batch), batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class Mappings(Dataset):
    """Items that are mappings of tensors."""

    def __init__(self, **parts: Tensor) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        return {name: part[place] for name, part in self.parts.items()}


def loader(*parts: Tensor, **named: Tensor) -> DataLoader:
    """Twelve samples a batch."""
    return DataLoader(Mappings(**named) if named else TensorDataset(*parts), batch_size=12)


def images(channels: int = 1, side: int = 16) -> DataLoader:
    """Noise, brighter where the class says."""
    labels = torch.arange(N) % 3
    values = torch.rand(N, channels, side, side) + labels[:, None, None, None] * torch.linspace(0, 1, side)
    return loader(values, labels)


def lenet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(64, 20), nn.Tanh(), nn.Linear(20, 3)),
    )


class Residual(nn.Module):
    """A block as torchvision's: one ReLU that is called twice, the second time on a sum."""

    def __init__(self, fan_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(fan_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.down = (
            nn.Sequential(nn.Conv2d(fan_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
            if stride > 1
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(inner + self.down(x))


def resnet() -> nn.Module:
    """ResNet-18's eight blocks, a sixteenth as wide."""
    blocks = [Residual(a, b, s) for a, b, s in ((4, 4, 1), (4, 4, 1), (4, 8, 2), (8, 8, 1))]
    blocks += [Residual(a, b, s) for a, b, s in ((8, 16, 2), (16, 16, 1), (16, 32, 2), (32, 32, 1))]
    stem = [nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3))


def separable() -> nn.Module:
    """Depthwise, then pointwise convolutions."""

    def block(fan_in: int, channels: int) -> list[nn.Module]:
        deep = nn.Conv2d(fan_in, fan_in, 3, padding=1, groups=fan_in)
        return [deep, nn.BatchNorm2d(fan_in), nn.ReLU6(), nn.Conv2d(fan_in, channels, 1), nn.ReLU6()]

    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 3)]
    return nn.Sequential(*block(3, 8), nn.MaxPool2d(2), *block(8, 12), *head)


class UNet(nn.Module):
    """Two levels and a skip; a class for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU())
        self.middle = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(6, 12, 3, padding=1), nn.ReLU())
        self.up = nn.ConvTranspose2d(12, 6, 2, stride=2)
        self.join = nn.Sequential(nn.Conv2d(12, 6, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        return self.head(self.join(torch.cat([skip, self.up(self.middle(skip))], dim=1)))


def masks() -> DataLoader:
    values = torch.rand(N, 1, 8, 8)
    return loader(values, (values[:, 0] > 0.5).long())


class Recurrent(nn.Module):
    """The last step of a GRU or LSTM, classified."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rnn, self.head = kind(5, 12, num_layers=2, batch_first=True), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def sequences() -> DataLoader:
    labels = torch.arange(N) % 3
    return loader(torch.randn(N, 7, 5) + labels[:, None, None], labels)


class Encoder(nn.Module):
    """`nn.TransformerEncoder`, whose layers have a fused path in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.embedding, self.encoder, self.head = (
            nn.Embedding(20, 8),
            nn.TransformerEncoder(layer, 2),
            nn.Linear(8, 3),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedding(tokens)).mean(1))


def tokens() -> DataLoader:
    labels = torch.arange(N) % 3
    return loader(torch.randint(0, 6, (N, 9)) + 6 * labels[:, None], labels)


def language() -> DataLoader:
    ids = torch.randint(0, 20, (N, 8))
    return loader(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids)


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=20, n_positions=8, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
        )
    )


def vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(
        ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=16,
            patch_size=8,
            num_channels=1,
            num_labels=3,
        )
    )


def pictures() -> DataLoader:
    values, labels = images().dataset.tensors  # type: ignore[attr-defined]
    return loader(pixel_values=values, labels=labels)


def own_loss(output: Any, batch: Any) -> Tensor:
    """As Hugging Face's models have it."""
    return output.loss


class Experts(nn.Module):
    """Each token goes to one expert; with these routing weights the last sees none."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.router = nn.Embedding(20, 8), nn.Linear(8, 3)
        nn.init.zeros_(self.router.weight)
        self.router.bias.data = torch.tensor([0.1, 0.0, -50.0])
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 10), nn.GELU(), nn.Linear(10, 8)) for _ in range(3)
        )
        self.mix, self.head = nn.Sequential(nn.Linear(8, 12), nn.ReLU()), nn.Linear(12, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        chosen = (self.router(x) + 0.2 * (tokens % 2)[..., None] * torch.tensor([-1.0, 1.0, 0.0])).argmax(-1)
        found = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            found = found.masked_scatter((chosen == i)[..., None], expert(x[chosen == i]))
        return self.head(self.mix(found.mean(1)))


def autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Linear(10, 16),
        nn.ReLU(),
        nn.Linear(16, 4),
        nn.ReLU(),
        nn.Linear(4, 16),
        nn.ReLU(),
        nn.Linear(16, 10),
    )


def reconstruction(output: Any, batch: Any) -> Tensor:
    return functional.mse_loss(output, batch[0])


def unlabelled() -> DataLoader:
    return loader(torch.randn(N, 10))


class Gan(pl.LightningModule):
    """Two optimisers, stepped by hand; what is watched is the discriminator."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 10))
        self.discriminator = nn.Sequential(
            nn.Linear(10, 16), nn.LeakyReLU(), nn.Linear(16, 8), nn.LeakyReLU(), nn.Linear(8, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.discriminator(x)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        of_generator, of_discriminator = self.optimizers()  # type: ignore[misc]
        real, made = batch[0], self.generator(torch.randn(len(batch[0]), 4))
        loss = functional.softplus(-self(real)).mean() + functional.softplus(self(made.detach())).mean()
        of_discriminator.zero_grad()
        self.manual_backward(loss)
        of_discriminator.step()
        fooled = functional.softplus(-self(made)).mean()
        of_generator.zero_grad()
        self.manual_backward(fooled)
        of_generator.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(part.parameters()) for part in (self.generator, self.discriminator)]


class FunctionalOnly(nn.Module):
    """Activations are calls of functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(10, 16), nn.Linear(16, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.relu(self.second(functional.relu(self.first(x)))))


class NoForward(pl.LightningModule):
    """The work is in ``net``, which the step calls."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def mlp(outputs: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, outputs))


def table() -> DataLoader:
    values = torch.randn(N, 10)
    return loader(values, values[:, :3].argmax(1))


def multilabel() -> DataLoader:
    values = torch.randn(N, 10)
    return loader(values, (values[:, :3] > 0).float())


def binary_loss(output: Any, batch: Any) -> Tensor:
    return functional.binary_cross_entropy_with_logits(output, batch[1])


def regression() -> DataLoader:
    values = torch.randn(N, 10)
    return loader(values, values[:, :1] * 2)


def squared(output: Any, batch: Any) -> Tensor:
    return functional.mse_loss(output, batch[1])


class GraphNet(nn.Module):
    """Two rounds of messages over a dense adjacency; graphs are mappings."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 12), nn.Linear(12, 12), nn.Linear(12, 3)
        self.act1, self.act2 = nn.ReLU(), nn.ReLU()

    def forward(self, features: Tensor, adjacency: Tensor) -> Tensor:
        x = self.act1(self.first(adjacency @ features))
        x = self.act2(self.second(adjacency @ x))
        return self.head(x.mean(1))


class Graphs(Trained):
    """Labels are in the mapping, and no argument of the network."""

    def called(self, batch: Any) -> Any:
        return self(batch["features"], batch["adjacency"])

    def forward(self, features: Tensor, adjacency: Tensor) -> Tensor:
        return self.net(features, adjacency)


def graphs() -> DataLoader:
    edges = (torch.rand(N, 6, 6) < 0.4).float()
    return loader(features=torch.randn(N, 6, 4), adjacency=edges, label=torch.arange(N) % 3)


def labelled_loss(output: Any, batch: Any) -> Tensor:
    return functional.cross_entropy(output, batch["label"])


class HalfPrecision(Trained):
    """Parameters in bfloat16, and inputs made so in the step."""

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.bfloat16()).float()
