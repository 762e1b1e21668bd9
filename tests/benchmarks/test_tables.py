"""Tables, JSON and rounds, which all benchmarks share."""

import json
import math

from benchmarks.tables import fastest, markdown, number, write_json


def test_a_table_is_markdown_with_words_left_and_numbers_right():
    lines = markdown(["part", "N", "ms"], [["tree", "8", "1.25"], ["distances", "16", ""]]).splitlines()
    assert lines == [
        "| part      |    N |   ms |",
        "| :-------- | ---: | ---: |",
        "| tree      |    8 | 1.25 |",
        "| distances |   16 |      |",
    ]


def test_a_number_has_two_digits_or_three_and_what_was_not_measured_is_empty():
    assert [number(x) for x in (0.00456, 0.123, 12.34, 1234.5)] == ["0.0046", "0.12", "12.3", "1234"]
    assert number(None) == number(math.nan) == ""


def test_json_is_strict_and_has_null_for_what_was_not_measured(tmp_path):
    write_json(tmp_path / "figures.json", {"rows": [{"ms": math.nan, "n": 3}]})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = (tmp_path / "figures.json").read_text()
    assert json.loads(text, parse_constant=refuse) == {"rows": [{"ms": None, "n": 3}]}


def test_contestants_run_in_turn_after_one_round_of_warming_up():
    order: list[str] = []
    seconds = fastest({name: lambda name=name: order.append(name) for name in "ab"}, rounds=2)
    assert "".join(order) == "ababab"
    assert seconds.keys() == {"a", "b"}
