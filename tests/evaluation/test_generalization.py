"""The whole evaluation with policies that are known, so that its numbers are."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from comity.evaluation.generalization import Measured, Subject, measure, work
from comity.evaluation.generalization_summary import summarize
from comity.evaluation.questions import OFF_TASK
from comity.reports.generalization import labels_verdict, render, verdict
from comity.reports.page import dump
from tests.evaluation.dilemmas import Judged
from tests.evaluation.fakes import Fake, base, plan, subjects, tit_for_tat

JUDGES = {key: Judged(key) for key in ("own", "utilitarian", "deontological")}


@pytest.fixture(scope="module")
def measured() -> Measured:
    return measure(plan(), subjects())


@pytest.fixture(scope="module")
def found(measured: Measured) -> dict[str, Any]:
    return summarize(plan(), subjects(), measured, JUDGES)


def test_the_estimate_of_the_work_is_what_is_done() -> None:
    done = []
    measure(plan(), subjects(), done.append)
    assert sum(done) == work(plan(), subjects())


def test_the_exact_table_has_every_way_of_telling(measured: Measured) -> None:
    rows = [r for r in measured.rows if r["policy"] == "wise" and r["framing"] == "structured"]
    assert len(rows) == 3 * 2 * 2 * 2 * 2 * 4  # games, labels, layouts, both orders, states
    assert {row["framing"] for row in measured.rows} >= set(OFF_TASK)
    assert {r["policy"] for r in measured.rows if r["persona"]} == {"base"}
    swapped = next(r for r in rows if r["labels"] == "action21")
    assert (swapped["label_cooperate"], swapped["label_defect"]) == ("action2", "action1")


def test_probabilities_and_legality(found: dict[str, Any]) -> None:
    assert found["table"]["base"]["IPD"]["action12"]["rows"]["CD"]["mean"] == pytest.approx(0.55)
    assert found["legality"]["base"]["IPD"]["legality"]["mean"] == pytest.approx(0.25)
    assert found["legality"]["base"]["IPD"]["legality_ended"]["mean"] == pytest.approx(0.125)
    assert found["table"]["tft"]["ICD"]["action21"]["rows"]["CD"]["mean"] == 0.0


def test_regret_is_that_of_the_null_row_with_the_same_policy(found: dict[str, Any]) -> None:
    for game, one in found["regret"]["utilitarian"]["tft"].items():
        null = found["null_regret"]["utilitarian"]["reciprocate"][game]
        assert one["legal"]["global"]["mean"] == pytest.approx(null["expected"]["global"])
        played = found["play"]["tft"][game]["strict"]["utilitarian"]["global"]
        assert played["mean"] == pytest.approx(null["drawn"]["global"])
    free = found["regret"]["deontological"]["base"]["IPD"]["all"]["deontological"]["mean"]
    assert free == pytest.approx(0.75 * 6 + 0.25 * 0.45 * 3 / 2)  # D with 0.45, C shown half


def test_only_who_looks_at_the_payoffs_beats_the_null_rows(found: dict[str, Any]) -> None:
    reading = found["payoff_reading"]["utilitarian"]
    assert {name: one["beats"] for name, one in reading.items()} == {
        "base": False, "tft": False, "wise": True
    }  # fmt: skip
    assert reading["wise"]["mean"]["mean"] == pytest.approx((1 / 12 + 2.5 / 14 + 4 / 14) / 3)
    assert found["sensitivity"]["tft"]["DD"]["mean"] == 0.0
    assert found["sensitivity"]["wise"]["DD"]["mean"] == 1.0
    assert "wise (on the utilitarian reward)" in verdict(found)
    assert "tft" not in verdict(found)
    assert labels_verdict(found) == ""


def test_nothing_is_claimed_of_one_game() -> None:
    alone = plan(games={"IPD": plan().games["IPD"]})
    one = summarize(alone, subjects(), measure(alone, subjects()), JUDGES)
    assert not any(p["beats"] for row in one["payoff_reading"].values() for p in row.values())
    assert "single game" in verdict(one)


def test_who_says_a_label_whatever_it_means_is_named() -> None:
    everyone = [
        *subjects(),
        Subject("parrot", Fake(lambda cell: 0.9 if cell.labels == "action12" else 0.2), 1),
        Subject("leaning", Fake(lambda cell: 0.9 if cell.labels == "action12" else 0.5), 1),
    ]
    found = summarize(plan(), everyone, measure(plan(), everyone), JUDGES)
    told = labels_verdict(found)
    assert told.endswith("exchange their meanings): parrot (0.90, exchanged 0.20).")
    page = render({"title": "", "created": "", "setting": {}, **found})
    assert told in page and verdict(found) in page
    assert labels_verdict({**found, "label_sets": ["action12", "random"]}) == ""


def test_base_and_trained_model_get_the_same_prompts() -> None:
    asked: list[str] = []
    shadowed: list[str] = []
    pair = [
        Subject("base", Fake(base, asked=shadowed)),
        Subject("tft", Fake(tit_for_tat, asked=asked), 1),
    ]
    measure(plan(), pair)
    assert shadowed[-len(asked) :] == asked


def test_readings_and_categories(found: dict[str, Any]) -> None:
    strict = found["play"]["base"]["IPD"]["strict"]["types"]
    lenient = found["play"]["base"]["IPD"]["lenient"]["types"]
    assert sum(strict.values()) == sum(lenient.values()) == 100
    assert strict["illegal"] > 50 and lenient["illegal"] == 0
    assert found["play"]["tft"]["IPD"]["strict"]["types"]["D|C"] == 0
    assert "base_same_prompts" in found["play"]["tft"]["IPD"]
    assert "base_same_prompts" not in found["play"]["base"]["IPD"]


def test_off_task_shares_add_up(found: dict[str, Any]) -> None:
    one = found["off_task"]["base"]["action_only"]
    assert one["C"]["mean"] + one["D"]["mean"] + one["other"]["mean"] == pytest.approx(1)
    assert one["other"]["mean"] == pytest.approx(0.75)


def test_change_from_the_base(found: dict[str, Any]) -> None:
    assert found["change"]["base"]["IPD"]["kl"]["mean"] == 0
    assert found["change"]["tft"]["IPD"]["kl"]["mean"] > 0.5
    assert found["change"]["tft"]["IPD"]["entropy"]["mean"] == 0


def test_the_numbers_are_json_and_the_page_shows_them(found: dict[str, Any]) -> None:
    described = {
        "title": "Generalization of <b>run</b>", "created": "now", "seconds": 1.0,
        "setting": {"episodes": 10}, **found,
    }  # fmt: skip
    assert json.loads(dump(described))["policies"] == ["base", "tft", "wise"]
    page = render(described)
    assert "<b>run</b>" not in page and "&lt;b&gt;run" in page
    assert "always D" in page and verdict(found) in page
    assert page.count("<script") == 1, "the page's own, which saves figures and tables"
    assert not re.search(r"(src|href)=\"(?!#|data:)", page)
    assert render(replace_personas(described)).count("persona") < page.count("persona")


def replace_personas(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "personas": {}}


def test_a_second_seat_sees_its_own_payoffs() -> None:
    swapped = [subjects()[0], replace(subjects()[1], seat=1)]
    one = measure(plan(), swapped)
    assert {row["seat"] for row in one.rows if row["policy"] == "tft"} == {1}
