"""The page of a tournament of more than two seats: as a file, and in a browser."""

import copy
from pathlib import Path
from typing import Any

import pytest

from comity.errors import ComityError
from comity.evaluation.tournament.many_seats.compositions import choose_compositions
from comity.evaluation.tournament.many_seats.play import ManySeats
from comity.evaluation.tournament.many_seats.summary import summarize_seats
from comity.games import make_game
from comity.players.scripted.catalog import STRATEGIES
from comity.players.scripted.player import StrategyPlayer
from comity.reports.tournament import seats_format
from comity.reports.tournament.seats_page import verdict, write_seats_page
from tests.reports.test_page import Visit, browser, needs_browser
from tests.reports.test_tournament_page import HOSTILE, conforms, embedded, parsed

__all__ = ["browser"]

NAMES = ("always_cooperate", "always_defect", "random", "tit_for_tat")
SEATS = 4


def made(names: dict[str, str], text: str = "", lost: int = 0, limit: int = 200) -> Any:
    """A summary of real matches; `names`: what each strategy is called."""
    length = {"name": "fixed", "rounds": 5}
    game = make_game({"name": "public_goods", "seats": SEATS, "length": length, "noise": 0.05})
    players = {called: StrategyPlayer(called, STRATEGIES[name]()) for name, called in names.items()}
    chosen = choose_compositions(list(players), SEATS, limit)
    schedule = ManySeats(game, players, list(chosen.weights), 4, 0)
    matches = [match for batch in schedule.play() for match in batch.matches]
    header = {
        "title": text or "Tournament: public_goods",
        "game": {
            "name": text or "public_goods",
            "description": text,
            "settings": {"seats": SEATS, "multiplier": 1.6},
            "symmetric": True,
            "unit": "payoff per round",
        },
        "seed": 0,
        "missing_reasons": {text: lost} if lost else {},
        "version": "0.1.0",
        "created": "2026-01-31",
        "players": [
            {"name": name, "kind": "scripted", "description": text, "details": {}}
            for name in players
        ],
    }
    return summarize_seats(header, matches[lost:], game, 4, chosen)


@pytest.fixture(scope="module")
def summary() -> Any:
    return made({name: name for name in NAMES})


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, summary: Any) -> Path:
    return write_seats_page(summary, tmp_path_factory.mktemp("seats"))


def test_the_summary_has_the_documented_format(summary: Any) -> None:
    conforms(summary, seats_format.ManySeatsSummary)
    with pytest.raises(AssertionError):
        conforms({**summary, "more": 1}, seats_format.ManySeatsSummary)


def test_the_page_has_all_that_its_summary_has(page: Path, summary: Any) -> None:
    found = parsed(page)
    for part in ("rankings", "mixes", "comparisons", "compositions", "references", "transcripts"):
        assert part in found.ids
    assert "metagame" in found.ids
    assert "all 35" in found.text and "answers" not in found.ids
    data = embedded(page)
    points = {
        (NAMES[focal], NAMES[background] if background >= 0 else ""): points
        for focal, background, points in data["mixes"]
    }
    for agent, by_background in summary["mixes"].items():
        for background, given in by_background.items():
            for (k, own, other), one in zip(points[agent, background], given, strict=True):
                assert k == one["focal"]
                assert own[0] == pytest.approx(one["own"]["mean"])
                assert (other == 0) == (one["background"] is None)
                if one["background"]:
                    assert other[0] == pytest.approx(one["background"]["mean"])


def test_missing_matches_and_samples_are_told(tmp_path: Path) -> None:
    found = made({name: name for name in NAMES}, lost=9, limit=10)
    text = parsed(write_seats_page(found, tmp_path)).text
    assert "9 matches missing" in text and "10 draws, and all of one or two agents" in text
    assert "of 35" in text


def test_equal_summaries_give_equal_pages(tmp_path: Path, page: Path, summary: Any) -> None:
    again = write_seats_page(copy.deepcopy(summary), tmp_path)
    assert again.read_bytes() == page.read_bytes()
    with pytest.raises(ComityError, match="no summary of kind"):
        write_seats_page({**summary, "kind": "tournament"}, tmp_path)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_text(tmp_path: Path, text: str) -> None:
    found = made({name: f"{text}{i}" for i, name in enumerate(NAMES)}, text=text, lost=2)
    parsed(write_seats_page(found, tmp_path))


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        ((1.0, 0.5, 1.5), "invaded"),
        ((1.0, -0.5, 2.5), "not clear"),
        ((-1.0, -2.5, 0.5), "not clear"),
        ((-1.0, -1.5, -0.5), "resists"),
        ((0.0, None, None), "resists"),
        ((0.5, None, None), "invaded"),
    ],
)
def test_verdicts(gain: tuple[float, float | None, float | None], said: str) -> None:
    assert verdict(dict(zip(("mean", "low", "high"), gain, strict=True))).startswith(said)


@needs_browser
@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(browser: Any, page: Path, width: int, scheme: str) -> None:
    view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    visit = Visit(view, page.as_uri())
    assert view.locator("#focal-panel polyline").count() == len(NAMES)
    assert view.locator("#schelling-panel svg").count() == 1
    assert view.locator("#rating-panels .title").all_inner_texts() == [
        "Deviation rating payoff; higher is better"
    ]
    title = view.locator("#two-panel .title")
    before = title.inner_text()
    background = view.locator("#two-controls select").nth(1)
    focal = view.locator("#two-controls select").nth(0)
    was = focal.input_value(), background.input_value()
    background.select_option(was[0])  # The same agent on both sides is no mix.
    assert (focal.input_value(), background.input_value()) == was[::-1]
    assert title.inner_text() != before
    view.locator("#filters select").nth(0).select_option(label="random")
    view.locator("#filters select").nth(1).select_option(label="random")
    listed = view.locator("#match-list .item")
    assert listed.count() == 10  # Compositions in which random has two seats or more.
    listed.nth(1).click()
    assert view.locator("#match .seat").count() == SEATS
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    visit.check(page.as_uri())


@needs_browser
def test_the_metric_of_the_ranking_can_be_chosen(browser: Any, page: Path) -> None:
    view = browser.new_page(viewport={"width": 1200, "height": 900})
    visit = Visit(view, page.as_uri())
    view.locator("[data-state=metric]").select_option(label="Cooperation")
    assert view.locator("#ranking-panel .row-name").first.text_content() == "always_cooperate"
    view.locator("#rankings th .term", has_text="Rank").first.hover()
    assert "over all compositions" in view.locator("#definition").inner_text()
    visit.check(page.as_uri())
