"""Activations of a few planted groups, and the scopes that measures take."""

import numpy as np

from fnet_callbacks import functional as F
from fnet_callbacks.network import Activity, Network


def activations(n_units: int = 100, n_samples: int = 60, *, n_dead: int = 0, seed: int = 0) -> np.ndarray:
    """A few factors that groups of units share, and noise; the last units are dead."""
    generator = np.random.default_rng(seed)
    factors = generator.normal(size=(n_samples, 5))
    values = factors[:, np.arange(n_units) % 5] + generator.normal(size=(n_samples, n_units))
    values[:, n_units - n_dead :] = 0
    return values


def activity_of(values: np.ndarray, labels: np.ndarray | None = None) -> Activity:
    def share(rows: np.ndarray) -> np.ndarray:
        return (rows > 0).mean(0) if len(rows) else np.full(rows.shape[1], np.nan)

    of_class = None if labels is None else np.stack([share(values[labels == c]) for c in range(3)])
    return Activity(share(values), of_class, values, labels)


def network_of(values: np.ndarray, labels: np.ndarray | None = None, **options) -> Network:
    return Network(F.correlation_matrix(values), activity_of(values, labels), **options)


def labels_of(values: np.ndarray) -> np.ndarray:
    return np.arange(len(values)) % 3
