"""A model from a checkpoint and batches from a data set, by the names of what makes them."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
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
    with _errors_as(f"`{argument}={path!r}`"):
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    return found


def model_from(checkpoint: Path, module: str) -> nn.Module:
    """The model of a checkpoint, on the CPU and in eval mode.

    Args:
        checkpoint: Of Lightning, or a ``state_dict``. It is read without running any code that it may hold.
        module: See `named`: a LightningModule, which is built from the hyperparameters in the checkpoint, or anything
            that gives the model when called without arguments.

    Raises:
        FnetError: The checkpoint is none, or not that of the module.
    """
    if not checkpoint.is_file():
        raise FnetError(f"`checkpoint`: there is no file {checkpoint}")
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch makes of a file that is none
        raise FnetError(
            f"`checkpoint`: {checkpoint} is no checkpoint, is cut off, or holds more than tensors and plain values"
        ) from error
    if not isinstance(content, Mapping):
        raise FnetError(
            f"`checkpoint`: {checkpoint} holds a {type(content).__name__}, not the state of a model"
        )
    state = content.get("state_dict", content)
    if not isinstance(state, Mapping) or not any(isinstance(v, Tensor) for v in state.values()):
        raise FnetError(
            f"`checkpoint`: {checkpoint} holds no weights, neither by themselves nor under 'state_dict'; its keys are "
            f"{', '.join(map(str, list(content)[:8])) or 'none'}"
        )
    factory = named(module, "module")
    if not callable(factory):
        raise FnetError(
            f"`module={module!r}` names a {type(factory).__name__}; it should be a class or a function"
        )
    if hasattr(factory, "load_from_checkpoint") and "state_dict" in content:
        with _errors_as(
            f"`module={module!r}` cannot be made from the hyperparameters in {checkpoint} (call "
            "`self.save_hyperparameters()` in it, or name a function without arguments that builds the model)"
        ):
            return factory.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True).eval()
    model = factory if isinstance(factory, nn.Module) else None
    if model is None:
        with _errors_as(f"`module={module!r}` cannot be called without arguments"):
            model = factory()
    if not isinstance(model, nn.Module):
        raise FnetError(f"`module={module!r}` gives a {type(model).__name__}; it should give a model")
    with _errors_as(f"`checkpoint`: {checkpoint} is not that of `module={module!r}`"):
        model.load_state_dict({str(k): v for k, v in state.items()})
    return model.eval()


def labelled_batches(path: str, batch_size: int, model: nn.Module) -> Iterable[Any]:
    """Batches of what is named: a data module's validation data, a loader, a data set, or what gives one when called.

    Args:
        path: See `named`.
        batch_size: Of a data set.
        model: Whose transfer hooks the batches go through, where it is a LightningModule.

    Raises:
        FnetError: It is none of these.
    """
    if batch_size < 1:
        raise FnetError(f"`batch_size={batch_size}` should be an integer of at least 1")
    found: Any = named(path, "data")
    with _errors_as(f"`data={path!r}`"):
        if callable(found) and not _is_data(found):
            found = found()
        of_data = None
        if hasattr(found, "val_dataloader"):
            of_data = found
            found.prepare_data()
            found.setup("fit")
            found = found.val_dataloader()
        if isinstance(found, (list, tuple)) and found and all(isinstance(f, DataLoader) for f in found):
            found = found[0]
        if isinstance(found, Dataset):
            found = DataLoader(found, batch_size=batch_size)
    if not isinstance(found, Iterable):
        raise FnetError(
            f"`data={path!r}` gives a {type(found).__name__}; it should give a data module, a loader or a data set"
        )
    return _transferred(found, of_data, model, path)


def _is_data(found: Any) -> bool:
    """Whether it is data itself, and nothing to be called for it."""
    is_made = not isinstance(found, type)
    return is_made and (isinstance(found, (Dataset, Iterable)) or hasattr(found, "val_dataloader"))


def _transferred(loader: Iterable[Any], of_data: Any, model: nn.Module, path: str) -> Iterator[Any]:
    """Batches as the trainer would have passed them on: through the hooks of the data module, else of the model."""
    hooks = []
    for name in ("on_before_batch_transfer", "on_after_batch_transfer"):
        own = [part for part in (of_data, model) if _overrides(part, name)]
        hooks += [getattr(part, name) for part in own[:1]]
    with _errors_as(f"`data={path!r}`"):
        for batch in loader:
            passed = batch
            for hook in hooks:
                passed = hook(passed, 0)
            yield passed


def _overrides(part: Any, name: str) -> bool:
    hook = getattr(type(part), name, None)
    return hook is not None and hook.__module__.partition(".")[0] not in ("lightning", "pytorch_lightning")


@contextmanager
def _errors_as(what: str) -> Iterator[None]:
    """Raises whatever the user's own code raises as an error of ours, in a line."""
    try:
        yield
    except FnetError:
        raise
    except Exception as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines()[:3])
        raise FnetError(f"{what}: {type(error).__name__}: {reason}") from error
