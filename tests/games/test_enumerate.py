"""Exact enumeration against numbers known in closed form."""

import pytest

from comity.games import make_game
from comity.games.base import Game, Observation, Round
from comity.games.enumerate import Policy, enumerate_matches, expected_payoffs
from comity.games.lengths import Geometric
from comity.players.scripted.strategies import (
    AlwaysCooperate,
    AlwaysDefect,
    MatrixStrategy,
    Random,
    TitForTat,
    WinStayLoseShift,
)


def dilemma(**parameters: object) -> Game:
    return make_game({"name": "prisoners_dilemma", **parameters})


def policies(game: Game, *players: MatrixStrategy) -> list[Policy]:
    def policy(player: MatrixStrategy) -> Policy:
        return lambda observation: player.probabilities(observation, game)

    return [policy(player) for player in players]


@pytest.mark.parametrize(
    ("players", "per_round"),
    [
        ((AlwaysCooperate(), AlwaysCooperate()), (3, 3)),
        ((AlwaysDefect(), AlwaysDefect()), (1, 1)),
        ((AlwaysDefect(), AlwaysCooperate()), (5, 0)),
        ((TitForTat(), AlwaysDefect()), (0.9, 1.4)),
        ((WinStayLoseShift(), AlwaysDefect()), (0.5, 3)),
    ],
)
def test_ten_rounds_of_known_pairs(
    players: tuple[MatrixStrategy, MatrixStrategy], per_round: tuple[float, float]
) -> None:
    game = dilemma()
    assert expected_payoffs(game, policies(game, *players)) / 10 == pytest.approx(per_round)
    assert len(enumerate_matches(game, policies(game, *players))) == 1


def test_a_random_pair_earns_the_mean_of_the_table() -> None:
    game = dilemma(length={"name": "fixed", "rounds": 3})
    pair = policies(game, Random(), Random())
    assert expected_payoffs(game, pair) / 3 == pytest.approx((2.25, 2.25))
    matches = enumerate_matches(game, pair)
    assert len(matches) == 4**3
    assert len({history for _, history in matches}) == 4**3


@pytest.mark.parametrize(
    ("players", "returns"),
    [
        ((AlwaysCooperate(), AlwaysCooperate()), (19.5396, 19.5396)),
        ((AlwaysDefect(), AlwaysDefect()), (6.5132, 6.5132)),
        ((AlwaysDefect(), TitForTat()), (10.5132, 5.5132)),
    ],
)
def test_discounted_returns(
    players: tuple[MatrixStrategy, MatrixStrategy], returns: tuple[float, float]
) -> None:
    game = dilemma()
    [(probability, history)] = enumerate_matches(game, policies(game, *players))
    assert probability == 1
    discounted = [
        sum(0.9**t * played.payoffs[seat] for t, played in enumerate(history)) for seat in (0, 1)
    ]
    assert discounted == pytest.approx(returns, abs=5e-5)


@pytest.mark.parametrize(("p", "cap", "expected"), [(0.85, 30, 6.6158), (0.85, 16, 6.1717)])
def test_geometric_lengths(p: float, cap: int, expected: float) -> None:
    length = Geometric(p, cap)
    assert length.expected == pytest.approx(expected, abs=5e-5)
    assert length.expected == pytest.approx((1 - p**cap) / (1 - p))
    game = dilemma(length={"name": "geometric", "continue_probability": p, "cap": cap})
    pair = policies(game, AlwaysCooperate(), AlwaysCooperate())
    matches = enumerate_matches(game, pair)
    assert len(matches) == cap
    assert sum(q * len(history) for q, history in matches) == pytest.approx(length.expected)
    assert expected_payoffs(game, pair)[0] == pytest.approx(3 * length.expected)


def test_lengths_at_the_edges() -> None:
    assert Geometric(1.0, 7).expected == 7
    assert Geometric(0.0, 7).expected == 1
    assert [Geometric(0.5, 2).continuation(n) for n in (1, 2)] == [0.5, 0]


def test_sampled_lengths_have_the_expected_mean() -> None:
    game = dilemma(length={"name": "geometric", "continue_probability": 0.5, "cap": 30})
    lengths = []
    for seed in range(1500):
        state = game.start(seed)
        while game.turns(state):
            state = game.step(state, {0: 0, 1: 0})
        lengths.append(len(game.history(state)))
    # standard deviation of a geometric length with p = 1/2: sqrt(2)
    assert sum(lengths) / 1500 == pytest.approx(2, abs=4 * (2 / 1500) ** 0.5)


def test_trembles_of_cooperators() -> None:
    """Both intend C; each plays C with 0.9: E = .81*3 + .09*0 + .09*5 + .01*1."""
    game = dilemma(noise=0.1, length={"name": "fixed", "rounds": 2})
    pair = policies(game, AlwaysCooperate(), AlwaysCooperate())
    expected = 0.81 * 3 + 0.09 * 5 + 0.01 * 1
    assert expected_payoffs(game, pair) / 2 == pytest.approx((expected, expected))


def test_fictitious_starts_are_averaged_over() -> None:
    """Tit-for-tat answers the fictitious move: half its first rounds are lone cooperation."""
    game = dilemma(initial_state="uniform", length={"name": "fixed", "rounds": 1})
    pair = policies(game, TitForTat(), AlwaysDefect())
    assert expected_payoffs(game, pair) == pytest.approx((0.5, 3.0))


def test_probabilities_of_histories_sum_to_one_in_public_goods() -> None:
    game = make_game(
        {
            "name": "public_goods",
            "seats": 3,
            "noise": 0.2,
            "length": {"name": "geometric", "continue_probability": 0.5, "cap": 2},
        }
    )
    trio = policies(game, TitForTat(), Random(0.3), AlwaysDefect())
    matches = enumerate_matches(game, trio)
    assert sum(p for p, _ in matches) == pytest.approx(1)
    # one round: contributors 1 with .8 (played), 2 with .3*.8 + .7*.2, 3 with .2; share 1.6/3 * 10
    contributors = 0.8 + (0.3 * 0.8 + 0.7 * 0.2) + 0.2
    share = 10 * 1.6 / 3 * contributors
    first = [(p, h[0]) for p, h in matches]
    mean = [sum(p * r.payoffs[seat] for p, r in first) for seat in range(3)]
    assert mean == pytest.approx([share + 10 * 0.2, share + 10 * 0.62, share + 10 * 0.8])


def test_policies_must_fit() -> None:
    game = dilemma()

    def wrong(observation: Observation) -> list[float]:
        return [0.5, 0.4]

    with pytest.raises(ValueError, match="sum to 1"):
        enumerate_matches(game, [wrong, wrong])
    with pytest.raises(ValueError, match="2 seats"):
        enumerate_matches(game, [wrong])
    with pytest.raises(ValueError, match="2 probabilities"):
        enumerate_matches(game, [lambda observation: [1.0], wrong])


def test_histories_are_real_rounds() -> None:
    game = dilemma(length={"name": "fixed", "rounds": 1})
    matches = enumerate_matches(game, policies(game, Random(0.25), AlwaysDefect()))
    assert sorted(matches, key=lambda match: match[0]) == [
        (0.25, (Round((0, 1), (0, 1), (0, 5)),)),
        (0.75, (Round((1, 1), (1, 1), (1, 1)),)),
    ]
