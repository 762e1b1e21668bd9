"""How the model is called with the probe, in batches of which length: found out once, with the instruments prepared."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Sequence

from fnet_callbacks.capture.batches import call_model
from fnet_callbacks.capture.probe import Probe
from fnet_callbacks.engine.probes import ProbeSource
from fnet_callbacks.errors import CaptureError, FnetError, FnetWarning
from fnet_callbacks.instruments.forward import Forward
from fnet_callbacks.instruments.instrument import Instrument
from fnet_callbacks.instruments.remarks import on_labels, remark


class _ModelError(CaptureError):
    """The model raised on a batch."""


def prepare(forward: Forward, source: ProbeSource, instruments: Sequence[Instrument]) -> None:
    """Prepares instruments; called in isolation, at least one of them.

    What fails is tried in the other ways that a batch leaves, and in batches as long as the loaders'.

    Raises:
        FnetError: The model cannot be called, or does not fit an instrument.
    """
    names = ", ".join(instrument.name for instrument in instruments)
    try:
        source.first()
    except FnetError as error:
        raise CaptureError(f"{names}, from {source.origin}: {error}") from error
    except Exception as error:
        raise CaptureError(
            f"{names}: no probe can be drawn from {source.origin}: {error!r}; pass `probe=`, a data set or a loader of "
            "one"
        ) from error
    for instrument in instruments:
        reason = forward.host.refusal(forward.called, makes_passes=instrument.makes_passes)
        if reason is not None:
            raise FnetError(f"{instrument.name}: {type(instrument).__name__} {reason}")
    failure = _failure_of(forward, source, instruments)
    for _ in source.in_other_lengths() if isinstance(failure, _ModelError) else ():
        if _failure_of(forward, source, instruments) is None:
            failure = None
            break
    if failure is not None:
        raise failure
    _try_odd_batch(forward, source, names)
    for of_tokens in sorted({instrument.takes_token_labels for instrument in instruments}):
        shape, first = forward.output_shape, instruments[0].name
        remark(first, [on_labels(forward.reader, source.probe(), of_tokens=of_tokens, output_shape=shape)])


def _failure_of(forward: Forward, source: ProbeSource, instruments: Sequence[Instrument]) -> FnetError | None:
    """Prepares the instruments; None where one of the ways to call the model was right, else why the first was not."""
    first = instruments[0].name
    try:
        readers = forward.readers(*source.first())
    except FnetError as error:
        return error
    except Exception as error:
        return CaptureError(f"{first}: `batch_to_inputs` fails on a batch of the probe: {error!r}")
    failures: list[tuple[str, Exception, str]] = []
    for forward.reader in readers:
        shown, name = "", first
        try:
            probe = source.probe(forward.reader)
            forward.example = forward.prepare(probe.first, has_passed=source.has_passed)
            shown = f" when called as {forward.shown_call(forward.example.inputs)}"
            for instrument in instruments:
                name = instrument.name
                _prepare_one(instrument, forward, probe)
            return None
        except FnetWarning:
            raise
        except Exception as error:
            failures.append((name, error, shown))
        finally:
            vars(forward).pop("example", None)  # it is on the model's device
    forward.reader = readers[0]
    name, error, _ = failures[0]
    if isinstance(error, FnetError):
        return error
    failure = _ModelError(
        f"{name}: the model fails on a batch of the probe, in eval mode: "
        f"{'; '.join(f'{error!r}{shown}' for _, error, shown in failures)}. Say what it is called with by "
        "`batch_to_inputs`, which part is called by `model`"
    )
    failure.__cause__ = error
    return failure


def _prepare_one(instrument: Instrument, forward: Forward, probe: Probe) -> None:
    """Prepares one; where it fails and the model does not, the error says so."""
    try:
        instrument.prepare(forward, probe)
    except (FnetError, FnetWarning):
        raise
    except Exception as error:
        frames = traceback.walk_tb(error.__traceback__)
        if any(frame.f_code is call_model.__code__ for frame, _ in frames):
            raise
        kind = type(instrument).__name__
        raise FnetError(f"{instrument.name}: `prepare` of {kind} fails: {error!r}") from error


def _try_odd_batch(forward: Forward, source: ProbeSource, names: str) -> None:
    """Leaves the last batch out of the probe where it is shorter and the model takes batches of one size."""
    if (odd := source.odd_batch) is None:
        return
    try:
        forward(forward.prepare(odd, has_passed=source.has_passed).inputs)
    except Exception as error:
        whole = source.probe().n_samples
        source.drop_odd_batch()
        warnings.warn(
            f"{names}: the last batch of the probe is left out, which is shorter than the others and on which the "
            f"model fails ({error!r}): {source.probe().n_samples} of {whole} inputs are shown",
            FnetWarning,
            stacklevel=2,
        )
