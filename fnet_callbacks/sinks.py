"""Scalars and figures to whatever loggers a trainer has; the only file that knows kinds of loggers."""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fnet_callbacks.errors import FnetWarning

# Curves that belong together, in TensorBoard's custom scalars: chart -> measures.
_CHARTS: Mapping[str, Sequence[str]] = {
    "communities": ("modularity", "n_communities", "community_entropy", "partition_ami"),
    "small world": ("clustering", "global_efficiency", "path_length"),
    "against nulls": ("sigma", "sigma_hqs", "modularity_z"),
    "loops": ("loops", "betti_1"),
    "persistence": ("functional_persistence", "persistent_entropy"),
    "entropy": ("activation_entropy", "histogram_entropy", "selectivity_entropy"),
    "redundancy": ("mean_abs_correlation", "tree_mean", "dead_fraction"),
    "accuracy": ("clean_accuracy", r"(fgsm|pgd)_.*_accuracy"),
}


class Sinks:
    """Writes to all of a trainer's loggers; one that raises is named in a warning once, and the others go on.

    Args:
        loggers: Lightning loggers; anything with ``log_metrics(metrics, step=...)``.
        keys: What will be written, ``<name>/<measure>``; the layout and the axes are declared for it at once.
        figure_folder: Where figures go as files when no logger takes images; None drops them.
    """

    def __init__(self, loggers: Iterable[Any], *, keys: Sequence[str], figure_folder: Path | None = None) -> None:
        self._loggers = list(loggers)
        self._keys = keys
        self._figure_folder = figure_folder
        self._complained: set[str] = set()
        for logger in self._loggers:
            self._try(logger, lambda logger=logger: self._declare(logger))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes values at a step, at once: nothing waits for the trainer's own logging interval."""
        for logger in self._loggers:
            self._try(logger, lambda logger=logger: _write_scalars(logger, step, values))

    def figures(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes images ``[H, W, 3]`` uint8 by key to the loggers that take them, else to files."""
        takers = [logger for logger in self._loggers if _is_tensorboard(logger) or _is_wandb(logger)]
        for logger in takers:
            self._try(logger, lambda logger=logger: _write_figures(logger, step, images))
        if not takers and self._figure_folder is not None:
            self._try(self._figure_folder, lambda: _save_figures(self._figure_folder, step, images))

    def _declare(self, logger: Any) -> None:
        if _is_tensorboard(logger):
            logger.experiment.add_custom_scalars(_layout(self._keys))
        if _is_wandb(logger):
            for prefix in sorted({key.split("/")[0] for key in self._keys}):
                logger.experiment.define_metric(f"{prefix}/*", step_metric=f"{prefix.removesuffix('_layers')}/step")

    def _try(self, sink: Any, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:
            kind = type(sink).__name__
            if kind not in self._complained:
                self._complained.add(kind)
                warnings.warn(f"{kind} failed and is not waited for: {error!r}", FnetWarning, stacklevel=2)


def _write_scalars(logger: Any, step: int, values: Mapping[str, float]) -> None:
    logger.log_metrics(dict(values), step=step)
    if _is_tensorboard(logger):
        logger.experiment.flush()
    elif not _is_wandb(logger):
        logger.save()


def _write_figures(logger: Any, step: int, images: Mapping[str, np.ndarray]) -> None:
    if _is_tensorboard(logger):
        for key, image in images.items():
            logger.experiment.add_image(key, image, global_step=step, dataformats="HWC")
        logger.experiment.flush()
        return
    import wandb

    steps = {f"{key.split('/')[0]}/step": step for key in images}
    logger.log_metrics({k: wandb.Image(image) for k, image in images.items()} | steps, step=step)


def _save_figures(folder: Path, step: int, images: Mapping[str, np.ndarray]) -> None:
    from matplotlib.image import imsave

    folder.mkdir(parents=True, exist_ok=True)
    for key, image in images.items():
        imsave(folder / f"{step}_{re.sub('[^A-Za-z0-9_.-]+', '_', key)}.png", image)


def _layout(keys: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """TensorBoard's custom scalars: a category for each monitor, a chart for each group that has keys there."""
    layout: dict[str, dict[str, list[Any]]] = {}
    for name in sorted({key.split("/")[0] for key in keys}):
        for chart, measures in _CHARTS.items():
            patterns = [rf"{re.escape(name)}/{measure}" for measure in measures]
            if any(re.fullmatch(pattern, key) for pattern in patterns for key in keys):
                layout.setdefault(name, {})[chart] = ["Multiline", [f"^{pattern}$" for pattern in patterns]]
    return layout


def _is_tensorboard(logger: Any) -> bool:
    return hasattr(_experiment(logger), "add_custom_scalars")


def _is_wandb(logger: Any) -> bool:
    return type(_experiment(logger)).__module__.split(".")[0] == "wandb"


def _experiment(logger: Any) -> Any:
    try:
        return logger.experiment
    except Exception:  # a logger without one, or one that cannot start, is not of either kind
        return None
