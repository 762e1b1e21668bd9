"""A context in which a model may be run, attacked and thrown about, and after which nothing has changed."""

import contextlib
import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fnet_callbacks.capture.pooling import pool_by_channels
from fnet_callbacks.capture.sharding import reshard

# Torch's registries of hooks, a dozen a module: those that a pass attaches are removed by who attached them.
_HOOKS = frozenset(name for name in vars(nn.Module()) if "hook" in name)
# Who has both logs to Lightning; a method that is only called `log` may be a logarithm.
_LOGGING_METHODS = ("log", "log_dict")
# Longer lists in a data set are its items, not its parts.
_FEW = 100


@contextlib.contextmanager
def isolated(module: nn.Module, *, seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Runs a block with ``module`` in eval mode and leaves no trace of it.

    On exit these are bit-equal to what they were, whether the block raised or not: every attribute of every
    submodule (training flags, buffers, states of metrics, scalars, tensors, arrays, random generators, and
    what lists, dicts and sets hold of these), the global random streams of torch, CUDA, NumPy and Python,
    and gradients, as long as the block does not call ``backward``. Anything logged by ``log`` or
    ``log_dict`` in the block goes nowhere. State that an attribute of some other class keeps is not seen.

    Inside, the global streams start from ``seed``, so that a stochastic layer draws the same at every
    snapshot; gradients are off, without inference mode (a tensor that a model caches stays usable in
    training); compiled submodules run eagerly and attention without its fused path, as both pass by hooks
    that were added later; max pooling takes a quicker way to the same bits (`pool_by_channels`).

    Args:
        module: The model, usually a LightningModule.
        seed: Start of the global random streams inside the block.
        device: Where the model runs; its CUDA stream is saved and restored too.

    Cost: one copy of the buffers and of the tensors and arrays that are attributes.
    """
    cuda = [device] if device is not None and device.type == "cuda" else []
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's streams
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.random.fork_rng(devices=cuda),
        _hooks_are_called(),
    ):
        reshard(module)  # what is put back must be the shares, not what a pass has gathered
        undo = _undo_modules(module)
        try:
            _seed_everything(seed, cuda)
            _quieten(module)
            pool_by_channels(module)
            yield
        finally:
            reshard(module)
            undo()
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002


@contextlib.contextmanager
def generators_kept(root: object) -> Iterator[None]:
    """Keeps the random generators that an object holds, such as those of a data set's augmentations, as they are.

    Args:
        root: Looked into by its attributes, and through short lists, tuples and dicts; tensors and arrays are not.
    """
    undos = [undo for g in _generators(root, set(), depth=8) if (undo := _undo_generator(g)) is not None]
    try:
        yield
    finally:
        for undo in undos:
            undo()


def _generators(value: Any, seen: set[int], depth: int) -> Iterator[Any]:
    if depth == 0 or id(value) in seen or isinstance(value, (Tensor, np.ndarray, str, bytes, type)):
        return
    seen.add(id(value))
    if isinstance(value, (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)):
        yield value
        return
    inner = list(value.values()) if isinstance(value, dict) else value
    if isinstance(inner, (list, tuple)):
        inner = inner if len(inner) <= _FEW else ()
    else:
        inner = list(getattr(value, "__dict__", {}).values())
    for part in inner:
        yield from _generators(part, seen, depth - 1)


@contextlib.contextmanager
def _hooks_are_called() -> Iterator[None]:
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _seed_everything(seed: int, cuda: list[torch.device]) -> None:
    """Starts the global streams; on CUDA only the model's device, whose stream ``fork_rng`` has saved."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    for device in cuda:
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _quieten(module: nn.Module) -> None:
    """Sets eval mode, without calling ``eval``, which a model may have made its own; silences what logs."""
    for m in module.modules():
        m.training = False
        if all(callable(getattr(type(m), method, None)) for method in _LOGGING_METHODS):
            vars(m).update(dict.fromkeys(_LOGGING_METHODS, _say_nothing))


def _say_nothing(*_: Any, **__: Any) -> None:
    """Stands in for a logging method."""


def _undo_modules(module: nn.Module) -> Callable[[], None]:
    """What brings back all attributes of all submodules."""
    seen: set[int] = set()
    undos = []
    for m in module.modules():
        seen.update(id(hooks) for name, hooks in vars(m).items() if name in _HOOKS)
        undos.append(_undo_mapping(vars(m), seen))
        if isinstance(m, torch.jit.ScriptModule):
            undos.append(_undo_scripted(m))
        if getattr(m, "max_norm", None) is not None and (weight := m._parameters.get("weight")) is not None:
            undos.append(_undo_tensor(weight))  # an embedding that renormalises its weight, in eval mode too

    def undo() -> None:
        for bring_back in undos:
            bring_back()

    return undo


def _undo_scripted(module: torch.jit.ScriptModule) -> Callable[[], None]:
    """What brings back a scripted module's mode and tensors, which are no attributes of Python's."""
    was_training = module.training
    undos = [_undo_tensor(buffer) for buffer in module.buffers(recurse=False)]

    def undo() -> None:
        module.training = was_training
        for bring_back in undos:
            bring_back()

    return undo


def _undo_content(value: Any, seen: set[int]) -> Callable[[], None] | None:
    """What brings back a value's content; None where that cannot change or is dealt with already.

    A parameter may not be written to by forward, and is kept by reference.
    """
    # First what there is most of; a parameter and a submodule are dealt with elsewhere.
    if (
        value is None
        or isinstance(value, (bool, int, float, str, nn.Module, nn.Parameter))
        or id(value) in seen
    ):
        return None
    if isinstance(value, Tensor):
        seen.add(id(value))
        return _undo_tensor(value) if _is_plain(value) else None
    if isinstance(value, dict):
        return _undo_mapping(value, seen)
    if isinstance(value, (list, deque, set)):
        return _undo_collection(value, seen)
    if isinstance(value, np.ndarray):
        return _undo_array(value)
    return _undo_generator(value)


def _undo_mapping(mapping: dict[Any, Any], seen: set[int]) -> Callable[[], None]:
    seen.add(id(mapping))
    items = dict(mapping)
    inner = [u for v in items.values() if (u := _undo_content(v, seen)) is not None]

    def undo() -> None:
        mapping.clear()
        for key in items:  # not `update`, which adds in a Counter
            mapping[key] = items[key]
        for bring_back in inner:
            bring_back()

    return undo


def _undo_collection(collection: list[Any] | deque[Any] | set[Any], seen: set[int]) -> Callable[[], None]:
    seen.add(id(collection))
    items = list(collection)
    inner = [u for v in items if (u := _undo_content(v, seen)) is not None]

    def undo() -> None:
        collection.clear()
        collection.update(items) if isinstance(collection, set) else collection.extend(items)
        for bring_back in inner:
            bring_back()

    return undo


def _undo_array(array: np.ndarray) -> Callable[[], None] | None:
    if not array.flags.writeable:
        return None
    content = array.copy()
    return lambda: np.copyto(array, content)


def _undo_generator(value: Any) -> Callable[[], None] | None:
    if isinstance(value, torch.Generator):
        state: Any = value.get_state()
        return lambda: value.set_state(state) and None
    if isinstance(value, np.random.Generator):
        state = value.bit_generator.state
        return lambda: setattr(value.bit_generator, "state", state)
    if isinstance(value, np.random.RandomState):
        state = value.get_state()
        return lambda: value.set_state(state)
    if isinstance(value, random.Random):
        state = value.getstate()
        return lambda: value.setstate(state)
    return None


def _is_plain(tensor: Tensor) -> bool:
    """Whether a copy can be taken and compared: initialised and dense."""
    return not is_lazy(tensor) and tensor.layout is torch.strided and not tensor.is_meta


def _undo_tensor(tensor: Tensor) -> Callable[[], None]:
    content = tensor.detach().clone()

    def undo() -> None:
        # Only what differs is written: to autograd a write is a change, even one of the same bits.
        if tensor.shape != content.shape or tensor.dtype != content.dtype:
            tensor.data = content
        elif not torch.equal(_bits(tensor), _bits(content)):
            tensor.copy_(content)

    return undo


def _bits(tensor: Tensor) -> Tensor:
    """The bytes of a tensor, so that a NaN does not look like a difference."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)
