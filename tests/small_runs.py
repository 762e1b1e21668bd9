"""Records of runs that were never trained: networks with more or less of a community structure."""

from pathlib import Path

import numpy as np

from fnet_callbacks import functional as F
from fnet_callbacks.keys import Key, folder_names, manifest_keys, manifest_quantities, whole_keys
from fnet_callbacks.network import Activity, GraphSettings, Network
from fnet_callbacks.quantities.codes import OF_LABELS
from fnet_callbacks.quantities.lesions import LESIONS
from fnet_callbacks.quantities.networks import BY_NAME, measure
from fnet_callbacks.quantities.regions import REGIONS
from fnet_callbacks.quantities.robustness import of_attacks
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
    layers = [{"name": name, "n_units": 15, "neurons": list(range(15))} for name in names]
    first, second = folder_names(names).values()
    keys = [
        *whole_keys("fnet", [BY_NAME[name] for name in MEASURES]),
        Key(f"fnet_layers/{first}/modularity", "fnet", BY_NAME["modularity"], first, names[0]),
        *whole_keys("robust", of_attacks(["pgd"], [0.03137])),
        *whole_keys("lesion", LESIONS),
        *(
            Key(f"codes/{folder}/label_ami", "codes", code_ami, folder, name)
            for code_ami in OF_LABELS
            if code_ami.name == "label_ami"
            for name, folder in zip(names, (first, second), strict=True)
        ),
        *whole_keys("regions", REGIONS[:1]),
    ]
    quantities = manifest_quantities(keys)
    store.start(
        {
            "instruments": {name: {"quantities": own} for name, own in quantities.items()},
            "keys": manifest_keys(keys),
            "model": "Net",
            "configuration": {"seed": seed, "width": 30, **configuration},
            "monitors": {
                "fnet": {"layers": layers},
                "codes": {
                    "kind": "FunctionalCodeMonitor",
                    "layers": [
                        {"name": name, "folder": folder, "n_units": 15}
                        for name, folder in zip(names, (first, second), strict=True)
                    ],
                },
                "regions": {"kind": "ReLURegionMonitor"},
            },
        }
    )
    for t in range(steps):
        scope = network(strength * t, 10 * seed + t)
        values = measure(scope, MEASURES)
        scalars = {f"fnet/{key}": value for key, value in values.items()}
        scalars[f"fnet_layers/{first}/modularity"] = values["modularity"] / 2
        scalars["robust/clean_accuracy"] = 0.1 + 0.2 * t + 0.01 * seed
        scalars["robust/pgd_0.03137_accuracy"] = 0.1 + 0.1 * t * strength + 0.01 * seed
        scalars["lesion/degree_tolerance"] = 0.5 + 0.1 * strength
        scalars[f"codes/{first}/label_ami"] = 0.1 * t
        scalars[f"codes/{second}/label_ami"] = 0.2 * t + 0.01 * seed
        scalars["regions/n_patterns"] = 20.0 + t + seed
        arrays = {f"fnet.{key}": array for key, array in scope.arrays().items()}
        arrays["fnet.layer"] = np.arange(30)[scope.nodes] // 15
        shares = np.linspace(0, 1, 5)
        arrays |= {
            "lesion.silenced": shares,
            "lesion.accuracy_random": 1 - shares,
            "lesion.accuracy_degree": 1 - shares,
        }
        cost = {"fnet/cost_ms/training_thread": 5.0, "fnet/cost_ms/worker": 20.0}
        store.append(Snapshot(every * t, scalars, cost, arrays=arrays, logged=logged or {}))
    return folder
