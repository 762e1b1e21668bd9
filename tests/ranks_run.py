"""A small run over one or two ranks that leaves what each rank saw: ``python tests/ranks_run.py '{...}'``."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import CSVLogger
from small_models import Net, Stream, loader, monitor, network, points, robustness, trainer
from torch.utils.data import DataLoader, Sampler

from fnet_callbacks import FunctionalCodes, Instrument, Lesions, LocalSpecialization, ReLURegions
from fnet_callbacks.capture import probe


class Diary(pl.Callback):
    """Writes what a rank holds at the end of each batch and of the fit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pages: list[dict[str, Any]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._note(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._note(trainer)
        (self.folder / f"rank_{trainer.global_rank}.json").write_text(json.dumps(self.pages))

    def _note(self, trainer: pl.Trainer) -> None:
        metrics = {
            k: float(v)
            for k, v in trainer.callback_metrics.items()
            if k.startswith(("monitor", "fnet", "robust", "lesion", "specialization", "regions", "codes"))
        }
        self.pages.append({"global_step": trainer.global_step, **metrics})


class FailsSilenced(Net):
    """Fails on one rank alone where all neurons of a layer are silenced, after a while."""

    def forward(self, x: torch.Tensor) -> Any:
        last = self.net[:-1](x)
        if not self.training and self.global_rank == 1 and self.trainer.global_step >= 4 and not last.any():
            raise RuntimeError("only here")
        return self.net[-1](last)


class Fails(Net):
    """Fails in eval mode on one rank alone, after a while."""

    def forward(self, x: torch.Tensor) -> Any:
        if not self.training and self.global_rank == 1 and self.trainer.global_step >= 4:
            raise RuntimeError("only here")
        return self.net(x)


class Clamped(Net):
    """Trains on samples without a label too."""

    def loss(self, batch: Any) -> Any:
        return super().loss((batch[0], batch[1].clamp(min=0)))


class LabelledOnOneRank(Stream):
    """Rank 1 has no labels."""

    def __iter__(self) -> Iterator[Any]:
        unknown = torch.tensor(-1)
        rank = torch.distributed.get_rank()
        return iter([(x, unknown if rank else y) for x, y in super().__iter__()])


class ForOneRank(Sampler[int]):
    """Leaves the other rank without any item."""

    def __len__(self) -> int:
        return 64 if torch.distributed.get_rank() == 0 else 0

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))


def run(
    folder: str,
    *,
    devices: int,
    strategy: str = "ddp_fork",
    model: str = "Net",
    data: str = "drawn",
    source: Any = "probe",
    stop: bool = False,
    on_error: str = "warn",
    epochs: int = 2,
    probe_size: int = 44,
    worker: Any = "inline",
    only_network: bool = False,
) -> None:
    torch.manual_seed(0)
    instruments: list[Instrument] = [
        network(save_correlation=True, source=source),
        robustness(4),
        Lesions(every_n_steps=4, points=3),
        LocalSpecialization(every_n_steps=4, k=3, references=5, shuffles=2),
        FunctionalCodes(every_n_steps=4, epsilon=0.1, bounds=(0.0, 1.0)),
        ReLURegions(every_n_steps=4, lines=3),
    ]
    watched = instruments[:1] if only_network else instruments
    callbacks: list[pl.Callback] = [
        monitor(4, *watched, probe_size=probe_size, on_error=on_error, worker=worker),
        Diary(Path(folder)),
    ]
    if stop:
        callbacks.append(EarlyStopping("fnet/mean_abs_correlation", patience=0, min_delta=1e9))
    fitted = trainer(
        folder,
        *callbacks,
        devices=devices,
        strategy=strategy if devices > 1 else "auto",
        logger=CSVLogger(folder, name="csv"),
        max_epochs=epochs,
        use_distributed_sampler=data != "one rank's",
        enable_checkpointing=False,
    )
    train = {
        "drawn": loader,
        "streamed": lambda: DataLoader(Stream(), batch_size=8),
        "labelled on one rank": lambda: DataLoader(LabelledOnOneRank(), batch_size=8),
        "uneven": lambda: loader(60),  # the last batch of each rank is shorter
        "one rank's": lambda: DataLoader(points(), batch_size=8, sampler=ForOneRank()),
    }[data]()
    has_val = data in ("drawn", "uneven", "one rank's") and source == "probe" and model == "Net"
    val = loader(50, seed=1, batch_size=7) if has_val else None
    models = {"Net": Net, "Fails": Fails, "FailsSilenced": FailsSilenced, "Clamped": Clamped}
    fitted.fit(models[model](), train, val)


if __name__ in ("__main__", "__mp_main__"):  # ranks that are spawned import this once more
    probe._LONGEST = 8  # batches that both ranks have some of
    torch.set_num_threads(1)

if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    run(options.pop("folder"), **options)
