"""What a ReLU network does, region by region. After Picchiotti & Gori (2021, arXiv:2110.06593).

    python -m experiments.relu_regions [--data-dir DATA]

First a simulation: a network is trained on a function that is piecewise linear, and the coefficients of its regions are
compared with those of the function at points that it has not seen. Then a table: a network of two hidden layers of 16
learns who has breast cancer (scikit-learn's data), or, with ``--data-dir``, which passengers of the Titanic survived
(``DATA/titanic/*.csv`` with the columns survived, pclass, sex, age, sibsp, parch and fare, as the public tables have
them; a missing number is its column's median). Its regions are merged to ten; printed are their sizes, the share of the
class that is told of, the network's accuracy in them and the features that count most there, with the sign of their
coefficients; the coefficients are drawn beside it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from experiments.passengers import read_passengers
from fnet_callbacks import FnetError, ReLURegionsResult, relu_regions
from fnet_callbacks.regions.maps import affine_maps
from fnet_callbacks.regions.merging import Merged, contrasts
from fnet_callbacks.report.wording import number

HINGES, DIMENSIONS = 3, 5
REGIONS = 10


@dataclass(frozen=True, slots=True)
class Table:
    """Features ``[S, D]``, standardised, of which each sample is, and which class is told of."""

    name: str
    features: Sequence[str]
    values: Tensor
    labels: Tensor
    told: str


def simulated(seed: int, *, samples: int = 4000, steps: int = 3000) -> float:
    """Relative L2 error of a trained network's coefficients, over points that it has not seen.

    The function is ``a x + Σ c max(0, v x + d)`` in five dimensions with three hinges; the network has 16 hidden units.
    """
    L.seed_everything(seed, verbose=False)
    v, c = torch.randn(HINGES, DIMENSIONS, dtype=torch.float64), torch.randn(HINGES, dtype=torch.float64)
    a, d = torch.randn(DIMENSIONS, dtype=torch.float64), 0.3 * torch.randn(HINGES, dtype=torch.float64)
    inputs = 2 * torch.rand(samples, DIMENSIONS, dtype=torch.float64) - 1
    outputs = inputs @ a + (inputs @ v.T + d).relu() @ c
    network = nn.Sequential(nn.Linear(DIMENSIONS, 16), nn.ReLU(), nn.Linear(16, 1)).double()
    optimizer = torch.optim.LBFGS(
        network.parameters(), lr=1, max_iter=steps, max_eval=2 * steps, tolerance_grad=1e-12,
        tolerance_change=1e-14, history_size=50, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = nn.functional.mse_loss(network(inputs)[:, 0], outputs)
        found.backward()
        return found

    optimizer.step(loss)  # type: ignore[arg-type]
    unseen = 2 * torch.rand(1000, DIMENSIONS, dtype=torch.float64) - 1
    found = affine_maps(network.eval(), unseen)[0][:, 0]
    true = a + ((unseen @ v.T + d) > 0).double() @ (c[:, None] * v)
    return float((found - true).norm() / true.norm())


def breast_cancer() -> Table:
    """Scikit-learn's: 569 tumours of 30 features."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    names = [str(name) for name in data.feature_names]  # type: ignore[union-attr]
    return _table("breast cancer", names, data.data, data.target, "benign")  # type: ignore[union-attr]


def titanic(folder: Path) -> Table:
    """The passengers; see ``experiments.passengers``."""
    known = read_passengers(folder / "titanic")
    columns = {
        "class": known["pclass"],
        "female": known["sex"],
        "age": known["age"],
        "siblings, spouses": known["sibsp"],
        "parents, children": known["parch"],
        "log fare": np.log1p(known["fare"]),
    }
    return _table(
        "Titanic",
        [*columns],
        np.stack([*columns.values()], 1),
        known["survived"].astype(np.int64),
        "survived",
    )


def _table(name: str, features: Sequence[str], values: np.ndarray, labels: np.ndarray, told: str) -> Table:
    scaled = (values - values.mean(0)) / np.where(values.std(0) > 0, values.std(0), 1)
    return Table(name, features, torch.tensor(scaled, dtype=torch.float32), torch.tensor(labels), told)


def trained(table: Table, seed: int, *, epochs: int = 300) -> tuple[nn.Module, float]:
    """A network of two hidden layers of 16, and its accuracy on the fifth that it was not trained on."""
    L.seed_everything(seed, verbose=False)
    order = torch.randperm(len(table.labels))
    held_out, own = order[: len(order) // 5], order[len(order) // 5 :]
    network = nn.Sequential(
        nn.Linear(len(table.features), 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2)
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3, weight_decay=0.01)
    for _ in range(epochs):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(table.values[own]), table.labels[own]).backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        right = network(table.values[held_out]).argmax(1) == table.labels[held_out]
    return network, float(right.float().mean())


def rows_of(table: Table, found: ReLURegionsResult, merged: Merged) -> str:
    """The merged regions, as Markdown."""
    lines = [
        f"| region | members | {table.told} | accuracy | what counts most for “{table.told}” |",
        "| ---: | ---: | ---: | ---: | :--- |",
    ]
    right = found.predictions == table.labels.numpy()
    for region, coefficients in enumerate(_coefficients(found, merged)):
        own = merged.labels == region
        most = [j for j in np.argsort(-np.abs(coefficients))[:3] if coefficients[j]]
        named = ", ".join(f"{table.features[j]} {'+' if coefficients[j] > 0 else '−'}" for j in most) or "–"
        share, accuracy = table.labels.numpy()[own].mean(), right[own].mean()
        lines.append(f"| {region} | {own.sum()} | {share:.0%} | {accuracy:.0%} | {named} |")
    return "\n".join(lines)


def draw(table: Table, found: ReLURegionsResult, merged: Merged) -> Figure:
    """Coefficients for the class that is told of, a row for each region."""
    values = _coefficients(found, merged)
    figure = Figure(figsize=(2.5 + 0.32 * values.shape[1], 1.8 + 0.32 * len(values)), layout="constrained")
    axes = figure.add_subplot()
    most = np.abs(values).max() or 1.0
    image = axes.imshow(values, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
    axes.set_xticks(range(len(table.features)), table.features, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(
        range(len(values)), [f"{r} ({n})" for r, n in enumerate(merged.sizes.tolist())], fontsize=8
    )
    axes.set_ylabel("region (members)")
    axes.set_title(f"{table.name}: coefficients for “{table.told}”, features standardised", fontsize=10)
    figure.colorbar(image, ax=axes)
    return figure


def _coefficients(found: ReLURegionsResult, merged: Merged) -> np.ndarray:
    """For the second class, less their mean over the two, per standard deviation of the feature; ``[M, D]``."""
    return contrasts(merged.weights)[:, -1] * found.inputs.std(axis=0)


def main() -> None:
    """Simulates, trains, prints and draws."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, help="folder with the passengers of the Titanic")
    parser.add_argument("--out", type=Path, default=Path("relu_regions.png"), help="the picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--simulations", type=int, default=5)
    asked = parser.parse_args()
    errors = [simulated(asked.seed + k) for k in range(asked.simulations)]
    print(
        f"Simulation: relative L2 error of the coefficients at 1,000 points not seen, {len(errors)} seeds: "
        f"median {number(float(np.median(errors)))}, largest {number(max(errors))}"
    )
    table = breast_cancer() if asked.data_dir is None else titanic(asked.data_dir)
    network, accuracy = trained(table, asked.seed)
    found = relu_regions(network, table.values, targets=table.labels, min_members=1)
    merged = found.merged(REGIONS)
    print(
        f"\n{table.name}: {len(table.labels)} samples, accuracy {accuracy:.3f} on the fifth that was held out; "
        f"{found.n_regions} regions, {found.n_singletons} of a single sample. Merged to {len(merged.sizes)}, the "
        f"affine maps predict what the network does for {merged.agreement:.1%}, R² of the logits {merged.r2:.3f}\n"
    )
    print(rows_of(table, found, merged))
    draw(table, found, merged).savefig(asked.out, dpi=120)
    print(f"\nwrote {asked.out}")


if __name__ == "__main__":
    try:
        main()
    except FnetError as error:
        sys.exit(f"error: {error}")
