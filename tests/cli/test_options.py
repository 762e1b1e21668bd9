"""A command's options are those of the function that it calls."""

import argparse
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest

from fnet_callbacks import local_specialization
from fnet_callbacks.cli import main
from fnet_callbacks.cli.options import add_options, options_of


def example(
    model: object,
    *,
    names: str | Sequence[str] = "auto",
    rule: Literal["one", "two"] = "two",
    parts: int | None = 4,
    share: float = 0.5,
    is_kept: bool = True,
    entry: Callable[[Any], Any] | str | int | None = None,
) -> None:
    """An example.

    Args:
        model: Not an option.
        names: Of layers, 100 % of
            them.
        rule: ``"one"`` or the other.
        parts: None for as many as there are.
        share: Of all.
        is_kept: Whether.
        entry: The key.

    Raises:
        ValueError: Never.
    """


def parsed(*words: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_options(parser, example)
    return options_of(parser.parse_args(words), example)


def test_types_and_defaults_are_those_of_the_signature():
    defaults = {p.name: p.default for p in inspect.signature(example).parameters.values()}
    del defaults["model"]
    assert parsed() == defaults
    found = parsed(
        *("--names", "a", "b.*", "--rule", "one", "--parts", "none", "--share", "1e-3"),
        *("--no-is-kept", "--entry", "1"),
    )
    assert found == {
        "names": ["a", "b.*"], "rule": "one", "parts": None, "share": 1e-3, "is_kept": False, "entry": 1,
    }  # fmt: skip
    assert parsed("--names", "a", "--parts", "7", "--entry", "image") == {
        **defaults, "names": "a", "parts": 7, "entry": "image",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--parts", "many"], "argument --parts: 'many' should be an integer or none"),
        (["--share", "none"], "argument --share: 'none' should be a number"),
        (["--rule", "three"], "invalid choice: 'three'"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_option(words: list[str], message: str, capsys):
    with pytest.raises(SystemExit):
        parsed(*words)
    assert message in capsys.readouterr().err


def test_help_is_that_of_the_docstring(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")
    parser = argparse.ArgumentParser()
    add_options(parser, example)
    text = parser.format_help()
    assert "Of layers, 100 % of them (default: auto)" in text
    assert '"one" or the other (default: two)' in text
    assert "The key\n" in text
    assert "Not an option" not in text


def test_the_command_has_an_option_with_help_for_each_argument_of_the_function(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit):
        main(["analyze", "--help"])
    text = capsys.readouterr().out
    for p in inspect.signature(local_specialization).parameters.values():
        if p.kind is p.KEYWORD_ONLY:
            (line,) = [x for x in text.splitlines() if x.strip().startswith(f"--{p.name.replace('_', '-')} ")]
            assert len(line.split("  ")[-1]) > 5, line
