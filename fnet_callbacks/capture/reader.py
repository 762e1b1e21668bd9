"""How inputs, labels and the number of samples are found in a batch, and how the model is called with it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from fnet_callbacks.capture.batch import Batch
from fnet_callbacks.capture.batches import (
    as_getter,
    as_labels,
    as_token_labels,
    batch_inputs,
    batch_labels,
    batch_size,
    call_model,
    holds_tensor,
    label_in,
    token_mask,
)
from fnet_callbacks.capture.trees import Path, at, described, first_of, is_list, to_device, walk
from fnet_callbacks.capture.ways import Way, length, signature_of, ways_of_batch, ways_of_given
from fnet_callbacks.errors import CaptureError, FnetError


@dataclass(frozen=True, slots=True)
class Place:
    """Where the number of samples shows: an axis of a tensor, or, where that is None, the length of a list."""

    path: Path
    axis: int | None

    def size(self, inputs: Any) -> int | None:
        """The number of samples; None where the inputs have no such place."""
        try:
            found = at(inputs, self.path)
            if isinstance(found, PackedSequence):
                return int(found.batch_sizes[0])
            return len(found) if self.axis is None else found.shape[self.axis]
        except (LookupError, AttributeError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class BatchReader:
    """How inputs and labels are found in a batch; the user's functions where there are any.

    Attributes:
        to_inputs: From a batch to the model's inputs; what it returns is not interpreted.
        to_labels: From a batch to its labels.
        way: How the model is called; see `ways`.
        place: Where the number of samples shows; None for the first axis of the first tensor.
    """

    to_inputs: Callable[[Any], Any] | None = None
    to_labels: Callable[[Any], Any] | None = None
    way: Way = "usual"
    place: Place | None = None

    def inputs(self, batch: Any) -> Any:
        """What the model is called with, as `call_model` takes it.

        Raises:
            CaptureError: There is no tensor in it.
        """
        inputs = batch if self.way == "batch" else self._found(batch)
        if not holds_tensor(inputs):
            if self.to_inputs is not None:
                raise CaptureError(
                    f"`batch_to_inputs` gives {described(inputs)}, in which there is no tensor"
                )
            raise CaptureError(
                f"no input tensor found in a batch of type {type(batch).__name__}; pass `batch_to_inputs`, a "
                "function from your batch to what the model is called with"
            )
        return inputs if self.way == "usual" else (inputs,)

    def read(self, batch: Any) -> tuple[Any, Tensor | None]:
        """What the model is called with, and the labels, one integer a sample, ``[S]``, or None.

        Targets of another number than there are samples, such as joined transcripts, are no labels.

        Raises:
            CaptureError: There is no tensor among the inputs.
        """
        inputs = self.inputs(batch)
        labels = as_labels(_numbers(self.to_labels(batch))) if self.to_labels else batch_labels(batch)
        if labels is not None and isinstance(inputs, Tensor) and len(labels) not in inputs.shape:
            return inputs, None
        of_list = self.place is not None and self.place.axis is None
        if labels is not None and of_list and self.count(inputs) != len(labels):
            return inputs, None
        return inputs, labels

    def token_labels(self, batch: Any) -> Tensor | None:
        """The labels where they are one integer a token, ``[S, T]``, else None."""
        return as_token_labels(_numbers(self.to_labels(batch)) if self.to_labels else label_in(batch))

    def count(self, inputs: Any, labels: Tensor | None = None) -> int:
        """Number of samples S in what `read` gave."""
        known = None if labels is not None or self.place is None else self.place.size(inputs)
        return batch_size(inputs, labels) if known is None else known

    def has_samples_first(self, inputs: Any, n: int) -> bool:
        """Whether ``n`` samples are the entries of a list, or lie on the first axis of the first tensor."""
        place = self.place
        return batch_size(inputs) == n if place is None else not place.axis and place.size(inputs) == n

    def size(self, batch: Any) -> int:
        """Samples in the batch."""
        return self.count(*self.read(batch))

    def ways(
        self, signature: inspect.Signature | None, batch: Any, n_items: int | None = None
    ) -> list[BatchReader]:
        """Readers by how the model may be called, the likeliest first.

        What the user's function returns leaves no choice: a tuple is the arguments, a mapping the keywords where
        ``forward`` takes all of them or has several parameters, and anything else the one argument. Of a batch by
        itself, a ``forward`` with one parameter gets a mapping as it is before its entries are tried; a list is the
        samples or several inputs, by its length and that of its parts.

        Args:
            signature: Of the model's ``forward``; None where it is not known.
            batch: The first.
            n_items: How many items were put together in it, where that is known.
        """
        found = self._found(batch)
        n = n_items if n_items is not None else length(label_in(batch))
        ways = (
            ways_of_given(signature, found) if self.to_inputs else ways_of_batch(signature, batch, found, n)
        )
        return [self._settled(way, batch, n) for way in ways]

    def _found(self, batch: Any) -> Any:
        return self.to_inputs(batch) if self.to_inputs else batch_inputs(batch)

    def _settled(self, way: Way, batch: Any, n: int | None) -> BatchReader:
        known = replace(self, way=way)
        inputs = batch if way == "batch" else self._found(batch)
        return replace(known, place=_place(inputs if way == "usual" else (inputs,), n))


def first_samples(
    loader: Iterable[Any],
    max_samples: int,
    *,
    model: nn.Module,
    device: torch.device,
    to_inputs: Callable[[Any], Any] | str | int | None = None,
    to_labels: Callable[[Any], Any] | str | int | None = None,
) -> list[Batch]:
    """The first batches of a loader, on a device.

    Args:
        loader: Batches.
        max_samples: At least 2.
        model: What will be called with the inputs.
        device: Where they are brought.
        to_inputs: See `BatchReader`; so is ``to_labels``.
        to_labels: See there.

    Raises:
        FnetError: ``max_samples`` is below 2, a function is none, there is no batch, or no tensor in one.
    """
    if not isinstance(max_samples, int) or max_samples < 2:
        raise FnetError(f"`max_samples={max_samples!r}` should be an integer of at least 2")
    reader = BatchReader(as_getter(to_inputs, "batch_to_inputs"), as_getter(to_labels, "batch_to_labels"))
    found: list[Batch] = []
    left = max_samples
    for batch in loader:
        if not found:
            reader = _that_works(reader, model, batch, getattr(loader, "batch_size", None), device)
        inputs, labels = reader.read(batch)
        n = reader.count(inputs, labels)
        if left < n and reader.has_samples_first(inputs, n):  # else the batch is taken whole
            inputs, n = first_of(inputs, left, n_samples=n), left
            labels = None if labels is None else labels[:left]
        inputs = to_device(inputs, device)
        found.append(Batch(inputs, None if labels is None else labels.to(device), n, token_mask(inputs)))
        left -= min(n, left)
        if not left:
            break
    if not found:
        raise FnetError("`loader` has no batch")
    return found


def _that_works(
    reader: BatchReader, model: nn.Module, batch: Any, n_items: int | None, device: torch.device
) -> BatchReader:
    """The first way in which the model can be called with the batch; the likeliest where none is left to choose."""
    ways = reader.ways(signature_of(model), batch, n_items)
    for own in ways if len(ways) > 1 else ():
        try:
            with torch.no_grad():
                call_model(model, to_device(own.inputs(batch), device))
            return own
        except Exception:  # whatever a model raises on what it is not made for
            continue
    return ways[0]


def _numbers(value: Any) -> Any:
    """What the user's function gave for labels, as a tensor where it is an array or a list of numbers."""
    if not isinstance(value, (np.ndarray, list, tuple)):
        return value
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        return value


def _place(inputs: Any, n: int | None) -> Place | None:
    """Where ``n`` samples show in what the model is called with; None for the first axis of the first tensor.

    Lists and packed sequences count before tensors, and of these the first, which may have a multiple of ``n``: views
    of each item, one behind the other.
    """
    parts = [(path, part) for path, part in walk(inputs) if path]
    lists = [Place(path, None) for path, part in parts if is_list(part) or isinstance(part, PackedSequence)]
    tensors = [path for path, part in parts if isinstance(part, Tensor) and part.dim()]
    if isinstance(inputs, PackedSequence):
        return Place((), None)
    if n is None:
        is_list_of_samples = type(inputs) is tuple and len(inputs) == 1 and is_list(inputs[0])
        return lists[0] if is_list_of_samples else None
    if found := next((place for place in lists if place.size(inputs) == n), None):
        return found
    first = () if isinstance(inputs, Tensor) else tensors[0] if tensors else None
    if first is None or (size := Place(first, 0).size(inputs)) is None or size % n == 0:
        return None
    others = [Place(path, axis) for axis in (0, 1) for path in ([()] if first == () else tensors)]
    return next((place for place in others if place.size(inputs) == n), None)
