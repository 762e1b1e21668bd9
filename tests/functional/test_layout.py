"""Force-directed layouts."""

import networkx as nx
import numpy as np
import pytest

from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional.graph import Graph
from fnet_callbacks.functional.layout import spring_layout


def from_networkx(graph):
    return Graph.from_edges(len(graph), np.array(graph.edges, int).reshape(-1, 2))


def scattered(n, seed=0):
    return np.random.default_rng(seed).normal(scale=0.5, size=(n, 2))


def distances(positions):
    return np.linalg.norm(positions[:, None] - positions[None], axis=2)


def test_two_neighbours_settle_where_push_equals_pull():
    # d² / k = k² / d at d = k = sqrt(4 / N)
    placed = spring_layout(
        from_networkx(nx.path_graph(2)), np.array([[0.0, 0.1], [0.0, -0.1]]), iterations=300
    )
    assert distances(placed)[0, 1] == pytest.approx(np.sqrt(2), abs=1e-2)


def test_a_triangle_becomes_equilateral():
    placed = spring_layout(from_networkx(nx.complete_graph(3)), scattered(3), iterations=500)
    sides = distances(placed)[np.triu_indices(3, 1)]
    assert sides == pytest.approx(np.full(3, np.sqrt(4 / 3)), abs=1e-2)


def test_nodes_without_edges_part():
    start = scattered(20)
    placed = spring_layout(from_networkx(nx.empty_graph(20)), start, iterations=50)
    apart = distances(placed) / (distances(start) + np.eye(20))
    assert np.median(apart[np.triu_indices(20, 1)]) > 2


def test_planted_groups_stand_apart_wherever_they_start():
    graph = from_networkx(nx.planted_partition_graph(3, 40, 0.4, 0.005, seed=0))
    group = np.repeat([0, 1, 2], 40)
    placed = spring_layout(graph, scattered(120), iterations=200)
    centres = np.array([placed[group == g].mean(0) for g in range(3)])
    nearest = np.linalg.norm(placed[:, None] - centres, axis=2).argmin(1)
    assert (nearest == group).mean() > 0.95


def test_forces_are_those_of_the_paper():
    # a force beyond the temperature, 0.2, is taken for its direction only
    graph = from_networkx(nx.gnp_random_graph(30, 0.2, seed=1))
    start = scattered(30)
    moved = spring_layout(graph, start, iterations=1) - start
    delta = start[:, None] - start[None]
    length = distances(start) + np.eye(30)
    spacing = np.sqrt(4 / 30)
    joined = np.zeros((30, 30))
    joined[tuple(graph.edges.T)] = joined[tuple(graph.edges.T[::-1])] = 1
    force = (delta / length[..., None] * (spacing**2 / length - joined * length**2 / spacing)[..., None]).sum(
        1
    )
    size = np.linalg.norm(force, axis=1)
    assert moved == pytest.approx(force * (np.minimum(size, 0.2) / size)[:, None], abs=1e-4)


def test_no_node_moves_further_than_the_temperature_allows():
    start = scattered(50)
    placed = spring_layout(from_networkx(nx.complete_graph(50)), start, iterations=4)
    assert np.linalg.norm(placed - start, axis=1).max() <= 0.2 * (1 + 0.75 + 0.5 + 0.25) + 1e-12


def test_a_turned_start_gives_a_turned_layout():
    graph = from_networkx(nx.gnp_random_graph(40, 0.1, seed=2))
    start, turn = scattered(40), np.array([[0.6, -0.8], [0.8, 0.6]])
    placed = spring_layout(graph, start, iterations=5)
    assert spring_layout(graph, start @ turn, iterations=5) == pytest.approx(placed @ turn, abs=1e-3)


def test_the_same_start_gives_the_same_bits_and_is_not_changed():
    graph, start = from_networkx(nx.gnp_random_graph(100, 0.1, seed=3)), scattered(100)
    before = start.copy()
    first, again = (spring_layout(graph, start, iterations=50) for _ in range(2))
    assert np.array_equal(first, again)
    assert np.array_equal(start, before)


def test_no_iterations_give_a_copy_of_the_start():
    start = scattered(5)
    placed = spring_layout(from_networkx(nx.path_graph(5)), start, iterations=0)
    assert np.array_equal(placed, start)
    assert not np.shares_memory(placed, start)


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_nodes_stay(n):
    start = scattered(n)
    assert np.array_equal(spring_layout(from_networkx(nx.empty_graph(n)), start, iterations=10), start)


def test_nodes_at_one_place_stay_finite():
    placed = spring_layout(from_networkx(nx.complete_graph(4)), np.zeros((4, 2)), iterations=10)
    assert np.array_equal(placed, np.zeros((4, 2)))


@pytest.mark.parametrize(
    "start", [scattered(4), np.zeros((5, 3)), np.zeros(5), np.full((5, 2), np.nan), np.full((5, 2), np.inf)]
)
def test_a_start_that_is_no_place_for_each_node_is_refused(start):
    with pytest.raises(FnetError, match="start must be finite, of shape"):
        spring_layout(from_networkx(nx.path_graph(5)), start, iterations=1)


def test_negative_iterations_are_refused():
    with pytest.raises(FnetError, match="iterations must be an integer of 0 or more"):
        spring_layout(from_networkx(nx.path_graph(5)), scattered(5), iterations=-1)
