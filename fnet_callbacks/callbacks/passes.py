"""What the monitors of one trainer are shown: the passes over the probe, and live batches."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_info
from tqdm.auto import tqdm

from fnet_callbacks.callbacks.forward import Forward
from fnet_callbacks.callbacks.probes import ProbeSource
from fnet_callbacks.callbacks.remarks import on_labels, remark
from fnet_callbacks.callbacks.sharding import check_sharding
from fnet_callbacks.capture.probe import Probe
from fnet_callbacks.capture.writes import Writes
from fnet_callbacks.errors import CaptureError, FnetError, FnetWarning

if TYPE_CHECKING:
    from fnet_callbacks.callbacks.probe_monitor import ProbeMonitor

_NOT_SEEN = "a live batch was not seen"
_NOT_KEPT = "a batch was not kept for the probe"


class _ModelError(CaptureError):
    """The model raised on a batch."""


class Passes:
    """Shows the probe to monitors in isolation; those that read the same inputs share a pass.

    Args:
        trainer: The trainer.
        monitors: Its monitors.
    """

    def __init__(self, trainer: pl.Trainer, monitors: Sequence[ProbeMonitor]) -> None:
        self._trainer = trainer
        self._monitors = monitors
        self._live = [monitor for monitor in monitors if monitor.is_live]
        self._probes: dict[str, ProbeSource] = {}
        self._forwards: dict[str, Forward] = {}
        self._writes = Writes()
        self._live_hooks = ExitStack()
        self._complained: set[str] = set()

    def open(self, batch: Any, kept: Mapping[str, Any]) -> None:
        """Finds the probes and prepares the monitors; ``kept`` are batches of an interrupted run, by monitor.

        Raises:
            FnetError: The configuration does not fit model or data.
        """
        for monitor in self._monitors:
            key = _probe_key(monitor)
            forward = self._forward_of(monitor)
            check_sharding(self._trainer, monitor, forward)
            if key not in self._probes:
                self._probes[key] = ProbeSource(self._trainer, monitor, batch, kept.get(monitor.name))
            source = self._probes[key]
            with forward.undisturbed(seed=monitor.probe_seed):
                self._prepare(monitor, forward, source)
            n_samples = source.probe().n_samples
            rank_zero_info(f"{monitor.name}: {monitor.description}, on {n_samples} inputs")
        for source in self._probes.values():
            source.settle()

    def summaries(self) -> dict[str, Any]:
        """What the manifest says of each monitor's probe."""
        return {m.name: self._probes[_probe_key(m)].summary() for m in self._monitors}

    def kept(self) -> dict[str, Any]:
        """By monitor, the batches of a probe that cannot be drawn again, for a checkpoint."""
        sources = {m.name: self._probes.get(_probe_key(m)) for m in self._monitors}
        return {name: kept for name, s in sources.items() if s is not None and (kept := s.state())}

    # Live batches.

    def before_batch(self, batch: Any, step: int) -> None:
        """Watches a training batch for those that measure live ones; copies it where the probe is still growing."""
        for source in self._growing():
            with self._going_on(source.monitor, step, _NOT_KEPT), source.monitor.stopwatch.part("keep"):
                source.note(batch)
        to_end = self._batches_to_end() if self._live else 0
        for monitor in self._live:
            with self._going_on(monitor, step, _NOT_SEEN), monitor.stopwatch.part("watch"):
                forward = self._forward_of(monitor)
                self._live_hooks.enter_context(monitor.watch_live(forward, batch, step, to_end))

    def after_batch(self, step: int) -> None:
        """Keeps what was watched, and the batch where the probe is still growing."""
        self._live_hooks.close()
        for monitor in self._live:
            with self._going_on(monitor, step, _NOT_SEEN), monitor.stopwatch.part("watch"):
                monitor.keep_live()
        for source in self._growing():
            with self._going_on(source.monitor, step, _NOT_KEPT), source.monitor.stopwatch.part("keep"):
                source.keep()

    def close(self) -> None:
        """Takes the hooks off."""
        self._live_hooks.close()

    # The probe.

    def show(self, due: Sequence[ProbeMonitor], step: int) -> list[ProbeMonitor]:
        """Shows the probe, or the live batches, to monitors; returns those that saw it all, the same on every rank.

        Raises:
            Exception: What went wrong, where the run must stop for it.
        """
        failed: dict[str, Exception] = {}
        for group in self._groups(due):
            for monitor in group:
                with _noting(failed, monitor):
                    monitor.begin(self._probes[_probe_key(monitor)].probe())
            with _noting(failed, *group):
                if group[0].is_live and step > 0:
                    group[0].see_live()
                else:
                    self._pass(group, failed, step)
            for monitor in group:
                with _noting(failed, monitor):
                    monitor.reduce()  # a collective: a rank on which something failed takes part
        self._writes.settle()  # the trial passes and the first over the whole probe were looked at closely
        return [monitor for monitor in due if self._is_whole(monitor, failed.get(monitor.name), step)]

    def must_raise(self, monitor: ProbeMonitor, error: Exception, step: int) -> bool:
        """Wrong configuration stops the run before its first step; later only where the user asked for it."""
        return monitor.on_error == "raise" or (isinstance(error, FnetError) and step == 0)

    def warn(self, monitor: ProbeMonitor, error: object, step: int, what: str = "no snapshot") -> None:
        """Warns once of each kind of failure: what fails at one step will fail at the next."""
        kind = f"{monitor.name} {what} {type(error)}"
        if kind not in self._complained:
            self._complained.add(kind)
            warnings.warn(f"{monitor.name}: {what} at step {step}: {error!r}", FnetWarning, stacklevel=2)

    def progress(self, total: int, what: str, step: int) -> tqdm:
        """A bar for what takes more than a second, where the trainer shows one."""
        bar = self._trainer.progress_bar_callback
        shown = getattr(bar, "is_enabled", False) and self._trainer.is_global_zero
        return tqdm(total=total, desc=f"snapshot {step}: {what}", delay=1.0, leave=False, disable=not shown)

    def _prepare(self, monitor: ProbeMonitor, forward: Forward, source: ProbeSource) -> None:
        """Finds out how the model is called, and in batches of which length, and prepares a monitor.

        What fails is tried in the other ways that a batch leaves, and in batches as long as the loaders'.
        """
        try:
            source.first()
        except FnetError as error:
            raise CaptureError(f"{monitor.name}, from {source.origin}: {error}") from error
        except Exception as error:
            raise CaptureError(
                f"{monitor.name}: no probe can be drawn from {source.origin}: {error!r}; pass `probe=`, a data set "
                "or a loader of one"
            ) from error
        failure = self._failure_of(monitor, forward, source)
        lengths = source.in_other_lengths() if isinstance(failure, _ModelError) else iter(())
        for _ in lengths:
            if self._failure_of(monitor, forward, source) is None:
                failure = None
                break
        if failure is not None:
            raise failure
        self._try_odd_batch(monitor, forward, source)
        self._remark_on_labels(monitor, forward, source.probe())

    def _failure_of(self, monitor: ProbeMonitor, forward: Forward, source: ProbeSource) -> FnetError | None:
        """Prepares a monitor; None where one of the ways to call the model was right, else why the first was not."""
        try:
            readers = forward.readers(*source.first())
        except Exception as error:
            return CaptureError(f"{monitor.name}: `batch_to_inputs` fails on a batch of the probe: {error!r}")
        failures: list[tuple[Exception, str]] = []
        for forward.reader in readers:
            shown = ""
            try:
                probe = source.probe(forward.reader)
                batch = forward.prepare(probe.first, has_passed=source.has_passed)
                shown = f" when called as {forward.shown_call(batch.inputs)}"
                monitor.prepare(forward, probe, batch)
                return None
            except FnetWarning:
                raise
            except Exception as error:
                failures.append((error, shown))
        forward.reader = readers[0]
        first = failures[0][0]
        if isinstance(first, FnetError):
            return first
        failure = _ModelError(
            f"{monitor.name}: the model fails on a batch of the probe, in eval mode: "
            f"{'; '.join(f'{error!r}{shown}' for error, shown in failures)}. Say what it is called with by "
            "`batch_to_inputs`, which part is called by `model`"
        )
        failure.__cause__ = first
        return failure

    def _remark_on_labels(self, monitor: ProbeMonitor, forward: Forward, probe: Probe) -> None:
        """Says once, of monitors that read the same, what of the user's labels is not used."""
        key = f"labels {_probe_key(monitor)} {monitor.takes_token_labels}"
        if key not in self._complained:
            self._complained.add(key)
            shape, of_tokens = forward.output_shape, monitor.takes_token_labels
            remark(monitor.name, [on_labels(forward.reader, probe, of_tokens=of_tokens, output_shape=shape)])

    def _try_odd_batch(self, monitor: ProbeMonitor, forward: Forward, source: ProbeSource) -> None:
        """Leaves the last batch out of the probe where it is shorter and the model takes batches of one size."""
        if (odd := source.odd_batch) is None:
            return
        try:
            forward(forward.prepare(odd, has_passed=source.has_passed).inputs)
        except Exception as error:
            whole = source.probe().n_samples
            source.drop_odd_batch()
            warnings.warn(
                f"{monitor.name}: the last batch of the probe is left out, which is shorter than the others and on "
                f"which the model fails ({error!r}): {source.probe().n_samples} of {whole} inputs are shown",
                FnetWarning,
                stacklevel=2,
            )

    def _pass(self, group: Sequence[ProbeMonitor], failed: dict[str, Exception], step: int) -> None:
        forward, source = self._forward_of(group[0]), self._probes[_probe_key(group[0])]
        probe, clock = source.probe(), group[0].stopwatch
        most = len(probe.batches)
        if forward.is_collective:
            most = forward.max_over_ranks(most)
        with (
            clock.part("probe"),
            forward.undisturbed(seed=group[0].probe_seed),
            self.progress(len(probe.batches), "probe", step) as bar,
        ):
            for kept, index in zip(probe.batches, probe.positions, strict=True):
                with ExitStack() as hooks:
                    batch = forward.prepare(kept, has_passed=source.has_passed)
                    for monitor in group:
                        if monitor.watcher is not None and monitor.name not in failed:
                            with _noting(failed, monitor):
                                monitor.watcher.expect(batch.n_samples, mask=batch.mask, batch_index=index)
                                hooks.enter_context(monitor.watcher.attached())
                    output = forward(batch.inputs)
                for monitor in group:
                    if monitor.name not in failed:
                        with _noting(failed, monitor):
                            monitor.see(batch, output, index)
                bar.update()
            for _ in range(most - len(probe.batches)):
                # The others wait for this rank in each; none is counted.
                forward(forward.prepare(probe.first, has_passed=source.has_passed).inputs)

    def _is_whole(self, monitor: ProbeMonitor, error: Exception | None, step: int) -> bool:
        """Whether the monitor saw the probe on all ranks; else all of them warn, or all of them raise."""
        agreed = self._trainer.strategy.reduce_boolean_decision
        if agreed(error is None, all=True):
            return True
        must_raise = agreed(error is not None and self.must_raise(monitor, error, step), all=False)
        error = error or FnetError("the probe could not be shown to the model on another rank")
        if must_raise:
            raise error
        self.warn(monitor, error, step)
        return False

    def _groups(self, due: Sequence[ProbeMonitor]) -> Iterator[list[ProbeMonitor]]:
        groups: dict[str, list[ProbeMonitor]] = {}
        for monitor in due:
            key = f"live {monitor.name}" if monitor.is_live else _probe_key(monitor) + repr(monitor.model)
            groups.setdefault(key, []).append(monitor)
        yield from groups.values()

    def _forward_of(self, monitor: ProbeMonitor) -> Forward:
        if monitor.name not in self._forwards:
            self._forwards[monitor.name] = Forward(
                self._trainer, model=monitor.model, reader=monitor.reader, writes=self._writes
            )
        return self._forwards[monitor.name]

    def _batches_to_end(self) -> float:
        """After how many batches training may end: with the epoch, at ``max_steps``, or, in a stream, after any."""
        trainer = self._trainer
        in_epoch = trainer.num_training_batches - trainer.fit_loop.batch_idx
        if trainer.max_steps < 0:
            return in_epoch if math.isfinite(in_epoch) else 1
        return min(in_epoch, (trainer.max_steps - trainer.global_step) / max(1, len(trainer.optimizers)))

    def _growing(self) -> list[ProbeSource]:
        return [source for source in self._probes.values() if source.is_growing]

    @contextmanager
    def _going_on(self, monitor: ProbeMonitor, step: int, what: str) -> Iterator[None]:
        """Lets training go on where something is done in its course that fails; a warning says ``what``, once."""
        try:
            yield
        except Exception as error:
            if monitor.on_error == "raise":
                raise
            self.warn(monitor, error, step, what)


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
