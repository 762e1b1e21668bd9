"""Instruments that a user of the package might write, in a module that another process can import."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fnet_callbacks import FnetError, Instrument, Quantity
from fnet_callbacks.findings import Findings


class Confidence(Instrument):
    """How sure the model is of its first guess, how that spreads, and how it has changed since the last snapshot."""

    quantities = (
        Quantity(
            "mean",
            "mean confidence",
            "Mean probability of the *first guess*.",
            (0, 1),
            chart="sure",
        ),
        Quantity(
            "spread",
            "spread of confidence",
            "Standard deviation of that.",
            (0, 0.5),
            chart="sure",
        ),
        Quantity("change", "change of confidence", "Of the mean, since the last snapshot.", (-1, 1)),
    )

    def __init__(
        self,
        *,
        name: str = "confidence",
        every_n_steps: Any = None,
        every_n_epochs: int | None = None,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(name=name, every_n_steps=every_n_steps, every_n_epochs=every_n_epochs)
        if not temperature > 0:
            raise FnetError(f"`temperature={temperature!r}` should be above 0")
        self.temperature = temperature

    def prepare(self, forward: Any, probe: Any) -> None:
        if not isinstance(forward(forward.example.inputs), Tensor):
            raise FnetError(f"{self.name} needs logits")
        self.n_expected = probe.n_samples
        self._last = float("nan")

    def begin(self, probe: Any, num_classes: int) -> None:
        self._sums = torch.zeros(3, dtype=torch.float64)

    def see(self, batch: Any, output: Tensor) -> None:
        sure = (output / self.temperature).softmax(1).amax(1).double().cpu()
        self._sums += torch.stack([torch.ones_like(sure), sure, sure**2]).sum(1)

    def compute(self, model: Any) -> Any:
        return {"sums": self._sums, "n_parameters": sum(p.numel() for p in model.parameters())}

    def analyze(self, arrays: Mapping[str, np.ndarray]) -> Mapping[str, float] | Findings:
        n, total, squares = arrays["sums"]
        assert n == self.n_expected
        mean = total / n
        last, self._last = self._last, float(mean)
        spread = np.sqrt(max(squares / n - mean**2, 0.0))
        return {"mean": mean, "spread": spread, "change": mean - last}

    def state(self) -> dict[str, Any]:
        return {"last": self._last}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._last = state["last"]


class Whereabouts(Instrument):
    """Which process analyzes; passes nothing on but what it was made with."""

    quantities = (
        Quantity("pid", "analyst", "Process that analyzes."),
        Quantity("pid_of_training", "trainer", "Process that trains."),
    )

    def __init__(self, *, name: str = "where", every_n_steps: Any = None, every_n_epochs: Any = None) -> None:
        super().__init__(name=name, every_n_steps=every_n_steps, every_n_epochs=every_n_epochs)

    def prepare(self, forward: Any, probe: Any) -> None:
        self.pid = os.getpid()

    def analyze(self, arrays: Any) -> Findings:
        pids = [os.getpid(), self.pid]
        keys = [key.key for key in self.keys]
        found = Findings(scalars=dict(zip(keys, pids, strict=True)))
        found.arrays["pids"] = np.array(pids)
        found.notes[keys[0]] = "whoever asks"
        return found
