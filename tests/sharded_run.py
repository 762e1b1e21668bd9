"""A run whose parameters are shared out over two ranks: ``python tests/sharded_run.py '{...}'``."""

import json
import sys
from pathlib import Path

import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import ModelParallelStrategy
from ranks_run import Diary
from small_models import Net, fast, loader, trainer
from torch import Tensor
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from fnet_callbacks.capture import probe


class Sharded(Net):
    """Its layers are gathered when they are called."""

    def configure_model(self) -> None:
        mesh = self.device_mesh["data_parallel"]  # type: ignore[index]
        for part in (self.net[0], self.net[2], self.net):  # type: ignore[index]
            fully_shard(part, mesh=mesh)


def whole(weight: Tensor) -> list[float]:
    return (weight.full_tensor() if isinstance(weight, DTensor) else weight).flatten().tolist()


def run(folder: str, *, devices: int = 2, is_watched: bool = True, tensor_parallel_size: int = 1) -> None:
    """``devices=1`` trains the whole model, without sharding."""
    torch.manual_seed(0)
    monitors = [fast(2, save_correlation=True, worker="inline", probe_size=36)] if is_watched else []
    sharding = ModelParallelStrategy(devices // tensor_parallel_size, tensor_parallel_size)
    fitted = trainer(
        folder,
        *monitors,
        Diary(Path(folder)),
        devices=devices,
        strategy="auto" if devices == 1 else sharding,
        logger=CSVLogger(folder, name="csv"),
        max_epochs=2,
        val_check_interval=3 if devices == 2 else None,
    )
    model = Net() if devices == 1 else Sharded()
    fitted.fit(model, loader(), loader(50, seed=1, batch_size=7))
    weights = {name: whole(weight) for name, weight in model.named_parameters()}  # all ranks gather them
    (Path(folder) / f"weights_{fitted.global_rank}.json").write_text(json.dumps(weights))


if __name__ == "__main__":
    probe._LONGEST = 8  # five batches: three for one rank, two for the other
    torch.set_num_threads(1)
    options = json.loads(sys.argv[1])
    run(options.pop("folder"), **options)
