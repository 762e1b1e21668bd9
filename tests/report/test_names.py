"""Names as pages and figures show them: nothing hides, spreads or turns other text around."""

import pytest

from fnet_callbacks.report.names import in_attribute, in_figure, in_html, visible


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("none", "none"),
        ("", ""),
        ("  ", "“  ”"),
        ("a\rb", "a\\rb"),
        ("a\nb", "a\\nb"),
        ("a\x00b", "a\\u0000b"),
        ("a\x1fb\x7f", "a\\u001fb\\u007f"),
        ("a\x85b", "a\\u0085b"),
        ("\u202eabc", "\\u202eabc"),
        ("\udcff", "\\udcff"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("\u0600", "\u0600"),
        ("👩\u200d🔬", "👩\u200d🔬"),
    ],
)
def test_what_is_not_seen_is_shown(name, shown):
    assert visible(name) == shown


def test_words_from_right_to_left_move_nothing_beside_them():
    assert in_html("שלום (3), עולם גדול (2): <b>") == (
        "<bdi>שלום</bdi> (3), <bdi>עולם גדול</bdi> (2): &lt;b&gt;"
    )
    assert in_html("שלום and עולם") == "<bdi>שלום</bdi> and <bdi>עולם</bdi>"
    assert in_html("שלום, עולם") == "<bdi>שלום</bdi>, <bdi>עולם</bdi>"
    assert in_figure("سلام: 3") == "\u2068سلام\u2069: 3"
    assert in_attribute('"سلام"') == "&quot;\u2068سلام\u2069&quot;"
    assert in_html("dropout (3)") == "dropout (3)"


def test_a_long_name_is_broken_into_lines_of_a_figure():
    lines = in_figure("x" * 90).split("<br>")
    assert "".join(lines) == "x" * 90
    assert max(map(len, lines)) <= 30
    assert in_figure("<i>") == "&lt;i&gt;"
    assert in_figure("") == ""
