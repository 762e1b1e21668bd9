"""The page in a browser: what a reader sees, clicks and is spared."""

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fnet_callbacks.cli import main
from fnet_callbacks.report.figures import FIGURES

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
SECTIONS = (
    *(
        "runs",
        "summary",
        "curves-section",
        "effects-section",
        "robustness",
        "homology",
        "alike",
        "fault-tolerance",
        "functional-codes",
        "linear-regions",
    ),
    *("time", "costs", "configuration", "definitions"),
)


class Tab:
    """A page that was opened, and what it did that it should not."""

    def __init__(self, page: Any, path: Path) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on(
            "console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (self.complaints.append("a dialog"), dialog.dismiss()))
        page.on(
            "request",
            lambda r: (
                None if r.url.startswith(("file:", "data:", "blob:")) else self.complaints.append(r.url)
            ),
        )
        page.goto(path.as_uri())
        page.wait_for_function("document.querySelectorAll('.plot .main-svg').length > 0")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def report(sweep: Path, tmp_path: Path) -> Path:
    assert main(["report", str(sweep), "-o", str(tmp_path / "report.html"), "--baseline", "none"]) == 0
    return tmp_path / "report.html"


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_shows_everything_and_asks_for_nothing(browser, report, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab = Tab(page, report)
    for name in SECTIONS:
        assert page.locator(f"section#{name} h2").is_visible(), name
    plots = page.locator(".plot")
    assert plots.count() == len(FIGURES)
    for i in range(plots.count()):
        assert plots.nth(i).get_attribute("aria-label")
        assert plots.nth(i).locator(".main-svg").count() > 0
    # Nothing makes a phone scroll sideways.
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    assert tab.complaints == []
    page.close()


def test_a_measure_is_chosen_by_clicking(browser, report):
    page = browser.new_page()
    tab = Tab(page, report)

    def shown() -> tuple[str, list[float]]:
        found = page.evaluate(
            "(() => { const p = document.getElementById('curves');"
            " return [p.layout.yaxis.title.text, p.data.find(t => t.name === 'none' && t.showlegend !== false).y]; })()"
        )
        return found[0], found[1]

    measure, scope = (page.locator("select[data-figure=curves]").nth(i) for i in (0, 1))
    first = shown()
    assert first[0] == "global efficiency"
    measure.select_option("modularity")
    whole = shown()
    assert whole[0] == "modularity"
    assert whole[1] != first[1]
    scope.select_option("01 net.0")
    layer = shown()
    assert layer[0] == "modularity"
    assert layer[1] == pytest.approx([y / 2 for y in whole[1]], rel=1e-4)
    measure.select_option("clustering")  # which layers do not have
    assert scope.input_value() == "whole network"
    assert shown()[0] == "clustering"
    assert scope.locator("option", has_text="net.0").is_disabled()
    assert tab.complaints == []
    page.close()


def test_a_table_is_sorted_by_clicking_on_a_head(browser, report):
    page = browser.new_page()
    Tab(page, report)
    head = page.locator("#table-effects th", has_text="Hedges")

    def column() -> list[float]:
        cells = page.locator("#table-effects tbody tr td:nth-child(12)")
        return [float(cells.nth(i).get_attribute("data-value") or "nan") for i in range(cells.count())]

    before = [value for value in column() if not math.isnan(value)]
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column()[: len(before)] == sorted(before)
    assert all(map(math.isnan, column()[len(before) :]))
    head.locator("button").click()
    assert column()[: len(before)] == sorted(before, reverse=True)
    page.close()


def test_a_hostile_name_is_shown_and_not_run(browser, report):
    page = browser.new_page()
    tab = Tab(page, report)
    assert "<script>alert(1)</script>" in page.locator("section#runs").inner_text()
    assert "<script>alert(1)</script>" in page.locator("#curves .legend").text_content()
    assert "<script>alert(1)</script>, seed 0" in page.locator("select[data-figure=diagrams]").inner_text()
    assert page.locator("script").count() == 3  # the figures' numbers, Plotly, ours
    assert tab.complaints == []
    page.close()


@pytest.mark.parametrize("width", [390, 1440])
def test_odd_names_push_and_hide_nothing(browser, odd_sweep, tmp_path, width):
    assert main(["report", str(odd_sweep), "-o", str(tmp_path / "odd.html"), "--baseline", "plain"]) == 0
    page = browser.new_page(viewport={"width": width, "height": 900})
    tab = Tab(page, tmp_path / "odd.html")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    select = page.locator("select[data-figure=diagrams]")
    seen = set()
    for i in range(select.locator("option").count()):
        select.select_option(index=i)
        seen.add(page.evaluate("JSON.stringify(document.getElementById('diagrams').data.map(t => t.x))"))
    assert len(seen) == select.locator("option").count() == 12
    # A count stands behind the name that it counts.
    ends = page.evaluate(
        "[...document.querySelectorAll('#runs bdi')].map(name => {"
        " const after = document.createRange();"
        " after.setStart(name.nextSibling, 1); after.setEnd(name.nextSibling, 3);"
        " const [a, b] = [name.getClientRects()[0], after.getBoundingClientRect()];"
        " return a.right <= b.left + 1 || b.top > a.top + 5; })"
    )
    assert ends == [True, True]
    assert tab.complaints == []
    page.close()
