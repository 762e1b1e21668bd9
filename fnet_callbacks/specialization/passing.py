"""What lets units pass one by one: modules and operations whose output has the units that their input has."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as nnf

from fnet_callbacks.capture.calls import NONLINEARITIES

PASSING: tuple[type[nn.Module], ...] = (
    *NONLINEARITIES,
    nn.Softmax,
    nn.LogSoftmax,
    nn.Identity,
    nn.modules.dropout._DropoutNd,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
    nn.Upsample,
    nn.ZeroPad2d,
)
# Of these the output is the input itself.
IDENTICAL: tuple[type[nn.Module], ...] = (nn.Identity, nn.modules.dropout._DropoutNd)
IDENTICAL_OPERATIONS = {"contiguous", "float", "double", "half", "to", "detach", "dropout", "dropout2d"}
_OPERATIONS: Sequence[Callable[..., Any]] = (
    *(torch.relu, torch.tanh, torch.sigmoid, torch.mean, torch.clamp),
    *(nnf.relu, nnf.leaky_relu, nnf.elu, nnf.gelu, nnf.silu, nnf.softplus, nnf.hardtanh, nnf.relu6, nnf.mish),
    *(nnf.softmax, nnf.log_softmax, nnf.dropout, nnf.dropout2d, nnf.pad, nnf.interpolate),
    *(nnf.avg_pool1d, nnf.avg_pool2d, nnf.adaptive_avg_pool1d, nnf.adaptive_avg_pool2d),
)
PASSING_OPERATIONS = {f.__name__ for f in _OPERATIONS} | {
    *("max_pool1d", "max_pool2d", "adaptive_max_pool2d", "boolean_dispatch"),  # functions behind a dispatcher
    *("relu_", "clamp_", "amax", "hardswish", "hardsigmoid"),
    *IDENTICAL_OPERATIONS,
}
