"""Each part of a snapshot beside its physical floor: the least that any code must do for it, written as fast as we can.

    python -m benchmarks.floor
    python -m benchmarks.floor --sizes 1024 --json floor.json

A ratio of 1 says that nothing is left to gain. Part and floor run in turn, round after round, in one process, on the
same data, and each is given its fastest round. Activations are those of ``benchmarks.scale``, [1024, N].
"""

import argparse
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.linalg import get_blas_funcs
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path

from benchmarks.scale import activations
from benchmarks.tables import fastest, machine, markdown, number, tell, write_json
from fnet_callbacks import functional as F
from fnet_callbacks.functional._kernels import adjacency
from fnet_callbacks.functional._kernels.base import kernel, popcount
from fnet_callbacks.worker import wire

SIZES = (512, 1024, 2048)
ROUNDS = 5
BESIDE = (
    ("correlation", "the matrix product (syrk)"),
    ("spanning tree", "reading the matrix once"),
    ("edges", "reading the matrix once"),
    ("edges", "np.partition of the weights"),  # no floor, but what a library offers for it
    ("packing", "copying what it writes"),
    ("distances", "uniting bit rows"),
    ("clustering", "intersecting bit rows"),
    ("handing over", "copying the activations"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """Milliseconds of a part and of its floor."""

    n: int
    part: str
    floor: str
    ms: float
    floor_ms: float


@kernel
def read_once(words):
    """Every word of an array, folded into one, many at a time."""
    folded = np.int64(0)
    for k in range(len(words)):
        folded ^= words[k]
    return folded


@kernel
def unite(rows, indptr, indices, turns):
    """Each node unites its neighbours' rows and counts the bits, once for each of its turns."""
    found = np.empty(rows.shape[1], np.uint64)
    counted = 0
    for i in range(len(rows)):
        for _ in range(turns[i]):
            found[:] = 0
            for e in range(indptr[i], indptr[i + 1]):
                row = rows[indices[e]]
                for w in range(len(found)):
                    found[w] |= row[w]
            for w in range(len(found)):
                counted += popcount(found[w])
    return counted


@kernel
def intersect(rows, edges):
    """The bits that the ends of each edge have in common."""
    counted = 0
    for e in range(len(edges)):
        first, second = rows[edges[e, 0]], rows[edges[e, 1]]
        for w in range(len(first)):
            counted += popcount(first[w] & second[w])
    return counted


def turns_of_search(graph: F.Graph) -> np.ndarray:
    """How often each node must ask its neighbours: for each distance beyond 1 at which it still finds nodes."""
    joined = csr_array((np.ones(len(graph.indices)), graph.indices, graph.indptr), shape=(graph.n_nodes,) * 2)
    distance = shortest_path(joined, unweighted=True)
    distance[np.isinf(distance)] = 0
    return np.maximum(distance.max(axis=1).astype(np.int64) - 1, 0)


def hand_over(array: np.ndarray, ends: tuple[socket.socket, socket.socket]) -> np.ndarray:
    """What both sides do for an array to get from one process to another, here in one."""
    ours, theirs = ends
    sent = wire.pack(array)
    wire.send(ours, sent)
    received = wire.receive(theirs)
    assert received is not None
    arrived = wire.unpack(received)
    received.close()
    sent.close()
    return arrived


def runners(
    n_units: int, ends: tuple[socket.socket, socket.socket]
) -> tuple[dict[str, Callable[[], object]], dict[str, Callable[[], object]]]:
    """What runs the parts and what runs the floors, by name, on one set of activations."""
    rows = activations(n_units, noise=1)
    columns = np.asfortranarray(rows, np.float64)
    correlation = F.correlation_matrix(rows)
    words = correlation.reshape(-1).view(np.int64)
    tree = F.spanning_tree(correlation)
    graph = F.graph_from_correlation(correlation, tree=tree)
    weights = np.abs(correlation[np.triu_indices(n_units, 1)])
    packed = np.concatenate([a.reshape(-1).view(np.uint8) for a in (graph.rows, graph.indptr, graph.indices)])
    rows_copy, packed_copy = np.empty_like(rows), np.empty_like(packed)
    turns = turns_of_search(graph)
    (syrk,) = get_blas_funcs(("syrk",), dtype=np.float64)
    parts = {
        "correlation": lambda: F.correlation_matrix(rows),
        "spanning tree": lambda: F.spanning_tree(correlation),
        "edges": lambda: F.graph_from_correlation(correlation, tree=tree),
        "packing": lambda: adjacency(graph.edges, n_units),
        "distances": lambda: F.distance_histogram(graph),
        "clustering": lambda: F.clustering_coefficient(graph),
        "handing over": lambda: hand_over(rows, ends),
    }
    floors = {
        "the matrix product (syrk)": lambda: syrk(1.0, columns, trans=1),
        "reading the matrix once": lambda: read_once(words),
        "np.partition of the weights": lambda: np.partition(weights, len(weights) - graph.n_edges),
        "copying what it writes": lambda: np.copyto(packed_copy, packed),
        "uniting bit rows": lambda: unite(graph.rows, graph.indptr, graph.indices, turns),
        "intersecting bit rows": lambda: intersect(graph.rows, graph.edges),
        "copying the activations": lambda: np.copyto(rows_copy, rows),
    }
    return parts, floors


def rows_of(n_units: int, rounds: int) -> list[Row]:
    """A row for each part beside each of its floors."""
    ends = socket.socketpair()
    parts, floors = runners(n_units, ends)
    found = []
    for part, floor in BESIDE:
        seconds = fastest({"part": parts[part], "floor": floors[floor]}, rounds=rounds)
        found.append(Row(n_units, part, floor, 1e3 * seconds["part"], 1e3 * seconds["floor"]))
    for end in ends:
        end.close()
    return found


def table(rows: Sequence[Row]) -> str:
    """The sizes of one part beside each other."""
    rows = sorted(rows, key=lambda row: BESIDE.index((row.part, row.floor)))
    cells = [
        [row.part, row.floor, str(row.n), number(row.ms), number(row.floor_ms), number(row.ms / row.floor_ms)]
        for row in rows
    ]
    return markdown(["part", "floor", "N", "part, ms", "floor, ms", "ratio"], cells, text=2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of neurons N")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    found = []
    for size in arguments.sizes:
        tell(f"measuring {size} neurons ...")
        found += rows_of(size, arguments.rounds)
    on = machine("numpy", "scipy", "numba")
    print(f"{on}\n\n{table(found)}")
    write_json(arguments.json, {"machine": on, "rows": [asdict(row) for row in found]})


if __name__ == "__main__":
    main()
