"""Train one classifier with the monitors on, from a flat YAML file.

    python -m experiments.train fit --config experiments/configs/digits_mlp.yaml
    python -m experiments.train fit --config experiments/configs/fashion_cnn.yaml --data-dir DATA

Anything in the file can be set on the command line too: ``--model.regularizer dropout --trainer.max_epochs 5``.
"""

import sys
from pathlib import Path

import numpy as np
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

import fnet_callbacks  # noqa: F401 - makes the monitors known to YAML by their short names
from experiments.data import DataModule
from experiments.models import Classifier
from fnet_callbacks import FnetError, read_record

# What the summary shows, where the record has it.
SUMMARY = (
    "robust/clean_accuracy",
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


class TrainCLI(LightningCLI):
    """Lightning's command line, with the data's shapes passed to the model and a summary at the end."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """``--data-dir``, and what the model learns from the data."""
        parser.add_argument("--data-dir", type=str | None, default=None, help="folder with the data sets")
        parser.link_arguments("data_dir", "data.data_dir")
        parser.link_arguments("data.input_shape", "model.input_shape", apply_on="instantiate")
        parser.link_arguments("data.num_classes", "model.num_classes", apply_on="instantiate")

    def after_fit(self) -> None:
        """Print first, highest and last values, and how to see the rest."""
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


def summary(folder: Path) -> str:
    """A table of a record's main values: before training, at their highest, at the end."""
    record = read_record(folder)
    keys = [
        key
        for wanted in SUMMARY
        for key in record.snapshots[-1].scalars
        if key == wanted or (wanted.endswith("_") and key.startswith(wanted) and key.endswith("_accuracy"))
    ]
    width = max(map(len, keys), default=0)
    lines = [f"\n{'':{width}}  {'step 0':>9}  {'highest':>9}  {'at step':>9}  {'last':>9}"]
    for key in keys:
        values = record.series(key)
        if np.isnan(values).all():
            lines.append(f"{key:{width}}  {'-':>9}")
            continue
        at = int(np.nanargmax(values))
        cells = (f"{values[0]:9.4g}", f"{values[at]:9.4g}", f"{record.steps[at]:9d}", f"{values[-1]:9.4g}")
        lines.append(f"{key:{width}}  {'  '.join(cells)}".replace("nan", "  -"))
    return "\n".join(lines)


if __name__ == "__main__":
    TrainCLI(Classifier, DataModule)
