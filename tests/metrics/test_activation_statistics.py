import pickle

import numpy as np
import pytest
import torch

from fnet_callbacks.errors import FnetError
from fnet_callbacks.metrics import ActivationStatistics

ACTIVATIONS = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.5, -2.0], [0.0, 0.0, 3.0], [4.0, 0.0, 0.0]])
LABELS = torch.tensor([0, 0, 2, 2])


def summary(batches, **options):
    metric = ActivationStatistics(3, **options)
    for batch in batches:
        metric.update(*batch)
    return metric.compute()


def test_shares_by_hand():
    seen = summary([(ACTIVATIONS, LABELS)], num_classes=3)
    assert seen.count == 4
    np.testing.assert_array_equal(seen.active_share, [0.75, 0.25, 0.25])
    np.testing.assert_array_equal(seen.class_active_share, [[1.0, 0.5, 0.0], [np.nan] * 3, [0.5, 0.0, 0.5]])
    assert seen.kept is None


@pytest.mark.parametrize("size", [1, 3, 4])
def test_batches_equal_one_shot(size):
    batches = [(ACTIVATIONS[:0], LABELS[:0]), *zip(ACTIVATIONS.split(size), LABELS.split(size), strict=True)]
    seen, expected = (summary(b, num_classes=3, keep=10) for b in (batches, [(ACTIVATIONS, LABELS)]))
    for one, other in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(seen.kept, ACTIVATIONS.numpy())


def test_shares_equal_numpy_on_many_samples():
    rng = np.random.default_rng(0)
    activations, labels = rng.normal(size=(500, 3)).astype(np.float32), rng.integers(0, 4, 500)
    pairs = zip(torch.from_numpy(activations).split(64), torch.from_numpy(labels).split(64), strict=True)
    seen = summary(pairs, num_classes=4)
    np.testing.assert_array_equal(seen.active_share, (activations > 0).mean(axis=0))
    expected = [(activations[labels == c] > 0).mean(axis=0) for c in range(4)]
    np.testing.assert_array_equal(seen.class_active_share, expected)


@pytest.mark.parametrize("keep", [1, 3, 4, 100])
def test_no_more_than_the_first_rows_are_kept(keep):
    seen = summary([(batch,) for batch in ACTIVATIONS.split(2)], keep=keep)
    np.testing.assert_array_equal(seen.kept, ACTIVATIONS[:keep].numpy())
    assert seen.count == 4


def test_kept_rows_have_their_labels_as_far_as_they_came_with_some():
    seen = summary([(ACTIVATIONS[:2], LABELS[:2]), (ACTIVATIONS[2:],)], num_classes=3, keep=3)
    np.testing.assert_array_equal(seen.kept_labels, [0, 0, -1])
    assert summary([(ACTIVATIONS,)]).kept_labels is None
    assert summary([(ACTIVATIONS[:0],)], keep=3).kept_labels.shape == (0,)


def test_kept_rows_do_not_hold_the_batch_they_came_from():
    metric = ActivationStatistics(3, keep=1)
    metric.update(ACTIVATIONS)
    assert metric.kept[0].untyped_storage().nbytes() == 3 * 4


def test_kept_rows_are_bounded_through_forward_too():
    metric = ActivationStatistics(3, keep=3)
    for batch in ACTIVATIONS.split(2):
        metric(batch)
    np.testing.assert_array_equal(metric.compute().kept, ACTIVATIONS[:3].numpy())
    assert metric.compute().count == 4


def test_kept_rows_are_what_they_were_when_seen():
    activations = ACTIVATIONS.clone()
    metric = ActivationStatistics(3, keep=4)
    metric.update(activations)
    activations.zero_()
    np.testing.assert_array_equal(metric.compute().kept, ACTIVATIONS.numpy())


@pytest.mark.parametrize("num_classes", [None, 3])
def test_without_labels_there_are_no_class_shares(num_classes):
    assert summary([(ACTIVATIONS,)], num_classes=num_classes).class_active_share is None


def test_nan_is_not_active_and_infinity_is():
    seen = summary([(torch.tensor([[float("nan"), float("inf"), -float("inf")]]),)])
    np.testing.assert_array_equal(seen.active_share, [0.0, 1.0, 0.0])


def test_no_sample_has_no_share():
    seen = summary([(ACTIVATIONS[:0], LABELS[:0])], num_classes=3, keep=2)
    assert seen.count == 0
    assert np.isnan(seen.active_share).all()
    assert seen.class_active_share is None
    assert seen.kept.shape == (0, 3)


def test_single_unit_and_class_keep_their_shapes():
    metric = ActivationStatistics(1, num_classes=1, keep=1)
    metric.update(torch.ones(1, 1), torch.zeros(1, dtype=torch.int64))
    seen = metric.compute()
    assert seen.active_share.shape == (1,)
    assert seen.class_active_share.shape == seen.kept.shape == (1, 1)


def test_accumulation_goes_on_after_pickling_and_stops_at_reset():
    metric = ActivationStatistics(3, num_classes=3, keep=4)
    metric.update(ACTIVATIONS[:2], LABELS[:2])
    metric = pickle.loads(pickle.dumps(metric))
    with torch.inference_mode():
        metric.update(ACTIVATIONS[2:], LABELS[2:])
    for one, other in zip(
        metric.compute(), summary([(ACTIVATIONS, LABELS)], num_classes=3, keep=4), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    metric.reset()
    metric.update(ACTIVATIONS[:1])
    assert metric.compute().count == 1
    assert metric.compute().class_active_share is None
    np.testing.assert_array_equal(metric.compute().kept, ACTIVATIONS[:1].numpy())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ACTIVATIONS[:, :2],), r"activations must be \[samples, 3\]"),
        ((ACTIVATIONS, LABELS[:3]), r"labels must be \[4\]"),
        ((ACTIVATIONS, LABELS[:, None]), r"labels must be \[4\]"),
        ((ACTIVATIONS, LABELS + 1), r"labels must lie in \[0, 3\); got 1 to 3"),
        ((ACTIVATIONS, LABELS - 1), r"labels must lie in \[0, 3\); got -1 to 1"),
        ((ACTIVATIONS, LABELS.float()), "labels must be integer"),
    ],
)
def test_wrong_batch_is_named_and_adds_nothing(arguments, message):
    metric = ActivationStatistics(3, num_classes=3, keep=2)
    with pytest.raises(FnetError, match=message):
        metric.update(*arguments)
    assert int(metric.count) == int(metric.active.sum()) == int(metric.class_count.sum()) == 0


def test_labels_without_a_number_of_classes_are_an_error():
    with pytest.raises(FnetError, match="num_classes is None"):
        ActivationStatistics(3).update(ACTIVATIONS, LABELS)


@pytest.mark.parametrize("options", [{"num_units": -1}, {"num_classes": 0}, {"keep": -1}])
def test_wrong_options_are_named(options):
    with pytest.raises(FnetError, match=next(iter(options))):
        ActivationStatistics(**{"num_units": 3, **options})
