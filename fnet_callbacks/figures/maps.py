"""Figures of self-organising maps: what each unit stands for, and where the samples lie."""

from collections.abc import Collection

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fnet_callbacks.figures.canvas import DPI
from fnet_callbacks.figures.colours import PALETTE, tint
from fnet_callbacks.portrait import CodePortrait, MapPortrait

_PANEL = 2.6  # inches
_HEAD, _FOOT, _GAP = 0.62, 0.5, 0.25
_DISTANCE_SHADES = colormaps["bone_r"].resampled(32)
_HIT_SHADES = colormaps["viridis"].resampled(32)


def figures(portrait: CodePortrait, names: Collection[str]) -> dict[str, Figure]:
    """Those of the names ``"<layer>"``, its map, and ``"<layer>/inputs"``, of images the mean input of each code."""
    found = {}
    for layer in portrait.maps:
        if layer.name in names:
            found[layer.name] = code_map(layer, portrait.title)
        if (name := f"{layer.name}/inputs") in names:
            found[name] = mean_inputs(layer, portrait.title)
    return found


def code_map(layer: MapPortrait, title: str) -> Figure:
    """Commonest class, U-matrix, and samples of each unit, clean and attacked, side by side."""
    n_panels = 1 + (layer.classes is not None) + (layer.u_matrix is not None) + len(layer.attacked)
    width, height = n_panels * (_PANEL + _GAP) + _GAP, _HEAD + _PANEL + _FOOT
    figure = Figure(figsize=(width, height), dpi=DPI)
    left = iter(_GAP + k * (_PANEL + _GAP) for k in range(n_panels))

    def panel(what: str) -> Axes:
        axes = figure.add_axes((next(left) / width, _FOOT / height, _PANEL / width, _PANEL / height))
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_title(what, fontsize=9)
        return axes

    if layer.classes is not None:
        _classes(panel("commonest class (white: unused)"), layer, layer.classes)
    if layer.u_matrix is not None:
        # Else a single unit that stands for an outlier takes all the shades.
        far = float(np.quantile(layer.u_matrix, 0.98))
        _shaded(panel("distance from neighbours (dark: far)"), layer, layer.u_matrix, _DISTANCE_SHADES, far)
    most = max(1, *(hits.max() for hits in (layer.hits, *layer.attacked.values())))
    named = {"clean": layer.hits, **{f"under {name.upper()}": hits for name, hits in layer.attacked.items()}}
    for what, hits in named.items():
        shown = np.where(hits > 0, np.sqrt(hits), np.nan)  # few and many can both be told apart
        _shaded(panel(f"samples, {what}"), layer, shown, _HIT_SHADES, np.sqrt(most))
    figure.suptitle(f"Functional codes of {layer.name}, {title}", x=_GAP / width, ha="left", fontsize=11)
    figure.text(
        _GAP / width,
        0.16 / height,
        f"{layer.grid[0]} x {layer.grid[1]} units, {int((layer.hits > 0).sum())} used by "
        f"{int(layer.hits.sum())} samples; most samples on one unit: {int(most)}",
        color="0.4",
        fontsize=9,
    )
    return figure


def mean_inputs(layer: MapPortrait, title: str) -> Figure:
    """The mean of the inputs of each code, at its place on the map."""
    assert layer.inputs is not None
    rows, columns = layer.grid
    pad = np.pad(layer.inputs, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
    _, high, wide, _ = pad.shape
    mosaic = (
        pad.reshape(rows, columns, high, wide, 3)
        .transpose(0, 2, 1, 3, 4)
        .reshape(rows * high, columns * wide, 3)
    )
    size = 5.6
    longest = max(mosaic.shape[:2])
    width, height = size * mosaic.shape[1] / longest, size * mosaic.shape[0] / longest
    margin, head = 0.15, 0.4
    figure = Figure(figsize=(width + 2 * margin, height + head + margin), dpi=DPI)
    axes = figure.add_axes(
        (
            margin / (width + 2 * margin),
            margin / (height + head + margin),
            width / (width + 2 * margin),
            height / (height + head + margin),
        )
    )
    axes.imshow(mosaic, interpolation="antialiased", aspect="auto")
    axes.set_axis_off()
    axes.set_title(f"Mean input of each code of {layer.name}, {title}", fontsize=10)
    return figure


def _classes(axes: Axes, layer: MapPortrait, classes: np.ndarray) -> None:
    """A square for each unit in its class's colour, and the class's number where there is room."""
    rows, columns = layer.grid
    shown = np.where((classes < 0)[:, None], 1.0, tint(np.maximum(classes, 0)))
    axes.imshow(shown.reshape(rows, columns, 3), interpolation="nearest")
    if max(rows, columns) > 20:
        return
    dark = PALETTE @ np.array([0.3, 0.6, 0.1]) < 0.5
    for unit in np.flatnonzero(classes >= 0).tolist():
        own = min(int(classes[unit]), len(PALETTE) - 1)
        axes.text(
            unit % columns,
            unit // columns,
            str(int(classes[unit])),
            ha="center",
            va="center",
            fontsize=7,
            color="white" if dark[own] else "black",
        )


def _shaded(axes: Axes, layer: MapPortrait, values: np.ndarray, shades: object, most: float) -> None:
    rows, columns = layer.grid
    axes.imshow(
        values.reshape(rows, columns),
        cmap=shades,  # type: ignore[arg-type]
        vmin=0,
        vmax=float(most) or 1.0,
        interpolation="nearest",
    )
