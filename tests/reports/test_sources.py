"""What the page's numbers are made of: seeds that weigh the same, recorded probabilities, whose
move comes first, and a reason wherever there is no interval."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from comity.reports.build import build
from comity.reports.loading.decisions import NO_STATE, DecisionTable, read_training
from comity.reports.loading.folders import collect
from comity.reports.page.captions import caption, estimates
from comity.reports.summary.estimates import (
    CERTAIN,
    LISTED,
    SAME_PROBABILITY,
    conditional,
    cooperation,
    estimate,
    illegal,
)
from comity.reports.summary.moral import action_shares
from comity.reports.summary.summary import joint_outcomes, summarize
from tests.reports import synthetic, synthetic_split

C, D, ILLEGAL = 0, 1, -1


def table(rows: list[dict[str, Any]]) -> DecisionTable:
    """Decisions; what a row leaves out is that of a trained, legal first choice."""
    plain: dict[str, Any] = {
        "seed": 0, "match": 0, "group": 0, "seat": 0, "round": 0, "choice": True, "answer": True,
        "player": "learner", "trained": True, "move": C, "payoff": 0.0, "reward": 0.0,
        "first": False, "own_last": NO_STATE, "other_last": NO_STATE, "opponent": "",
        "normalized_reward": np.nan, "p_cooperate": np.nan, "deterministic": False,
        "scripted": False, "withheld": False,
    }  # fmt: skip
    whole = [{**plain, "played": row.get("move", C), **row} for row in rows]
    return DecisionTable(**{key: np.array([row[key] for row in whole]) for key in whole[0]})


def one_round(match: int, seat: int, own: int, other: int) -> list[dict[str, Any]]:
    """The learner on `seat` and a script on the other."""
    return [
        {"match": match, "group": match, "seat": seat, "move": own},
        {"match": match, "group": match, "seat": 1 - seat, "move": other, "trained": False,
         "player": "script"},
    ]  # fmt: skip


def test_joint_outcomes_have_the_policys_move_first_whichever_seat_it_had() -> None:
    """An always-cooperator against always-defect is exploited, and never exploits."""
    found = joint_outcomes(
        table([row for k in range(4) for row in one_round(k, seat=k % 2, own=C, other=D)])
    )
    assert found == {"CC": 0.0, "CD": 1.0, "DC": 0.0, "DD": 0.0, "illegal": 0.0}


def test_where_a_policy_meets_itself_seat_0_comes_first() -> None:
    rows = [{"seat": 0, "move": C}, {"seat": 1, "move": D}]
    assert joint_outcomes(table(rows))["CD"] == 1.0
    # Another learner's matches are not this policy's.
    other = [{**row, "match": 1, "trained": False} for row in rows]
    assert joint_outcomes(table([*one_round(0, 1, own=C, other=C), *other]))["CC"] == 1.0


def test_seeds_weigh_the_same_in_every_ratio() -> None:
    """One seed cooperated in 8 of 8 decisions, the other in 0 of 160."""
    rows = [{"seed": 0, "match": k, "group": k} for k in range(8)]
    rows += [{"seed": 1, "match": k, "group": k, "move": D} for k in range(160)]
    shown = [{**row, "own_last": C, "other_last": C} for row in rows]
    for measure in (cooperation, conditional("CC")):
        found = estimate(table(shown), measure)
        assert (found["mean"], found["n"], found["units"], found["over"]) == (0.5, 168, 2, "seeds")


def test_seeds_weigh_the_same_in_shares_and_statistics_of_negotiation(tmp_path: Path) -> None:
    """The second seed has many more matches; numbers are the mean of both seeds' own."""
    runs = [
        synthetic.run(tmp_path / f"seed-{seed}", "own", seed, iterations=2, matches=matches)
        for seed, matches in ((0, 2), (1, 12))
    ]
    for run in runs:
        text = (run / "config.yaml").read_text().replace("matches: 12", "matches: 2")
        (run / "config.yaml").write_text(text)
    both, apart = summarize(collect(runs)), [summarize(collect([run])) for run in runs]
    for name in ("CC", "CD", "DC", "DD", "illegal"):
        mean = np.mean([one["outcomes"]["ipd"][name] for one in apart], axis=0)
        assert both["outcomes"]["ipd"][name] == pytest.approx(list(mean), abs=2e-6)
    for name in ("C|C", "C|D", "D|C", "D|D", "illegal"):
        mean = np.mean([one["moral"]["ipd"]["action_types"][name] for one in apart], axis=0)
        assert both["moral"]["ipd"]["action_types"][name] == pytest.approx(list(mean), abs=2e-6)
    split = [
        synthetic_split.run(tmp_path / f"split-{seed}", seed, iterations=1, matches=matches)
        for seed, matches in ((0, 4), (1, 24))
    ]
    for run in split:
        text = (run / "config.yaml").read_text().replace("matches: 24", "matches: 4")
        (run / "config.yaml").write_text(text)
    whole, parts = summarize(collect(split)), [summarize(collect([run])) for run in split]

    def last(summary: dict[str, Any]) -> dict[str, Any]:
        return summary["negotiation"]["policies"]["tas_rps"]["last"]

    for name, one in last(whole).items():
        own = [last(part)[name]["mean"] for part in parts if last(part)[name]]
        if one is not None:
            assert one["mean"] == pytest.approx(np.mean(own), abs=2e-6), name


def test_recorded_probabilities_count_where_all_choices_were_scored() -> None:
    """Eight answers, six of them C, of a policy that cooperates with probability 0.4."""
    rows = [{"match": k, "group": k, "move": int(k > 5), "p_cooperate": 0.4} for k in range(8)]
    rows = [{**row, "own_last": C, "other_last": D} for row in rows]
    for measure in (cooperation, conditional("CD")):
        found = estimate(table(rows), measure)
        assert (found["mean"], found["n"], found["of"]) == (0.4, 8, "probabilities")
        assert (found["low"], found["reason"]) == (None, SAME_PROBABILITY)
    assert action_shares(table(rows)) == {
        "C|C": 0.0, "C|D": 0.4, "D|C": 0.0, "D|D": 0.6, "illegal": 0.0
    }  # fmt: skip
    # One was written freely: then all count as they were given.
    free = estimate(table([{**rows[0], "p_cooperate": np.nan}, *rows[1:]]), cooperation)
    assert (free["mean"], free["of"]) == (0.75, "answers") and free["low"] < free["high"]


def test_equal_probabilities_at_an_end_are_not_exact() -> None:
    """Three seeds whose recorded probability is 1 are rounded alike; a fourth may not be."""
    rows = [{"seed": k, "p_cooperate": 1.0} for k in range(3)]
    assert estimate(table(rows), cooperation)["low"] == pytest.approx(0.2924, abs=1e-4)
    # A script's probabilities are not rounded.
    found = estimate(table([{**row, "scripted": True} for row in rows]), cooperation)
    assert (found["mean"], found["low"], found["reason"]) == (1.0, None, SAME_PROBABILITY)


def test_answers_from_a_list_are_never_illegal() -> None:
    scored = [{"match": k, "group": k, "p_cooperate": 0.4} for k in range(3)]
    found = estimate(table(scored), illegal)
    assert (found["mean"], found["low"], found["reason"]) == (0.0, None, LISTED)
    free = estimate(table([{**row, "p_cooperate": np.nan} for row in scored]), illegal)
    assert (free["mean"], free["low"]) == (0.0, 0.0) and free["high"] > 0.5


def test_what_leaves_nothing_to_chance_is_exact() -> None:
    found = estimate(table([{"deterministic": True, "match": k} for k in range(4)]), cooperation)
    assert (found["mean"], found["low"], found["reason"]) == (1.0, None, CERTAIN)


@pytest.mark.parametrize("attempts, move, scored", [(1, 0, True), (2, 0, False), (1, -1, False)])
def test_a_fallback_after_a_failed_attempt_is_not_scored(
    tmp_path: Path, attempts: int, move: int, scored: bool
) -> None:
    run = synthetic.run(tmp_path / "run", iterations=1, hostile=False)
    path = run / "decisions" / "000000.parquet"
    raw = pq.read_table(path)
    for name, value in (("attempts", attempts), ("move", move)):
        raw = raw.set_column(
            raw.schema.get_field_index(name), name, pa.array([value] * len(raw), pa.int64())
        )
    pq.write_table(raw, path)
    read = read_training(path, 0)
    chances = [one[0] for one in raw["probabilities"].to_pylist()]
    assert bool(np.isfinite(read.p_cooperate).all()) == scored
    if scored:
        np.testing.assert_allclose(read.p_cooperate, chances)


# ---- whole summaries -------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["free", "scored", "one seed", "split", "one match"])
def summary(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("whole") / "study"
    if request.param == "split":
        synthetic_split.study(folder)
    elif request.param == "one match":
        synthetic.run(folder, "utilitarian", iterations=2, matches=1, hostile=False)
    else:
        seeds = (0,) if request.param == "one seed" else (0, 1, 2)
        synthetic.study(folder, seeds=seeds, iterations=2, hostile=request.param == "free")
    yield json.loads(build([folder])[1].read_text())


def test_no_interval_is_without_width_or_without_a_reason(summary: dict[str, Any]) -> None:
    found = list(estimates(summary))
    assert len(found) > 10
    for one in found:
        assert one["over"] and one["units"] >= 1
        if one["low"] is None or one["high"] is None:
            assert one["low"] is one["high"] is None and one["reason"], one
        else:
            assert one["low"] < one["high"] and "reason" not in one, one
            assert one["low"] - 1e-6 <= one["mean"] <= one["high"] + 1e-6
            assert one["units"] > 1


def test_nothing_looks_like_an_estimate_and_is_none(summary: dict[str, Any]) -> None:
    """All ranges of the summary come from the one module: none is a least and a greatest."""

    def walk(value: Any) -> Iterator[dict[str, Any]]:
        if isinstance(value, dict):
            if {"low", "high", "mean"} <= set(value):
                yield value
            for inner in value.values():
                yield from walk(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from walk(inner)

    assert all("units" in one for one in walk(summary))


def test_captions_say_what_intervals_are_over() -> None:
    seeds = {"mean": 0.5, "low": 0.1, "high": 0.9, "n": 9, "units": 3, "over": "seeds"}
    matches = {**seeds, "units": 8, "over": "matches", "of": "answers"}
    alone = {**matches, "low": None, "high": None, "units": 1, "reason": "one match: why"}
    assert caption(seeds) == "Intervals are over 3 seeds."
    assert caption([seeds, {"a": {**seeds, "units": 2}}]) == "Intervals are over 2 to 3 seeds."
    text = caption(matches)
    assert text.startswith(
        "One seed: intervals are over its 8 matches; with one seed they describe "
    )
    assert text.endswith("Cooperation is the share of sampled answers.")
    assert "for a single seed, over its 8 matches" in caption(seeds, matches)
    assert "Without an interval: one match: why." in caption(alone)
    assert caption([None, {}]) == ""


def test_the_page_says_one_seed_in_words(tmp_path: Path) -> None:
    page = build([synthetic.run(tmp_path / "run", iterations=2, hostile=False)])[0].read_text()
    assert "One seed: intervals are over its" in page
    assert "describe this trained policy only" in page
    several = [
        synthetic.run(tmp_path / f"seed-{seed}", "own", seed, iterations=2) for seed in (0, 1, 2)
    ]
    page = build(several)[0].read_text()
    assert "Intervals are over 3 seeds" in page or "Intervals are over 2 to 3 seeds" in page
    assert "Cooperation is the share of sampled answers" in page


# ---- seeds at different checkpoints ------------------------------------------------------------


def test_seeds_that_came_to_different_iterations_are_compared_at_the_last_common_one(
    tmp_path: Path,
) -> None:
    runs = [synthetic.run(tmp_path / f"seed-{seed}", "own", seed) for seed in (0, 1)]
    for path in (runs[1] / "decisions").iterdir():
        if int(path.stem) > 1:
            path.unlink()
    summary = summarize(collect(runs))
    policy = summary["policies"]["ipd"]
    assert policy["last_iteration"] == {"0": 1, "1": 1}
    assert (
        "seed 0 to 3, 1 to 1" in policy["uneven"]
        and "the last that all have, 1" in policy["uneven"]
    )
    assert policy["payoff"]["mean"] == summary["learning"]["ipd"]["payoff"][1]["mean"]
    assert "Its seeds have come to different iterations" in build(runs)[0].read_text()
    shutil.rmtree(runs[1])
    again = summarize(collect(runs[:1]))["policies"]["ipd"]
    assert again["last_iteration"] == {"0": 3} and again["uneven"] == ""


# ---- key findings ------------------------------------------------------------------------------


def test_key_findings_compare_rows_of_one_source(tmp_path: Path) -> None:
    """Trained policies stand among the cross-play's players with what they got there."""
    study = synthetic.study(tmp_path / "study", iterations=2, hostile=False)
    page, numbers = build([study])
    summary = json.loads(numbers.read_text())
    findings = page.read_text().split('id="findings"')[1].split("</section>")[0]
    training, cross = findings.split("Cross-play, against all players")
    assert "Last iteration of training" in training
    for name in summary["crossplay"]:
        assert f'data-policy="{name}"' in cross
    own = summary["policies"]["own"]
    assert f"<b>{own['payoff']['mean']:.2f}</b>" in training
    assert f"<b>{own['crossplay']['payoff']['mean']:.2f}</b>" in cross


def test_the_worst_legal_answers_share_of_a_reward_is_said(tmp_path: Path) -> None:
    run = synthetic.run(tmp_path / "run", iterations=1, hostile=False)
    phase = {"first": 0, "reward": "deontological", "low": -6.0, "high": 0.0, "legal_low": -3.0}
    held = {"phases": [phase], "opponent": "itself", "payoff_blind": {}, "optimal_policies": [{}]}
    (run / "reference_policies.json").write_text(json.dumps(held))
    page, numbers = build([run])
    found = json.loads(numbers.read_text())["moral"]["ipd"]["phases"][0]
    assert found["legal_share"] == 0.5
    assert (
        "reward of the worst <em>legal</em> answer: 50\u202f% (deontological)" in page.read_text()
    )
