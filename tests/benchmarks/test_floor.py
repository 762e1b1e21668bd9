"""The floors do the work that they stand for, and the program prints and writes a row for each part."""

import json
import math

import networkx as nx
import numpy as np
import pytest
from programs import program

from benchmarks.floor import BESIDE, intersect, read_once, turns_of_search, unite
from fnet_callbacks import functional as F

# A ring of seven with a chord: a triangle 0 1 2, distances up to 3.
RING = F.Graph.from_edges(7, np.array([[i, (i + 1) % 7] for i in range(7)] + [[0, 2]]))


def test_each_node_asks_its_neighbours_once_for_each_distance_beyond_one_at_which_it_finds_nodes():
    reach = nx.eccentricity(RING.to_networkx())
    assert turns_of_search(RING).tolist() == [reach[node] - 1 for node in range(7)]


def test_a_node_that_reaches_nothing_asks_nobody():
    assert turns_of_search(F.Graph.from_edges(3, np.array([[0, 1]]))).tolist() == [0, 0, 0]


def test_uniting_counts_the_nodes_that_have_a_common_neighbour_with_each():
    joined = nx.to_numpy_array(RING.to_networkx()).astype(int)
    once = np.ones(7, np.int64)
    assert unite(RING.rows, RING.indptr, RING.indices, once) == np.count_nonzero(joined @ joined)
    assert unite(RING.rows, RING.indptr, RING.indices, 0 * once) == 0


def test_intersecting_counts_each_triangle_once_for_each_of_its_edges():
    assert intersect(RING.rows, RING.edges) == 3


def test_reading_reads_every_word():
    words = np.random.default_rng(0).integers(2**62, size=1001)
    assert read_once(words) == np.bitwise_xor.reduce(words)


@pytest.mark.slow
def test_the_program_prints_and_writes_a_row_for_each_part(tmp_path):
    table = program("floor", "--sizes", "48", "64", "--rounds", "1", "--json", str(tmp_path / "floor.json"))
    rows = json.loads((tmp_path / "floor.json").read_text())["rows"]
    assert [(row["part"], row["floor"]) for row in rows] == list(BESIDE) * 2
    assert all(math.isfinite(row["ms"]) and row["ms"] > 0 and row["floor_ms"] > 0 for row in rows)
    assert [(line[0], int(line[2])) for line in table] == [(part, n) for part, _ in BESIDE for n in (48, 64)]
