import os
import subprocess
import sys

import numpy as np
import pytest

from fnet_callbacks.functional import _kernels
from fnet_callbacks.functional._kernels.base import kernel
from fnet_callbacks.functional._kernels.rewiring import draw
from fnet_callbacks.functional.communities import adjusted_mutual_information, communities, modularity_z
from fnet_callbacks.functional.correlation import correlation_distance, correlation_matrix
from fnet_callbacks.functional.entropy import active_share, histogram_entropy
from fnet_callbacks.functional.fault_tolerance import fault_tolerance
from fnet_callbacks.functional.graph import Graph, connected_components, edge_turnover
from fnet_callbacks.functional.layout import spring_layout
from fnet_callbacks.functional.selection import graph_from_correlation, graph_scale, spanning_tree
from fnet_callbacks.functional.small_world import local_efficiency, small_world, small_world_hqs


def measure_everything(n_nodes):
    activations = np.random.default_rng(n_nodes).standard_normal((30, n_nodes))
    correlation = correlation_matrix(activations)
    correlation_distance(correlation)
    histogram_entropy(activations)
    active_share(activations)
    graph = graph_from_correlation(correlation, density=0.1)
    graph_scale(correlation, graph, spanning_tree(correlation))
    graph_from_correlation(correlation, method="threshold", threshold=0.3)
    edge_turnover(graph, graph)
    connected_components(graph)
    small_world(graph, nulls=2)
    small_world_hqs(correlation, graph, nulls=2)
    local_efficiency(graph)
    spring_layout(graph, np.zeros((n_nodes, 2)), iterations=1)
    adjusted_mutual_information(communities(graph, initial=np.zeros(n_nodes, int)), np.arange(n_nodes) // 2)
    modularity_z(graph, nulls=2)
    for measure in ("giant_component", "efficiency"):
        fault_tolerance(graph, order="degree", measure=measure)
    fault_tolerance(graph, order="betweenness")


@pytest.mark.filterwarnings("ignore:.*degrees of freedom:RuntimeWarning", "ignore:.*divide:RuntimeWarning")
def test_sizes_and_origins_share_one_compiled_form():
    for n_nodes in (2, 3, 70, 200):
        measure_everything(n_nodes)
    graph = Graph.from_edges(4, np.array([[0, 1], [1, 2]], np.int16))
    communities(Graph(*(np.array(part) for part in (graph.edges, graph.rows, graph.indptr, graph.indices))))
    compiled = {name: getattr(_kernels, name).signatures for name in _kernels.HOME}
    assert all(compiled.values())
    # Once for float32, once for float64.
    by_float = {
        "misfit",
        "survey",
        "counts_beyond",
        "prim",
        "strongest_edges",
        "next_below",
        "weights_in_bin",
    }
    by_float |= {"active_counts", "centred", "histograms"}
    assert {
        name: len(forms)
        for name, forms in compiled.items()
        if name not in by_float | {"bin_of"} and len(forms) > 1
    } == {}
    layouts = {str(form[0].layout) for name in by_float for form in compiled[name]}
    assert layouts == {"C"}


def test_kernel_works_where_nothing_can_be_cached():
    namespace = {}
    exec("def double(x):\n    return 2 * x", namespace)  # no source file: Numba has no place for a cache
    assert kernel(namespace["double"])(21) == 42


def test_package_works_without_a_writable_cache(tmp_path):
    """A fresh interpreter whose every cache location is a file, not a folder."""
    blocked = tmp_path / "file"
    blocked.touch()
    code = (
        "import numba.core.caching as c\n"
        "c.CacheImpl._locator_classes = [c.UserProvidedCacheLocator]\n"
        "import numpy as np\n"
        "from fnet_callbacks.functional.graph import Graph\n"
        "print(Graph.from_edges(3, np.array([[0, 1]])).n_edges)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={"NUMBA_CACHE_DIR": str(blocked / "cache"), "PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "1"


def test_draws_are_uniform():
    state = np.array([123], np.uint64)
    counts = np.bincount([draw(state, 7) for _ in range(70_000)], minlength=7)
    assert len(counts) == 7
    assert np.square(counts - 10_000).sum() / 10_000 < 30  # chi² of 6 degrees of freedom; 30 has p = 4e-5


def test_splitmix64_gives_its_published_numbers():
    """First output for seed 1234567 of the reference implementation; its upper half, scaled to 2^32."""
    state = np.array([1234567], np.uint64)
    assert draw(state, 2**32 - 1) == ((6457827717110365317 >> 32) * (2**32 - 1)) >> 32


def test_kernels_draw_the_permutations_that_numpy_draws():
    @kernel
    def permutation(generator, n):
        return generator.permutation(n)

    compiled, numpys = np.random.default_rng(3), np.random.default_rng(3)
    for n in (0, 1, 2, 63, 64, 65, 1000):
        assert np.array_equal(permutation(compiled, n), numpys.permutation(n))
    assert compiled.bit_generator.state == numpys.bit_generator.state


def test_compiled_communities_can_be_loaded_from_the_cache(tmp_path):
    """Of two fresh interpreters the second finds what the first has compiled."""
    code = (
        "import numpy as np\n"
        "from fnet_callbacks.functional.graph import Graph\n"
        "from fnet_callbacks.functional.communities import communities\n"
        "ring = np.stack((np.arange(40), (np.arange(40) + 1) % 40), axis=1)\n"
        "print(communities(Graph.from_edges(40, ring)).tolist())\n"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (
        subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        for _ in range(2)
    )
    assert list(tmp_path.rglob("*.nbc"))
    assert first.stdout == second.stdout
