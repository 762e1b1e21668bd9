"""Where a monitor's probe comes from: the user's, the validation data, the training data, or batches that pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader

from fnet_callbacks.callbacks.kinds import is_a
from fnet_callbacks.capture.batches import detached_copy, resolve
from fnet_callbacks.capture.kept import as_batch, as_plain
from fnet_callbacks.capture.probe import Probe, can_be_drawn, draw_probe, keep_batches

if TYPE_CHECKING:
    from fnet_callbacks.callbacks.probe_monitor import ProbeMonitor


class ProbeSource:
    """The probe of the monitors that read the same inputs.

    Drawn where there is a data set with items by index; else the first training batches that pass are kept, up to
    ``probe_size`` inputs, so that the first snapshots see fewer.

    Args:
        trainer: Gives the loaders and the ranks.
        monitor: Gives the settings of the probe.
        batch: The first training batch, on the device.
        kept: The batches that an interrupted run had kept.
    """

    def __init__(self, trainer: pl.Trainer, monitor: ProbeMonitor, batch: Any, kept: Any = None) -> None:
        self.monitor = monitor  # the first of those that share it
        self._reader = monitor.reader
        self._size = monitor.probe_size
        self._seed = monitor.probe_seed
        self._rank, self._world_size = trainer.global_rank, trainer.world_size
        self._drawn_from, self._origin = (
            (None, "passing batches") if monitor.is_live else _data_of(trainer, monitor.probe)
        )
        self._probe: Probe | None = None
        self._kept: list[Any] = []
        self._n_kept = 0
        self.is_growing = self._drawn_from is None and not monitor.is_live
        if self._drawn_from is None:
            self._kept = [as_batch(one, like=batch) for one in kept] if kept else [detached_copy(batch)]
        self._has_first = not kept  # the first batch is the one that passes next

    @property
    def has_passed(self) -> bool:
        """Whether the batches come from the training loop, behind the transfer hooks."""
        return self._drawn_from is None

    def probe(self) -> Probe:
        """The probe as it is now; a drawn one is drawn at the first call, which belongs into isolation."""
        if self._probe is None:
            share = {"rank": self._rank, "world_size": self._world_size}
            if self._drawn_from is not None:
                self._probe = draw_probe(
                    self._drawn_from, size=self._size, seed=self._seed, reader=self._reader, **share
                )
            else:
                self._probe = keep_batches(self._kept, reader=self._reader, **share)
        return self._probe

    def keep(self, batch: Any) -> None:
        """Keeps a batch that has passed; for one that ``is_growing``."""
        self._n_kept = self._n_kept or self.probe().n_samples
        if self._has_first:  # the source was made with it
            self._has_first = False
        elif self._n_kept < self._size:
            own = detached_copy(batch)
            self._n_kept += self._reader.size(own) * self._world_size  # one that cannot be read is not kept
            self._kept.append(own)
            self._probe = None
        self.is_growing = self._n_kept < self._size

    def state(self) -> list[Any] | None:
        """The kept batches, for a checkpoint: they cannot be drawn again; None where it could not hold them."""
        if self._drawn_from is not None or self.monitor.is_live:
            return None
        try:
            return [as_plain(batch) for batch in self._kept]
        except TypeError:
            return None

    def summary(self) -> dict[str, Any]:
        """What the manifest says of the probe."""
        probe = self.probe()
        return {
            "n_samples": probe.n_samples,
            "num_classes": probe.num_classes,
            "size": self._size,
            "seed": self._seed,
            "source": self._origin,
            "indices": probe.indices,
            "means": None if self.has_passed else _means(probe.first),  # by which other inputs are told
        }


def _data_of(trainer: pl.Trainer, probe: Any) -> tuple[Any, str]:
    """What the probe is drawn from, None where there is nothing but iterable data; and what that is."""
    if probe is not None:
        found = resolve(probe, "probe")() if isinstance(probe, str) else probe  # type: ignore[misc]
        return next(iter(_loaders(found)), found), "the data of `probe`"
    of_trainer = {"validation data": trainer.val_dataloaders, "training data": trainer.train_dataloader}
    for origin, loaders in of_trainer.items():
        for loader in _loaders(loaders):
            if isinstance(loader, DataLoader) and can_be_drawn(loader) and len(loader.dataset):  # type: ignore[arg-type]
                return loader, origin
    return None, "passing batches"


def _means(batch: Any) -> list[list[float]] | None:
    """Mean and standard deviation of each tensor of numbers in a batch; None where it holds something else."""
    try:
        left, found = [as_plain(batch)], []
    except TypeError:
        return None
    while left:
        part = left.pop(0)
        if isinstance(part, dict | list):
            left += part.values() if isinstance(part, dict) else part
        elif (
            isinstance(part, Tensor)
            and part.layout is torch.strided
            and part.numel()
            and not part.is_complex()
        ):
            values = part.double()
            found.append([float(values.mean()), float(values.std(correction=0))])
    return found


def _loaders(loaders: Any) -> Iterator[DataLoader]:
    if isinstance(loaders, DataLoader):
        yield loaders
    elif is_a(loaders, CombinedLoader):
        yield from _loaders(loaders.iterables)
    elif isinstance(loaders, Mapping):
        yield from (found for loader in loaders.values() for found in _loaders(loader))
    elif isinstance(loaders, (list, tuple)):
        yield from (found for loader in loaders for found in _loaders(loader))
