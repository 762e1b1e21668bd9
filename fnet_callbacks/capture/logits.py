"""A classifier as a function from inputs to logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from fnet_callbacks.capture.batches import call_model, logits_of


class LogitsModel(nn.Module):
    """A model as a function from its inputs to logits ``[S, C]``, which attacks take.

    Args:
        called: The model; an attack looks here for recurrent modules.
        output_to_logits: From what it returns to the logits; None where it returns them.
        call: From inputs to what it returns; None for ``call_model``.
    """

    def __init__(
        self,
        called: nn.Module,
        output_to_logits: Callable[[Any], Any] | None = None,
        *,
        call: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__()
        self.called = called
        self._call = call or (lambda inputs: call_model(called, inputs))
        self._output_to_logits = output_to_logits

    def forward(self, inputs: Any) -> Tensor:
        """See ``logits_of``."""
        return logits_of(self._call(inputs), self._output_to_logits)
