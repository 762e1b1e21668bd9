"""Distances of diagrams, curves and vectors of measures."""

import math

import networkx as nx
import numpy as np
import pytest
from gudhi import hera

from fnet_callbacks import functional as F
from fnet_callbacks.compare.distances import (
    betti_distance,
    bottleneck,
    graph_filtration_distance,
    measure_distance,
    pairwise,
    wasserstein,
)
from fnet_callbacks.errors import FnetError

ONE = np.array([[0.1, 0.5]])
NOTHING = np.empty((0, 2))


def diagram(seed):
    births = np.random.default_rng(seed).random(20)
    return np.column_stack([births, births + np.random.default_rng(seed + 1).random(20)])


def test_a_feature_that_is_missing_is_as_far_as_the_diagonal():
    assert wasserstein(ONE, NOTHING) == pytest.approx(0.4 / math.sqrt(2), rel=0.01)
    assert bottleneck(ONE, NOTHING) == pytest.approx(0.2)


def test_a_feature_that_moved():
    moved = ONE + np.array([0.0, 0.03])
    assert wasserstein(ONE, moved) == pytest.approx(0.03, rel=0.01)
    assert bottleneck(ONE, moved) == pytest.approx(0.03)


@pytest.mark.parametrize("distance", [wasserstein, bottleneck, betti_distance])
def test_they_are_distances_and_features_that_never_close_do_not_count(distance):
    a, b, c = (diagram(seed) for seed in (0, 2, 4))
    endless = np.vstack([a, [[0.0, np.inf]], [[0.3, 0.3]]])
    assert distance(a, endless) == 0
    assert distance(NOTHING, NOTHING) == 0
    assert distance(a, b) == pytest.approx(distance(b, a), rel=0.02)
    assert distance(a, c) <= 1.02 * (distance(a, b) + distance(b, c))
    with pytest.raises(FnetError, match="birth and death"):
        distance(np.zeros((2, 3)), a)


def test_betti_curves_are_integrated_exactly():
    grid = np.linspace(0, 2, 200_001)
    a, b = diagram(0), diagram(2)
    difference = (F.betti_curve(a, grid) - F.betti_curve(b, grid)).astype(float)
    assert betti_distance(a, b) == pytest.approx(math.sqrt(np.mean(difference**2) * 2), rel=1e-3)
    assert betti_distance(ONE, NOTHING) == pytest.approx(math.sqrt(0.4))


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("sizes", [(1, 1), (3, 40), (300, 270)])
def test_the_wasserstein_distance_is_that_of_gudhi(order, sizes):
    generator = np.random.default_rng(len(sizes) + sizes[0])
    a, b = (np.sort(scale * generator.random((n, 2)), axis=1) for n, scale in zip(sizes, (1, 3), strict=True))
    expected = hera.wasserstein_distance(a, b, order=order, internal_p=2.0, delta=1e-4)
    assert wasserstein(a, b, order=order) == pytest.approx(expected, rel=2e-4)
    assert wasserstein(b, a, order=order) == pytest.approx(wasserstein(a, b, order=order))
    assert wasserstein(a, a[::-1], order=order) == 0


def test_an_order_out_of_range_is_refused():
    for wrong in (0.5, math.inf, math.nan, 101.0):
        with pytest.raises(FnetError, match=r"`order=.*` should be from 1 to 100"):
            wasserstein(ONE, ONE, order=wrong)


def test_measures_count_in_units_of_their_spread():
    values = np.array([[0.0, 1000.0, 5.0, math.nan], [2.0, 3000.0, 5.0, 1.0], [4.0, 5000.0, 5.0, 1.0]])
    found = measure_distance(values)
    assert found == pytest.approx(measure_distance(values[:, :1]))  # both measures say the same
    assert found[0, 2] == pytest.approx(2 * found[0, 1])
    with pytest.raises(FnetError, match="no measure is finite"):
        measure_distance(values[:, 2:])


@pytest.mark.parametrize("constant", [0.1, 0.3, 3.3, 1 / 3, -7.7, 1e-30, 1e200])
@pytest.mark.parametrize("n_runs", [3, 7, 10])
def test_a_measure_that_is_the_same_in_all_runs_but_for_rounding_counts_for_nothing(constant, n_runs):
    own = np.arange(float(n_runs))[:, None]
    same = np.full((n_runs, 10), constant)
    nearly = same * (1 + 1e-15 * np.arange(n_runs)[:, None])
    expected = measure_distance(own)
    assert expected[0, 1] == pytest.approx(1 / own.std())
    for constants in (same, nearly):
        np.testing.assert_array_equal(measure_distance(np.hstack([own, constants])), expected)
        with pytest.raises(FnetError, match="no measure is finite in all runs and varies"):
            measure_distance(constants)


def test_measures_of_any_size_count_alike():
    own = np.array([[0.0, 5.0], [1.0, 6.0], [3.0, 9.0]])
    for scale in (1e-200, 1e-5, 1e5, 1e200):
        assert measure_distance(own * scale) == pytest.approx(measure_distance(own))
    found = measure_distance(np.hstack([own, [[np.inf], [1.0], [2.0]], [[np.nan], [1.0], [2.0]]]))
    np.testing.assert_array_equal(found, measure_distance(own))


def test_each_pair_is_asked_for_once():
    asked = []
    found = pairwise([1, 4, 9], lambda a, b: asked.append((a, b)) or abs(a - b))
    assert found.tolist() == [[0, 3, 8], [3, 0, 5], [8, 5, 0]]
    assert len(asked) == 3


def filtration(seed: int, n: int = 12, strength: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Births and deaths of a random network, one by one."""
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(50, n)) + strength * generator.normal(size=(50, 1))
    selection = F.select(F.correlation_matrix(rows))
    return selection.tree_weights, selection.weight_counts


def one_by_one(seed: int, n: int = 12, strength: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(50, n)) + strength * generator.normal(size=(50, 1))
    weights = np.abs(np.corrcoef(rows.T))
    graph = nx.from_numpy_array(weights)
    tree = nx.maximum_spanning_tree(graph)
    births = sorted(d["weight"] for *_, d in tree.edges(data=True))
    deaths = sorted(d["weight"] for i, j, d in graph.edges(data=True) if i < j and not tree.has_edge(i, j))
    return np.array(births), np.array(deaths)


@pytest.mark.parametrize("strength", [0.5, 0.6, 2.0])
def test_the_graph_filtrations_are_matched_in_order(strength):
    (births, deaths), (others, other_deaths) = one_by_one(0), one_by_one(1, strength=strength)
    expected = np.sqrt(((births - others) ** 2).sum() + ((deaths - other_deaths) ** 2).sum())
    found = graph_filtration_distance(filtration(0), filtration(1, strength=strength))
    assert found == pytest.approx(expected, abs=2e-3)
    assert graph_filtration_distance(filtration(0), filtration(0)) == 0


def test_graph_filtrations_of_other_sizes_are_matched_by_quantiles():
    births, counts = filtration(0)
    assert graph_filtration_distance((births, counts), (births, counts)) == 0
    assert graph_filtration_distance(filtration(0, n=12), filtration(0, n=13)) > 0
    with pytest.raises(FnetError, match="4096 and in 10 bins"):
        graph_filtration_distance((births, counts), (births, counts[:10]))


def test_a_filtration_without_a_cycle_has_no_distance():
    with pytest.raises(FnetError, match="at least three nodes"):
        graph_filtration_distance(filtration(0), (np.array([0.5]), filtration(0)[1]))


def test_a_filtration_without_a_weight_beyond_its_tree_is_matched():
    tree, counts = filtration(0)
    alone = np.zeros_like(counts)
    others = counts - np.bincount((tree * 4095).astype(int), minlength=4096)
    expected = np.sqrt((others * ((np.arange(4096) + 0.5) / 4095) ** 2).sum())
    assert graph_filtration_distance((tree, alone), (tree, counts)) == pytest.approx(expected)
