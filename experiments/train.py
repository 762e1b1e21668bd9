"""Train one model with the monitor on, from a flat YAML file: a classifier of images, or a reader of a text.

    python -m experiments.train fit --config experiments/configs/digits_mlp.yaml
    python -m experiments.train fit --config experiments/configs/fashion_cnn.yaml --data-dir DATA
    python -m experiments.train text fit --config experiments/configs/text.yaml --data.text_file TEXT

Anything in the file can be set on the command line too: ``--model.regularizer dropout --trainer.max_epochs 5``.
"""

import sys
from pathlib import Path

import numpy as np
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

import fnet_callbacks  # noqa: F401 - makes monitor and instruments known to YAML by their short names
from experiments.data import DataModule
from experiments.language import LanguageModel, TextModule
from experiments.models import Classifier
from fnet_callbacks import FnetError, read_record

# What the summary shows, where the record has it.
ACCURACY = "robust/clean_accuracy"
SUMMARY = (
    ACCURACY,
    "robust/fgsm_",
    "robust/pgd_",
    "fnet/dead_fraction",
    "fnet/modularity",
    "fnet/n_communities",
    "fnet/partition_ami",
    "fnet/sigma",
    "fnet/sigma_hqs",
    "fnet/global_efficiency",
    "fnet/loops",
    "fnet/functional_persistence",
    "fnet/activation_entropy",
)


class _CLI(LightningCLI):
    """Lightning's command line, with a summary at the end."""

    def after_fit(self) -> None:
        """Print first, best and last values, and how to see the rest."""
        folder = self.trainer.log_dir
        if folder is None or not self.trainer.is_global_zero:
            return
        try:
            print(summary(Path(folder) / "fnet"))
        except FnetError as error:
            print(f"no summary: {error}")
        print(
            f"\nSee it evolve: {Path(sys.executable).parent / 'tensorboard'} --logdir {Path(folder).parent}"
        )


class TrainCLI(_CLI):
    """A classifier, which learns the images' shape from the data."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """``--data-dir``, and what the model learns from the data."""
        parser.add_argument("--data-dir", type=str | None, default=None, help="folder with the data sets")
        parser.link_arguments("data.input_shape", "model.input_shape", apply_on="instantiate")
        parser.link_arguments("data.num_classes", "model.num_classes", apply_on="instantiate")

    def before_instantiate_classes(self) -> None:
        """``--data-dir`` is short for ``--data.data_dir``."""
        folder = self._get(self.config, "data_dir")
        if folder is not None:
            self._get(self.config, "data").data_dir = folder


class TextCLI(_CLI):
    """A transformer, which learns the characters from the text."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """What the model learns from the data."""
        parser.link_arguments("data.vocabulary", "model.vocabulary", apply_on="instantiate")
        parser.link_arguments("data.context", "model.context", apply_on="instantiate")


def summary(folder: Path) -> str:
    """A table of a record's main values before training, where clean accuracy was best, and at the end.

    Without `Robustness` there is no accuracy in the record, and so no best.
    """
    record = read_record(folder)
    if not record.snapshots:
        raise FnetError(f"{folder} has no snapshot: training made no step")
    keys = [
        key
        for wanted in SUMMARY
        for key in record.snapshots[-1].scalars
        if key == wanted or (wanted.endswith("_") and key.startswith(wanted) and key.endswith("_accuracy"))
    ]
    at = {"first": 0, "last": -1}
    if ACCURACY in keys:
        at = {"first": 0, "best": int(np.nanargmax(record.series(ACCURACY))), "last": -1}
    width = max(map(len, keys), default=0)
    lines = [
        "",
        f"{'':{width}}" + "".join(f"{name:>12}" for name in at),
        f"{'step':{width}}" + "".join(f"{record.steps[i]:12d}" for i in at.values()),
    ]
    for key in keys:
        cells = (record.series(key)[i] for i in at.values())
        lines.append(f"{key:{width}}" + "".join(f"{'-':>12}" if np.isnan(x) else f"{x:12.4g}" for x in cells))
    return "\n".join([*lines, "", f"best: where {ACCURACY} is highest"] if "best" in at else lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["text"]:
        sys.argv.pop(1)
        TextCLI(LanguageModel, TextModule)
    else:
        TrainCLI(Classifier, DataModule)
