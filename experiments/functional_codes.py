"""Do deep layers know the classes, do shallow ones compress, and are compressed codes fragile?

After Lee & Vijayan (2022, arXiv:2205.10952).

    python -m experiments.functional_codes --data-dir DATA [--datasets fashion-mnist cifar10]

A CNN of four stages (three for digits) is trained on each data set, five seeds each. Through training its layers' codes
are mapped, and FGSM and PGD are followed through them beside noise of the same norm. Told of each data set: a table of
the layers at some snapshots; and what the seeds say to three claims of the paper, with intervals over seeds:

1. Codes agree with labels more in deeper layers: the rank correlation over layers of depth and adjusted mutual
   information with the label at the end, and the last layer's less the first's.
2. Shallow layers compress, deep ones expand: the participation ratio of the first layer less that of the pixels, and of
   the last layer less that of the first; also as a share of the entries that vary, as layers differ in width.
3. Compressed codes go with vulnerability: the rank correlation over the layers and snapshots of a run of participation
   ratio and of how much further PGD displaces a code than noise does; below 0 where the claim holds.

Drawn: the participation ratio over depth at some snapshots, and at the end the displacement over depth of attacks and
of noise, with bands over seeds. What is there already is not trained again.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import lightning as L
import numpy as np
from lightning.pytorch.loggers import CSVLogger
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.data import DataModule, DatasetName
from experiments.models import Classifier
from fnet_callbacks import FnetError, FunctionalCodes, Monitor, Record, Robustness, read_record
from fnet_callbacks.codes.measures import live_scale, participation_ratio
from fnet_callbacks.compare.effects import Interval, mean_band, mean_interval, rank_correlation, signs_p
from fnet_callbacks.figures.colours import PALETTE
from fnet_callbacks.report.wording import number, probability

STAGES = [16, 32, 64, 128]
EPSILONS: dict[DatasetName, float] = {"fashion-mnist": 0.1, "cifar10": 8 / 255, "digits": 0.1, "mnist": 0.1}
COLUMNS = {
    "participation_ratio": "participation ratio",
    "code_entropy": "code entropy",
    "label_ami": "AMI with label",
    "compactness": "compactness",
    "pgd_displacement": "displaced by PGD",
    "pgd_noise_displacement": "by noise",
    "pgd_departed_share": "departed",
}


@dataclass(frozen=True, slots=True)
class Run:
    """A trained network: its record, the places of its layers, and the participation ratio of its pixels."""

    record: Record
    places: Sequence[str]
    pixels: float

    def over(self, measure: str) -> np.ndarray:
        """A measure of the layers at the snapshots, ``[L, T]``."""
        return np.stack([self.record.series(f"codes/{place}/{measure}") for place in self.places])

    @property
    def widths(self) -> np.ndarray:
        """Units of the layers, ``[L]``."""
        return np.array([layer["n_units"] for layer in self.record.instruments["codes"]["layers"]])


def run_of(dataset: DatasetName, seed: int, asked: argparse.Namespace) -> Run:
    """Trains a network, unless it is there."""
    folder = asked.out / f"{dataset}-{seed}"
    data = DataModule(dataset, asked.data_dir, train_size=asked.train_size, seed=seed)
    data.setup("fit")
    options = {name: getattr(asked, name) for name in ("train_size", "epochs", "snapshots", "samples")}
    done = folder / "done.json"
    if not done.is_file():
        _train(data, dataset, seed, folder, asked)
        done.write_text(json.dumps(options))
    elif (kept := json.loads(done.read_text())) != options:
        raise FnetError(f"`out`: {folder} was made with {kept}, not {options}; take another folder")
    record = read_record(folder / "fnet")
    assert data.validation is not None
    values = data.validation.tensors[0][: asked.samples].flatten(1)
    mean, scale = live_scale(values)
    return Run(record, list(record.layer_names("codes")), participation_ratio((values - mean) / scale))


def _train(
    data: DataModule, dataset: DatasetName, seed: int, folder: Path, asked: argparse.Namespace
) -> None:
    L.seed_everything(seed, verbose=False)
    module = Classifier(
        "cnn",
        STAGES[: int(math.log2(min(data.input_shape[1:])))],  # each halves the image
        activation="relu",
        lr=1e-3,
        input_shape=data.input_shape,
        num_classes=data.num_classes,
    )
    steps = len(data.train_dataloader())
    every = max(1, steps * asked.epochs // asked.snapshots)
    epsilon, bounds = EPSILONS[dataset], (0.0, 1.0)
    monitor = Monitor(
        [
            FunctionalCodes(epsilon=epsilon, bounds=bounds, every_n_steps=every),
            Robustness(epsilons=[epsilon], bounds=bounds, every_n_steps=every),
        ],
        every_n_steps=every,
        probe_size=asked.samples,
        figures=1,
    )
    trainer = L.Trainer(
        max_epochs=asked.epochs,
        accelerator="cpu",
        callbacks=[monitor],
        logger=CSVLogger(folder, name="", version=""),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data.train_dataloader(), data.val_dataloader())


def told(dataset: DatasetName, runs: Sequence[Run]) -> str:
    """The layers over training, and the claims, as Markdown."""
    steps = runs[0].record.steps
    robust = {
        what: mean_interval(
            [
                next(v[-1] for k, v in _series(run).items() if k.startswith("robust/") and what in k)
                for run in runs
            ]
        )
        for what in ("clean_accuracy", "pgd")
    }
    lines = [
        f"### {dataset}",
        "",
        f"{len(runs)} seeds, {len(steps)} snapshots to step {steps[-1]}; accuracy on the probe at the end "
        f"{_told(robust['clean_accuracy'])}, under PGD with ε = {number(EPSILONS[dataset])} {_told(robust['pgd'])}. "
        f"Participation ratio of the pixels: {_told(mean_interval([run.pixels for run in runs]))}.",
        "",
        f"| step | layer | units | {' | '.join(COLUMNS.values())} |",
        f"| ---: | --- | ---: |{' ---: |' * len(COLUMNS)}",
    ]
    for place in _some(len(steps)):
        means = {name: np.mean([run.over(name)[:, place] for run in runs], axis=0) for name in COLUMNS}
        for k, width in enumerate(runs[0].widths):
            cells = " | ".join(number(float(values[k])) for values in means.values())
            lines.append(f"| {steps[place]} | {k + 1} | {width} | {cells} |")
    lines += ["", "| claim | mean over seeds | p |", "| --- | ---: | ---: |"]
    for what, values in claims(runs).items():
        interval = mean_interval(values)
        if "correlation" in what:
            interval = replace(interval, low=max(-1.0, interval.low), high=min(1.0, interval.high))
        lines.append(f"| {what} | {_told(interval)} | {probability(signs_p(values))} |")
    return "\n".join(lines)


def claims(runs: Sequence[Run]) -> dict[str, list[float]]:
    """What each seed says, by claim in words."""
    found: dict[str, list[float]] = {}

    def say(what: str, value: float) -> None:
        found.setdefault(what, []).append(float(value))

    for run in runs:
        ami, ratio = run.over("label_ami")[:, -1], run.over("participation_ratio")
        end, share = ratio[:, -1], ratio[:, -1] / run.widths
        further = run.over("pgd_displacement") / run.over("pgd_noise_displacement")
        say(
            "1: AMI with the label, rank correlation with depth",
            rank_correlation(np.arange(len(ami)), ami)[0],
        )
        say("1: AMI with the label, last layer less first", ami[-1] - ami[0])
        say("2: participation ratio, first layer less pixels", end[0] - run.pixels)
        say("2: participation ratio, last layer less first", end[-1] - end[0])
        say("2: its share of the units, last layer less first", share[-1] - share[0])
        say(
            "3: rank correlation of participation ratio and PGD's displacement over noise's, layers at the end",
            rank_correlation(end, further[:, -1])[0],
        )
        say(
            "3: the same correlation, snapshots of a layer, mean over layers",
            float(
                np.mean(
                    [rank_correlation(x, y, tested=False)[0] for x, y in zip(ratio, further, strict=True)]
                )
            ),
        )
    return found


def draw(runs: dict[DatasetName, Sequence[Run]]) -> Figure:
    """A row for each data set: participation ratio, then displacement, over depth."""
    figure = Figure(figsize=(9.5, 3.6 * len(runs)), dpi=110, layout="constrained")
    panels = figure.subplots(len(runs), 2, squeeze=False)
    for (dataset, own), (left, right) in zip(runs.items(), panels, strict=True):
        steps = own[0].record.steps
        for colour, place in enumerate(_some(len(steps))):
            values = np.array([[run.pixels, *run.over("participation_ratio")[:, place]] for run in own])
            _band(left, values, np.arange(values.shape[1]), f"step {steps[place]}", colour)
        names = ["pixels", *(str(k + 1) for k in range(len(own[0].places)))]
        left.set_xticks(range(len(names)), names)
        left.set(title=f"{dataset}: participation ratio of codes", xlabel="layer")
        left.set_ylim(bottom=0)
        depth = np.arange(1, len(own[0].places) + 1)
        for colour, (what, label) in enumerate(
            {"pgd": "PGD", "fgsm": "FGSM", "pgd_noise": "noise of PGD's norm"}.items()
        ):
            values = np.array([run.over(f"{what}_displacement")[:, -1] for run in own])
            _band(right, values, depth, label, colour)
        right.set_xticks(depth)
        right.set(title=f"{dataset}: displacement of codes, step {steps[-1]}", xlabel="layer")
        right.set_ylim(bottom=0)
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, fontsize=8)
    return figure


def _band(axes: Axes, values: np.ndarray, x: np.ndarray, label: str, colour: int) -> None:
    """Mean over seeds and its interval."""
    mean, low, high = mean_band(values)
    axes.plot(x, mean, marker="o", markersize=4, color=PALETTE[colour], label=label)
    axes.fill_between(x, low, high, color=PALETTE[colour], alpha=0.2, linewidth=0)


def _some(n: int) -> list[int]:
    """Up to four of n snapshots, the first and the last among them."""
    return sorted({0, min(1, n - 1), n // 2, n - 1})


def _series(run: Run) -> dict[str, np.ndarray]:
    keys = dict.fromkeys(key for s in run.record.snapshots for key in s.scalars)
    return {key: run.record.series(key) for key in keys if not key.endswith("zero_gradients")}


def _told(interval: Interval) -> str:
    return f"{number(interval.mean)} ({number(interval.low)} to {number(interval.high)})"


def main() -> None:
    """Trains what is missing, and tells."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/functional_codes"), help="folder of the networks")
    add("--data-dir", help="folder with the data sets")
    add("--datasets", nargs="+", choices=[*EPSILONS], default=["fashion-mnist"])
    add("--train-size", type=int, default=10_000)
    add("--epochs", type=int, default=5)
    add("--seeds", type=int, default=5)
    add("--snapshots", type=int, default=8, help="of each run, beside that before training")
    add("--samples", type=int, default=512, help="of the probe")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    runs = {}
    for dataset in asked.datasets:
        runs[dataset] = []
        for seed in range(asked.seeds):
            print(f"{dataset}, seed {seed}", file=sys.stderr, flush=True)
            runs[dataset].append(run_of(dataset, seed, asked))
    text = "\n\n".join(told(dataset, own) for dataset, own in runs.items())
    (asked.out / "RESULTS.md").write_text(text + "\n", encoding="utf-8")
    draw(runs).savefig(asked.out / "codes.png")
    print(text)


if __name__ == "__main__":
    try:
        main()
    except FnetError as error:
        sys.exit(f"error: {error}")
