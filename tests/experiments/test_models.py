"""Experiment models: their shapes, what each regulariser does, and that they learn."""

from __future__ import annotations

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.cli import LightningCLI
from torch import nn

from experiments.data import DataModule
from experiments.models import Classifier
from experiments.regularizers import REGULARIZERS, Regularizer, regularizer
from fnet_callbacks.errors import FnetError

SHAPE = (1, 8, 8)


def classifier(**arguments) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Classifier(**{"hidden": [16, 8], "input_shape": SHAPE, **arguments})


def batch(count: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand((count, *SHAPE), generator=generator), torch.arange(count) % 10


def modules(model: Classifier) -> list[str]:
    return [type(module).__name__ for module in model.net]


def training_loss(model: Classifier) -> float:
    """The loss of one training step, with dropout off so that only the loss function differs."""
    model.eval()
    model.log = lambda *args, **kwargs: None  # there is no trainer to log to
    return model.training_step(batch(), 0).item()


@pytest.mark.parametrize("model", ["mlp", "cnn"])
@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("shape, classes", [((1, 8, 8), 10), ((3, 9, 7), 4)])
def test_logits_have_one_column_per_class(model, name, shape, classes):
    net = classifier(model=model, regularizer=name, input_shape=shape, num_classes=classes)
    assert net(torch.zeros(5, *shape)).shape == (5, classes)


def test_mlp_layers_stand_in_the_order_of_the_paper():
    assert modules(classifier()) == ["Flatten", "Linear", "LeakyReLU", "Linear", "LeakyReLU", "Linear"]
    assert modules(classifier(hidden=[16], regularizer="dropout")) == [
        "Flatten", "Linear", "Dropout", "LeakyReLU", "Linear",
    ]  # fmt: skip
    assert modules(classifier(hidden=[16], regularizer="batch_norm", activation="relu")) == [
        "Flatten", "Linear", "BatchNorm1d", "ReLU", "Linear",
    ]  # fmt: skip


def test_cnn_halves_the_image_after_each_convolution():
    net = classifier(model="cnn", regularizer="both")
    block = ["Conv2d", "BatchNorm2d", "Dropout", "LeakyReLU", "MaxPool2d"]
    assert modules(net) == [*block, *block, "Flatten", "Linear"]
    assert net.net[-1].in_features == 8 * 2 * 2


@pytest.mark.parametrize("model", ["mlp", "cnn"])
@pytest.mark.parametrize("name", REGULARIZERS)
def test_modules_are_there_only_for_their_regulariser(model, name):
    net = classifier(model=model, regularizer=name).net
    assert any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in net) == (
        name in ("batch_norm", "both")
    )
    assert [m.p for m in net if isinstance(m, nn.Dropout)] == [0.5] * (2 * (name in ("dropout", "both")))


@pytest.mark.parametrize("name", REGULARIZERS)
def test_weight_decay_is_in_the_optimiser_of_its_regulariser_only(name):
    (group,) = classifier(regularizer=name).configure_optimizers().param_groups
    assert (group["weight_decay"] > 0) == (name == "weight_decay")
    assert group["lr"] == 3e-4


def test_l1_adds_the_absolute_weights_to_the_training_loss():
    plain, penalised = classifier(), classifier(regularizer="l1")
    weights = sum(layer.weight.abs().sum().item() for layer in penalised.net if isinstance(layer, nn.Linear))
    assert training_loss(penalised) - training_loss(plain) == pytest.approx(1e-4 * weights, rel=1e-3)


def test_label_smoothing_mixes_the_uniform_distribution_into_the_training_loss():
    net = classifier(regularizer="label_smoothing")
    images, labels = batch()
    log_probabilities = net(images).log_softmax(dim=1)
    hard = -log_probabilities[torch.arange(len(labels)), labels].mean()
    expected = 0.9 * hard - 0.1 * log_probabilities.mean()
    assert training_loss(net) == pytest.approx(expected.item(), rel=1e-5)


def test_plain_regulariser_is_plain_cross_entropy():
    net = classifier()
    images, labels = batch()
    expected = nn.functional.cross_entropy(net(images), labels).item()
    assert training_loss(net) == pytest.approx(expected, rel=1e-6)


def test_regularisers_are_found_by_name():
    assert regularizer("none") == Regularizer()
    assert regularizer("both") == Regularizer(batch_norm=True, dropout=0.5)
    with pytest.raises(FnetError, match="none, batch_norm, dropout, both, weight_decay, l1, label_smoothing"):
        regularizer("swa")


def quick_trainer(**options) -> Trainer:
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


@pytest.mark.parametrize("arguments", [{"hidden": [64]}, {"model": "cnn", "hidden": [8, 16]}])
def test_a_short_fit_learns_digits(arguments):
    module, net = DataModule(), classifier(lr=3e-3, **arguments)
    trainer = quick_trainer(max_epochs=3)
    before = trainer.validate(net, module, verbose=False)[0]
    trainer.fit(net, module)
    after = trainer.callback_metrics
    assert set(after) >= {"train_loss", "train_accuracy", "val_loss", "val_accuracy"}
    assert after["val_loss"] < before["val_loss"] / 2
    assert after["val_accuracy"] > 0.85


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"model": "transformer"}, "model"),
        ({"activation": "gelu"}, "activation"),
        ({"regularizer": "swa"}, "regularizer"),
        ({"hidden": []}, "hidden"),
        ({"hidden": [8, 0]}, "hidden"),
        ({"input_shape": [64]}, "input_shape"),
        ({"model": "cnn", "hidden": [4, 4, 4, 4]}, "poolings"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(FnetError, match=message):
        classifier(**arguments)


@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
def test_arguments_are_plain_values_that_a_command_line_can_carry(tmp_path, monkeypatch):
    class LinkedCLI(LightningCLI):
        def add_arguments_to_parser(self, parser):
            for name in ("input_shape", "num_classes"):
                parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")

    arguments = ["--model.hidden=[32, 16]", "--model.regularizer=both", "--data.train_size=100"]
    monkeypatch.setattr("sys.argv", ["train.py", *arguments])
    cli = LinkedCLI(
        Classifier,
        DataModule,
        run=False,
        save_config_callback=None,
        seed_everything_default=False,
        trainer_defaults={"accelerator": "cpu", "logger": False, "default_root_dir": str(tmp_path)},
    )
    assert cli.model.net[1].weight.shape == (32, 64)
    assert cli.model.regularizer.batch_norm
    assert cli.datamodule.train_size == 100


def test_a_checkpoint_rebuilds_the_model(tmp_path):
    net, path = classifier(regularizer="both"), tmp_path / "net.ckpt"
    trainer = quick_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=1)
    trainer.fit(net, DataModule())
    trainer.save_checkpoint(path)
    loaded = Classifier.load_from_checkpoint(path, map_location="cpu").eval()
    images, _ = batch()
    assert torch.equal(loaded(images), net.eval()(images))
