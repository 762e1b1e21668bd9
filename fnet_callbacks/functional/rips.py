"""Vietoris-Rips persistence in dimensions 0 and 1 over Z/2, made for dense distance matrices."""

import numpy as np

from fnet_callbacks.functional._kernels import rips as _kernels


def rips_diagrams(distance: np.ndarray, *, threshold: float = float("inf")) -> tuple[np.ndarray, np.ndarray]:
    """Diagrams of H0 and H1 over Z/2.

    Nearly all edges of a dense matrix open a loop and close it at once; they are set aside by word operations
    on bit-packed rows. The few that are left are reduced as persistent cohomology, with coboundaries that are
    read only as far as their first triangles.

    Args:
        distance: ``[N, N]``, symmetric, finite, zero diagonal; only the upper triangle is read.
        threshold: Longest edge that enters the filtration.

    Returns:
        ``[K, 2]`` float64 for each of the two dimensions, sorted by birth, then death, without features of
        zero persistence. What is still open at ``threshold`` has death ``inf``; in H0 at least one component.

    Reference: Bauer (2021), Ripser, J. Appl. Comput. Topol. 5, 391.
    Cost: O(N²) to sort, then one search of a node's edges per addition of a column; memory 4 N² bytes and 38 for each
        edge up to the threshold.

    Example:
        >>> square = np.array([[0, 1, 1.5, 1], [1, 0, 1, 1.5], [1.5, 1, 0, 1], [1, 1.5, 1, 0]])
        >>> rips_diagrams(square)[1].tolist()
        [[1.0, 1.5]]
    """
    n_nodes = len(distance)
    # In whatever order equal lengths come, the diagrams are the same.
    first, second, lengths = _kernels.sorted_edges(np.ascontiguousarray(distance, np.float64), threshold)
    apexes, rows = _kernels.first_apexes(first, second, n_nodes)
    rank = _kernels.edge_ranks(first, second, n_nodes)
    closing = _kernels.loop_deaths(first, second, rank, apexes, rows)
    ends = np.append(lengths, np.inf)
    joined = lengths[apexes == _kernels.TREE]
    components = np.zeros((n_nodes, 2))
    components[:, 1] = np.inf
    components[: len(joined), 1] = joined
    loops = np.stack((lengths[apexes == _kernels.LOOP], ends[closing]), axis=1)
    return _lasting(components), _lasting(loops)


def _lasting(diagram: np.ndarray) -> np.ndarray:
    diagram = diagram[diagram[:, 1] > diagram[:, 0]]
    return diagram[np.lexsort((diagram[:, 1], diagram[:, 0]))]
