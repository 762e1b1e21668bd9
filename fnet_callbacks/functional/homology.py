"""Persistent homology of the Vietoris-Rips filtration, and what is read off its diagrams.

A diagram is ``[K, 2]`` float64, one ``(birth, death)`` row a feature, sorted by birth, then death. Both are
distances. A feature that never closes has death ``inf`` (in dimension 0 there is always one).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from fnet_callbacks.checks import checked_array, checked_choice, checked_integer, checked_number, short_repr
from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional.correlation import ROUNDING

Backend = Literal["native", "gudhi", "ripser"]

# Every backend counts with coefficients in Z/2. gudhi's own default is Z/11, which gives other diagrams as
# soon as the complex has torsion, and complexes of correlation matrices do.
_FIELD = 2


def persistence(
    distance: np.ndarray,
    *,
    max_dim: int = 1,
    threshold: float = float("inf"),
    backend: Backend = "native",
) -> list[np.ndarray]:
    """Persistence diagrams of the Vietoris-Rips filtration of a distance matrix, over Z/2.

    Args:
        distance: ``[N, N]``, symmetric, finite, not negative, with a zero diagonal; `correlation_distance`
            gives one.
        max_dim: Highest dimension of homology: 0 components, 1 loops, 2 voids.
        threshold: Longest edge that enters the filtration. Features still open there have death ``inf``,
            in every dimension.
        backend: ``"native"``, our own, for ``max_dim`` up to 1: the diagrams of gudhi to the bit, and the fastest of
            the three (``benchmarks/peers.py``); ``"gudhi"``; or ``"ripser"``, which rounds distances to float32 (6e-8).

    Returns:
        One diagram for each of the dimensions 0 to ``max_dim``, without features of zero persistence. A
        single point has the essential component alone; no point, no feature.

    Raises:
        FnetError: ``distance`` is not as described above, or another argument is out of range.

    Reference: Zhang, Dong, Zhang & Lin (2022), arXiv 2205.11702, on ``1 - |r|``; Bauer (2021), Ripser,
        J. Appl. Comput. Topol. 5, 391, for the algorithm of ripser; see `rips_diagrams` for that of our own.
    Cost: grows faster than N² and depends on the data; noise is dearest. A threshold bounds it.

    >>> square = np.abs(np.subtract.outer(np.arange(4), np.arange(4)) % 2) + 0.0
    >>> square[[0, 1, 2, 3], [2, 3, 0, 1]] = 1.5
    >>> [diagram.tolist() for diagram in persistence(square)]
    [[[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, inf]], [[1.0, 1.5]]]
    """
    checked_choice("backend", backend, ("native", "gudhi", "ripser"))
    max_dim = checked_integer("max_dim", max_dim, at_least=0)
    threshold = checked_number("threshold", threshold, at_least=0)
    if backend == "native" and max_dim > 1:
        raise FnetError(
            f'backend="native" has max_dim up to 1, got {max_dim}; pass backend="gudhi" or "ripser"'
        )
    distance = _checked_distance(distance)
    if len(distance) == 0:
        return [np.empty((0, 2)) for _ in range(max_dim + 1)]
    if backend == "native":
        from fnet_callbacks.functional.rips import rips_diagrams  # and with it Numba

        return list(rips_diagrams(distance, threshold=threshold))[: max_dim + 1]
    if backend == "gudhi":
        from gudhi.sklearn.rips_persistence import RipsPersistence  # brings scikit-learn, as ripser does

        rips = RipsPersistence(
            homology_dimensions=list(range(max_dim + 1)),
            threshold=threshold,
            input_type="full distance matrix",
            num_collapses=0,  # a collapse costs more than it saves on dense matrices
            homology_coeff_field=_FIELD,
        )
        diagrams = rips.fit_transform([distance])[0]
    else:
        from ripser import ripser

        diagrams = ripser(distance, maxdim=max_dim, thresh=threshold, coeff=_FIELD, distance_matrix=True)[
            "dgms"
        ]
    return [_tidied(diagram) for diagram in diagrams]


def h0_from_tree(tree_weights: np.ndarray) -> np.ndarray:
    """Diagram of dimension 0 from a spanning tree that is already there.

    Args:
        tree_weights: ``|r|`` of the N - 1 edges of a maximum spanning tree of ``|r|``, in any order; none for
            a single node.

    Returns:
        ``[K, 2]``, equal to ``persistence(1 - |r|)[0]``: components die at ``1 - |r|`` of the edge that
        joins them, and one never does.

    Raises:
        FnetError: ``tree_weights`` is not a vector of values in [0, 1].

    Cost: O(N log N).

    >>> h0_from_tree(np.array([0.75, 1.0, 0.5])).tolist()
    [[0.0, 0.25], [0.0, 0.5], [0.0, inf]]
    """
    weights = checked_array("tree_weights", tree_weights, "[N - 1]").astype(np.float64)
    if not ((weights >= 0) & (weights <= 1 + ROUNDING)).all():
        raise FnetError("tree_weights must be |r| of a correlation, in [0, 1]; got a value outside, or NaN")
    deaths = np.append(np.maximum(1.0 - weights, 0.0), np.inf)
    return _tidied(np.column_stack([np.zeros_like(deaths), deaths]))


def betti_numbers(diagrams: Sequence[np.ndarray], at: float) -> np.ndarray:
    """Number of features alive at one scale, for each dimension.

    Args:
        diagrams: One ``[K, 2]`` a dimension.
        at: The scale, a distance; a feature is alive where ``birth <= at < death``.

    Returns:
        ``[len(diagrams)]``, integer.

    Raises:
        FnetError: A diagram is not ``[K, 2]``, or ``at`` no number.

    >>> betti_numbers([np.array([[0.0, 0.5], [0.0, np.inf]]), np.array([[0.4, 0.6]])], at=0.5)
    array([1, 1])
    """
    scale = np.array([checked_number("at", at)])
    if not isinstance(diagrams, Sequence) or isinstance(diagrams, str):
        raise FnetError(
            f"diagrams must be a list of them, one for each dimension, got {short_repr(diagrams)}"
        )
    births_and_deaths = [_checked_diagram(diagram, f"diagrams[{k}]") for k, diagram in enumerate(diagrams)]
    return np.array([_alive(diagram, scale)[0] for diagram in births_and_deaths], dtype=np.int64)


def betti_curve(diagram: np.ndarray, grid: np.ndarray | None = None) -> np.ndarray:
    """Number of features alive at each scale of a grid.

    Args:
        diagram: ``[K, 2]``.
        grid: Scales, ``[T]``, distances; 0 to 1 in steps of 0.01 unless given.

    Returns:
        ``[T]``, integer: features with ``birth <= scale < death``.

    Raises:
        FnetError: ``diagram`` is not ``[K, 2]``, or ``grid`` no vector.

    Reference: Zhang, Dong, Zhang & Lin (2022), arXiv 2205.11702.
    Cost: O((K + T) log K).

    >>> betti_curve(np.array([[0.0, 0.5], [0.0, np.inf]]), np.array([0.0, 0.5, 1.0]))
    array([2, 1, 1])
    """
    scales = np.arange(101) / 100 if grid is None else checked_array("grid", grid, "[scales]")
    return _alive(_checked_diagram(diagram), scales.astype(np.float64))


def functional_persistence(diagram: np.ndarray) -> float:
    """Euclidean norm of the lifetimes, ``sqrt(Σ (death - birth)²)``; taken over loops in the paper.

    Args:
        diagram: ``[K, 2]``. Features that never close are left out: their lifetime has no length.

    Returns:
        A distance, at least 0; 0 where no feature closes.

    Raises:
        FnetError: ``diagram`` is not ``[K, 2]``.

    Reference: Zhang & Lin (2024), Functional Loops, Neural Networks (``1L2`` in its code).
    Cost: O(K).

    >>> functional_persistence(np.array([[0.25, 0.5], [0.0, np.inf]]))
    0.25
    """
    return float(np.linalg.norm(_lifetimes(diagram)))


def persistent_entropy(diagram: np.ndarray) -> float:
    """Shannon entropy of the lifetimes, ``-Σ p log p`` with ``p = lifetime / Σ lifetimes``.

    Args:
        diagram: ``[K, 2]``. Features that never close are left out.

    Returns:
        Nats, from 0 to log K; 0 for fewer than two features that close.

    Raises:
        FnetError: ``diagram`` is not ``[K, 2]``.

    Reference: Atienza, González-Díaz & Soriano-Trigueros (2020), Pattern Recognit. 107, 107509.
    Cost: O(K).

    >>> round(persistent_entropy(np.array([[0.0, 0.5], [0.25, 0.75]])), 6)
    0.693147
    """
    lifetimes = _lifetimes(diagram)
    lifetimes = lifetimes[lifetimes > 0]
    if len(lifetimes) < 2:
        return 0.0
    share = lifetimes / lifetimes.sum()
    return float(-np.sum(share * np.log(share)))


def _checked_distance(distance: np.ndarray) -> np.ndarray:
    distance = checked_array("distance", distance, "").astype(np.float64, copy=False)
    if distance.ndim != 2 or distance.shape[0] != distance.shape[1]:
        raise FnetError(f"distance must be square, [points, points]; got shape {distance.shape}")
    if not np.isfinite(distance).all():
        raise FnetError("distance must be finite; drop dead units (`live_block`) before")
    if not np.array_equal(distance, distance.T):
        raise FnetError(
            "distance must be symmetric to the bit; pass (d + d.T) / 2, or a `correlation_distance`"
        )
    if distance.diagonal().any() or (distance < 0).any():
        raise FnetError("distance must be at least 0, and 0 on the diagonal; 1 - |r| is such a distance")
    return distance


def _checked_diagram(diagram: np.ndarray, argument: str = "diagram") -> np.ndarray:
    found = checked_array(argument, diagram, "").astype(np.float64, copy=False)
    if found.ndim != 2 or found.shape[1] != 2:
        raise FnetError(f"{argument} must be [features, 2], birth and death; got shape {found.shape}")
    return found


def _alive(diagram: np.ndarray, scales: np.ndarray) -> np.ndarray:
    born, dead = (np.searchsorted(np.sort(ends), scales, side="right") for ends in diagram.T)
    return (born - dead).astype(np.int64)


def _lifetimes(diagram: np.ndarray) -> np.ndarray:
    births, deaths = _checked_diagram(diagram).T
    closes = np.isfinite(deaths)
    return deaths[closes] - births[closes]


def _tidied(diagram: np.ndarray) -> np.ndarray:
    births, deaths = diagram.astype(np.float64).T
    lasts = deaths > births
    births, deaths = births[lasts], deaths[lasts]
    order = np.lexsort((deaths, births))
    return np.column_stack([births[order], deaths[order]])
