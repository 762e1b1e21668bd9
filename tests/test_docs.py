"""The documentation: its code runs, and it leaves nothing out."""

import doctest
import importlib
import math
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from planted_networks import activations, network_of
from small_models import Net, loader, points

import fnet_callbacks
from fnet_callbacks import FnetError, Instrument
from fnet_callbacks.cli import main
from fnet_callbacks.network import Network
from fnet_callbacks.quantities.networks import MEASURES, measure, quantities_of

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def blocks(page: Path) -> Iterator[tuple[str, str, int]]:
    """Language, text and first line of each fenced block."""
    text = page.read_text()
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield found[1], found[2], text[: found.start(2)].count("\n")


def run(page: Path, namespace: dict[str, Any]) -> dict[str, Any]:
    """Runs a page's Python and its `fnet` commands, in their order."""
    for language, text, line in blocks(page):
        if language == "python":
            exec(compile("\n" * line + text, str(page), "exec"), namespace)  # with the page's line numbers
        for command in text.splitlines() if language == "bash" else ():
            assert main(shlex.split(command.removeprefix("fnet "))) == 0, command
    return namespace


def assert_printed(text: str, namespace: dict[str, Any]) -> None:
    """That a text's examples print what stands there."""
    example = doctest.DocTestParser().get_doctest(text, namespace, "example", None, 0)
    assert len(example.examples) > 1
    assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = run(DOCS / "tutorial.md", {"__name__": "tutorial"})
    assert 0 < found["stopping"].best_score < math.inf
    assert Path(found["best"].best_model_path).exists()
    assert (tmp_path / "curve.png").exists()
    assert "dropout" in (tmp_path / "report.html").read_text()


def test_an_instrument_is_written_as_the_page_says_and_keys_are_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "page", "model": Net(), "train": loader()}
    found = run(DOCS / "adding_an_instrument.md", namespace)
    record = found["record"]
    assert record.steps == [0, 4, 8]
    logits, labels = found["model"](points().tensors[0]), points().tensors[1]
    sure, answer = logits.detach().softmax(-1).max(-1)
    excess = float(sure.mean() - (answer == labels).float().mean())
    assert record.series("confidence/excess")[-1] == pytest.approx(excess, abs=1e-5)
    assert "monitor_cost/confidence/total" in record.snapshots[-1].cost_ms
    with pytest.raises(FnetError, match="`temperature=0`"):
        found["Confidence"](temperature=0)

    run(DOCS / "snapshots.md", found)
    assert record.manifest["keys"]["fnet_layers/02/modularity"] == ["fnet", "modularity", "02"]


def test_the_documented_multiples_are_those_of_the_instruments() -> None:
    rows = [line.split("|") for line in (DOCS / "snapshots.md").read_text().splitlines() if "| `" in line]
    multiples = {
        name: int(row[2])
        for row in rows
        if row[2].strip().isdecimal()
        for name in re.findall(r"`(\w+)`", row[1])
    }
    public = [getattr(fnet_callbacks, name) for name in fnet_callbacks.__all__]
    kinds = [kind for kind in public if isinstance(kind, type) and issubclass(kind, Instrument)]
    assert multiples == {k.__name__: k.default_interval for k in kinds if k is not Instrument}


def test_measures_are_added_as_the_page_says() -> None:
    found = run(DOCS / "adding_a_measure.md", {"__name__": "adding_a_measure"})
    found["test_degree_assortativity_is_networkxs"]()
    assert_printed(found["degree_assortativity"].__doc__, found)
    network = network_of(activations())
    chosen = quantities_of(["n_neurons", found["hubs"], found["assortativity"]])
    expected = nx.degree_assortativity_coefficient(network.graph.to_networkx())
    degrees = network.graph.degrees
    assert measure(network, chosen, on_error="raise") == {
        "n_neurons": 100,
        "hub_share": degrees.max() / degrees.sum(),
        "degree_assortativity": pytest.approx(expected),
    }


def test_the_attributes_on_that_page_are_those_of_a_network() -> None:
    text = (DOCS / "adding_a_measure.md").read_text()
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", text, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert len(named) > 10
    assert named <= {*dir(Network), *vars(network_of(activations()))}
    documented = re.findall(r"^        (\w+): ", str(Network.__doc__).split("Attributes:")[1], re.MULTILINE)
    assert named <= set(documented)


def test_what_the_page_of_measures_prints_is_what_comes_out() -> None:
    (example,) = (text for language, text, _ in blocks(DOCS / "measures.md") if language == "pycon")
    assert_printed(example, {})


def test_the_tables_of_measures_are_up_to_date() -> None:
    tables = runpy.run_path(str(DOCS / "measures_tables.py"))
    page = (DOCS / "measures.md").read_text()
    assert tables["with_tables"](page) == page, "run `python docs/measures_tables.py`"
    reference = page.split("## What each is")[1]
    assert re.findall(r"^\| `([a-z0-9_]+)` \|.*\|  \|$", reference, re.MULTILINE) == [], "say how to read it"
    assert {q.name for q in MEASURES} <= set(re.findall(r"^\| `(\w+)` \|", reference, re.MULTILINE))


@pytest.mark.parametrize("module", ["fnet_callbacks", "fnet_callbacks.functional", "fnet_callbacks.metrics"])
def test_every_public_name_is_in_the_reference(module: str) -> None:
    shown = set()
    for page in (DOCS / "api").glob("*.md"):
        for section in page.read_text().split(".. currentmodule:: ")[1:]:
            if section.split()[0] == module:
                shown |= set(re.findall(r"^\.\. auto\w+:: (\w+)$", section, re.MULTILINE))
    assert shown == set(importlib.import_module(module).__all__)


def test_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)", (ROOT / "README.md").read_text())
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).exists()] == []
