"""Scalars and figures to whatever loggers a trainer has; the only file that knows kinds of loggers."""

import hashlib
import re
import struct
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fnet_callbacks.errors import FnetWarning

_STEP = "monitor/step"
# Curves that belong together and share a scale, in TensorBoard's custom scalars: chart -> measures.
_CHARTS: Mapping[str, Sequence[str]] = {
    "communities": ("modularity", "partition_ami", "edge_turnover"),
    "communities through time": ("births", "deaths", "splits", "merges"),
    "flexible and shared neurons": ("flexibility", "participation"),
    "communities, layers and classes": ("layer_ami", "layer_entropy", "class_ami", "class_affinity"),
    "number of communities": ("n_communities",),
    "small world": ("clustering", "global_efficiency", "local_efficiency"),
    "small-worldness against nulls": ("sigma", "sigma_hqs"),
    "modularity against nulls": ("modularity_z",),
    "loops": ("loops", "betti_1"),
    "persistence": ("functional_persistence",),
    "entropy": ("activation_entropy", "selectivity_entropy"),
    "entropy of values and lifetimes": ("histogram_entropy", "persistent_entropy"),
    "redundancy": ("mean_abs_correlation", "tree_mean", "dead_fraction"),
    "accuracy": ("clean_accuracy", r"(fgsm|pgd)_.*_accuracy"),
}


class Loggers:
    """Writes to all loggers of a run; one that raises is named in a warning once, and the others go on.

    Args:
        loggers: Lightning loggers; anything with ``log_metrics(metrics, step=...)`` and ``save()``.
        keys: What will be written, ``<name>/<measure>``; the layout and the axes are declared for it at once.
        figure_folder: Where figures go as files when no logger takes images; None drops them.
    """

    def __init__(
        self, loggers: Iterable[Any], *, keys: Sequence[str], figure_folder: Path | None = None
    ) -> None:
        self._writers = [_writer_of(logger) for logger in loggers]
        self._figure_folder = figure_folder
        self._complained: set[int] = set()
        for writer in self._writers:
            self._try(writer.logger, lambda writer=writer: writer.declare(keys))

    @property
    def takes_figures(self) -> bool:
        """Whether there is a place for them."""
        return self._figure_folder is not None or any(writer.takes_images for writer in self._writers)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes values at a step, at once: nothing waits for the trainer's own logging interval."""
        for writer in self._writers:
            self._try(writer.logger, lambda writer=writer: writer.scalars(step, values))

    def figures(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes images by key to the loggers that take them, else to files; each the bytes of a PNG file, uint8."""
        takers = [writer for writer in self._writers if writer.takes_images]
        for writer in takers:
            self._try(writer.logger, lambda writer=writer: writer.figures(step, images))
        if not takers and (folder := self._figure_folder) is not None:
            self._try(folder, lambda: _save_figures(folder, step, images))

    def _try(self, sink: Any, write: Callable[[], object]) -> None:
        try:
            write()
        except Exception as error:
            if id(sink) not in self._complained:
                self._complained.add(id(sink))
                name = str(sink) if isinstance(sink, Path) else type(sink).__name__
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

    def declare(self, keys: Sequence[str]) -> None:
        """Says once what will come."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.logger.log_metrics(dict(values), step=step)
        self.logger.save()

    def figures(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes images, where the logger takes them."""


class _TensorBoard(_Writer):
    takes_images = True

    def declare(self, keys: Sequence[str]) -> None:
        self.logger.experiment.add_custom_scalars(_layout(keys))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if not _is_plain(self.logger):
            self.logger.log_metrics(dict(values), step=step)
            self.logger.experiment.flush()
            return
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined]

        # One event for all values: one for each takes forty times as long.
        self._write(step, Summary(value=[Summary.Value(tag=k, simple_value=v) for k, v in values.items()]))

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

    def declare(self, keys: Sequence[str]) -> None:
        for prefix in sorted({key.split("/")[0] for key in keys} | {"monitor", "monitor_cost"}):
            self.logger.experiment.define_metric(f"{prefix}/*", step_metric=_STEP)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.logger.log_metrics(dict(values), step=step)

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

    def declare(self, keys: Sequence[str]) -> None:
        for key in sorted(
            keys, key=lambda key: self._legal(key) != key
        ):  # those that may stay as they are do
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


def _layout(keys: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """TensorBoard's custom scalars: a category for each monitor, a chart for each group that has keys there."""
    layout: dict[str, dict[str, list[Any]]] = {}
    for name in sorted({key.split("/")[0] for key in keys}):
        for chart, measures in _CHARTS.items():
            patterns = [rf"{re.escape(name)}/{measure}" for measure in measures]
            if any(re.fullmatch(pattern, key) for pattern in patterns for key in keys):
                layout.setdefault(name, {})[chart] = ["Multiline", [f"^{pattern}$" for pattern in patterns]]
    return layout
