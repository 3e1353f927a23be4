"""Tabular learners: a loop over single agents, and what the pairs of the dyadic study end in."""

import numpy as np
import pytest

from comity.games.randomness import POPULATION, generator
from comity.populations.agents.tabular import TabularAgents
from comity.populations.episode import EpisodeGames
from comity.populations.settings import PopulationSettings, Tabular, dyad
from comity.populations.streams import BLOCK
from comity.populations.train import Population, build_population


def group_of(population: Population) -> TabularAgents:
    condition = next(iter(population.conditions.values()))
    group = condition.groups["tabular"]
    assert isinstance(group, TabularAgents)
    return group


@pytest.mark.parametrize(
    "tabular",
    [
        Tabular(learning_rate=0.1, epsilon=0.05),
        Tabular(learning_rate=0.5, learning_rate_decay=0.01, epsilon=1.0, epsilon_last=0.0),
    ],
)
def test_a_dyad_learns_as_two_tables_do(tabular: Tabular) -> None:
    settings = dyad("1xUT_1xDE", runs=3, iterations=300, tabular=tabular)
    population = build_population(settings)
    episodes: list[EpisodeGames] = []
    population.run(lambda games: episodes.append(games["fixed"]))
    rewards = population.tables.rewards
    for run in range(3):
        table = np.zeros((2, 4, 2))
        draws = [
            np.concatenate(
                [
                    generator(1, run, POPULATION, kind, 0, "games moves", block).random(BLOCK)
                    for block in range(2)
                ]
            )
            for kind in ("UT", "DE")
        ]
        shown = [int(episodes[0].selector_shown[run, 0]), int(episodes[0].selected_shown[run, 0])]
        for t, games in enumerate(episodes):
            rate = tabular.learning_rate / (1 + t * tabular.learning_rate_decay)
            epsilon = tabular.epsilon
            if tabular.epsilon_last is not None:
                epsilon += (tabular.epsilon_last - epsilon) * t / 299
            states = [2 * shown[1 - one] + shown[one] for one in range(2)]
            moves = []
            for one in range(2):
                row, draw = table[one, states[one]], draws[one][t]
                # The first move of all is random, as is every move without a value.
                chance = 1.0 if t == 0 or not row.any() else epsilon
                moves.append(int(draw / chance * 2) if draw < chance else int(row.argmax()))
            assert [games.selector_move[run, 0], games.selected_move[run, 0]] == moves
            for one in range(2):
                own, other = moves[one], moves[1 - one]
                reward = rewards[one, one, shown[one], shown[1 - one], own, other]
                best = table[one, 2 * other + own].max()
                before = table[one, states[one], own]
                after = (1 - rate) * before + rate * (reward + 0.9 * best)
                table[one, states[one], own] = after
            shown = moves
        ours = group_of(population).dilemma.reshape(3, 2, 4, 2)[run]
        np.testing.assert_allclose(ours, table, atol=1e-12)


def test_start_states_are_uniform() -> None:
    population = build_population(dyad("1xS_1xUT", runs=400))
    games = population.step()["fixed"]
    joint = 2 * games.selector_shown + games.selected_shown
    counts = np.bincount(joint.ravel(), minlength=4)
    assert (np.abs(counts - 100) < 5 * 8.7).all(), "binomial, 400 draws of 1/4"


def last_moves(composition: str, **changes: object) -> np.ndarray:
    """Shares of joint moves in the last 5% of a dyad's iterations, `[2, 2]`."""
    settings = dyad(composition, runs=20, **changes)
    counts = np.zeros((2, 2))

    def count(games: dict[str, EpisodeGames]) -> None:
        one = games["fixed"]
        if one.episode >= settings.iterations * 0.95:
            np.add.at(counts, (one.selector_move.ravel(), one.selected_move.ravel()), 1)

    build_population(settings).run(count)
    return counts / counts.sum()


ENDS = [("2xS", 1), ("2xUT", 0), ("2xDE", 0), ("2xVEk", 0), ("2xVagg", 1)]
"""Pairs, and the move on which both of them settle."""

SHORT = {"iterations": 2500, "tabular": Tabular(0.05, 0.0, 0.9, 1.0, 0.0)}
"""A quarter of the published length with five times its learning rate."""


@pytest.mark.parametrize(("composition", "expected"), ENDS)
def test_pairs_end_where_their_reward_says(composition: str, expected: int) -> None:
    shares = last_moves(composition, **SHORT)
    assert shares[expected, expected] > 0.8, shares


@pytest.mark.slow
@pytest.mark.parametrize(("composition", "expected"), ENDS)
def test_pairs_end_so_at_the_published_length(composition: str, expected: int) -> None:
    shares = last_moves(composition)
    assert shares[expected, expected] > 0.8, shares


@pytest.mark.slow
@pytest.mark.parametrize("composition", ["2xaUT", "2xaAL"])
def test_negative_rewards_need_a_higher_learning_rate(composition: str) -> None:
    """Values sink from 0 to about -50; whatever was tried less looks better in the meantime.

    At the published rate and length they are still on the way, and most pairs play anything.
    """
    tabular = Tabular(learning_rate=0.1, epsilon=1.0, epsilon_last=0.0)
    assert last_moves(composition, tabular=tabular)[1, 1] > 0.9


def test_tables_choose_partners_by_the_moves_on_display() -> None:
    """Among two cooperators and two defectors, a selfish table learns whom to choose."""
    settings = PopulationSettings(
        "1xS_2xAC_2xAD", runs=10, iterations=1500, learner="tabular", random_matching=False,
        tabular=Tabular(learning_rate=0.1), random_selection=False,
    )  # fmt: skip
    chosen: list[np.ndarray] = []

    def keep(games: dict[str, EpisodeGames]) -> None:
        one = games["selection"]
        if one.episode >= 1000:
            chosen.append(one.selected_shown[one.selector == 0])

    build_population(settings).run(keep)
    # A tenth of the choices is random, half of these hit a cooperator.
    assert 1 - np.mean(chosen) > 0.85


@pytest.mark.parametrize("capacity", [256, 1])
def test_games_of_an_episode_are_learned_one_after_another(capacity: int) -> None:
    """The latest ones, as many as the buffer holds."""
    tabular = Tabular(learning_rate=0.3, capacity=capacity)
    settings = PopulationSettings("2xtabular:S_1xAC", runs=4, iterations=40, tabular=tabular)
    population = build_population(settings)
    episodes: list[EpisodeGames] = []
    population.run(lambda games: episodes.append(games["selection"]))
    for run in range(4):
        table = np.zeros((3, 2, 2))
        for games in episodes:
            memories: list[list[tuple[int, int, int, float]]] = [[], [], []]
            for game in range(3):
                sides = ("selector", "selected"), ("selected", "selector")
                for own, other in sides:
                    agent = int(getattr(games, own)[run, game])
                    state = int(getattr(games, f"{other}_shown")[run, game])
                    move = int(getattr(games, f"{own}_move")[run, game])
                    after = int(getattr(games, f"{other}_move")[run, game])
                    reward = float(getattr(games, f"{own}_reward")[run, game])
                    memories[agent].append((state, move, after, reward))
            for agent, memory in enumerate(memories):
                for state, move, after, reward in memory[-capacity:]:
                    error = reward + 0.9 * table[agent, after].max() - table[agent, state, move]
                    table[agent, state, move] += 0.3 * error
        ours = group_of(population).dilemma.reshape(4, 2, 2, 2)[run]
        np.testing.assert_allclose(ours, table[:2], atol=1e-9)
