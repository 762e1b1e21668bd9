"""A batch, as everything that calls a model takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from fnet_callbacks.errors import FnetError


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples on the model's device.

    Attributes:
        inputs: What the model is called with, see ``capture.batches.call_model``.
        labels: Class of each sample, ``[S]``, below 0 for one without; None where there are none.
        n_samples: S.
        mask: ``[S, T]``, True where there is a token; None where all are.
        token_labels: The labels where they are one integer a token, ``[S, T]``.
        index: Its place among the batches of a probe.
    """

    inputs: Any
    labels: Tensor | None
    n_samples: int
    mask: Tensor | None = None
    token_labels: Tensor | None = None
    index: int = 0

    @property
    def is_labelled(self) -> bool:
        """Whether every sample has a label."""
        return self.labels is not None and bool((self.labels >= 0).all())

    @property
    def classes(self) -> Tensor:
        """The labels, ``[S]``.

        Raises:
            FnetError: There are none.
        """
        if self.labels is None:
            raise FnetError("a batch has no labels")
        return self.labels

    def with_own_labels(self) -> Batch:
        """With labels that a training step cannot change."""
        own = (None if labels is None else labels.clone() for labels in (self.labels, self.token_labels))
        labels, by_token = own
        return replace(self, labels=labels, token_labels=by_token)


def count_samples(batches: Sequence[Batch]) -> int:
    """S, of all of them."""
    return sum(batch.n_samples for batch in batches)
