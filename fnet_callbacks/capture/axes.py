"""Which axis of an activation has the samples, and which the units."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from fnet_callbacks.capture.calls import Call, record_calls
from fnet_callbacks.capture.trees import first_of, tensors_in

Signal = Literal["post", "pre"]


def shape_of(call: Call, signal: Signal) -> tuple[int, ...] | None:
    """The shape of what is watched of a call, its output or, before a nonlinearity, its input; None for no tensor."""
    return call.input_shape if _is_of_input(call, signal) else call.output_shape


def obstacle_of(call: Call, signal: Signal) -> str | None:
    """Why what is watched of a call cannot be read; None where it can."""
    return call.input_obstacle if _is_of_input(call, signal) else call.output_obstacle


def is_complex(call: Call, signal: Signal) -> bool:
    """Whether what is watched of a call are complex numbers."""
    return call.has_complex_input if _is_of_input(call, signal) else call.has_complex_output


def _is_of_input(call: Call, signal: Signal) -> bool:
    return signal == "pre" and call.is_nonlinearity


def axes_of(call: Call, shape: tuple[int, ...] | None, n_samples: int) -> tuple[int, int, bool] | None:
    """Axis of the samples, axis of the units, and whether tokens are folded into the samples' axis.

    None where there is no such axis.
    """
    if shape is None or len(shape) < 2:
        return None
    # A matrix has its samples first, whatever the layout of the sequence that it came from.
    candidates = (call.batch_axis, 0, 1) if len(shape) > 2 else (0, 1)
    batch_axis = next((a for a in candidates if shape[a] == n_samples), None)
    is_folded = batch_axis is None and shape[0] > 0 and shape[0] % n_samples == 0
    if is_folded:
        batch_axis = 0
    if batch_axis is None:
        return None
    unit_axis = call.unit_axis % len(shape)
    if unit_axis == batch_axis:
        unit_axis = 0 if batch_axis else len(shape) - 1
    return batch_axis, unit_axis, is_folded


def samples_by_chance(
    module: nn.Module,
    run: Callable[[Any], object],
    inputs: Any,
    calls: list[Call],
    signal: Signal,
    n_samples: int,
) -> set[tuple[str, int]]:
    """Modules and calls whose samples are none, by module and call: an axis that is as long by chance.

    So it is with an expert, which is sent some tokens only, or whose width is that of the batch: of half the samples
    it does not show half as many. Where nothing shows half as many, nothing is known.
    """
    half = n_samples // 2
    if not half:
        return set()
    try:
        fewer = first_of(inputs, half, n_samples=n_samples)
        of_half = _lengths(record_calls(module, lambda: run(fewer)), signal, half)
    except Exception:  # a model that takes batches of one size alone
        return set()
    of_all = _lengths(calls, signal, n_samples)
    scales = {key: of_half.get(key) == (axes, n * half / n_samples) for key, (axes, n) in of_all.items()}
    return {key for key, is_half in scales.items() if not is_half} if any(scales.values()) else set()


def those_of_parts(calls: list[Call], inputs: Any, signal: Signal, n_samples: int) -> set[tuple[str, int]]:
    """Modules and calls that show one row a part of a sample, where samples are of unlike numbers of parts.

    So it is with graphs whose nodes stand one behind the other: a vector among the inputs says whose each row is.
    """
    owners = (
        t
        for t in tensors_in(inputs)
        if t.dim() == 1 and len(t) > n_samples and t.dtype in (torch.int32, torch.int64)
    )
    lengths = {
        len(t) for t in owners if t[0] == 0 and t[-1] == n_samples - 1 and bool((t[1:] >= t[:-1]).all())
    }
    shapes = {(c.module, c.call): shape_of(c, signal) for c in calls}
    return {key for key, shape in shapes.items() if shape and shape[0] in lengths}


def _lengths(
    calls: list[Call], signal: Signal, n_samples: int
) -> dict[tuple[str, int], tuple[tuple[int, int, bool], float]]:
    """By module and call, which axes it has and how long that of the samples is, where it has one."""
    found = {}
    for call in calls:
        shape = shape_of(call, signal)
        if shape is not None and (axes := axes_of(call, shape, n_samples)) is not None:
            found[call.module, call.call] = axes, float(shape[axes[0]])
    return found
