"""Measures of codes: by hand, against scikit-learn and SciPy, and at the level of chance."""

import numpy as np
import pytest
import torch
from scipy.spatial import procrustes
from sklearn.metrics import normalized_mutual_info_score

from fnet_callbacks import functional as F
from fnet_callbacks.codes.measures import (
    code_entropy,
    compactness,
    live_scale,
    map_distance,
    normalized_mutual_information,
    participation_ratio,
)
from fnet_callbacks.errors import FnetError


def test_entropy_is_a_share_of_the_largest() -> None:
    assert code_entropy(np.array([0, 1, 2, 3]), 4) == pytest.approx(1)
    assert code_entropy(np.array([0, 1, 2, 3]), 100) == pytest.approx(
        1
    )  # four samples, no more than four codes
    assert code_entropy(np.array([0, 0, 1, 1]), 4) == pytest.approx(0.5)
    assert code_entropy(np.zeros(9, int), 4) == 0
    assert np.isnan(code_entropy(np.zeros(9, int), 1))
    assert np.isnan(code_entropy(np.empty(0, int), 4))


def test_mutual_information_is_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    for _ in range(10):
        units, classes = generator.integers(0, 30, 200), generator.integers(0, 5, 200)
        classes = np.where(generator.random(200) < 0.5, units % 5, classes)
        found = normalized_mutual_information(units, classes)
        assert found == pytest.approx(normalized_mutual_info_score(classes, units))
    assert normalized_mutual_information(np.array([3, 3, 7, 7]), np.array([0, 0, 1, 1])) == pytest.approx(1)
    assert np.isnan(normalized_mutual_information(np.array([3, 3, 7]), np.zeros(3, int)))
    with pytest.raises(FnetError, match=r"`classes` should be \[3\]"):
        normalized_mutual_information(np.zeros(3, int), np.zeros(2, int))


def test_a_shuffled_label_is_at_the_level_of_chance() -> None:
    generator = np.random.default_rng(1)
    units = generator.integers(0, 169, 1024)
    classes = np.repeat(np.arange(8), 128)
    adjusted = [F.adjusted_mutual_information(units, generator.permutation(classes)) for _ in range(20)]
    assert abs(np.mean(adjusted)) < 0.01
    places = np.stack(np.divmod(units, 13), axis=1)
    assert compactness(places, generator.permutation(classes)) == pytest.approx(1, abs=0.03)


def test_compactness_is_small_where_each_class_has_its_corner() -> None:
    generator = np.random.default_rng(0)
    classes = np.arange(4).repeat(50)
    corners = np.array([[0, 0], [0, 9], [9, 0], [9, 9]])
    assert compactness(corners[classes], classes) == 0
    near = corners[classes] + generator.integers(-1, 2, (200, 2))
    assert 0 < compactness(near, classes) < 0.3
    assert np.isnan(compactness(near, np.zeros(200, int)))
    assert np.isnan(compactness(np.zeros((200, 2)), classes))


def test_participation_ratio_counts_equal_components() -> None:
    values = torch.zeros(12, 30)
    values[:6, :6] = torch.eye(6)
    values[6:, :6] = -torch.eye(6)
    assert participation_ratio(values) == pytest.approx(6)
    assert participation_ratio(values[:, :6] * torch.tensor([1, 0, 0, 0, 0, 0])) == pytest.approx(1)
    drawn = torch.randn(40, 15, dtype=torch.float64)
    of_covariance = np.linalg.eigvalsh(np.cov(drawn.numpy().T))
    expected = of_covariance.sum() ** 2 / (of_covariance**2).sum()
    assert participation_ratio(drawn) == pytest.approx(expected)
    assert (
        participation_ratio(drawn[:10])
        == pytest.approx(  # fewer samples than entries: the other product
            (e := np.linalg.eigvalsh(np.cov(drawn[:10].numpy().T))).sum() ** 2 / (e**2).sum()
        )
    )
    assert np.isnan(participation_ratio(torch.ones(5, 3)))


def test_a_map_is_as_far_from_another_as_they_cannot_be_laid_over_each_other() -> None:
    generator = np.random.default_rng(0)
    places = generator.integers(0, 9, (300, 2))
    turned = np.stack([8 - places[:, 1], places[:, 0]], axis=1)
    for same in (places, turned, places[:, ::-1], places * 2 + 5):
        assert map_distance(places, same) == pytest.approx(0, abs=1e-12)
    other = generator.integers(0, 9, (300, 2))
    assert 0.9 < map_distance(places, other) <= 1
    assert map_distance(places, other) == pytest.approx(procrustes(places, other)[2])
    assert map_distance(places, other) == pytest.approx(map_distance(other, places))
    assert np.isnan(map_distance(places, np.ones((300, 2))))
    with pytest.raises(FnetError, match="`b` should be"):
        map_distance(places, other[:5])


def test_an_entry_that_does_not_vary_is_scaled_to_nothing() -> None:
    values = torch.tensor([[1.0, 1e6, 3.0], [2.0, 1e6, 3.0]])
    mean, scale = live_scale(values)
    assert mean.tolist() == [1.5, 1e6, 3.0]
    assert scale.tolist() == [0.5, torch.inf, torch.inf]
