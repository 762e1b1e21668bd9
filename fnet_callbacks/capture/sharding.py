"""Models whose parameters are shared out over ranks by torch's `fully_shard`: a forward pass gathers them."""

import sys
from typing import Any

from torch import nn


def sharded_parts(module: nn.Module) -> list[Any]:
    """The submodules that gather their parameters where they are called, ``FSDPModule``.

    What was never imported has sharded nothing: importing it here would cost every run a second.
    """
    fsdp = sys.modules.get("torch.distributed.fsdp")
    kind = getattr(fsdp, "FSDPModule", None)
    return [] if kind is None else [m for m in module.modules() if isinstance(m, kind)]


def reshard(module: nn.Module) -> None:
    """Lets go of what a forward pass has gathered; the outermost part would keep it until a backward pass.

    Training gathers again what it needs. Cost: none where nothing is sharded; no communication.
    """
    for part in sharded_parts(module):
        part.reshard()
