"""Everything that training is made of, written down at every batch, so that two runs can be compared to the bit."""

import random
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric


class Trace(pl.Callback):
    """Writes down everything that training is made of, at every batch."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._note(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        self._note(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._note(trainer, pl_module)

    def _note(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        line: dict[str, Any] = {f"weight {k}": v for k, v in module.state_dict().items()}
        line |= {f"gradient {k}": p.grad for k, p in module.named_parameters()}
        line |= {f"buffer {k}": b for k, b in module.named_buffers()}
        line |= {f"mode {k}": m.training for k, m in module.named_modules()}
        for i, optimizer in enumerate(trainer.optimizers):
            for j, state in optimizer.state_dict()["state"].items():
                line |= {f"optimiser {i} {j} {k}": v for k, v in state.items()}
        line["torch"] = torch.get_rng_state()
        line["numpy"] = repr(np.random.get_state())  # noqa: NPY002
        line["python"] = random.getstate()
        line |= {f"own {k}": v for k, m in module.named_modules() for k, v in _own_state(k, m)}
        line |= {f"logged {k}": v for k, v in trainer.callback_metrics.items() if not is_ours(k)}
        self.lines.append({k: _bits(v) for k, v in line.items()})


def _bits(value: Any) -> Any:
    if isinstance(value, Tensor):
        flat = value.detach().cpu().reshape(-1).contiguous().view(torch.uint8)
        return value.dtype, tuple(value.shape), flat.numpy().tobytes()
    return value


def _own_state(name: str, module: nn.Module) -> Iterator[tuple[str, Any]]:
    """What a module keeps beside its weights and buffers: states of metrics, generators, counts, lists of numbers."""
    if isinstance(module, Metric):
        yield from ((f"{name}.{key}", state) for key, state in module.metric_state.items())
        return
    for key, value in vars(module).items():
        if isinstance(value, torch.Generator):
            yield f"{name}.{key}", value.get_state()
        elif isinstance(value, (bool, int, float, str)) and not key.startswith("_"):
            yield f"{name}.{key}", value
        elif isinstance(value, list) and all(isinstance(v, float) for v in value):
            yield f"{name}.{key}", list(value)


def is_ours(key: str) -> bool:
    return key.startswith(("monitor", "fnet", "robust", "lesion", "specialization", "regions", "codes"))


def assert_same(bare: list[dict[str, Any]], watched: list[dict[str, Any]]) -> None:
    """Two traces are equal to the bit; else what differs first is named."""
    assert len(watched) == len(bare)
    for number, (expected, found) in enumerate(zip(bare, watched, strict=True)):
        assert found.keys() == expected.keys()
        assert not (differ := [k for k in expected if found[k] != expected[k]]), f"note {number}: {differ}"
