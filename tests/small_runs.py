"""Records of runs that were never trained: networks with more or less of a community structure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fnet_callbacks import functional as F
from fnet_callbacks.keys import places
from fnet_callbacks.network import Activity, GraphSettings, Network
from fnet_callbacks.quantities.known import known
from fnet_callbacks.quantities.networks import measure
from fnet_callbacks.record import Snapshot, SnapshotStore

MEASURES = (
    "n_neurons",
    "mean_abs_correlation",
    "clustering",
    "global_efficiency",
    "modularity",
    "class_affinity",
    "betti_1",
    "loops",
)

# Of each key what stands under it: instrument, quantity, place.
KEYS: dict[str, list[str | None]] = {
    **{f"fnet/{measure}": ["fnet", measure, None] for measure in MEASURES},
    "fnet_layers/01/modularity": ["fnet", "modularity", "01"],
    "robust/clean_accuracy": ["robust", "clean_accuracy", None],
    "robust/pgd_0.03137_accuracy": ["robust", "pgd_0.03137_accuracy", None],
    "lesion/degree_tolerance": ["lesion", "degree_tolerance", None],
    "codes/01/label_ami": ["codes", "label_ami", "01"],
    "codes/02/label_ami": ["codes", "label_ami", "02"],
    "regions/n_patterns": ["regions", "n_patterns", None],
}
KINDS = {
    "fnet": "FunctionalNetwork",
    "robust": "Robustness",
    "lesion": "Lesions",
    "codes": "FunctionalCodes",
    "regions": "ReLURegions",
}


def layers_of(names: Sequence[str], width: int | None = 15) -> list[dict[str, Any]]:
    """Layers as a manifest has them."""
    return [
        {"place": place, "name": name, "n_units": width}
        for place, name in zip(places(len(names)), names, strict=True)
    ]


def instruments_of(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Instruments as a manifest has them, those of layers with layers of these names."""
    return {
        name: {
            "kind": kind,
            **({"layers": layers_of(names)} if name in ("fnet", "codes") else {}),
            "quantities": {
                found.name: found.described()
                for instrument, quantity, _ in KEYS.values()
                if instrument == name and (found := known(kind, str(quantity))) is not None
            },
        }
        for name, kind in KINDS.items()
    }


def network(strength: float, seed: int, n: int = 30) -> Network:
    """Neurons of three kinds, which share a signal of that strength."""
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(200, n)) + strength * generator.normal(size=(200, 3))[:, np.arange(n) % 3]
    labels = np.arange(len(rows)) % 2
    activity = Activity((rows > 0).mean(0), F.class_active_share(rows, labels, 2), rows, labels)
    layers = np.arange(n) // (n // 2)
    return Network(
        F.correlation_matrix(rows), activity, layers=layers, settings=GraphSettings(F.GraphRule(density=0.2))
    )


def write_run(
    folder: Path,
    *,
    strength: float,
    seed: int,
    steps: int = 3,
    every: int = 10,
    logged: dict[str, float] | None = None,
    names: tuple[str, str] = ("net.0", "net.<b>1</b>"),
    **configuration: object,
) -> Path:
    """Writes the record of a run whose two layers have these names; returns its folder."""
    store = SnapshotStore(folder / "fnet")
    store.start(
        {
            "model": "Net",
            "configuration": {"seed": seed, "width": 30, **configuration},
            "classes": ["even", "odd"],
            "instruments": instruments_of(names),
            "keys": KEYS,
        }
    )
    for t in range(steps):
        scope = network(strength * t, 10 * seed + t)
        values = measure(scope, MEASURES)
        scalars = {f"fnet/{key}": value for key, value in values.items()}
        scalars["fnet_layers/01/modularity"] = values["modularity"] / 2
        scalars["robust/clean_accuracy"] = 0.1 + 0.2 * t + 0.01 * seed
        scalars["robust/pgd_0.03137_accuracy"] = 0.1 + 0.1 * t * strength + 0.01 * seed
        scalars["lesion/degree_tolerance"] = 0.5 + 0.1 * strength
        scalars["codes/01/label_ami"] = 0.1 * t
        scalars["codes/02/label_ami"] = 0.2 * t + 0.01 * seed
        scalars["regions/n_patterns"] = 20.0 + t + seed
        arrays = {f"fnet.{key}": array for key, array in scope.arrays().items()}
        arrays["fnet.layer"] = np.arange(30)[scope.nodes] // 15
        shares = np.linspace(0, 1, 5)
        arrays |= {
            "lesion.silenced": shares,
            "lesion.accuracy_random": 1 - shares,
            "lesion.accuracy_degree": 1 - shares,
        }
        cost = {"monitor_cost/fnet/training_thread": 5.0, "monitor_cost/fnet/worker": 20.0}
        store.append(Snapshot(every * t, scalars, cost, arrays=arrays, logged=logged or {}))
    return folder
