"""The last training batches before a snapshot, as the nodes saw them: what is measured in place of the probe."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fnet_callbacks.capture.batch import Batch
from fnet_callbacks.capture.watcher import Watcher
from fnet_callbacks.errors import CaptureError
from fnet_callbacks.instruments.forward import Forward
from fnet_callbacks.instruments.token_labels import num_token_classes


@dataclass(frozen=True, slots=True)
class LiveBatch:
    """What the nodes showed in a batch: rows ``[S, N]``, labels or None, and its number of inputs, S or fewer."""

    rows: Tensor
    labels: Tensor | None
    n_inputs: int


class LiveBatches:
    """The last batches that hold ``size`` inputs; older ones are dropped.

    Args:
        watcher: Watches the layers.
        size: Inputs wanted.
        labels_of: From a batch that the watcher has just seen to the labels of its rows.
        of_tokens: Whether rows are tokens.
    """

    def __init__(
        self,
        watcher: Watcher,
        *,
        size: int,
        labels_of: Callable[[Batch], Tensor | None] = lambda batch: batch.labels,
        of_tokens: bool = False,
    ) -> None:
        self._watcher, self._size = watcher, size
        self._labels_of, self._of_tokens = labels_of, of_tokens
        self._batches: deque[LiveBatch] = deque()
        self._watched: Batch | None = None

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[LiveBatch]:
        return iter(self._batches)

    @property
    def num_classes(self) -> int:
        """One more than the largest label; 0 without labels, or with a negative one of an input among them."""
        if self._of_tokens:
            return num_token_classes([b.labels for b in self])
        labels = [b.labels for b in self if b.labels is not None and len(b.labels)]
        if not labels or min(int(y.min()) for y in labels) < 0:
            return 0
        return 1 + max(int(y.max()) for y in labels)

    def watch(self, forward: Forward, batch: Any, step: int, to_go: float) -> AbstractContextManager[None]:
        """Watches a training batch for the length of its step.

        Args:
            forward: Reads the batch.
            batch: On the model's device.
            step: Steps before it.
            to_go: The number of batches, this one included, after which a snapshot may be taken.
        """
        found = forward.read(batch).with_own_labels()
        if (to_go - 1) * found.n_samples >= self._size:  # not among the last before a snapshot
            self._batches.clear()
            return nullcontext()
        self._watched = found
        self._watcher.expect(found.n_samples, mask=found.mask, batch_index=step)
        return self._watcher.attached()

    def keep(self) -> None:
        """Keeps what was watched until the next snapshot."""
        found, self._watched = self._watched, None
        if found is not None:
            self.append(LiveBatch(self._watcher.rows(), self._labels_of(found), found.n_samples))

    def append(self, batch: LiveBatch) -> None:
        """Adds a batch and drops those that are no longer needed."""
        self._batches.append(batch)
        while sum(b.n_inputs for b in self) - self._batches[0].n_inputs >= self._size:
            self._batches.popleft()

    def require(self) -> None:
        """Raises ``CaptureError`` where no batch was watched since the last snapshot."""
        if not self._batches:
            raise CaptureError("no live batch was seen since the last snapshot")

    def taken(self) -> list[LiveBatch]:
        """The batches; none is kept."""
        found = list(self._batches)
        self._batches.clear()
        return found
