"""Models, data and a trainer small enough that a fit takes a fraction of a second."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger, Logger
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from fnet_callbacks import FunctionalNetwork, Instrument, Monitor, Record, Robustness, read_record

CLASSES = 3
FEATURES = 8


def points(n: int = 64, *, shape: Sequence[int] = (FEATURES,), seed: int = 0) -> TensorDataset:
    """Inputs in [0, 1], and labels that can be learnt: which third of the first values is the largest."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.rand(n, *shape, generator=generator)
    thirds = inputs.flatten(1)[:, :6].reshape(n, CLASSES, 2).sum(2)
    return TensorDataset(inputs, thirds.argmax(1))


def loader(
    n: int = 64, *, batch_size: int = 8, shape: Sequence[int] = (FEATURES,), seed: int = 0
) -> DataLoader:
    """A loader in a fixed order."""
    return DataLoader(points(n, shape=shape, seed=seed), batch_size=batch_size)


class Stream(IterableDataset):
    """Points that come one after another; counts how often it was iterated."""

    def __init__(self, n: int = 64, *, start: int = 0) -> None:
        self.points = points(n)
        self.start = start
        self.iterations = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.iterations += 1
        return iter([self.points[i] for i in range(self.start, len(self.points))])


def mlp(*hidden: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear and activation for each hidden width, and a head."""
    widths = [FEATURES, *hidden]
    layers = [part for a, b in zip(widths, hidden, strict=False) for part in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers, nn.Linear(widths[-1], CLASSES))


class Net(pl.LightningModule):
    """A classifier around ``net``; logs a loss, a step value and torchmetrics objects, as users do."""

    def __init__(self, net: nn.Module | None = None, *, lr: float = 1e-2) -> None:
        super().__init__()
        self.net = mlp(16, 12) if net is None else net
        self.lr = lr
        self.train_accuracy = MulticlassAccuracy(CLASSES, average="micro")
        self.val_accuracy = MulticlassAccuracy(CLASSES, average="micro")

    def forward(self, x: Tensor) -> Any:
        return self.net(x)

    def loss(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        logits, labels = self(batch[0]), batch[1]
        return nn.functional.cross_entropy(logits, labels), logits, labels

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss, logits, labels = self.loss(batch)
        self.train_accuracy(logits, labels)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.log("train_accuracy", self.train_accuracy, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        loss, logits, labels = self.loss(batch)
        self.val_accuracy(logits, labels)
        self.log("val_loss", loss)
        self.log("val_accuracy", self.val_accuracy)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


class BareNet(pl.LightningModule):
    """No ``forward``: the work is in the submodule ``net``."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(16, 12)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-2)


class DictNet(Net):
    """``forward`` returns a dict, as Hugging Face models do."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.net(x)}

    def loss(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        logits, labels = self(batch[0])["logits"], batch[1]
        return nn.functional.cross_entropy(logits, labels), logits, labels


def logits_of_dict(output: dict[str, Tensor]) -> Tensor:
    """Named by its dotted path in tests."""
    return output["logits"]


class TwoOptimizers(Net):
    """Manual optimisation with two optimisers, both stepped in every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        loss, logits, labels = self.loss(batch)
        self.train_accuracy(logits, labels)
        self.log("train_loss", loss)
        self.log("train_accuracy", self.train_accuracy)
        optimizers: Any = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()

    def configure_optimizers(self) -> Any:
        body, head = self.net[:-1], self.net[-1]  # type: ignore[index]
        return torch.optim.Adam(body.parameters(), lr=1e-2), torch.optim.SGD(head.parameters(), lr=1e-2)


class Ledger(Logger):
    """Keeps what was logged, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    @property
    def name(self) -> str:
        return "ledger"

    @property
    def version(self) -> str:
        return "0"

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def steps_of(self, key: str) -> list[int | None]:
        return [step for step, metrics in self.rows if key in metrics]


def monitor(every_n_steps: Any = 2, *instruments: Instrument, **options: Any) -> Monitor:
    """One that raises where a measure fails, draws nothing and logs everything; its instruments are due together."""
    settings: dict[str, Any] = {"figures": None, "log": "all", "on_error": "raise"}
    return Monitor(instruments or None, every_n_steps=every_n_steps, **{**settings, **options})


def network(**options: Any) -> FunctionalNetwork:
    """A functional network with few null graphs."""
    return FunctionalNetwork(**{"nulls": 2, "density": 0.3, **options})


def robustness(every_n_steps: Any = 2, **options: Any) -> Robustness:
    """Two steps of PGD on inputs in [0, 1]."""
    settings: dict[str, Any] = {"bounds": (0.0, 1.0), "epsilons": [0.1], "steps": 2}
    return Robustness(every_n_steps=every_n_steps, **{**settings, **options})


def parted(kind: type[Instrument], options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that are an instrument's, and those that are the monitor's."""
    own = inspect.signature(kind).parameters.keys() - {"every_n_steps", "every_n_epochs"}
    return {k: v for k, v in options.items() if k in own}, {k: v for k, v in options.items() if k not in own}


def functional_monitor(every_n_steps: Any = 2, **options: Any) -> Monitor:
    """A monitor of the functional network alone; options are those of either."""
    own, of_monitor = parted(FunctionalNetwork, options)
    return monitor(every_n_steps, network(**own), **of_monitor)


def monitor_of(kind: type[Instrument], every_n_steps: Any = 100, **options: Any) -> Monitor:
    """A monitor of one instrument alone, which takes a snapshot whenever it does; options are those of either."""
    own, of_monitor = parted(kind, options)
    made: Any = kind(every_n_steps=every_n_steps, **own)  # type: ignore[call-arg]
    return monitor(every_n_steps, made, **of_monitor)


def robustness_monitor(every_n_steps: Any = 2, **options: Any) -> Monitor:
    """A monitor of robustness alone; options are those of either."""
    own, of_monitor = parted(Robustness, options)
    return monitor(every_n_steps, robustness(every_n_steps, **own), **of_monitor)


def trainer(folder: Path | str, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    """A quiet one on the CPU, for one epoch."""
    settings: dict[str, Any] = {
        "max_epochs": 1,
        "logger": False,
        "accelerator": "cpu",
        "devices": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": any(isinstance(c, pl.callbacks.Checkpoint) for c in callbacks),
        "log_every_n_steps": 1,
        "default_root_dir": str(folder),
    }
    return pl.Trainer(callbacks=list(callbacks), **{**settings, **options})


class At(pl.Callback):
    """Does something to the model after a step, when all that was measured before is in the record."""

    def __init__(self, step: int, change: Callable[[Any], object]) -> None:
        self.step, self.change = step, change

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            assert "monitor/step" in trainer.callback_metrics  # looking waits
            self.change(pl_module)


def values(ledger: Ledger, key: str) -> dict[int | None, float]:
    """Step to value."""
    return {step: metrics[key] for step, metrics in ledger.rows if key in metrics}


def fast(every_n_steps: int = 4, **options: Any) -> Monitor:
    """One of the fast tier."""
    return functional_monitor(every_n_steps, **{"measures": "fast", **options})


def fit(
    folder: Path,
    *callbacks: pl.Callback,
    model: Any = None,
    data: Any = None,
    val: Any = None,
    **options: Any,
) -> Ledger:
    """Trains and returns what was logged."""
    ledger = Ledger()
    data = loader() if data is None else data
    trainer(folder, *callbacks, logger=ledger, **options).fit(model or Net(), data, val)
    return ledger


def record(folder: Path) -> Record:
    """The one record under a folder."""
    (manifest,) = folder.rglob("manifest.json")
    return read_record(manifest.parent)


def keys_of(found: Record) -> set[str]:
    """The keys of what its instruments measure, as the manifest says."""
    return {key for key, (instrument, *_) in found.manifest["keys"].items() if instrument != "monitor"}


def counting(sizes: list[int]) -> Net:
    """A model that adds the sizes of the batches outside of training to a list, which is none of its attributes."""
    model = Net()
    model.net.register_forward_hook(lambda m, a, o: None if m.training else sizes.append(len(o)))
    return model


def warning_monitor(every_n_steps: int = 4, **options: Any) -> Monitor:
    """As a user has it: failures are warned of."""
    return functional_monitor(every_n_steps, **{"on_error": "warn", **options})


def fit_to_csv(folder: Path, *callbacks: Any, model: Any = None, data: Any = None, **options: Any) -> Ledger:
    """Trains to the end: eight steps."""
    ledger = Ledger()
    loggers = [CSVLogger(folder, name="csv"), ledger]
    fitted = trainer(folder, *callbacks, **{"logger": loggers, **options})
    fitted.fit(model or Net(), loader() if data is None else data)
    assert fitted.global_step == 8
    return ledger


def csv_record(folder: Path) -> Record:
    """The record beside the log of a ``CSVLogger``."""
    return read_record(folder / "csv" / "version_0" / "fnet")
