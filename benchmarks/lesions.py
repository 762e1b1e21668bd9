"""What lesions of groups of units cost: all of a layer together, beside one full pass for each.

    python -m benchmarks.lesions

An MLP 784-[256, 256, 256, 256]-10, random images; in each layer 16 clusters, each with 19 random groups of its size,
are set to zero. Interleaved rounds in one run; the fastest of each counts, and the two find the same accuracies.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.tables import fastest, machine, markdown, number, tell, write_json
from fnet_callbacks.capture.batch import Batch
from fnet_callbacks.capture.isolation import isolated
from fnet_callbacks.capture.layers import Layer, choose_layers
from fnet_callbacks.capture.silencer import Silencer
from fnet_callbacks.specialization.lesions import LayerLesions

WIDTH, DEPTH, CLUSTERS, GROUPS = 256, 4, 16, 20


@dataclass(frozen=True, slots=True)
class Row:
    """One layer: seconds of all its lesions."""

    layer: str
    lesions: int
    passes_s: float
    together_s: float


def network(width: int = WIDTH) -> nn.Sequential:
    """The MLP."""
    torch.manual_seed(0)
    hidden = [m for i in range(DEPTH) for m in (nn.Linear(width if i else 784, width), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(width, 10))


def groups_of(width: int, clusters: int, seed: int) -> list[np.ndarray]:
    """Clusters of about equal size, and for each 19 random groups of its size."""
    generator = np.random.default_rng(seed)
    own = np.array_split(generator.permutation(width), clusters)
    others = [generator.choice(width, len(c), replace=False) for c in own for _ in range(GROUPS - 1)]
    return [*own, *others]


def rows_of(samples: int, rounds: int, *, width: int = WIDTH, clusters: int = CLUSTERS) -> list[Row]:
    """A row for each layer."""
    model = network(width)
    inputs, labels = torch.randn(samples, 784), torch.randint(0, 10, (samples,))
    batches = [Batch(inputs, labels, len(labels))]
    found = []
    with isolated(model, seed=0):
        layers = choose_layers(model, model, inputs, n_samples=samples)
        for k, layer in enumerate(layers):
            tell(f"layer {layer.name} ...")
            groups = groups_of(width, clusters, k)
            runs = {
                "passes": partial(one_by_one, model, layer, batches[0], groups),
                "together": partial(together, model, layer, batches, groups),
            }
            np.testing.assert_allclose(runs["together"](), runs["passes"](), atol=2 / samples)
            seconds = fastest(runs, rounds=rounds)
            found.append(Row(layer.name, len(groups), seconds["passes"], seconds["together"]))
    return found


def one_by_one(model: nn.Module, layer: Layer, batch: Batch, groups: Sequence[np.ndarray]) -> np.ndarray:
    """Accuracies ``[G, C]``, a full pass for each group."""
    silencer, accuracies = Silencer(model, [layer]), []
    for group in groups:
        with silencer.silenced([group]):
            accuracies.append(by_class(model(batch.inputs).argmax(1) == batch.classes, batch.classes))
    return np.array(accuracies)


def together(
    model: nn.Module, layer: Layer, batches: Sequence[Batch], groups: Sequence[np.ndarray]
) -> np.ndarray:
    """The same by `LayerLesions`, what it prepares included."""
    return LayerLesions(model, layer, batches, num_classes=10).accuracies(groups)


def by_class(hits: Tensor, labels: Tensor) -> np.ndarray:
    """Accuracy in each class."""
    counts = torch.bincount(labels, minlength=10)
    return (torch.bincount(labels, hits.double(), minlength=10) / counts).numpy()


def table(rows: list[Row]) -> str:
    """The layers below each other, and their sum."""
    whole = Row(
        "all", sum(r.lesions for r in rows), sum(r.passes_s for r in rows), sum(r.together_s for r in rows)
    )
    cells = [
        [r.layer, str(r.lesions), number(r.passes_s), number(r.together_s), number(r.passes_s / r.together_s)]
        for r in (*rows, whole)
    ]
    return markdown(["layer", "lesions", "full passes, s", "together, s", "ratio"], cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    found = rows_of(arguments.samples, arguments.rounds)
    on = machine("numpy", "torch")
    print(f"{on}\n\n{table(found)}")
    write_json(arguments.json, {"machine": on, "rows": [asdict(row) for row in found]})


if __name__ == "__main__":
    main()
