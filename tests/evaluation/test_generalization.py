"""The whole evaluation with policies that are known, so that its numbers are."""

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from comity.evaluation.generalization.exact_answers import estimate
from comity.evaluation.generalization.measurement import Measurement, measure, question_count
from comity.evaluation.generalization.plan import Subject, with_base_seats
from comity.evaluation.generalization.questions import OFF_TASK, structured_prompt
from comity.evaluation.generalization.summary import summarize
from comity.players.scripted.catalog import MATRIX_STRATEGIES
from comity.registry import build
from comity.reports.page.generalization_page import _reciprocity, labels_verdict, render, verdict
from comity.reports.page.run_page import dump
from tests.evaluation.dilemmas import GAMES, Judged
from tests.evaluation.fakes import Fake, base, plan, subjects, tit_for_tat

JUDGES = {key: Judged(key) for key in ("own", "utilitarian", "deontological")}


@pytest.fixture(scope="module")
def measured() -> Measurement:
    return measure(plan(), subjects())


@pytest.fixture(scope="module")
def found(measured: Measurement) -> dict[str, Any]:
    return summarize(plan(), subjects(), measured, JUDGES)


def test_the_estimate_of_the_work_is_what_is_done() -> None:
    done = []
    measure(plan(), subjects(), done.append)
    assert sum(done) == question_count(plan(), subjects())


def test_the_exact_table_has_every_way_of_telling(measured: Measurement) -> None:
    rows = [r for r in measured.rows if r["policy"] == "wise" and r["framing"] == "structured"]
    assert len(rows) == 3 * 2 * 2 * 2 * 2 * 4  # games, labels, layouts, both orders, states
    assert {row["framing"] for row in measured.rows} >= set(OFF_TASK)
    assert {r["policy"] for r in measured.rows if r["persona"]} == {"base"}
    swapped = next(r for r in rows if r["labels"] == "action21")
    assert (swapped["label_cooperate"], swapped["label_defect"]) == ("action2", "action1")


def test_probabilities_and_legality(found: dict[str, Any]) -> None:
    assert found["policy_tables"]["base"]["IPD"]["action12"]["rows"]["CD"]["mean"] == pytest.approx(
        0.55
    )
    assert found["p_legal"]["base"]["IPD"]["p_legal"]["mean"] == pytest.approx(0.25)
    assert found["p_legal"]["base"]["IPD"]["p_legal_then_end"]["mean"] == pytest.approx(0.125)
    assert found["policy_tables"]["tft"]["ICD"]["action21"]["rows"]["CD"]["mean"] == 0.0


def test_regret_is_that_of_the_null_row_with_the_same_policy(found: dict[str, Any]) -> None:
    for game, one in found["regret"]["utilitarian"]["tft"].items():
        null = found["payoff_blind_regret"]["utilitarian"]["reciprocate"][game]
        assert one["legal"]["global"]["mean"] == pytest.approx(null["expected"]["global"])
        played = found["play"]["tft"][game]["strict"]["utilitarian"]["global"]
        assert played["mean"] == pytest.approx(null["drawn"]["global"])
    free = found["regret"]["deontological"]["base"]["IPD"]["all"]["deontological"]["mean"]
    assert free == pytest.approx(0.75 * 6 + 0.25 * 0.45 * 3 / 2)  # D with 0.45, C shown half


def test_only_who_looks_at_the_payoffs_beats_the_null_rows(found: dict[str, Any]) -> None:
    reading = found["payoff_sensitivity_test"]["utilitarian"]
    assert {name: one["below_all"] for name, one in reading.items()} == {
        "base": False, "tft": False, "wise": True
    }  # fmt: skip
    assert reading["wise"]["mean"]["mean"] == pytest.approx((1 / 12 + 2.5 / 14 + 4 / 14) / 3)
    assert found["payoff_sensitivity"]["tft"]["DD"]["mean"] == 0.0
    assert found["payoff_sensitivity"]["wise"]["DD"]["mean"] == 1.0
    assert "wise (on the utilitarian reward)" in verdict(found)
    assert "tft" not in verdict(found)
    assert labels_verdict(found) == ""


def test_nothing_is_claimed_of_one_game() -> None:
    alone = plan(games={"IPD": plan().games["IPD"]})
    one = summarize(alone, subjects(), measure(alone, subjects()), JUDGES)
    assert not any(
        p["below_all"] for row in one["payoff_sensitivity_test"].values() for p in row.values()
    )
    assert "single game" in verdict(one)


def test_who_says_a_label_whatever_it_means_is_named() -> None:
    people = [
        *subjects(),
        Subject("parrot", Fake(lambda cell: 0.9 if cell.labels == "action12" else 0.2), 1),
        Subject("leaning", Fake(lambda cell: 0.9 if cell.labels == "action12" else 0.5), 1),
    ]
    found = summarize(plan(), people, measure(plan(), people), JUDGES)
    told = labels_verdict(found)
    assert told.endswith("swap meanings): parrot (0.90, exchanged 0.20).")
    page = render({"title": "", "created": "", "setting": {}, **found})
    assert told in page and verdict(found) in page
    other = plan(label_sets=("action12", "random"))
    assert labels_verdict(summarize(other, people, measure(other, people), JUDGES)) == ""
    # Seeds that disagree on the direction are no finding, however far they move on average.
    torn = [
        subjects()[0],
        *(
            Subject(
                "torn", Fake(lambda cell, up=up: up if cell.labels == "action12" else 0.0), seed
            )
            for seed, up in enumerate((1.0, 1.0, 0.0))
        ),
    ]
    found = summarize(plan(), torn, measure(plan(), torn), JUDGES)
    assert found["label_exchange"]["torn"]["difference"]["mean"] == pytest.approx(2 / 3)
    assert labels_verdict(found) == ""


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
    strict = found["play"]["base"]["IPD"]["strict"]["action_types"]
    lenient = found["play"]["base"]["IPD"]["lenient"]["action_types"]
    assert sum(strict.values()) == sum(lenient.values()) == 100
    assert strict["illegal"] > 50 and lenient["illegal"] == 0
    assert found["play"]["tft"]["IPD"]["strict"]["action_types"]["D|C"] == 0
    assert "base_same_prompts" in found["play"]["tft"]["IPD"]
    assert "base_same_prompts" not in found["play"]["base"]["IPD"]


def test_off_task_shares_add_up(found: dict[str, Any]) -> None:
    one = found["off_task"]["base"]["action_only"]
    assert one["C"]["mean"] + one["D"]["mean"] + one["other"]["mean"] == pytest.approx(1)
    assert one["other"]["mean"] == pytest.approx(0.75)


def test_change_from_the_base(found: dict[str, Any]) -> None:
    assert found["change_from_base"]["base"]["IPD"]["kl"]["mean"] == 0
    assert found["change_from_base"]["tft"]["IPD"]["kl"]["mean"] > 0.5
    assert found["change_from_base"]["tft"]["IPD"]["entropy"]["mean"] == 0


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


def test_questions_that_are_the_same_count_once() -> None:
    """A story mentions its labels in a fixed order, and shows the state; an off-task prompt not."""
    told = plan(prompt=structured_prompt, layouts=("original",))
    measured = measure(told, subjects())
    found = summarize(told, subjects(), measured, JUDGES)
    # 2 label sets, 2 orders of the answer; the 2 orders of mentioning make no difference.
    assert found["framings"]["tft"]["story"]["CC"]["n"] == 2 * 2
    assert found["framings"]["tft"]["prose"]["CC"]["n"] == 2 * 2 * 2
    assert found["off_task"]["tft"]["action_only"]["C"]["n"] == 2 * 2 * 2
    assert found["off_task"]["tft"]["action_game_state"]["C"]["n"] == 2 * 2 * 2 * 2
    rows = [r for r in measured.rows if r["policy"] == "tft" and r["training_seed"] == 1]
    assert len({r["question"] for r in rows}) < len(rows)
    # Counted several times or once, a mean over copies is the same; its interval would not be.
    twice = [("s", str(k), v) for k, v in enumerate([0.2, 0.4, 0.9])] * 5
    assert estimate(twice) == estimate(twice[:3])


def test_an_interval_is_over_seeds_and_one_policy_has_a_range() -> None:
    one = estimate([(1, "a", 0.2), (1, "b", 0.6)])
    assert one is not None and one["low"] is None and one["reason"]
    assert (one["mean"], one["min"], one["max"], one["n"]) == (pytest.approx(0.4), 0.2, 0.6, 2)
    three = estimate([(s, q, 0.1 * s + d) for s in (1, 2, 3) for q, d in (("a", 0.0), ("b", 0.4))])
    assert three is not None and (three["units"], three["over"], three["n"]) == (3, "seeds", 2)
    assert three["low"] < 0.4 < three["high"]
    assert three["high"] - three["low"] > 0.3, "t with 2 degrees of freedom: 4.3 * 0.1 / sqrt(3)"


def test_base_models_answer_from_every_seat_that_is_compared(measured: Measurement) -> None:
    assert {r["seat"] for r in measured.rows if r["policy"] == "base"} == {0, 1}
    assert [(s.name, s.seat) for s in with_base_seats(subjects())] == [
        ("base", 0), ("base", 1), ("tft", 0), ("tft", 0), ("wise", 1)
    ]  # fmt: skip
    # Somebody who answers by its seat, and a trained policy that is no different.
    by_seat = Fake(lambda cell: 0.3 + 0.4 * cell.seat)
    pair = [Subject("base", by_seat), Subject("copy", by_seat, 3, seat=1)]
    battle = plan(games={"BOS": GAMES["BOS"]}, dilemma="BOS", prompt=structured_prompt)
    found = summarize(battle, pair, measure(battle, pair), JUDGES)
    assert found["change_from_base"]["copy"]["BOS"]["kl"]["mean"] == 0
    own = found["payoff_sensitivity_test"]["own"]["copy"]
    assert own["payoff_blind"]["always_cooperate"] == pytest.approx(1 - 1 / 3), (
        "2 half the time, of 3"
    )
    regret = found["regret"]["own"]["copy"]["BOS"]["legal"]["legal"]["mean"]
    assert found["regret"]["own"]["base"]["BOS"]["legal"]["legal"]["mean"] == regret


def test_who_plays_a_null_policy_is_not_beaten_by_itself() -> None:
    """On either seat of a game whose seats differ, the null row and its player are the same."""
    battle = plan(games={"BOS": GAMES["BOS"], "IPD": GAMES["IPD"]})
    everyone_ = [
        subjects()[0],
        Subject("row", Fake(lambda cell: 1.0), 1, seat=0),
        Subject("column", Fake(lambda cell: 1.0), 1, seat=1),
    ]
    found = summarize(battle, everyone_, measure(battle, everyone_), JUDGES)
    for label, variant in found["reward_variants"].items():
        for name in variant["policies"][1:]:
            null = found["payoff_blind_regret"][label]["always_cooperate"]
            for game, one in found["regret"][label][name].items():
                for kind, value in null[game]["expected"].items():
                    assert one["legal"][kind]["mean"] == pytest.approx(value), (label, game, kind)
    assert len([label for label in found["reward_variants"] if label.startswith("own")]) == 2


def test_no_interval_over_seeds_leaves_what_is_possible() -> None:
    """Three seeds that nearly agree: regrets of legal answers end at the worst legal answer."""
    everyone_ = [
        subjects()[0],
        *(
            Subject("often", Fake(lambda cell, p=p: p), s, seat=0)
            for s, p in enumerate([0, 0.1, 0])
        ),
    ]
    one_game = plan(games={"IPD": GAMES["IPD"]})
    found = summarize(one_game, everyone_, measure(one_game, everyone_), JUDGES)
    variant = found["regret"]["deontological"]["often"]["IPD"]
    assert variant["legal"]["deontological"]["high"] <= 3.0
    assert variant["legal"]["reward"]["low"] >= -3.0
    assert found["change_from_base"]["often"]["IPD"]["kl"]["low"] >= 0.0


def test_other_opponents_answer_to_what_is_on_display() -> None:
    """Tit-for-tat repeats the legal move on display; grim never forgives the fictitious one."""
    strategies = {
        name: build("player", name, MATRIX_STRATEGIES) for name in ("tit_for_tat", "grim_trigger")
    }
    told = plan(opponents=strategies, play_framings=("prose", "action_only"))
    measured = measure(told, subjects())
    assert len(measured.played) == 5 * (3 * 3 + 2) * 2  # subjects with both seats of the base
    for played in measured.played:
        own, other = (a.reshape(10, 5) for a in (played.strict.own, played.strict.other))
        shown = played.strict.shown_own.reshape(10, 5)
        if played.setting.opponent == "tit_for_tat":
            assert (other == shown).all()
        if played.setting.opponent == "grim_trigger":
            assert (other == np.maximum.accumulate(shown, axis=1)).all()
        assert (shown[:, 1:] == np.where(own < 0, shown, own)[:, :-1]).all()
    found = summarize(told, subjects(), measured, JUDGES)
    rows = found["play_opponents"]["tit_for_tat"]["tft"]["IPD"]["strict"]
    assert rows["conduct"]["retaliation"]["mean"] == 1.0
    assert rows["conduct"]["unprovoked"]["mean"] == 0.0
    assert sum(rows["action_types"].values()) == 2 * 100
    assert set(found["play_framings"]) == {"prose", "action_only"}
    page = render({"title": "", "created": "", "setting": {}, **found})
    assert "grim_<wbr>trigger" in page and "prose" in page


def test_off_task_reciprocity_is_drawn_with_its_quarters(found: dict[str, Any]) -> None:
    page = render({"title": "", "created": "", "setting": {}, **found})
    shares = _reciprocity(found)
    assert shares["tft"] == {"C|C": 0.5, "C|D": 0.0, "D|C": 0.0, "D|D": 0.5, "illegal": 0.0}
    assert shares["base"]["illegal"] == pytest.approx(0.75)
    assert all(sum(row.values()) == pytest.approx(1) for row in shares.values())
    assert 'class="quarters"' in page
