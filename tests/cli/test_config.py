"""Configs compose as told, and every mistake is one line with the nearest known names."""

import copy
import dataclasses
from pathlib import Path

import pytest

import comity.configs
from comity.config.compose import arm_configs, compose, differences, from_plain, load_config
from comity.config.groups import options
from comity.config.presets import experiments
from comity.config.schema import Config
from comity.config.yaml_files import to_yaml
from comity.errors import ComityError
from comity.experiments.rules import check_training
from comity.games import GAMES, make_game
from comity.prompts import ANSWERS, PROMPTS
from comity.registry import build
from comity.rewards import REWARDS

MINE = """
# @package _global_
defaults:
  - config
  - override game: stag_hunt
  - _self_
name: mine
iterations: 3
game:
  length: {rounds: 4}
"""


@pytest.fixture
def my_folder(tmp_path: Path) -> str:
    (tmp_path / "mine.yaml").write_text(MINE)
    (tmp_path / "game").mkdir()
    (tmp_path / "game" / "my_game.yaml").write_text(
        "defaults: [_iterated, _self_]\nname: chicken\n"
    )
    return str(tmp_path)


def complaint(name: str, *overrides: str, config_dir: str | None = None) -> str:
    with pytest.raises(ComityError) as caught:
        compose(name, overrides, config_dir)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


# What composes


def test_the_defaults_of_an_experiment() -> None:
    config = compose("ipd")
    assert (config.name, config.seed, config.iterations, config.matches) == ("ipd", 0, 20, 8)
    assert config.model.name == "smollm2-135m"
    assert config.adapter.rank == 16
    assert config.game["name"] == "prisoners_dilemma"
    assert config.game["length"] == {"name": "fixed", "rounds": 10}
    assert config.reward["name"] == "own"
    assert config.seats == ["learner", "learner"]
    assert config.study is None
    assert config.composition.name == "ipd"


def test_groups_and_keys_are_overridden() -> None:
    config = compose(
        "ipd",
        [
            "reward=utilitarian",
            "game=stag_hunt",
            "game/length=geometric",
            "game.length.cap=5",
            "model=smollm2-135m",
            "prompt=memory_one",
            "seats=[learner,{name: random, p: 0.3}]",
            "optimizer.learning_rate=1e-5",
            "adapter.targets=[q_proj]",
        ],
    )
    assert config.reward["name"] == "utilitarian"
    assert config.game["name"] == "stag_hunt"
    law = {"name": "geometric", "continue_probability": 0.85, "cap": 5, "draw": "group"}
    assert config.game["length"] == law
    assert config.prompt["name"] == "memory_one"
    assert config.seats == ["learner", {"name": "random", "p": 0.3}]
    assert config.optimizer.learning_rate == 1e-5
    assert config.adapter.targets == ["q_proj"]


@pytest.mark.parametrize("name", options("experiment"))
def test_every_experiment_composes_and_survives_its_yaml(name: str, tmp_path: Path) -> None:
    config = compose(name, ["seed=4"])
    assert config.name == name
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "config.yaml") == config


def test_memory_one_has_twenty_decisions_an_update() -> None:
    config = compose("memory-one")
    assert config.matches * config.game["length"]["rounds"] * config.seats.count("learner") == 20
    assert config.game["initial_state"] == "uniform"
    assert config.adapter.rank == 64


NEEDED = {
    "matrix": ["game.moves=[left,right]", "game.payoffs=[[[1,1],[0,2]],[[2,0],[1,1]]]"],
    "weighted": ["reward.terms={own: 0.5}"],
}


@pytest.mark.parametrize(
    ("key", "known"),
    [("game", GAMES), ("prompt", PROMPTS), ("answer", ANSWERS), ("reward", REWARDS)],
)
def test_every_name_of_a_room_has_an_option_that_builds(key: str, known: dict[str, object]) -> None:
    built = set()
    for option, sentence in options(key).items():
        block = getattr(compose("ipd", [f"{key}={option}", *NEEDED.get(option, [])]), key)
        make_game(block) if key == "game" else build(key, block, known)  # type: ignore[type-var]
        built.add(block["name"])
        assert sentence.endswith("."), option
    assert built == set(known)


def test_lengths_build() -> None:
    for length in options("game/length"):
        make_game(compose("ipd", [f"game/length={length}"]).game)


def test_the_algorithms_option_says_the_classes_defaults() -> None:
    from comity.learning.algorithms import ALGORITHMS

    assert set(options("algorithm")) == set(ALGORITHMS)
    for name, kind in ALGORITHMS.items():
        assert build("algorithm", compose("ipd", [f"algorithm={name}"]).algorithm, ALGORITHMS) == (
            kind()
        )


def test_every_field_has_a_sentence() -> None:
    import ast
    import inspect

    from comity.config import compose as module

    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ClassDef):
            assert ast.get_docstring(node), node.name
            for field, after in zip(node.body, [*node.body[1:], None], strict=True):
                if isinstance(field, ast.AnnAssign):
                    assert isinstance(after, ast.Expr), f"{node.name}: {ast.unparse(field)}"


# A folder of the user's own


def test_a_users_file_builds_on_ours(my_folder: str) -> None:
    config = compose("mine", ["reward=utilitarian"], my_folder)
    assert (config.name, config.iterations) == ("mine", 3)
    assert config.game["name"] == "stag_hunt"
    assert config.game["length"] == {"name": "fixed", "rounds": 4}
    assert config.reward["name"] == "utilitarian"
    assert config.composition.config_dir == my_folder


def test_a_users_file_builds_on_our_experiments(my_folder: str) -> None:
    (Path(my_folder) / "longer.yaml").write_text(
        "defaults: [config, override experiment: memory-one, _self_]\niterations: 99\n"
    )
    config = compose("longer", (), my_folder)
    assert config.iterations == 99
    assert compose("longer", ["iterations=7"], my_folder).iterations == 7
    assert config.prompt["name"] == "memory_one"


def test_every_experiment_file_is_listed() -> None:
    folder = Path(comity.configs.__file__).parent / "experiment"
    files = {file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.yaml")}
    assert "robust/small/split-study" in files
    assert files <= set(experiments())


def test_a_users_group_stands_beside_ours(my_folder: str) -> None:
    assert compose("mine", ["game=my_game"], my_folder).game["name"] == "chicken"
    assert "my_game" in complaint("mine", "game=my_gam", config_dir=my_folder)


def test_mistakes_in_a_users_folder(my_folder: str) -> None:
    folder = Path(my_folder)
    assert "there is no config 'mein'" in complaint("mein", config_dir=my_folder)
    assert "/nowhere" in complaint("mine", config_dir="/nowhere")
    (folder / "bad.yaml").write_text("defaults: [config, _self_]\niteratons: 3\n")
    assert "unknown config key 'iteratons'; did you mean iterations" in complaint(
        "bad", config_dir=my_folder
    )
    (folder / "bad.yaml").write_text("defaults: [config, _self_]\nmatches: many\n")
    text = complaint("bad", config_dir=my_folder)
    assert "bad: matches: 'many' is not a whole number" in text and "no base config" not in text
    (folder / "bad.yaml").write_text("defaults: 5\nmatches: 4\n")
    complaint("bad", config_dir=my_folder)
    (folder / "bad.yaml").write_text("a: [\n")
    assert "bad.yaml" in complaint("bad", config_dir=my_folder)


@pytest.mark.parametrize(
    "text",
    [
        "matches: 4\n",
        "defaults:\nmatches: 4\n",
        "defaults: [override /model: smollm2-135m, _self_]\nmatches: 4\n",
    ],
)
def test_a_users_file_that_builds_on_nothing(my_folder: str, text: str) -> None:
    """As a copy of one of our experiments' files does."""
    (Path(my_folder) / "copy.yaml").write_text(text)
    assert "has no base config: begin its `defaults` with config" in complaint(
        "copy", config_dir=my_folder
    )


# Mistakes


def test_unknown_names() -> None:
    assert "unknown experiment 'ipdd'; did you mean ipd?" in complaint("ipdd")
    assert "unknown game 'stag_hnt'; did you mean stag_hunt?" in complaint("ipd", "game=stag_hnt")
    assert "unknown game/length 'geom'; did you mean geometric?" in complaint(
        "ipd", "game/length=geom"
    )
    assert "_iterated" not in complaint("ipd", "game=nosuch")


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("iteratons=3", "unknown config key 'iteratons'; did you mean iterations"),
        ("gmae=stag_hunt", "unknown config key 'gmae'; did you mean game"),
        (
            "model.nam=x",
            "unknown config key 'model.nam'; did you mean name? known: activation_checkpointing",
        ),
        ("game.nois=0.1", "unknown config key 'game.nois'; did you mean noise?"),
        ("+extra=1", "unknown config key 'extra'"),
        ("+model.extra=1", "unknown config key 'model.extra'"),
    ],
)
def test_unknown_keys(override: str, text: str) -> None:
    assert text in complaint("ipd", override)


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("iterations=many", "iterations: 'many' is not a whole number"),
        ("adapter.rank=1.5", "adapter.rank: '1.5' is not a whole number"),
        ("temperature=hot", "temperature: 'hot' is not a number"),
        ("seats=null", "seats: "),
        ("model=null", "needs the name of an option"),
        ("iterations=0", "iterations: 0 must be at least 1"),
        ("temperature=0", "temperature: 0.0 must be above 0"),
        ("temperature=nan", "temperature: nan must be above 0"),
        ("adapter.dropout=1", "adapter.dropout: 1.0 must be below 1"),
        ("model.threads=0", "model.threads: 0 must be at least 1"),
        ("group_size=3", "group_size: 3 does not divide matches = 8"),
        ("seats=[]", "seats is empty"),
        ("~game", "game: needs a name"),
        ("seed=???", "seed is required; set it with seed=VALUE"),
        ("reward=weighted", "reward.terms is required"),
        ("seed=${nope}", "seed: Interpolation key 'nope' not found"),
        ("seed", "cannot parse the override 'seed'; write key=value"),
        ("seats=[a", "cannot parse the override 'seats=[a'"),
        ("seed=1,2", "--multirun"),
        ("seats=learner", "seats: must be a list; write 'seats=["),
        ("sinks=wandb", "sinks: must be a list"),
        ("record=3", "record: must be a block of settings"),
        ("optimizer=3", "needs the name of an option"),
        ("matches=[1]", "matches: '[1]' is not a whole number"),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate: 'fast' is not a number"),
        ("name=a/b", "'a/b' is not a valid folder name"),
        ("name=..", "'..' is not a valid folder name"),
        ("name=''", "'' is not a valid folder name"),
        ("study={arms: {own: [], Own: []}}", "differ in case only"),
        ("crossplay.matches=4", "crossplay.players is empty"),
        ("crossplay.player=[base]", "did you mean players? known: matches, players"),
        ("opponent_pool.every=3", "choose one first: opponent_pool=buffer"),
        ("study.sheep=[1]", "known: arms, seeds"),
        ("study.seed=[1]", "did you mean seeds"),
        ("study={seeds: [0], arms: {}}", "study.arms is empty"),
        ("study={seeds: [], arms: {own: []}}", "study.seeds is empty"),
        ("study={seeds: [3, 3], arms: {own: []}}", "study.seeds: 3 is given twice"),
        ("study={seeds: [0], arms: {own: [], Own: []}}", "'own' and 'Own' differ in case only"),
        ("study={seeds: [0], arms: {a/b: []}}", "'a/b' is not a valid folder name"),
    ],
)
def test_wrong_values(override: str, text: str) -> None:
    assert text in complaint("ipd", override)


def test_a_study_may_be_told_on_the_command_line() -> None:
    config = compose("ipd", ['study={seeds: [1], arms: {long: ["iterations=30"]}}'])
    assert arm_configs(config)["long"][1].iterations == 30
    # Key by key, too, in an experiment that has neither a study nor a cross-play.
    arms = 'study.arms={long: ["iterations=30"], short: []}'
    config = compose("ipd", ["study.seeds=[1]", arms, "crossplay.players=[base]"])
    assert {arm: list(seeds) for arm, seeds in arm_configs(config).items()} == {
        "long": [1],
        "short": [1],
    }
    assert config.crossplay is not None and config.crossplay.players == ["base"]
    assert "unknown config key 'study.seed'; did you mean seeds" in complaint(
        "ipd", 'study={seed: [1], arms: {long: ["iterations=30"]}}'
    )


# Studies


def test_arms_recompose_the_same_experiment() -> None:
    config = compose(
        "demo",
        [
            "iterations=3",
            "game=stag_hunt",
            "reward=utilitarian",
            "study.seeds=[0,7]",
        ],
    )
    arms = arm_configs(config)
    assert {arm: list(seeds) for arm, seeds in arms.items()} == {
        "own": [0, 7],
        "utilitarian": [0, 7],
    }
    for arm, seeds in arms.items():
        for seed, one in seeds.items():
            assert one.reward["name"] == arm, "an arm's override wins"
            assert one.seed == seed
            assert (one.iterations, one.game["name"]) == (3, "stag_hunt")
            assert one.study is None
            assert one.crossplay is None
            again = compose(one.composition.name, one.composition.overrides)
            assert again == one


def test_an_arm_that_does_not_compose_is_named() -> None:
    config = compose("demo", ["reward=weighted", "reward.terms={own: 1}"])
    with pytest.raises(ComityError, match=r"^arm 'own': unknown config key 'reward\.terms'"):
        arm_configs(config)


def test_an_arm_cannot_set_what_is_of_the_whole_study() -> None:
    for change in ("seed=3", "study.seeds=[5]", "+crossplay.matches=2", "output=elsewhere"):
        config = compose("ipd", [f"study={{seeds: [1], arms: {{a: ['{change}']}}}}"])
        with pytest.raises(ComityError, match=r"^arm 'a': .* is of the whole study"):
            arm_configs(config)


def test_arms_of_a_config_that_was_changed_by_hand_are_refused() -> None:
    config = dataclasses.replace(compose("demo"), iterations=2)
    with pytest.raises(ComityError, match="composing 'demo' again changes iterations;"):
        arm_configs(config)


def test_arms_of_a_file_that_was_changed_since_are_refused(tmp_path: Path) -> None:
    text = "defaults: [config, override experiment: demo, _self_]\n"
    (tmp_path / "mine.yaml").write_text(text)
    config = compose("mine", (), str(tmp_path))
    assert set(arm_configs(config)) == {"own", "utilitarian"}
    (tmp_path / "mine.yaml").write_text(text + "matches: 4\n")
    with pytest.raises(ComityError, match="composing 'demo' again changes matches;"):
        arm_configs(config)


def test_a_config_without_a_study_has_no_arms() -> None:
    with pytest.raises(ComityError, match="has no study"):
        arm_configs(Config())


def test_a_composition_leaves_no_trace_in_the_presets() -> None:
    """Hydra's copies of itself share their store."""
    name = "moral/small/game-vs-tit-for-tat"
    before = compose(name)
    changed = compose(name, ["matches=3", "game.length.rounds=2", "optimizer.learning_rate=0.5"])
    assert changed.matches == 3 != before.matches
    assert differences(compose(name), before) == []


def test_a_config_shares_nothing_with_the_values_that_it_was_read_from() -> None:
    tree = dataclasses.asdict(compose("ipd"))
    before = copy.deepcopy(tree)
    config = from_plain(tree, "here")
    config.game["length"]["rounds"] = 99
    config.seats.append("random")
    assert tree == before


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
@pytest.mark.parametrize(
    "key", ["temperature", "optimizer.learning_rate", "adapter.alpha", "reward.illegal"]
)
def test_numbers_that_are_not_finite_are_refused(key: str, value: str) -> None:
    with pytest.raises(ComityError):
        check_training(compose("ipd", [f"{key}={value}"]))
