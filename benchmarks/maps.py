"""What a self-organising map costs: all samples at once, beside MiniSom's.

    python -m benchmarks.maps [--data-dir DATA]

A map of 15 x 15 for 5,000 codes of 128 dimensions (Gaussian clusters), ten passes, the same radii. MiniSom is trained
sample by sample, as is usual, and by its own batch rule. Interleaved rounds in one run; the fastest of each counts.
With ``--data-dir`` also the errors of maps of 10 x 10 for what the layers of a CNN show of Fashion-MNIST, ours beside
MiniSom's after as many passes at the same radii, which depend on the order of the samples: five orders.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from minisom import MiniSom
from torch import Tensor

from benchmarks.tables import fastest, machine, markdown, number, tell, write_json
from experiments.data import DataModule
from experiments.models import Classifier
from fnet_callbacks import functional_codes
from fnet_callbacks.codes.som import train_map

GRID, SAMPLES, DIMENSIONS, PASSES, SIGMA, SEEDS = (15, 15), 5000, 128, 10, 5.0, 5


@dataclass(frozen=True, slots=True)
class Row:
    """One way to train the map."""

    name: str
    seconds: float
    quantization_error: float
    topographic_error: float


def codes_of(samples: int, dimensions: int) -> Tensor:
    """Twenty clusters in a space of few dimensions, and noise; standardised."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(20, 4, generator=generator) @ torch.randn(4, dimensions, generator=generator)
    codes = centres[torch.arange(samples) % 20] + torch.randn(samples, dimensions, generator=generator)
    return (codes - codes.mean(0)) / codes.std(0)


def minisom(
    values: np.ndarray, grid: tuple[int, int], passes: int, *, batch: bool = False, seed: int = 0
) -> MiniSom:
    """MiniSom's map; its radius falls from `SIGMA` to a third of it."""
    found = MiniSom(*grid, values.shape[1], sigma=SIGMA, learning_rate=0.5, random_seed=seed)  # pyright: ignore[reportArgumentType]
    found.pca_weights_init(values)
    if batch:
        found.train_batch_offline(values, passes)
    else:
        found.train(values, passes * len(values), random_order=True)
    return found


def radii(passes: int) -> list[float]:
    """Of each pass, the one that MiniSom's pass ends with."""
    return [SIGMA / (1 + 2 * (t + 1) / passes) for t in range(passes)]


def rows_of(samples: int, rounds: int, *, grid: tuple[int, int] = GRID, passes: int = PASSES) -> list[Row]:
    """Ours first."""
    codes = codes_of(samples, DIMENSIONS)
    values = codes.double().numpy()
    runs = {
        "fnet_callbacks": lambda: train_map(codes, grid, radii=radii(passes)),
        "MiniSom, sample by sample": lambda: minisom(values, grid, passes),
        "MiniSom, batch": lambda: minisom(values, grid, passes, batch=True),
    }
    errors = {}
    for name, run in runs.items():
        tell(f"{name} ...")
        found, shown = run(), codes if name == "fnet_callbacks" else values
        errors[name] = found.quantization_error(shown), found.topographic_error(shown)
    seconds = fastest(runs, rounds=rounds)
    return [Row(name, seconds[name], *map(float, errors[name])) for name in runs]


def told(values: Sequence[Any]) -> str:
    """Mean, and from what to what."""
    mean, low, high = (number(float(f(values))) for f in (np.mean, np.min, np.max))
    return f"{mean} ({low} to {high})"


def layers_of(data_dir: str, *, samples: int = 2048) -> list[list[str]]:
    """Rows of a table: layer, units, and both errors of our map and MiniSom's."""
    data = DataModule("fashion-mnist", data_dir, train_size=5000, seed=0)
    data.setup("fit")
    torch.manual_seed(0)
    model = Classifier("cnn", [16, 32, 64, 128], activation="relu", lr=1e-3)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for images, labels in data.train_dataloader():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    found = functional_codes(model, data.val_dataloader(), max_samples=samples)  # type: ignore[arg-type]
    rows, grid = [], (10, 10)
    for layer in found.layers:
        tell(f"layer {layer.name} ...")
        codes, values = layer.codes, layer.codes.double().numpy()
        ours = train_map(codes, grid, radii=radii(PASSES))
        theirs = [minisom(values, grid, PASSES, seed=seed) for seed in range(SEEDS)]
        rows.append(
            [
                *(layer.name, str(codes.shape[1])),
                *(
                    number(ours.quantization_error(codes)),
                    told([m.quantization_error(values) for m in theirs]),
                ),
                *(number(ours.topographic_error(codes)), told([m.topographic_error(values) for m in theirs])),
            ]
        )
    return rows


def table(rows: Sequence[Row]) -> str:
    """The table, with how many times longer each takes than ours."""
    header = ["map", "s", "times ours", "quantization error", "topographic error"]
    cells = [
        [
            row.name,
            number(row.seconds),
            number(row.seconds / rows[0].seconds),
            number(row.quantization_error),
            number(row.topographic_error),
        ]
        for row in rows
    ]
    return markdown(header, cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data-dir", help="folder with fashion-mnist/")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    found = rows_of(arguments.samples, arguments.rounds)
    on = machine("numpy", "torch", "minisom")
    print(f"{on}\n\n{table(found)}")
    if arguments.data_dir:
        header = [
            "layer",
            "units",
            *(f"{e}, {w}" for e in ("quantization", "topographic") for w in ("ours", "MiniSom")),
        ]
        print(f"\n{markdown(header, layers_of(arguments.data_dir))}")
    write_json(arguments.json, {"machine": on, "rows": [asdict(row) for row in found]})


if __name__ == "__main__":
    main()
