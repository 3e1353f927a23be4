"""The numbers of the summary equal naive loops over the stored decisions."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

from comity.reports.build import build
from comity.reports.loading.folders import collect
from comity.reports.page import run_page
from comity.reports.summary.logged import further
from comity.reports.summary.summary import summarize
from tests.reports import synthetic, synthetic_split

Row = dict[str, Any]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.study(tmp_path_factory.mktemp("numbers") / "study")


@pytest.fixture(scope="module")
def summary(study: Path) -> dict[str, Any]:
    return summarize(collect([study]))


def rows(path: Path) -> list[Row]:
    return pq.read_table(path).to_pylist()


def seeds_last(study: Path, arm: str, iteration: int = 3) -> list[list[Row]]:
    """Trained decisions of an iteration, a list per seed."""
    paths = [study / arm / f"seed-{s}" / "decisions" / f"{iteration:06d}.parquet" for s in (0, 1)]
    return [[row for row in rows(path) if row["trained"]] for path in paths]


def ratio(groups: list[list[tuple[float, float]]]) -> tuple[float | None, int]:
    """Mean over seeds of their own ratios, and the sum of all denominators."""
    sums = [(sum(a for a, _ in group), sum(b for _, b in group)) for group in groups]
    ratios = [top / bottom for top, bottom in sums if bottom]
    mean = sum(ratios) / len(ratios) if ratios else None
    return mean, int(sum(bottom for _, bottom in sums))


def agrees(found: dict[str, Any] | None, expected: tuple[float | None, int]) -> None:
    mean, n = expected
    if mean is None:
        assert found is None
        return
    assert found is not None
    assert found["mean"] == pytest.approx(mean, abs=1e-6)
    assert found["n"] == n
    if found["low"] is None:
        assert found["high"] is None and found["reason"]
    else:
        assert found["low"] <= found["mean"] <= found["high"]
        assert found["low"] < found["high"]


def by_seed(decisions: list[Row]) -> list[list[Row]]:
    """Rows of a cross-play, a list per seed."""
    seeds = sorted({r["pairing"].split("|")[2] for r in decisions})
    return [[r for r in decisions if r["pairing"].endswith(f"|{seed}")] for seed in seeds]


@pytest.mark.parametrize("arm", ["own", "utilitarian"])
def test_cooperation_and_payoff_of_the_last_iteration(
    study: Path, summary: dict[str, Any], arm: str
) -> None:
    groups = seeds_last(study, arm)
    policy = summary["policies"][arm]
    legal = [[(float(r["move"] == 0), 1.0) for r in g if r["move"] >= 0] for g in groups]
    agrees(policy["cooperation"], ratio(legal))
    agrees(policy["payoff"], ratio([[(r["payoff"], 1.0) for r in g] for g in groups]))
    agrees(policy["illegal"], ratio([[(float(r["move"] < 0), 1.0) for r in g] for g in groups]))
    agrees(policy["per_seed"]["1"]["cooperation"], ratio(legal[1:]))
    assert policy["source"] == "last iteration"
    assert policy["seeds"] == [0, 1]


@pytest.mark.parametrize("arm", ["own", "utilitarian"])
@pytest.mark.parametrize(
    ("state", "shown"),
    [("start", []), ("CC", [0, 0]), ("CD", [0, 1]), ("DC", [1, 0]), ("DD", [1, 1])],
)
def test_conditional_cooperation(
    study: Path, summary: dict[str, Any], arm: str, state: str, shown: list[int]
) -> None:
    counted = [
        [(float(r["move"] == 0), 1.0) for r in g if r["state"] == shown and r["move"] >= 0]
        for g in seeds_last(study, arm)
    ]
    agrees(summary["policies"][arm]["conditional_cooperation"][state], ratio(counted))


def test_learning_curves_and_joint_outcomes_of_every_iteration(
    study: Path, summary: dict[str, Any]
) -> None:
    learning, outcomes = summary["learning"]["own"], summary["outcomes"]["own"]
    assert learning["iteration"] == outcomes["iteration"] == [0, 1, 2, 3]
    for iteration in range(4):
        groups = seeds_last(study, "own", iteration)
        paid = [[(r["payoff"], 1.0) for r in g] for g in groups]
        agrees(learning["payoff"][iteration], ratio(paid))
        assert learning["payoff"][iteration]["seeds"] == pytest.approx(
            {str(s): sum(x for x, _ in g) / len(g) for s, g in zip((0, 1), paid, strict=True)},
            abs=1e-6,
        )
        counts = dict.fromkeys(("CC", "CD", "DC", "DD", "illegal"), 0)
        for group in groups:
            for first in (r for r in group if r["seat"] == 0):
                second = next(
                    r
                    for r in group
                    if r["seat"] == 1 and all(r[k] == first[k] for k in ("match", "round"))
                )
                moves = first["move"], second["move"]
                counts["illegal" if min(moves) < 0 else "CD"[moves[0]] + "CD"[moves[1]]] += 1
        for name, count in counts.items():
            share = count / sum(counts.values())
            assert outcomes[name][iteration] == pytest.approx(share, abs=1e-6)


def test_metrics_are_averaged_over_seeds(study: Path, summary: dict[str, Any]) -> None:
    lines = [
        json.loads((study / "own" / f"seed-{s}" / "metrics.jsonl").read_text().splitlines()[2])
        for s in (0, 1)
    ]
    norms = [line["gradient_norm"] for line in lines]
    point = summary["learning"]["own"]["gradient_norm"][2]
    assert point["mean"] == pytest.approx(sum(norms) / 2, abs=1e-6)
    low, high = stats.t.interval(0.95, 1, loc=np.mean(norms), scale=stats.sem(norms))
    assert point["low"] == pytest.approx(max(low, 0.0), abs=2e-6)
    assert point["high"] == pytest.approx(high, abs=2e-6)
    assert (point["units"], point["over"]) == (2, "seeds")
    further = summary["learning"]["own"]["metrics"]
    assert further.keys() == {"retaliation"}, "what was never counted is no curve"
    values = [line["metrics"]["retaliation"] for line in lines]
    assert further["retaliation"][2]["mean"] == pytest.approx(sum(values) / 2, abs=1e-6)


def test_crossplay_cells_count_the_row_on_both_seats(study: Path, summary: dict[str, Any]) -> None:
    decisions = rows(study / "crossplay" / "decisions.parquet")
    for row, cells in summary["crossplay"].items():
        for column, cell in cells.items():
            own = [
                r
                for r in decisions
                if sorted(r["pairing"].split("|")[:2]) == sorted((row, column))
                and r["player"] == row
            ]
            seeds = by_seed(own)
            agrees(cell["payoff"], ratio([[(r["payoff"], 1.0) for r in one] for one in seeds]))
            legal = [[(float(r["move"] == 0), 1.0) for r in one if r["move"] >= 0] for one in seeds]
            agrees(cell["cooperation"], ratio(legal))
    assert len(summary["crossplay"]) == 6
    seats = {r["seat"] for r in decisions if r["pairing"] == "own|base|0" and r["player"] == "own"}
    assert seats == {0, 1}


def test_players_of_the_crossplay_alone_say_where_their_numbers_come_from(
    study: Path, summary: dict[str, Any]
) -> None:
    policy = summary["policies"]["tit_for_tat"]
    assert policy["source"] == "cross-play"
    decisions = rows(study / "crossplay" / "decisions.parquet")
    own = [r for r in decisions if r["player"] == "tit_for_tat"]
    against = []
    for seed in by_seed(own):
        met: dict[str, list[tuple[float, float]]] = {}
        for r in seed:
            pair = r["pairing"].split("|")[:2]
            other = pair[1] if pair[0] == "tit_for_tat" else pair[0]
            met.setdefault(other, []).append((float(r["move"] == 0), 1.0))
        against.append(ratio(list(met.values()))[0])
    mean = sum(against) / len(against)
    agrees(policy["cooperation"], (mean, len(own)))
    assert "crossplay" in summary["policies"]["own"]


def test_the_file_holds_no_nan_and_null_where_nothing_was_counted(tmp_path: Path) -> None:
    run = synthetic.run(tmp_path / "run", "utilitarian", iterations=1, rounds=1)
    _, path = build([run])

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in JSON")

    summary = json.loads(path.read_text(), parse_constant=refuse)
    conditional = summary["policies"]["ipd"]["conditional_cooperation"]
    assert conditional["DD"] is None
    assert conditional["start"]["n"] > 0


def test_a_crossplay_alone_has_a_report(tmp_path: Path) -> None:
    study = synthetic.study(tmp_path / "study", seeds=(0,), iterations=1)
    (study / "study.json").write_text('{"arms": {}}')
    _, path = build([study])
    summary = json.loads(path.read_text())
    assert summary["learning"] == {}
    assert {policy["source"] for policy in summary["policies"].values()} == {"cross-play"}


def test_each_of_two_learners_is_a_policy(tmp_path: Path) -> None:
    run = synthetic.run(tmp_path / "run", iterations=1)
    path = run / "decisions" / "000000.parquet"
    table = pq.read_table(path)
    names = ["learner:left" if seat == 0 else "learner:right" for seat in table["seat"].to_pylist()]
    index = table.schema.get_field_index("player")
    pq.write_table(table.set_column(index, "player", [names]), path)
    policies = summarize(collect([run]))["policies"]
    assert list(policies) == ["ipd:left", "ipd:right"]
    paid = [r["payoff"] for r in rows(path) if r["seat"] == 1]
    assert policies["ipd:right"]["payoff"]["mean"] == pytest.approx(sum(paid) / len(paid))


def test_curves_have_all_iterations_of_the_metrics(tmp_path: Path) -> None:
    """Where every tenth iteration is recorded, nine of ten points are in metrics.jsonl alone."""
    study = synthetic.study(tmp_path / "study", iterations=7, hostile=False)
    for run in study.glob("*/seed-*"):
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for line in lines:
            line |= {"cooperation": 0.5, "payoff": 2.0 + int(run.name[-1]), "illegal": 0.0}
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        for record in (run / "decisions").glob("*.parquet"):
            if int(record.stem) % 3:
                record.unlink()
    own = summarize(collect([study]))["learning"]["own"]
    assert own["iteration"] == list(range(7))
    for name in ("cooperation", "payoff", "illegal", "entropy"):
        assert len(own[name]) == 7 and all(own[name])
    measured = own["payoff"][1]
    assert measured["mean"] == 2.5 and measured["seeds"] == {"0": 2.0, "1": 3.0}
    assert measured["over"] == "seeds" and measured["low"] < 2.5 < measured["high"]
    assert own["payoff"][3].get("of") != "metrics", "recorded decisions stay the source"
    page = build([study])[0].read_text()
    assert "without decision records use metrics.jsonl" in page
    learned = run_page._captions(summarize(collect([study])))["learning"]
    assert "of scored answers, otherwise" not in learned, "one kind of answer was recorded"


def test_negotiations_have_iterations_of_the_metrics_too(tmp_path: Path) -> None:
    """Without cooperation, such points are all that the caption of the curves speaks of."""
    run = synthetic_split.run(tmp_path / "run", iterations=4, matches=4)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    text = "".join(json.dumps({**line, "payoff": 20.0}) + "\n" for line in lines)
    (run / "metrics.jsonl").write_text(text)
    for record in (run / "decisions").glob("*.parquet"):
        if int(record.stem) % 3:
            record.unlink()
    assert "without decision records use metrics.jsonl" in build([run])[0].read_text()


def test_a_share_over_few_seeds_has_no_interval_beyond_0_and_1() -> None:
    runs: list[Any] = [
        SimpleNamespace(metrics=[{"iteration": 0, "metrics": {"retaliation": v, "mine": v}}])
        for v in (0.8, 1.0, 1.0)
    ]
    found = further(runs, [0])["metrics"]
    assert 0.0 <= found["retaliation"][0]["low"] < found["retaliation"][0]["high"] <= 1.0
    assert found["mine"][0]["high"] > 1.0, "what a metric of the user's can be is not known"
