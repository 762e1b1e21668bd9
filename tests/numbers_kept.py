"""What small trained networks measure, kept so that a change of any number is seen.

``PYTHONPATH=.:tests python tests/numbers_kept.py`` trains them and writes what they show and what is measured of it. It
is run again only where a number is meant to change, and the changelog then has a line that begins with "Numbers:".
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from fnet_callbacks import functional as F
from fnet_callbacks.network import Activity, GraphSettings, Network
from fnet_callbacks.quantities.networks import measure, names_of

ACTIVATIONS = Path(__file__).parent / "data" / "numbers.npz"
EXPECTED = ACTIVATIONS.with_suffix(".json")
STEPS = (0, 20, 200)
SETTINGS = {
    "mst": GraphSettings(F.GraphRule(density=0.15), nulls=4),
    "density": GraphSettings(F.GraphRule(method="density", density=0.2, sign="positive"), nulls=3, seed=5),
    "threshold": GraphSettings(
        F.GraphRule(method="threshold", threshold=0.3), nulls=2, homology_radius="graph"
    ),
}


def networks() -> dict[str, nn.Sequential]:
    """Two small ones, untrained."""
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 10))
    maps = nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3), nn.Tanh(), nn.MaxPool2d(2))
    cnn = nn.Sequential(*maps, nn.Conv2d(16, 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 10))
    return {"mlp": mlp, "cnn": cnn}


def shown(net: nn.Sequential, inputs: Tensor) -> np.ndarray:
    """The activations of the nonlinearities side by side, ``[S, N]``; of maps their means."""
    found = []
    with torch.no_grad():
        for part in net:
            inputs = part(inputs)
            if isinstance(part, (nn.ReLU, nn.Tanh)):
                found.append(inputs.flatten(2).mean(2) if inputs.dim() > 2 else inputs)
    return torch.cat(found, 1).numpy()


def measured(activations: np.lib.npyio.NpzFile) -> dict[str, dict[str, float]]:
    """Every measure of every network under each of the settings, one snapshot after the other."""
    found = {}
    labels = activations["labels"]
    for name, widths in (("mlp", (24, 16)), ("cnn", (16, 12))):
        layers = np.repeat([0, 1], widths)
        for settings_name, settings in SETTINGS.items():
            previous = None
            for step in STEPS:
                rows = activations[f"{name}_{step}"]
                correlation = activations[f"{name}_{step}_correlation"]
                activity = Activity(
                    F.active_share(rows), F.class_active_share(rows, labels, 10), rows, labels
                )
                scope = Network(
                    correlation, activity, layers=layers, previous=previous, settings=replace(settings)
                )
                found[f"{name}, {settings_name}, step {step}"] = measure(scope, names_of("full"))
                previous = scope.to_previous()
    return found


def write() -> None:
    """Trains the networks, and writes what they show and what is measured."""
    digits = load_digits()
    inputs = torch.tensor(digits.data / 16, dtype=torch.float32)
    labels = torch.tensor(digits.target)
    arrays: dict[str, Any] = {"labels": digits.target[-128:]}
    for name, net in networks().items():
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        order = torch.Generator().manual_seed(0)
        for step in range(STEPS[-1] + 1):
            if step in STEPS:
                rows = shown(net, inputs[-128:])
                arrays |= {f"{name}_{step}": rows, f"{name}_{step}_correlation": F.correlation_matrix(rows)}
            batch = torch.randint(1600, (64,), generator=order)
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs[batch]), labels[batch]).backward()
            optimizer.step()
    np.savez_compressed(ACTIVATIONS, **arrays)
    with np.load(ACTIVATIONS) as activations:
        values = measured(activations)
    EXPECTED.write_text(
        json.dumps({k: {m: float(v).hex() for m, v in own.items()} for k, own in values.items()}, indent=1)
        + "\n"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    write()
    print(f"{ACTIVATIONS.stat().st_size + EXPECTED.stat().st_size} bytes")
