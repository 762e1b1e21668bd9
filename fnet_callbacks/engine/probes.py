"""Where the probe comes from: the user's data, the validation data, the training data, or batches that pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fnet_callbacks.capture.batches import resolve
from fnet_callbacks.capture.candidates import is_indexable
from fnet_callbacks.capture.classes import class_names
from fnet_callbacks.capture.kept import as_batch, as_plain
from fnet_callbacks.capture.probe import Probe, ProbeDraw, draw, keep_batches, usual_length
from fnet_callbacks.capture.reader import BatchReader
from fnet_callbacks.capture.trees import detached_copy
from fnet_callbacks.engine.options import Options
from fnet_callbacks.host import Host


class ProbeSource:
    """The probe of a run.

    Drawn where there is a data set with items by index; else the first training batches that pass are kept, up to
    ``probe_size`` inputs, so that the first snapshots see fewer.

    Args:
        host: Gives the loaders and the ranks.
        options: Of the probe.
        batch: The first training batch, on the device.
        is_live: Whether the first batch is all that is ever shown: what is measured are live ones.
        kept: The batches that an interrupted run had kept.
    """

    def __init__(
        self, host: Host, options: Options, batch: Any, *, is_live: bool = False, kept: Any = None
    ) -> None:
        self._host = host
        self._options, self._is_live = options, is_live
        self._reader = options.reader
        self._size, self._seed = options.probe_size, options.probe_seed
        self._drawn_from, self._origin = (
            (None, "passing batches") if is_live else _data_of(host, options.probe)
        )
        of_training = host.training_loader
        self._length_in_training = None if of_training is None else of_training.batch_size
        self._drawn: ProbeDraw | None = None
        self._probe: Probe | None = None
        self._kept: list[Any] = []
        self._n_kept = 0
        self._passing: Any = None
        self.is_growing = self._drawn_from is None and not is_live
        if self._drawn_from is None:
            self._kept = [as_batch(one, like=batch) for one in kept] if kept else [detached_copy(batch)]
        self._has_first = not kept  # the first batch is the one that passes next

    @property
    def has_passed(self) -> bool:
        """Whether the batches come from the training loop, behind the transfer hooks."""
        return self._drawn_from is None

    @property
    def origin(self) -> str:
        """Where the probe comes from, in words."""
        return self._origin

    def first(self) -> tuple[Any, int | None]:
        """The first batch, and how many items were put together in it, where that is known.

        What can be drawn is drawn here, which belongs into isolation; all of it is at hand until `settle`.

        Raises:
            CaptureError: It cannot be drawn.
        """
        if self._drawn_from is None:
            return self._kept[0], self._length_in_training
        if self._drawn is None:
            self._drawn = self._draw(None)
        return self._drawn.batches[0], self._drawn.lengths[0]

    def in_other_lengths(self) -> Iterator[int]:
        """Draws the same items in batches as long as a loader's, where they are not: one length after another."""
        if self._drawn is None:
            return
        own = self._drawn_from if isinstance(self._drawn_from, DataLoader) else None
        of_loader = None if own is None else usual_length(own)
        for length in dict.fromkeys((of_loader, self._length_in_training)):
            if length and length != self._drawn.lengths[0]:
                self._drawn, self._probe = self._draw(length), None
                yield length

    @property
    def odd_batch(self) -> Any:
        """The last batch that was drawn, where it has another length than the others; else None."""
        return None if self._drawn is None else self._drawn.odd_batch

    def drop_odd_batch(self) -> None:
        """Leaves out the last batch."""
        assert self._drawn is not None
        self._drawn, self._probe = self._drawn.without_last(), None

    def settle(self) -> None:
        """Lets go of what was drawn, of which this rank's share stays."""
        self.probe()
        self._drawn = None

    def probe(self, reader: BatchReader | None = None) -> Probe:
        """The probe as it is now.

        Args:
            reader: What it is counted by, for one that `first` drew and nobody has settled.
        """
        if reader is not None and self._drawn is not None:
            self._reader, self._probe = reader, None
        if self._probe is None:
            share = {"rank": self._host.rank, "world_size": self._host.world_size}
            if self._drawn is not None:
                self._probe = self._drawn.share(self._reader, **share)
            else:
                self._probe = keep_batches(self._kept, reader=self._reader, **share)
        return self._probe

    def note(self, batch: Any) -> None:
        """Takes a copy of a batch before a step that may change it; for one that ``is_growing``."""
        self._passing = None if self._has_first else detached_copy(batch)

    def keep(self) -> None:
        """Keeps the batch that was noted, once it has passed; for one that ``is_growing``."""
        own, self._passing = self._passing, None
        self._n_kept = self._n_kept or self.probe().n_samples
        if self._has_first:  # the source was made with it
            self._has_first = False
        elif own is not None and self._n_kept < self._size:
            # One that cannot be read is not kept.
            self._n_kept += self._reader.size(own) * self._host.world_size
            self._kept.append(own)
            self._probe = None
        self.is_growing = self._n_kept < self._size

    def state(self) -> list[Any] | None:
        """The kept batches, for a checkpoint: they cannot be drawn again; None where it could not hold them."""
        if self._drawn_from is not None or self._is_live:
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
            "indices": None if probe.indices is None else [_plain(key) for key in probe.indices],
            "classes": class_names(self._drawn_from),
            "means": None if self.has_passed else _means(probe.first),  # by which other inputs are told
        }

    def _draw(self, length: int | None) -> ProbeDraw:
        broadcast = self._host.broadcast
        return draw(
            self._drawn_from,
            size=self._size,
            seed=self._seed,
            reader=self._options.reader,
            length=length,
            # A sampler of the user's own may give each rank its share.
            agree=broadcast if self._host.world_size > 1 else None,
        )


def _data_of(host: Host, probe: Any) -> tuple[Any, str]:
    """What the probe is drawn from, None where there is nothing but iterable data; and what that is."""
    if probe is not None:
        found = resolve(probe, "probe")() if isinstance(probe, str) else probe  # type: ignore[misc]
        return next(iter(host.loaders_in(found)), found), "the data of `probe`"
    for origin, loader in host.probe_sources():
        if is_indexable(loader) and not _is_empty(loader):
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


def _is_empty(loader: DataLoader) -> bool:
    """Whether there are no items, or the sampler gives none."""
    try:
        return not len(loader.dataset) or not len(loader.sampler)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):  # a sampler that does not know how many
        return False


def _plain(key: Any) -> Any:
    """What a data set is asked for, as the manifest can say it."""
    if isinstance(key, (int, str)):
        return key
    return [_plain(part) for part in key] if isinstance(key, (tuple, list)) else repr(key)
