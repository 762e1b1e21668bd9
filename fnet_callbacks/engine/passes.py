"""Passes over the probe: prepared once, and shown to the instruments that are due."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from tqdm.auto import tqdm

from fnet_callbacks.capture.isolation import own_streams
from fnet_callbacks.capture.probe import Probe
from fnet_callbacks.capture.writes import Writes
from fnet_callbacks.engine.entry import Entry
from fnet_callbacks.engine.options import Options
from fnet_callbacks.engine.preparation import prepare
from fnet_callbacks.engine.probes import ProbeSource
from fnet_callbacks.errors import FnetError, FnetWarning
from fnet_callbacks.host import Host
from fnet_callbacks.instruments.forward import Forward
from fnet_callbacks.instruments.instrument import Instrument
from fnet_callbacks.instruments.together import bring_together

_NOT_SEEN = "a live batch was not seen"
_NOT_KEPT = "a batch was not kept for the probe"
_NO_CLASSES = 2**31 - 1  # more than there can be


class Passes:
    """Shows the probe to instruments in isolation, and brings together what the ranks have found.

    Args:
        host: The loop.
        options: Of the monitor.
        entries: All instruments.
    """

    def __init__(self, host: Host, options: Options, entries: Sequence[Entry]) -> None:
        self._host, self._options, self._entries = host, options, entries
        self._writes = Writes()
        self._live_hooks = ExitStack()
        self._complained: set[str] = set()
        self._live: list[Entry] = []
        self._source: ProbeSource | None = None
        self._live_source: ProbeSource | None = None

    def open(self, batch: Any, kept: Any) -> None:
        """Finds the probe and prepares the instruments; ``kept`` are batches of an interrupted run.

        Raises:
            FnetError: The configuration does not fit model or data.
        """
        host, options = self._host, self._options
        self.forward = Forward(host, model=options.model, reader=options.reader, writes=self._writes)
        of_batches = [e for e in self._entries if e.instrument.source == "train"]
        of_probe = [e for e in self._entries if e not in of_batches]
        for entries, is_live in ((of_probe, False), (of_batches, True)):
            if not entries:
                continue
            source = ProbeSource(host, options, batch, is_live=is_live, kept=None if is_live else kept)
            with self.forward.undisturbed(seed=options.probe_seed):
                prepare(self.forward, source, [entry.instrument for entry in entries])
            source.settle()
            if is_live:
                self._live_source, self._live = source, entries
            else:
                self._source = source
            for entry in entries:
                n_samples = source.probe().n_samples
                host.inform(f"{entry.name}: {entry.instrument.description}, on {n_samples} inputs")

    def summary(self) -> dict[str, Any]:
        """What the record says of the probe."""
        source = self._source or self._live_source
        return {} if source is None else source.summary()

    def kept(self) -> list[Any] | None:
        """The batches of a probe that cannot be drawn again, for a checkpoint; None where it can, or is not there."""
        return None if self._source is None else self._source.state()

    # Live batches.

    @property
    def watches_batches(self) -> bool:
        """Whether anything looks at training batches."""
        return bool(self._live) or (self._source is not None and self._source.is_growing)

    def before_batch(self, batch: Any, step: int) -> None:
        """Watches a training batch for those that measure live ones; copies it where the probe is still growing."""
        source = self._source
        if source is not None and source.is_growing:
            with (
                self._going_on(self._entries[0], step, _NOT_KEPT),
                self._entries[0].instrument.stopwatch.part("keep"),
            ):
                source.note(batch)
        for entry in self._live:
            with self._going_on(entry, step, _NOT_SEEN), entry.instrument.stopwatch.part("watch"):
                if (live := entry.instrument.live) is not None:
                    schedule = entry.schedule
                    to_end = self._host.batches_to_end(of_epoch=schedule.every_n_epochs is not None)
                    to_go = min(schedule.next_after(step) - step, to_end)
                    self._live_hooks.enter_context(live.watch(self.forward, batch, step, to_go))

    def after_batch(self, step: int) -> None:
        """Keeps what was watched, and the batch where the probe is still growing."""
        self._live_hooks.close()
        for entry in self._live:
            with self._going_on(entry, step, _NOT_SEEN), entry.instrument.stopwatch.part("watch"):
                if (live := entry.instrument.live) is not None:
                    live.keep()
        source = self._source
        if source is not None and source.is_growing:
            with (
                self._going_on(self._entries[0], step, _NOT_KEPT),
                self._entries[0].instrument.stopwatch.part("keep"),
            ):
                source.keep()

    def has_seen(self, entry: Entry) -> bool:
        """Whether all ranks have something to measure at the end, which live batches are not always watched for."""
        if entry not in self._live or self._host.all_true(bool(entry.instrument.live)):
            return True
        self._host.inform(
            f"{entry.name}: training ended where nobody could know, so that no live batch was watched"
        )
        return False

    def close(self) -> None:
        """Takes the hooks off."""
        self._live_hooks.close()

    # The probe.

    def show(self, due: Sequence[Entry], step: int) -> list[tuple[Entry, Any]]:
        """Shows the probe, or the live batches, to instruments.

        Returns:
            Those that saw it all, the same on every rank, with what the ranks have found together.

        Raises:
            Exception: What went wrong, where the run must stop for it.
        """
        failed: dict[str, Exception] = {}
        of_batches = [entry for entry in due if entry in self._live]
        of_probe = [entry for entry in due if entry not in self._live]
        for entries, source in ((of_probe, self._source), (of_batches, self._live_source)):
            if not entries or source is None:
                continue
            self._begin(entries, source.probe(), failed)
            with _noting(failed, *entries):
                if source is self._live_source and not any(entry.is_first for entry in entries):
                    for entry in entries:
                        assert entry.instrument.live is not None
                        entry.instrument.live.require()
                else:
                    self._pass(entries, source, failed, step)
        self._writes.settle()  # the trial passes and the first over the whole probe were looked at closely
        seen = self._together(due, failed, step, lambda entry: entry.instrument.share())
        for entry, shared in seen:
            entry.instrument.together = shared
        whole = [entry for entry, _ in seen]
        with self._computing(whole):
            return self._together(whole, failed, step, self._computed)

    def must_raise(self, entry: Entry, error: Exception) -> bool:
        """Wrong configuration stops the run at the first snapshot; later only where the user asked for it."""
        return self._options.on_error == "raise" or (isinstance(error, FnetError) and entry.is_first)

    def warn(self, entry: Entry, error: object, step: int, what: str = "no snapshot") -> None:
        """Warns once of each kind of failure: what fails at one step will fail at the next."""
        kind = f"{entry.name} {what} {type(error)}"
        if kind not in self._complained:
            self._complained.add(kind)
            warnings.warn(f"{entry.name}: {what} at step {step}: {error!r}", FnetWarning, stacklevel=2)

    def progress(self, total: int, what: str, step: int) -> tqdm:
        """A bar for what takes more than a second, where the loop shows one."""
        shown = self._host.shows_progress and self._host.is_global_zero
        return tqdm(total=total, desc=f"snapshot {step}: {what}", delay=1.0, leave=False, disable=not shown)

    def _begin(self, entries: Sequence[Entry], probe: Probe, failed: dict[str, Exception]) -> None:
        """Starts a snapshot: on all ranks labels are classes, or on none."""
        for entry in entries:
            own = 0
            with _noting(failed, entry):
                own = entry.instrument.num_classes(probe)
            most = self._host.max_over_ranks(own or _NO_CLASSES)
            with _noting(failed, entry):
                entry.instrument.begin(probe, 0 if most == _NO_CLASSES else most)

    def _pass(
        self, entries: Sequence[Entry], source: ProbeSource, failed: dict[str, Exception], step: int
    ) -> None:
        forward, probe = self.forward, source.probe()
        clock, seed = entries[0].instrument.stopwatch, self._options.probe_seed
        n_batches = len(probe.batches)
        if forward.is_collective:
            n_batches = self._host.max_over_ranks(n_batches)
        with (
            clock.part("probe"),
            forward.undisturbed(seed=seed),
            self.progress(len(probe.batches), "probe", step) as bar,
        ):
            for kept, index in zip(probe.batches, probe.positions, strict=True):
                with ExitStack() as hooks:
                    batch = forward.prepare(kept, has_passed=source.has_passed, index=index)
                    for entry in entries:
                        watcher = entry.instrument.watcher
                        if watcher is not None and entry.name not in failed:
                            with _noting(failed, entry):
                                watcher.expect(batch.n_samples, mask=batch.mask, batch_index=index)
                                hooks.enter_context(watcher.attached())
                    output = forward(batch.inputs)
                for entry in entries:
                    if entry.name not in failed:
                        # What one draws is the same whoever else is due.
                        with _noting(failed, entry), own_streams(seed + index, forward.device):
                            entry.instrument.see(batch, output)
                bar.update()
            for _ in range(n_batches - len(probe.batches)):
                # The others wait for this rank in each; none is counted.
                forward(forward.prepare(probe.first, has_passed=source.has_passed).inputs)

    def _computed(self, entry: Entry) -> Any:
        with own_streams(self._options.probe_seed, self.forward.device):
            return entry.instrument.compute(self.forward.called)

    def _computing(self, entries: Sequence[Entry]) -> Any:
        """Isolation for passes of their own, where one of the instruments makes such."""
        if not any(
            e.instrument.makes_passes and type(e.instrument).compute is not Instrument.compute
            for e in entries
        ):
            return nullcontext()
        stack = ExitStack()
        stack.enter_context(self.forward.undisturbed(seed=self._options.probe_seed))
        stack.enter_context(self.forward.autocast())
        return stack

    def _together(
        self,
        entries: Sequence[Entry],
        failed: dict[str, Exception],
        step: int,
        take: Callable[[Entry], Any],
    ) -> list[tuple[Entry, Any]]:
        """What ``take`` gives of instruments, brought together, of those for which no rank failed."""
        values: dict[str, Any] = {}
        for entry in entries:
            if entry.name not in failed:
                with _noting(failed, entry):
                    values[entry.name] = take(entry)
        whole = [entry for entry in entries if self._is_whole(entry, failed.get(entry.name), step)]
        return [(entry, bring_together(values[entry.name], self._host)) for entry in whole]

    def _is_whole(self, entry: Entry, error: Exception | None, step: int) -> bool:
        """Whether it went well on all ranks; else all of them warn, or all of them raise."""
        if self._host.all_true(error is None):
            return True
        must_raise = self._host.any_true(error is not None and self.must_raise(entry, error))
        error = error or FnetError("the probe could not be shown to the model on another rank")
        if must_raise:
            raise error
        self.warn(entry, error, step)
        return False

    @contextmanager
    def _going_on(self, entry: Entry, step: int, what: str) -> Iterator[None]:
        """Lets training go on where something is done in its course that fails; a warning says ``what``, once."""
        try:
            yield
        except Exception as error:
            if self._options.on_error == "raise":
                raise
            self.warn(entry, error, step, what)


@contextmanager
def _noting(failed: dict[str, Exception], *entries: Entry) -> Iterator[None]:
    """Notes what goes wrong in a block as the failure of instruments, and goes on: other ranks wait in a collective."""
    try:
        yield
    except Exception as error:
        for entry in entries:
            failed.setdefault(entry.name, error)
