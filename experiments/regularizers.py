"""The regularisations that the experiments compare, by name."""

from __future__ import annotations

from dataclasses import dataclass

from fnet_callbacks.errors import FnetError


@dataclass(frozen=True, slots=True)
class Regularizer:
    """What is added to a model, its loss and its optimiser; the default adds nothing."""

    batch_norm: bool = False
    dropout: float = 0.0  # share of units dropped
    weight_decay: float = 0.0  # Adam's: half the squared weights in the loss
    l1: float = 0.0  # times the sum of absolute weights in the loss
    label_smoothing: float = 0.0


REGULARIZERS = {
    "none": Regularizer(),
    "batch_norm": Regularizer(batch_norm=True),
    "dropout": Regularizer(dropout=0.5),
    "both": Regularizer(batch_norm=True, dropout=0.5),
    "weight_decay": Regularizer(weight_decay=1e-3),
    "l1": Regularizer(l1=1e-4),
    "label_smoothing": Regularizer(label_smoothing=0.1),
}


def regularizer(name: str) -> Regularizer:
    """The regularisation of that name.

    The first four are those of Zhang et al. (arXiv:2205.11702) and their combination; the strengths of the
    others are our choice.

    Raises:
        FnetError: There is none; the message lists the names.
    """
    if name not in REGULARIZERS:
        raise FnetError(f"regularizer must be one of {', '.join(REGULARIZERS)}, got {name!r}")
    return REGULARIZERS[name]
