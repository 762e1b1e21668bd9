"""A context in which a model may be run, attacked and thrown about, and after which nothing has changed."""

import contextlib
import random
import threading
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fnet_callbacks.capture.pooling import pool_by_channels
from fnet_callbacks.capture.records import GENERATORS, undo_generator
from fnet_callbacks.capture.sharding import reshard
from fnet_callbacks.capture.state import State
from fnet_callbacks.capture.writes import Writes
from fnet_callbacks.errors import CaptureError, FnetWarning
from fnet_callbacks.interrupts import handlers_held, interrupt_held

# Who has both logs to Lightning; a method that is only called `log` may be a logarithm.
_LOGGING_METHODS = ("log", "log_dict")
# Longer lists in a data set are its items, not its parts.
_FEW = 100


@contextlib.contextmanager
def isolated(
    module: nn.Module,
    *beside: object,
    seed: int,
    device: torch.device | None = None,
    writes: Writes | None = None,
) -> Iterator[None]:
    """Runs a block with ``module`` in eval mode and leaves no trace of it.

    On exit these are bit-equal to what they were, whether the block raised or not: every parameter, also one that a
    forward pass writes to, every attribute of every submodule (training flags, buffers, states of metrics, scalars,
    tensors, arrays, random generators, and what containers and objects of the model's own code hold of these), the
    global random streams of torch, CUDA, NumPy and Python, and gradients, as long as the block does not call
    ``backward``. Anything logged by ``log`` or ``log_dict`` in the block goes nowhere. What is not seen `State` says.
    Signal handlers wait until the block is left: a checkpoint that one of them saves holds no trace of it either.

    Inside, the global streams start from ``seed``, so that a stochastic layer draws the same at every
    snapshot; gradients are off, without inference mode (a tensor that a model caches stays usable in
    training); compiled submodules run eagerly and attention without its fused path, as both pass by hooks
    that were added later; max pooling takes a quicker way to the same bits (`pool_by_channels`).

    Args:
        module: The model, usually a LightningModule.
        *beside: Objects whose attributes are kept like the model's, such as a data module.
        seed: Start of the global random streams inside the block.
        device: Where the model runs; its CUDA stream is saved and restored too.
        writes: What earlier blocks over this model were seen to change. None looks at this one closely, and forgets it.

    Raises:
        CaptureError: There is a lazy module in the model whose weights are not yet there.

    Cost: one copy of the buffers, of at most a megabyte of other tensors, and of what passes change. A block that is
    looked at closely follows the operations of a model with more than a megabyte of weights, ten microseconds each.
    """
    cuda = [device] if device is not None and device.type == "cuda" else []
    writes = Writes() if writes is None else writes
    if not writes.is_settled:
        _refuse_lazy(module)
    failures: list[str] = []
    try:
        with (
            handlers_held(),
            torch.inference_mode(False),
            torch.no_grad(),
            torch.random.fork_rng(devices=cuda),
            _hooks_called,
            _streams_kept(),
        ):
            reshard(module)  # what is put back must be the shares, not what a pass has gathered
            parts = list(module.modules())
            state = State(parts, *beside, writes=writes)
            try:
                _seed_everything(seed, cuda)
                _quieten(parts)
                pool_by_channels(parts)
                with state.watched() or contextlib.nullcontext():
                    yield
            finally:
                try:
                    reshard(module)
                finally:
                    with interrupt_held():
                        failures = state.restore()
    finally:
        for failure in failures:
            warnings.warn(failure, FnetWarning, stacklevel=3)


@contextlib.contextmanager
def generators_kept(root: object) -> Iterator[None]:
    """Keeps the random generators that an object holds, such as those of a data set's augmentations, as they are.

    Args:
        root: Looked into by its attributes, and through short lists, tuples and dicts; tensors and arrays are not.
    """
    undos = [undo_generator(generator) for generator in _generators(root, set(), depth=8)]
    try:
        yield
    finally:
        for undo in undos:
            undo()


def _generators(value: Any, seen: set[int], depth: int) -> Iterator[Any]:
    if depth == 0 or id(value) in seen or isinstance(value, (Tensor, np.ndarray, str, bytes, type)):
        return
    seen.add(id(value))
    if isinstance(value, GENERATORS):
        yield value
        return
    inner = list(value.values()) if isinstance(value, dict) else value
    if isinstance(inner, (list, tuple)):
        inner = inner if len(inner) <= _FEW else ()
    else:
        inner = list(getattr(value, "__dict__", {}).values())
    for part in inner:
        yield from _generators(part, seen, depth - 1)


class _HooksAreCalled:
    """Has modules call their hooks, in all threads as long as one of them asks for it: both switches are the process's.

    Attention's fused path and compiled code pass by hooks that were added later.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._undo.callback(
                    torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled()
                )
                torch.backends.mha.set_fastpath_enabled(False)
                self._undo.enter_context(torch.compiler.set_stance("force_eager"))

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._undo.close()


_hooks_called = _HooksAreCalled()


@contextlib.contextmanager
def own_streams(seed: int, device: torch.device) -> Iterator[None]:
    """Runs a block with global random streams that start from ``seed``; what comes after draws as if it had not been.

    Args:
        seed: Start of the streams inside the block.
        device: Where the model runs.
    """
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), _streams_kept():
        _seed_everything(seed, cuda)
        yield


@contextlib.contextmanager
def _streams_kept() -> Iterator[None]:
    """Keeps Python's and NumPy's global random streams."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's streams
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002


def _refuse_lazy(module: nn.Module) -> None:
    for name, part in module.named_modules():
        tensors = (*part._parameters.values(), *part._buffers.values())
        if any(tensor is not None and is_lazy(tensor) for tensor in tensors):
            raise CaptureError(
                f"`{name or type(part).__name__}` is lazy: its weights are made by the first batch, and are not there "
                "yet. The probe would be that batch, and training would start from other weights; run the model once "
                "on a batch before the fit, in `setup` or `configure_model`"
            )


def _seed_everything(seed: int, cuda: list[torch.device]) -> None:
    """Starts the global streams; on CUDA only the model's device, whose stream ``fork_rng`` has saved."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    for device in cuda:
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _quieten(parts: Iterable[nn.Module]) -> None:
    """Sets eval mode, without calling ``eval``, which a model may have made its own; silences what logs."""
    for m in parts:
        if isinstance(m, torch.jit.ScriptModule):
            m.training = False
        else:
            vars(m)["training"] = False  # past `__setattr__`, which takes its time
        if all(callable(getattr(type(m), method, None)) for method in _LOGGING_METHODS):
            vars(m).update(dict.fromkeys(_LOGGING_METHODS, _say_nothing))
        if type(m).__module__.startswith("opacus.") and "hooks_enabled" in vars(m):
            vars(m)["hooks_enabled"] = False  # the gradient of an attack is none that has to be private


def _say_nothing(*_: Any, **__: Any) -> None:
    """Stands in for a logging method."""
