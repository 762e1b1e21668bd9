"""The benchmark of the instruments makes each of them take a snapshot."""

from benchmarks.instruments import INSTRUMENTS, Row, rows_of, table


def test_every_instrument_has_a_row_and_an_interval() -> None:
    rows = rows_of(["mlp"], list(INSTRUMENTS), data_dir=None, probe_size=32)
    assert [row.instrument for row in rows] == list(INSTRUMENTS)
    assert all(row.snapshot_ms > 0 and row.step_ms > 0 for row in rows)
    assert len(table(rows).splitlines()) == 2 + len(INSTRUMENTS)


def test_the_interval_is_that_at_which_snapshots_take_a_twentieth() -> None:
    assert Row("mlp", "FGSM", step_ms=2.0, snapshot_ms=10.0).interval == 100
    assert Row("mlp", "FGSM", step_ms=2.0, snapshot_ms=10.1).interval == 101
