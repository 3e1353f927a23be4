"""From a composition to its language models: learners, frozen runs, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from comity.config.schema import Config
from comity.errors import ComityError
from comity.experiments.agents import Agents
from comity.experiments.population_models import (
    PopulationModels,
    check_language_models,
    pinned_members,
)
from comity.populations.agents.language_model import LanguageModelAgents, LanguageModelSettings
from comity.populations.composition import parse
from comity.populations.settings import PopulationSettings
from comity.populations.train import Population, build_population
from comity.train import train
from tests.train.small import small

SHORT = ("prompt=structured", "prompt.framing=action_game_state", "game=prisoners_dilemma_4310")
OPTIONS = LanguageModelSettings(episodes_per_update=2, min_decisions=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a tiny model with answers of its own: labels X and Y at temperature 0.5."""
    output = tmp_path_factory.mktemp("runs")
    changes = ("prompt.labels=XY", "temperature=0.5", "iterations=1", "game.initial_state=uniform")
    return train(small(output, *SHORT, *changes), report=False)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return small(tmp_path, *SHORT)


def settings_of(composition: str, **changes: Any) -> PopulationSettings:
    given = {"iterations": 8, "runs": 1, "random_matching": False, "random_selection": False}
    return PopulationSettings(composition, **{**given, **changes})


def models_in(population: Population, condition: str = "selection") -> LanguageModelAgents:
    group = population.conditions[condition].groups["language_model"]
    assert isinstance(group, LanguageModelAgents)
    return group


def test_all_kinds_of_agents_in_one_population(trained: Path, config: Config) -> None:
    settings = settings_of(f"1xS_1xAC_1xLLM:UT_1xLLM:run:{trained}_1xLLM:base", runs=2)
    with PopulationModels(settings, config, OPTIONS) as models:
        population = build_population(settings, models)
        group = models_in(population)
        assert group.agents.tolist() == [2, 3, 4]
        learner, frozen, base = group.members[1]
        assert learner.trainer is not None and frozen.trainer is base.trainer is None
        assert frozen.policy.adapter == group.members[0][1].policy.adapter != learner.policy.adapter
        assert base.policy.adapter is None
        # The run's policy is asked as in its training, the others as the population says.
        assert frozen.policy.temperature == 0.5 and base.policy.temperature == 1.0
        question = group.questions.dilemma(frozen, 0, (0, 1), (1, 2))
        assert question.labels == ("X", "Y") and "picked Y" in question.text
        assert group.questions.dilemma(base, 0, (0, 1), (1, 2)).labels == ("action1", "action2")
        population.run(until=4)
        assert learner.trainer.learner.version == 2
        names = models._backend.engine.adapters.names  # type: ignore[union-attr]
        assert len(names) == 3
    assert models._backend.engine.adapters.names == []  # type: ignore[union-attr]


def test_a_population_resumes_identically(trained: Path, config: Config, tmp_path: Path) -> None:
    settings = settings_of(f"1xS_1xLLM:UT_1xLLM:run:{trained}", random_selection=True)
    found = []

    def played(population: Population, until: int) -> list[Any]:
        games: list[Any] = []
        population.run(lambda one: games.append(one), until=until)
        return [
            [getattr(g, name).tolist() for name in ("selected", "selector_move", "selected_move")]
            for one in games
            for g in one.values()
        ]

    folder = tmp_path / "state"
    folder.mkdir()
    with PopulationModels(settings, config, OPTIONS) as models:
        population = build_population(settings, models)
        played(population, 3)
        population.save(folder)
        found.append(played(population, 8))
    with PopulationModels(settings, config, OPTIONS) as models:
        population = build_population(settings, models)
        population.load(folder)
        found.append(played(population, 8))
    assert found[0] == found[1] and len(found[0]) == 10


def test_random_matching_trains_adapters_of_its_own(config: Config) -> None:
    settings = settings_of("1xLLM:S_1xLLM:UT_1xAC", random_matching=True)
    with PopulationModels(settings, config, OPTIONS) as models:
        population = build_population(settings, models)
        groups = [models_in(population, one) for one in ("selection", "random_matching")]
        names = [one.policy.adapter for group in groups for one in group.members[0]]
        assert len(set(names)) == 4
        population.run(until=2)
        one, other = (
            group.members[0][0].policy.backend.engine.adapters.parameters(name or "")
            for group, name in zip(groups, (names[0], names[2]), strict=True)
        )
        ups = [
            torch.cat([w.flatten() for n, w in a.items() if "lora_B" in n]) for a in (one, other)
        ]
        assert not torch.equal(*ups) and all(up.abs().max() > 0 for up in ups)
        selected = groups[1].update()
        assert "selection_entropy" not in selected


def test_statistics_of_all_kinds_stand_beside_each_other(config: Config) -> None:
    settings = settings_of("1xS_1xLLM:UT_1xAC")
    with PopulationModels(settings, config, OPTIONS) as models:
        population = build_population(settings, models)
        population.step()
        rows = population._by_agent("selection", population.statistics["selection"])
    assert rows["p_cooperate_given_cooperate"].shape == (1, 3)
    assert np.isnan(rows["selection_entropy"][0, [0, 2]]).all()
    assert np.isfinite(rows["selection_entropy"][0, 1])


@pytest.mark.parametrize(
    ("composition", "changes", "message"),
    [
        ("1xS_1xLLM:UT", ("algorithm=exact",), "reinforce .* or ppo"),
        ("1xS_1xLLM:UT", ("algorithm=advantage_alignment",), "reinforce .* or ppo"),
        ("1xS_1xLLM:UT", ("algorithm.estimator=gae",), "reinforce .* or ppo"),
        ("1xS_1xLLM:UT", ("adapter.dropout=0.1",), "dropout=0"),
        ("1xS_1xLLM:run:nowhere", (), "nowhere"),
        ("1xS_1xLLM:adapter:nowhere", (), "nowhere"),
        ("40xLLM:S_40xLLM:UT", (), "80 adapters .* lower runs"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_a_model_is_loaded(
    composition: str,
    changes: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("comity.experiments.population_models.untrained_models", None)
    settings = settings_of(composition)
    with pytest.raises(ComityError, match=message):
        PopulationModels(settings, small(tmp_path, *SHORT, *changes), OPTIONS)


def test_a_frozen_learner_may_have_learned_by_any_algorithm(trained: Path, tmp_path: Path) -> None:
    config = small(tmp_path, *SHORT, "algorithm=exact")
    plans, _ = check_language_models(settings_of(f"1xS_1xLLM:run:{trained}"), config)
    assert len(plans) == 1


def test_checkpoints_of_frozen_runs_are_pinned(trained: Path, config: Config) -> None:
    members = parse(f"1xS_1xLLM:UT_1xLLM:run:{trained}").members
    assert pinned_members(members, config) == [*members[:2], f"LLM:run:{trained}@1"]


def test_frozen_members_parse_and_need_a_target() -> None:
    found = parse("1xLLM:base_2xLLM:model:some/model_1xLLM:adapter:a_b/c")
    assert found.members == ("LLM:base", *["LLM:model:some/model"] * 2, "LLM:adapter:a_b/c")
    assert found.types == found.members
    with pytest.raises(ComityError, match="expected a folder or a model"):
        parse("1xS_1xLLM:model:")


def test_a_failure_leaves_no_adapters(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of("1xLLM:S_1xLLM:base")

    def broken(self: Agents, *_: Any) -> None:
        raise ComityError("no such model")

    monkeypatch.setattr(Agents, "_player", broken)
    with pytest.raises(ComityError, match="no such model"):
        PopulationModels(settings, replace(config), OPTIONS)


@pytest.mark.slow
def test_the_default_model_selects_and_learns(smollm2: Path) -> None:
    """Two learners on the real model beside two fixed agents: one window, an update of each."""
    from comity.config.compose import compose
    from comity.populations.agents.language_model_probes import selection_probabilities

    config = compose("ipd", ["game=prisoners_dilemma_4310", "prompt=structured"])
    settings = settings_of("1xAC_1xAD_1xLLM:S_1xLLM:UT", iterations=2)
    with PopulationModels(settings, config, OPTIONS) as models:
        population = build_population(settings, models)
        group = models_in(population)
        latest = np.array([0, 1, 0, 1])
        before = selection_probabilities(group, latest, questions=2)
        np.testing.assert_allclose(before.sum(axis=2), 1.0, atol=1e-5)
        # Adapters without effect: all agents are the base model.
        population.run()
        after = selection_probabilities(group, latest, questions=2)
        assert (np.abs(after - before).max(axis=2) > 1e-4).all()
