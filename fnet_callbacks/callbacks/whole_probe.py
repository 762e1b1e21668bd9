"""The base of monitors that look at the whole probe at once, on rank 0."""

from typing import Any

from typing_extensions import override

from fnet_callbacks.callbacks.forward import Forward
from fnet_callbacks.callbacks.probe_monitor import ProbeMonitor
from fnet_callbacks.capture.batch import Batch
from fnet_callbacks.capture.probe import Probe
from fnet_callbacks.capture.trees import detached_copy, to_device


class WholeProbeMonitor(ProbeMonitor):
    """Keeps the batches of the probe until they are measured; those of other ranks are brought to rank 0.

    A subclass sets ``forward`` in ``prepare`` and takes ``batches`` in ``measure``.
    """

    forward: Forward

    @override
    def begin(self, probe: Probe) -> None:
        self._seen: dict[int, Batch] = {}

    @override
    def see(self, batch: Batch, output: Any, index: int) -> None:
        self._seen[index] = batch

    @override
    def reduce(self) -> None:
        if self.forward.world_size == 1:
            return
        own = {index: detached_copy(_parts(batch)) for index, batch in self._seen.items()}
        everywhere = {i: parts for of_rank in self.forward.gather(own) for i, parts in of_rank.items()}
        self._seen.clear()
        if self.forward.is_global_zero:
            for index, parts in everywhere.items():
                self._seen[index] = Batch(*to_device(parts, self.forward.device))

    def batches(self) -> list[Batch]:
        """The whole probe, in its order; nothing is kept of it."""
        found = [self._seen[index] for index in sorted(self._seen)]
        self._seen.clear()
        return found


def _parts(batch: Batch) -> tuple[Any, ...]:
    return batch.inputs, batch.labels, batch.n_samples, batch.mask, batch.token_labels
