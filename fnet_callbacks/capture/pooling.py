"""Max pooling on the CPU by a shorter way to the same bits."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fnet_callbacks.capture.writes import is_followed

# With fewer channels than these, bringing them last costs what it saves.
_FEWEST_CHANNELS = 4
# Bytes that are copied at once: they stay in cache, and memory does not grow with the batch.
_COPIED = 2**21


def pool_by_channels(modules: Iterable[nn.Module]) -> None:
    """Has every `torch.nn.MaxPool2d` of a model compare the channels of a pixel together.

    Where channels come first, torch's kernel for CPUs compares value by value, and may take longer than the
    convolution before it. On a copy with the channels last it takes all of them at once; values and layout are the same
    to the bit. Where gradients are recorded, where somebody follows the operations of a pass, and in a call of
    `torch.nn.functional`, everything stays as it is.

    Args:
        modules: Those of the model; pooling layers are given a ``forward`` of their own, which `isolated` takes off.

    Cost: two copies, of 2 MB or of an image, and of the result; the time of the kernel for channels that are last.
    """
    for m in modules:
        if type(m) is nn.MaxPool2d and "forward" not in vars(m):
            vars(m)["forward"] = partial(_max_pool, m)


def _max_pool(pool: nn.MaxPool2d, input: Tensor) -> Tensor:
    plain: Any = partial(nn.MaxPool2d.forward, pool)
    if pool.return_indices or is_followed() or not _gains(input):
        return plain(input)
    at_once = max(1, _COPIED // (input[0].numel() * input.element_size()))
    last = torch.channels_last
    try:
        parts = [plain(part.contiguous(memory_format=last)).contiguous() for part in input.split(at_once)]
        pooled = torch.cat(parts)
    except RuntimeError:
        # `torch.vmap` knows no layouts, autocast joins no halves; what else goes wrong the module says itself.
        return plain(input)
    # Where one pixel an image is left, the strides were still those of channels last.
    return pooled.flatten().view(pooled.shape)


def _gains(signal: Tensor) -> bool:
    """Whether these are images, channels first, for which the way by channels is shorter."""
    return (
        type(signal) is Tensor
        and signal.device.type == "cpu"
        and signal.layout is torch.strided
        and signal.is_floating_point()
        and not (torch.is_grad_enabled() and signal.requires_grad)
        and signal.dim() == 4
        and signal.shape[1] >= _FEWEST_CHANNELS
        and signal.numel() > 0
        and signal.is_contiguous()
        and signal.stride(1) > 1  # else the channels are last already
    )
