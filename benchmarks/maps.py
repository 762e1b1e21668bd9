"""What a self-organising map costs: all samples at once, beside MiniSom's.

    python -m benchmarks.maps

A map of 15 x 15 for 5,000 codes of 128 dimensions (Gaussian clusters), ten passes, the same radii. MiniSom is trained
sample by sample, as is usual, and by its own batch rule. Interleaved rounds in one run; the fastest of each counts.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from minisom import MiniSom
from torch import Tensor

from benchmarks.tables import fastest, machine, markdown, number, tell, write_json
from fnet_callbacks.codes.som import train_map

GRID, SAMPLES, DIMENSIONS, PASSES, SIGMA = (15, 15), 5000, 128, 10, 5.0


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


def rows_of(samples: int, rounds: int, *, grid: tuple[int, int] = GRID, passes: int = PASSES) -> list[Row]:
    """Ours first."""
    codes = codes_of(samples, DIMENSIONS)
    values = codes.double().numpy()
    # MiniSom's radius falls from SIGMA to a third of it; ours of each pass is the one that its pass ends with.
    radii = [SIGMA / (1 + 2 * (t + 1) / passes) for t in range(passes)]

    def minisom(*, batch: bool) -> MiniSom:
        found = MiniSom(*grid, DIMENSIONS, sigma=SIGMA, learning_rate=0.5, random_seed=0)  # pyright: ignore[reportArgumentType]
        found.pca_weights_init(values)
        if batch:
            found.train_batch_offline(values, passes)
        else:
            found.train(values, passes * len(values), random_order=True)
        return found

    runs = {
        "fnet_callbacks": lambda: train_map(codes, grid, radii=radii),
        "MiniSom, sample by sample": lambda: minisom(batch=False),
        "MiniSom, batch": lambda: minisom(batch=True),
    }
    errors = {}
    for name, run in runs.items():
        tell(f"{name} ...")
        found, shown = run(), codes if name == "fnet_callbacks" else values
        errors[name] = found.quantization_error(shown), found.topographic_error(shown)
    seconds = fastest(runs, rounds=rounds)
    return [Row(name, seconds[name], *map(float, errors[name])) for name in runs]


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
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    found = rows_of(arguments.samples, arguments.rounds)
    on = machine("numpy", "torch", "minisom")
    print(f"{on}\n\n{table(found)}")
    write_json(arguments.json, {"machine": on, "rows": [asdict(row) for row in found]})


if __name__ == "__main__":
    main()
