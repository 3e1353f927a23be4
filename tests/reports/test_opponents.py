"""What learners got against each kind of opponent, from the metrics to the page."""

import json
from pathlib import Path
from typing import Any

import pytest

from comity.reports.build import build
from comity.reports.loading.folders import collect
from comity.reports.summary.summary import summarize
from tests.reports import synthetic
from tests.reports.test_page import Visit, browser, needs_browser

__all__ = ["browser"]

NOBODY = {"matches": 0, "cooperation": None, "payoff": None}


def mixed(folder: Path, kinds: tuple[str, ...] = ("past", "live")) -> Path:
    """A study whose arm `own` met these kinds; the first of them from iteration 1 on."""
    synthetic.study(folder)
    for seed in (0, 1):
        path = folder / "own" / f"seed-{seed}" / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            late = line["iteration"] == 0
            line["by_opponent"] = {"human": NOBODY} | {
                kind: NOBODY
                if kind == "past" and late
                else {"matches": 2, "cooperation": 0.25, "payoff": seed + 0.5 * line["iteration"]}
                for kind in kinds
            }
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_curves_by_kind_of_opponent(tmp_path: Path) -> None:
    learning = summarize(collect([mixed(tmp_path / "study")]))["learning"]
    against = learning["own"]["by_opponent"]
    assert set(against) == {"past", "live"}
    assert against["past"]["payoff"][0] is None
    for point, mean in ((against["past"]["payoff"][3], 2.0), (against["live"]["payoff"][0], 0.5)):
        assert (point["mean"], point["n"], point["units"], point["over"]) == (mean, 2, 2, "seeds")
        # Between the least and the greatest payoff of the game.
        assert 0.0 <= point["low"] < mean - 0.4 and mean + 0.4 < point["high"] <= 5.0
    assert against["live"]["cooperation"][2]["mean"] == 0.25
    assert "by_opponent" not in learning["utilitarian"], "its metrics say nothing of opponents"


def test_one_kind_is_no_comparison(tmp_path: Path) -> None:
    learning = summarize(collect([mixed(tmp_path / "study", ("live",))]))["learning"]
    assert "by_opponent" not in learning["own"]


@needs_browser
@pytest.mark.parametrize("kinds, charts", [(("past", "live"), 4), (("live",), 0)])
def test_the_page_draws_them(
    browser: Any,
    tmp_path: Path,
    kinds: tuple[str, ...],
    charts: int,
) -> None:
    address = build([mixed(tmp_path / "study", kinds)])[0].as_uri()
    visit = Visit(browser.new_page(), address)
    visit.check(address)
    drawn = visit.page.locator("#learning h3:has-text('By kind of opponent') ~ .panels svg")
    # The closed panel of how the training went holds nothing yet.
    assert drawn.count() == charts
    titles = visit.page.locator("#learning figcaption").all_inner_texts()
    assert any("past checkpoints" in title for title in titles) == (charts > 0)
