"""Early stopping on a measure that has to settle first."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EarlyStopping
from typing_extensions import override

from fnet_callbacks.arguments import as_choice, as_integer, plain


class BurnInEarlyStopping(EarlyStopping):
    """Lightning's ``EarlyStopping``, which looks away for the first epochs.

    Functional persistence falls before it rises: training on the training data alone is stopped where it no longer
    grows, from epoch ``burn_in`` on. With ``ModelCheckpoint`` on the same value the best epoch's weights are kept.

    Args:
        monitor: A key of ``trainer.callback_metrics``, such as ``fnet/functional_persistence``; a snapshot an epoch is
            wanted then.
        burn_in: Epochs that do not count, b; 0 or more.
        mode: ``"max"`` where the value should grow.
        patience: Checks without an improvement after which training stops, p.
        **options: Those of ``lightning.pytorch.callbacks.EarlyStopping``.

    Raises:
        FnetError: ``burn_in`` or ``patience`` is no integer of at least 0, or ``mode`` neither ``"min"`` nor ``"max"``.

    Reference: Zhang & Lin (2024), Functional Loops, Neural Networks.
    """

    def __init__(
        self, monitor: str, *, burn_in: int = 0, mode: str = "max", patience: int = 3, **options: Any
    ) -> None:
        options.update({name: plain(name, value) for name, value in options.items()})
        super().__init__(
            plain("monitor", monitor),
            mode=as_choice("mode", mode, ("min", "max")),
            patience=as_integer("patience", patience, at_least=0),
            **options,
        )
        self.burn_in = as_integer("burn_in", burn_in, at_least=0)

    @override
    def _should_skip_check(self, trainer: pl.Trainer) -> bool:
        return trainer.current_epoch < self.burn_in or super()._should_skip_check(trainer)
