"""Communities through time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fnet_callbacks import FnetError
from fnet_callbacks import functional as F
from fnet_callbacks.functional import Event

GROUPS = np.repeat(np.arange(4), 25)


def shuffled_labels(partition: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(int(partition.max()) + 1)[partition]


def partitions(n_nodes: int = 12, n_snapshots: int = 5) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.int64, (n_nodes, n_snapshots), elements=st.integers(-1, 4))


# Identity.


def test_names_survive_a_shuffle_of_labels() -> None:
    rng = np.random.default_rng(0)
    series = np.stack([shuffled_labels(GROUPS, rng) for _ in range(6)], axis=1)
    names = F.trace(series)
    assert (names == names[:, :1]).all()
    assert not F.flexibility(names).any()
    assert all(F.events(*pair) == [] for pair in zip(names.T[:-1], names.T[1:], strict=True))


def test_the_largest_overlap_decides_even_where_another_is_first() -> None:
    before = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    after = np.array([0, 1, 1, 1, 0, 0, 0, 1])
    assert F.follow(after, before).tolist() == [1, 0, 0, 0, 1, 1, 1, 0]


def test_a_community_with_less_than_a_tenth_of_another_does_not_inherit_its_name() -> None:
    before = np.repeat([0, -1], [20, 20])
    after = np.where(np.arange(40) < 1, 0, np.where(np.arange(40) < 20, -1, 0))
    assert set(F.follow(after, before)) == {-1, 0}  # one node of one known: the rest was not there
    before[20:] = 1
    assert F.follow(np.repeat([5, 6], [1, 39]), before).tolist() == [2] + [1] * 39


def test_names_of_the_long_dead_are_used_again_only_where_asked() -> None:
    before = np.array([0, 0, 2, 2])
    assert F.follow(np.array([0, 0, 1, 2]), before).tolist() == [0, 0, 2, 1]
    assert F.follow(np.array([0, 0, 1, 2]), before, first_new=3).tolist() == [0, 0, 2, 3]
    assert F.follow(np.repeat([4, 5], [1, 39]), np.repeat([1, 0], [20, 20])).tolist() == [2] + [0] * 39


def test_a_community_that_was_gone_comes_back_under_a_new_name() -> None:
    series = np.array([[0, -1, 0], [0, -1, 0], [1, 0, 1], [1, 0, 1]])
    assert F.trace(series).tolist() == [[0, -1, 2], [0, -1, 2], [1, 1, 1], [1, 1, 1]]


@given(partitions())
def test_names_are_the_same_communities_and_none_is_given_twice(series: np.ndarray) -> None:
    names = F.trace(series)
    np.testing.assert_array_equal(names < 0, series < 0)
    for at, named in zip(series.T, names.T, strict=True):
        there = at >= 0
        np.testing.assert_array_equal(at[there][:, None] == at[there], named[there][:, None] == named[there])
    lives = [np.flatnonzero((names == k).any(0)) for k in range(names.max(initial=-1) + 1)]
    assert all(len(life) == np.ptp(life) + 1 for life in lives)  # once gone, gone for ever


# Events.


def test_a_planted_split_is_told_at_its_step_and_its_larger_half_keeps_the_name() -> None:
    split = GROUPS.copy()
    split[:10] = 4
    names = F.trace(np.stack([GROUPS, GROUPS, split, split], axis=1))
    found = [F.events(names[:, t], names[:, t + 1]) for t in range(3)]
    assert found == [[], [Event("split", (0,), (0, 4))], []]
    assert (names[10:25] == 0).all()


def test_a_planted_merge_is_told_at_its_step() -> None:
    merged = np.where(GROUPS == 3, 2, GROUPS)
    names = F.trace(np.stack([GROUPS, merged, merged], axis=1))
    assert F.events(names[:, 0], names[:, 1]) == [Event("merge", (2, 3), (names[99, 1],))]
    assert F.events(names[:, 1], names[:, 2]) == []


def test_births_deaths_growth_and_shrinkage_are_told_apart() -> None:
    before = np.repeat([0, 1, 2, -1], [20, 20, 20, 20])
    after = np.repeat([0, 0, -1, 1, -1, 3], [20, 2, 2, 16, 20, 20])
    assert F.events(before, after) == [
        Event("death", (2,), ()),
        Event("birth", (), (3,)),
        Event("growth", (0,), (0,)),
        Event("shrinkage", (1,), (1,)),
    ]


def test_small_changes_and_lone_nodes_are_no_events() -> None:
    before = np.repeat([0, 1, 2], [50, 50, 1])
    after = np.repeat([0, 3, 1, 4], [48, 1, 51, 1])
    assert F.events(before, after) == []


def test_what_dissolves_into_many_has_died() -> None:
    before = np.repeat([0, 1, 2, 3], [8, 30, 30, 30])
    after = before.copy()
    after[:8] = [1, 1, 1, 2, 2, 2, 3, 3]
    assert F.events(before, after)[0] == Event("death", (0,), ())


@given(partitions(n_snapshots=2))
def test_a_split_is_a_merge_backwards(series: np.ndarray) -> None:
    names = F.trace(series)
    forwards, backwards = F.events(names[:, 0], names[:, 1]), F.events(names[:, 1], names[:, 0])
    mirrored = {"split": "merge", "merge": "split", "birth": "death", "death": "birth"}
    for kind, opposite in mirrored.items():
        assert {(e.before, e.after) for e in forwards if e.kind == kind} == {
            (e.after, e.before) for e in backwards if e.kind == opposite
        }


# Measures.


def test_measures_computed_by_hand() -> None:
    names = np.array([[0, 0, 0, 0], [0, 1, 0, 1], [1, 1, -1, 1], [-1, -1, -1, 2]])
    assert F.flexibility(names)[:3].tolist() == [0, 1, 0]
    assert np.isnan(F.flexibility(names)[3])
    assert F.promiscuity(names).tolist() == [0, 0.5, 0, 0]
    together = F.allegiance(names)
    assert together[0, 1] == 0.5
    assert together[1, 2] == 2 / 3
    assert together[2, 3] == 0
    assert (np.diag(together) == 1).all()
    life = F.lifetimes(names)
    assert life.names.tolist() == [0, 1, 2]
    assert life.snapshots.tolist() == [4, 3, 1]
    # Community 0 is {0, 1}, {0}, {0, 1}, {0}; community 1 is {2}, {1, 2}, nothing, {1, 2}.
    assert life.persistence[:2].tolist() == [0.5, 0.5]
    assert np.isnan(life.persistence[2])


@given(partitions(), st.permutations(range(12)))
def test_measures_follow_the_nodes_wherever_they_stand(series: np.ndarray, order: list[int]) -> None:
    names = F.trace(series)
    for measure in (F.flexibility, F.promiscuity):
        np.testing.assert_array_equal(measure(names)[order], measure(names[order]))
        assert ((measure(names) >= 0) | np.isnan(measure(names))).all()
        assert not (measure(names) > 1).any()
    np.testing.assert_array_equal(F.allegiance(names)[np.ix_(order, order)], F.allegiance(names[order]))


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (3, 1)])
def test_too_little_has_no_value(shape: tuple[int, int]) -> None:
    names = np.full(shape, -1)
    assert F.trace(names).shape == shape
    assert np.isnan(F.flexibility(names)).all()
    assert np.isnan(F.promiscuity(names)).all()
    assert np.isnan(F.allegiance(names)).all()
    assert len(F.lifetimes(names).names) == 0


@pytest.mark.parametrize("measure", [F.trace, F.flexibility, F.promiscuity, F.allegiance, F.lifetimes])
@pytest.mark.parametrize("wrong", [np.zeros(3, int), np.zeros((3, 2)), "names"])
def test_a_wrong_series_is_named(measure, wrong) -> None:
    with pytest.raises(FnetError, match=r"integers \[nodes, snapshots\]"):
        measure(wrong)


@pytest.mark.parametrize("measure", [F.follow, F.events])
def test_wrong_partitions_are_named(measure) -> None:
    with pytest.raises(FnetError, match=r"must be of the 3 nodes"):
        measure(np.zeros(3, int), np.zeros(2, int))
    with pytest.raises(FnetError, match=r"before must be a vector of integers|after must be a vector"):
        measure(np.zeros(3, int), np.zeros((3, 1)))
