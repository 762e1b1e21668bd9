"""Early stopping without a validation set: by functional persistence, and by the loss on validation images.

    python -m experiments.early_stopping --data-dir DATA

After Functional Loops (Zhang & Lin 2024): from epoch b on (burn-in) training goes on until the value has not improved
for p epochs (patience), and the best epoch so far is taken. Ten runs are trained to their end
(``experiments/sweeps/early_stopping.yaml``) and stopped afterwards, by both values, for every pair (b, p) with b + p
below the number of epochs. For each pair the two are compared run by run: in which epoch they stop, and in the accuracy
on test images that neither of them has seen. A table and a picture go to the folder of the runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.sweep import run_study, study_parser
from fnet_callbacks.compare.effects import Interval, mean_interval
from fnet_callbacks.compare.run import Run
from fnet_callbacks.compare.runs import read_runs
from fnet_callbacks.errors import FnetError
from fnet_callbacks.report.wording import number

SWEEP = Path(__file__).parent / "sweeps" / "early_stopping.yaml"
PERSISTENCE, LOSS, ACCURACY = "fnet/functional_persistence", "val_loss", "test_accuracy"


@dataclass(frozen=True, slots=True)
class Epochs:
    """One run, epoch by epoch, ``[E]`` each."""

    persistence: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray


def stop(values: np.ndarray, burn_in: int, patience: int) -> int:
    """The epoch that is taken where larger values are better; NaN is never better."""
    best, best_epoch, waited = -np.inf, burn_in, 0
    for epoch in range(burn_in, len(values)):
        if values[epoch] > best:
            best, best_epoch, waited = values[epoch], epoch, 0
        else:
            waited += 1
            if waited >= patience:
                break
    return best_epoch


def epochs_of(run: Run) -> Epochs:
    """A run with a snapshot after each epoch; what is logged at an epoch's end stands in the snapshot after it.

    Raises:
        FnetError: A value is missing.
    """
    snapshots = [s for s in run.record.snapshots if s.step > 0]
    persistence = [s.scalars.get(PERSISTENCE, np.nan) for s in snapshots]
    logged = [*(s.logged for s in snapshots[1:]), run.record.snapshots[-1].logged_at_end]
    if len(snapshots) < 3 or not all({LOSS, ACCURACY} <= set(values) for values in logged):
        raise FnetError(
            f"{run.name}: no {LOSS} and {ACCURACY} after each epoch; it should be a run of {SWEEP.name}"
        )
    epochs = int(run.configuration.get("trainer.max_epochs") or 0)
    if [s.step * epochs for s in snapshots] != [(i + 1) * snapshots[-1].step for i in range(epochs)]:
        raise FnetError(
            f"{run.name}: there should be a snapshot after each of {epochs} epochs, not at the steps "
            f"{', '.join(str(s.step) for s in snapshots[:3])} ...; give the monitor every_n_epochs=1"
        )
    return Epochs(
        np.array(persistence),
        np.array([values[LOSS] for values in logged]),
        np.array([values[ACCURACY] for values in logged]),
    )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both rules for every pair (b, p): ``[B, P, R]``, epochs from 1; NaN where b + p is beyond the last epoch."""

    by_persistence: np.ndarray
    by_loss: np.ndarray
    accuracy_by_persistence: np.ndarray
    accuracy_by_loss: np.ndarray

    def difference(self, burn_in: int, patience: int) -> Interval:
        """In accuracy, persistence less loss, over the runs."""
        pair = burn_in, patience - 1
        return mean_interval(self.accuracy_by_persistence[pair] - self.accuracy_by_loss[pair])


def compared(runs: Sequence[Epochs]) -> Comparison:
    """Stops every run by both values, for every pair of burn-in 0 ... and patience 1 ..."""
    n_epochs = min(len(run.loss) for run in runs)
    shape = n_epochs - 1, n_epochs - 1, len(runs)
    stops, accuracies = np.full((2, *shape), np.nan), np.full((2, *shape), np.nan)
    for r, run in enumerate(runs):
        for k, values in enumerate((run.persistence, -run.loss)):
            for burn_in in range(n_epochs - 1):
                for patience in range(1, n_epochs - burn_in):
                    epoch = stop(values[:n_epochs], burn_in, patience)
                    stops[k, burn_in, patience - 1, r] = epoch + 1
                    accuracies[k, burn_in, patience - 1, r] = run.accuracy[epoch]
    return Comparison(*stops, *accuracies)


PAIRS = ((0, 3), (0, 5), (0, 10), (5, 3), (5, 5), (5, 10), (10, 3), (10, 5), (10, 10), (20, 5))


def told(found: Comparison, runs: Sequence[Epochs]) -> str:
    """The table as Markdown: some pairs, and all of them together."""
    n_epochs = found.by_loss.shape[0] + 1
    lines = [
        "| burn-in | patience | epoch by persistence | by loss | test accuracy by persistence | by loss | difference "
        "(95 % interval) |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for burn_in, patience in (pair for pair in PAIRS if sum(pair) < n_epochs):
        at = burn_in, patience - 1
        d = found.difference(burn_in, patience)
        lines.append(
            f"| {burn_in} | {patience} | {np.median(found.by_persistence[at]):g} | {np.median(found.by_loss[at]):g} | "
            f"{found.accuracy_by_persistence[at].mean():.4f} | {found.accuracy_by_loss[at].mean():.4f} | "
            f"{number(d.mean)} ({number(d.low)} to {number(d.high)}) |"
        )
    difference = (found.accuracy_by_persistence - found.accuracy_by_loss).mean(axis=-1)
    known = np.isfinite(difference)
    best = np.mean([run.accuracy.max() for run in runs])
    last = np.mean([run.accuracy[-1] for run in runs])
    ahead, behind = (difference[known] > 0).mean(), (difference[known] < 0).mean()
    lines += [
        "",
        f"Over all {known.sum()} pairs: persistence is ahead in {ahead:.0%}, behind in {behind:.0%}; the difference is "
        f"{np.median(difference[known]):.4f} in the median, {difference[known].min():.4f} to "
        f"{difference[known].max():.4f}. The best epoch has {best:.4f} on average, the last {last:.4f}. "
        f"{len(runs)} runs.",
    ]
    return "\n".join(lines)


def picture(found: Comparison) -> Figure:
    """The difference in accuracy, and the epochs, for every pair."""
    figure = Figure(figsize=(12, 3.8), dpi=110, layout="constrained")
    panels = (
        ("epoch by functional persistence", np.median(found.by_persistence, axis=-1), "viridis", None),
        ("epoch by validation loss", np.median(found.by_loss, axis=-1), "viridis", None),
        (
            "test accuracy, persistence less loss",
            (found.accuracy_by_persistence - found.accuracy_by_loss).mean(axis=-1),
            "RdBu",
            0.0,
        ),
    )
    for axes, (title, values, colours, centre) in zip(figure.subplots(1, 3), panels, strict=True):
        known = np.isfinite(values)
        limits = {"vmin": 1, "vmax": len(values) + 1}
        if centre is not None:
            reach = float(np.abs(values[known]).max(initial=0.0)) or 1.0
            limits = {"vmin": -reach, "vmax": reach}
        extent = (0.5, values.shape[1] + 0.5, -0.5, len(values) - 0.5)
        image = axes.imshow(values, origin="lower", cmap=colours, extent=extent, **limits)
        axes.set(title=title, xlabel="patience p", ylabel="burn-in b")
        figure.colorbar(image, ax=axes, shrink=0.85)
    return figure


def main() -> int:
    """Trains what is missing, and compares."""
    asked = study_parser(__doc__, Path("runs/early_stopping")).parse_intermixed_args()
    failed, folders = run_study(SWEEP, asked.out, asked)
    runs = [epochs_of(run) for run in read_runs(folders).runs]
    found = compared(runs)
    table = told(found, runs)
    (asked.out / "early_stopping.md").write_text(table + "\n", encoding="utf-8")
    picture(found).savefig(asked.out / "early_stopping.png")
    print(f"\n{table}\n\nwrote {asked.out / 'early_stopping.md'} and {asked.out / 'early_stopping.png'}")
    return failed


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FnetError as error:
        sys.exit(f"error: {error}")
