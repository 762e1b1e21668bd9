"""What `fnet report` costs: CPU seconds and peak memory, by the number of runs, of groups and of snapshots.

    python -m benchmarks.report [--shapes 20x10x12 100x2x12 2x1x3000] [--neurons 96] [--keep FOLDER]

A shape is groups x runs in each x snapshots. The records are made up: networks with more or less of a community
structure, of which a few are drawn and shared, so that making records takes less than reading them; each run has about
a hundred scalars of a network, its three layers, attacks and lesions, and the arrays of each snapshot. The command runs
as a user runs it, in a process of its own, with the kernels compiled beforehand.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.tables import machine, markdown, number, tell, write_json
from fnet_callbacks import functional as F
from fnet_callbacks.measures import measure, names_of
from fnet_callbacks.record import Snapshot, SnapshotStore
from fnet_callbacks.scope import Activity, GraphSettings, Scope

SHAPES = ("20x10x12", "100x2x12", "2x1x3000")
LAYERS = ("net.1", "net.3", "net.5")
SAMPLES, STRENGTHS, DRAWS = 256, 6, 4


@dataclass(frozen=True, slots=True)
class Shape:
    """How many records of what."""

    groups: int
    runs: int
    snapshots: int

    @classmethod
    def of(cls, text: str) -> "Shape":
        """From three numbers with an x between them."""
        return cls(*map(int, text.split("x")))


@dataclass(frozen=True, slots=True)
class Row:
    """What a report of a shape took, and its page's size."""

    groups: int
    runs: int
    snapshots: int
    cpu_s: float
    peak_mb: float
    page_mb: float


@dataclass(frozen=True, slots=True)
class Network:
    """A network's scalars, those of a layer, and its arrays."""

    scalars: dict[str, float]
    of_layer: dict[str, float]
    arrays: dict[str, np.ndarray]


def network(strength: float, seed: int, n: int) -> Network:
    """Neurons of eight kinds, which share a signal of that strength."""
    generator = np.random.default_rng(seed)
    shared = generator.normal(size=(SAMPLES, 8))[:, generator.permutation(n) % 8]
    rows = generator.normal(size=(SAMPLES, n)) + strength * shared
    labels = np.arange(SAMPLES) % 10
    activity = Activity((rows > 0).mean(0), F.class_active_share(rows, labels, 10), rows, labels)
    layers = np.arange(n) * len(LAYERS) // n
    scope = Scope(F.correlation_matrix(rows), activity, layers=layers, settings=GraphSettings(nulls=2))
    found = measure(scope, names_of("standard"))
    part = measure(
        Scope(F.correlation_matrix(rows[:, : n // 3]), activity.of(slice(0, n // 3))), names_of("fast")
    )
    return Network(found, part, {**scope.arrays(), "layer": layers[scope.nodes]})


def write_records(folder: Path, shape: Shape, *, neurons: int) -> None:
    """The records of a shape; groups differ in the strength of their networks' communities."""
    drawn = [[network(0.2 + 0.2 * i, 10 * i + j, neurons) for j in range(DRAWS)] for i in range(STRENGTHS)]
    layers = [{"name": name, "n_units": neurons // 3} for name in LAYERS]
    for group in range(shape.groups):
        for seed in range(shape.runs):
            store = SnapshotStore(folder / f"group{group}-seed{seed}" / "fnet")
            store.start(
                {
                    "model": "Classifier",
                    "configuration": {
                        "regularizer": f"group{group}",
                        "seed": seed,
                        "lr": 0.1,
                        "width": neurons,
                    },
                    "instruments": {
                        "fnet": {"kind": "FunctionalNetwork", "density": 0.05, "layers": layers},
                        "robust": {"kind": "Robustness"},
                        "lesion": {"kind": "Lesions"},
                    },
                }
            )
            generator = np.random.default_rng([group, seed])
            for t in range(shape.snapshots):
                learnt = t / shape.snapshots
                strength = min(STRENGTHS - 1, int(learnt * (3 + group % 4)))
                store.append(_snapshot(50 * t, drawn[strength][generator.integers(DRAWS)], learnt, generator))


def _snapshot(step: int, network: Network, learnt: float, generator: np.random.Generator) -> Snapshot:
    def noisy(values: dict[str, float], prefix: str) -> dict[str, float]:
        return {
            f"{prefix}/{key}": value * (1 + 0.05 * float(generator.normal())) for key, value in values.items()
        }

    scalars = noisy(network.scalars, "fnet")
    for layer in LAYERS:
        scalars |= noisy(network.of_layer, f"fnet_layers/{layer}")
    accuracy = {f"{a}_{e}_accuracy": learnt / 2 for a in ("fgsm", "pgd") for e in ("0.01569", "0.03137")}
    scalars |= noisy({"clean_accuracy": 0.1 + 0.8 * learnt, **accuracy}, "robust")
    scalars |= noisy(dict.fromkeys(("clean_accuracy", "random_tolerance", "degree_tolerance"), 0.5), "lesion")
    shares = np.linspace(0, 1, 11)
    arrays = {f"fnet.{key}": array for key, array in network.arrays.items()}
    arrays |= {"lesion.silenced": shares}
    arrays |= {f"lesion.accuracy_{order}": np.exp(-shares) for order in ("random", "degree")}
    return Snapshot(
        step,
        scalars,
        {
            f"monitor_cost/{name}/{part}": 5.0
            for name in ("fnet", "robust")
            for part in ("training_thread", "worker")
        },
        arrays=arrays,
        logged={"train_accuracy": 0.2 + 0.8 * learnt, "val_accuracy": 0.1 + 0.8 * learnt},
    )


def measured(runs: Path, out: Path) -> tuple[float, float]:
    """CPU seconds and peak memory, in megabytes, of one report."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = (
        "import re, sys; from fnet_callbacks.cli import main; failed = main(sys.argv[1:]); "
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]); sys.exit(failed)"
    )
    asked = [sys.executable, "-c", code, "report", str(runs), "-o", str(out)]
    done = subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, int(done.stdout.split()[-1]) / 1024


def row_of(shape: Shape, folder: Path, *, neurons: int) -> Row:
    """Writes the records of a shape, where they are not there yet, and their report."""
    runs = folder / f"{shape.groups}x{shape.runs}x{shape.snapshots}-{neurons}"
    if not runs.exists():
        write_records(runs, shape, neurons=neurons)
    page = folder / f"{runs.name}.html"
    cpu, peak = measured(runs, page)
    return Row(shape.groups, shape.runs, shape.snapshots, cpu, peak, page.stat().st_size / 1e6)


def table(rows: Sequence[Row]) -> str:
    """The table."""
    header = ["groups", "runs in each", "snapshots in each", "CPU, s", "peak memory, MB", "page, MB"]
    cells = [
        [
            *map(str, (row.groups, row.runs, row.snapshots)),
            *map(number, (row.cpu_s, row.peak_mb, row.page_mb)),
        ]
        for row in rows
    ]
    return markdown(header, cells, text=0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", default=SHAPES, help="groups x runs in each x snapshots")
    parser.add_argument("--neurons", type=int, default=96)
    parser.add_argument("--keep", type=Path, help="write the records there, or take those that are there")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as made:
        folder = arguments.keep or Path(made)
        row_of(Shape(2, 2, 2), Path(made), neurons=arguments.neurons)  # compiles
        for text in arguments.shapes:
            tell(f"{text} ...")
            rows.append(row_of(Shape.of(text), folder, neurons=arguments.neurons))
    on = machine("numpy", "scipy")
    print(f"{on}\n\n{table(rows)}")
    write_json(arguments.json, {"machine": on, "rows": [asdict(row) for row in rows]})


if __name__ == "__main__":
    main()
