"""Maps, trees and scores of runs, against scikit-learn and by hand."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.neighbors import KNeighborsClassifier

from fnet_callbacks.compare.grouping import grouping
from fnet_callbacks.errors import FnetError


def planted(n: int = 5, *, apart: float = 6.0, seed: int = 0):
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(3 * n, 2)) + apart * np.repeat([[0, 0], [1, 0], [0, 1]], n, axis=0)
    return points, [name for name in "abc" for _ in range(n)]


def test_groups_that_are_apart_are_found():
    points, names = planted()
    found = grouping(squareform(pdist(points)), names)
    assert found.scores["ari"].value == 1.0
    assert found.scores["purity"].value == 1.0
    assert all(score.p <= 0.01 for score in found.scores.values())
    assert len(np.unique(found.clusters)) == 3
    assert found.linkage.shape == (14, 4)


def test_scores_are_those_of_scikit_learn():
    points, names = planted(apart=1.5)
    distances = squareform(pdist(points))
    found = grouping(distances, names)
    assert found.scores["ari"].value == pytest.approx(adjusted_rand_score(names, found.clusters))
    assert found.scores["silhouette"].value == pytest.approx(
        silhouette_score(distances, names, metric="precomputed")
    )
    hits = []
    for i in range(len(names)):
        others = [j for j in range(len(names)) if j != i]
        nearest = KNeighborsClassifier(1).fit(points[others], [names[j] for j in others])
        hits.append(nearest.predict(points[[i]])[0] == names[i])
    assert found.scores["nearest_neighbour"].value == pytest.approx(np.mean(hits))


def test_purity_by_hand():
    points = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [9.2]])
    found = grouping(squareform(pdist(points)), ["a", "a", "b", "b", "b", "b"])
    assert found.scores["purity"].value == pytest.approx(5 / 6)


def test_names_that_mean_nothing_score_as_chance_does():
    p = []
    for seed in range(40):
        points, names = planted(4, apart=0.0, seed=seed)
        scores = grouping(squareform(pdist(points)), names, seed=seed).scores
        p.append([scores[name].p for name in ("silhouette", "nearest_neighbour")])
    assert np.mean(np.array(p) <= 0.05) < 0.15
    assert abs(grouping(squareform(pdist(points)), names).scores["ari"].chance) < 0.02


def test_the_map_keeps_distances_that_a_plane_can_keep():
    points, names = planted()
    distances = squareform(pdist(points))
    found = grouping(distances, names)
    assert found.stress < 0.01
    assert squareform(pdist(found.map)) == pytest.approx(distances, abs=0.15)
    again = grouping(distances, names)
    assert np.array_equal(found.map, again.map)


def test_runs_that_are_all_the_same_have_a_map_and_no_finding():
    found = grouping(np.zeros((4, 4)), ["a", "a", "b", "b"])
    assert np.isfinite(found.map).all()
    assert found.stress == 0
    assert found.scores["nearest_neighbour"].p > 0.05


@pytest.mark.parametrize(
    ("distances", "names", "message"),
    [
        (np.zeros((3, 2)), ["a", "a", "b"], "has shape"),
        (np.array([[0, 1, 2], [2, 0, 1], [1, 1, 0.0]]), ["a", "a", "b"], "symmetric"),
        (np.full((3, 3), np.nan), ["a", "a", "b"], "finite"),
        (np.zeros((2, 2)), ["a", "b"], "it takes three runs"),
        (np.zeros((3, 3)), ["a", "a", "a"], "it takes three runs, two groups"),
        (np.zeros((3, 3)), ["a", "b", "c"], "two runs in one"),
    ],
)
def test_wrong_input(distances, names, message):
    with pytest.raises(FnetError, match=message):
        grouping(distances, names)
