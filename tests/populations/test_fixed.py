"""Fixed strategies do what their table says, game after game."""

from collections import defaultdict

import numpy as np
import pytest

from comity.games.randomness import POPULATION, generator
from comity.populations.agents.fixed import cooperation
from comity.populations.episode import EpisodeGames
from comity.populations.settings import PopulationSettings, dyad
from comity.populations.streams import BLOCK
from comity.populations.train import build_population
from comity.populations.types import FIXED_TYPES

COMPOSITION = "1xAC_1xAD_2xTFT_1xRandom_2xCD_1xGEa_2xGEb_2xGEc_1xGEd_1xGEe"


def naive_move(kind: str, past: list[int], other: int, draw: float) -> int:
    """A rule in plain words; `past`: the agent's own moves."""
    if kind in ("AC", "AD"):
        return int(kind == "AD")
    if kind == "TFT":
        return other if past else 0
    if kind == "Random" or not past:
        return int(draw >= 0.5)
    if kind == "CD":
        return 1 - past[-1]
    if kind == "GEc":
        return 1 - past[-1] if draw < 0.8 else past[-1]
    if kind == "GEb" and 1 in past:
        return 1
    return int(draw >= {"GEa": 0.99, "GEb": 0.8, "GEd": 0.2, "GEe": 0.8}[kind])


@pytest.fixture(scope="module")
def episodes() -> list[dict[str, EpisodeGames]]:
    found: list[dict[str, EpisodeGames]] = []
    settings = PopulationSettings(COMPOSITION, runs=3, iterations=120, random_matching=False)
    build_population(settings).run(found.append)
    return found


@pytest.mark.parametrize("condition", ["selection", "random_selection"])
def test_every_move_is_that_of_the_rule(
    episodes: list[dict[str, EpisodeGames]], condition: str
) -> None:
    population = build_population(PopulationSettings(COMPOSITION, runs=1))
    members, numbers = population.composition.members, population.composition.numbers
    track = "games" if condition == "selection" else "practice"
    compared = 0
    for run in range(3):
        past: dict[int, list[int]] = defaultdict(list)
        draws = [
            np.concatenate(
                [
                    generator(1, run, POPULATION, *owner, f"{track} moves", block).random(BLOCK)
                    for block in range(2)
                ]
            )
            for owner in zip(members, numbers, strict=True)
        ]
        for games in (one[condition] for one in episodes):
            for game in range(games.selector.shape[1]):
                sides = ("selector", "selected"), ("selected", "selector")
                for own, other in sides:
                    agent = int(getattr(games, own)[run, game])
                    shown = int(getattr(games, f"{other}_shown")[run, game])
                    draw = draws[agent][len(past[agent])]
                    move = naive_move(members[agent], past[agent], shown, draw)
                    assert getattr(games, f"{own}_move")[run, game] == move, members[agent]
                    past[agent].append(move)
                    compared += 1
        assert {kind for agent, kind in enumerate(members) if past[agent]} == set(members)
    assert compared == 3 * 120 * 2 * len(members)


def test_partners_are_uniform(episodes: list[dict[str, EpisodeGames]]) -> None:
    size = 13
    counts = np.zeros((size + 1, size + 1))
    for games in episodes:
        one = games["selection"]
        np.add.at(counts, (one.selector.ravel(), one.selected.ravel()), 1)
    assert (np.diag(counts) == 0).all()
    off = counts[~np.eye(size + 1, dtype=bool)]
    expected = 3 * 120 / size
    # Chi squared with 14 * 12 degrees of freedom: mean 168, standard deviation 18.
    assert abs(((off - expected) ** 2 / expected).sum() - 168) < 5 * 18.4


@pytest.mark.parametrize("kind", list(FIXED_TYPES))
def test_the_policy_of_a_rule_is_how_it_plays(kind: str) -> None:
    setting = dyad(f"1x{kind}_1xRandom", iterations=4000, runs=4)
    answers = np.zeros((2, 2, 2))

    def add(found: dict[str, EpisodeGames]) -> None:
        games = found["fixed"]
        if games.episode:
            place = (games.selector_shown, games.selected_shown, games.selector_move)
            np.add.at(answers, tuple(one[:, 0] for one in place), 1)

    build_population(setting).run(add)
    counts = answers.sum(axis=2)
    policy = cooperation(kind)
    for own, other in np.argwhere(counts > 30):
        share = answers[own, other, 0] / counts[own, other]
        expected = policy[own, other]
        spread = (expected * (1 - expected) / counts[own, other]) ** 0.5
        assert abs(share - expected) <= 4 * spread, (own, other)
