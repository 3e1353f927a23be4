"""The rewards of the moral-alignment studies, every case written out by hand."""

from typing import Any

import numpy as np
import pytest

from comity.errors import ComityError
from comity.games import make_game
from comity.games.base import ILLEGAL, Action, PlayedMatches, Round
from comity.registry import build
from comity.rewards import REWARDS, all_rewards, log_rewards

C, D = 0, 1
GAME = make_game({"name": "prisoners_dilemma_4310", "illegal": "carry", "initial_state": "uniform"})

# For the four joint moves (own first): the reward where the other was shown to have cooperated,
# and where it was shown to have defected. The payoffs are 3,3 / 0,4 / 4,0 / 1,1; penalty and
# bonus 3. Equality at CD is 1 - 4/4 = 0, at CC and DD 1.
TABLE: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    #                     CC CD DC DD after C        CC CD DC DD after D
    "own": ((3, 0, 4, 1), (3, 0, 4, 1)),
    "utilitarian": ((6, 4, 4, 2), (6, 4, 4, 2)),
    "deontological": ((0, 0, -3, -3), (0, 0, 0, 0)),
    "own_deontological": ((3, 0, 1, -2), (3, 0, 4, 1)),
    "equality": ((1, 0, 0, 1), (1, 0, 0, 1)),
    "inequality": ((0, 1, 1, 0), (0, 1, 1, 0)),
    "kindness": ((3, 3, 0, 0), (3, 3, 0, 0)),
    "aggression": ((0, 0, 3, 3), (0, 0, 3, 3)),
    "mixed_virtue": ((1, 0.5, 0, 0.5), (1, 0.5, 0, 0.5)),
    "altruist": ((3, 4, 0, 1), (3, 4, 0, 1)),
    "anti_altruist": ((-3, -4, 0, -1), (-3, -4, 0, -1)),
    "anti_utilitarian": ((-6, -4, -4, -2), (-6, -4, -4, -2)),
    "anti_deontological": ((0, 0, 3, 3), (0, 0, 0, 0)),
    "peers": ((0, -4, 4, 0), (0, -4, 4, 0)),
    "legal": ((91.5,) * 4, (91.5,) * 4),
}


def reward(name: str, **parameters: Any) -> Any:
    if name == "own_deontological":
        terms = {"own": 1.0, "deontological": 1.0}
        return build("reward", {"name": "weighted", "terms": terms, **parameters}, REWARDS)
    return build("reward", {"name": name, **parameters}, REWARDS)


def one_round(own: Action, other: Action, shown: tuple[int, int], seat: int = 0) -> PlayedMatches:
    """A match of one round; `own`, `other` and `shown` (own first) as seen from `seat`."""
    side = 1 if seat == 0 else -1
    state = next(s for _, s in GAME.initial_distribution(0) if s.prior == shown[::side])
    state = GAME.step(state, dict(enumerate((own, other)[::side])))
    return PlayedMatches.from_histories([GAME.history(state)[:1]], [state.prior])


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("seat", [0, 1])
def test_all_states_and_joint_moves(name: str, seat: int) -> None:
    for own_shown in (C, D):
        for other_shown in (C, D):
            for index, (own, other) in enumerate([(C, C), (C, D), (D, C), (D, D)]):
                played = one_round(own, other, (own_shown, other_shown), seat)
                value = reward(name)(played, GAME)[0, seat, 0]
                assert value == pytest.approx(TABLE[name][other_shown][index])


def test_the_table_has_every_reward() -> None:
    assert set(TABLE) == (set(REWARDS) - {"weighted"}) | {"own_deontological"}


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("other", [C, D, ILLEGAL])
@pytest.mark.parametrize("shown", [(C, C), (C, D), (D, C), (D, D)])
def test_an_own_illegal_answer_is_worth_the_same_under_every_key(
    name: str, other: Action, shown: tuple[int, int]
) -> None:
    """Whatever the other did, whatever sign or weight the reward has, and once in a sum."""
    played = one_round(ILLEGAL, other, shown)
    assert reward(name)(played, GAME)[0, 0, 0] == -6
    assert reward(name, illegal=-15.0)(played, GAME)[0, 0, 0] == -15
    assert reward(name, illegal=0.0)(played, GAME)[0, 0, 0] == 0


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("own", [C, D])
@pytest.mark.parametrize("shown", [(C, C), (C, D), (D, C), (D, D)])
def test_the_others_illegal_answer(name: str, own: int, shown: tuple[int, int]) -> None:
    """Carry: as if it had played its last move again. Zero and penalize: as they say."""
    played = one_round(own, ILLEGAL, shown)
    carried = one_round(own, shown[1], shown)
    assert reward(name)(played, GAME)[0, 0, 0] == reward(name)(carried, GAME)[0, 0, 0]
    assert reward(name, opponent_illegal="zero")(played, GAME)[0, 0, 0] == 0
    penalizing = reward(name, opponent_illegal="penalize", illegal=-7.0)
    assert penalizing(played, GAME)[0, 0, 0] == -7
    assert penalizing(carried, GAME)[0, 0, 0] != -7


def test_the_mapping_of_the_published_code() -> None:
    """Carry for game, zero for ut, penalize for game_de, and nothing done for de."""
    played = one_round(D, ILLEGAL, (C, C))
    executed = {
        "own": (reward("own"), 4),
        "utilitarian": (reward("utilitarian", opponent_illegal="zero"), 0),
        "own_deontological": (reward("own_deontological", opponent_illegal="penalize"), -6),
        "deontological": (reward("deontological"), -3),
    }
    for one, expected in executed.values():
        assert one(played, GAME)[0, 0, 0] == expected


def test_no_move_to_play_again_gives_other() -> None:
    game = make_game({"name": "prisoners_dilemma_4310", "illegal": "carry"})
    state = game.step(game.start(0), {0: D, 1: ILLEGAL})
    played = PlayedMatches.from_histories([game.history(state)])
    assert reward("own", other=0.5)(played, game)[0].tolist()[0][0] == 0.5
    assert reward("deontological")(played, game)[0, 0, 0] == 0  # Nothing was on display.


def test_a_penalty_of_zero_is_zero_and_a_negative_one_is_refused() -> None:
    played = one_round(D, C, (C, C))
    assert reward("deontological", penalty=0.0)(played, GAME)[0, 0, 0] == 0
    assert reward("kindness", bonus=0.0)(one_round(C, C, (C, C)), GAME)[0, 0, 0] == 0
    for name, key in (("deontological", "penalty"), ("kindness", "bonus")):
        with pytest.raises(ComityError, match="must not be negative"):
            reward(name, **{key: -1.0})


def payoff_based(*payoffs: float) -> PlayedMatches:
    joint = (C,) * len(payoffs)
    return PlayedMatches.from_histories([(Round(joint, joint, payoffs),)])


def test_equality_of_zeros_and_of_losses() -> None:
    assert reward("equality")(payoff_based(0, 0), GAME)[0, :, 0].tolist() == [1, 1]
    assert reward("inequality")(payoff_based(0, 0), GAME)[0, :, 0].tolist() == [0, 0]
    # 1 - |-1 - 3| / 4 and 1 - |-1 + 3| / 4.
    assert reward("equality")(payoff_based(-1, 3), GAME)[0, :, 0].tolist() == [0, 0]
    assert reward("equality")(payoff_based(-1, -3), GAME)[0, :, 0].tolist() == [0.5, 0.5]


def test_beta_is_a_real_number() -> None:
    played = one_round(C, D, (C, C))
    for beta in (0.0, 0.2, 0.8, 1.0):
        assert reward("mixed_virtue", beta=beta)(played, GAME)[0, 0, 0] == pytest.approx(1 - beta)
    with pytest.raises(ComityError, match="between 0 and 1"):
        reward("mixed_virtue", beta=1.5)


def test_three_seats() -> None:
    game = make_game({"name": "public_goods", "seats": 3, "contribution": 3, "multiplier": 2})
    state = game.step(game.start(0), {0: C, 1: C, 2: D})
    state = game.step(state, {0: D, 1: C, 2: D})
    played = PlayedMatches.from_histories([game.history(state)])
    # Round 1: seat 0 wrongs seat 1 (half of the others cooperated), seat 2 both the others.
    assert reward("deontological")(played, game)[0, :, 1].tolist() == [-1.5, 0, -3]
    # Payoffs of round 0: 4, 4, 7. Seat 0: mean of 1 and 1 - 3/11; seat 2: 1 - 3/11.
    expected = [(1 + 8 / 11) / 2, (1 + 8 / 11) / 2, 8 / 11]
    assert reward("equality")(played, game)[0, :, 0].tolist() == pytest.approx(expected)
    assert reward("altruist")(played, game)[0, :, 0].tolist() == [11, 11, 8]


def test_the_cooperative_move_may_be_named() -> None:
    game = make_game({"name": "defective_coordination"})
    second = reward("kindness", cooperate="defect")
    second.check(game)
    played = PlayedMatches.from_histories([game.history(game.step(game.start(0), {0: D, 1: C}))])
    assert second(played, game)[0, :, 0].tolist() == [3, 0]
    with pytest.raises(ComityError, match="unknown move 'cooperation'; did you mean cooperate"):
        reward("deontological", cooperate="cooperation").check(game)
    nested = {"deontological": {"cooperate": "nobody"}}
    with pytest.raises(ComityError, match="unknown move 'nobody'"):
        build("reward", {"name": "weighted", "terms": nested}, REWARDS).check(game)


def test_terms_take_parameters() -> None:
    terms = {"own": 1, "deontological": {"weight": 2, "penalty": 5}}
    one = build("reward", {"name": "weighted", "terms": terms}, REWARDS)
    assert one(one_round(D, C, (C, C)), GAME)[0, 0, 0] == 4 - 2 * 5
    with pytest.raises(ComityError, match="did you mean penalty"):
        terms = {"deontological": {"penality": 5}}
        build("reward", {"name": "weighted", "terms": terms}, REWARDS)


def test_all_rewards_are_logged_with_the_trained_parameters() -> None:
    trained = reward("deontological", penalty=5.0, illegal=-15.0)
    logged = log_rewards(one_round(D, C, (C, C)), GAME, trained)
    assert set(logged) == set(TABLE)
    assert logged["deontological"][0, 0, 0] == -5
    assert logged["own_deontological"][0, 0, 0] == 4 - 5
    assert np.all([one.illegal == -15 for one in all_rewards(trained).values()])
