"""What a healthy, an overfitted, a dead and a collapsed network look like.

    python -m experiments.healthy_and_not
    python -m experiments.healthy_and_not --seeds 1 --out runs/quick

Four MLPs of 3 x 128 ReLU learn scikit-learn's digits for the same number of steps, with the same first weights for the
same seed. One learns as it should; one has few images, half of them with a label drawn at random; one has a learning
rate that kills ReLUs; one so much weight decay that its neurons all do the same. Each is watched on images that none
of them learns from. The measures at the end are printed, and the first seed's networks drawn.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from experiments.data import DataModule
from experiments.models import Classifier
from fnet_callbacks import FunctionalNetwork, Monitor, Record, read_record
from fnet_callbacks.figures.canvas import image_of
from fnet_callbacks.figures.colours import PALETTE, tint

TRAIN, VALIDATION = "train_accuracy", "val_accuracy"
MEASURES = (
    *("dead_fraction", "mean_abs_correlation", "effective_rank", "selectivity_entropy", "tree_mean"),
    *("global_efficiency", "modularity", "modularity_z", "class_affinity", "sigma", "sigma_hqs"),
    *("loops", "functional_persistence"),
)
SNAPSHOTS = 20  # a run


@dataclass(frozen=True, slots=True)
class Case:
    """What is done to a network.

    Attributes:
        how: In words, for the picture.
        lr: Learning rate of Adam.
        weight_decay: Adam's.
        images: That are trained on; None for all.
        random_labels: Share of the labels that are drawn at random.
    """

    how: str
    lr: float = 1e-3
    weight_decay: float = 0.0
    images: int | None = None
    random_labels: float = 0.0


CASES = {
    "healthy": Case("learning rate 0.001"),
    "overfitted": Case("200 images, half of\nthe labels random", images=200, random_labels=0.5),
    "dead": Case("learning rate 0.05", lr=0.05),
    "collapsed": Case("weight decay 0.028", weight_decay=0.028),
}


class Watched(Classifier):
    """An MLP of 3 x 128 ReLU on digits, trained by Adam with some weight decay."""

    def __init__(self, lr: float, weight_decay: float) -> None:
        super().__init__("mlp", (128, 128, 128), activation="relu", lr=lr, input_shape=(1, 8, 8))
        self.weight_decay = weight_decay

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, whose weight decay is half the squared weights in the loss."""
        return torch.optim.Adam(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)


def images_of(case: Case, data: TensorDataset, seed: int) -> TensorDataset:
    """What a case is trained on: the first images, and labels of which a share is drawn at random."""
    inputs, labels = (t[: case.images].clone() for t in data.tensors)
    n_random = round(case.random_labels * len(labels))
    labels[:n_random] = torch.randint(10, (n_random,), generator=torch.Generator().manual_seed(seed))
    return TensorDataset(inputs, labels)


def train(out: Path, case: Case, *, steps: int, seed: int) -> Record:
    """Trains a network; returns its record."""
    L.seed_everything(seed, verbose=False)
    data = DataModule("digits")
    data.setup("fit")
    assert data.train is not None
    assert data.validation is not None
    network = FunctionalNetwork(measures=list(MEASURES), layer_measures=[], save_correlation=True)
    every = max(1, steps // SNAPSHOTS)
    monitor = Monitor(network, every_n_steps=every, probe=data.validation, figures=None)
    trainer = L.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=CSVLogger(out, name=None, version=""),
        callbacks=[monitor],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        log_every_n_steps=1,
    )
    order = torch.Generator().manual_seed(seed)
    images = images_of(case, data.train, seed)
    loader = DataLoader(images, batch_size=64, shuffle=True, generator=order)
    trainer.fit(Watched(case.lr, case.weight_decay), loader, DataLoader(data.validation, batch_size=512))
    return read_record(out / "fnet")


def logged(record: Record, key: str) -> np.ndarray:
    """An accuracy at each snapshot, as it was logged last; NaN before it was."""
    found = [s.logged.get(key, np.nan) for s in record.snapshots]
    return np.array([*found[:-1], record.snapshots[-1].logged_at_end.get(key, np.nan)])


def told(records: Mapping[str, Sequence[Record]]) -> str:
    """Each measure at the end, mean over seeds with the lowest and the highest, and that before training."""
    names = list(records)
    lines = [f"| at the end | before training | {' | '.join(names)} |"]
    lines.append(f"| --- | ---: | {' | '.join('---:' for _ in names)} |")
    for key in (TRAIN, VALIDATION):
        cells = [_cell([logged(record, key)[-1] for record in records[name]]) for name in names]
        lines.append(f"| `{key}` | – | {' | '.join(cells)} |")
    for measure in MEASURES:
        key = f"fnet/{measure}"
        before = _cell([record.series(key)[0] for record in records["healthy"]])
        cells = [_cell([record.series(key)[-1] for record in records[name]]) for name in names]
        lines.append(f"| `{measure}` | {before} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    mean, low, high = (f"{float(f(values)):.3g}" for f in (np.mean, np.min, np.max))
    return mean if low == high else f"{mean} ({low} to {high})"


def draw(records: Mapping[str, Record]) -> Figure:
    """A row for each network: its correlations at the end, its loops before and after, three charts over training."""
    figure = Figure(figsize=(9, 1.85 * len(records) + 0.5), dpi=140, layout="constrained")
    panels = figure.subplots(len(records), 5, squeeze=False, width_ratios=[1.1, 1, 1, 1, 1])
    titles = ("|r| at the end,\nby community", "loops (β₁)\nby radius", "accuracy")
    for axes, title in zip(panels[0], (*titles, "dead share,\nmean |r|", "effective rank"), strict=True):
        axes.set_title(title, fontsize=10)
    for row, (name, record) in zip(panels, records.items(), strict=True):
        matrix, loops, accuracy, shares, rank = row
        _matrix(matrix, record)
        matrix.set_ylabel(f"{name}\n{CASES[name].how}", fontsize=9)
        grid = np.linspace(0, 1, 101)
        for step, colour, label in (
            (record.steps[0], "0.6", "before"),
            (record.steps[-1], PALETTE[5], "after"),
        ):
            loops.plot(grid, record.arrays(step)["fnet.betti_curve_1"], color=colour, label=label)
        for key, colour, label in ((TRAIN, PALETTE[0], "training"), (VALIDATION, PALETTE[1], "validation")):
            accuracy.plot(record.steps, logged(record, key), color=colour, label=label)
        for key, colour, label in (
            ("fnet/dead_fraction", "0.2", "dead"),
            ("fnet/mean_abs_correlation", PALETTE[3], "mean |r|"),
        ):
            shares.plot(record.steps, record.series(key), color=colour, label=label)
        rank.plot(record.steps, record.series("fnet/effective_rank"), color=PALETTE[2])
        for axes in (accuracy, shares):
            axes.set_ylim(0, 1.04)
    for column in panels.T[1:]:  # one scale a column, so that rows can be compared
        top = max(axes.get_ylim()[1] for axes in column)
        for axes in column:
            axes.set_ylim(0, top)
            axes.tick_params(labelsize=8, labelbottom=axes is column[-1])
            axes.spines[["top", "right"]].set_visible(False)
    for axes, top in zip(panels[0, 1:4], (0.98, 0.3, 0.98), strict=True):
        _name_lines(axes, top)
    for axes, label in zip(panels[-1, 1:], ("1 − |r|", "step", "step", "step"), strict=True):
        axes.set_xlabel(label, fontsize=9)
    return figure


def _matrix(axes: Axes, record: Record) -> None:
    """|r| of the live neurons, those of a community side by side, with a strip in its colour."""
    arrays = record.arrays(record.steps[-1])
    partition = arrays["fnet.partition"]
    order, n = np.argsort(partition, kind="stable"), len(partition)
    shown = np.abs(arrays["fnet.correlation"][np.ix_(order, order)])
    shades = colormaps["magma"].resampled(16)  # more would only make the file larger
    axes.imshow(shown, vmin=0, vmax=1, cmap=shades, interpolation="antialiased", interpolation_stage="data")
    strip = (-0.09 * n, -0.03 * n, n - 0.5, -0.5)
    axes.imshow(tint(partition[order])[:, None], extent=strip, aspect="auto", interpolation="nearest")
    axes.set(xlim=(-0.1 * n, n - 0.5), ylim=(n - 0.5, -0.5), xticks=[], yticks=[])
    axes.set_xlabel(f"{n} live neurons", fontsize=8)
    axes.spines[:].set_visible(False)


def _name_lines(axes: Axes, top: float) -> None:
    """Writes the names of the lines in their colours, at the right: a legend would cover them."""
    for place, line in enumerate(axes.get_lines()):
        style = {"color": line.get_color(), "ha": "right", "va": "top", "fontsize": 9}
        axes.text(1, top - 0.13 * place, str(line.get_label()), transform=axes.transAxes, **style)


def main() -> None:
    """Trains, tells, draws."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/healthy_and_not"), help="folder of the runs")
    parser.add_argument("--picture", type=Path, default=None, help="default: in the folder of the runs")
    parser.add_argument("--steps", type=int, default=960, help="of training")
    parser.add_argument("--seeds", type=int, default=3, help="networks of each kind")
    asked = parser.parse_args()
    records = {
        name: [train(asked.out / name / f"{s}", case, steps=asked.steps, seed=s) for s in range(asked.seeds)]
        for name, case in CASES.items()
    }
    print(told(records))
    picture = asked.picture or asked.out / "healthy_and_not.png"
    image = image_of(draw({name: own[0] for name, own in records.items()}))
    Image.fromarray(image).quantize(128).save(picture, optimize=True)  # a third of the size of all colours
    print(f"\nwrote {picture}")


if __name__ == "__main__":
    main()
