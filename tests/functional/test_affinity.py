"""What communities are made of, and what they are about."""

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from fnet_callbacks import FnetError
from fnet_callbacks import functional as F


def test_composition_and_its_entropy_by_hand() -> None:
    partition, layers = np.array([7, 7, 7, 7, 9, 9, 4]), np.array([0, 0, 2, 2, 1, 1, 2])
    counts = F.composition(partition, layers)
    assert counts.tolist() == [[0, 0, 1], [2, 0, 2], [0, 2, 0]]
    np.testing.assert_allclose(F.layer_entropy(counts), [0, np.log(2) / np.log(3), 0])
    assert F.layer_entropy(np.array([[3, 3, 3]])) == pytest.approx(1)


def test_a_network_of_one_layer_and_an_empty_community_have_no_layer_entropy() -> None:
    assert np.isnan(F.layer_entropy(np.array([[3], [1]]))).all()
    assert np.isnan(F.layer_entropy(np.array([[0, 0]]))).all()
    assert F.composition(np.empty(0, int), np.empty(0, int)).shape == (0, 0)


def test_the_preferred_class_is_that_for_which_a_neuron_fires_most() -> None:
    shares = np.array([[0.1, 0.5, 0.0, np.nan], [0.4, 0.5, 0.0, np.nan], [np.nan, np.nan, np.nan, np.nan]])
    assert F.preferred_class(shares).tolist() == [1, 0, -1, -1]
    assert F.preferred_class(np.empty((0, 3))).tolist() == [-1, -1, -1]


def test_what_tells_the_class_has_affinity_1_and_noise_has_none() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 2000)
    telling, noise = labels + rng.uniform(0, 0.5, 2000), rng.normal(size=(2000, 20))
    # Eight bins of equal counts; two classes may meet in one bin.
    assert F.class_affinity(telling, labels) > 0.85
    assert F.class_affinity(telling, labels, bins=64) > 0.97
    of_noise = F.class_affinity(noise, labels)
    assert of_noise.shape == (20,)
    assert of_noise.mean() < 0.002  # uncorrected it would be (8 - 1) (4 - 1) / 2 / 2000 / log 4 = 0.0038


def test_before_correction_the_information_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 900)
    values = labels + rng.normal(size=900)
    binned = ((values.argsort().argsort() + 0.5) * 8 / 900).astype(int)
    plain = mutual_info_score(labels, binned)
    entropy = -sum(p * np.log(p) for p in np.bincount(labels) / 900)
    counts = [np.count_nonzero(np.bincount(x)) for x in (binned, labels, binned * 3 + labels)]
    corrected = plain + (counts[0] - 1 + counts[1] - 1 - (counts[2] - 1)) / 1800
    assert F.class_affinity(values, labels) == pytest.approx(corrected / (entropy + 2 / 1800))


@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_silent_for_most_inputs_tells_of_those_for_which_it_is_not(sign):
    rng = np.random.default_rng(0)
    labels = np.arange(4000) % 10
    for n_classes in (1, 2):  # of ten for which it fires
        values = sign * np.where(labels < n_classes, 1 + rng.random(4000), 0.0)
        share = n_classes / 10
        known = -share * np.log(share) - (1 - share) * np.log(1 - share)
        assert F.class_affinity(values, labels) == pytest.approx(known / np.log(10), abs=0.01)


def test_degenerate_values_and_labels() -> None:
    labels = np.array([0, 1, 0, 1])
    assert F.class_affinity(np.ones(4), labels) == 0
    assert np.isnan(F.class_affinity(np.array([1, 2, np.nan, 4]), labels))
    assert np.isnan(F.class_affinity(np.arange(4.0), np.zeros(4, int)))
    assert np.isnan(F.class_affinity(np.empty(0), np.empty(0, int)))
    some = np.array([0, 1, -1, -1])
    assert F.class_affinity(np.array([0.0, 1, 5, 6]), some) == F.class_affinity(np.array([0.0, 1]), some[:2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: F.composition(np.zeros(3, int), np.zeros(2, int)),
            r"layers must be integers of shape \(3,\)",
        ),
        (lambda: F.composition(np.zeros(2, int), np.array([0, -1])), "layers must be 0 or more"),
        (lambda: F.layer_entropy(np.zeros(3)), r"counts must be \[communities, layers\]"),
        (lambda: F.preferred_class(np.zeros(3)), r"\[classes, neurons\]"),
        (lambda: F.class_affinity(np.zeros(3), np.zeros(2, int)), r"values must be \[2\]"),
        (lambda: F.class_affinity(np.zeros(3), np.zeros(3)), "labels must be a vector of integers"),
        (
            lambda: F.class_affinity(np.zeros(3), np.zeros(3, int), bins=1),
            "bins must be an integer of at least 2, got 1",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message: str) -> None:
    with pytest.raises(FnetError, match=message):
        call()
