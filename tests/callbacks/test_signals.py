"""Checkpoints that a signal's handler saves, as a scheduler has it: whole, whenever the signal comes."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from processes import children_of, eventually
from small_models import Net, functional_monitor, loader, mlp, trainer
from torch import Tensor, nn

from fnet_callbacks import read_record
from fnet_callbacks.interrupts import handlers_held, interrupt_held

SIGNAL = signal.SIGUSR1


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = signal.getsignal(SIGNAL)
    yield
    signal.signal(SIGNAL, before)


class Seeing(nn.Module):
    """Has a buffer that a pass of ours would leave its traces in, and raises a signal within one, at step 4."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(16)
        self.register_buffer("seen", torch.zeros(()))
        self.batches = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        self.batches += self.training
        if not self.training and self.batches == 4:
            signal.raise_signal(SIGNAL)
        return self.net(x)


class Saving(pl.Callback):
    """Saves a checkpoint in the handler, as SLURM's requeue does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.saved: list[int] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        def handle(*_: Any) -> None:
            if not self.saved:
                self.saved.append(trainer.global_step)
                trainer.save_checkpoint(self.path)

        signal.signal(SIGNAL, handle)


def run(folder: Path, *callbacks: Any, worker: str, resume: Path | None = None, net: Any = None) -> None:
    pl.seed_everything(0, verbose=False)
    # The checkpoint stands in the middle of an epoch, which a resumed run begins again.
    monitor = functional_monitor(2, measures="fast", worker=worker)
    fitted = trainer(folder, *callbacks, monitor, logger=CSVLogger(folder, name="csv"), max_epochs=2)
    fitted.fit(Net(net), loader(), ckpt_path=None if resume is None else str(resume))


def record_of(folder: Path, version: int = 0) -> Any:
    return read_record(folder / "csv" / f"version_{version}" / "fnet")


@pytest.mark.parametrize("worker", ["inline", "process"])
def test_a_checkpoint_asked_for_within_a_pass_holds_no_trace_of_it_and_its_snapshot(
    tmp_path: Path, worker: str
) -> None:
    path = tmp_path / "requeue.ckpt"
    run(tmp_path, Saving(path), worker=worker, net=Seeing())
    state = torch.load(path, weights_only=True)
    step = state["callbacks"]["fnet_callbacks"]["step"]
    assert step == 4
    assert state["state_dict"]["net.seen"].item() == 8 * step
    assert state["callbacks"]["fnet_callbacks"]["last_step"] == step
    assert state["callbacks"]["fnet_callbacks"]["instruments"]["fnet"]["last_step"] == step
    kept = read_record(state["callbacks"]["fnet_callbacks"]["record"])
    assert kept.steps[:3] == [0, 2, 4]


@pytest.mark.filterwarnings("ignore:.*resuming from a checkpoint saved before the epoch ended.*")
@pytest.mark.filterwarnings("ignore:.*resuming from a checkpoint that ended before the epoch ended.*")
def test_a_checkpoint_asked_for_while_training_waits_for_the_worker_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "requeue.ckpt"
    saving = Saving(path)

    class Looking(pl.Callback):
        """Waits for the worker, which is still starting, and is disturbed while it does."""

        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 2:
                timer = threading.Timer(0.1, os.kill, (os.getpid(), SIGNAL))
                timer.start()
                assert "fnet/modularity" in trainer.callback_metrics
                timer.join()
                signal.pthread_sigmask(signal.SIG_BLOCK, [])  # a turn for the handler

    # Behind the monitor, so that the snapshot is on its way.
    monitor_first = Looking()
    pl.seed_everything(0, verbose=False)
    monitor = functional_monitor(2, measures="fast", worker="process", on_error="warn")
    fitted = trainer(
        tmp_path, saving, monitor, monitor_first, logger=CSVLogger(tmp_path, name="csv"), max_epochs=2
    )
    fitted.fit(Net(), loader())
    assert saving.saved == [2]
    assert record_of(tmp_path).steps == [0, 2, 4, 6, 8, 10, 12, 14, 16]
    state = torch.load(path, weights_only=True)["callbacks"]["fnet_callbacks"]
    assert (state["step"], state["last_step"]) == (2, 2)
    assert "fnet/modularity" in state["values"]
    run(tmp_path, worker="process", resume=path)
    assert record_of(tmp_path, 1).steps[:3] == [0, 2, 4]


def test_signals_sent_to_all_of_a_job_end_neither_worker_nor_painter(tmp_path: Path) -> None:
    sent: list[int] = []

    class Sending(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step in (2, 9):
                for child in children_of(os.getpid()):
                    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGHUP):
                        os.kill(child, number)
                        sent.append(child)

    pl.seed_everything(0, verbose=False)
    monitor = functional_monitor(2, measures="fast", worker="process", on_error="warn", figures=1)
    trainer(tmp_path, monitor, Sending(), logger=CSVLogger(tmp_path, name="csv"), max_epochs=2).fit(
        Net(), loader()
    )
    assert sent
    assert record_of(tmp_path).steps == [0, 2, 4, 6, 8, 10, 12, 14, 16]
    assert eventually(lambda: not children_of(os.getpid()))


def test_held_handlers_run_in_order_when_the_outermost_block_is_left() -> None:
    came: list[int] = []
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda n, _: came.append(n))
    with handlers_held():
        with handlers_held():
            signal.raise_signal(signal.SIGUSR2)
            signal.raise_signal(signal.SIGUSR1)
        assert came == []
    assert came == [signal.SIGUSR2, signal.SIGUSR1]
    assert signal.getsignal(signal.SIGUSR2) is not signal.SIG_DFL
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)


def test_ctrl_c_still_ends_a_block() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # another test may have left its own
    try:
        check_that_ctrl_c_ends_a_block()
    finally:
        signal.signal(signal.SIGINT, before)


def check_that_ctrl_c_ends_a_block() -> None:
    with pytest.raises(KeyboardInterrupt), handlers_held():
        signal.raise_signal(signal.SIGINT)
    came: list[str] = []

    def interrupted_block() -> None:
        with interrupt_held():
            signal.raise_signal(signal.SIGINT)
            came.append("its end")

    with pytest.raises(KeyboardInterrupt):
        interrupted_block()
    assert came == ["its end"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
