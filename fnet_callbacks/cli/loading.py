"""A model from a checkpoint and batches from a data set, by the names of what makes them."""

from __future__ import annotations

import importlib
import inspect
import os
import pickle
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from fnet_callbacks.errors import FnetError


def named(path: str, argument: str) -> Any:
    """What ``package.module:name`` names; the working folder is looked in too.

    Raises:
        FnetError: There is none; the message names ``argument``.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise FnetError(f"`{argument}={path!r}` should be 'package.module:name'")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise FnetError(f"`{argument}={path!r}`: {error}") from error
    return found


def model_from(checkpoint: Path, module: str) -> nn.Module:
    """The model of a checkpoint, on the CPU and in eval mode.

    Args:
        checkpoint: Of Lightning, or a ``state_dict``. It is read without running any code that it may hold.
        module: See `named`: a LightningModule, which is built from the hyperparameters in the checkpoint, or anything
            that gives the model when called.

    Raises:
        FnetError: The checkpoint is none, or not that of the module.
    """
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise FnetError(
            f"`checkpoint`: {checkpoint} is no checkpoint, or holds more than tensors and plain values: {reason}"
        ) from error
    if not isinstance(content, Mapping):
        raise FnetError(
            f"`checkpoint`: {checkpoint} holds a {type(content).__name__}, not the state of a model"
        )
    state = content.get("state_dict", content)
    if not isinstance(state, Mapping) or not any(isinstance(v, Tensor) for v in state.values()):
        raise FnetError(f"`checkpoint`: {checkpoint} holds no weights")
    factory = named(module, "module")
    model = factory if isinstance(factory, nn.Module) else _built(factory, module, content)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise FnetError(f"`checkpoint`: {checkpoint} is not that of `module={module!r}`: {lines}") from error
    return model.eval()


def _built(factory: Any, module: str, content: Mapping[str, Any]) -> nn.Module:
    """What the factory makes, with those hyperparameters of the checkpoint that it takes."""
    if not callable(factory):
        raise FnetError(
            f"`module={module!r}` names a {type(factory).__name__}; it should be a class or a function"
        )
    kept = content.get("hyper_parameters")
    kept = dict(kept) if isinstance(kept, Mapping) else {}
    parameters = inspect.signature(factory).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        kept = {k: v for k, v in kept.items() if k in {p.name for p in parameters}}
    try:
        model = factory(**kept)
    except TypeError as error:
        raise FnetError(
            f"`module={module!r}` cannot be built from the checkpoint's hyperparameters ({error}); call "
            "`self.save_hyperparameters()` in it, or name a function without arguments that builds the model"
        ) from error
    if not isinstance(model, nn.Module):
        raise FnetError(f"`module={module!r}` gives a {type(model).__name__}; it should give a model")
    return model


def labelled_batches(path: str, batch_size: int) -> Iterable[Any]:
    """Batches of what is named: a data module's validation data, a loader, a data set, or what gives one when called.

    Args:
        path: See `named`.
        batch_size: Of a data set.

    Raises:
        FnetError: It is none of these.
    """
    found: Any = named(path, "data")
    if inspect.isclass(found) or inspect.isroutine(found):
        try:
            found = found()
        except TypeError as error:
            raise FnetError(
                f"`data={path!r}` cannot be called without arguments ({error}); name a function that can"
            ) from error
    if hasattr(found, "val_dataloader"):
        found.prepare_data()
        found.setup("validate")
        found = found.val_dataloader()
    if isinstance(found, Dataset):
        if batch_size < 1:
            raise FnetError(f"`batch_size={batch_size}` should be an integer of at least 1")
        found = DataLoader(found, batch_size=batch_size)
    if not isinstance(found, Iterable):
        raise FnetError(
            f"`data={path!r}` gives a {type(found).__name__}; it should give a data module, a loader or a data set"
        )
    return found
