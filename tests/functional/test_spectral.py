"""Clusters by the spectrum of a weighted graph."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.metrics import adjusted_rand_score

from fnet_callbacks import FnetError
from fnet_callbacks import functional as F

GROUPS = np.repeat(np.arange(4), 15)


def planted(seed: int = 0, cross: float = 0.05) -> np.ndarray:
    """Four groups with strong edges within and weak ones between."""
    weights = np.random.default_rng(seed).random((60, 60))
    weights *= np.where(GROUPS[:, None] == GROUPS, 1.0, cross)
    return np.triu(weights, 1) + np.triu(weights, 1).T


def permuted(weights: np.ndarray):
    upper = np.triu_indices(len(weights), 1)

    def shuffle(generator: np.random.Generator) -> np.ndarray:
        found = np.zeros_like(weights)
        found[upper] = generator.permutation(weights[upper])
        return found + found.T

    return shuffle


@pytest.mark.parametrize("as_sparse", [False, True])
def test_the_cut_is_that_of_the_definition(as_sparse):
    weights, partition = planted(1), np.random.default_rng(2).choice([3, 4, 9], 60)
    expected = 0.0
    for c in (3, 4, 9):
        own = partition == c
        expected += weights[own][:, ~own].sum() / weights[own].sum()
    assert F.ncut(csr_array(weights) if as_sparse else weights, partition) == pytest.approx(expected)


def test_nodes_of_no_cluster_are_out_of_the_graph():
    weights, partition = planted(), GROUPS.copy()
    partition[50:] = -1
    assert F.ncut(weights, partition) == pytest.approx(F.ncut(weights[:50, :50], partition[:50]))
    assert F.ncut(weights, np.full(60, -1)) == 0
    assert F.ncut(np.zeros((3, 3)), np.arange(3)) == 0


@pytest.mark.parametrize("cross", [0.0, 0.05, 0.2])
def test_planted_groups_are_found_with_k_and_without(cross):
    weights = planted(3, cross)
    for k in (4, None):
        found = F.spectral_clusters(weights, k)
        assert adjusted_rand_score(GROUPS, found) == 1
    assert F.eigengap(weights) == 4


def test_the_width_of_a_sparse_arrays_indices_makes_no_difference():
    wide = csr_array(planted())
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    np.testing.assert_array_equal(F.spectral_clusters(wide, 4), F.spectral_clusters(planted(), 4))


def test_many_nodes_have_the_same_gap_as_few(monkeypatch):
    weights = planted(4, 0.1)
    monkeypatch.setattr(F.spectral, "_DENSE", 10)
    assert F.eigengap(weights, max_clusters=8) == 4


def test_nodes_without_edges_are_in_no_cluster():
    weights = np.zeros((64, 64))
    weights[2:62, 2:62] = planted()
    found = F.spectral_clusters(weights, 4)
    assert (np.flatnonzero(found < 0) == [0, 1, 62, 63]).all()
    assert adjusted_rand_score(GROUPS, found[2:62]) == 1


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_smallest_graphs(k):
    triangle = np.ones((3, 3)) - np.eye(3)
    assert len(np.unique(F.spectral_clusters(triangle, k))) == k
    assert F.eigengap(np.zeros((3, 3))) == 1
    assert F.eigengap(triangle) == 2


def test_planted_groups_are_more_clusterable_than_their_shuffles_and_a_shuffle_is_not():
    weights = planted(5)
    found = F.clusterability(weights, permuted(weights), 4, shuffles=19)
    assert found.ncut == F.ncut(weights, F.spectral_clusters(weights, 4))
    assert found.z < -10
    assert found.p == 1 / 20
    shuffled = permuted(weights)(np.random.default_rng(6))
    again = F.clusterability(shuffled, permuted(shuffled), 4, shuffles=19)
    assert abs(again.z) < 3
    given = F.clusterability(weights, permuted(weights), shuffles=19, partition=GROUPS)
    assert given == found


def test_what_is_left_out_of_a_partition_is_left_out_of_the_shuffles_too():
    weights, partition = planted(5), GROUPS.copy()
    partition[45:] = -1
    found = F.clusterability(weights, permuted(weights), shuffles=9, partition=partition)
    assert found.mean > 1  # three clusters of 45 nodes, of at most 2
    assert found.mean < 2
    assert found.z < -5


def test_a_graph_without_nodes_has_no_cut():
    assert F.ncut(np.zeros((0, 0)), np.empty(0, int)) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.ncut(np.zeros((2, 3)), np.zeros(2, int)), "square matrix"),
        (lambda: F.ncut(-np.ones((2, 2)), np.zeros(2, int)), "0 or more"),
        (lambda: F.ncut(np.full((2, 2), np.nan), np.zeros(2, int)), "finite"),
        (lambda: F.ncut(np.triu(np.ones((2, 2))), np.zeros(2, int)), "symmetric"),
        (lambda: F.ncut(np.ones((2, 2)), np.zeros(3, int)), r"partition must be integers of shape \(2,\)"),
        (lambda: F.spectral_clusters(planted(), 61), r"`k=61` should be from 1 to 60"),
        (lambda: F.spectral_clusters(planted(), 0), r"`k=0` should be from 1 to 60"),
        (lambda: F.eigengap(planted(), max_clusters=1), "max_clusters must be .* at least 2, got 1"),
        (
            lambda: F.clusterability(planted(), permuted(planted()), 4, shuffles=1),
            "shuffles must be .* at least 2, got 1",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(FnetError, match=message):
        call()
