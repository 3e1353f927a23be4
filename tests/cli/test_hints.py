"""What users of other libraries write, and what they are told to write here."""

from pathlib import Path

import pytest

from comity.cli import main
from comity.commands.plan import plan, runs_of
from comity.config.compose import compose
from comity.config.hints import SYNONYMS, elsewhere, is_key
from comity.errors import ComityError
from comity.experiments.rules import Rules


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("optimizer.lr=1e-4", "write optimizer.learning_rate"),
        ("lr=1e-4", "write optimizer.learning_rate"),
        ("learning_rate=1e-4", "write optimizer.learning_rate"),
        ("device=cuda", "write model.device"),
        ("dtype=bfloat16", "write model.dtype"),
        ("rank=8", "write adapter.rank"),
        ("gamma=0.9", "write algorithm.discount"),
        ("algorithm.gamma=0.9", "write algorithm.discount"),
        ("rounds=5", "write game.length.rounds"),
        ("game.rounds=5", "write game.length.rounds"),
        ("opponent=tit_for_tat", "write seats=[learner,tit_for_tat]"),
        ("reward.terms={own: 1}", "weighted has it"),
        ("algorithm.gae_lambda=0.9", "only algorithm=ppo has it"),
        ("algorithm=grpo", "algorithm=reinforce with a group baseline"),
        ("algorithm=rloo", "algorithm.baseline=leave_one_out"),
        ("algorithm=GRPO", "algorithm=reinforce with a group baseline"),
    ],
)
def test_a_setting_is_found_under_its_other_name(override: str, told: str) -> None:
    with pytest.raises(ComityError, match="unknown") as raised:
        compose("ipd", [override])
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["population", "-1xS_2xUT"], "No such option: -1; the count of an item must be at least"),
        (["train", "-zoo"], "No such option: -z (see comity train --help)"),
        (["play", "-q9"], "No such option: -q (see comity play --help)"),
        (["evaluate"], "Missing command (see comity evaluate --help)"),
    ],
)
def test_a_word_that_begins_like_an_option(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert told in capsys.readouterr().err


def test_what_hints_name_exists() -> None:
    """A hint that leads to another error is none."""
    for word, target in SYNONYMS.items():
        key, _, value = target.partition("=")
        block = key.partition(".")[0]
        assert is_key(key) or (block in ("algorithm", "game", "prompt", "answer")), word
        assert elsewhere(key) != f"write {target}", f"{word}: {target} leads back to itself"
        if value:
            compose("ipd", [target])
    for settings in (
        "group_size=8 algorithm.baseline=leave_one_out algorithm.ratio_clip=0.2 algorithm.epochs=2",
        "group_size=8 algorithm.baseline=leave_one_out algorithm.whiten=false",
        "algorithm.estimator=branches algorithm.alternatives=4",
    ):
        Rules.of(compose("ipd", settings.split()))


def test_a_game_of_more_seats_says_how_to_fill_them() -> None:
    with pytest.raises(ComityError, match=r"'seats=\[learner,learner,learner,learner\]'") as raised:
        Rules.of(compose("ipd", ["game=public_goods"]))
    seats = str(raised.value).partition("'")[2].rstrip("'")
    Rules.of(compose("ipd", ["game=public_goods", seats]))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("train ipd --iterations 5", "without dashes: iterations=5"),
        ("train ipd --iterations=5", "without dashes: iterations=5"),
        ("train ipd --learning-rate 1e-4", "optimizer.learning_rate=1e-4"),
        ("config ipd --device cpu", "model.device=cpu"),
        ("evaluate runs/mine", "write comity evaluate generalization runs/mine"),
        ("ipd", "write comity train ipd"),
        ("chicken", "write comity play chicken"),
        ("train ipd --nonsense", "No such option: --nonsense (see"),
    ],
)
def test_a_command_line_that_is_not_understood(
    arguments: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments.split()) == 2
    assert told in capsys.readouterr().err


def test_one_seed_of_a_study_is_a_list_too() -> None:
    with pytest.raises(ComityError, match=r"must be a list, as in 'study.seeds=\[0,1,2\]'"):
        compose("ipd", ["study.seeds=3"])


def test_a_run_before_a_cross_play_is_planned_as_it_is_trained() -> None:
    told = compose("ipd", ["crossplay={players: [learner, tit_for_tat]}"])
    lines = "\n".join(plan(told, measure=False))
    assert list(runs_of(told)) == ["ipd"] and "ipd, tit_for_tat" in lines


def test_seeds_make_a_study_of_any_experiment(tmp_path: Path) -> None:
    alone = compose("ipd", ["study.seeds=[0,1,2]"])
    assert alone.study is not None
    assert (alone.study.seeds, alone.study.arms) == ([0, 1, 2], {"ipd": []})
    many = compose("demo", ["study.seeds=[5]"])
    assert many.study is not None
    assert many.study.seeds == [5] and set(many.study.arms) == {"own", "utilitarian"}
    preset = compose("moral/small/utilitarian-vs-tit-for-tat", ["study.seeds=[3,4]"])
    assert preset.study is not None and len(preset.study.arms) == 1
    (tmp_path / "mine.yaml").write_text("defaults: [config, _self_]\nname: my own\n")
    mine = compose("mine", ["study.seeds=[1]"], str(tmp_path))
    assert mine.study is not None and mine.study.arms == {"my-own": []}
