"""Pages of populations: made from summaries, and read, saved and walked in a real browser."""

import csv
import io
import json
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from comity.errors import ComityError
from comity.evaluation.population.summary import summarize
from comity.reports.population import write_comparison, write_page
from comity.reports.population.page import render
from comity.reports.population.parts import game_words
from tests.evaluation.population import synthetic
from tests.reports.test_page import Visit, browser, contrast, needs_browser
from tests.reports.test_saving import NAMESPACE, save

__all__ = ["browser"]

NONE = "\u2013"
HOSTILE = '<img src=x onerror="window.hacked=1">'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("population")
    return synthetic.population(root / "p", episodes=60, runs=3, statistics=True, illegal=0.05)


@pytest.fixture(scope="module")
def summary(folder: Path) -> Any:
    return summarize(folder)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, folder: Path, summary: Any) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pages")
    kinds = ("S", "UT", "aUT")
    majorities = [
        synthetic.population(root / kind, [kind] * 3 + [o for o in kinds if o != kind], 8, 3)
        for kind in kinds
    ]
    pair = synthetic.population(
        root / "pair", ("UT", "TFT"), 20, 3, conditions=("fixed",), q_values=True
    )
    other = synthetic.population(root / "other", ("UT", "UT"), 20, 3, conditions=("fixed",))
    sixteen = synthetic.population(root / "sixteen", ["S"] * 8 + ["UT", "AD"] * 4, 6, 2)
    alone = synthetic.population(root / "alone", ("UT", "aUT", "DE"), 12, runs=1)
    return {
        "population": write_page(folder),
        "sixteen": write_page(sixteen),
        "pair": write_page(pair),
        "alone": write_page(alone),
        "majorities": write_comparison(majorities, root / "majorities"),
        "pairs": write_comparison([pair, other], root / "pairs"),
    }


SAVED = ("population", "pair", "majorities")
EVERY = (*SAVED, "alone", "pairs")


def test_equal_summaries_give_equal_pages(summary: Any) -> None:
    assert render(summary) == render(json.loads(json.dumps(summary)))
    with pytest.raises(ComityError, match="no summary of a population"):
        render({"kind": "tournament"})


def test_a_page_is_made_anew_when_games_are_added(tmp_path: Path) -> None:
    folder = synthetic.population(tmp_path / "p", episodes=8, runs=2, parts=2)
    late = folder / "games" / "selection" / "part-000001.parquet"
    aside = late.read_bytes()
    late.unlink()
    assert "episodes (all runs together) are recorded" not in write_page(folder).read_text()
    before = json.loads((folder / "summary.json").read_text())
    assert before["conditions"]["selection"]["episodes"] == 4
    late.write_bytes(aside)
    later = (folder / "summary.json").stat().st_mtime + 5
    os.utime(late, (later, later))
    write_page(folder)
    after = json.loads((folder / "summary.json").read_text())
    assert after["conditions"]["selection"]["episodes"] == 8


def test_a_folder_without_a_population_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ComityError, match="no population"):
        write_page(tmp_path)
    with pytest.raises(ComityError, match="at least two"):
        write_comparison([synthetic.population(tmp_path / "p", episodes=2)], tmp_path / "out")


def test_the_page_names_settings_controls_and_sources(pages: dict[str, Path], folder: Path) -> None:
    text = pages["population"].read_text()
    for part in (
        "selfish 2 S; prosocial 1 UT; fixed 1 AD", "CC 3, 3; CD 0, 4; DC 4, 0; DD 1, 1",
        "Random matching", "2403.04202", "master seed 1", "Each point is one episode.",
    ):  # fmt: skip
        assert part in text, part
    assert str(folder) not in text
    assert "2301.08491" in pages["pair"].read_text()
    assert "One run:" in pages["alone"].read_text()
    assert "no interval" in pages["alone"].read_text()


def test_games_in_words() -> None:
    table = {"title": "Stag Hunt", "payoffs": [[[4, 4], [1, 3]], [[3, 1], [2, 2]]]}
    assert game_words(table) == "Stag Hunt: CC 4, 4; CD 1, 3; DC 3, 1; DD 2, 2"
    assert game_words(None) == ""
    assert game_words({"name": "of_my_own", "rounds": 1}) == "of_my_own, rounds 1"


# In a browser


def visit(browser: Any, path: Path, width: int = 1400, scheme: str = "light") -> Visit:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    return Visit(page, path.as_uri())


@needs_browser
def test_a_reader_goes_through_the_page(browser: Any, pages: dict[str, Path]) -> None:
    seen = visit(browser, pages["population"])
    page = seen.page
    assert page.locator("main h2").all_inner_texts() == [
        "Key numbers", "Cooperation over time", "Partner selection", "Types and agents",
        "Social outcomes", "Updates", "Numbers and citation", "Definitions",
    ]  # fmt: skip
    # Both controls and a band for each of the three are in every chart of a condition.
    first = ["#cooperation-panels", "#types-panels", "#outcome-panels", "#selection-panels"]
    for where in (f"{panels} figure >> nth=0" for panels in first):
        chart = page.locator(where)
        assert chart.locator(".band").count() == 3, where
        assert chart.locator("polyline.line[style*=dasharray]").count() == 2, where
    assert page.locator("#cooperation-panels .seed-line").count() == 3
    assert page.locator("#types-panels figure").count() == 3
    page.locator("#types .subset >> text=Agents").click()
    titles = page.locator("#types-panels .title").all_inner_texts()
    assert titles == [f"{name}, cooperation" for name in ("S 0", "S 1", "UT 2", "AD 3")]
    page.locator("#types select").first.select_option("illegal_moves")
    assert page.locator("#types-panels figure").count() == 4
    page.locator("#joint-controls >> text=merged").click()
    assert page.locator("#joint-panels .title").all_inner_texts() == ["CC", "CD or DC", "DD"]
    page.locator("#outcome-controls >> text=Cumulative").click()
    assert "Cumulative equality" in page.locator("#outcome-panels").inner_text()
    seen.check(pages["population"].as_uri())


@needs_browser
def test_the_matrix_shows_any_window_by_type_and_agent(
    browser: Any, pages: dict[str, Path], summary: Any
) -> None:
    seen = visit(browser, pages["population"])
    page = seen.page

    def shown() -> list[list[float | None]]:
        rows = page.locator("#matrix-panel tbody tr").all()
        texts = [row.locator("td").all_inner_texts() for row in rows]
        return [
            [None if t == NONE else float(t.split()[0].strip("%<>\u00d7\u202f")) for t in row]
            for row in texts
        ]

    windows = page.locator("#matrix-controls select").first
    found = summary["selections"]["selection"]
    assert len(windows.locator("option").all()) == len(summary["windows"]) == 13
    for key in ("last", "first", "all", "tenth_3"):
        windows.select_option(key)
        for i, row in enumerate(shown()):
            for k, value in enumerate(row):
                mean = found[key]["types"]["mean"][i][k]
                assert value is None or value == pytest.approx(100 * mean, abs=0.51)
    windows.select_option("last")
    page.locator("#matrix-controls >> text=Times chance").click()
    chance = summary["chance_types"][0][1]
    assert shown()[0][1] == pytest.approx(found["last"]["types"]["mean"][0][1] / chance, abs=0.006)
    page.locator("#matrix-controls >> text=Agents").click()
    assert [len(row) for row in shown()] == [4] * 4
    page.locator("#matrix-controls select").nth(1).select_option("random_matching")
    mean = summary["selections"]["random_matching"]["last"]["agents"]["mean"][0][1]
    assert shown()[0][1] == pytest.approx(3 * mean, abs=0.006)
    _, text = save(page, page.locator("#matrix-panel .save >> text=CSV"))
    rows = {(r["row"], r["column"]): r for r in csv.DictReader(io.StringIO(text))}
    assert float(rows["S 0", "S 1"]["mean"]) == pytest.approx(3 * mean)
    assert page.locator("#network-panels figure").count() == 2
    assert page.locator("#network-panels .node").count() == 4 + 8
    seen.check(pages["population"].as_uri())


@needs_browser
def test_the_matrix_is_read_with_the_keyboard(browser: Any, pages: dict[str, Path]) -> None:
    page = visit(browser, pages["sixteen"]).page
    page.locator("#matrix-controls >> text=Agents").click()
    page.locator("#matrix-panel td[tabindex='0']").focus()
    note = page.locator("#matrix-panel .heat-note")
    page.keyboard.press("ArrowRight")
    assert note.inner_text().startswith("S 0 → S 1: ")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert note.inner_text().startswith("S 2 → S 1: ")
    assert "interval" in note.inner_text()
    assert page.locator("#matrix-panel td[tabindex='0']").count() == 1


@needs_browser
@pytest.mark.parametrize("kind", SAVED)
def test_every_figure_and_table_of_a_population_can_be_saved(
    browser: Any, pages: dict[str, Path], kind: str
) -> None:
    seen = visit(browser, pages[kind])
    page = seen.page
    assert page.locator("main figure").count() == page.locator("main figure .save").count() > 0
    tables = page.locator("main table").count()
    assert page.locator("main .tools .save").count() == tables
    names = page.locator("main figure .title").all_inner_texts()
    assert all(name.strip() for name in names)
    saved = page.evaluate(
        "[...document.querySelectorAll('main .scroll[role=region] table')].map(tableRows).map(csv)"
    )
    for text in saved:
        rows = list(csv.reader(io.StringIO(text)))
        assert len(rows) > 1 and len({len(row) for row in rows}) == 1
        assert len(set(rows[0])) == len(rows[0]), "no two columns have one name"
    figures = page.locator("main figure .save >> text=SVG")
    for place in (0, figures.count() - 1):
        _, text = save(page, figures.nth(place))
        root = ElementTree.fromstring(text)
        assert root.tag == f"{NAMESPACE}svg" and root.findall(f".//{NAMESPACE}text")
        assert "var(--" not in text and "class=" not in text, "it needs no style sheet"
    _, text = save(page, page.locator("#save-summary"))
    assert json.loads(text) == json.loads((pages[kind].parent / "summary.json").read_text())
    seen.check(pages[kind].as_uri())


@needs_browser
def test_a_saved_chart_names_its_conditions_and_has_the_numbers(
    browser: Any, pages: dict[str, Path], summary: Any
) -> None:
    page = visit(browser, pages["population"]).page
    panel = page.locator("#types-panels figure").first
    assert panel.locator(".label").count() == 0, "the key beside it names the conditions"
    _, drawing = save(page, panel.locator(".save >> text=SVG"))
    words = [e.text for e in ElementTree.fromstring(drawing).iter(f"{NAMESPACE}text")]
    assert "random matching" in words
    _, text = save(page, panel.locator(".save >> text=CSV"))
    rows = [r for r in csv.DictReader(io.StringIO(text)) if r["name"] == "random matching"]
    curve = summary["curves"]["random_matching"]["types"]["S"]["cooperation"]
    for key in ("mean", "low", "high"):
        assert [float(row[key]) for row in rows] == pytest.approx(curve[key])
    assert [int(row["episode"]) for row in rows] == summary["bins"]["ends"]


@needs_browser
def test_the_page_of_a_pair_names_both_players(browser: Any, pages: dict[str, Path]) -> None:
    seen = visit(browser, pages["pair"])
    page = seen.page
    text = page.locator("#pair").inner_text()
    assert "UT 0 against TFT 1" in text and "TFT 1 against UT 0" in text
    assert page.locator("#end-panels td.heat").count() == 8
    assert page.locator("#q-panels figure").count() == 8
    assert "UT 0: after partner D, own C" in text
    assert page.locator("#selection").count() == 0
    seen.check(pages["pair"].as_uri())


@needs_browser
def test_the_comparison_of_majorities(browser: Any, pages: dict[str, Path]) -> None:
    seen = visit(browser, pages["majorities"])
    page = seen.page
    found = json.loads((pages["majorities"].parent / "summary.json").read_text())
    assert page.locator("#selfish-panels figure").count() == 6
    assert page.locator("[data-condition=selection]").first.is_visible()
    page.locator("[data-conditions] >> text=random matching").click()
    assert not page.locator("[data-condition=selection]").first.is_visible()
    assert page.locator("[data-condition=random_matching] table").first.is_visible()
    select = page.locator("#types-controls select").first
    select.select_option("cooperation")
    first = page.locator("#types-panel td b").first.inner_text()
    mean = found["types"][0]["selection"]["S"]["cooperation"]["mean"]
    assert float(first.strip("%\u202f")) == pytest.approx(100 * mean, abs=0.51)
    seen.check(pages["majorities"].as_uri())


@needs_browser
@pytest.mark.parametrize("kind", EVERY)
def test_no_population_page_is_wider_than_the_screen(
    browser: Any, pages: dict[str, Path], kind: str
) -> None:
    seen = visit(browser, pages[kind], 1400, "dark")
    page = seen.page
    for width in (1400, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.emulate_media(media="print")
    assert not page.locator("nav.sections").is_visible()
    seen.check(pages[kind].as_uri())


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_cells_of_matrices_can_be_read(browser: Any, pages: dict[str, Path], scheme: str) -> None:
    page = visit(browser, pages["population"], scheme=scheme).page
    for value in ("Share", "Times chance"):
        page.locator(f"#matrix-controls button >> text={value}").click()
        colors = page.locator("td.heat:not(.none)").evaluate_all(
            """cells => [...new Set(cells.map((cell) => {
              const { color, backgroundColor } = getComputedStyle(cell);
              const two = (n) => (+n).toString(16).padStart(2, "0");
              const hex = (text) => "#" + text.match(/\\d+/g).slice(0, 3).map(two).join("");
              return hex(color) + hex(backgroundColor);
            }))]"""
        )
        for pair in colors:
            assert contrast(pair[:7], pair[7:]) >= 4.5, pair


@needs_browser
def test_hostile_names_of_types_do_nothing(browser: Any, tmp_path: Path) -> None:
    folder = synthetic.population(tmp_path / "p", ("S", "UT", "DE"), episodes=6, runs=2)
    about = json.loads((folder / "agents.json").read_text())
    about["agents"][1] |= {"type": HOSTILE, "label": f"{HOSTILE} 0"}
    about["game"]["name"] = HOSTILE
    (folder / "agents.json").write_text(json.dumps(about))
    path = write_page(folder)
    seen = visit(browser, path, 390)
    assert HOSTILE in seen.page.locator("#matrix-panel thead").inner_text()
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 390
    seen.check(path.as_uri())
