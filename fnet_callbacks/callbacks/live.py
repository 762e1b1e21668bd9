"""The last training batches before a snapshot, as the nodes saw them."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from fnet_callbacks.callbacks.token_labels import num_token_classes


@dataclass(frozen=True, slots=True)
class LiveBatch:
    """What the nodes showed in a batch: rows ``[S, N]``, labels or None, and its number of inputs, S or fewer."""

    rows: Tensor
    labels: Tensor | None
    n_inputs: int


class LiveWindow:
    """The last batches that hold ``size`` inputs; older ones are dropped.

    Args:
        size: Inputs wanted.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._batches: deque[LiveBatch] = deque()

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[LiveBatch]:
        return iter(self._batches)

    def num_classes(self, *, of_tokens: bool = False) -> int:
        """One more than the largest label; 0 without labels, or with a negative one of an input among them."""
        if of_tokens:
            return num_token_classes([b.labels for b in self])
        labels = [b.labels for b in self if b.labels is not None and len(b.labels)]
        if not labels or min(int(y.min()) for y in labels) < 0:
            return 0
        return 1 + max(int(y.max()) for y in labels)

    def append(self, batch: LiveBatch) -> None:
        """Adds a batch and drops those that are no longer needed."""
        self._batches.append(batch)
        while sum(b.n_inputs for b in self) - self._batches[0].n_inputs >= self._size:
            self._batches.popleft()

    def clear(self) -> None:
        """Drops all."""
        self._batches.clear()
