"""Every published cell of the studies is one command."""

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import product
from pathlib import Path

import pytest

from comity.commands.listing import catalog
from comity.commands.study import check_study
from comity.config.compose import arm_configs, compose
from comity.config.groups import options
from comity.config.presets import FIRST, experiments
from comity.config.presets.describe import MINUTES
from comity.config.presets.families import families
from comity.config.presets.moral import moral_cells
from comity.config.presets.negotiation import nodes
from comity.config.schema import Config
from comity.errors import ComityError
from comity.experiments.rules import Rules, check_training, phases
from comity.learning.ppo.objective import PpoSettings

ROOT = Path(__file__).parents[2]
CELLS = dict(moral_cells())
OPPONENTS = ("tit-for-tat", "random", "always-defect", "always-cooperate", "learner")
REGIMES = (
    "game",
    "deontological",
    "utilitarian",
    "game-deontological",
    "game-then-deontological",
    "game-then-utilitarian",
    "game-then-game",
)


def steps(config: Config) -> int:
    rules = Rules.of(config)
    assert isinstance(rules.algorithm, PpoSettings)
    return rules.algorithm.epochs * rules.algorithm.minibatches


def test_there_is_a_preset_for_every_cell_in_every_version() -> None:
    wanted = {
        f"moral/{version}{regime}-vs-{opponent}"
        for version in ("", "as-published/", "as-executed/", "small/")
        for regime in REGIMES
        for opponent in OPPONENTS
    }
    assert set(CELLS) == wanted
    assert wanted <= set(catalog("experiments")["experiments"])


@cache
def composed(name: str) -> Config:
    return compose(name)


def repeated(names: Iterable[str]) -> list[list[str]]:
    """The experiments whose configs are equal, apart from their names."""
    found: dict[str, list[str]] = {}
    for name in names:
        tree = dataclasses.asdict(composed(name))
        del tree["name"], tree["composition"]
        found.setdefault(json.dumps(tree, sort_keys=True), []).append(name)
    return [names for names in found.values() if len(names) > 1]


def check_sentence(name: str, sentence: str) -> None:
    """It ends with the experiment's model and says where a GPU is needed."""
    config = composed(name)
    group = ROOT / "comity/configs/model"
    (option,) = [
        file.stem
        for file in group.glob("*.yaml")
        if re.search(rf"^name: {re.escape(config.model.name)}$", file.read_text(), re.MULTILINE)
    ]
    needs = ", GPU" if "GPU" in options("model")[option] else ""
    end = re.search(r" ([\w.-]+?)(, GPU)?(, \d+ min on (one core|two cores))?\.$", sentence)
    assert end is not None, sentence
    assert (end[1], end[2] or "") == (option, needs), f"{name}: {sentence}"


@pytest.mark.slow
def test_no_two_experiments_are_one() -> None:
    """Apart from their names; those below small/ have one model, so none differs in it alone."""
    assert repeated(experiments()) == []
    for name, sentence in experiments().items():
        check_sentence(name, sentence)


def test_sentences_are_short_and_no_two_are_equal() -> None:
    """`comity list experiments WORD` says how each differs from its neighbours."""
    said = experiments()
    assert [name for name, sentence in said.items() if len(sentence) > 120] == []
    for study in ("moral", "robust", "myopic"):
        own = [sentence for name, sentence in said.items() if name.startswith(f"{study}/")]
        assert sorted({one for one in own if own.count(one) > 1}) == []


def test_measured_times_are_those_of_experiments() -> None:
    assert MINUTES.keys() <= experiments().keys()
    for name, minutes in MINUTES.items():
        assert experiments()[name].endswith(f", {minutes} min on two cores.")


def overview_names() -> Iterator[str]:
    """Every name that the overview stands for, read as a user reads it."""
    yield from FIRST
    for family in families():
        yield from family.files
        places = [place.split()[-1].removesuffix("NAME") for place in family.places]
        if set(family.parts) == {"REGIME", "OPPONENT"}:
            for place, regime, opponent in product(places, *family.parts.values()):
                yield f"{place}{regime}-vs-{opponent}"
            continue
        below = dict(zip("FSM", places, strict=True))
        for method, row in family.rows.items():
            for game, sizes in row.sizes.items():
                yield from (f"{below[size]}{game}_{method}" for size in sizes)
        for name, row in family.others.items():
            yield from (f"{below[size]}{name}" for size in row.sizes[""])


def test_the_overview_stands_for_every_experiment_once() -> None:
    names = list(overview_names())
    assert sorted(names) == sorted(experiments())


@pytest.mark.parametrize("name", [*CELLS, *(name for name, _ in nodes())])
def test_every_preset_can_be_trained(name: str) -> None:
    """Everything that needs no model is right about it."""
    config = composed(name)
    check_training(config)
    assert config.matches % config.group_size == 0
    assert config.name == name.replace("/", "-")


@pytest.mark.parametrize("opponent", OPPONENTS)
def test_published_hyperparameters(opponent: str) -> None:
    executed = compose(f"moral/as-executed/game-deontological-vs-{opponent}")
    assert executed.model.name == "google/gemma-2-2b-it"
    assert executed.model.quantization == "nf4"
    assert (executed.adapter.rank, executed.adapter.alpha, executed.adapter.dropout) == (
        64,
        32,
        0.05,
    )
    assert executed.optimizer.learning_rate == 1.41e-5
    assert executed.optimizer.gradient_clip is None
    assert executed.iterations == 1000
    rounds = 3 if opponent == "learner" else 5
    assert executed.matches * executed.game["length"]["rounds"] == rounds
    algorithm = executed.algorithm
    assert (algorithm["kl"], algorithm["kl_target"], algorithm["kl_horizon"]) == (0.2, 6.0, 10000.0)
    assert (algorithm["value_weight"], algorithm["clip"], algorithm["score_clip"]) == (
        0.1,
        0.2,
        None,
    )
    assert steps(executed) == 1
    assert executed.answer == {"name": "free", "max_tokens": 2, "train_illegal": True}
    corrected = compose(f"moral/game-deontological-vs-{opponent}")
    assert steps(corrected) == 4
    assert corrected.algorithm["kl_controller"] == "fixed"
    assert {"swap_labels", "layout"} <= set(Rules.of(corrected).prompt.random_parameters)


def test_the_published_rules_for_illegal_answers_of_opponents() -> None:
    rules = {
        regime: Rules.of(compose(f"moral/as-executed/{regime}-vs-learner")).phases
        for regime in REGIMES
    }
    assert [p.reward.resolved_opponent_illegal for p in rules["game"]] == ["carry"]
    assert [p.reward.resolved_opponent_illegal for p in rules["game-deontological"]] == ["penalize"]
    assert [p.reward.resolved_opponent_illegal for p in rules["deontological"]] == ["carry"]
    assert [p.reward.resolved_opponent_illegal for p in rules["game-then-utilitarian"]] == [
        "carry",
        "zero",
    ]


def test_phases_are_halves_and_say_what_they_hand_over() -> None:
    for version, reset in (("as-executed/", ()), ("", ("optimizer", "normalizer", "kl"))):
        phases = Rules.of(compose(f"moral/{version}game-then-utilitarian-vs-random")).phases
        assert [phase.first for phase in phases] == [0, 500]
        assert phases[1].reset == reset
    carried = compose("moral/game-then-utilitarian-vs-random", ["reset=[normalizer]"])
    assert Rules.of(carried).phases[1].reset == ("normalizer",)


def test_phases_with_and_without_lengths() -> None:
    odd = compose("moral/small/game-then-game-vs-random", ["iterations=7"])
    assert [phase.iterations for phase in odd.phases] == [4, 3]
    with pytest.raises(ComityError, match="too few for 2 phases"):
        compose("moral/small/game-then-game-vs-random", ["iterations=1"])
    mixed = "phases=[{reward: {name: own}, iterations: 3}, {reward: {name: own}}]"
    with pytest.raises(ComityError, match="set iterations in all of them or in none"):
        compose("ipd", [mixed])


def test_the_study_has_every_regime_and_takes_other_opponents() -> None:
    config = compose(
        "moral/study", ["moral/opponent=random", "moral/version=as-executed", "study.seeds=[7]"]
    )
    assert set(arm_configs(config)) == set(REGIMES)
    for arm, seeds in check_study(config).items():
        assert set(seeds) == {7}
        assert seeds[7].seats == ["learner", "random"]
        assert seeds[7].iterations == 1000
        assert bool(seeds[7].phases) == ("then" in arm)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("moral/game-vs-titfortat", "moral/game-vs-tit-for-tat"),
        ("moral/small/utilitarian-vs-randm", "moral/small/utilitarian-vs-random"),
        ("morals/game-vs-random", "more in: comity list experiments"),
    ],
)
def test_a_misspelled_preset_is_told_its_neighbours(name: str, nearest: str) -> None:
    with pytest.raises(ComityError, match=f"unknown experiment '{name}'.*{nearest}") as refused:
        compose(name)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("name", [name for name, _ in moral_cells() if "-then-" in name])
def test_every_phase_follows_the_rules_for_illegal_answers(name: str) -> None:
    """Also the first of two, whose reward is another one."""
    changes = ["reward.illegal=-15", "reward.opponent_illegal=penalize"]
    changes += [] if "then-game-" in name else ["reward.other=2"]
    config = compose(name, changes)
    for phase in phases(config):
        assert (phase.reward.illegal, phase.reward.opponent_illegal) == (-15.0, "penalize")
        assert phase.reward.other == (0.0 if "then-game-" in name else 2.0)


def test_as_published_and_as_executed_differ_where_paper_and_code_do() -> None:
    published = composed("moral/as-published/game-vs-random")
    executed = composed("moral/as-executed/game-vs-random")
    assert Rules.of(published).algorithm == PpoSettings(epochs=4, accumulation=4, score_clip=0.5)
    assert Rules.of(executed).algorithm == PpoSettings(epochs=1)
    assert published.adapter.dropout == executed.adapter.dropout == 0.05
    assert published.adapter.dropout_in == "learning"
    assert executed.adapter.dropout_in == "playing"
    for one in (published, executed):
        assert steps(one) // Rules.of(one).algorithm.accumulation == 1  # type: ignore[union-attr]


def test_what_each_era_tells_of_the_last_round() -> None:
    release = composed("robust/tas_rps_vanilla_ad_align")
    assert release.game["disclosed"] == ["claims", "values"]
    assert release.prompt["disclosure"] == "line"
    assert release.prompt["delimiters"] == "final_release"
    for cell in ("tas_rps_ad_align", "tas_rps_ad_align_gae", "tas_ad_align", "no_press_ad_align"):
        submitted = composed(f"robust/submission_{cell}")
        assert submitted.game["disclosed"] == ["claims", "values", "points"]
        assert submitted.prompt["disclosure"] == "full"
        spoken = "no_press" if cell.startswith("no_press") else "earlier"
        assert submitted.prompt["delimiters"] == spoken


def test_buffers_of_the_final_release_are_less_by_the_live_policies() -> None:
    for cell in ("ipd_vanilla_ad_align", "tas_rps_vanilla_ad_align", "submission_tas_ad_align"):
        past = composed(f"robust/{cell}").opponent_pool
        assert past is not None and past.capacity == 30
        assert past.count_learners == ("submission" not in cell)
    assert composed("robust/tas_rps_vanilla_ad_align_no_agent_buffer").opponent_pool is None


def test_the_published_seeds_are_studies() -> None:
    seeds = {
        "robust/seeds/ipd_naive": [0, 42, 1337],
        "robust/seeds/split_no_comm_naive_qwen3_8b": [0, 42, 1337, 1, 123],
        "robust/seeds/tas_rps_adv_vs_fixed_ad_align": [0, 1, 42, 123, 1111, 1337, 4321, 9999],
        "myopic/seeds/ipd_covert": [1000, 123, 657, 934],
        "myopic/seeds/negotiation_game": [344, 645, 42, 1003, 1000],
    }
    for name, wanted in seeds.items():
        config = composed(name)
        assert config.study is not None and config.study.seeds == wanted
        cell = name.replace("seeds/", "")
        if len(wanted) > 3:
            continue
        ((arm, runs),) = arm_configs(config).items()
        assert arm == cell.partition("/")[2] and list(runs) == wanted
        plain = dataclasses.asdict(composed(cell))
        for seed, one in runs.items():
            assert one.seed == seed
            tree = dataclasses.asdict(one)
            for key in ("seed", "name", "composition"):
                assert tree.pop(key) != "" and key in plain
            assert tree == {k: v for k, v in plain.items() if k in tree}
