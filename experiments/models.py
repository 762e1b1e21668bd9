"""The classifiers that the experiments watch: an MLP and a small CNN, each one flat ``nn.Sequential``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy

from experiments import regularizers
from experiments.regularizers import Regularizer
from fnet_callbacks.errors import FnetError

ACTIVATIONS = {"leaky_relu": nn.LeakyReLU, "relu": nn.ReLU}


class Classifier(LightningModule):
    """An image classifier trained by cross-entropy and Adam.

    The defaults are those of Zhang et al. (arXiv:2205.11702): an MLP with LeakyReLU, learning rate 3e-4.

    Args:
        model: ``mlp`` or ``cnn``.
        hidden: Width of each hidden layer; channels for the CNN, which halves the image after each.
        regularizer: A name out of ``experiments.regularizers``.
        activation: ``leaky_relu`` or ``relu``.
        lr: Learning rate of Adam.
        input_shape: Channels, height, width.
        num_classes: Classes.

    Raises:
        FnetError: An argument is out of range.
    """

    def __init__(
        self,
        model: Literal["mlp", "cnn"] = "mlp",
        hidden: Sequence[int] = (300, 300),
        regularizer: str = "none",
        activation: Literal["leaky_relu", "relu"] = "leaky_relu",
        lr: float = 3e-4,
        input_shape: Sequence[int] = (1, 28, 28),
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.regularizer = regularizers.regularizer(regularizer)
        self.lr = lr
        self.net = build(model, hidden, self.regularizer, activation, input_shape, num_classes)
        self.train_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.test_accuracy = MulticlassAccuracy(num_classes, average="micro")

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[S, num_classes]``."""
        return self.net(images)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy, smoothed and with the L1 penalty where the regulariser asks for them."""
        images, labels = batch
        logits = self(images)
        loss = functional.cross_entropy(logits, labels, label_smoothing=self.regularizer.label_smoothing)
        if self.regularizer.l1:
            loss = loss + self.regularizer.l1 * self.absolute_weights()
        self.train_accuracy(logits, labels)
        self.log("train_loss", loss, prog_bar=True)
        self.log("train_accuracy", self.train_accuracy, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Plain cross-entropy, so that regularisers can be compared; a second loader is that of the test images."""
        if dataloader_idx == 1:
            self._test(batch)
            return
        images, labels = batch
        logits = self(images)
        self.val_accuracy(logits, labels)
        self.log("val_loss", functional.cross_entropy(logits, labels), add_dataloader_idx=False)
        self.log("val_accuracy", self.val_accuracy, prog_bar=True, add_dataloader_idx=False)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """As in validation."""
        self._test(batch)

    def _test(self, batch: tuple[Tensor, Tensor]) -> None:
        images, labels = batch
        logits = self(images)
        self.test_accuracy(logits, labels)
        self.log("test_loss", functional.cross_entropy(logits, labels), add_dataloader_idx=False)
        self.log("test_accuracy", self.test_accuracy, add_dataloader_idx=False)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, with the regulariser's weight decay."""
        return torch.optim.Adam(self.parameters(), lr=self.lr, weight_decay=self.regularizer.weight_decay)

    def absolute_weights(self) -> Tensor:
        """Sum of the absolute weights; biases and normalisation parameters are left out."""
        return torch.stack([weight.abs().sum() for weight in self.parameters() if weight.ndim > 1]).sum()


def build(
    model: str,
    hidden: Sequence[int],
    regularizer: Regularizer,
    activation: str,
    input_shape: Sequence[int],
    num_classes: int,
) -> nn.Sequential:
    """The network: hidden blocks, then a linear head.

    Raises:
        FnetError: An unknown name, no hidden layer, or an image too small for the CNN.
    """
    if model not in ("mlp", "cnn"):
        raise FnetError(f"model must be 'mlp' or 'cnn', got {model!r}")
    if activation not in ACTIVATIONS:
        raise FnetError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    if not hidden or min(hidden) < 1:
        raise FnetError(f"hidden must be the positive widths of at least one layer, got {list(hidden)}")
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise FnetError(f"input_shape must be (channels, height, width), got {list(input_shape)}")
    layers = mlp if model == "mlp" else cnn
    return layers(hidden, regularizer, ACTIVATIONS[activation], input_shape, num_classes)


def mlp(
    hidden: Sequence[int],
    regularizer: Regularizer,
    activation: type[nn.Module],
    input_shape: Sequence[int],
    num_classes: int,
) -> nn.Sequential:
    """Linear, then BatchNorm and dropout where asked for, then the activation; repeated."""
    channels, height, width = input_shape
    fan_in = channels * height * width
    layers: list[nn.Module] = [nn.Flatten()]
    for size in hidden:
        layers.append(nn.Linear(fan_in, size))
        if regularizer.batch_norm:
            layers.append(nn.BatchNorm1d(size))
        if regularizer.dropout:
            layers.append(nn.Dropout(regularizer.dropout))
        layers.append(activation())
        fan_in = size
    return nn.Sequential(*layers, nn.Linear(fan_in, num_classes))


def cnn(
    hidden: Sequence[int],
    regularizer: Regularizer,
    activation: type[nn.Module],
    input_shape: Sequence[int],
    num_classes: int,
) -> nn.Sequential:
    """3x3 convolution, then as in the MLP, then 2x2 max pooling; repeated."""
    channels, height, width = input_shape
    if min(height, width) < 2 ** len(hidden):
        raise FnetError(f"hidden: {len(hidden)} poolings are too many for images of {height} x {width}")
    layers: list[nn.Module] = []
    for size in hidden:
        layers.append(nn.Conv2d(channels, size, kernel_size=3, padding=1))
        if regularizer.batch_norm:
            layers.append(nn.BatchNorm2d(size))
        if regularizer.dropout:
            layers.append(nn.Dropout(regularizer.dropout))
        layers += [activation(), nn.MaxPool2d(2)]
        channels, height, width = size, height // 2, width // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, num_classes))
