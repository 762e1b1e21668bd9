"""A context in which a model may be run, attacked and thrown about, and after which nothing has changed."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torchmetrics import Metric

_CONTAINERS = (list, dict, set)
# nn.Module's own registries; forward does not rebind what is in them, and buffers are dealt with by value.
_REGISTRIES = frozenset(vars(nn.Module())) - {"training"}
# What code commonly calls to log; silent while the context lasts.
_LOGGING_METHODS = ("log", "log_dict")


@contextlib.contextmanager
def isolated(module: nn.Module, *, seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Runs a block with ``module`` in eval mode and leaves no trace of it.

    On exit these are bit-equal to what they were: the training flag of every submodule, buffers, plain attributes
    (scalars, tensors, the contents of lists, dicts and sets), states of metrics that are attributes, random
    generators that are attributes, the global random streams of torch, CUDA, NumPy and Python, and gradients, as long
    as the block does not call ``backward``. Anything logged by ``log`` or ``log_dict`` in the block goes nowhere.

    Inside, the global streams start from ``seed``, so that a stochastic layer draws the same at every snapshot;
    gradients are off, without inference mode (a tensor that a model caches stays usable in training); compiled
    submodules run eagerly, as a compiled call ignores hooks that were added later.

    Args:
        module: The model, usually a LightningModule.
        seed: Start of the global random streams inside the block.
        device: Where the model runs; its CUDA stream is saved and restored too.

    Cost: one copy of the buffers and of the states of metrics.
    """
    modules = list(module.modules())
    saved_attributes = [_save_attributes(m) for m in modules]
    saved_buffers = [(b, b.detach().clone()) for b in _unique_buffers(modules)]
    saved_registries = [(m, dict(m._buffers)) for m in modules]
    cuda = [device] if device is not None and device.type == "cuda" else []
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's streams
    try:
        with (
            torch.random.fork_rng(devices=cuda),
            torch.inference_mode(False),
            torch.no_grad(),
            torch.compiler.set_stance("force_eager"),
            _muted(module),
        ):
            _seed_everything(seed, cuda)
            for m in modules:
                m.training = False
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        with torch.inference_mode(False), torch.no_grad():
            for m, registry in saved_registries:
                m._buffers.clear()
                m._buffers.update(registry)
            for buffer, value in saved_buffers:
                _write_back(buffer, value)
        for m, saved in zip(modules, saved_attributes, strict=True):
            _restore_attributes(m, saved)


def _seed_everything(seed: int, cuda: list[torch.device]) -> None:
    """Starts the global streams; on CUDA only the model's device, whose stream ``fork_rng`` has saved."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    for device in cuda:
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _unique_buffers(modules: list[nn.Module]) -> list[Tensor]:
    found = {id(b): b for m in modules for b in m._buffers.values() if b is not None and _is_plain(b)}
    return list(found.values())


def _is_plain(tensor: Tensor) -> bool:
    """Whether a copy can be taken and compared: initialised and dense."""
    return not is_lazy(tensor) and tensor.layout is torch.strided and not tensor.is_meta


def _write_back(tensor: Tensor, value: Tensor) -> None:
    """Writes only what differs: a write counts as a change to autograd, even one of the same bits.

    Bits are compared, so that a NaN in a buffer does not look like a difference.
    """
    if tensor.shape != value.shape or not torch.equal(_bits(tensor), _bits(value)):
        tensor.set_(value) if tensor.shape != value.shape else tensor.copy_(value)


def _bits(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return tensor.contiguous().view(torch.uint8) if tensor.dim() else tensor.reshape(1).view(torch.uint8)


def _save_attributes(module: nn.Module) -> list[tuple[str, Any, Any]]:
    """Of each attribute its name, itself, and its content where that could change in place."""
    skip = _REGISTRIES | (set(module._defaults) if isinstance(module, Metric) else set())
    saved = [(k, v, _content(v)) for k, v in vars(module).items() if k not in skip]
    if isinstance(module, Metric):
        states = {k: getattr(module, k) for k in module._defaults}
        saved += [(k, v, _content(v)) for k, v in states.items()]
    return saved


def _content(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone() if _is_plain(value) else None
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, random.Random):
        return value.getstate()
    return value.copy() if type(value) in _CONTAINERS else None


def _restore_attributes(module: nn.Module, saved: list[tuple[str, Any, Any]]) -> None:
    attributes = vars(module)
    for name, value, content in saved:
        attributes[name] = value
        if content is None:
            continue
        if isinstance(value, Tensor):
            with torch.inference_mode(False), torch.no_grad():
                _write_back(value, content)
        elif isinstance(value, torch.Generator):
            value.set_state(content)
        elif isinstance(value, np.random.Generator):
            value.bit_generator.state = content
        elif isinstance(value, random.Random):
            value.setstate(content)
        elif isinstance(value, list):
            value[:] = content
        else:
            value.clear()
            value.update(content)
    kept = {name for name, _, _ in saved} | _REGISTRIES
    for name in [k for k in attributes if k not in kept]:
        del attributes[name]


@contextlib.contextmanager
def _muted(module: nn.Module) -> Iterator[None]:
    """Silences the logging methods of every submodule that has them; attributes are restored by the caller."""
    for m in module.modules():
        for method in _LOGGING_METHODS:
            if callable(getattr(type(m), method, None)):
                vars(m)[method] = _say_nothing
    yield


def _say_nothing(*_: Any, **__: Any) -> None:
    """Stands in for a logging method."""
