"""The fixed, seeded set of inputs on which snapshots are taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.utils.data import (
    DataLoader,
    default_collate,
)

from fnet_callbacks.capture.candidates import Candidates, candidates_of, is_indexable, samplers_of
from fnet_callbacks.capture.data_state import data_kept
from fnet_callbacks.capture.elsewhere import can_fork, in_worker
from fnet_callbacks.capture.indices import draw_indices
from fnet_callbacks.capture.reader import BatchReader
from fnet_callbacks.capture.trees import detached_copy
from fnet_callbacks.errors import CaptureError

# Integers above this are taken for something else than classes (identifiers, counts).
_MAX_CLASSES = 10_000
# Bytes of a batch's inputs; how many times as long as the loader's a batch may be for it, and inputs it may hold.
_BATCH_BYTES = 2**20
_LONGER = 4
_LONGEST = 256
_SHORTEST = 32


@dataclass(frozen=True, slots=True)
class Probe:
    """The kept batches of one rank.

    Attributes:
        batches: Collated batches on the CPU, as the data loader gives them.
        first: The first batch of all ranks, for the trial pass.
        positions: Of each its place among all ranks' batches.
        n_samples: S over all ranks.
        num_classes: One more than the largest label, over all ranks; None without labels, or where they
            are no classes: negative, or 10,000 and more.
        indices: What the data set was asked for; None where batches were kept as they passed.
    """

    batches: tuple[Any, ...]
    first: Any
    positions: tuple[int, ...]
    n_samples: int
    num_classes: int | None
    indices: tuple[Any, ...] | None = None


@dataclass(frozen=True, slots=True)
class ProbeDraw:
    """What was drawn of a data set, the same on all ranks.

    Attributes:
        batches: Collated, on the CPU, sharing no memory with the data set.
        lengths: How many items are in each.
        keys: What the data set was asked for, in the order of the batches.
    """

    batches: tuple[Any, ...]
    lengths: tuple[int, ...]
    keys: tuple[Any, ...]

    @property
    def odd_batch(self) -> Any:
        """The last batch, where it has another length than the first, else None."""
        return self.batches[-1] if self.lengths[-1] != self.lengths[0] else None

    def without_last(self) -> ProbeDraw:
        """All but the last batch."""
        return ProbeDraw(self.batches[:-1], self.lengths[:-1], self.keys[: -self.lengths[-1]])

    def share(self, reader: BatchReader, *, rank: int = 0, world_size: int = 1) -> Probe:
        """The probe of one of the ranks, whose batches are shared out in turn."""
        kept = _keep(self.batches, reader, rank=rank, world_size=world_size)
        return replace(kept, indices=self.keys)


def draw(
    source: Any,
    *,
    size: int,
    seed: int,
    reader: BatchReader,
    length: int | None = None,
    agree: Callable[[Candidates], Candidates] | None = None,
) -> ProbeDraw:
    """Draws ``size`` items of a data set, stratified by label where it has labels, and collates them.

    The draw depends on the data set, on what the loader's sampler draws from, and on ``seed``. A loader gives its data
    set, its ``collate_fn`` and its batch size; the order in which it would give items is not used. Where inputs are
    floating-point numbers, batches are made to take about a megabyte: up to four times as long as the loader's, to 256
    inputs, or shorter, down to 32. Where the loader has workers that are forked, items are read in one; else here, and
    the data set is then as it was before, see `data_kept`.

    Args:
        source: A map-style data set or a loader of one.
        size: Inputs wanted, S; all that there are where there are fewer.
        seed: Of the draw.
        reader: Finds the inputs, by which the length is chosen.
        length: Items in a batch, where that is known already.
        agree: From what this rank's sampler draws from to what that of all ranks does.

    Raises:
        CaptureError: The data set is empty or iterable, an item cannot be read, or items cannot be collated.
    """
    loader = source if isinstance(source, DataLoader) else None
    dataset: Any = source if loader is None else loader.dataset
    used = () if loader is None else (loader.collate_fn, *samplers_of(loader))
    with data_kept(dataset, *used) as files:
        if not is_indexable(source) or len(dataset) == 0:
            raise CaptureError(
                f"`probe`: {type(dataset).__name__} should be a data set with a length and samples by index, or a "
                "loader of one with a `batch_size`"
            )
        candidates = candidates_of(source)
        if agree is not None:
            candidates = agree(candidates)
        if not len(candidates.keys):
            raise CaptureError(
                "`probe`: the sampler of the loader gives no items; pass another, or a data set"
            )

        def work() -> Iterator[Any]:
            return _draw(dataset, loader, candidates, size=size, seed=seed, reader=reader, length=length)

        if loader is not None and can_fork(loader):
            try:
                return _put_together(in_worker(loader, work, files=files))
            except Exception:  # what the worker cannot do, or send, is tried here, where it can be said
                pass
        return _put_together(work())


def keep_batches(batches: Sequence[Any], *, reader: BatchReader, rank: int = 0, world_size: int = 1) -> Probe:
    """A probe of batches that passed by on this rank: what an iterable data set allows."""
    own = _keep([detached_copy(batch) for batch in batches], reader, rank=0, world_size=1)
    return replace(
        own,
        positions=tuple(rank + world_size * p for p in own.positions),
        n_samples=own.n_samples * world_size,
    )


def _draw(
    dataset: Any,
    loader: DataLoader | None,
    candidates: Candidates,
    *,
    size: int,
    seed: int,
    reader: BatchReader,
    length: int | None,
) -> Iterator[Any]:
    """The keys, and then each batch with its number of items."""
    keys = draw_indices(dataset, size=size, seed=seed, candidates=candidates)
    yield keys
    usual = usual_length(loader)
    items = [item for i in range(0, len(keys), usual) for item in _read(dataset, keys[i : i + usual], loader)]
    some = items[:usual]
    length = length or _length(_collated(some, loader), len(some), reader)
    for i in range(0, len(items), length):
        part = items[i : i + length]
        yield detached_copy(_collated(part, loader)), len(part)


def _put_together(parts: Iterable[Any]) -> ProbeDraw:
    keys, *rest = parts
    batches, lengths = zip(*rest, strict=True)
    return ProbeDraw(batches, lengths, tuple(keys))


def _read(dataset: Any, keys: list[Any], loader: DataLoader | None) -> Sequence[Any]:
    """Some items, at once where the data set can."""
    try:
        if callable(getattr(dataset, "__getitems__", None)):
            return dataset.__getitems__(keys)
        return [dataset[key] for key in keys]
    except Exception as error:
        if len(keys) > 1:  # which of them it is
            return [item for key in keys for item in _read(dataset, [key], loader)]
        is_outside = loader is not None and loader.num_workers and not can_fork(loader)
        outside = (
            "; it is read outside of the loader's workers, without its `worker_init_fn`" if is_outside else ""
        )
        raise CaptureError(
            f"`probe`: the data set {type(dataset).__name__} gives no item for {keys[0]!r}: {error!r}{outside}. Pass "
            "`probe=`, a data set, or a loader of one, whose items can be read"
        ) from error


def _collated(items: Any, loader: DataLoader | None) -> Any:
    try:
        return default_collate(items) if loader is None else loader.collate_fn(items)
    except Exception as error:
        what = "`default_collate`" if loader is None else "the loader's `collate_fn`"
        raise CaptureError(
            f"`probe`: {what} makes no batch of {len(items)} items: {error!r}. Pass `probe=`, a loader with a "
            "`collate_fn` that does"
        ) from error


def usual_length(loader: DataLoader | None) -> int:
    """Items in a batch of a loader, or of a data set that none is known of."""
    if loader is None:
        return 64
    return loader.batch_size or getattr(loader.batch_sampler, "batch_size", None) or 64


def _length(batch: Any, n_items: int, reader: BatchReader) -> int:
    """How long batches should be: few long ones cost less than many, and activations that stay in cache less yet."""
    try:
        inputs = reader.inputs(batch)
    except Exception:  # said where the batch is read for the model
        return n_items
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point() or not inputs.numel():
        return n_items  # what a token becomes may be large
    fitting = n_items * _BATCH_BYTES // (inputs.numel() * inputs.element_size())
    return max(min(n_items, _SHORTEST), min(fitting, _LONGEST, _LONGER * n_items))


def _keep(batches: Sequence[Any], reader: BatchReader, *, rank: int, world_size: int) -> Probe:
    parts = [reader.read(batch) for batch in batches]
    return Probe(
        batches=tuple(batches[rank::world_size]),
        first=batches[0],
        positions=tuple(range(rank, len(batches), world_size)),
        n_samples=sum(reader.count(*part) for part in parts),
        num_classes=_num_classes([labels for _, labels in parts]),
    )


def _num_classes(labels: list[Tensor | None]) -> int | None:
    known = [label for label in labels if label is not None and len(label)]
    if not known or len(known) < len(labels):
        return None
    low, high = min(int(label.min()) for label in known), max(int(label.max()) for label in known)
    return high + 1 if low >= 0 and high < _MAX_CLASSES else None
