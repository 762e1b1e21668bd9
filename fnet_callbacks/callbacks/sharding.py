"""Which strategies of sharding which monitors follow; the others are refused before the first step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy

from fnet_callbacks.callbacks.forward import Forward
from fnet_callbacks.callbacks.kinds import is_a
from fnet_callbacks.capture.sharding import sharded_parts
from fnet_callbacks.errors import FnetError

if TYPE_CHECKING:
    from fnet_callbacks.callbacks.probe_monitor import ProbeMonitor


def check_sharding(trainer: pl.Trainer, monitor: ProbeMonitor, forward: Forward) -> None:
    """Refuses a monitor where it cannot call the model.

    Raises:
        FnetError: Parameters are shared out over ranks in a way that the monitor does not follow.
    """
    strategy: Any = trainer.strategy
    reason = None
    parts = sharded_parts(forward.module)
    if is_a(strategy, FSDPStrategy):
        reason = "no part of the model can be called on its own. `ModelParallelStrategy` with `fully_shard` lets us"
    elif is_a(strategy, DeepSpeedStrategy) and strategy.zero_stage_3:
        reason = "no part of the model can be called on its own. Stages 1 and 2 let us"
    elif is_a(strategy, ModelParallelStrategy) and strategy.device_mesh["tensor_parallel"].size() > 1:
        reason = (
            "a rank sees only its share of a layer's neurons. `tensor_parallel_size=1` leaves layers whole"
        )
    elif parts and not monitor.is_shard_safe:
        reason = (
            "a pass is one of all ranks together, and this monitor makes passes of its own. Leave it out, or ask it "
            "of a checkpoint"
        )
    elif any(part is not forward.called and forward.called in part.modules() for part in parts):
        reason = f"`model={monitor.model!r}` is inside of what is sharded. Call the whole of it"
    if reason is not None:
        raise FnetError(f"{monitor.name}: {type(monitor).__name__} under {type(strategy).__name__}: {reason}")
