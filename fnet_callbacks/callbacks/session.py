"""What the monitors of one trainer share: the count of steps, the passes over the probe, one output."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_info
from tqdm.auto import tqdm

from fnet_callbacks.callbacks.forward import Forward
from fnet_callbacks.callbacks.output import Output
from fnet_callbacks.callbacks.probes import ProbeSource
from fnet_callbacks.errors import CaptureError, FnetError, FnetWarning
from fnet_callbacks.scope import Stopwatch

if TYPE_CHECKING:
    from fnet_callbacks.callbacks.probe_monitor import Measured, ProbeMonitor


class Session:
    """One fit of one trainer, as its monitors see it.

    Args:
        trainer: The trainer.
        monitors: Its monitors, at least one, in the order of its callbacks.
    """

    def __init__(self, trainer: pl.Trainer, monitors: Sequence[ProbeMonitor]) -> None:
        self.monitors = list(monitors)
        self.step = 0
        self._trainer = trainer
        self._counts: dict[str, int] = {}  # snapshots of each monitor, the one after the last step left out
        self._last_steps: dict[str, int] = {}
        self._values: dict[str, float] = {}
        self._resumed_from: str | None = None
        self._is_open = False
        self._has_stepped = False
        self._probes: dict[str, ProbeSource] = {}
        self._forwards: dict[str, Forward] = {}
        self._output = Output(trainer, self.monitors)
        self._live_hooks = ExitStack()
        self._kept_probes: Mapping[str, Any] = {}
        self._complained: set[str] = set()

    # The course of a fit.

    def before_batch(self, batch: Any) -> None:
        """Opens the session at the first batch, takes the snapshot before the first step, watches live batches."""
        if not self._is_open:
            self._open(batch)
            if self.step == 0 and not self._last_steps:
                self._snapshot(self.monitors)
        to_end = self._batches_to_end()
        for monitor in self._live_monitors():
            with self._going_on(monitor):
                forward = self._forward_of(monitor)
                self._live_hooks.enter_context(monitor.watch_live(forward, batch, self.step, to_end))

    def note_optimizer_step(self) -> None:
        """Remembers that this batch stepped an optimiser; several steps in one batch count once."""
        self._has_stepped = True

    def after_batch(self, batch: Any) -> None:
        """Counts the step and takes the snapshots that are due."""
        self._live_hooks.close()
        for monitor in self._live_monitors():
            with self._going_on(monitor):
                monitor.keep_live()
        for source in self._probes.values():
            source.keep(batch)
        if not self._has_stepped:
            return
        self._has_stepped = False
        self.step += 1
        if due := [m for m in self.monitors if self.step % m.every_n_steps == 0]:
            self._snapshot(due)

    def finish(self) -> None:
        """Takes the snapshot after the last step, draws the last figures and waits for them."""
        if not self._is_open:
            return
        if due := [m for m in self.monitors if self._last_steps.get(m.name) != self.step]:
            self._snapshot(due, is_end=True)
        for monitor in self.monitors:
            self._output.draw(monitor, self.step)
        self._output.show(wait=True)

    def close(self) -> None:
        """Shows the figures that are ready and lets go of everything; safe to call twice."""
        self._live_hooks.close()
        self._output.close()

    # Resuming.

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of the session, in plain Python and torch."""
        return {
            "step": self.step,
            "last_steps": dict(self._last_steps),
            "counts": dict(self._counts),
            "record": self._output.record or self._resumed_from,
            "values": dict(self._values),
            "probes": {m.name: kept for m in self.monitors if (kept := self._kept_by(m))},
        }

    def go_on_from(self, state: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint's ``state``; of several monitors' states the one that came furthest counts."""
        if self._resumed_from is None or state["step"] > self.step:
            self.step, self._last_steps = state["step"], dict(state["last_steps"])
            self._counts, self._values = dict(state["counts"]), dict(state["values"])
            self._resumed_from = state["record"]
            self._kept_probes = state["probes"]

    # Opening.

    def _open(self, batch: Any) -> None:
        for monitor in self.monitors:
            key = _probe_key(monitor)
            forward = self._forward_of(monitor)
            if key not in self._probes:
                self._probes[key] = ProbeSource(
                    self._trainer, monitor, batch, self._kept_probes.get(monitor.name)
                )
            source = self._probes[key]
            with forward.undisturbed(seed=monitor.probe_seed):
                try:
                    probe = source.probe()
                    first = forward.prepare(probe.first, has_passed=source.has_passed)
                    monitor.prepare(forward, probe, first)
                except FnetError:
                    raise
                except Exception as error:
                    raise CaptureError(
                        f"{monitor.name}: the model fails on a batch of the probe, in eval mode: {error!r}. Say what "
                        "it is called with by `batch_to_inputs`, which part is called by `model`"
                    ) from error
            rank_zero_info(f"{monitor.name}: {monitor.description}, on {probe.n_samples} inputs")
        summaries = {m.name: self._probes[_probe_key(m)].summary() for m in self.monitors}
        self._output.open(resumed_from=self._resumed_from, step=self.step, probes=summaries)
        self._is_open = True
        self._publish(self._values)

    # Snapshots.

    def _snapshot(self, due: Sequence[ProbeMonitor], *, is_end: bool = False) -> None:
        for monitor in due:
            monitor.stopwatch, monitor.portrait = Stopwatch(), None
        measured, error = self._measure(due)
        # An error itself need not survive being pickled.
        found = _scalars(measured, self.step), error and f"on rank 0: {error!r}"
        values, reason = self._trainer.strategy.broadcast(found, src=0)
        if reason is not None:
            raise error or FnetError(reason)
        self._publish(values)
        if measured:
            self._output.write(self.step, measured, values, is_end=is_end)
        for monitor in due:
            monitor.portrait = measured[monitor.name].portrait if monitor.name in measured else None
            if monitor.draws_at(self._counts.get(monitor.name, 0)):
                self._output.draw(monitor, self.step)
            self._last_steps[monitor.name] = self.step
            if not is_end:
                monitor.settle()
                self._counts[monitor.name] = self._counts.get(monitor.name, 0) + 1

    def _measure(self, due: Sequence[ProbeMonitor]) -> tuple[dict[str, Measured], Exception | None]:
        """Rank 0's measurements by monitor; what goes wrong there is returned, so that every rank can raise it."""
        measured: dict[str, Measured] = {}
        seen = self._see(due)
        if not self._trainer.is_global_zero:
            return measured, None
        with self._progress(sum(len(m.keys) for m in seen), "measures") as bar:
            for monitor in seen:
                try:
                    measured[monitor.name] = monitor.measure(self.step, bar.update)
                except Exception as error:
                    if self._must_raise(monitor, error):
                        return {}, error
                    self._warn(monitor, error)
        return measured, None

    def _see(self, due: Sequence[ProbeMonitor]) -> list[ProbeMonitor]:
        """Shows the probe to the monitors; those that share a probe share a pass. Returns those that saw it all."""
        failed: dict[str, Exception] = {}
        for group in self._groups(due):
            probe = self._probes[_probe_key(group[0])].probe()
            for monitor in group:
                with _noting(failed, monitor):
                    monitor.begin(probe)
            with _noting(failed, *group):
                if group[0].is_live and self.step > 0:
                    group[0].see_live()
                else:
                    self._pass(group, failed)
            for monitor in group:
                with _noting(failed, monitor):
                    monitor.reduce()  # a collective: a rank on which something failed takes part
        return [monitor for monitor in due if self._is_whole(monitor, failed.get(monitor.name))]

    def _is_whole(self, monitor: ProbeMonitor, error: Exception | None) -> bool:
        """Whether the monitor saw the probe on all ranks; else all of them warn, or all of them raise."""
        agreed = self._trainer.strategy.reduce_boolean_decision
        if agreed(error is None, all=True):
            return True
        must_raise = agreed(error is not None and self._must_raise(monitor, error), all=False)
        error = error or FnetError("the probe could not be shown to the model on another rank")
        if must_raise:
            raise error
        self._warn(monitor, error)
        return False

    def _kept_by(self, monitor: ProbeMonitor) -> list[Any] | None:
        source = self._probes.get(_probe_key(monitor))
        return None if source is None else source.state()

    def _groups(self, due: Sequence[ProbeMonitor]) -> Iterator[list[ProbeMonitor]]:
        groups: dict[str, list[ProbeMonitor]] = {}
        for monitor in due:
            key = f"live {monitor.name}" if monitor.is_live else _probe_key(monitor) + repr(monitor.model)
            groups.setdefault(key, []).append(monitor)
        yield from groups.values()

    def _pass(self, group: Sequence[ProbeMonitor], failed: dict[str, Exception]) -> None:
        forward, source = self._forward_of(group[0]), self._probes[_probe_key(group[0])]
        probe, clock = source.probe(), group[0].stopwatch
        with (
            forward.undisturbed(seed=group[0].probe_seed),
            self._progress(len(probe.batches), "probe") as bar,
        ):
            for kept, index in zip(probe.batches, probe.positions, strict=True):
                with clock.part("probe"), ExitStack() as hooks:
                    batch = forward.prepare(kept, has_passed=source.has_passed)
                    for monitor in group:
                        if monitor.watcher is not None:
                            monitor.watcher.expect(batch.n_samples, mask=batch.mask, batch_index=index)
                            hooks.enter_context(monitor.watcher.attached())
                    output = forward(batch.inputs)
                for monitor in group:
                    if monitor.name not in failed:
                        with _noting(failed, monitor):
                            monitor.see(batch, output, index)
                bar.update()

    def _publish(self, values: Mapping[str, float]) -> None:
        """Puts values where EarlyStopping, ModelCheckpoint, Ray Tune and Optuna look for them, on every rank."""
        self._values.update(values)
        self._trainer.callback_metrics.update({k: torch.tensor(v) for k, v in values.items()})

    # Small things.

    def _forward_of(self, monitor: ProbeMonitor) -> Forward:
        if monitor.name not in self._forwards:
            self._forwards[monitor.name] = Forward(self._trainer, model=monitor.model, reader=monitor.reader)
        return self._forwards[monitor.name]

    def _progress(self, total: int, what: str) -> tqdm:
        bar = self._trainer.progress_bar_callback
        shown = getattr(bar, "is_enabled", False) and self._trainer.is_global_zero
        return tqdm(
            total=total, desc=f"snapshot {self.step}: {what}", delay=1.0, leave=False, disable=not shown
        )

    def _must_raise(self, monitor: ProbeMonitor, error: Exception) -> bool:
        """Wrong configuration stops the run before its first step; later only where the user asked for it."""
        return monitor.on_error == "raise" or (isinstance(error, FnetError) and self.step == 0)

    @contextmanager
    def _going_on(self, monitor: ProbeMonitor) -> Iterator[None]:
        """Lets training go on where a live batch cannot be seen; a warning says so once."""
        try:
            yield
        except Exception as error:
            if monitor.on_error == "raise":
                raise
            self._warn(monitor, error, "a live batch was not seen")

    def _live_monitors(self) -> list[ProbeMonitor]:
        return [monitor for monitor in self.monitors if monitor.is_live]

    def _batches_to_end(self) -> float:
        """After how many batches training may end: with the epoch, or at ``max_steps``; infinite where unknown."""
        trainer = self._trainer
        in_epoch = trainer.num_training_batches - trainer.fit_loop.batch_idx
        if trainer.max_steps < 0:
            return in_epoch
        return min(in_epoch, (trainer.max_steps - trainer.global_step) / max(1, len(trainer.optimizers)))

    def _warn(self, monitor: ProbeMonitor, error: Exception, what: str = "no snapshot") -> None:
        """Warns once of each kind of failure: what fails at one step will fail at the next."""
        kind = f"{monitor.name} {what} {type(error)}"
        if kind not in self._complained:
            self._complained.add(kind)
            warnings.warn(f"{monitor.name}: {what} at step {self.step}: {error!r}", FnetWarning, stacklevel=2)


@contextmanager
def _noting(failed: dict[str, Exception], *monitors: ProbeMonitor) -> Iterator[None]:
    """Notes what goes wrong in a block as the failure of monitors, and goes on: other ranks wait in a collective."""
    try:
        yield
    except Exception as error:
        for monitor in monitors:
            failed.setdefault(monitor.name, error)


def _probe_key(monitor: ProbeMonitor) -> str:
    """Monitors that read the same inputs share them."""
    read = (monitor.reader.to_inputs, monitor.reader.to_labels)
    given = id(monitor.probe) if monitor.probe is not None else None
    return repr((given, monitor.is_live, monitor.probe_size, monitor.probe_seed, read))


def _scalars(measured: Mapping[str, Measured], step: int) -> dict[str, float]:
    values: dict[str, float] = {}
    for name, found in measured.items():
        values |= {f"{name}/step": float(step), **found.scalars}
    return values
