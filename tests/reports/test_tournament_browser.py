"""Pages of tournaments and exploit runs in a real browser."""

import csv
import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from comity.reports.tournament.exploit_page import write_exploit_page
from comity.reports.tournament.tournament_page import write_tournament_page
from tests.reports import synthetic_tournament as synthetic
from tests.reports.test_page import Visit, browser, contrast, needs_browser
from tests.reports.test_saving import NAMESPACE, save
from tests.reports.test_tournament_page import HOSTILE, hostile

__all__ = ["browser"]

pytestmark = needs_browser
LINKS = ("Rankings", "Cross-play", "Agents", "Transcripts")
API = "api:gpt-5-nano@https://api.openai.com/v1"


@pytest.fixture(scope="module")
def summary() -> Any:
    return synthetic.tournament(8)


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory, summary: Any) -> str:
    return write_tournament_page(summary, tmp_path_factory.mktemp("eight")).as_uri()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tournament_page(synthetic.tournament(3), tmp_path_factory.mktemp("three")).as_uri()


@pytest.fixture(scope="module")
def sixty(tmp_path_factory: pytest.TempPathFactory) -> str:
    """60 agents, every pair, and 300 transcripts."""
    found = synthetic.tournament(60, matches=2, kept=1)
    found["transcripts"] = found["transcripts"][:300]
    return write_tournament_page(found, tmp_path_factory.mktemp("sixty")).as_uri()


@pytest.fixture(scope="module")
def attack(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_exploit_page(synthetic.exploit(), tmp_path_factory.mktemp("attack")).as_uri()


def visit(browser: Any, address: str, width: int = 1400, scheme: str = "light") -> Visit:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    return Visit(page, address)


def row_names(page: Any) -> list[str]:
    found: list[str] = page.locator(".crossplay tbody th").all_text_contents()
    return found


def column_names(page: Any) -> list[str]:
    return [
        title.partition(": sort the")[0]
        for title in page.locator(".crossplay thead button").evaluate_all(
            "all => all.map(one => one.title)"
        )
    ]


def by_payoff(summary: Any) -> list[str]:
    return [one["name"] for one in sorted(summary["agents"], key=lambda one: one["rank"])]


def estimate(summary: Any, row: str, column: str, metric: str = "payoff") -> Any:
    for pair in summary["pairs"]:
        if (pair["row"], pair["column"]) == (row, column):
            return pair["metrics"].get(metric)
    raise AssertionError((row, column))


def cell(page: Any, row: int, column: int) -> Any:
    return page.locator(f'.crossplay td[data-row="{row}"][data-column="{column}"]')


def test_the_matrix_is_ordered_sorted_and_saved(browser: Any, eight: str, summary: Any) -> None:
    seen = visit(browser, eight)
    page = seen.page
    assert row_names(page) == column_names(page) == by_payoff(summary)
    for i, row in enumerate(by_payoff(summary)):
        texts = page.locator(".crossplay tbody tr").nth(i).locator("td b").all_text_contents()
        means = [estimate(summary, row, column)["mean"] for column in by_payoff(summary)]
        assert [float(text) for text in texts] == pytest.approx(means, abs=0.0051)
    # A column's name sorts the rows by it, once more the other way; a row's name the columns.
    page.get_by_title("always_defect: sort the rows").click()
    column = [estimate(summary, name, "always_defect")["mean"] for name in row_names(page)]
    assert column == sorted(column, reverse=True) and column[0] > column[-1]
    assert page.locator(".crossplay thead th[aria-sort=descending]").count() == 1
    assert page.locator("select[data-state=order]").input_value() == "chosen"
    page.keyboard.press("Enter")
    turned = [estimate(summary, name, "always_defect")["mean"] for name in row_names(page)]
    assert turned == sorted(turned)
    page.locator(".crossplay tbody button[title^=tit_for_tat]").click()
    row = [estimate(summary, "tit_for_tat", name)["mean"] for name in column_names(page)]
    assert row == sorted(row, reverse=True)
    _, text = save(page, page.locator("#matrix-panel .save >> text=CSV"))
    table = list(csv.reader(io.StringIO(text)))
    assert [line[0] for line in table[1:]] == row_names(page), "saved as it is shown"
    for line in csv.DictReader(io.StringIO(text)):
        e = estimate(summary, line["row player"], API)
        assert float(line[API]) == pytest.approx(e["mean"])
        assert line[f"{API}, low"] == "" if e["low"] is None else float(line[f"{API}, low"])
    page.locator("select[data-state=order]").select_option("name")
    assert row_names(page) == sorted(row_names(page))
    seen.check(eight)


def test_a_metric_and_a_subset_are_chosen_once_for_all(browser: Any, eight: str) -> None:
    seen = visit(browser, eight)
    page = seen.page
    payoffs = page.locator(".crossplay td.heat").all_text_contents()
    page.locator("#rankings select[data-state=metric]").select_option(label="Gini coefficient")
    assert page.locator("#crossplay select[data-state=metric]").input_value() == "3"
    assert page.locator(".crossplay td.heat").all_text_contents() != payoffs
    names = page.locator("#ranking-panel .row-value").all_text_contents()
    assert [float(name) for name in names] == sorted(float(name) for name in names), "lower: better"
    page.locator("#crossplay select[data-state=metric]").select_option(label="Margin")
    assert "d0" in str(page.locator(".legend .steps i").first.get_attribute("class"))
    assert page.locator(".crossplay td.none").count() == 8, "no margin in self-play"
    assert page.locator("[data-subset=all]").is_visible()
    page.locator("#crossplay .subset button").nth(1).click()
    assert page.locator("[data-subset=clean]").is_visible()
    assert not page.locator("[data-subset=all]").is_visible()
    assert page.locator("#rankings .subset [aria-pressed=true]").inner_text().startswith("Without")
    assert "without illegal answers" in page.locator("#ranking-panel figcaption").inner_text()
    seen.check(eight)


def test_a_cell_tells_its_numbers_and_opens_its_transcripts(
    browser: Any, eight: str, summary: Any
) -> None:
    seen = visit(browser, eight)
    page = seen.page
    cell(page, 7, 1).hover()
    told = page.locator("#definition").inner_text()
    e = estimate(summary, API, "always_defect")
    for part in (API, "always_defect", f"{e['mean']:.2f}", "n = 6", "over matches", "sum_t u_row"):
        assert part in told
    assert cell(page, 7, 1).get_attribute("aria-describedby") == "definition"
    cell(page, 7, 1).click()
    assert not page.locator("#definition").is_visible()
    assert page.locator("#filters select").first.input_value() == "7"
    assert page.locator("#match-list .item").count() == 2
    assert page.locator("#match h3").inner_text() == f"{API} vs always_defect"
    page.locator("#match").get_by_text("Let us both cooperate.").wait_for()
    assert page.locator("#match .said-row").count() == 2
    rounds = summary["transcripts"]
    played = next(t for t in rounds if (t["row"], t["column"]) == (API, "always_defect"))
    bubbles = page.locator("#match .rounds > .bubble .said").all_text_contents()
    assert bubbles == [move for one in played["rounds"] for move in one["moves"]]
    assert "Payoff" in page.locator("#pair-facts").inner_text()
    # The address leads back to it, in another tab as well.
    again = visit(browser, page.url)
    assert again.page.locator("#match h3").inner_text() == f"{API} vs always_defect"
    again.check(page.url)
    page.get_by_text("Back to the matrix").click()
    assert (
        page.evaluate("document.activeElement.dataset.row + document.activeElement.dataset.column")
        == "71"
    )
    page.locator("#match-list").press("ArrowDown")
    assert page.locator("#match-list [aria-selected=true]").get_attribute("id") == "item-1"
    seen.check(eight)


def focused(page: Any) -> tuple[int, int]:
    """Row and column of the focused cell or heading on the grid; -1: the headings."""
    found = page.evaluate(
        """() => {
          const cell = document.activeElement.closest(".crossplay td, .crossplay th");
          const isHead = cell.closest("thead") !== null;
          const row = isHead ? -1 : cell.parentElement.sectionRowIndex;
          return [row, cell.cellIndex - 1];
        }"""
    )
    return found[0], found[1]


def test_the_matrix_is_walked_with_the_keyboard(browser: Any, sixty: str) -> None:
    seen = visit(browser, sixty)
    page = seen.page
    assert page.locator(".crossplay [tabindex='0']").count() == 1, "one stop for the tab key"
    page.locator(".crossplay td[tabindex='0']").focus()
    for key, place in (
        ("ArrowRight", (0, 1)),
        ("ArrowDown", (1, 1)),
        ("End", (1, 59)),
        ("Control+End", (59, 59)),
        ("ArrowDown", (59, 59)),
        ("PageUp", (49, 59)),
        ("Home", (49, 0)),
        ("ArrowLeft", (49, -1)),
        ("ArrowRight", (49, 0)),
        ("Control+Home", (0, 0)),
        ("ArrowUp", (-1, 0)),
        ("ArrowDown", (0, 0)),
        ("Control+End", (59, 59)),
    ):
        page.keyboard.press(key)
        assert focused(page) == place, key
        box = page.evaluate(
            """() => {
              const inner = document.activeElement.getBoundingClientRect();
              const outer = document.querySelector(".matrix-frame").getBoundingClientRect();
              const sides = [inner.left - outer.left, outer.right - inner.right];
              return [...sides, inner.top, window.innerHeight - inner.bottom];
            }"""
        )
        assert min(box) >= -1, f"after {key} the cell is seen"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert page.locator("#definition").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#definition").is_visible()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "transcripts-title"
    assert "No transcript of this pair" in page.locator("#match").inner_text()
    seen.check(sixty)


def processor_time(browser: Any) -> float:
    """Seconds that all processes of the browser have computed."""
    session = browser.new_browser_cdp_session()
    found = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    return float(sum(one["cpuTime"] for one in found))


def test_sixty_agents_and_300_transcripts_are_there_in_three_seconds(
    browser: Any, sixty: str
) -> None:
    """In processor time, which other work on the machine does not change."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    before = processor_time(browser)
    page.goto(sixty)
    page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
    taken = processor_time(browser) - before
    assert page.locator(".crossplay td.heat").count() == 3600
    page.close()
    assert 0.1 < taken < 3.0


def test_a_long_table_has_its_rows_when_it_is_opened(browser: Any, sixty: str) -> None:
    seen = visit(browser, sixty)
    page = seen.page
    rows = page.locator("#comparisons tbody tr")
    assert rows.count() == 0, "no layout of what is not seen"
    # Opened, closed and opened again.
    for _ in range(3):
        page.locator("#comparisons summary").click()
    rows.first.wait_for()
    assert rows.count() == 60 * 59 / 2
    _, text = save(page, page.locator("#comparisons .save >> text=CSV"))
    table = list(csv.reader(io.StringIO(text)))
    assert len(table) == 60 * 59 / 2 + 1
    assert table[1][0] == rows.first.locator("th").inner_text()
    seen.check(sixty)


def test_tables_are_sorted_by_their_headings(browser: Any, eight: str, summary: Any) -> None:
    page = visit(browser, eight).page
    table = page.locator("[data-subset=all] table.rankings")
    column = {"Agent": 0, "Rank": 1, "Payoff": 2, "Cooperation": 4, "Gini coefficient": 5}

    def values(name: str) -> list[str]:
        rows = table.locator("tbody tr").all()
        texts = [row.locator("th, td").nth(column[name]).locator("b, a") for row in rows]
        return [text.first.inner_text() for text in texts]

    def press(name: str) -> None:
        table.locator("thead button", has_text=name).first.click()

    press("Payoff")
    payoffs = [float(text) for text in values("Payoff")]
    assert payoffs == sorted(payoffs, reverse=True)
    press("Payoff")
    assert [float(text) for text in values("Payoff")] == sorted(payoffs)
    assert table.locator("th[aria-sort=ascending]").inner_text().startswith("Payoff")
    press("Gini coefficient")
    gini = [float(text) for text in values("Gini coefficient")]
    assert gini == sorted(gini), "the best first, which is the lowest"
    press("Agent")
    assert values("Agent") == sorted(values("Agent"), key=str.lower)
    press("Rank")
    assert values("Agent") == by_payoff(summary)


def test_every_figure_and_table_can_be_saved(
    browser: Any, three: str, eight: str, attack: str
) -> None:
    for address in (three, eight, attack):
        seen = visit(browser, address)
        page = seen.page
        page.evaluate("document.querySelectorAll('main details').forEach(d => d.open = true)")
        page.wait_for_function(
            "[...document.querySelectorAll('.sheet')].every(s => s.querySelector('table'))"
        )
        tables = page.locator("main table:not(.crossplay)").count()
        matrix = page.locator(".crossplay").count()
        assert page.locator("main .tools .save").count() == tables + matrix
        assert page.locator("main figure").count() == page.locator("main figure .save").count() > 0
        contents = "[...document.querySelectorAll('main .scroll[role=region] table')]"
        for text in page.evaluate(f"{contents}.map(tableRows).map(csv)"):
            rows = list(csv.reader(io.StringIO(text)))
            assert len(rows) > 1 and len({len(row) for row in rows}) == 1
            assert len(set(rows[0])) == len(rows[0]), "no two columns have one name"
        seen.check(address)


@pytest.mark.parametrize("where", ["#matrix-panel", "#ranking-panel", "#simplex-panel"])
def test_drawings_stand_alone(browser: Any, three: str, where: str) -> None:
    drawings = []
    for scheme in ("light", "dark"):
        page = visit(browser, three, scheme=scheme).page
        name, text = save(page, page.locator(f"{where} .save >> text=SVG").first)
        assert name.endswith(".svg")
        root = ElementTree.fromstring(text)
        assert root.tag == f"{NAMESPACE}svg"
        words = " ".join(e.text or "" for e in root.findall(f".//{NAMESPACE}text"))
        assert "tit_for_tat" in words
        assert "var(--" not in text and "class=" not in text, "it needs no style sheet"
        drawings.append(text)
    assert drawings[0] == drawings[1], "saved in the dark it is for paper"


def test_all_numbers_in_one_long_table(browser: Any, eight: str, summary: Any) -> None:
    page = visit(browser, eight).page
    name, text = save(page, page.locator("#save-pairs"))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert name.endswith("all-pairs.csv")
    assert len(rows) == 2 * (64 * len(synthetic.METRICS) - 8)
    one = next(
        row
        for row in rows
        if (row["matches"], row["row"], row["column"], row["metric"])
        == ("all", API, "tit_for_tat", "cooperation")
    )
    e = estimate(summary, API, "tit_for_tat", "cooperation")
    assert float(one["mean"]) == pytest.approx(e["mean"]) and one["note"] == e["note"]
    _, text = save(page, page.locator("#save-agents"))
    assert len(list(csv.DictReader(io.StringIO(text)))) == 2 * 8 * len(synthetic.METRICS)


def test_a_sheet_names_best_and_worst_opponents(browser: Any, eight: str, summary: Any) -> None:
    seen = visit(browser, eight)
    page = seen.page
    page.locator("[data-subset=all] table.rankings a", has_text="api:").click()
    sheet = page.locator("#agent-7")
    sheet.locator(".opponents").first.wait_for()
    order = sorted(by_payoff(summary), key=lambda name: -estimate(summary, API, name)["mean"])
    best, worst = (table.locator("tbody th") for table in sheet.locator(".opponents").all())
    assert best.all_text_contents() == order[:3]
    assert worst.all_text_contents() == order[:-4:-1]
    assert "345" in sheet.inner_text() and "0.0371" in sheet.inner_text()
    sheet.locator(".opponents button.link").first.click()
    assert page.locator("#match h3").inner_text() == f"{API} vs {order[0]}"
    seen.check(eight)


def test_definitions_are_shown_on_hover_and_focus(browser: Any, eight: str) -> None:
    page = visit(browser, eight).page
    box = page.locator("#definition")
    page.locator("[data-subset=all] table.rankings thead .term", has_text="Gini").hover()
    assert "Lower is better" in box.inner_text() and "Gini (1912)" in box.inner_text()
    page.mouse.move(0, 0)
    assert not box.is_visible()
    page.locator("#references .term", has_text="Price of anarchy").focus()
    assert "worst equilibrium" in box.inner_text()
    page.locator("[data-subset=all] table.rankings thead button", has_text="Payoff").focus()
    assert "sum_t u_row(t) / T" in box.inner_text(), "with the keyboard too"


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1400, "light")])
def test_nothing_is_wider_than_the_screen(
    browser: Any, eight: str, three: str, attack: str, width: int, scheme: str
) -> None:
    for address in (eight, three, attack):
        seen = visit(browser, address, width, scheme)
        page = seen.page
        page.evaluate("document.querySelectorAll('main details').forEach(d => d.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        wide = "all => all.filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.innerText)"
        cells = page.locator(".crossplay th, .crossplay td.heat")
        assert cells.evaluate_all(wide) == [], "no cell is wider than its column"
        ends = "all => all.map(e => e.getBoundingClientRect()).flatMap(b => [b.left, b.right])"
        labels = page.locator("main figure .row-name, main figure .label").evaluate_all(ends)
        assert labels and min(labels) >= 0 and max(labels) <= width
        seen.check(address)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_cells_can_be_read_in_light_and_dark(browser: Any, eight: str, scheme: str) -> None:
    page = visit(browser, eight, scheme=scheme).page
    for metric in range(len(synthetic.METRICS)):
        page.locator("#crossplay select[data-state=metric]").select_option(str(metric))
        colors = page.locator(".crossplay td.heat:not(.none)").evaluate_all(
            """cells => [...new Set(cells.map((cell) => {
              const { color, backgroundColor } = getComputedStyle(cell);
              const two = (n) => (+n).toString(16).padStart(2, "0");
              const hex = (text) => "#" + text.match(/\\d+/g).slice(0, 3).map(two).join("");
              return hex(color) + hex(backgroundColor);
            }))]"""
        )
        for pair in colors:
            assert contrast(pair[:7], pair[7:]) >= 4.5, pair


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_do_nothing(browser: Any, tmp_path: Path, text: str) -> None:
    address = write_tournament_page(hostile(text), tmp_path).as_uri()
    seen = visit(browser, address, 390)
    page = seen.page
    cell(page, 0, 0).click()
    shown = page.locator("#match .speech .said").first.text_content()
    assert shown == text
    page.evaluate("document.querySelectorAll('main details').forEach(d => d.open = true)")
    page.locator(".crossplay td").nth(1).hover()
    page.wait_for_timeout(50)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("script").count() == 2
    seen.check(address)


def test_the_simplex_and_the_schelling_diagram(browser: Any, three: str, eight: str) -> None:
    page = visit(browser, three).page
    assert page.locator("#simplex-panel .trajectory").count() == 15
    assert page.locator("#simplex-panel .rest").count() == 2
    # The rest point of the first agent alone is at the top.
    top = page.locator("#simplex-panel .simplex").get_attribute("points").split(" ")[0].split(",")
    dot = page.locator("#simplex-panel .rest").first
    at = [float(dot.get_attribute(key)) for key in ("cx", "cy")]
    assert at == pytest.approx([float(value) for value in top])
    chart = page.locator("#schelling-panel svg")
    chart.press("ArrowRight")
    chart.press("ArrowRight")
    assert page.locator("#schelling-panel .readout").inner_text() == (
        "Others who cooperate 1: defect 2.30, cooperate 1.00"
    )
    many = visit(browser, eight).page
    assert many.locator("#simplex-panel").count() == 0, "only three agents fit in a triangle"
    assert many.locator("#metagame .rest-points tbody tr").count() == 2
    assert "41" in many.locator("#elo-note").inner_text()


def test_a_page_without_further_parts(browser: Any, tmp_path: Path) -> None:
    bare = synthetic.tournament(2, parts=False)
    bare["transcripts"] = []
    bare["pairs"] = bare["pairs"][:3]
    address = write_tournament_page(bare, tmp_path).as_uri()
    seen = visit(browser, address, 390)
    page = seen.page
    assert page.locator(".subset").count() == 0
    assert cell(page, 1, 1).inner_text() == "\N{EN DASH}"
    cell(page, 1, 1).click()
    assert "was not played" in page.locator("#pair-facts").inner_text()
    cell(page, 0, 1).click()
    assert "Cooperation" in page.locator("#pair-facts").inner_text()
    links = page.locator("nav.sections a").all_inner_texts()
    assert links == [*LINKS, "Numbers", "Definitions"]
    seen.check(address)


def test_long_matches_and_moves_of_any_kind(browser: Any, tmp_path: Path) -> None:
    found = synthetic.tournament(2, parts=False)
    usual = {"moves": ["cooperate", "cooperate"], "payoffs": [3, 3]}
    rounds = [*[usual] * 100, *[{"moves": ["defect", None], "payoffs": [0.25, -1]}] * 100]
    shares = {"moves": ["3 hats", "stag", "cooperate"], "payoffs": [1, 2, 3]}
    talk = {**shares, "messages": [[2, "I am the third."]]}
    for one, played in zip(found["transcripts"], (rounds, [talk, shares]), strict=False):
        one["rounds"] = played
    one = found["transcripts"][1]
    one["seats"] = [one["row"], one["column"], one["row"]]
    address = write_tournament_page(found, tmp_path).as_uri()
    seen = visit(browser, address)
    page = seen.page
    item = page.locator("#match-list .item").first
    assert item.locator(".band").count() == 2 and item.locator(".strip").count() == 0
    first, second = (one.get_attribute("style") for one in item.locator(".band").all())
    assert "var(--coop-line) 0.00% 50.00%, var(--defect-line) 50.00% 100.00%" in first
    assert "var(--illegal) 50.00% 100.00%" in second
    assert "325 : 200" in item.inner_text()
    boxes = page.locator("#match .rounds > .bubble")
    assert boxes.count() == 400
    assert boxes.last.inner_text().split("\n") == ["no legal answer", "\N{MINUS SIGN}1"]
    page.locator("#match").get_by_text("Next").click()
    assert page.locator("#match .seat").count() == 3
    assert page.locator("#match .said-row").inner_text().startswith("I am the third.")
    kinds = boxes.evaluate_all("all => all.map(e => e.classList[1])")
    assert kinds == ["other", "C", "C"] * 2
    seen.check(address)


def test_on_paper_the_whole_matrix_is_there(browser: Any, sixty: str, eight: str) -> None:
    for address, cells in ((sixty, "color"), (eight, "whole")):
        page = visit(browser, address, 718).page
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert cells in page.locator(".crossplay").get_attribute("class").split()
        box = page.locator(".crossplay").bounding_box()
        assert box["x"] + box["width"] <= 718
        assert (
            page.locator(".legend").is_visible()
            and not page.locator(".controls").first.is_visible()
        )
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert "whole" in page.locator(".crossplay").get_attribute("class").split()


def test_the_page_of_an_exploit_run_in_a_browser(browser: Any, attack: str) -> None:
    seen = visit(browser, attack)
    page = seen.page
    assert page.locator("#payoff-panel .whisker").count() == 4
    assert page.locator("#payoff-panel .reference-line").count() == 2
    assert page.locator("#learning-panel .reference-line").count() == 3
    page.locator("#learning-panel svg").press("ArrowLeft")
    assert (
        page.locator("#learning-panel .readout").inner_text().startswith("Iteration 39: responder")
    )
    page.locator("#match").get_by_text("Hello.").wait_for()
    page.locator("#taken .gains .term", has_text="Beyond fair play").hover()
    assert "minus that of fair play" in page.locator("#definition").inner_text()
    seen.check(attack)
