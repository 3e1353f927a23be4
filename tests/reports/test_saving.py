"""Figures as SVG and tables as CSV, saved from the page itself, without a network."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from comity.reports.build import build
from comity.reports.page.generalization_page import render
from tests.evaluation.test_generalization import found, measured
from tests.reports import synthetic, synthetic_split
from tests.reports.test_page import Visit, browser, needs_browser, unfold

__all__ = ["browser", "found", "measured"]

NAMESPACE = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def pages(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pages")
    described = {"title": "Generalization of demo", "created": "now", "setting": {"episodes": 10}}
    page = root / "generalization.html"
    page.write_text(render({**described, **request.getfixturevalue("found")}))
    return {
        "dilemma": build([synthetic.study(root / "dilemma", hostile=False)])[0],
        "split": build([synthetic_split.study(root / "split")])[0],
        "generalization": page,
    }


def save(page: Any, button: Any) -> tuple[str, str]:
    """Name and content of what a button saves."""
    with page.expect_download() as started:
        button.click()
    return started.value.suggested_filename, Path(started.value.path()).read_text()


def unfolded(browser: Any, address: str) -> Visit:
    visit = Visit(browser.new_page(viewport={"width": 1400, "height": 900}), address)
    visit.page.evaluate("document.querySelectorAll('main details').forEach(d => d.open = true)")
    late = "[...document.querySelectorAll('#health-panels, #type-seed-panels')]"
    visit.page.wait_for_function(f"{late}.every(panels => panels.childElementCount)")
    return visit


@needs_browser
@pytest.mark.parametrize("kind", ["dilemma", "split", "generalization"])
def test_every_figure_and_every_table_can_be_saved(
    browser: Any, pages: dict[str, Path], kind: str
) -> None:
    address = pages[kind].as_uri()
    visit = unfolded(browser, address)
    page = visit.page
    tables = page.locator("main table:not(.deal)").count()
    assert page.locator("main .tools .save").count() == tables
    assert page.locator("main figure").count() == page.locator("main figure .save").count()
    # What the buttons save; Chromium lets a page start ten downloads in a row.
    contents = "[...document.querySelectorAll('main .scroll[role=region] table')].map(tableRows)"
    saved = page.evaluate(f"{contents}.map(csv)")
    assert len(saved) == tables
    name, text = save(page, page.locator("main .tools .save >> text=CSV").first)
    assert name.endswith(".csv") and text.splitlines() == saved[0].splitlines()
    for text in saved:
        rows = list(csv.reader(io.StringIO(text)))
        assert len(rows) > 1 and len({len(row) for row in rows}) == 1
        assert len(set(rows[0])) == len(rows[0]), "no two columns have one name"
    # One figure of each section, and one table, as drawings.
    sections = page.locator("main section:has(figure)").all()
    drawings = [section.locator("figure .save >> text=SVG").first for section in sections]
    drawings.append(page.locator("main .tools .save >> text=SVG").last)
    for button in drawings:
        name, text = save(page, button)
        assert name.endswith(".svg")
        root = ElementTree.fromstring(text)
        assert root.tag == f"{NAMESPACE}svg" and root.findall(f".//{NAMESPACE}text")
        assert "var(--" not in text and "class=" not in text, "it needs no style sheet"
    visit.check(address)


@needs_browser
def test_a_saved_table_has_the_numbers_of_the_summary(browser: Any, pages: dict[str, Path]) -> None:
    page = browser.new_page()
    page.goto(pages["dilemma"].as_uri())
    summary = json.loads((pages["dilemma"].parent / "summary.json").read_text())
    name, text = save(page, page.locator("#findings .save >> text=CSV"))
    assert name == "demo-Key-findings.csv"
    rows: dict[str, dict[str, dict[str, str]]] = {"Last": {}, "Cross": {}}
    for row in csv.DictReader(io.StringIO(text)):
        rows[re.split("[ -]", row["group"])[0]][row["Policy"]] = row
    assert set(rows["Cross"]) == set(summary["crossplay"])
    assert set(rows["Last"]) == {"own", "utilitarian"}
    for source, policy, one in [
        *(("Last", name, summary["policies"][name]) for name in rows["Last"]),
        *(("Cross", n, one.get("crossplay", one)) for n, one in summary["policies"].items()),
    ]:
        for key, column in (("mean", ""), ("low", ", low"), ("high", ", high"), ("n", ", n")):
            value = rows[source][policy][f"Cooperation{column}"]
            assert (
                value == ""
                if one["cooperation"][key] is None
                else (float(value) == pytest.approx(one["cooperation"][key]))
            )
        told = rows[source][policy]
        assert told["Cooperation, over"] == one["cooperation"]["over"]
        assert told["Cooperation, units"] == str(one["cooperation"]["units"])
        assert told["Cooperation, reason"] == one["cooperation"].get("reason", "")
    _, text = save(page, page.locator("#crossplay .save >> text=CSV").first)
    cells = {row["row player"]: row for row in csv.DictReader(io.StringIO(text))}
    payoff = summary["crossplay"]["own"]["always_defect"]["payoff"]["mean"]
    assert float(cells["own"]["always_defect"]) == pytest.approx(payoff)
    _, text = save(page, page.locator("#learning-panels .save >> text=CSV").first)
    curve = [r for r in csv.DictReader(io.StringIO(text)) if r["name"] == "own"]
    means = [point["mean"] for point in summary["learning"]["own"]["cooperation"]]
    assert [float(row["mean"]) for row in curve] == pytest.approx(means)
    assert {row["iteration"] for row in curve} == {"0", "1", "2", "3"}


@needs_browser
def test_saved_in_the_dark_it_is_for_paper(browser: Any, pages: dict[str, Path]) -> None:
    saved = []
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme, viewport={"width": 1400, "height": 900})
        page.goto(pages["dilemma"].as_uri())
        before = page.evaluate("getComputedStyle(document.body).backgroundColor")
        figure = save(page, page.locator("#outcome-panels .save >> text=SVG").first)[1]
        table = save(page, page.locator("#conditional .save >> text=SVG").first)[1]
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == before
        saved.append((figure, table))
    assert saved[0] == saved[1]


@needs_browser
def test_names_do_not_become_formulas_or_markup(browser: Any, tmp_path: Path) -> None:
    called = {"own": "=1+1", "utilitarian": 'a "b", <i>c</i>'}
    path = build([synthetic.study(tmp_path / "study", hostile=False, called=called)])[0]
    visit = Visit(browser.new_page(), path.as_uri())
    _, text = save(visit.page, visit.page.locator("#findings .save >> text=CSV"))
    names = [row[1] for row in csv.reader(io.StringIO(text))]
    assert "'=1+1" in names and called["utilitarian"] in names
    _, text = save(visit.page, visit.page.locator("#learning-panels .save >> text=SVG").first)
    words = [e.text for e in ElementTree.fromstring(text).iter(f"{NAMESPACE}text")]
    assert called["utilitarian"] in words
    visit.check(path.as_uri())


@needs_browser
def test_health_charts_can_be_saved_too(browser: Any, pages: dict[str, Path]) -> None:
    page = browser.new_page()
    page.goto(pages["dilemma"].as_uri())
    unfold(page, "health")
    names = [save(page, one)[0] for one in page.locator("#health-panels .save >> text=CSV").all()]
    assert len(set(names)) == len(names) == 6
