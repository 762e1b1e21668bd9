"""The monitor: the Lightning callback that takes snapshots while a trainer fits."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, ParamSpec, cast

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from fnet_callbacks import instruments as instruments_room
from fnet_callbacks.arguments import naming_unknown
from fnet_callbacks.drivers.awaiting import reads_now, waiting_when_read
from fnet_callbacks.drivers.steps import StepWatch
from fnet_callbacks.drivers.trainer_host import TrainerHost
from fnet_callbacks.engine.engine import Engine
from fnet_callbacks.engine.options import Options
from fnet_callbacks.errors import FnetError, FnetWarning
from fnet_callbacks.instruments.arguments import Figures
from fnet_callbacks.instruments.instrument import Instrument

_KEY = "fnet_callbacks"
P = ParamSpec("P")


def _naming_unknown(init: Callable[P, None]) -> Callable[P, None]:
    """The constructor of the monitor, which sends options of instruments to them."""

    def elsewhere(name: str) -> str:
        for module in pkgutil.iter_modules(instruments_room.__path__, f"{instruments_room.__name__}."):
            importlib.import_module(module.name)
        known = [k for k in _below(Instrument) if name in inspect.signature(k).parameters]
        kinds = [k.__name__ for k in known if not set(k.__bases__) & set(known)]
        shown = ", ".join(f"{kind}({name}=...)" for kind in kinds)
        return f"it belongs to instruments: {shown}" if kinds else ""

    return naming_unknown(init, elsewhere)


class _OfObjects(property):
    """A property that says what is wrong where a trainer was given the class."""

    @override
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None and owner is not None:
            raise AttributeError(
                f"`callbacks` has the class {owner.__name__}; it should be an object, {owner.__name__}(...)"
            )
        return super().__get__(instance, owner)


def _below(kind: type) -> Iterator[type]:
    """All classes that inherit from one, in the order of their making."""
    for below in kind.__subclasses__():
        yield below
        yield from _below(below)


class Monitor(Callback):
    """Watches what the neurons of a model do together while it trains.

    Every N steps it shows the model a fixed set of inputs, the probe, and takes a snapshot: each of its instruments
    measures what it sees. Values go to ``trainer.callback_metrics`` (so that ``EarlyStopping``, ``ModelCheckpoint`` and
    tuners act on them) and to a record in the run's folder, `read_record`; those of the whole network also to all
    loggers. One snapshot is taken before the first step and one after the last.

    Training is not touched: weights, optimiser, buffers, random streams, modes and gradients are bit-equal with and
    without it. A trainer has one monitor. Of all that it does ``monitor/...`` and ``monitor_cost/<instrument>/<part>``
    say when it was done and what it cost.

    Args:
        instruments: What is measured, each with a name of its own: a list, one alone, or a mapping, the keys of which
            mean nothing. Default: ``FunctionalNetwork()``.
        every_n_steps: Steps between snapshots; a step is a batch that stepped an optimiser. ``"log"`` takes ten a
            decade: 1, 2, 3, 4, 5, 6, 8, 10, 13, ... Default: 100. An instrument that has no schedule of its own takes a
            multiple of it: the functional network each snapshot, attacks, lesions, regions and codes each tenth, local
            specialization each hundredth.
        every_n_epochs: Epochs between snapshots, in place of steps; each is taken at the last batch of its epoch.
        overhead_budget: Share of the wall time that all snapshots together should cost the run at most, in (0, 1]. What
            counts is the time of the training thread, and the worker's CPU time as far as training waited for a core.
            Where it affords a part of what is due, the cheaper instruments go first. What the run will wait for at its
            end is kept free; the first and the last snapshot are always taken, so that a short run may cost more.
            ``monitor/interval``, ``monitor/overhead_share`` and ``monitor/skipped`` are logged. None for no limit.
        worker: Where snapshots are analyzed: ``"process"`` in a process of its own while training goes on, ``"inline"``
            on the training thread. ``"auto"`` takes the process where a core is left for it, by the affinity or quota
            of this one, torch's threads, the model's device, other ranks and loader processes: where training uses all
            cores, another process slows it by more than the time that it takes. The record says which was taken and
            why. The numbers are the same.
        when_busy: Where the worker is behind, ``"wait"`` until it has caught up, so that no snapshot is left out, or
            ``"skip"`` the snapshot; ``monitor/skipped`` counts.
        probe: A map-style data set, or a loader of one, that the inputs are drawn from; a dotted path to a function
            that returns one. Default: the validation data, else the training data.
        probe_size: Inputs in the probe, S.
        probe_seed: Of the draw of inputs, neurons and tokens; independent of the run's seed, so that runs see the same.
        batch_to_inputs: From a batch to the model's inputs: a function, its dotted path, or the key or place of an
            entry, such as ``"image"`` or 0.
        batch_to_labels: From a batch to labels ``[S]``; the same.
        model: Name of the submodule to call where the LightningModule has no ``forward``.
        figures: ``"log"`` draws the snapshots 0, 1, 2, 4, 8, ... of each instrument and the last; an integer every k-th
            and the last; None or False none. Where no core is free for them the graph alone is drawn, in at most 2 % of
            the run's time, and at its end. ``fnet figures`` draws any snapshot, and more of each, from the record.
        log: What the loggers get of the values. ``"auto"`` is each instrument's measures of the whole network, all of
            ``FunctionalCodes``, and ``monitor/...``; measures of layers and parts of the cost are left out. ``"all"``
            is everything. Glob patterns over keys, such as ``["fnet/*", "fnet_layers/01/*"]``, are logged in place of
            that; ``*`` also stands for ``/``, ``[]`` for nothing at all. Values that are NaN or infinite are never
            written to a logger. The record and ``trainer.callback_metrics`` have every value in any case.
        folder: The run's folder, in which the record is ``fnet/``. Default: the log directory of the run.
        on_error: ``"warn"`` lets training go on where a measure fails, ``"raise"`` does not.

    Raises:
        FnetError: An argument is out of range; or, before the first step, model or data do not fit it, or a pattern of
            ``log`` matches no key.

    Example:
        >>> from fnet_callbacks import FunctionalNetwork, Monitor, Robustness
        >>> monitor = Monitor([FunctionalNetwork(density=0.1), Robustness(bounds=(0, 1))], every_n_steps=50)
    """

    @_naming_unknown
    def __init__(
        self,
        instruments: Instrument | Sequence[Instrument] | None = None,
        *,
        every_n_steps: int | Literal["log"] | None = None,
        every_n_epochs: int | None = None,
        overhead_budget: float | None = None,
        worker: Literal["auto", "process", "inline"] = "auto",
        when_busy: Literal["wait", "skip"] = "wait",
        probe: Any = None,
        probe_size: int = 1024,
        probe_seed: int = 0,
        batch_to_inputs: Callable[[Any], Any] | str | int | None = None,
        batch_to_labels: Callable[[Any], Any] | str | int | None = None,
        model: str | None = None,
        figures: Figures | bool = "log",
        log: str | Sequence[str] = "auto",
        folder: str | Path | None = None,
        on_error: Literal["warn", "raise"] = "warn",
    ) -> None:
        self.options = Options.of(
            instruments=instruments,
            every_n_steps=every_n_steps,
            every_n_epochs=every_n_epochs,
            overhead_budget=overhead_budget,
            worker=worker,
            when_busy=when_busy,
            probe=probe,
            probe_size=probe_size,
            probe_seed=probe_seed,
            batch_to_inputs=batch_to_inputs,
            batch_to_labels=batch_to_labels,
            model=model,
            figures=figures,
            log=log,
            folder=folder,
            on_error=on_error,
        )
        self._engine: Engine | None = None
        self._state: dict[str, Any] | None = None

    @property
    def instruments(self) -> list[Instrument]:
        """What it measures."""
        return list(self.options.instruments)

    @_OfObjects
    def state_key(self) -> str:
        """Of the checkpoint: settings may change between a run and its resumption."""
        return _KEY

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        callbacks = cast(Any, trainer).callbacks
        if sum(isinstance(callback, Monitor) for callback in callbacks) > 1:
            raise FnetError(
                "the trainer has two monitors, and a run has one record; give one monitor all `instruments`"
            )
        self._host = TrainerHost(trainer)
        self._engine = Engine(self._host, self.options)
        self._trainer = trainer
        self._steps = StepWatch(trainer)
        self._awaiting = ExitStack()
        self._is_alone = trainer.world_size == 1  # else ranks have to wait together
        if trainer.global_step > 0 and self._state is not None:  # the same trainer fits on
            self.load_state_dict(self._state)

    @override
    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if (engine := self._engine) is None:
            return
        if not engine.is_open:
            self._open(engine, batch)
        engine.before_batch(batch)
        self._steps.begin_batch()

    def _open(self, engine: Engine, batch: Any) -> None:
        if self._is_alone:
            self._awaiting.enter_context(waiting_when_read(self._trainer, engine.drain))
        engine.open(batch)
        self._steps.open()

    @override
    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        if self._engine is not None:
            self._steps.announce()

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (engine := self._engine) is None:
            return
        engine.after_batch(self._steps.was_step, ends_epoch=self._ends_epoch)
        if not engine.is_pending:
            return
        if self._is_alone:
            if engine.error is not None:
                engine.drain()
        # Callbacks that stand before the monitor look at an epoch's end before it has its turn.
        elif trainer.is_last_batch or reads_now(trainer, engine.keys):
            engine.drain()

    def _ends_epoch(self) -> int | None:
        """The number of the epoch whose last batch has just passed, from 1; else None."""
        return self._trainer.current_epoch + 1 if self._trainer.is_last_batch else None

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._drain_together()

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._drain_together()

    def _drain_together(self) -> None:
        """Before others look at the values, at the end of an epoch or of a validation."""
        if self._engine is not None and not self._is_alone:
            self._engine.drain()

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self._engine is not None:
            self._engine.finish()

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        if self._engine is None:
            return
        try:
            self._state = self.state_dict()  # the same trainer may fit on; Lightning does not tear down
        finally:
            self._close()

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if self._engine is not None:
            self._state = self.state_dict()
            self._close()
            self._host.shorten(self._engine.expendable)
            self._engine = None
            del self._trainer, self._host, self._steps, self._awaiting  # what is left can be pickled

    def _close(self) -> None:
        self._steps.close()
        self._awaiting.close()
        assert self._engine is not None
        self._engine.close()

    # Lightning would refuse two monitors with a sentence about keys; it sees through a wrapper to its own method.
    @override
    @cast(Any, functools.wraps(Callback.state_dict))
    def state_dict(self) -> dict[str, Any]:
        return (self._state or {}) if self._engine is None else self._engine.state()

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._engine is None or not state_dict:
            self._state = state_dict or None
            return
        try:
            self._engine.go_on_from(state_dict)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FnetError(
                f"the checkpoint's state of the monitor is none that it wrote ({error!r}); leave it out of the "
                "checkpoint, under callbacks, or resume with the version that wrote it"
            ) from error

    @override
    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        states: Mapping[str, Any] = checkpoint.get("callbacks") or {}
        old = {key: state for key, state in states.items() if _is_of_old_callbacks(state)}
        if self._engine is None or _KEY in states or not old:
            return
        self._engine.begin_at(max(state["step"] for state in old.values()))
        warnings.warn(
            f"the checkpoint was written with {', '.join(map(repr, old))}, callbacks of an earlier version: weights "
            "and all else go on from it, the record begins anew",
            FnetWarning,
            stacklevel=2,
        )


def _is_of_old_callbacks(state: Any) -> bool:
    """Whether it is what a callback of the time before there was one monitor left in a checkpoint."""
    has_its_keys = isinstance(state, dict) and {"step", "last_steps", "record", "carry"} <= state.keys()
    return has_its_keys and isinstance(state["step"], int)
