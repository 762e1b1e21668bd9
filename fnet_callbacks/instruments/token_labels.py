"""Labels of tokens, where these are the samples."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fnet_callbacks.capture.probe import Probe
from fnet_callbacks.instruments.forward import Forward

_MAX_CLASSES = 1000


def num_token_classes(labels: Sequence[Tensor | None]) -> int:
    """One more than the largest label of tokens, those below 0 having none; 0 where they are no classes.

    A thousand and more are words of a vocabulary.
    """
    known = [own for own in labels if own is not None and own.numel()]
    if len(known) < len(labels) or not known:
        return 0
    most = max(int(own.max()) for own in known)
    return most + 1 if most < _MAX_CLASSES else 0


class TokenClasses:
    """The number of classes of a probe's tokens, counted once for each probe.

    Args:
        forward: Reads its batches.
    """

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self._probe: Probe | None = None
        self._count = 0

    def of(self, probe: Probe) -> int:
        """See `num_token_classes`; of this rank's batches."""
        if probe is not self._probe:
            self._count = num_token_classes([self._forward.reader.token_labels(b) for b in probe.batches])
            self._probe = probe
        return self._count
