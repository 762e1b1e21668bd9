"""The fixed, seeded set of inputs on which snapshots are taken."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    IterableDataset,
    Subset,
    TensorDataset,
    default_collate,
)

from fnet_callbacks.capture.batches import (
    as_labels,
    batch_inputs,
    batch_labels,
    batch_size,
    detached_copy,
    first_of,
    holds_tensor,
    label_in,
    to_device,
)
from fnet_callbacks.capture.isolation import generators_kept
from fnet_callbacks.errors import CaptureError, FnetError

_LABEL_ATTRIBUTES = ("targets", "labels", "y")
# Drawing by label reads the labels; where only items have them, a data set of up to so many probes is read.
_MAX_READ = 4
# Integers above this are taken for something else than classes (identifiers, counts).
_MAX_CLASSES = 10_000
# Bytes of a batch's inputs; how many times as long as the loader's a batch may be for it, and inputs it may hold.
_BATCH_BYTES = 2**20
_LONGER = 4
_LONGEST = 256
_SHORTEST = 32


@dataclass(frozen=True, slots=True)
class BatchReader:
    """How inputs and labels are found in a batch; the user's functions where there are any."""

    to_inputs: Callable[[Any], Any] | None = None
    to_labels: Callable[[Any], Any] | None = None

    def inputs(self, batch: Any) -> Any:
        """What the model is called with.

        Raises:
            CaptureError: There is no tensor in it.
        """
        inputs = self.to_inputs(batch) if self.to_inputs else batch_inputs(batch)
        if not holds_tensor(inputs):
            raise CaptureError(
                f"no input tensor found in a batch of type {type(batch).__name__}; pass `batch_to_inputs`, a "
                "function from your batch to what the model is called with"
            )
        return inputs

    def read(self, batch: Any) -> tuple[Any, Tensor | None]:
        """What the model is called with, and the labels, one integer a sample, ``[S]``, or None.

        Targets of another number than there are samples, such as joined transcripts, are no labels.

        Raises:
            CaptureError: There is no tensor among the inputs.
        """
        inputs = self.inputs(batch)
        labels = as_labels(self.to_labels(batch)) if self.to_labels else batch_labels(batch)
        fits = labels is None or not isinstance(inputs, Tensor) or len(labels) in inputs.shape
        return inputs, labels if fits else None

    def size(self, batch: Any) -> int:
        """Samples in the batch."""
        return batch_size(*self.read(batch))


def first_samples(
    loader: Iterable[Any],
    most: int,
    *,
    device: torch.device,
    to_inputs: Callable[[Any], Any] | None = None,
    to_labels: Callable[[Any], Any] | None = None,
) -> list[tuple[Any, Tensor | None]]:
    """Inputs and labels of the first samples of a loader, on a device.

    Args:
        loader: Batches.
        most: Samples, at least 2.
        device: Where they are brought.
        to_inputs: See `BatchReader`; so is ``to_labels``.
        to_labels: See there.

    Raises:
        FnetError: ``most`` is below 2, a function is none, there is no batch, or no tensor in one.
    """
    if not isinstance(most, int) or most < 2:
        raise FnetError(f"`max_samples={most!r}` should be an integer of at least 2")
    for name, function in (("batch_to_inputs", to_inputs), ("batch_to_labels", to_labels)):
        if function is not None and not callable(function):
            raise FnetError(f"`{name}={function!r}` should be a function")
    reader, found, left = BatchReader(to_inputs, to_labels), [], most
    for batch in loader:
        inputs, labels = reader.read(batch)
        n = batch_size(inputs, labels)
        if left < n == batch_size(inputs):  # samples on another axis: the batch is taken whole
            inputs = first_of(inputs, left, n_samples=n)
            labels = None if labels is None else labels[:left]
        found.append((to_device(inputs, device), None if labels is None else labels.to(device)))
        left -= min(n, left)
        if not left:
            break
    if not found:
        raise FnetError("`loader` has no batch")
    return found


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
        indices: Which items of the data set were drawn; None where batches were kept as they passed.
    """

    batches: tuple[Any, ...]
    first: Any
    positions: tuple[int, ...]
    n_samples: int
    num_classes: int | None
    indices: tuple[int, ...] | None = None


def can_be_drawn(source: Any) -> bool:
    """Whether a data set, or that of a loader, has samples that can be drawn by index.

    An iterable data set is never iterated by us; what a loader without batches loads are batches already.
    """
    dataset = source
    if isinstance(source, DataLoader):
        if source.batch_sampler is None:
            return False
        dataset = source.dataset
    return (
        not isinstance(dataset, IterableDataset)
        and hasattr(dataset, "__getitem__")
        and hasattr(dataset, "__len__")
    )


def draw_probe(
    source: Any,
    *,
    size: int,
    seed: int,
    reader: BatchReader,
    rank: int = 0,
    world_size: int = 1,
) -> Probe:
    """Draws ``size`` items of a data set, stratified by label where it has labels, and keeps their batches.

    The draw depends on the data set and ``seed`` alone. A loader gives its data set, its ``collate_fn`` and
    its batch size; its sampler and its generator are not used. Where inputs are floating-point numbers, batches
    are made to take about a megabyte: up to four times as long as the loader's, to 256 inputs, or shorter, down
    to 32. Every rank reads all the batches and keeps its share.

    Args:
        source: A map-style data set or a loader of one.
        size: Inputs wanted, S; all of them where there are fewer.
        seed: Of the draw.
        reader: Finds inputs and labels.
        rank: This process's rank.
        world_size: Number of ranks.

    Raises:
        CaptureError: The data set is empty, iterable, or its batches hold no inputs.
    """
    loader = source if isinstance(source, DataLoader) else None
    dataset: Any = source if loader is None else loader.dataset
    if not can_be_drawn(source) or len(dataset) == 0:
        raise CaptureError(
            f"`probe`: {type(dataset).__name__} should be a data set with a length and samples by index, or a loader "
            "of one with a `batch_size`"
        )
    with generators_kept(dataset):
        indices = draw_indices(dataset, size=size, seed=seed)
        read = DataLoader(
            Subset(dataset, indices),
            batch_size=_batch_size(loader),
            collate_fn=list,
            generator=torch.Generator().manual_seed(seed),
        )
        items = [item for part in read for item in part]
        collate = default_collate if loader is None else loader.collate_fn
        some = items[: _batch_size(loader)]
        length = _length(collate(some), len(some), reader)
        batches = [collate(items[i : i + length]) for i in range(0, len(items), length)]
    return _keep(batches, reader, rank=rank, world_size=world_size, indices=tuple(indices))


def keep_batches(batches: Sequence[Any], *, reader: BatchReader, rank: int = 0, world_size: int = 1) -> Probe:
    """A probe of batches that passed by on this rank: what an iterable data set allows."""
    own = _keep(batches, reader, rank=0, world_size=1, indices=None)
    return Probe(
        own.batches,
        own.first,
        tuple(rank + world_size * p for p in own.positions),
        own.n_samples * world_size,
        own.num_classes,
    )


def draw_indices(dataset: Any, *, size: int, seed: int) -> list[int]:
    """Which items form the probe: a seeded draw in which each class has its share, in random order.

    Labels are taken from the data set's ``targets``, ``labels`` or ``y`` (or a TensorDataset's second
    tensor, or those of the parts of a Subset or ConcatDataset); a small data set is read; else the draw is
    not stratified.

    Args:
        dataset: With a length and items by index.
        size: Number of items wanted; all of them where there are fewer.
        seed: Of the draw.
    """
    generator = np.random.default_rng(seed)
    n = len(dataset)
    order = generator.permutation(n)
    if size >= n:
        return order.tolist()
    labels = dataset_labels(dataset)
    if labels is None and n <= _MAX_READ * size:
        labels = _read_labels(dataset)
    if labels is None:
        return order[:size].tolist()
    shuffled = labels[order]
    _, group, counts = np.unique(shuffled, return_inverse=True, return_counts=True)
    rank_in_class = np.empty(n)
    by_class = np.argsort(group, kind="stable")
    rank_in_class[by_class] = np.concatenate([np.arange(c) for c in counts])
    # Every class is spread evenly over [0, 1); the first `size` of that order hold each class's share.
    spread = (rank_in_class + 0.5) / counts[group]
    chosen = np.argsort(spread, kind="stable")[:size]
    return order[generator.permutation(chosen)].tolist()


def dataset_labels(dataset: Any) -> np.ndarray | None:
    """The labels of all items where the data set carries them, ``[len(dataset)]``, else None."""
    if isinstance(dataset, Subset):
        labels = dataset_labels(dataset.dataset)
        return None if labels is None else labels[np.asarray(dataset.indices)]
    if isinstance(dataset, ConcatDataset):
        parts = [dataset_labels(d) for d in dataset.datasets]
        return None if any(p is None for p in parts) else np.concatenate(parts)  # type: ignore[arg-type]
    if isinstance(dataset, TensorDataset):
        values: Any = dataset.tensors[1] if len(dataset.tensors) > 1 else None
    else:
        values = next((getattr(dataset, a) for a in _LABEL_ATTRIBUTES if hasattr(dataset, a)), None)
    if values is None or callable(values):
        return None
    try:
        labels = values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    except ValueError:  # ragged: what stands there is no label
        return None
    return labels if labels.shape == (len(dataset),) and labels.dtype.kind in "iub" else None


def _read_labels(dataset: Any) -> np.ndarray | None:
    labels = []
    for i in range(len(dataset)):
        label = label_in(dataset[i])
        if isinstance(label, Tensor) and label.dim() == 0 and not label.is_floating_point():
            label = label.item()
        if not isinstance(label, (int, np.integer)):
            return None
        labels.append(int(label))
    return np.array(labels)


def _batch_size(loader: DataLoader | None) -> int:
    if loader is None:
        return 64
    return loader.batch_size or getattr(loader.batch_sampler, "batch_size", None) or 64


def _length(batch: Any, n_items: int, reader: BatchReader) -> int:
    """How long batches should be: few long ones cost less than many, and activations that stay in cache less yet."""
    inputs = reader.inputs(batch)
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point() or not inputs.numel():
        return n_items  # what a token becomes may be large
    fitting = n_items * _BATCH_BYTES // (inputs.numel() * inputs.element_size())
    return max(min(n_items, _SHORTEST), min(fitting, _LONGEST, _LONGER * n_items))


def _keep(
    batches: Sequence[Any],
    reader: BatchReader,
    *,
    rank: int,
    world_size: int,
    indices: tuple[int, ...] | None,
) -> Probe:
    parts = [reader.read(batch) for batch in batches]
    return Probe(
        batches=tuple(detached_copy(b) for b in batches[rank::world_size]),
        first=detached_copy(batches[0]),
        positions=tuple(range(rank, len(batches), world_size)),
        n_samples=sum(batch_size(*part) for part in parts),
        num_classes=_num_classes([labels for _, labels in parts]),
        indices=indices,
    )


def _num_classes(labels: list[Tensor | None]) -> int | None:
    known = [label for label in labels if label is not None and len(label)]
    if not known or len(known) < len(labels):
        return None
    low, high = min(int(label.min()) for label in known), max(int(label.max()) for label in known)
    return high + 1 if low >= 0 and high < _MAX_CLASSES else None
