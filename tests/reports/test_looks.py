"""What a reader sees: long names, narrow and dark screens, colors, settings that have a say."""

import re
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from comity.config.compose import compose
from comity.reports.build import build
from comity.reports.page.settings import applying, merged
from tests.reports import synthetic, synthetic_split
from tests.reports.test_page import Visit, browser, contrast, luminance, needs_browser

__all__ = ["browser"]

LONG = {
    "own": "moral-small-game-then-deontological-vs-tit-for-tat",
    "utilitarian": "robust_small_split_no_comm_vanilla_ad_align_no_agent_buffer",
}
OUTCOMES = ("CC", "CD", "DC", "DD", "illegal")


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long") / "study"
    return build([synthetic.study(folder, hostile=False, called=LONG)])[0]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build([synthetic_split.study(tmp_path_factory.mktemp("split") / "study")])[0]


def box(locator: Any) -> dict[str, float]:
    found: dict[str, float] = locator.bounding_box()
    return found | {"right": found["x"] + found["width"], "bottom": found["y"] + found["height"]}


@needs_browser
@pytest.mark.parametrize("width", [390, 1400])
def test_long_names_leave_the_numbers_on_the_screen(browser: Any, long: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    visit = Visit(page, long.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for row in page.locator("#findings tbody tr:not(.group)").all():
        name, first, second = (row.locator("th, td").nth(i) for i in range(3))
        assert box(first.locator("b"))["x"] >= box(name)["right"], "nothing lies over a number"
        assert box(second.locator("b"))["right"] <= width, "two numbers are seen at once"
    # No heading of a cross-play reaches into its neighbour, no cell is wider than its column.
    for cell in page.locator("#crossplay th, #crossplay td.heat").all():
        assert cell.evaluate("e => e.scrollWidth <= e.clientWidth"), cell.inner_text()
    visit.check(long.as_uri())


DIVIDED = r"""() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  for (let node; (node = walker.nextNode());) {
    if (!node.parentElement.closest("th")) continue;
    for (const word of node.data.matchAll(/[\p{L}\d]+/gu)) {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const lines = [...range.getClientRects()].filter((one) => one.width > 0);
      if (new Set(lines.map((one) => Math.round(one.top))).size > 1) found.push(word[0]);
    }
  }
  return found;
}"""
"""Words in the headers of tables of which a part stands in the next line."""


@needs_browser
def test_no_word_of_a_header_is_divided_on_a_phone(browser: Any, long: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.goto(long.as_uri())
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.evaluate(DIVIDED) == []


@needs_browser
@pytest.mark.parametrize("width", [390, 1400])
def test_charts_show_whole_names_inside_of_themselves(browser: Any, long: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(long.as_uri())
    for drawing in page.locator("#learning-panels svg").all():
        labels = drawing.locator(".label")
        text = "".join(labels.all_text_contents())
        assert "\N{HORIZONTAL ELLIPSIS}" not in text
        for name in LONG.values():
            assert name in text
        whole = box(drawing)
        for label in labels.all():
            assert box(label)["right"] <= whole["right"] + 1
            assert box(label)["bottom"] <= whole["bottom"] + 1


@needs_browser
def test_names_are_the_same_everywhere(browser: Any, long: Path) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(long.as_uri())
    names = {*LONG.values(), "base", "tit_for_tat", "always_cooperate", "always_defect"}
    assert set(page.locator("#findings tbody tr:not(.group) th").all_text_contents()) == names
    assert set(page.locator("#crossplay-payoff ~ .scroll thead th").all_text_contents()) == names
    page.locator("#filters label", has_text="Played in").locator("select").select_option(
        "cross-play"
    )
    policies = page.locator("#filters label", has_text="Policy").locator("option")
    assert set(policies.all_text_contents()) == names
    titles = page.locator("#outcome-panels figcaption .title").all_inner_texts()
    assert {title.removesuffix(" share of rounds") for title in titles} == set(LONG.values())


@needs_browser
@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("kind", ["long", "split"])
def test_what_is_wider_than_the_screen_says_so(
    browser: Any, request: pytest.FixtureRequest, kind: str, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(request.getfixturevalue(kind).as_uri())
    cut = 0
    for scroll in page.locator("main .scroll[role=region]:visible").all():
        hidden = scroll.evaluate("e => e.scrollWidth - e.clientWidth")
        sign = scroll.locator("xpath=preceding-sibling::div[1]").locator(".wide-sign")
        assert ("more columns" in sign.inner_text()) == (hidden > 8)
        if hidden <= 8:
            continue
        cut += 1
        # Who scrolls still sees whose row it is; at the end the sign points back.
        scroll.evaluate("e => { e.scrollLeft = e.scrollWidth; }")
        page.wait_for_function("e => e.textContent.startsWith('←')", arg=sign.element_handle())
        first = scroll.locator("tbody tr:not(.group) th").first
        assert box(first)["x"] == pytest.approx(box(scroll)["x"], abs=4)
    assert cut > 0 or width > 390


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_joint_outcomes_stand_out_and_do_not_glare(browser: Any, long: Path, scheme: str) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto(long.as_uri())
    look = "n => getComputedStyle(document.documentElement).getPropertyValue(n).trim()"
    paper, *colors = (page.evaluate(look, f"--{name}") for name in ("paper", *OUTCOMES))
    for color in colors:
        assert contrast(color, paper) >= 1.6, color
        assert scheme == "light" or luminance(color) < 0.5, color
    for one, other in pairwise(colors):
        assert contrast(one, other) >= 1.25, (one, other)


@needs_browser
def test_bars_of_a_column_have_one_scale(browser: Any, long: Path) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(long.as_uri())
    widths = {round(box(bar)["width"]) for bar in page.locator("#findings .interval").all()}
    assert len(widths) == 1


@needs_browser
def test_ticks_are_where_their_labels_say(browser: Any, long: Path) -> None:
    page = browser.new_page()
    page.goto(long.as_uri())
    drawn = "axes(400, 200, {left: 46, right: 10, top: 10, bottom: 42}, [0, 1], 0, 0.11, percent)"
    labels = page.evaluate(f"[...{drawn}.drawing.querySelectorAll('text')].map(t => t.textContent)")
    percents = [float(text[:-2]) for text in labels if text.endswith("%")]
    assert percents == [0.0, 2.5, 5.0, 7.5, 10.0]


def test_one_iteration_of_one_match(tmp_path: Path) -> None:
    run = synthetic.run(tmp_path / "run", iterations=1, matches=1, hostile=False)
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "iterations": 1, "matches": 1}))
    text = re.sub(r"\s+", " ", build([run])[0].read_text())
    assert "1 iteration of 1 match<" in text
    assert not re.search(r"\b1 (iterations|matches|decisions|rounds)\b(?!:)", text)


def test_bars_of_payoffs_span_what_the_game_can_pay(tmp_path: Path) -> None:
    run = synthetic.run(tmp_path / "run", hostile=False)
    (run / "reference_policies.json").write_text('{"payoffs": [-1.0, 5.0]}')
    assert "(bar: \N{MINUS SIGN}1.00 to 5.00)" in build([run])[0].read_text()


CONFIG = {
    "model": {"name": "tiny", "dtype": "auto", "threads": None},
    "adapter": {"rank": 16, "dropout": 0.0},
    "game": {
        "name": "prisoners_dilemma", "noise": 0.0, "illegal": "as_defect", "initial_state": "none",
    },
    "prompt": {
        "name": "conversation", "labels": None, "label_length": 3, "state_error_rule": False,
    },
    "answer": {"name": "constrained", "message_tokens": 120, "thinking": 0, "train_thinking": True},
    "temperature": 1.0,
    "algorithm": {
        "name": "reinforce", "kl": 0.0, "entropy": 0.02, "estimator": "baseline",
        "lambda_max": 0.95, "critic_loss": "huber", "discount": 0.9,
    },
    "opponent_pool": None,
}  # fmt: skip


def test_settings_without_a_say_are_left_out() -> None:
    assert applying(CONFIG) == {
        "model": {"name": "tiny", "dtype": "auto"},
        "adapter": {"rank": 16},
        "game": {"name": "prisoners_dilemma"},
        "prompt": {"name": "conversation"},
        "answer": {"name": "constrained"},
        "temperature": 1.0,
        "algorithm": {
            "name": "reinforce", "entropy": 0.02, "estimator": "baseline", "discount": 0.9,
        },
    }  # fmt: skip
    free = {**CONFIG, "answer": {"name": "attempts", "free_attempts": 2, "fallback": "constrained"}}
    assert applying(free)["game"]["illegal"] == "as_defect"
    talk = {**CONFIG, "game": {"name": "trust_and_split", "messages": 1, "message_limit": 500}}
    assert applying(talk)["answer"]["message_tokens"] == 120
    assert applying(talk)["game"]["message_limit"] == 500


def test_the_model_is_described_by_what_changes_numbers() -> None:
    """A setting of speed or memory is left out as long as it has its default."""
    config = compose("demo")
    assert applying(asdict(config))["model"].keys() == {"name", "dtype", "device"}
    config.model.sharding = "fsdp2"
    assert applying(asdict(config))["model"]["sharding"] == "fsdp2"


def test_settings_that_differ_are_named_one_by_one() -> None:
    one, other = {"name": "a", "entropy": 0.0, "discount": 0.9}, {"name": "a", "discount": 0.9}
    assert merged([one, one]) == one
    assert merged([one, other]) == {
        "name": "a", "entropy": {"differs": [0.0, "none"]}, "discount": 0.9
    }  # fmt: skip
    assert merged([one, {"name": "b"}]) == {"differs": [one, {"name": "b"}]}
