"""The page in a real browser: it works offline, is not broken by hostile texts, can be read."""

import base64
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from comity.reports.build import build
from comity.reports.formats import percent, words
from comity.reports.page.assets import embedded
from comity.reports.page.colors import SCALES, ink
from tests.reports import synthetic

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build([synthetic.study(tmp_path_factory.mktemp("page") / "study")])[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as started:
        running = started.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield running
        running.close()


class Visit:
    """A page and what went wrong on it."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(address)

    def check(self, address: str) -> None:
        """Nothing was complained about, nothing else was fetched, nothing hostile ran."""
        assert self.complaints == []
        own = address.partition("#")[0]
        others = [url for url in self.requests if url != own and not url.startswith("data:")]
        assert others == []
        assert self.page.evaluate("window.hacked") is None
        assert self.page.locator("img").count() == 0


def unfold(page: Any, section: str) -> None:
    """Open a folded section; its charts are drawn in an event of their own, after the click."""
    page.locator(f"#{section} summary").click()
    page.locator(f"#{section}-panels svg").first.wait_for()


def choose(page: Any, title: str, value: str) -> None:
    page.locator("#filters label", has_text=title).locator("select").select_option(value)


@needs_browser
def test_a_reader_goes_through_the_report(browser: Any, report: Path) -> None:
    address = report.as_uri()
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    visit = Visit(page, address)
    assert page.title() == "demo · Comity"
    headings = page.locator("main h2").all_inner_texts()
    assert headings == [
        "Key findings",
        "Learning",
        "Joint outcomes",
        "Action types and rewards",
        "Conditional cooperation",
        "Cross-play",
        "Transcripts",
        "Numbers and citation",
        "Method",
    ]
    assert page.locator("#learning-panels svg").count() == 2
    assert page.locator("#learning-panels .seed-line").count() == 2 * 2 * 2, "panels, arms, seeds"
    assert page.locator("#outcome-panels svg").count() == 2
    unfold(page, "health")
    assert page.locator("#health-panels svg").count() == 6

    # A chart can be read with the keyboard.
    page.locator("#learning-panels svg").first.press("ArrowLeft")
    readout = page.locator("#learning-panels .readout").first
    assert readout.inner_text().startswith("Iteration 3: ")
    page.locator("#learning-panels svg").first.press("ArrowLeft")
    assert readout.inner_text().startswith("Iteration 2: ")
    # Drawn anew for another width, it stays where the reader is, and in the reader's hands.
    page.locator("#learning-panels svg").first.evaluate("drawing => drawing.id = 'before'")
    page.set_viewport_size({"width": 700, "height": 900})
    page.locator("#learning-panels svg:not(#before)").first.wait_for()
    page.locator("#before").wait_for(state="detached")
    assert readout.inner_text().startswith("Iteration 2: ")
    page.keyboard.press("ArrowLeft")
    assert readout.inner_text().startswith("Iteration 1: ")
    page.set_viewport_size({"width": 1280, "height": 900})

    # A decision opens, with its prompt, its probabilities and its numbers.
    page.locator(".bubble").nth(2).click()
    decision = page.locator(".decision")
    text = decision.inner_text()
    for part in ("Prompt since the last answer", "Token ids", "Payoff", "Advantage", "version 3"):
        assert part in text
    assert decision.locator(".chances .track").count() == 2
    decision.locator("details summary").click()
    decision.get_by_text("Earn as many points as you can").wait_for()

    # The address names what is open, and leads back to it.
    linked = page.url
    assert "#match=" in linked and "decision=2" in linked
    again = Visit(browser.new_page(), linked)
    assert again.page.locator(".decision").inner_text() == text
    again.check(linked)
    visit.check(address)


@needs_browser
def test_filters_and_folding(browser: Any, report: Path) -> None:
    page = browser.new_page()
    visit = Visit(page, report.as_uri())
    choose(page, "Iteration", "0")
    assert all("iteration 0" in text for text in page.locator(".item").all_inner_texts())
    choose(page, "Seed", "1")
    assert page.locator(".list .count").inner_text().startswith("3 matches")
    choose(page, "Played in", "cross-play")
    choose(page, "Policy", "always_defect")
    choose(page, "Against", "always_defect")
    choose(page, "Contains", "DD")
    # The seed stays chosen. Two scripted players play the same match every time: one item.
    folded = page.locator(".item .times").all_inner_texts()
    assert folded == ["\N{MULTIPLICATION SIGN}2"]
    choose(page, "Contains", "CC")
    assert page.locator("#match").inner_text() == "No match fits these filters."
    visit.check(report.as_uri())


@needs_browser
def test_answers_to_follow_up_questions_are_shown_but_are_no_moves(
    browser: Any, tmp_path: Path
) -> None:
    run = synthetic.run(tmp_path / "run", iterations=1, matches=2, hostile=False)
    path = run / "decisions" / "000000.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    last = rows[-1]
    asked = {"kind": "followup", "step": 1, "move": -1, "move_name": "why", "text": "I felt it."}
    nothing = {"trained": False, "payoff": float("nan"), "legal": [], "probabilities": []}
    pq.write_table(pa.Table.from_pylist([*rows, {**last, **asked, **nothing}], table.schema), path)
    page, _ = build([run])
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    visit = Visit(tab, page.as_uri())
    choose(tab, "Contains", "illegal")
    assert tab.locator("#match").inner_text() == "No match fits these filters."
    choose(tab, "Contains", "")
    marks = tab.locator(".item .strip i")
    assert marks.count() == len(rows), "one for every move"
    for item in tab.locator(".item").all():
        item.click()
        if tab.get_by_text("asked: why").count():
            break
    bubble = tab.locator(".bubble", has_text="asked: why")
    bubble.click()
    text = tab.locator(".decision").inner_text()
    assert "I felt it." in text
    assert "Follow-up question" in text
    assert "Played" not in text
    visit.check(page.as_uri())


@needs_browser
@pytest.mark.parametrize("hostile", synthetic.HOSTILE)
def test_what_was_told_for_exploration_is_marked_and_harmless(
    browser: Any, tmp_path: Path, hostile: str
) -> None:
    run = synthetic.run(tmp_path / "run", iterations=1, matches=2, hostile=False)
    path = run / "conversations" / "000000.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    for row in rows:
        row["pieces"][0] |= {"kind": "exploration", "text": hostile}
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    page, _ = build([run])
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    visit = Visit(tab, page.as_uri())
    tab.locator(".bubble").first.click()
    marked = tab.locator(".decision .text .exploration")
    assert marked.first.evaluate("element => element.textContent") == hostile
    assert "Underlined: exploration instruction" in tab.locator(".decision").inner_text()
    tab.locator(".bubble").nth(2).click()
    assert "Underlined" not in tab.locator(".decision").inner_text()
    visit.check(page.as_uri())


@needs_browser
@pytest.mark.parametrize("hostile", synthetic.HOSTILE)
def test_hostile_answers_are_shown_as_they_are(browser: Any, report: Path, hostile: str) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 740})
    visit = Visit(page, report.as_uri())
    choose(page, "Iteration", "")
    choose(page, "Contains", "illegal")
    for item in page.locator(".item").all():
        item.click()
        bubble = page.locator(".bubble", has_text=hostile[:40]).first
        if bubble.count():
            bubble.click()
            break
    answer = page.locator(".decision h5:text-is('Answer') + pre")
    assert answer.evaluate("element => element.textContent") == hostile
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    visit.check(report.as_uri())


@needs_browser
def test_dark_mode_and_print(browser: Any, report: Path) -> None:
    def background(page: Any) -> Any:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    page = browser.new_page(color_scheme="dark")
    visit = Visit(page, report.as_uri())
    assert background(page) == "rgb(16, 21, 27)"
    page.emulate_media(media="print")
    assert background(page) == "rgb(255, 255, 255)"
    page.emulate_media(media="screen", color_scheme="light")
    assert background(page) == "rgb(255, 255, 255)"
    visit.check(report.as_uri())


@needs_browser
def test_a_single_run_of_one_iteration(browser: Any, tmp_path: Path) -> None:
    path, _ = build([synthetic.run(tmp_path / "run", iterations=1, hostile=False)])
    page = browser.new_page()
    visit = Visit(page, path.as_uri())
    assert "Cross-play" not in page.locator("main h2").all_inner_texts()
    assert page.locator("#outcome-panels polygon").count() > 0
    visit.check(path.as_uri())


def test_the_page_is_one_file_without_addresses(report: Path) -> None:
    text = report.read_text()
    assert len(text) < 10_000_000
    page = re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.DOTALL)
    assert not re.search(r"(src|href)=\"(?!#|data:)", page)
    assert page.count("<script>") == page.count("</script>") == 1
    assert "alert" not in page and "hacked" not in page


def test_the_embedded_download_is_the_summary(report: Path) -> None:
    found = re.search(r"data:application/json;base64,([\w+/=]+)", report.read_text())
    assert found is not None
    summary = json.loads(base64.b64decode(found[1]))
    assert summary == json.loads((report.parent / "summary.json").read_text())


@pytest.mark.parametrize("hostile", [*synthetic.HOSTILE, "<!--<script>", "]]>"])
def test_embedded_json_cannot_end_its_element(hostile: str) -> None:
    text = embedded({"text": hostile})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"text": hostile}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (1, "100"), (0.5, "50"), (0.004, "0.4"), (0.997, "99.7"), (0.9999, ">99.9")],
)
def test_percents_read_0_and_100_only_where_they_are(value: float, shown: str) -> None:
    assert percent(value) == f"{shown}\u202f%"


def test_a_config_in_words() -> None:
    game = {"name": "prisoners_dilemma", "length": {"name": "fixed", "rounds": 10}, "noise": None}
    assert words(game) == "prisoners_dilemma, length fixed, rounds 10"
    assert words({"differs": ["A", ["B", "C"]]}) == "A / B C"


def luminance(color: str) -> float:
    """Relative luminance of "#rrggbb", as WCAG 2.1 has it."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("color", [c for both in SCALES.values() for scale in both for c in scale])
def test_text_on_colored_cells_can_be_read(color: str) -> None:
    """Contrast of at least 4.5 to 1, as WCAG 2.1 asks (1.4.3)."""
    assert contrast(color, ink(color)) >= 4.5


@pytest.mark.parametrize("number", range(len(SCALES)))
def test_dark_screens_have_cells_that_do_not_glare(number: int) -> None:
    light, dark = list(SCALES.values())[number]
    assert max(map(luminance, light)) > 0.8, "on paper pale cells are right"
    assert max(map(luminance, dark)) < 0.5
