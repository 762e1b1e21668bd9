"""What a run was configured with, as its manifest says it, so that runs can be told apart and grouped."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import torch

from fnet_callbacks.arguments import plain

_SEED = "PL_GLOBAL_SEED"  # where Lightning's seed_everything leaves it
_USUAL = {"precision": "32-true", "accumulate_grad_batches": 1, "gradient_clip_val": None}
_LONGEST = 200  # of a value's text; a data set that was saved as a hyperparameter need not be told in full


def configuration(trainer: pl.Trainer) -> dict[str, Any]:
    """The hyperparameters that model and data module saved, the trainer's length and unusual options, and the seed.

    One value a key: what is nested has dotted keys, ``optimizer.lr``; what is neither a number, a text nor a list of
    such is told by its text. Where model and data module save one name with two values, the data module's is under
    ``data.<name>``. Values change from run to run and tell one from the other; what the machine decided is left out.

    Args:
        trainer: While it fits.
    """
    found = dict(_flat(trainer.lightning_module.hparams_initial))
    for key, value in _flat(getattr(trainer.datamodule, "hparams_initial", None) or {}):  # type: ignore[attr-defined]
        if found.setdefault(key, value) != value:
            found[f"data.{key}"] = value
    length = {"max_epochs": trainer.max_epochs, "max_steps": trainer.max_steps}
    found |= {f"trainer.{key}": value for key, value in length.items() if value is not None and value >= 0}
    found |= {
        f"trainer.{key}": getattr(trainer, key)
        for key, usual in _USUAL.items()
        if getattr(trainer, key) != usual
    }
    if (seed := os.environ.get(_SEED, "")).isdigit():
        found["seed" if found.get("seed") is None else "seed_everything"] = int(seed)
    return found


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name in values:
        try:
            value = values[name]
        except Exception as error:  # such as a value that a configuration leaves to be filled in
            value = type(error).__name__
        key = f"{prefix}{name}"
        if str(name).startswith("_"):  # what Lightning's command line notes for itself
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{key}.")
        else:
            yield key, _plain(value)


def _plain(value: Any) -> Any:
    try:
        if isinstance(value, np.generic | np.ndarray | torch.Tensor) and not value.ndim:
            value = plain("configuration", value)
        if value is None or isinstance(value, bool | int | float | str):
            return plain("configuration", value)
        if _is_listed(value):
            found = [_plain(v) for v in cast(Any, value)]
            return sorted(found, key=repr) if isinstance(value, set | frozenset) else found
        text = str(getattr(value, "__qualname__", None) or value)
    except Exception:  # a run does not end because something cannot be told in words
        return type(value).__qualname__
    has_address = " at 0x" in text  # which differs from run to run
    return type(value).__qualname__ if has_address else text[:_LONGEST]


def _is_listed(value: Any) -> bool:
    """Whether it is told value by value: no text, and none that stands for data."""
    if isinstance(value, list | tuple | set | frozenset):
        return True
    is_other = isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | range)
    return is_other and len(value) <= _LONGEST  # OmegaConf's
