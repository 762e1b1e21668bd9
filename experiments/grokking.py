"""Grokking, watched: a network that knows its training pairs by heart finds, much later, the rule behind them.

    python -m experiments.grokking
    python -m experiments.grokking --steps 30000 --prime 97 --seed 1 --out runs/grokking_97

A small transformer learns to add modulo a prime, after Power et al. (2022, arXiv:2201.02177), in the form of Nanda et
al. (2023, arXiv:2301.05217): one layer without normalisation, full batches, AdamW with a weight decay of 1. The
functional network is that of the MLP's neurons over pairs that are not trained on. Accuracy and every measure are drawn
on one axis of steps, as ``grokking.png`` in the folder of the run, and where each set of pairs was known is said.
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from fnet_callbacks import FnetError, FunctionalNetwork, Monitor, Record, read_record
from fnet_callbacks.palette import COLOURS

KNOWN = 0.95  # accuracy from which on a set of pairs counts as known
_STEPS_AN_EPOCH = 100
TRAIN, TEST = "train_accuracy", "test_accuracy"


class Adder(nn.Module):
    """A transformer of one layer that reads ``a b =`` and answers at the last token.

    Args:
        prime: Of the modulus; the tokens are the residues and ``=``.
        width: Of the residual stream.
        heads: Of attention.
        neurons: Of the MLP.
    """

    def __init__(self, prime: int, width: int = 128, heads: int = 4, neurons: int = 512) -> None:
        super().__init__()
        self.heads = heads
        self.tokens = nn.Parameter(torch.randn(prime + 1, width) / width**0.5)
        self.places = nn.Parameter(torch.randn(3, width) / width**0.5)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.up, self.act, self.down = nn.Linear(width, neurons), nn.ReLU(), nn.Linear(neurons, width)
        self.head = nn.Linear(width, prime, bias=False)

    def forward(self, pairs: Tensor) -> Tensor:
        """Logits ``[S, prime]`` of pairs ``[S, 2]``."""
        equals = torch.full((len(pairs), 1), len(self.tokens) - 1, device=pairs.device)
        stream = self.tokens[torch.cat([pairs, equals], dim=1)] + self.places
        # Only the last token is asked; what the others would do is seen by nobody.
        query, key, value = self.query(stream[:, -1:]), self.key(stream), self.value(stream)
        split = [x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (query, key, value)]
        mixed = functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        last = stream[:, -1] + self.out(mixed)[:, 0]
        return self.head(last + self.down(self.act(self.up(last))))


class Grokking(L.LightningModule):
    """Trains an `Adder`."""

    def __init__(self, prime: int, *, lr: float, weight_decay: float) -> None:
        super().__init__()
        self.net, self.lr, self.weight_decay = Adder(prime), lr, weight_decay

    def forward(self, pairs: Tensor) -> Tensor:
        """See `Adder`."""
        return self.net(pairs)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy over all training pairs."""
        pairs, sums = batch
        logits = self(pairs)
        self.log(TRAIN, (logits.argmax(1) == sums).float().mean())
        return functional.cross_entropy(logits, sums)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Accuracy on the pairs that are not trained on."""
        pairs, sums = batch
        self.log(TEST, (self(pairs).argmax(1) == sums).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """As Nanda et al. have it."""
        return torch.optim.AdamW(
            self.parameters(), lr=self.lr, weight_decay=self.weight_decay, betas=(0.9, 0.98)
        )


class Repeated(Dataset):
    """The same batch again and again: an epoch is so many steps."""

    def __init__(self, batch: tuple[Tensor, Tensor]) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return _STEPS_AN_EPOCH

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.batch


def pairs_of(prime: int, share: float, seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """All pairs and their sums modulo a prime, a share of them drawn for training, the others for the test.

    Raises:
        FnetError: One of the two sets would be empty.
    """
    pairs = torch.cartesian_prod(torch.arange(prime), torch.arange(prime))
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))
    n_train = round(share * len(pairs))
    if not 0 < n_train < len(pairs):
        raise FnetError(f"`share={share}` of {len(pairs)} pairs leaves none to train on, or none to test")
    sums = pairs.sum(1) % prime
    train, test = order[:n_train], order[n_train:]
    return (pairs[train], sums[train]), (pairs[test], sums[test])


def train(
    out: Path, *, prime: int, steps: int, every: int, share: float, weight_decay: float, seed: int
) -> Path:
    """Trains with a snapshot every so many steps; returns the folder of the record."""
    L.seed_everything(seed, verbose=False)
    known, unknown = pairs_of(prime, share, seed)
    test = TensorDataset(*unknown)
    monitor = Monitor(FunctionalNetwork(layers=["net.act"]), every_n_steps=every, probe=test, figures=None)
    trainer = L.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=TensorBoardLogger(out, name=None, version=""),
        callbacks=[monitor],
        enable_checkpointing=False,
        enable_model_summary=False,
        log_every_n_steps=_STEPS_AN_EPOCH,
    )
    module = Grokking(prime, lr=1e-3, weight_decay=weight_decay)
    whole = DataLoader(test, batch_size=len(test))
    trainer.fit(module, DataLoader(Repeated(known), batch_size=None), whole)
    return out / "fnet"


def logged(record: Record, key: str) -> np.ndarray:
    """What the run had logged itself up to each snapshot, its own step's validation included; NaN before it had.

    A snapshot at the end of an epoch comes before that epoch's validation, which stands in the next.
    """
    found = []
    for own, after in pairwise(record.snapshots):
        ends = own.step > 0 and own.step % _STEPS_AN_EPOCH == 0 and after.step <= own.step + _STEPS_AN_EPOCH
        found.append((after if ends else own).logged.get(key, np.nan))
    return np.array([*found, record.snapshots[-1].logged_at_end.get(key, np.nan)])


def known_from(record: Record, key: str) -> int | None:
    """The step of the first snapshot from which on an accuracy stays above `KNOWN`; None where it does not."""
    below = np.flatnonzero(~(logged(record, key) > KNOWN))
    after = int(below[-1]) + 1 if len(below) else 0
    return record.steps[after] if after < len(record.steps) else None


def measures(record: Record) -> list[str]:
    """Keys of what was measured of the whole network and has a definition."""
    known = {key: record.keys[key] for key in record.snapshots[-1].scalars if key in record.keys}
    return [key for key, entry in known.items() if entry.place is None and entry.definition]


def draw(record: Record) -> Figure:
    """Accuracy above, then a panel for each measure of the whole network, all on the steps."""
    series = {key: record.series(key) for key in measures(record)}
    series = {key: v for key, v in series.items() if len(np.unique(v[np.isfinite(v)])) > 1}
    columns = 3
    rows = -(-len(series) // columns)
    figure = Figure(figsize=(4.4 * columns, 1.7 * (rows + 1)), dpi=100, layout="constrained")
    panels = figure.subplots(rows + 1, columns, sharex=True)
    marks = {TRAIN: known_from(record, TRAIN), TEST: known_from(record, TEST)}
    for axes in panels[0]:
        for key, colour in ((TRAIN, COLOURS[0]), (TEST, COLOURS[5])):
            axes.plot(record.steps, logged(record, key), color=colour, label=key.replace("_", " "))
        axes.set_title("accuracy", fontsize=9)
    panels[0, 0].legend(frameon=False, fontsize=8)
    for axes, (key, values) in zip(panels[1:].flat, series.items(), strict=False):
        axes.plot(record.steps, values, color="#1b1f24", linewidth=1)
        axes.set_title(record.keys[key].label, fontsize=9)
    used = [*panels[0], *panels[1:].flat[: len(series)]]
    for axes in panels[1:].flat[len(series) :]:
        axes.remove()
    for axes in used:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        for mark, colour in zip(marks.values(), (COLOURS[0], COLOURS[5]), strict=True):
            if mark is not None:
                axes.axvline(mark, color=colour, linewidth=0.8, linestyle=":")
    for axes in used[-columns:]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("step", fontsize=9)
    return figure


def told(record: Record) -> str:
    """Every measure at the start, when the training pairs were known, when the test pairs were, and at the end."""
    marks = {"start": record.steps[0], "training known": known_from(record, TRAIN)}
    marks |= {"test known": known_from(record, TEST), "end": record.steps[-1]}
    at = {name: record.steps.index(step) for name, step in marks.items() if step is not None}
    missing = [name for name in marks if name not in at]
    lines = [
        f"| at | {' | '.join(at)} |",
        f"| --- | {' | '.join('---:' for _ in at)} |",
        f"| step | {' | '.join(str(record.steps[i]) for i in at.values())} |",
    ]
    series = {key.replace("_", " "): logged(record, key) for key in (TRAIN, TEST)}
    series |= {record.keys[key].label: record.series(key) for key in measures(record)}
    for label, values in series.items():
        cells = (f"{values[i]:.3g}" if np.isfinite(values[i]) else "–" for i in at.values())
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines + [f"Never: {name}." for name in missing])


def main() -> None:
    """Trains, draws, tells."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/grokking"), help="folder of the run")
    parser.add_argument("--prime", type=int, default=59, help="the modulus")
    parser.add_argument("--steps", type=int, default=15_000, help="full batches")
    parser.add_argument("--every", type=int, default=100, help="steps between snapshots")
    parser.add_argument("--share", type=float, default=0.4, help="of the pairs that are trained on")
    parser.add_argument("--weight-decay", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drawing", action="store_true", help="draw a run that is there")
    asked = parser.parse_args()
    settings = {k: getattr(asked, k) for k in ("prime", "steps", "every", "share", "weight_decay", "seed")}
    folder = asked.out / "fnet" if asked.drawing else train(asked.out, **settings)
    record = read_record(folder)
    print(told(record))
    draw(record).savefig(asked.out / "grokking.png")
    print(f"\nwrote {asked.out / 'grokking.png'}")


if __name__ == "__main__":
    try:
        main()
    except FnetError as error:
        sys.exit(f"error: {error}")
