"""The evaluation asks a policy as it was trained: what it measures is what was played.

A run whose learning rate is 0 has the same policy at its end as in its records, and the records
hold the exact probability of every decision.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import comity.commands.generalization_plan
from comity.cli import main
from comity.commands.study import run_study
from comity.config.compose import compose
from comity.train import train
from tests.train.small import decisions, only_folder, overrides, small

FROZEN = ("iterations=1", "matches=24", "optimizer.learning_rate=0")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comity.commands.generalization_plan, "EPISODES", 2)


def evaluated(run: Path, *options: str) -> dict[str, Any]:
    """The numbers of a quick evaluation in one game."""
    games = [] if "--games" in options else ["--games", "prisoners_dilemma"]
    assert main(["evaluate", "generalization", str(run), "--quick", *games, *options]) == 0
    found: dict[str, Any] = json.loads((run / "generalization.json").read_text())
    return found


MEMORY_ONE = ["prompt=memory_one", "prompt.goal=none"]
CONVERSATION = ["prompt=conversation", "prompt.goal=Do what the other player would like."]
STRUCTURED = [
    *("prompt=structured", "prompt.labels=BA", "prompt.goal=neutral", "prompt.layout=rows"),
    *("prompt.mention_order=given", "prompt.answer_order=reversed"),
]


@pytest.mark.parametrize(
    ("prompt", "temperature"),
    [(MEMORY_ONE, 0.3), (CONVERSATION, 2.5), (STRUCTURED, 0.3), (STRUCTURED, 2.5)],
    ids=lambda given: given[0] if isinstance(given, list) else str(given),
)
def test_what_is_measured_is_what_was_played(
    prompt: list[str], temperature: float, tmp_path: Path
) -> None:
    """Every P(C | state) of the records, at any temperature and in any prompt."""
    quoted = [f"prompt.goal='{one.partition('=')[2]}'" if " " in one else one for one in prompt]
    train(small(tmp_path, *FROZEN, *quoted, f"temperature={temperature}"))
    run = only_folder(tmp_path)
    found = evaluated(run)
    recorded: dict[str, float] = {}
    for decision in decisions(run):
        assert decision.probabilities is not None
        state = "".join("CD"[move] for move in decision.state) or "start"
        recorded[state] = decision.probabilities[0]
    assert "start" in recorded and len(recorded) > 1
    table = found["as_trained"]["ipd"]["prisoners_dilemma"]
    for state, chance in recorded.items():
        assert table[state]["mean"] == pytest.approx(chance, abs=2e-4), state
    asked = found["conditions"]["ipd"]
    assert asked["temperature"] == temperature
    assert asked["prompt"]["name"] == prompt[0].partition("=")[2]
    wanted = next(one for one in prompt if one.startswith("prompt.goal")).partition("=")[2]
    assert asked["goal"] == wanted
    page = (run / "generalization.html").read_text()
    assert wanted in page and prompt[0].partition("=")[2] in page and f"{temperature:g}" in page


def test_temperature_moves_all_numbers_alike_and_can_be_chosen(tmp_path: Path) -> None:
    train(small(tmp_path, *FROZEN, "prompt=memory_one", "temperature=0.3"))
    run = only_folder(tmp_path)
    cold, warm = evaluated(run), evaluated(run, "--temperature", "1")
    assert warm["conditions"]["ipd"]["temperature"] == 1.0
    one, other = (
        found["policy_tables"]["ipd"]["prisoners_dilemma"]["action34"]["original"]["CC"]["mean"]
        for found in (cold, warm)
    )
    assert abs(one - 0.5) > abs(other - 0.5)


def test_the_base_is_asked_from_the_policys_own_seat(tmp_path: Path) -> None:
    """Two learners that are the base model: the seats of Bach or Stravinsky are not alike."""
    seats = "seats=[learner:one,learner:two]"
    train(small(tmp_path, *FROZEN, seats, "game=bach_or_stravinsky", "prompt=structured"))
    found = evaluated(only_folder(tmp_path), "--games", "bach_or_stravinsky")
    for name in ("ipd:one", "ipd:two"):
        assert found["change_from_base"][name]["bach_or_stravinsky"]["kl"]["mean"] == pytest.approx(
            0, abs=1e-9
        )
    tables = found["policy_tables"]
    assert tables["ipd:one"] != tables["ipd:two"], "the seats' payoffs differ"
    # A reward from each seat has null rows from that seat.
    own = [label for label, judge in found["reward_variants"].items() if judge["reward"] == "own"]
    assert len(own) == 2
    assert [found["reward_variants"][label]["seat"] for label in own] == [0, 1]
    rows = [
        found["payoff_blind_regret"][label]["always_cooperate"]["bach_or_stravinsky"]["expected"][
            "reward"
        ]
        for label in own
    ]
    assert rows == [1.5, 1.0], "3 or 2 half of the time"


def test_every_arm_is_scored_by_its_own_penalty_and_in_its_own_prompt(tmp_path: Path) -> None:
    arms = (
        "study={seeds: [0], arms: {mild: ['reward.penalty=1', 'reward.illegal=-3'], "
        "harsh: ['reward.penalty=9', 'temperature=0.5', 'prompt=conversation']}}"
    )
    options = [*overrides(tmp_path, "prompt=memory_one", "reward=deontological"), arms]
    folder = run_study(compose("ipd", [*options, "iterations=1", "checkpoint.every=1"]))
    found = evaluated(folder)
    assert found["bases"] == [
        "base (temperature 1.0, prompt memory_one)", "base (temperature 0.5, prompt conversation)"
    ]  # fmt: skip
    for arm, penalty in (("mild", 1), ("harsh", 9)):
        label = f"deontological ({arm})"
        assert set(found["regret"][label]) == {arm, found["conditions"][arm]["compared with"]}
        null = found["payoff_blind_regret"][label]["always_defect"]["prisoners_dilemma"]["expected"]
        assert null["deontological"] == penalty / 2
        assert found["conditions"][arm]["rewards"][-1]["penalty"] == penalty
    assert found["reward_variants"]["utilitarian (mild)"]["policies"][-1] == "mild"
    assert "own" not in found["reward_variants"], "R_ill differs, so nothing is scored alike"
    assert set(found["as_trained"]) == {*found["bases"], "mild", "harsh"}
    page = (folder / "generalization.html").read_text()
    assert "deontological (harsh)" in page


def test_a_run_of_phases_is_scored_by_the_last_ones_reward(tmp_path: Path) -> None:
    own, last = "{name: own}", "{name: deontological, penalty: 8, illegal: -2}"
    phases = f"phases=[{{reward: {own}, iterations: 1}}, {{reward: {last}, iterations: 1}}]"
    train(small(tmp_path, "prompt=memory_one", phases))
    run = only_folder(tmp_path)
    found = evaluated(run)
    assert [one["name"] for one in found["conditions"]["ipd"]["rewards"]] == [
        "own",
        "deontological",
    ]
    null = found["payoff_blind_regret"]["deontological"]["always_defect"]["prisoners_dilemma"]
    assert null["expected"]["deontological"] == 4.0
    assert "then deontological" in (run / "generalization.html").read_text()


@pytest.mark.slow
def test_a_quick_evaluation_spares_a_full_one(tmp_path: Path) -> None:
    train(small(tmp_path, "iterations=1", "prompt=memory_one"))
    run = only_folder(tmp_path)
    evaluated(run)
    numbers = run / "generalization.json"
    quick = json.loads(numbers.read_text())
    assert quick["extent"] == quick["setting"]["extent"] == "quick"
    full = json.dumps({**quick, "extent": "full"})
    for stored in (full, json.dumps({k: v for k, v in quick.items() if k != "extent"})):
        numbers.write_text(stored)
        before = {p: p.read_bytes() for p in run.glob("generalization.*")}
        arguments = ["--quick", "--games", "stag_hunt", "--seeds", "7"]
        assert main(["evaluate", "generalization", str(run), *arguments]) == 0
        assert {p: p.read_bytes() for p in run.glob("generalization.*")} == before
        other = json.loads((run / "generalization-quick.json").read_text())
        assert list(other["games"]) == ["stag_hunt"]
        for kind in ("html", "parquet"):
            assert (run / f"generalization-quick.{kind}").is_file()


@pytest.mark.slow
def test_everything_that_was_published_can_be_asked_by_the_command(tmp_path: Path) -> None:
    train(small(tmp_path, "iterations=1", "prompt=memory_one"))
    run = only_folder(tmp_path)
    options = [
        "--games", "prisoners_dilemma,prisoners_dilemma_4310", "--table", "mine=3,0,5,1",
        "--table", "unlike=3,3,0,4,5,0,1,2", "--seeds", "7", "--seats", "both",
        "--labels", "AB,BA,XY,01,10,XY_YX,reserved,random2,random7", "--layouts", "original,rows",
        "--opponents", "tit_for_tat,always_defect,random", "--framings", "prose,action_game_state",
        "--goal", "Pick what is best for both of you.", "--temperature", "0.7", "--penalty", "4",
    ]  # fmt: skip
    found = evaluated(run, *options)
    assert list(found["games"]) == ["prisoners_dilemma", "prisoners_dilemma_4310", "mine", "unlike"]
    assert found["games"]["unlike"]["max_joint_payoff"] == 6.0
    assert found["policies"] == ["base", "ipd", "ipd, other seat"]
    null = found["payoff_blind_regret"]["deontological"]["always_defect"]["mine"]
    assert null["expected"]["deontological"] == 2.0
    assert "--penalty 4" in found["provenance"]["command"]
    assert found["conditions"]["ipd"]["goal"] == "Pick what is best for both of you."
    rows = pq.read_table(run / "generalization.parquet").to_pylist()
    pairs = {r["labels"]: (r["label_cooperate"], r["label_defect"]) for r in rows}
    assert pairs["BA"] == ("B", "A") and pairs["reserved"] == ("⟦7⟧", "⟦8⟧")
    assert {len(pairs["random2"][0]), len(pairs["random7"][0])} == {2, 7}
    assert {(r["layout"], r["goal"]) for r in rows if r["persona"] == "utilitarian"} == {
        (layout, goal) for layout in ("original", "rows") for goal in ("selfish", "neutral")
    }
    # 5 rounds of 2 episodes; tit-for-tat does what was on display, always_defect defects.
    assert list(found["play_opponents"]) == ["tit_for_tat", "always_defect"]
    strict = found["play_opponents"]["always_defect"]["ipd"]["mine"]["strict"]
    assert sum(strict["action_types"].values()) == 10
    assert list(found["play_framings"]) == ["prose", "action_game_state"]
    page = (run / "generalization.html").read_text()
    assert "always_<wbr>defect" in page and "Retaliation" in page and "Reciprocity without" in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "AC"], "did you mean"),
        (["--layouts", "row"], "did you mean rows"),
        (["--opponents", "tit-for-tat"], "did you mean tit_for_tat"),
        (["--framings", "stori"], "did you mean story"),
        (["--games", "stag_hunt", "--framings", "story"], "contradicts the payoffs"),
        (["--games", "public_goods"], "two seats"),
        (["--table", "mine=1,2"], "NAME=CC,CD,DC,DD"),
        (["--table", "mine=1,2,3,nan"], "payoffs must be finite"),
        (["--goal", "selfsh"], "did you mean selfish"),
        (["--temperature", "0"], "above 0"),
        (["--seats", "all"], "own or both"),
        (["--penalty", "-1"], "must not be negative"),
    ],
)
def test_wrong_options(
    options: list[str],
    message: str,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path_factory.getbasetemp() / "refused"
    if not output.exists():
        train(small(output, "iterations=1", "prompt=memory_one"))
    assert main(["evaluate", "generalization", str(only_folder(output)), *options]) == 2
    assert message in capsys.readouterr().err
