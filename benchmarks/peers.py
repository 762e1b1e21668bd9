"""Cost against peers: NetworkX, igraph, gudhi and ripser.py, as ratios measured in one run on the same matrix.

    python -m benchmarks.peers

The matrix is the correlation of the live units of a ReLU MLP, trained here on scikit-learn's digits; the
graph has 5 % density. Contestants of a row run in turn, round after round, and each is given its fastest
round; what takes over ten seconds runs once. Graphs and distance matrices are built beforehand for everyone.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import networkx as nx
import numpy as np
import ripser
import torch
from sklearn.datasets import load_digits

from benchmarks.tables import fastest, machine, markdown, number, tell, write_json
from fnet_callbacks.functional import (
    Graph,
    communities,
    correlation_distance,
    correlation_matrix,
    graph_from_correlation,
    modularity,
    persistence,
    small_world,
    wiring,
)

try:
    import igraph  # type: ignore[reportMissingImports] - of the extra `benchmark`
except ImportError:
    igraph = None

SIZES = (256, 800, 1600)
NULLS = 10


def trained_activations(n_units: int, *, epochs: int = 10, seed: int = 0) -> np.ndarray:
    """Post-ReLU activations of the first ``n_units`` live units of a trained MLP, ``[1797, N]``."""
    pixels, digits = load_digits(return_X_y=True)
    inputs, labels = torch.tensor(pixels / 16.0, dtype=torch.float32), torch.tensor(digits)
    width = -(-n_units // 2)  # twice the wanted number of units: at least half of them live
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        blocks = [
            torch.nn.Sequential(torch.nn.Linear(64 if layer == 0 else width, width), torch.nn.ReLU())
            for layer in range(4)
        ]
        model = torch.nn.Sequential(*blocks, torch.nn.Linear(width, 10))
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(epochs):
            for batch in torch.randperm(len(inputs)).split(64):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
                optimiser.step()
    outputs, signal = [], inputs
    with torch.no_grad():
        for block in blocks:
            signal = block(signal)
            outputs.append(signal)
    units = torch.cat(outputs, dim=1).numpy()
    live = np.flatnonzero(units.std(axis=0) > 1e-6)
    if len(live) < n_units:
        raise SystemExit(f"only {len(live)} of the {n_units} units wanted are live")
    return units[:, live[:n_units]]


def networkx_wiring(graph: nx.Graph) -> tuple[float, float]:
    return nx.average_clustering(graph), nx.global_efficiency(graph)


def igraph_wiring(graph) -> tuple[float, float]:
    """Clustering and path length: python-igraph 1.0 has no global efficiency, and both take one search."""
    return graph.transitivity_avglocal_undirected(mode="zero"), graph.average_path_length()


def igraph_null(graph, _: int) -> tuple[float, float]:
    null = graph.copy()
    null.rewire(n=10 * graph.ecount())
    return igraph_wiring(null)


def igraph_sigma(graph, pool: ProcessPoolExecutor) -> float:
    nulls = np.mean(list(pool.map(partial(igraph_null, graph), range(NULLS))), axis=0)
    clustering, length = igraph_wiring(graph)
    return (clustering / nulls[0]) / (length / nulls[1])


def igraph_leiden(graph) -> float:
    return graph.community_leiden(objective_function="modularity", n_iterations=2).modularity


def rows_of(n_units: int, rounds: int, pool: ProcessPoolExecutor) -> list[dict]:
    """One dictionary per measure: milliseconds of each contestant."""
    correlation = correlation_matrix(trained_activations(n_units))
    distance = correlation_distance(correlation)
    graph: Graph = graph_from_correlation(correlation)
    nx_graph = graph.to_networkx()
    ours = "fnet_callbacks"
    contests: dict[str, dict[str, Callable[[], object]]] = {
        "clustering + efficiency": {
            ours: lambda: wiring(graph),
            "networkx": lambda: networkx_wiring(nx_graph),
        },
        f"sigma, {NULLS} nulls": {ours: lambda: small_world(graph, nulls=NULLS)},
        "Louvain": {
            ours: lambda: communities(graph),
            "networkx": lambda: nx.community.louvain_communities(nx_graph, seed=0),
        },
        "H0 + H1": {
            ours: lambda: persistence(distance, max_dim=1, backend="native"),
            "gudhi": lambda: persistence(distance, max_dim=1, backend="gudhi"),
            "ripser.py": lambda: ripser.ripser(distance, maxdim=1, distance_matrix=True),
        },
    }
    if igraph is not None:
        peer = igraph.Graph(graph.n_nodes, graph.edges.tolist())
        contests["clustering + efficiency"]["igraph"] = lambda: igraph_wiring(peer)
        contests[f"sigma, {NULLS} nulls"]["igraph"] = lambda: igraph_sigma(peer, pool)
        contests["Louvain"]["igraph"] = lambda: igraph_leiden(peer)
    rows = []
    for measure, contestants in contests.items():
        seconds = fastest(contestants, rounds=rounds)
        rows.append(
            {"nodes": n_units, "edges": graph.n_edges, "measure": measure}
            | {"ms": {name: 1e3 * value for name, value in seconds.items()}}
            | {"ratio": {name: value / seconds[ours] for name, value in seconds.items() if name != ours}}
        )
    quality = {ours: modularity(graph, communities(graph))}
    if igraph is not None:
        # igraph draws from Python's global stream: the median of some runs says what one run gives
        quality["igraph"] = float(np.median([igraph_leiden(peer) for _ in range(9)]))
    next(row for row in rows if row["measure"] == "Louvain")["modularity"] = quality
    return rows


def table(rows: list[dict]) -> str:
    """A line for each measure; how many times longer each peer takes."""
    peers = ["networkx", "igraph", "gudhi", "ripser.py"]
    cells = [
        [row["measure"], str(row["nodes"]), str(row["edges"]), number(row["ms"]["fnet_callbacks"])]
        + [f"{row['ratio'][name]:.1f} x" if name in row["ratio"] else "" for name in peers]
        for row in rows
    ]
    return markdown(["measure", "neurons", "edges", "ours, ms", *peers], cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of live neurons")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if igraph is None:
        print("igraph is not installed, its column stays empty: pip install 'fnet-callbacks[benchmark]'")
    rows = []
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for size in arguments.sizes:
            tell(f"measuring {size} neurons ...")
            rows += rows_of(size, arguments.rounds, pool)
    on = machine("numpy", "numba", "networkx", "gudhi", "ripser")
    print(f"{on}\n\n{table(rows)}\n")
    print("Time of each peer over ours (above 1: ours is faster), fastest of interleaved rounds.")
    print(
        "igraph: clustering + path length; sigma's nulls over 2 processes; Leiden (modularity, 2 iterations)."
    )
    print("networkx.sigma is out of reach: it does not finish on graphs of this size.")
    for row in rows:
        if "modularity" in row:
            told = ", ".join(f"{name} {value:.4f}" for name, value in row["modularity"].items())
            print(f"Modularity of the communities, {row['nodes']} neurons: {told}.")
    write_json(arguments.json, {"machine": on, "rows": rows})


if __name__ == "__main__":
    main()
