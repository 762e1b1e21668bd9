"""The base of all monitors: Lightning's hooks, the settings of the probe, and what a checkpoint holds."""

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, cast

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from fnet_callbacks.arguments import as_choice, as_integer, as_text, plain
from fnet_callbacks.callbacks.forward import Forward
from fnet_callbacks.callbacks.schedule import Budget, Schedule
from fnet_callbacks.callbacks.session import Session
from fnet_callbacks.capture.batch import Batch
from fnet_callbacks.capture.batches import as_getter, path_of
from fnet_callbacks.capture.probe import Probe
from fnet_callbacks.capture.reader import BatchReader
from fnet_callbacks.capture.watcher import Watcher
from fnet_callbacks.errors import FnetError
from fnet_callbacks.history import Previous
from fnet_callbacks.scope import Stopwatch
from fnet_callbacks.worker.jobs import Measured, NetworkPlan, Reading

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class ProbeMonitor(Callback):
    """Measures the model on a fixed probe every N steps, without touching training.

    Monitors of one trainer share a session: its schedule, its passes over the probe, its record and its sinks. The
    first of them in the trainer's list drives it; which one that is makes no difference.

    Args:
        every_n_steps: Steps between snapshots; a step is a batch that stepped an optimiser. One snapshot is taken
            before the first step and one after the last. ``"log"`` takes ten a decade: 1, 2, 3, 4, 5, 6, 8, 10, 13, ...
        name: Prefix of the keys, key of the state in a checkpoint; unique in the trainer. The record, which monitors of
            one trainer share, is in the folder of the first of them by name, the functional network's before others'.
        overhead_budget: Share of the wall time that this monitor's snapshots should cost the run at most, in (0, 1];
            others have their own. What counts is the time of the training thread, and the worker's CPU time as far as
            training waited for a core. The interval grows by multiples of ``every_n_steps`` to keep it, and
            ``<name>/interval`` and ``<name>/overhead_share`` are logged. What the run will wait for at its end is kept
            free; the first and the last snapshot are always taken, so that a short run may cost more. None for no
            limit.
        probe: A map-style data set, or a loader of one, that the inputs are drawn from; a dotted path to a function
            that returns one. Default: the validation data, else the training data.
        probe_size: Inputs in the probe, S.
        probe_seed: Of the draw; independent of the run's seed, so that runs see the same inputs.
        batch_to_inputs: From a batch to the model's inputs: a function, its dotted path, or the key or place of an
            entry, such as ``"image"`` or 0.
        batch_to_labels: From a batch to labels ``[S]``; the same.
        model: Name of the submodule to call where the LightningModule has no ``forward``.
        on_error: ``"warn"`` lets training go on where a measure fails, ``"raise"`` does not.
    """

    def __init__(
        self,
        every_n_steps: int | Literal["log"],
        *,
        name: str,
        overhead_budget: float | None = None,
        probe: Any = None,
        probe_size: int = 1024,
        probe_seed: int = 0,
        batch_to_inputs: Callable[[Any], Any] | str | int | None = None,
        batch_to_labels: Callable[[Any], Any] | str | int | None = None,
        model: str | None = None,
        on_error: Literal["warn", "raise"] = "warn",
    ) -> None:
        self.every_n_steps = plain("every_n_steps", every_n_steps)
        self.schedule = Schedule(self.every_n_steps)
        share = plain("overhead_budget", overhead_budget)
        self.budget = None if share is None else Budget(share)
        name = plain("name", name)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise FnetError(
                f"`name={name!r}` should be letters, digits, '_', '.', '-': it names a folder and keys"
            )
        if name == "checkpoints":
            raise FnetError(
                "`name='checkpoints'` is the folder that Lightning keeps checkpoints in; take another"
            )
        self.name = name
        self.probe = str(probe) if isinstance(probe, str) else probe
        self.probe_size = as_integer("probe_size", probe_size, at_least=2)  # one sample has no correlation
        self.probe_seed = as_integer("probe_seed", probe_seed, at_least=0)
        self.model = as_text("model", model)
        self.on_error: Literal["warn", "raise"] = as_choice("on_error", on_error, ("warn", "raise"))
        self.reader = BatchReader(
            as_getter(batch_to_inputs, "batch_to_inputs"), as_getter(batch_to_labels, "batch_to_labels")
        )
        self.stopwatch = Stopwatch()
        self.when_busy: Literal["wait", "skip"] = "wait"
        self._session: Session | None = None
        self._state: dict[str, Any] | None = None

    # What a monitor says of itself.

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The configuration, for the manifest."""

    @property
    def shared_settings(self) -> dict[str, Any]:
        """What of the configuration every monitor has; the manifest has what is said of the probe beside it."""
        return {
            "kind": type(self).__name__,
            "every_n_steps": self.schedule.every_n_steps,
            "overhead_budget": None if self.budget is None else self.budget.share,
            "model": self.model,
            "batch_to_inputs": path_of(self.reader.to_inputs),
            "batch_to_labels": path_of(self.reader.to_labels),
        }

    @property
    @abstractmethod
    def description(self) -> str:
        """What is measured, in a line for the user; known after ``prepare``."""

    @property
    @abstractmethod
    def keys(self) -> list[str]:
        """The keys of what will be measured; known after ``prepare``."""

    @property
    def plan(self) -> NetworkPlan | None:
        """What the worker measures; None where all is measured on the training thread. Known after ``prepare``."""
        return None

    @property
    def previous(self) -> Mapping[str, Previous]:
        """What the next snapshot is compared with, by scope."""
        return {}

    @property
    def has_worker(self) -> bool:
        """Whether it is measured in a process of its own."""
        return False

    @property
    def has_figures(self) -> bool:
        """Whether anything of it is ever drawn."""
        return False

    @property
    def is_live(self) -> bool:
        """Whether it watches training batches in place of the probe."""
        return False

    @property
    def is_shard_safe(self) -> bool:
        """Whether it asks nothing of the model but the pass that all ranks make together."""
        return False

    @property
    def takes_token_labels(self) -> bool:
        """Whether labels are one integer a token, and not one an input."""
        return False

    @property
    def watcher(self) -> Watcher | None:
        """The hooks that a pass needs; None where the output is enough."""
        return None

    @abstractmethod
    def prepare(self, forward: Forward, probe: Probe, batch: Batch) -> None:
        """Looks at model and data once, before the first snapshot; called in isolation with a batch of the probe.

        Raises:
            FnetError: The configuration does not fit them.
        """

    @abstractmethod
    def begin(self, probe: Probe) -> None:
        """Starts a snapshot with nothing seen; ``probe`` may have grown since the last. Every rank calls it."""

    @abstractmethod
    def see(self, batch: Batch, output: Any, index: int) -> None:
        """Takes in one batch of the probe, in isolation; ``index`` is its place in the whole probe.

        It enters no collective: it may fail on one rank alone, and `reduce` is where the others wait.
        """

    @abstractmethod
    def reduce(self) -> None:
        """Brings together what the ranks saw; every rank calls it, also one that saw nothing."""

    @abstractmethod
    def measure(self, step: int) -> Measured | Reading:
        """What was found, or what was seen and the worker will measure; on rank 0 only."""

    def see_live(self) -> None:
        """Takes in the live batches that were kept; for a monitor that ``is_live``."""

    def watch_live(
        self, forward: Forward, batch: Any, step: int, to_end: float
    ) -> AbstractContextManager[None]:
        """Watches a training batch for the length of its step; for a monitor that ``is_live``.

        ``to_end`` is the number of batches, this one included, after which training may end.
        """
        return nullcontext()

    @property
    def has_seen(self) -> bool:
        """Whether there is anything to measure; not where it ``is_live`` and no batch was watched."""
        return True

    def keep_live(self) -> None:
        """Keeps what was watched until the next snapshot; for a monitor that ``is_live``."""

    def draws_at(self, snapshot: int) -> bool:
        """Whether the snapshot of this number has figures."""
        return False

    def settle(self, previous: Mapping[str, Previous]) -> None:
        """Takes what the last snapshot leaves to compare the next one with, by scope."""

    def carry(self) -> dict[str, Any]:
        """What the next snapshot starts from, in plain Python and torch, for the checkpoint."""
        return {}

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint's ``carry``."""

    def begin_anew(self) -> None:
        """Drops what the next snapshot would be compared with, or start from: that was measured otherwise."""
        self.take_up({})

    # Lightning's side.

    @property
    def state_key(self) -> str:
        """The name alone: settings may change between a run and its resumption."""
        return self.name

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit" or not self._drives(trainer):
            return
        session = Session(trainer, _monitors(trainer))
        for monitor in session.monitors:
            monitor._session = session
            if trainer.global_step > 0 and monitor._state is not None:  # the same trainer fits on
                monitor.load_state_dict(monitor._state)
            else:
                monitor.forget()

    def forget(self) -> None:
        """Back to before the first snapshot, for a callback that is used in another fit."""

    @override
    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if (session := self._driven) is not None:
            session.before_batch(batch)

    @override
    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        if (session := self._driven) is not None:
            session.note_optimizer_step()

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (session := self._driven) is not None:
            session.after_batch(batch)

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if (session := self._driven) is not None:
            session.end_epoch()

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if (session := self._driven) is not None:
            session.end_epoch()

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if (session := self._driven) is not None:
            session.finish()

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        if self._session is None:
            return
        try:
            self._state = self.state_dict()  # the same trainer may fit on; Lightning does not tear down
        finally:
            if self._drives(trainer):
                self._session.close()

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if self._session is not None:
            self._state = self.state_dict()
            if self._drives(trainer):
                self._session.close()
            self._session = None

    @override
    def state_dict(self) -> dict[str, Any]:
        if self._session is None:
            return self._state or {}
        return {**self._session.state(), "carry": self._session.carried(self)}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._session is None or not state_dict:
            self._state = state_dict or None
            return
        try:
            self._session.go_on_from(state_dict)
            self.take_up(state_dict["carry"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FnetError(
                f"the checkpoint's state of {self.name!r} is none that a monitor wrote ({error!r}); give the monitor "
                "another `name`, or leave the state out"
            ) from error

    def _drives(self, trainer: pl.Trainer) -> bool:
        return _monitors(trainer)[0] is self

    @property
    def _driven(self) -> Session | None:
        """The session, where this monitor drives it; asked several times in every step."""
        session = self._session
        return session if session is not None and session.monitors[0] is self else None


def _monitors(trainer: pl.Trainer) -> list[ProbeMonitor]:
    monitors = [c for c in cast(Any, trainer).callbacks if isinstance(c, ProbeMonitor)]
    names = [m.name for m in monitors]
    if len(set(names)) < len(names):
        raise FnetError(f"two monitors have one `name` ({', '.join(names)}); give each its own")
    return monitors
