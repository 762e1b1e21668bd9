"""One fit in a process of its own, whose peak memory is printed: ``python tests/memory_run.py monitored|bare``."""

import resource
import sys
import tempfile

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fnet_callbacks import FunctionalNetwork, Monitor

WIDTH, SAMPLES = 2048, 10_000


class Wide(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(16, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-2)


def main(is_monitored: bool) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(SAMPLES, 16), torch.randint(4, (SAMPLES,)))
    network = FunctionalNetwork(measures="fast", layer_measures=[], max_neurons=WIDTH)
    monitor = Monitor(network, every_n_steps=2, probe_size=SAMPLES, figures=None)
    trainer = pl.Trainer(
        max_steps=2,
        logger=False,
        accelerator="cpu",
        callbacks=[monitor] if is_monitored else [],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tempfile.mkdtemp(),
    )
    trainer.fit(Wide(), DataLoader(data, batch_size=64))
    if is_monitored:
        assert trainer.callback_metrics["fnet/n_neurons"] == WIDTH
        assert trainer.callback_metrics["fnet/n_samples"] == SAMPLES
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


if __name__ == "__main__":
    main(sys.argv[1] == "monitored")
