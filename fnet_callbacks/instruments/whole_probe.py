"""The base of instruments that look at the whole probe at once, on rank 0."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from fnet_callbacks.capture.batch import Batch
from fnet_callbacks.capture.probe import Probe
from fnet_callbacks.instruments.forward import Forward
from fnet_callbacks.instruments.instrument import Instrument
from fnet_callbacks.instruments.together import OfRankZero, Parts


class WholeProbeInstrument(Instrument):
    """Keeps the batches of the probe until all are seen; those of other ranks are brought to rank 0.

    A subclass calls `prepare` of this class first, and implements `find`. What it finds is analyzed where it is found,
    as it is.
    """

    analyzes_here = True
    _forward: Forward

    @override
    def prepare(self, forward: Forward, probe: Probe) -> None:
        self._forward = forward

    @override
    def begin(self, probe: Probe, num_classes: int) -> None:
        self._batches: dict[int, Batch] = {}

    @override
    def see(self, batch: Batch, output: Any) -> None:
        self._batches[batch.index] = batch

    @override
    def share(self) -> Any:
        own, self._batches = self._batches, {}
        return Parts(own, self._forward.device)

    @override
    def compute(self, model: Any) -> Any:
        batches, self.together = self.together, None
        return OfRankZero(self.find(model, batches) if self._forward.host.is_global_zero else None)

    @abstractmethod
    def find(self, model: Any, batches: Sequence[Batch]) -> Any:
        """What `analyze` gets, on rank 0, isolated.

        Args:
            model: The part of the model that is called.
            batches: The whole probe, in its order.
        """
