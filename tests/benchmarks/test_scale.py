"""How exponents are fitted and parts are told apart, and the whole program at two small sizes."""

import json
import math

import numpy as np
import pytest
from programs import program

from benchmarks.scale import OTHERS, SHOWN, Taken, activations, exponent, series


def taken(n: int, **parts_ms: float) -> Taken:
    return Taken(n, False, sum(parts_ms.values()), 1.0, parts_ms, 1, 2)


def test_the_exponent_of_a_power_law_is_its_power():
    sizes = np.array([256, 512, 1024])
    assert exponent(sizes, 3.0 * sizes**2.5) == pytest.approx(2.5)


def test_one_size_or_a_part_that_took_nothing_has_no_exponent():
    assert math.isnan(exponent([256], [1.0]))
    assert math.isnan(exponent([256, 512], [0.0, 1.0]))


def test_the_parts_with_the_largest_share_are_shown_and_add_up_with_the_others():
    parts = {f"part_{k}": 2.0**k for k in range(SHOWN + 2)}
    found = series([taken(256, **parts), taken(512, **parts)])
    assert list(found) == [f"part_{k}" for k in range(SHOWN + 1, 1, -1)] + [OTHERS]
    assert found[OTHERS] == [3.0, 3.0]


def test_activations_are_seeded_correlated_within_groups_and_differ_by_their_noise_alone():
    first, again, later = (activations(64, noise=noise) for noise in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, later)
    strength = [np.corrcoef(rows.T)[np.triu_indices(64, 1)] for rows in (first, later)]
    assert np.abs(strength[0]).max() > 0.5
    assert np.corrcoef(*strength)[0, 1] > 0.9


@pytest.mark.slow
def test_the_program_prints_writes_and_draws_a_snapshot_of_each_size(tmp_path):
    options = ["--json", str(tmp_path / "scale.json"), "--picture", str(tmp_path / "scale.png")]
    table = program("scale", "--sizes", "64", "96", "--full", "64", *options)
    snapshots = json.loads((tmp_path / "scale.json").read_text())["snapshots"]
    assert [(s["n"], s["is_full"]) for s in snapshots] == [(64, False), (96, False), (64, True)]
    for each in snapshots:
        assert {"correlation", "graph", "homology", "sigma_hqs"} <= each["parts_ms"].keys()
        assert 0.5 * each["wall_ms"] < sum(each["parts_ms"].values()) <= each["wall_ms"]
    rows = {line[0]: line[1:] for line in table}
    assert rows["wall time"][2].startswith("N^")
    assert rows["full filtration: homology"][1:] == ["", ""]
    assert (tmp_path / "scale.png").stat().st_size > 10_000
