"""Numbers of split games in the summary, counted again in plain Python."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from comity.evaluation.metrics import payoff, per_match
from comity.evaluation.negotiation.statistics import STATISTICS, measure
from comity.evaluation.statistics import mean_over_seeds
from comity.reports import build
from comity.reports.loading.folders import collect
from comity.reports.summary.negotiation import columns
from comity.reports.summary.summary import summarize
from comity.rollout.record_files import decision_table, read_decisions, write_table
from comity.rollout.records import Decision
from tests.reports import synthetic, synthetic_split


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("split")
    return [synthetic_split.run(folder / f"seed-{seed}", seed, iterations=3) for seed in (0, 1)]


@pytest.fixture(scope="module")
def summary(runs: list[Path]) -> dict[str, Any]:
    return summarize(collect(runs))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic_split.study(tmp_path_factory.mktemp("study") / "study")


def last(runs: Sequence[Path]) -> list[list[Decision]]:
    return [read_decisions(run / "decisions" / "000002.parquet") for run in runs]


def naive(
    groups: Sequence[list[Decision]], wanted: Callable[[Decision], bool], worth: Callable[..., Any]
) -> float:
    """Mean of `worth` over the decisions that are wanted; all seeds have equally many matches."""
    values = [worth(d) for group in groups for d in group if wanted(d)]
    return sum(values) / len(values)


def test_the_last_iteration_is_that_of_the_learners_own_answers(
    runs: list[Path], summary: dict[str, Any]
) -> None:
    found = summary["negotiation"]["policies"]["tas_rps"]["last"]
    groups = last(runs)

    def claim(d: Decision) -> bool:
        return d.kind == "claim" and d.player == "learner"

    def message(d: Decision) -> bool:
        return d.kind == "message" and d.player == "learner"

    for name, wanted, worth in (
        ("payoff", claim, lambda d: d.payoff),
        ("illegal_claims", claim, lambda d: d.move < 0),
        ("characters", message, lambda d: len(d.message_as_read)),
        ("tokens", message, lambda d: len(d.tokens)),
        ("empty_messages", message, lambda d: not d.message_as_read),
        ("illegal_messages", message, lambda d: d.move < 0),
        ("constrained", lambda d: d.player == "learner", lambda d: d.constrained),
        ("retries", lambda d: d.player == "learner", lambda d: d.attempts - 1),
        ("stock_claimed", lambda d: claim(d) and d.move >= 0, lambda d: d.claim[0] / 10),
    ):
        assert found[name]["mean"] == pytest.approx(naive(groups, wanted, worth), abs=1e-6), name
        assert found[name]["low"] <= found[name]["mean"] <= found[name]["high"]
        assert found[name]["n"] == 12, "matches"


def test_whole_rounds_count_where_a_learner_sat(runs: list[Path], summary: dict[str, Any]) -> None:
    found = summary["negotiation"]["policies"]["tas_rps"]["last"]
    for name in (
        "percent_of_max",
        "efficiency",
        "allocative_efficiency",
        "over_claimed",
        "imbalance",
    ):
        expected = mean_over_seeds(
            [per_match(group, measure(name)) for group in last(runs)], (0.0, 1.0)
        )
        assert expected is not None
        assert found[name]["mean"] == pytest.approx(expected.mean, abs=1e-6)
        assert found[name]["low"] == pytest.approx(expected.low, abs=2e-6)
        assert found[name]["high"] == pytest.approx(expected.high, abs=2e-6)
        assert (found[name]["units"], found[name]["over"]) == (2, "seeds")


def test_with_one_seed_matches_on_one_deal_are_one_unit(runs: list[Path], tmp_path: Path) -> None:
    """Two matches a group; of what all statistics share and of what is about splits."""
    run = tmp_path / "run"
    shutil.copytree(runs[0], run)
    before = summarize(collect([run]))
    for file in (run / "decisions").iterdir():
        grouped = [replace(d, group=d.match // 2) for d in read_decisions(file)]
        write_table(file, decision_table(grouped))
    after = summarize(collect([run]))
    for name, own, measured, bounds in (
        ("payoff", lambda found: found["policies"], payoff, (0.0, 100.0)),
        ("percent_of_max", lambda found: found["negotiation"]["policies"], None, (0.0, 1.0)),
    ):
        counts = per_match(
            [d for d in last([run])[0] if measured is None or d.player == "learner"],
            measured or measure(name),
        )
        for summary, units, over in (
            (before, counts, "matches"),
            (after, counts.reshape(3, 2, 2).sum(axis=1), "groups of matches"),
        ):
            expected = mean_over_seeds([units], bounds)
            one = own(summary)["tas_rps"]
            one = one.get("last", one)[name]
            assert expected is not None
            assert one["mean"] == pytest.approx(expected.mean, abs=1e-6)
            assert one["low"] == pytest.approx(expected.low, abs=2e-6)
            assert one["high"] == pytest.approx(expected.high, abs=2e-6)
            assert (one["units"], one["over"]) == (len(units), over)


def test_by_kind_of_opponent_and_by_seat(runs: list[Path], summary: dict[str, Any]) -> None:
    found = summary["negotiation"]["policies"]["tas_rps"]
    assert set(found["by_opponent"]) == {"live", "past"}
    groups = last(runs)
    met_past = [{d.match for d in group if d.controller == "past"} for group in groups]
    for kind in ("live", "past"):
        own = [
            d.payoff
            for group, matches in zip(groups, met_past, strict=True)
            for d in group
            if d.kind == "claim"
            and d.player == "learner"
            and (d.match in matches) == (kind == "past")
        ]
        one = found["by_opponent"][kind]["payoff"]
        assert one["mean"] == pytest.approx(sum(own) / len(own), abs=1e-6)
        assert one["n"] == 6
    assert set(found["by_seat"]) == {"0", "1"}
    assert found["by_seat"]["0"]["payoff"]["n"] == 12
    assert found["by_seat"]["1"]["payoff"]["n"] == 6, "a past self sat there in the others"


def test_curves_end_in_the_last_iteration(summary: dict[str, Any]) -> None:
    found = summary["negotiation"]["policies"]["tas_rps"]
    assert found["iteration"] == [0, 1, 2]
    for name, curve in found["curves"].items():
        assert curve[-1] == found["last"][name]
    assert found["curves"]["claim_lower"][0]["mean"] == 0.0
    assert found["curves"]["claim_lower"][-1]["mean"] == 10.0
    assert found["curves"]["claim_higher"][0]["mean"] == 10.0
    assert summary["learning"]["tas_rps"]["payoff"][-1]["mean"] == found["last"]["payoff"]["mean"]
    assert summary["learning"]["tas_rps"]["illegal"][-1]["mean"] > 0
    assert summary["policies"]["tas_rps"]["cooperation"] is None


def test_what_is_defined_and_what_is_not(summary: dict[str, Any], tmp_path: Path) -> None:
    section = summary["negotiation"]
    assert "agreement" not in section["definitions"], "claims are scaled down here"
    assert "claim_equal" not in section["definitions"], "never seen"
    for name, one in section["definitions"].items():
        assert one["text"] == STATISTICS[name].text
    assert section["items"] == ["coins"]
    exact = synthetic_split.run(tmp_path / "exact", iterations=2, messages=0, payment="exact")
    found = summarize(collect([exact]))["negotiation"]
    assert {"agreement", "points_on_agreement"} <= set(found["definitions"])
    assert not {"characters", "messages"} & set(found["definitions"])
    assert "characters" not in found["policies"]["tas_rps"]["curves"]


def test_runs_with_other_references_have_no_lines_in_common(tmp_path: Path) -> None:
    folders = [synthetic_split.run(tmp_path / str(s), s, iterations=1, matches=2) for s in (0, 1)]
    (folders[1] / "reference_policies.json").write_text('{"expected_payoffs": {}}')
    section = summarize(collect(folders))["negotiation"]
    assert section["expected_payoffs"] == {} and section["items"] == []
    assert columns(section)["expected_payoffs"] == {}
    assert columns({}) == {"expected_payoffs": {}}


def test_answers_that_were_not_learned_from_count(tmp_path: Path) -> None:
    run = synthetic_split.run(tmp_path / "run", iterations=1)
    path = run / "decisions" / "000000.parquet"
    decisions = read_decisions(path)
    before = summarize(collect([run]))
    for d in decisions:
        d.trained = d.trained and d.move >= 0 and not d.constrained
    write_table(path, decision_table(decisions))
    after = summarize(collect([run]))
    for key in ("negotiation", "learning", "policies"):
        assert after[key] == before[key]


def test_crossplay_of_scripts_and_learners(study: Path) -> None:
    found = summarize(collect([study]))
    rows = pq.read_table(study / "crossplay" / "decisions.parquet").to_pylist()
    for row, cells in found["crossplay"].items():
        for column, cell in cells.items():
            pair = [
                r
                for r in rows
                if r["kind"] == "claim"
                and sorted(r["pairing"].split("|")[:2]) == sorted([row, column])
            ]
            own = [r["payoff"] for r in pair if r["player"] == row]
            other = [r["payoff"] for r in pair if r["player"] == column]
            assert cell["payoff"]["mean"] == pytest.approx(sum(own) / len(own), abs=1e-6)
            if row == column:
                assert cell["margin"] is None
                continue
            margin = (sum(own) - sum(other)) / len(own)
            assert cell["margin"]["mean"] == pytest.approx(margin, abs=1e-6)
            assert cell["margin"]["n"] == len(own)
            mirrored = found["crossplay"][column][row]["margin"]
            assert mirrored["mean"] == pytest.approx(-cell["margin"]["mean"])
            if mirrored["low"] is None:
                assert mirrored["reason"] and cell["margin"]["low"] is None
            else:
                assert (mirrored["low"], mirrored["high"]) == (
                    pytest.approx(-cell["margin"]["high"]),
                    pytest.approx(-cell["margin"]["low"]),
                )
            together = found["negotiation"]["crossplay"]["percent_of_max"][row][column]
            best = sum(r["max_welfare"] for r in pair) / 2
            assert together["mean"] == pytest.approx((sum(own) + sum(other)) / best, abs=1e-6)
    # Two deals, each from either seat: what the scripts get is exact.
    cross = found["negotiation"]["crossplay"]["percent_of_max"]
    assert cross["cooperator"]["cooperator"]["mean"] == 1.0
    assert cross["greedy"]["greedy"]["mean"] == 0.55
    players = found["negotiation"]["crossplay"]["players"]
    assert players["greedy"]["stock_claimed"]["mean"] == 1.0
    assert players["cooperator"]["claim_lower"]["mean"] == 0.0


def test_the_margin_of_a_matrix_game(tmp_path: Path) -> None:
    study = synthetic.study(tmp_path / "study", seeds=(0,), iterations=1, hostile=False)
    found = summarize(collect([study]))
    assert found["negotiation"] == {}
    assert found["crossplay"]["always_defect"]["always_cooperate"]["margin"]["mean"] == 5.0
    assert found["crossplay"]["always_cooperate"]["always_defect"]["margin"]["mean"] == -5.0


def test_the_pages_numbers_are_in_the_summary(runs: list[Path]) -> None:
    page, numbers = build(runs)
    last = json.loads(numbers.read_text())["negotiation"]["policies"]["tas_rps"]["last"]
    text = page.read_text()
    for name in ("percent_of_max", "stock_claimed"):
        assert f"<b>{100 * last[name]['mean']:.0f}\u202f%</b>" in text
    assert f"<b>{last['characters']['mean']:.2f}</b>" in text
    for one in STATISTICS.values():
        if one.title in ("Payoff", "Imbalance", "Constrained answers"):
            assert one.text.replace("'", "&#39;") in text
