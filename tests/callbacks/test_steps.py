"""What counts as a step where Lightning announces none."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from small_models import Net, csv_record, functional_monitor, loader, mlp, trainer
from torch.optim.optimizer import _global_optimizer_post_hooks

from fnet_callbacks import FnetWarning


class OwnStep(Net):
    """Steps the raw optimiser in `optimizer_step`."""

    def optimizer_step(
        self, epoch: Any, batch_idx: Any, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        optimizer_closure()
        optimizer.optimizer.step()


class Manual(Net):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.zero_grad()
        self.manual_backward(super().loss(batch)[0])
        self.move(batch_idx)

    def move(self, batch_idx: int) -> None:
        raise NotImplementedError


class Raw(Manual):
    """Steps what `use_pl_optimizer=False` gives."""

    def move(self, batch_idx: int) -> None:
        self.optimizers(use_pl_optimizer=False).step()  # type: ignore[union-attr]


class EverySecond(Manual):
    """Accumulates by hand over two batches."""

    def move(self, batch_idx: int) -> None:
        if batch_idx % 2:
            self.optimizers(use_pl_optimizer=False).step()  # type: ignore[union-attr]


class InBackward(Manual):
    """Each parameter has an optimiser of its own, which steps when its gradient is there."""

    def configure_optimizers(self) -> None:
        own = {p: torch.optim.SGD([p], lr=0.1) for p in self.parameters()}
        for parameter in self.parameters():
            parameter.register_post_accumulate_grad_hook(lambda p: own[p].step())

    def move(self, batch_idx: int) -> None:
        pass


class ByHand(Manual):
    """No optimiser at all; weights are moved where autograd does not count it."""

    def configure_optimizers(self) -> None:
        return None

    def move(self, batch_idx: int) -> None:
        for p in self.parameters():
            p.data.sub_(0.1 * p.grad)  # type: ignore[arg-type]


class ByHandEverySecond(ByHand):
    def move(self, batch_idx: int) -> None:
        if batch_idx % 2:
            super().move(batch_idx)


class Hebbian(ByHand):
    """What learns are buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("traces", torch.zeros(3))
        self.requires_grad_(False)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.traces += 1


class SkipsBatches(Net):
    """Steps in every second batch, of which Lightning counts all."""

    def optimizer_step(
        self, epoch: Any, batch_idx: Any, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        optimizer_closure()
        if batch_idx % 2:
            optimizer.optimizer.step()


class Adapting(SkipsBatches):
    """Adapts a weight of its own to each batch that it is shown in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(8))
        self.inner = [torch.optim.SGD([self.shift], lr=0.1)]

    def forward(self, x: Any) -> Any:
        if not self.training:
            self.shift.grad = torch.ones(8)
            self.inner[0].step()
        return super().forward(x + self.shift)


class OthersStep(ByHandEverySecond):
    """An optimiser of something else steps in every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.other = [mlp(2)]
        self.own = torch.optim.SGD(self.other[0].parameters(), lr=0.1)

    def move(self, batch_idx: int) -> None:
        self.own.step()
        super().move(batch_idx)


def fit(folder: Path, model: Any) -> tuple[list[int], list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FnetWarning)
        watched = functional_monitor(2, measures="fast")
        trainer(folder, watched, logger=CSVLogger(folder, name="csv")).fit(model, loader())
    said = [str(w.message) for w in caught if issubclass(w.category, FnetWarning)]
    return csv_record(folder).steps, said


@pytest.mark.filterwarnings("ignore:`LightningModule.configure_optimizers` returned `None`")
@pytest.mark.parametrize(
    "model, steps, says",
    [
        (OwnStep, [0, 2, 4, 6, 8], "an optimiser of the model steps"),
        (Raw, [0, 2, 4, 6, 8], "an optimiser of the model steps"),
        (EverySecond, [0, 2, 4], "an optimiser of the model steps"),
        (InBackward, [0, 2, 4, 6, 8], "an optimiser of the model steps"),
        (ByHand, [0, 2, 4, 6, 8], "weights are others"),
        (ByHandEverySecond, [0, 2, 4], "weights are others"),
        (Hebbian, [0, 2, 4, 6, 8], "weights are others"),
        (OthersStep, [0, 2, 4], "weights are others"),
        (SkipsBatches, [0, 2, 4], "an optimiser of the model steps"),
        (Adapting, [0, 2, 4], "an optimiser of the model steps"),
        (Net, [0, 2, 4, 6, 8], None),
    ],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_a_step_is_seen_by_whatever_way_weights_move(
    tmp_path: Path, model: Any, steps: list[int], says: str | None
) -> None:
    found, said = fit(tmp_path, model())
    assert found == steps
    assert len(said) == (says is not None)
    assert says is None or says in said[0]


def test_no_hook_is_left_on_torchs_optimisers(tmp_path: Path) -> None:
    before = len(_global_optimizer_post_hooks)
    fit(tmp_path, Net())
    assert len(_global_optimizer_post_hooks) == before
