"""The page of split games in a real browser: conversations, hostile texts, small screens."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from comity.reports.build import build
from comity.rollout.record_files import decision_table, read_decisions, write_table
from comity.rollout.records import Decision
from tests.reports import synthetic, synthetic_split
from tests.reports.test_page import Visit, browser, choose, needs_browser, unfold

__all__ = ["browser"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build([synthetic_split.study(tmp_path_factory.mktemp("page") / "study")])[0]


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nasty")
    run = synthetic_split.run(folder / "run", words=synthetic_split.NASTY, iterations=2, matches=8)
    return build([run])[0]


@needs_browser
def test_a_reader_goes_through_the_report(browser: Any, report: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    visit = Visit(page, report.as_uri())
    assert page.locator("main h2").all_inner_texts() == [
        "Key findings",
        "Negotiation",
        "Learning",
        "Cross-play",
        "Transcripts",
        "Numbers and citation",
        "Method",
    ]
    assert page.locator("nav.sections a").count() == 7
    for word in ("ooperation", "P(C"):
        assert word not in page.locator("main").inner_text()
    titles = [
        text.split(" per ")[0]
        for text in page.locator("#negotiation-panels figcaption .title").all_inner_texts()
    ]
    assert titles[:3] == ["Payoff", "Percent of the maximum (E2)", "Stock claimed"]
    assert page.locator("#negotiation-panels .reference-line").count() == 4
    readout = page.locator("#negotiation-panels .readout").nth(1)
    page.locator("#negotiation-panels svg").nth(1).press("ArrowLeft")
    assert "greedy pair 55\u202f%" in readout.inner_text()
    unfold(page, "manners")
    assert page.locator("#health-panels svg").count() == 5, "open from the start"
    assert page.locator("#crossplay h3").all_inner_texts() == [
        "Payoff per round of the row player",
        "Margin per round, row player minus column player",
        "Joint payoff, percent of the maximum",
    ]
    visit.check(report.as_uri())


@needs_browser
def test_a_match_is_a_conversation_round_by_round(browser: Any, report: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    visit = Visit(page, report.as_uri())
    choose(page, "Played in", "cross-play")
    choose(page, "Policy", "greedy")
    choose(page, "Against", "cooperator")
    first = page.locator(".talk").first
    assert first.locator("h4").inner_text() == "Round 1"
    sample_instance = first.locator(".deal tr").all_inner_texts()
    assert sample_instance[0] == "\t10 coins"
    worth = dict(line.removeprefix("value to ").split("\t") for line in sample_instance[1:])
    assert set(worth) == {"greedy", "cooperator"}
    assert sorted(worth.values()) == ["1", "10"]
    said = dict(text.split("\n") for text in first.locator(".speech").all_inner_texts())
    assert said == {"greedy": "all mine", "cooperator": "let us share"}
    settled = {
        t.split("\n")[0]: t.split("\n")[1:] for t in first.locator(".settled").all_inner_texts()
    }
    assert settled["greedy"][0] == "claims 10 coins"
    # Greed takes 10 of 10 where coins are worth more to it; else both claim all.
    greedy_more = worth["greedy"] == "10"
    assert settled["greedy"][1] == (
        "got 10 coins · 100 points" if greedy_more else "got 5 coins · 5 points"
    )
    together = first.locator(".together").inner_text()
    assert together.startswith(f"joint payoff {100 if greedy_more else 55} of 100 points")
    choose(page, "Contains", "over")
    assert "20 of 10 coins claimed" in page.locator("#match").inner_text()
    choose(page, "Policy", "cooperator")
    choose(page, "Against", "cooperator")
    assert page.locator("#match").inner_text() == "No match fits these filters."
    visit.check(report.as_uri())


@needs_browser
def test_every_answer_opens(browser: Any, tmp_path: Path) -> None:
    run = synthetic_split.run(tmp_path / "run", iterations=1, matches=2)
    path = run / "decisions" / "000000.parquet"
    decisions = read_decisions(path)
    claim = next(d for d in decisions if d.kind == "claim" and d.move >= 0)
    claim.attempts, claim.constrained = 3, True
    write_table(path, decision_table(decisions))
    report, _ = build([run])
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    visit = Visit(page, report.as_uri())
    choose(page, "Contains", "constrained")
    page.locator(".settled", has_text="attempt 3 · constrained").first.click()
    text = page.locator(".decision").inner_text()
    for part in ("Prompt", "Your turn to claim", "Token ids of the answer", "Advantage"):
        assert part in text
    facts = dict(
        zip(
            page.locator(".facts dt").all_inner_texts(),
            page.locator(".facts dd").all_inner_texts(),
            strict=True,
        )
    )
    assert facts["Attempts"] == "3"
    assert facts["Constrained decoding"] == "yes"
    assert facts["Log-probability of the answer"].startswith("\u2212")
    assert facts["Legal"] == "yes" and facts["Controller"] == "live"
    linked = page.url
    again = Visit(browser.new_page(), linked)
    assert again.page.locator(".decision").inner_text() == text
    page.locator(".speech").first.click()
    assert page.locator(".decision").count() == 1
    assert "As the others read it" in page.locator(".decision").inner_text()
    visit.check(report.as_uri())


@needs_browser
@pytest.mark.parametrize("hostile", synthetic_split.NASTY)
def test_hostile_messages_are_shown_as_they_are(browser: Any, nasty: Path, hostile: str) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 740})
    visit = Visit(page, nasty.as_uri())
    choose(page, "Iteration", "")
    start = hostile[:700]
    for item in page.locator(".item").all():
        item.click()
        found = page.evaluate(
            """start => [...document.querySelectorAll(".speech")]
                .findIndex(b => b.querySelector(".said").textContent.startsWith(start))""",
            start,
        )
        if found >= 0:
            page.locator(".speech").nth(found).click()
            break
    answer = page.locator(".decision h5:text-is('Answer') + pre")
    assert answer.evaluate("element => element.textContent") == f"<message>{hostile}</message>"
    read = page.locator(".decision h5:text-is('As the others read it') + pre")
    assert read.evaluate("element => element.textContent") == hostile
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    visit.check(nasty.as_uri())


@needs_browser
@pytest.mark.parametrize(
    "rules", [{"messages": 0, "payment": "exact"}, {"finalization": "proposal"}]
)
def test_games_without_talk_and_with_proposals(
    browser: Any, tmp_path: Path, rules: dict[str, Any]
) -> None:
    run = synthetic_split.run(tmp_path / "run", iterations=2, matches=4, **rules)
    report, _ = build([run])
    page = browser.new_page(viewport={"width": 400, "height": 900})
    visit = Visit(page, report.as_uri())
    assert "Agreement" in page.locator("#negotiation-panels").inner_text()
    if "finalization" in rules:
        choose(page, "Iteration", "0")
        assert "accepts" in page.locator("#match").inner_text()
    else:
        assert page.locator(".speech").count() == 0
    page.locator(".settled").first.click()
    assert page.locator(".decision").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    visit.check(report.as_uri())


@needs_browser
def test_rounds_that_a_message_too_many_ended(browser: Any, tmp_path: Path) -> None:
    """The deal stands there for both seats, and the message that ended the round as what it is."""
    rules = {"messages": 2, "least_messages": 0, "finalization": "in_turn"}
    run = synthetic_split.run(tmp_path / "run", iterations=2, matches=12, **rules)
    report, _ = build([run])
    page = browser.new_page(viewport={"width": 400, "height": 900})
    visit = Visit(page, report.as_uri())
    row = page.locator(".statistics tr", has_text="Message limit exceeded").first
    assert not row.locator("b").first.inner_text().startswith("0")
    unfold(page, "manners")
    drawn = page.locator("#manners-panels").inner_text()
    assert "Messages per round" in " ".join(drawn.split()) and "Message limit exceeded" in drawn
    ended = 0
    for item in page.locator(".item").all():
        item.click()
        for round_ in page.locator("#match .talk").all():
            assert round_.locator("tr").count() == 3, "a line for the items and one for each seat"
            text = round_.inner_text()
            if "message beyond the limit" in text:
                ended += 1
                assert "joint payoff 0 of 100 points" in text
                assert round_.locator(".settled").count() in (1, 2)
    assert ended
    page.locator(".settled", has_text="message beyond the limit").first.click()
    assert "exceeded" in page.locator(".decision").inner_text()
    visit.check(report.as_uri())


@needs_browser
@pytest.mark.parametrize("kind", ["matrix", "split"])
def test_thoughts_and_failed_tries_stand_before_the_answer(
    browser: Any, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "run"
    if kind == "split":
        synthetic_split.run(folder, iterations=1, matches=1)
    else:
        synthetic.run(folder, iterations=1, matches=1, hostile=False)
    path = folder / "decisions" / "000000.parquet"
    decisions = (
        read_decisions(path)
        if kind == "split"
        else [Decision(**row) for row in pq.read_table(path).to_pylist()]
    )
    last = max(d.seat for d in decisions)
    at = next(i for i, d in enumerate(decisions) if d.kind != "message" and d.seat == last)
    before = {"move": -1, "payoff": 0.0, "trained": False}
    for d in decisions:
        d.rewards = {}
    decisions[at:at] = [
        replace(decisions[at], kind="think", text="Hm, <i>what</i> now?", **before),
        replace(decisions[at], kind="attempt", text="Whatever.", **before),
    ]
    write_table(path, decision_table(decisions))
    report, _ = build([folder])
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    visit = Visit(page, report.as_uri())
    asides = page.locator(".bubble.aside").all_inner_texts()
    assert len(asides) == 2
    assert "thought" in asides[0] and "Hm, <i>what</i> now?" in asides[0]
    assert "failed attempt" in asides[1]
    page.locator(".bubble.aside").nth(1).click()
    assert "Whatever." in page.locator(".decision").inner_text()
    answers = page.locator(".bubble:not(.aside)").count()
    assert answers == len(decisions) - 2
    visit.check(report.as_uri())
