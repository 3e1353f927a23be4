"""The batched deep Q-learners do what a loop over single agents does."""

import numpy as np
import pytest
import torch

from comity.populations.agents.dqn import DeepQAgents
from comity.populations.episode import EpisodeGames
from comity.populations.naive import NaivePopulation
from comity.populations.settings import DeepQ, PopulationSettings
from comity.populations.train import build_population

CASES = {
    "partner": PopulationSettings("2xS_1xUT_1xDE_1xaUT_1xmDE", runs=2),
    "pair": PopulationSettings("2xVEe_1xVie_1xVEk_1xVagg", runs=2, state="pair"),
    "identity": PopulationSettings("1xS_2xVM_1xAL", runs=2, state="identity"),
    "decays": PopulationSettings(
        "2xS_2xUT", runs=2, deep_q=DeepQ(hidden=64, decay_games=7, decay_selections=40)
    ),
    "small buffer": PopulationSettings("3xS_3xDE", runs=2, deep_q=DeepQ(hidden=32, capacity=2)),
    "greedy": PopulationSettings(
        "2xS_2xaAL", runs=2, deep_q=DeepQ(hidden=64, epsilon=0, selection_epsilon=0)
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_moves_and_weights_are_those_of_the_naive_loop(name: str) -> None:
    settings = CASES[name]
    population = build_population(settings)
    naive = [NaivePopulation(settings, run) for run in settings.numbers]
    for _ in range(12):
        games = population.step()["selection"]
        for run, one in enumerate(naive):
            assert one.step() == played(games, run), f"episode {games.episode}, run {run}"
    group = population.conditions["selection"].groups["dqn"]
    assert isinstance(group, DeepQAgents) and group.selection is not None
    size = population.composition.size
    for run, one in enumerate(naive):
        for agent, learner in enumerate(one.learners):
            both = ((group.dilemma, learner.dilemma), (group.selection, learner.selection))
            for networks, net in both:
                row = run * size + agent
                parameters = list(net.parameters())
                ours = (
                    networks.weights.first[row].T,
                    networks.weights.first_bias[row, 0],
                    networks.weights.second[row],
                    networks.weights.second_bias[row, 0],
                )
                for mine, theirs in zip(ours, parameters, strict=True):
                    learned = theirs.detach().numpy()
                    np.testing.assert_allclose(mine, learned, atol=1e-5, rtol=1e-5)
                assert not np.allclose(ours[2], initial(settings, run, agent, net).numpy())


def played(games: EpisodeGames, run: int) -> list[tuple[int, int, int, int]]:
    """Selector, selected and moves of a run's games."""
    columns = (games.selector, games.selected, games.selector_move, games.selected_move)
    return list(zip(*(column[run].tolist() for column in columns), strict=True))


def initial(
    settings: PopulationSettings, run: int, agent: int, net: torch.nn.Module
) -> torch.Tensor:
    """The last layer's initial weights: learning has moved them."""
    learner = NaivePopulation(settings, run).learners[agent]
    fresh = learner.dilemma if net[2].out_features == 2 else learner.selection  # type: ignore[index]
    return fresh[2].weight.detach()


def test_popular_agents_play_many_games() -> None:
    """The cases are not trivial: some agent plays more than its own two games."""
    population = build_population(CASES["partner"])
    most = 0
    for _ in range(10):
        games = population.step()["selection"]
        for run in range(2):
            agents = np.concatenate([games.selector[run], games.selected[run]])
            most = max(most, int(np.bincount(agents).max()))
    assert most >= 4
