"""`comity population`: what is composed, refused and listed, and the commands of the docs."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from comity.cli import main
from comity.commands.listing import catalog
from comity.config.population import compose_population, load_population, split_words
from comity.config.presets.populations import BASELINES, LEARNERS, MAJORITIES, presets
from comity.config.yaml_files import to_yaml
from comity.errors import ComityError, pointed_at
from comity.experiments.populations import settings_of
from comity.games.matrix.iterated import Iterated
from comity.games.matrix.stages import MatrixStage
from comity.populations.composition import parse
from comity.populations.payoffs import GameTables
from comity.populations.settings import PAIR_GAME, PopulationSettings, dyad
from comity.populations.train import build_population
from comity.populations.types import FIXED_TYPES, LEARNER_TYPES, type_reward
from tests.cli.populations import (
    ROOT,
    trained,
)

pytestmark = pytest.mark.usefixtures("here")


def same_settings(one: PopulationSettings, other: PopulationSettings) -> None:
    for field in fields(PopulationSettings):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if field.name == "game":
            left, right = left.stage, right.stage
        assert left == right, field.name


def test_the_defaults_are_those_of_the_published_system() -> None:
    text = "1xUT_1xaUT_1xDE"
    config = compose_population([text])
    same_settings(settings_of(config), PopulationSettings(text))
    assert (config.iterations, config.runs, config.seed) == (30_000, 20, 1)


def test_a_dyad_has_the_defaults_of_the_forerunner() -> None:
    config = compose_population(["dyad", "agents=1xS_1xUT"])
    same_settings(settings_of(config), dyad("1xS_1xUT"))


@pytest.mark.parametrize(
    ("words", "name", "overrides"),
    [
        (["quick"], "quick", []),
        (["quick", "runs=3"], "quick", ["runs=3"]),
        (["1xUT_1xaUT"], "", ["agents=1xUT_1xaUT"]),
        (["2xLLM:S_2xLLM:UT"], "", ["agents=2xLLM:S_2xLLM:UT"]),
        (["1xS_1xLLM:run:a{b"], "", ['agents="1xS_1xLLM:run:a{b"']),
        (["1xS,1xUT"], "", ['agents="1xS,1xUT"']),
        (["agents=1xS_1xS", "types.VM.beta=0"], "", ["agents=1xS_1xS", "++types.VM.beta=0"]),
        ([], "", []),
    ],
)
def test_words(words: list[str], name: str, overrides: list[str]) -> None:
    assert split_words(words) == (name, overrides)


def test_a_stored_config_is_the_composed_one(here: Path) -> None:
    config = compose_population(["3xS_1xX", "types.X={name: peers, others: -1}", "game=chicken"])
    (here / "config.yaml").write_text(to_yaml(config))
    assert load_population(here / "config.yaml") == config


def test_types_of_ones_own_and_other_parameters() -> None:
    words = ["1xX_1xVM", "types.X={name: peers, own: 1, others: -1}", "types.VM.beta=0.2"]
    settings = settings_of(compose_population(words))
    rewards = [type_reward(one, settings.game, settings.rewards) for one in ("X", "VM")]
    tables = GameTables(settings.game, rewards)
    # [reward, seat 0, own shown C, other shown C, own answer, other answer]
    assert tables.rewards[0, 0, 0, 0, :2, :2].tolist() == [[0, -4], [4, 0]]
    equal = [[1, 0], [0, 1]]
    wanted = [[0.2 * equal[a][b] + 0.8 * (a == 0) for b in (0, 1)] for a in (0, 1)]
    assert np.allclose(tables.rewards[1, 0, 0, 0, :2, :2], wanted)


def test_the_sizes_apply_to_types_with_other_parameters() -> None:
    settings = settings_of(compose_population(["1xDE_1xVEk", "xi=3", "types.DE.other=1"]))
    rewards = [
        type_reward(one, settings.game, settings.rewards, settings.xi) for one in ("DE", "VEk")
    ]
    tables = GameTables(settings.game, rewards)
    # Against a partner that cooperated last, DE is punished by xi for defecting.
    assert tables.rewards[0, 0, 0, 0, :2, 0].tolist() == [1, -3]
    assert tables.rewards[1, 0, 0, 0, :2, 0].tolist() == [3, 0]


def test_several_types_at_once() -> None:
    config = compose_population(["1xX_1xY", "types={X: {name: own}, Y: {name: peers}}"])
    assert config.types == {"X": {"name": "own"}, "Y": {"name": "peers"}}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "name a composition"),
        (["dyad"], "name a composition"),
        (["quik"], "did you mean quick"),
        (["majority-s"], "did you mean majority-S"),
        (["1xUT_1xaUTT"], "unknown type 'aUTT'; did you mean aUT"),
        (["1xUT"], "at least two agents"),
        (["0xUT_2xS"], "count must be at least 1"),
        (["1xUT__1xS"], "expected COUNTxTYPE"),
        (["1xUT_xS"], "expected COUNTxTYPE"),
        (["1xUT_1x"], "expected a type"),
        (["3xS", "matching=fixed"], "even number of agents"),
        (["13xS", "learner=tabular"], "at most 11 partners"),
        (["2xS", "game=public_goods"], "two seats and two moves"),
        (["2xS", "game=ultimatum"], "matrix game"),
        (["2xS", "game=random_dilemma"], "fixed payoff table"),
        (["2xS", "game.noise=0.1"], "game.noise=0"),
        (["2xS", "game.length.rounds=3"], "leave it out"),
        (["2xDE", "types.DE.cooperate=swerve"], "type DE"),
        (["1xLLM:UT_1xS"], "model=smollm2-135m"),
        (["2xS", "runs=0"], "runs: 0 must be at least 1"),
        (["2xS", "deep_q.epsilon=1.5"], "deep_q.epsilon"),
        (["2xS", "deep_q.hiden=3"], "did you mean hidden"),
        (["2xS", "lr=3"], "deep_q.learning_rate or tabular.learning_rate"),
        (["2xS", "matching=randm"], "did you mean random"),
        (["2xS", "types.X=3"], "must be a reward"),
        (["2xS", "types.TFT={name: own}"], "fixed strategy"),
        (["1xX_1xS", "types.X={name: nowhere}"], "nowhere"),
        (
            ["1xX_1xS", "types.X={name: peers, others_weight: 1}"],
            "unknown parameter 'others_weight'",
        ),
        (["2xS", "sinks=[nowhere]"], "nowhere"),
    ],
)
def test_mistakes_are_refused_before_there_is_a_folder(
    words: list[str], says: str, here: Path
) -> None:
    with pytest.raises(ComityError, match=says):
        trained(*words, *(["iterations=1"] if words else []))
    assert not list(here.iterdir())


def test_a_caret_points_at_the_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["population", "1xUT_1xaUTT_1xDE"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("comity: composition: unknown type 'aUTT'; did you mean aUT")
    assert said[1:] == ["  1xUT_1xaUTT_1xDE", "         ^"]


def test_only_the_surroundings_of_a_place_are_shown() -> None:
    text = "1xS_" * 100 + "1xQ_" + "1xS_" * 100
    shown = pointed_at(f"wrong\n  {text}\n  {' ' * 402}^")
    assert shown[0] == "wrong" and shown[1][shown[2].index("^")] == "Q"
    assert max(map(len, shown)) <= 120
    assert pointed_at("a\nb\nc") == ["a\nb\nc"]


def test_the_majorities_are_the_published_ones() -> None:
    text = "8xS_1xUT_1xaUT_1xDE_1xmDE_1xVEe_1xVie_1xVEk_1xVagg"
    assert compose_population(["majority-S"]).agents == text
    for kind in MAJORITIES:
        members = parse(compose_population([f"majority-{kind}"]).agents).members
        counts = {one: members.count(one) for one in members}
        assert counts == {one: 8 if one == kind else 1 for one in MAJORITIES}


def test_the_dyads_are_the_published_ones() -> None:
    members = parse(compose_population(["dyads"]).agents).members
    pairs = [*zip(members[::2], members[1::2], strict=True)]
    learners = [pair for pair in pairs if pair[1] in LEARNERS]
    assert len(learners) == len({frozenset(pair) for pair in learners}) == 21
    others = {(one, other) for one in LEARNERS for other in BASELINES}
    assert {*pairs} - {*learners} == others and len(pairs) == 45


@pytest.mark.parametrize("name", presets())
def test_every_preset_can_be_built(name: str) -> None:
    words = [name, "runs=1", *(["agents=1xS_1xUT"] if name == "dyad" else [])]
    config = compose_population(words)
    assert config.name == name
    if "LLM:" not in config.agents:
        build_population(settings_of(config))


def test_presets_differ_as_they_say() -> None:
    assert compose_population(["dyads-decay"]).tabular.learning_rate_decay == 0.0005
    constant = compose_population(["dyads-constant"]).tabular
    assert (constant.epsilon, constant.epsilon_last) == (0.05, None)
    linear = compose_population(["dyads"]).tabular
    assert (linear.epsilon, linear.epsilon_last) == (1, 0)
    sweep = compose_population(["beta-sweep"])
    assert [one["beta"] for one in sweep.types.values()] == [0, 0.2, 0.4, 0.6, 0.8, 1]


@pytest.mark.parametrize(
    "ratio, both, sucker, temptation, neither",
    [("2_1", 3, 1, 4, 2), ("3_1", 4, 1, 5, 2), ("10_1", 11, 1, 12, 2), ("20_1", 21, 1, 22, 2)],
)
def test_the_benefit_to_cost_variants(
    ratio: str, both: float, sucker: float, temptation: float, neither: float
) -> None:
    game = settings_of(compose_population(["2xS", f"game=prisoners_dilemma_{ratio}"])).game
    assert isinstance(game, Iterated)
    cells = (((both, both), (sucker, temptation)), ((temptation, sucker), (neither, neither)))
    assert game.stage == MatrixStage("Prisoner's Dilemma", ("cooperate", "defect"), cells)
    if ratio == "2_1":
        assert game.stage == PAIR_GAME.stage


def test_what_is_listed() -> None:
    agents = catalog("agents")["agents"]
    assert {*LEARNER_TYPES, *FIXED_TYPES} <= {*agents}
    assert "sum over seats" in agents["UT"] and "copies" in agents["TFT"]
    assert {*catalog("populations")["populations"]} == {*presets()}


COMMANDS = sorted(
    {
        line
        for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), flags=re.M | re.S)
        for line in block.splitlines()
        if line.startswith("comity population ")
        and not re.search(r"--resume|--config-path|LLM:run|bush", line)
    }
)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_population_in_the_docs_can_be_composed(line: str) -> None:
    """Of a `--multirun` line, its first values."""
    words = shlex.split(line)[2:]
    words = [word for word in words if word != "--dry-run"]
    if "--multirun" in words:
        words.remove("--multirun")
        words = [re.sub(r"=([^,\[{]*),.*", r"=\1", word) for word in words]
    while options := [place for place, word in enumerate(words) if word.startswith("--")]:
        name = words.pop(options[0]).removeprefix("--")
        words.append(f"{name}={words.pop(options[0])}")
    config = compose_population(words)
    settings = settings_of(config)
    members = parse(settings.composition, settings.rewards).members
    for kind in {*parse(settings.composition, settings.rewards).types}:
        type_reward(kind, settings.game, settings.rewards)
    assert len(members) >= 2


def test_the_docs_hold_populations_to_check() -> None:
    assert len(COMMANDS) > 10
