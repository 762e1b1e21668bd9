"""Figures from a record: what was drawn while the run went on, and what was not."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fnet_callbacks.figures.drawing import Drawing
from fnet_callbacks.figures.names import OF_NETWORKS, lacking, of_codes
from fnet_callbacks.figures.painter import Painter
from fnet_callbacks.portrait import CodePortrait, MapPortrait, Portrait, has_figures
from fnet_callbacks.record import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NETWORK, CODES = "FunctionalNetwork", "FunctionalCodes"
_INPUTS = "the inputs are not in the record: mean inputs are drawn while the run goes on, or never"


@dataclass(frozen=True, slots=True)
class StepFigures:
    """What was drawn of a snapshot.

    Attributes:
        step: Of the snapshot.
        figures: By name.
        lacking: By name of those that were asked for but not drawn, what was missing and what would have recorded it.
    """

    step: int
    figures: Mapping[str, Drawing | Figure]
    lacking: Mapping[str, str]


def steps_of(record: Record, instrument: str) -> list[int]:
    """The steps of the snapshots of an instrument, ascending."""
    keys = {key for key, entry in record.keys.items() if entry.instrument == instrument}
    return [s.step for s in record.snapshots if not keys.isdisjoint(s.scalars)]


def figure_names(record: Record, instrument: str) -> list[str]:
    """The figures that there are of an instrument, whether its record has what they need or not; else none."""
    kind = record.instruments[instrument].get("kind")
    if kind == CODES:
        return [f"{place}{what}" for place in record.layer_names(instrument) for what in ("", "/inputs")]
    return [*OF_NETWORKS] if kind == NETWORK else []


def replay(
    record: Record, instrument: str, steps: Collection[int], names: Sequence[str]
) -> Iterator[StepFigures]:
    """Draws snapshots as the run would have drawn them: places and colours go on from those that it drew before.

    Those are the snapshots of the monitor's ``figures``, or 0, 1, 2, 4, 8, ... where it drew none, and the last. A run
    whose training thread drew may have left out some of them, and places then differ from those that it showed. What is
    drawn of a step does not depend on which others are asked for. After a change of the settings the painter
    begins anew, as the neurons are others.

    Args:
        record: The run's.
        instrument: Name of a ``FunctionalNetwork`` or of ``FunctionalCodes``.
        steps: Of snapshots of the instrument.
        names: Some of its ``figure_names``.

    Raises:
        RecordError: Arrays of a snapshot are damaged.

    Cost: reads the arrays of each snapshot that is drawn or was; a layout each, and the figures that are asked for.
    """
    every = steps_of(record, instrument)
    breaks, is_end = record.breaks(instrument), {s.step: s.is_end for s in record.snapshots}
    schedule = record.manifest.get("monitor", {}).get("figures") or "log"
    painter = Painter()
    for number, step in enumerate(every):
        if step > max(steps, default=-1):
            return
        if number and any(every[number - 1] < begin <= step for begin in breaks):
            painter = Painter()
        was_drawn = is_end[step] or step == every[-1] or has_figures(schedule, number)
        if not was_drawn and step not in steps:
            continue
        portrait = portrait_of(record, instrument, step)
        if portrait is None:
            if step in steps:
                reason = f"{record.array_file(step)} is gone, or holds no arrays of {instrument}"
                yield StepFigures(step, {}, dict.fromkeys(names, reason))
            continue
        own = painter if was_drawn else copy.deepcopy(painter)
        if step in steps:
            yield _drawn(own, portrait, step, names)
        else:
            own.figures(portrait, ())


def portrait_of(record: Record, instrument: str, step: int) -> Portrait | CodePortrait | None:
    """What a figure of a snapshot is drawn of, as it was during the run; None without arrays of the instrument.

    A network without a correlation matrix or diagrams in the record is without them here too; codes are without their
    mean inputs, and in older records without classes and U-matrix.

    Raises:
        RecordError: The step has no snapshot, or its arrays are damaged.
    """
    prefix = f"{instrument}."
    arrays = {
        name.removeprefix(prefix): array
        for name, array in record.arrays(step).items()
        if name.startswith(prefix)
    }
    layers = _layers_at(record, instrument, step)
    if "edges" in arrays:
        return _network(arrays, layers, step)
    return _codes(arrays, layers, step) if "units" in arrays else None


def _drawn(
    painter: Painter, portrait: Portrait | CodePortrait, step: int, names: Sequence[str]
) -> StepFigures:
    if isinstance(portrait, CodePortrait):
        known = of_codes(portrait)
        figures = painter.figures(portrait, [name for name in names if name in known])
        reasons = {
            name: _INPUTS
            if name.endswith("/inputs")
            else "the layer had no codes, which a note in the record explains"
            for name in names
            if name not in known
        }
        return StepFigures(step, figures, reasons)
    figures = painter.figures(portrait, names)
    reasons = {name: lacking(name, portrait, painter.n_snapshots) for name in names}
    return StepFigures(
        step, figures, {name: reason for name, reason in reasons.items() if reason is not None}
    )


def _layers_at(record: Record, instrument: str, step: int) -> Sequence[Mapping[str, Any]]:
    """The layers that the instrument watched at a step."""
    spans = [span for span in record.spans if span.begin <= step and instrument in span.instruments]
    settings = spans[-1].instruments[instrument] if spans else record.instruments[instrument]
    return settings.get("layers", [])


def _network(arrays: Mapping[str, np.ndarray], layers: Sequence[Mapping[str, Any]], step: int) -> Portrait:
    nodes = arrays["neuron"]
    scale = arrays.get("scale")
    return Portrait(
        title=f"step {step}",
        n_neurons=sum(len(layer.get("neurons", ())) for layer in layers) or int(nodes.max(initial=-1)) + 1,
        nodes=nodes,
        correlation=arrays.get("correlation"),
        edges=arrays["edges"],
        partition=arrays["partition"],
        diagrams=[arrays[name] for name in ("diagram_0", "diagram_1") if name in arrays],
        scale=None if scale is None else float(scale),
    )


def _codes(arrays: Mapping[str, np.ndarray], layers: Sequence[Mapping[str, Any]], step: int) -> CodePortrait:
    rows, columns = arrays["grid"].tolist()
    n_units = rows * columns

    def hits(units: np.ndarray) -> np.ndarray:
        return np.bincount(units[units >= 0], minlength=n_units)

    attacks = [name.removesuffix("_units") for name in arrays if name.endswith("_units")]
    maps = [
        MapPortrait(
            name=layer["place"],
            grid=(rows, columns),
            hits=hits(units),
            classes=arrays["commonest_class"][k] if "commonest_class" in arrays else None,
            u_matrix=arrays["u_matrix"][k] if "u_matrix" in arrays else None,
            attacked={attack: hits(arrays[f"{attack}_units"][k]) for attack in attacks},
        )
        for k, (layer, units) in enumerate(zip(layers, arrays["units"], strict=False))
        if (units >= 0).any()
    ]
    return CodePortrait(f"step {step}", maps)
