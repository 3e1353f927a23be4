"""Exact losses of whole games against the games' own enumeration, strategy by strategy."""

import numpy as np
import pytest
import torch

from comity.errors import ComityError
from comity.games import make_game
from comity.games.base import Observation
from comity.games.enumerate import Policy, enumerate_matches, expected_payoffs
from comity.games.matrix.iterated import Iterated
from comity.learning.exact.payoff_tables import game_loss, policy_table, reward_table
from comity.players.scripted.catalog import MATRIX_STRATEGIES
from comity.rewards import REWARDS

LENGTH = {"name": "geometric", "continue_probability": 0.7, "cap": 3}
GAMES = {
    "plain": {"name": "prisoners_dilemma", "length": {"name": "fixed", "rounds": 4}},
    "asymmetric": {"name": "bach_or_stravinsky", "length": {"name": "fixed", "rounds": 3}},
    "noisy": {"name": "prisoners_dilemma", "noise": 0.2, "length": LENGTH},
    "started": {
        "name": "chicken",
        "initial_state": "uniform",
        "noise": 0.1,
        "length": {"name": "fixed", "rounds": 3},
    },
}


def game(name: str) -> Iterated:
    made = make_game(GAMES[name])
    assert isinstance(made, Iterated)
    return made


def policy(table: torch.Tensor) -> Policy:
    """The memory-one policy that plays by a table."""
    k = table.shape[1]

    def play(observation: Observation) -> list[float]:
        last = observation.last
        if last is None:
            return list(table[0].tolist())
        own, other = observation.own_first(last)
        return list(table[1 + k * own + other].tolist())

    return play


def random_table(seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).dirichlet([1, 1], size=5))


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize("seat", [0, 1])
def test_the_loss_is_the_enumerated_return(name: str, seat: int):
    learner, other = random_table(0), random_table(1)
    policies = [policy(learner), policy(other)][:: 1 if seat == 0 else -1]
    matches = enumerate_matches(game(name), policies)
    payoffs = [(chance, [played.payoffs for played in history]) for chance, history in matches]
    for reward, value in (("own", lambda p: p[seat]), ("utilitarian", sum)):
        expected = sum(
            chance * sum(0.9**t * value(paid) for t, paid in enumerate(rounds))
            for chance, rounds in payoffs
        )
        loss = game_loss(
            learner.log(), game(name), REWARDS[reward](), 0.9, other, seat, "discounted"
        )
        assert float(loss) == pytest.approx(-expected, abs=1e-12)


def test_the_loss_in_self_play_is_the_enumerated_payoff():
    learner = random_table(2)
    expected = expected_payoffs(game("noisy"), [policy(learner), policy(learner)])
    loss = game_loss(learner.log(), game("noisy"), REWARDS["own"](), objective="discounted")
    assert float(loss) == pytest.approx(-expected[0], abs=1e-12)


@pytest.mark.parametrize("objective", ["reinforce", "discounted"])
def test_noise_leaves_less_to_be_learned(objective: str):
    """What is meant matters 1 - 2 * noise as much, since the hand does the other thing as often."""
    gradients = []
    for noise in (0.0, 0.2):
        made = make_game(
            {"name": "prisoners_dilemma", "noise": noise, "length": {"name": "fixed", "rounds": 1}}
        )
        assert isinstance(made, Iterated)
        logits = torch.tensor([[0.3, -0.2]], dtype=torch.float64).requires_grad_()
        opponent = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
        game_loss(
            logits.log_softmax(1), made, REWARDS["own"](), 1.0, opponent, 0, objective
        ).backward()
        gradients.append(logits.grad)
    assert gradients[0] is not None and gradients[1] is not None
    torch.testing.assert_close(gradients[1], 0.6 * gradients[0])


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("always_cooperate", [1, 1, 1, 1, 1]),
        ("always_defect", [0, 0, 0, 0, 0]),
        ("tit_for_tat", [1, 1, 0, 1, 0]),
        ("suspicious_tit_for_tat", [0, 1, 0, 1, 0]),
        ("win_stay_lose_shift", [1, 1, 0, 0, 1]),
    ],
)
@pytest.mark.parametrize("seat", [0, 1])
def test_tables_of_strategies(name: str, row: list[int], seat: int):
    dilemma, player = game("plain"), MATRIX_STRATEGIES[name]()
    table = policy_table(lambda o: player.probabilities(o, dilemma), dilemma, seat)
    assert table[:, 0].tolist() == row
    assert table.sum(dim=1).tolist() == [1.0] * 5


@pytest.mark.parametrize("name", ["grim_trigger", "tit_for_two_tats", "alternator"])
def test_strategies_with_a_longer_memory_are_refused(name: str):
    dilemma, player = game("plain"), MATRIX_STRATEGIES[name]()
    with pytest.raises(ComityError, match="remembers more"):
        policy_table(lambda o: player.probabilities(o, dilemma), dilemma)


def test_reward_table_of_an_asymmetric_game():
    rewards = {seat: reward_table(game("asymmetric"), REWARDS["own"](), seat) for seat in (0, 1)}
    assert rewards[0].shape == (5, 2, 2)
    for state in range(5):
        assert rewards[0][state].tolist() == [[3, 0], [0, 2]]
        assert rewards[1][state].tolist() == [[2, 0], [0, 3]]


def test_reward_table_shows_the_reward_what_was_on_display():
    """By hand: 1 for defecting on a cooperator. The other seat's move shown is `other`."""

    class Betrayal:
        formula = "1 where the other was shown to cooperate and I defect"

        def __call__(self, played, game):  # type: ignore[no-untyped-def]
            return ((played.moves == 1) & (played.shown[:, ::-1] == 0)).astype(float)

    for seat in (0, 1):
        table = reward_table(game("plain"), Betrayal(), seat)
        assert table[:, 1].tolist() == [[0, 0], [1, 1], [0, 0], [1, 1], [0, 0]]
        assert table[:, 0].sum() == 0


def test_games_of_more_seats_are_refused():
    goods = make_game({"name": "public_goods"})
    assert isinstance(goods, Iterated)
    with pytest.raises(ComityError, match="two seats"):
        reward_table(goods, REWARDS["own"]())
