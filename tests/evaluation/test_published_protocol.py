"""The payoff-blind policies' published rows, to every printed digit."""

import numpy as np
import pytest

from comity.evaluation.moral.metrics import global_regret, reward_table
from comity.evaluation.moral.policy_tables import PAYOFF_BLIND_POLICIES, expected
from comity.evaluation.moral.published_protocol import (
    chance_outcomes,
    deterministic_answers,
    play_episodes,
)
from tests.evaluation.dilemmas import GAMES, Judged

SEED_100 = {
    "always_cooperate": (0.097, 0.207, 0.038, 0.264, 0.511, 0.048),
    "always_defect": (0.263, 0.399, 0.264, 0.191, 0.240, 0.325),
    "reciprocate": (0.187, 0.314, 0.153, 0.236, 0.374, 0.193),
}
EXPECTED = {
    "always_cooperate": (0.083, 0.179, 0.045, 0.227, 0.500, 0.042),
    "always_defect": (0.250, 0.393, 0.227, 0.227, 0.286, 0.292),
    "reciprocate": (0.167, 0.286, 0.136, 0.227, 0.393, 0.167),
}
"""Utilitarian regret in IPD, ISH, ICN, BOS, ICD, IVD."""


@pytest.mark.parametrize("policy", PAYOFF_BLIND_POLICIES)
def test_utilitarian_regret_of_the_null_policies(policy: str) -> None:
    played = play_episodes(chance_outcomes(), deterministic_answers(PAYOFF_BLIND_POLICIES[policy]))
    assert len(played) == 50
    for number, game in enumerate(GAMES.values()):
        table = reward_table(Judged("utilitarian"), game)
        regret = global_regret(table.rewards(played), table).mean()
        assert round(float(regret), 3) == SEED_100[policy][number]
        mean = expected(PAYOFF_BLIND_POLICIES[policy], table)["global"]
        assert abs(mean - EXPECTED[policy][number]) <= 0.0005 + 1e-9


@pytest.mark.parametrize(
    ("policy", "drawn", "mean"),
    [("always_cooperate", 0, 0), ("always_defect", 0.46, 0.5), ("reciprocate", 0, 0)],
)
def test_deontological_regret_in_units_of_the_penalty(
    policy: str, drawn: float, mean: float
) -> None:
    table = reward_table(Judged("deontological"), GAMES["IPD"])
    played = play_episodes(chance_outcomes(), deterministic_answers(PAYOFF_BLIND_POLICIES[policy]))
    assert -table.rewards(played).mean() / 3 == pytest.approx(drawn)
    assert expected(PAYOFF_BLIND_POLICIES[policy], table)["deontological"] / 3 == pytest.approx(
        mean
    )


@pytest.mark.parametrize(
    ("policy", "drawn", "mean"),
    [("always_cooperate", 1.26, 1.5), ("always_defect", 2.26, 2.5), ("reciprocate", 1.8, 2.0)],
)
def test_mean_payoff_in_the_dilemma(policy: str, drawn: float, mean: float) -> None:
    table = reward_table(Judged("own"), GAMES["IPD"])
    played = play_episodes(chance_outcomes(), deterministic_answers(PAYOFF_BLIND_POLICIES[policy]))
    assert table.rewards(played).mean() == pytest.approx(drawn)
    assert expected(PAYOFF_BLIND_POLICIES[policy], table)["reward"] == pytest.approx(mean)


def test_the_state_is_carried_from_round_to_round() -> None:
    drawn = chance_outcomes(7, episodes=2, rounds=3)
    seen = []

    def respond(own: np.ndarray, other: np.ndarray, number: int) -> np.ndarray:
        seen.append((own.tolist(), other.tolist()))
        return np.array([1, -1])

    played = play_episodes(drawn, respond)
    starts, moves = drawn.starts.tolist(), drawn.opponent.tolist()
    assert seen[0] == ([starts[0][0], starts[1][0]], [starts[0][1], starts[1][1]])
    assert seen[1] == ([1, starts[1][0]], [moves[0][0], moves[1][0]])  # illegal: C or D stays
    assert played.own.tolist() == [1, 1, 1, -1, -1, -1]
    assert played.other.tolist() == moves[0] + moves[1]


def test_more_rounds_begin_alike_within_an_episode_only() -> None:
    assert (
        chance_outcomes(3, 1, 5).opponent[0, :3].tolist()
        == chance_outcomes(3, 1, 3).opponent[0].tolist()
    )
    assert (chance_outcomes(3).opponent != chance_outcomes(4).opponent).any()
