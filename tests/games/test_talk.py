"""Talk that a seat may end by claiming, and messages beyond the most: rounds by hand."""

from typing import Any

import pytest

from comity.errors import ComityError
from comity.games import make_game
from comity.games.base import ILLEGAL, Reply
from comity.games.lengths import Fixed
from comity.games.split.game import Split
from comity.games.split.state import SplitState
from tests.games.test_split import known, split

VALUES = ((3.0, 1.0), (1.0, 2.0))


def talk(least: int, most: int, seats: int = 2, **rules: Any) -> Split:
    """Two hats and three books; whoever claims something is paid only if all of it fits."""
    rules = {"payment": "exact", "messages": most, "least_messages": least, **rules}
    return split((2, 3), VALUES if seats == 2 else (*VALUES, (1.0, 1.0)), **rules)


def asked(game: Split, state: SplitState) -> list[tuple[int, str]]:
    return [(turn.seat, turn.kind) for turn in game.turns(state)]


def spoken(game: Split, *replies: Reply, seed: int = 0) -> tuple[SplitState, list[Any]]:
    """The state after these answers, one seat after the other, and who was asked for what."""
    state, order = game.start(seed), []
    for reply in replies:
        ((seat, kind),) = asked(game, state)
        order.append((seat, kind))
        state = game.step(state, {seat: reply})
    return state, order


@pytest.mark.parametrize("finalization", ["together", "in_turn", "visible"])
def test_the_first_seat_ends_the_talk(finalization: str) -> None:
    """At least one message each: seat 0 can claim at its second turn."""
    game = talk(1, 3, finalization=finalization)
    state, order = spoken(game, "hats are mine", "fine", (2, 0))
    assert order == [(0, "message"), (1, "message"), (0, "talk")]
    (turn,) = game.turns(state)
    assert (turn.seat, turn.kind, turn.step, turn.legal) == (1, "claim", 3, ())
    assert known(turn).claimed == (True, False)
    assert known(turn).claims == (((2, 0), None) if finalization == "visible" else (None, None))
    assert known(turn).rest == ((0, 3) if finalization == "visible" else None)
    one = game.step(state, {1: (0, 3)}).history[-1]
    assert (one.payoffs, one.claims, one.exceeded) == ((6, 6), ((2, 0), (0, 3)), ())
    assert one.messages == ((0, "hats are mine"), (1, "fine"))
    assert game.step(state, {1: (0, 2)}).history[-1].payoffs == (0, 0)


def test_the_second_seat_ends_the_talk() -> None:
    """Then the first one claims, though it has a message left."""
    game = talk(1, 3)
    state, order = spoken(game, "a", "b", "c", (0, 3))
    assert order[2:] == [(0, "talk"), (1, "talk")]
    assert asked(game, state) == [(0, "claim")]
    assert game.step(state, {0: (2, 0)}).history[-1].payoffs == (6, 6)
    with pytest.raises(ValueError, match="a claim has a number for each"):
        game.step(state, {0: "I still have one"})  # talk is over, and that is none too many


def test_without_a_least_number_the_talk_may_never_begin() -> None:
    state, order = spoken(talk(0, 1), (2, 0), (0, 3))
    assert order == [(0, "talk"), (1, "claim")]
    assert (state.history[-1].messages, state.history[-1].payoffs) == ((), (6, 6))


@pytest.mark.parametrize("finalization", ["together", "in_turn"])
def test_all_messages_may_be_written(finalization: str) -> None:
    game = talk(1, 2, finalization=finalization)
    state, order = spoken(game, "a", "b", "c", "d")
    assert order == [(0, "message"), (1, "message"), (0, "talk"), (1, "talk")]
    both = finalization == "together"
    assert asked(game, state) == ([(0, "claim"), (1, "claim")] if both else [(0, "claim")])


def test_equal_numbers_are_the_number() -> None:
    game = make_game({"name": "deal_or_no_deal", "messages": {"least": 2, "most": 2}})
    plain = make_game({"name": "deal_or_no_deal", "messages": 2})
    assert isinstance(game, Split) and not game.open_ended
    state = game.start(3)
    while (turns := game.turns(state))[0].kind != "claim":
        assert turns == plain.turns(state) and turns[0].kind == "message"
        state = game.step(state, {turns[0].seat: "m"})
    assert len(turns) == 2
    with pytest.raises(ValueError, match="a claim has a number"):
        game.step(state, {0: "one more", 1: turns[1].observation.instance.stock})  # type: ignore[attr-defined]


@pytest.mark.parametrize("illegal", ["zero_claim", "zero_all", "end_match"])
def test_a_message_too_many_ends_the_round(illegal: str) -> None:
    game = talk(0, 1, finalization="in_turn", illegal=illegal, length=Fixed(2))
    state, order = spoken(game, "a", "b", "c")
    assert order[-1] == (0, "claim")
    one = state.history[-1]
    assert (one.payoffs, one.claims, one.allocation) == ((0, 0), (None, None), ((0, 0), (0, 0)))
    assert (one.exceeded, one.intended) == ((0,), (ILLEGAL, 0)), "seat 1 did nothing wrong"
    assert one.moves == (ILLEGAL, ILLEGAL)
    assert one.messages == ((0, "a"), (1, "b")), "nobody reads it"
    assert state.over == (illegal == "end_match")


def test_a_message_too_many_of_the_second_seat() -> None:
    """Also after the other's claim, and beside it."""
    game = talk(0, 1, finalization="in_turn")
    state, _ = spoken(game, "a", "b", (2, 0), "c")
    assert (state.history[-1].exceeded, state.history[-1].payoffs) == ((1,), (0, 0))
    assert state.history[-1].intended == (0, ILLEGAL)
    game = talk(0, 1)
    before, _ = spoken(game, "a", "b")
    one = game.step(before, {0: (2, 0), 1: "c"}).history[-1]
    assert (one.exceeded, one.payoffs, one.claims) == ((1,), (0, 0), (None, None))
    assert game.step(before, {0: "c", 1: "d"}).history[-1].exceeded == (0, 1)
    # Seat 1 ended the talk before it had written any; seat 0 has written all it may.
    state, order = spoken(game, "a", (0, 3), "b")
    assert order == [(0, "talk"), (1, "talk"), (0, "claim")]
    assert state.history[-1].exceeded == (0,)


def test_illegal_answers_in_the_talk_are_empty_messages() -> None:
    """They use up messages; where only a claim is left, they are an illegal claim."""
    game = talk(0, 2, finalization="in_turn")
    state, order = spoken(game, ILLEGAL, ILLEGAL, ILLEGAL, "b", ILLEGAL, (2, 3))
    assert [kind for _, kind in order] == ["talk"] * 4 + ["claim"] * 2
    one = state.history[-1]
    assert one.messages == ((0, ""), (1, ""), (0, ""), (1, "b"))
    assert (one.intended, one.exceeded, one.payoffs) == ((ILLEGAL, 0), (), (0, 8))


@pytest.mark.parametrize("finalization", ["together", "in_turn"])
def test_three_seats_claim_in_order_after_the_one_that_ended_the_talk(finalization: str) -> None:
    game = talk(0, 2, seats=3, finalization=finalization)
    state, order = spoken(game, "a", "b", "c", "d", (0, 1))
    assert [seat for seat, _ in order] == [0, 1, 2, 0, 1]
    if finalization == "together":
        assert asked(game, state) == [(0, "claim"), (2, "claim")]
        state = game.step(state, {0: (2, 0), 2: (0, 2)})
    else:
        assert asked(game, state) == [(2, "claim")]
        state = game.step(state, {2: (0, 2)})
        assert asked(game, state) == [(0, "claim")]
        state = game.step(state, {0: (2, 0)})
    assert state.history[-1].payoffs == (6, 2, 2)


def test_the_second_seat_may_begin() -> None:
    game = talk(1, 1, starter="by_group_parity", length=Fixed(2))
    assert not game.open_ended
    game = talk(0, 1, starter="by_group_parity", length=Fixed(2))
    state, order = spoken(game, "a", (2, 0), (0, 3), seed=1)
    assert [seat for seat, _ in order] == [1, 0, 1]
    assert asked(game, state) == [(0, "talk")], "the next round begins with the other seat"


# Claims that are seen


def test_visible_claims() -> None:
    game = talk(0, 0, finalization="visible")
    state = game.step(game.start(0), {0: ILLEGAL})
    (turn,) = game.turns(state)
    assert (known(turn).claims, known(turn).rest) == ((ILLEGAL, None), (2, 3))
    three = split((4,), ((1.0,),) * 3, finalization="visible", payment="exact")
    state = three.step(three.start(0), {0: (3,)})
    assert known(three.turns(state)[0]).rest is None, "the third has not claimed yet"
    state = three.step(state, {1: (2,)})
    assert known(three.turns(state)[0]).rest == (-1,)


def test_the_ultimatum_answered_by_a_division() -> None:
    """The deal holds exactly if both claims make up the stock."""
    game = make_game({"name": "ultimatum", "response": "division"})
    assert isinstance(game, Split) and game.moves == ()
    assert make_game({"name": "ultimatum", "response": "answer"}) == make_game("ultimatum")
    state = game.step(game.start(0), {0: (7,)})
    (turn,) = game.turns(state)
    assert (turn.seat, turn.kind, turn.legal) == (1, "claim", ())
    assert (known(turn).claims, known(turn).rest) == (((7,), None), (3,))
    for claim, payoffs in (((3,), (7, 3)), ((2,), (0, 0)), ((4,), (0, 0)), (ILLEGAL, (0, 0))):
        assert game.step(state, {1: claim}).history[-1].payoffs == payoffs


# Refusals


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ({"least": 3, "most": 2}, "least must be at most the most, not 3 of 2"),
        ({"least": -1, "most": 2}, "messages must not be negative, not -1"),
        ({"least": 0, "most": 0}, "most must be at least 1; without talk, set messages=0"),
        ({"least": 0, "most": -1}, "most must be at least 1"),
        ({"most": 3}, "needs both, least and most"),
        ({}, "needs both, least and most"),
        ({"least": 1, "most": 3, "mean": 2}, "unknown limit of messages 'mean'"),
        ({"least": 1, "most": "many"}, "messages must be"),
        ({"least": 1, "most": 1.5}, "messages must be"),
        ({"least": 1, "most": True}, "messages must be"),
        ("many", "messages must be"),
        (-1, "messages must not be negative, not -1"),
    ],
)
def test_numbers_of_messages_that_cannot_be(messages: Any, complaint: str) -> None:
    with pytest.raises(ComityError) as caught:
        make_game({"name": "deal_or_no_deal", "messages": messages})
    assert complaint in str(caught.value) and "\n" not in str(caught.value)


def test_roles_that_are_given_leave_nobody_to_end_the_talk() -> None:
    talks = {"least": 0, "most": 2}
    with pytest.raises(ComityError, match="or finalization=visible"):
        make_game({"name": "deal_or_no_deal", "finalization": "proposal", "messages": talks})
    with pytest.raises(ComityError, match="no seat can end the messages early"):
        make_game({"name": "ultimatum", "messages": talks})
    make_game({"name": "ultimatum", "messages": talks, "response": "division"})
    with pytest.raises(ComityError, match="unknown response 'both'"):
        make_game({"name": "ultimatum", "response": "both"})
