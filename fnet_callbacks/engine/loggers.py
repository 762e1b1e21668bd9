"""Scalars and figures to whatever loggers a trainer has; the only file that knows kinds of loggers."""

import hashlib
import math
import re
import struct
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fnet_callbacks.errors import FnetWarning
from fnet_callbacks.keys import Key

_STEP = "monitor/step"


class Loggers:
    """Writes to all loggers of a run; one that raises is named in a warning once, and the others go on.

    Args:
        loggers: Lightning loggers; anything with ``log_metrics(metrics, step=...)`` and ``save()``.
        keys: Of what will be written; charts, axes and descriptions are made from them.
        figure_folder: Where figures go as files when no logger takes images; None drops them.
    """

    def __init__(
        self, loggers: Iterable[Any], *, keys: Iterable[Key], figure_folder: Path | None = None
    ) -> None:
        declared = tuple(keys)
        self._writers = [_writer_of(logger) for logger in loggers]
        self._figure_folder = figure_folder
        self._complained: set[int] = set()
        for writer in self._writers:
            self._try(writer.logger, lambda writer=writer: writer.declare(declared))

    @property
    def takes_figures(self) -> bool:
        """Whether there is a place for them."""
        return self._figure_folder is not None or any(writer.takes_images for writer in self._writers)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the finite ones of some values at a step, at once: nothing waits for the trainer's logging interval.

        Others are left out: of them loggers draw nonsense, lose the run's last value, or raise.
        """
        finite = {key: value for key, value in values.items() if math.isfinite(value)}
        for writer in self._writers if finite else ():
            self._try(writer.logger, lambda writer=writer: writer.scalars(step, finite))

    def figures(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes images by key to the loggers that take them, else to files; each the bytes of a PNG file, uint8."""
        takers = [writer for writer in self._writers if writer.takes_images]
        for writer in takers:
            self._try(writer.logger, lambda writer=writer: writer.figures(step, images))
        if not takers and (folder := self._figure_folder) is not None:
            self._try(folder, lambda: _save_figures(folder, step, images))

    def _try(self, target: Any, write: Callable[[], object]) -> None:
        try:
            write()
        except Exception as error:
            if id(target) not in self._complained:
                self._complained.add(id(target))
                name = str(target) if isinstance(target, Path) else type(target).__name__
                warnings.warn(
                    f"{name} failed: {error!r}; training goes on, and later failures of it are not told",
                    FnetWarning,
                    stacklevel=2,
                )


class _Writer:
    """What any Lightning logger can do: scalars."""

    takes_images = False

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def declare(self, keys: Sequence[Key]) -> None:
        """Says once what will come."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.logger.log_metrics(dict(values), step=step)
        self.logger.save()

    def figures(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes images, where the logger takes them."""


class _TensorBoard(_Writer):
    takes_images = True

    def __init__(self, logger: Any) -> None:
        super().__init__(logger)
        self._descriptions: dict[str, str] = {}  # of tags that have not been written yet

    def declare(self, keys: Sequence[Key]) -> None:
        self._descriptions = {key.key: key.description for key in keys}
        if layout := _layout(keys):
            self.logger.experiment.add_custom_scalars(layout)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if not _is_plain(self.logger):
            self.logger.log_metrics(dict(values), step=step)
            self.logger.experiment.flush()
            return
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata  # type: ignore[attr-defined]

        def value(tag: str, number: float) -> Summary.Value:
            if (description := self._descriptions.pop(tag, None)) is None:
                return Summary.Value(tag=tag, simple_value=number)
            # Of a tag the first is read; without plugin and class the fast reader leaves the description out.
            metadata = SummaryMetadata(
                plugin_data=SummaryMetadata.PluginData(plugin_name="scalars"),
                data_class="DATA_CLASS_SCALAR",
                summary_description=description,
            )
            return Summary.Value(tag=tag, simple_value=number, metadata=metadata)

        # One event for all values: one for each takes forty times as long.
        self._write(step, Summary(value=[value(tag, number) for tag, number in values.items()]))

    def figures(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined]

        def value(key: str, png: bytes) -> Summary.Value:
            width, height = struct.unpack(">II", png[16:24])
            image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=png)
            return Summary.Value(tag=key, image=image)

        self._write(step, Summary(value=[value(key, image.tobytes()) for key, image in images.items()]))

    def _write(self, step: int, summary: Any) -> None:
        experiment = self.logger.experiment
        (experiment.file_writer or experiment._get_file_writer()).add_summary(summary, step)
        experiment.flush()


class _Wandb(_Writer):
    takes_images = True

    def declare(self, keys: Sequence[Key]) -> None:
        for prefix in sorted({key.key.split("/")[0] for key in keys} | {"monitor", "monitor_cost"}):
            self.logger.experiment.define_metric(f"{prefix}/*", step_metric=_STEP)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.logger.log_metrics(
            {**values, _STEP: step}, step=step
        )  # the axis, whether it is asked for or not

    def figures(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        import wandb

        with tempfile.TemporaryDirectory() as folder:
            paths = _save_figures(Path(folder), step, images)  # a file is copied, an array would be encoded
            figures = {key: wandb.Image(str(path)) for key, path in zip(images, paths, strict=True)}
            self.logger.log_metrics(figures | {_STEP: step}, step=step)


class _MLflow(_Writer):
    """Takes keys of few characters; others would be dropped from them, so that `relu#0` were `relu0`."""

    _OTHERS = re.compile(r"[^A-Za-z0-9_/. -]")
    _LONGEST = 250

    def __init__(self, logger: Any) -> None:
        super().__init__(logger)
        self._names: dict[str, str] = {}

    def declare(self, keys: Sequence[Key]) -> None:
        # Those that may stay as they are do.
        for key in sorted((key.key for key in keys), key=lambda key: self._legal(key) != key):
            self._name(key)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        super().scalars(step, {self._name(key): value for key, value in values.items()})

    def _name(self, key: str) -> str:
        """The key as MLflow takes it, and no other key's."""
        if key not in self._names:
            taken, name, number = {*self._names.values()}, self._legal(key), 2
            while name in taken:
                name = self._shortened(f"{self._legal(key)}_{number}", key)
                number += 1
            self._names[key] = name
        return self._names[key]

    def _legal(self, key: str) -> str:
        parts = self._OTHERS.sub("_", key).split("/")
        return self._shortened("/".join("_" if part in ("", ".", "..") else part for part in parts), key)

    def _shortened(self, name: str, key: str) -> str:
        if len(name) <= self._LONGEST:
            return name
        digest = hashlib.sha256(f"{name}\0{key}".encode()).hexdigest()[:8]
        return f"{name[: self._LONGEST - 9]}_{digest}"


def _writer_of(logger: Any) -> _Writer:
    try:
        experiment = logger.experiment
    except Exception:  # a logger without one, or one that cannot start, which its first write will tell
        return _Writer(logger)
    # Of the class: the stand-in of a `fast_dev_run` has whatever it is asked for.
    if hasattr(type(experiment), "add_custom_scalars"):
        return _TensorBoard(logger)
    known = {"wandb": _Wandb, "mlflow": _MLflow}
    return known.get(type(experiment).__module__.split(".")[0], _Writer)(logger)


def _is_plain(logger: Any) -> bool:
    """Whether it writes values under their own keys, as Lightning's own does without a prefix."""
    of = type(logger).log_metrics.__module__.split(".")[0]
    return of in ("lightning", "pytorch_lightning", "lightning_fabric") and not getattr(logger, "_prefix", "")


def _save_figures(folder: Path, step: int, images: Mapping[str, np.ndarray]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{step}_{re.sub('[^A-Za-z0-9_.-]+', '_', key)}.png" for key in images]
    for path, image in zip(paths, images.values(), strict=True):
        path.write_bytes(image.tobytes())
    return paths


def _layout(keys: Iterable[Key]) -> dict[str, dict[str, list[Any]]]:
    """TensorBoard's custom scalars: a category for each instrument, a chart for quantities that share one."""
    layout: dict[str, dict[str, list[Any]]] = {}
    for key in keys:
        if key.place is None and key.quantity.chart is not None:
            charts = layout.setdefault(key.instrument, {})
            charts.setdefault(key.quantity.chart, ["Multiline", []])[1].append(f"^{re.escape(key.key)}$")
    return layout
