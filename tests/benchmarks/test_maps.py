"""The benchmark of maps trains the same map in every way."""

from benchmarks.maps import rows_of, table


def test_every_way_has_a_row_and_ours_is_the_measure() -> None:
    rows = rows_of(60, 1, grid=(6, 6), passes=2)
    assert [row.name for row in rows] == ["fnet_callbacks", "MiniSom, sample by sample", "MiniSom, batch"]
    assert all(row.seconds > 0 and row.quantization_error > 0 for row in rows)
    assert table(rows).splitlines()[2].split("|")[3].strip() == "1.00"
