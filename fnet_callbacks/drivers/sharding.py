"""Which strategies of sharding can be followed; the others are refused before the first step."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import nn

from fnet_callbacks.capture.sharding import sharded_parts
from fnet_callbacks.drivers.kinds import is_a


def refusal(trainer: pl.Trainer, called: nn.Module, *, makes_passes: bool) -> str | None:
    """Why a part of the model cannot be called, where parameters are shared out over ranks; None where it can.

    Args:
        trainer: Gives model and strategy.
        called: The part.
        makes_passes: Whether passes are made that are not those of all ranks together.
    """
    strategy: Any = trainer.strategy
    reason = None
    parts = sharded_parts(trainer.lightning_module)
    if is_a(strategy, FSDPStrategy):
        reason = "no part of the model can be called on its own. `ModelParallelStrategy` with `fully_shard` lets us"
    elif is_a(strategy, DeepSpeedStrategy) and strategy.zero_stage_3:
        reason = "no part of the model can be called on its own. Stages 1 and 2 let us"
    elif is_a(strategy, ModelParallelStrategy) and strategy.device_mesh["tensor_parallel"].size() > 1:
        reason = (
            "a rank sees only its share of a layer's neurons. `tensor_parallel_size=1` leaves layers whole"
        )
    elif parts and makes_passes:
        reason = (
            "a pass is one of all ranks together, and this instrument makes passes of its own. Leave it out, or ask it "
            "of a checkpoint"
        )
    elif any(part is not called and called in part.modules() for part in parts):
        name = next((name for name, part in trainer.lightning_module.named_modules() if part is called), "")
        reason = f"`model={name!r}` is inside of what is sharded. Call the whole of it"
    return reason and f"under {type(strategy).__name__}: {reason}"
