"""One picture of a run: its network at three snapshots, and its curves.

    python -m experiments.picture RUN OUT.png

RUN is a run's log directory, such as ``runs/digits_mlp/version_0``.
"""

import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fnet_callbacks import Record, read_record
from fnet_callbacks.figures import Painter
from fnet_callbacks.figures.records import portrait_of

CURVES = {
    "accuracy": {
        "robust/clean_accuracy": "clean",
        "robust/fgsm_0.1_accuracy": "FGSM",
        "robust/pgd_0.1_accuracy": "PGD",
    },
    "communities": {"fnet/modularity": "modularity", "fnet/partition_ami": "AMI with the last snapshot"},
    "small-worldness": {
        "fnet/sigma": "against rewired graphs",
        "fnet/sigma_hqs": "against random correlations",
    },
    "loops": {"fnet/loops": "number of H1 points"},
}


def draw(record: Record) -> Figure:
    """Three networks above, four charts below."""
    figure = Figure(figsize=(12.5, 7.4), dpi=110, layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1.5, 1])  # type: ignore[misc]
    painter = Painter()
    shown = [record.steps[0], record.steps[2], record.steps[-1]]
    for step in record.steps:  # every snapshot, so that positions and colours carry over
        portrait = portrait_of(record, "fnet", step)
        assert portrait is not None
        image = painter.paint(portrait, ["graph"])["graph"]
        if step in shown:
            axes = above.add_subplot(1, 3, 1 + shown.index(step))
            axes.imshow(image)
            axes.set_axis_off()
    for axes, (title, series) in zip(below.subplots(1, len(CURVES)), CURVES.items(), strict=True):
        curves(axes, record, title, series)
    return figure


def curves(axes: Axes, record: Record, title: str, series: dict[str, str]) -> None:
    """One chart of some of a record's series."""
    for key, label in series.items():
        axes.plot(record.steps, record.series(key), marker=".", markersize=4, linewidth=1.3, label=label)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("step")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)


if __name__ == "__main__":
    draw(read_record(Path(sys.argv[1]) / "fnet")).savefig(sys.argv[2])
