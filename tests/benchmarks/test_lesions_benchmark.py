"""The benchmark of lesions compares what finds the same, layer by layer."""

from benchmarks.lesions import DEPTH, GROUPS, groups_of, rows_of, table


def test_groups_are_clusters_and_random_ones_of_their_sizes():
    groups = groups_of(20, 3, seed=0)
    assert [len(g) for g in groups[:3]] == [7, 7, 6]
    assert sorted(i for g in groups[:3] for i in g) == list(range(20))
    assert [len(g) for g in groups[3 : 3 + GROUPS - 1]] == [7] * (GROUPS - 1)


def test_every_layer_and_their_sum_have_a_row():
    rows = rows_of(50, 1, width=16, clusters=2)
    assert [row.lesions for row in rows] == [2 * GROUPS] * DEPTH
    assert len(table(rows).splitlines()) == 2 + DEPTH + 1
