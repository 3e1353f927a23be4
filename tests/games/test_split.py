"""The rules of split games: worked examples by hand, and what holds in any match."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comity.errors import ComityError
from comity.games import make_game
from comity.games.base import ILLEGAL, Reply, Turn
from comity.games.lengths import Fixed, Geometric
from comity.games.split.game import Split, group_seed
from comity.games.split.instances import SampledInstances
from comity.games.split.payment import ACCEPT, REJECT
from comity.games.split.quantities import FixedQuantities
from comity.games.split.state import SplitObservation, SplitRound, SplitState
from comity.games.split.valuations import FixedValues, UniformValues

ITEMS = ("hats", "books", "balls")


def split(stock: tuple[int, ...], values: tuple[tuple[float, ...], ...], **rules: Any) -> Split:
    """Without talk and with known values, unless the rules say otherwise."""
    kinds = len(stock)
    instances = SampledInstances(
        ITEMS[:kinds], FixedQuantities(kinds, stock), FixedValues(kinds, values)
    )
    return Split(
        "Test", instances, **{"messages": 0, "length": Fixed(1), "starter": "fixed", **rules}
    )


def known(turn: Turn) -> SplitObservation:
    assert isinstance(turn.observation, SplitObservation)
    return turn.observation


def played(game: Split, *replies: Mapping[int, Reply], seed: int = 0) -> SplitState:
    """The state after these steps."""
    state = game.start(seed)
    for reply in replies:
        state = game.step(state, reply)
    return state


def last(game: Split, *replies: Mapping[int, Reply]) -> SplitRound:
    return played(game, *replies).history[-1]


# Proportional payment


@pytest.mark.parametrize(
    ("claims", "received"),
    [
        (((10,), (10,)), (5, 5)),
        (((10,), (5,)), (20 / 3, 10 / 3)),
        (((8,), (4,)), (20 / 3, 10 / 3)),
        (((6,), (4,)), (6, 4)),
        (((3,), (4,)), (3, 4)),  # three coins are lost
        (((10,), (0,)), (10, 0)),
        (((0,), (0,)), (0, 0)),
    ],
)
def test_claims_beyond_the_stock_are_scaled_down(
    claims: tuple[tuple[int, ...], ...], received: tuple[float, ...]
) -> None:
    """x = q p / max(q, sum of claims), and points are v x, unrounded."""
    one = last(split((10,), ((10.0,), (1.0,))), dict(enumerate(claims)))
    assert [units[0] for units in one.allocation] == pytest.approx(received)
    assert one.payoffs == pytest.approx((10 * received[0], received[1]))
    assert (one.claims, one.moves, one.intended) == (claims, (0, 0), (0, 0))


def test_items_are_shared_each_by_itself() -> None:
    """Two hats of which 2 + 2 are claimed, four books of which 1 + 1 are."""
    one = last(split((2, 4), ((10.0, 1.0), (1.0, 10.0))), {0: (2, 1), 1: (2, 1)})
    assert one.allocation == ((1, 1), (1, 1))
    assert one.payoffs == (11, 11)


def test_three_seats_share_in_proportion() -> None:
    """Claims 10, 10 and 5 of 10: 25 are claimed, so a claimed unit gives 0.4."""
    game = split((10,), ((1.0,), (2.0,), (10.0,)))
    one = last(game, {0: (10,), 1: (10,), 2: (5,)})
    assert [units[0] for units in one.allocation] == pytest.approx([4, 4, 2])
    assert one.payoffs == pytest.approx((4, 8, 20))


def test_shared_payoffs_are_the_sum() -> None:
    game = split((10,), ((10.0,), (1.0,)), shared_payoff=True)
    assert last(game, {0: (4,), 1: (5,)}).payoffs == (45, 45)


# Exact payment


@pytest.mark.parametrize(
    ("claims", "payoffs"),
    [
        (((2, 1), (0, 2)), (7, 4)),
        (((2, 1), (0, 1)), (0, 0)),  # a book is left
        (((2, 1), (1, 2)), (0, 0)),  # a hat too many
        (((1, 2), (2, 1)), (0, 0)),
        (((0, 0), (2, 3)), (0, 10)),
    ],
)
def test_exact_claims_must_fit_in_every_item(
    claims: tuple[tuple[int, ...], ...], payoffs: tuple[float, ...]
) -> None:
    game = split((2, 3), ((3.0, 1.0), (2.0, 2.0)), payment="exact")
    one = last(game, dict(enumerate(claims)))
    assert one.payoffs == payoffs
    if payoffs == (0, 0):
        assert one.allocation == ((0, 0), (0, 0))


def test_three_exact_claims() -> None:
    game = split((3,), ((1.0,), (2.0,), (3.0,)), payment="exact")
    assert last(game, {0: (1,), 1: (1,), 2: (1,)}).payoffs == (1, 2, 3)
    assert last(game, {0: (1,), 1: (1,), 2: (2,)}).payoffs == (0, 0, 0)


# Proposals


@pytest.mark.parametrize("payment", ["proportional", "exact"])
def test_a_proposal_is_accepted_or_nobody_gets_anything(payment: str) -> None:
    game = split((10, 2), ((1.0, 3.0), (2.0, 1.0)), finalization="proposal", payment=payment)
    assert game.moves == ("accept", "reject")
    state = game.step(game.start(0), {0: (7, 0)})
    (turn,) = game.turns(state)
    assert (turn.seat, turn.kind, turn.legal) == (1, "respond", (ACCEPT, REJECT))
    assert (known(turn).claims, known(turn).rest) == (((7, 0), None), (3, 2))
    one = game.step(state, {1: ACCEPT}).history[-1]
    assert (one.accepted, one.payoffs) == (True, (7, 8))
    assert one.claims == ((7, 0), (3, 2))
    one = game.step(state, {1: REJECT}).history[-1]
    assert (one.accepted, one.payoffs, one.allocation) == (False, (0, 0), ((0, 0), (0, 0)))
    assert game.turns(played(game, {0: (7, 0)}, {1: REJECT})) == ()


def test_the_other_seat_proposes_when_it_begins() -> None:
    rules = {"finalization": "proposal", "starter": "by_group_parity", "length": Fixed(2)}
    game = split((10,), ((1.0,), (1.0,)), **rules)
    state = played(game, {1: (8,)}, {0: ACCEPT}, {0: (6,)}, {1: ACCEPT}, seed=1)
    assert [one.payoffs for one in state.history] == [(2, 8), (6, 4)]
    assert [one.starter for one in state.history] == [1, 0]


def test_illegal_proposals_and_responses() -> None:
    game = split((10,), ((1.0,), (1.0,)), finalization="proposal")
    state = game.step(game.start(0), {0: ILLEGAL})
    assert (known(game.turns(state)[0]).claims, known(game.turns(state)[0]).rest) == (
        (ILLEGAL, None),
        (10,),
    )
    one = game.step(state, {1: ACCEPT}).history[-1]
    assert (one.payoffs, one.intended) == ((0, 10), (ILLEGAL, 0))
    one = last(game, {0: (5,)}, {1: ILLEGAL})
    assert (one.payoffs, one.accepted, one.intended) == ((0, 0), False, (0, ILLEGAL))
    strict = split((10,), ((1.0,), (1.0,)), finalization="proposal", illegal="zero_all")
    one = last(strict, {0: ILLEGAL}, {1: ACCEPT})
    assert (one.payoffs, one.moves) == ((0, 0), (ILLEGAL, ILLEGAL))


# Illegal claims


def test_one_illegal_claim_leaves_the_other_its_own() -> None:
    one = last(split((10,), ((10.0,), (1.0,))), {0: ILLEGAL, 1: (10,)})
    assert one.payoffs == (0, 10)
    assert (one.intended, one.moves, one.claims) == ((ILLEGAL, 0), (0, 0), ((0,), (10,)))


@pytest.mark.parametrize("illegal", ["zero_all", "end_match"])
def test_one_illegal_claim_voids_the_round_where_configured(illegal: str) -> None:
    game = split((10,), ((10.0,), (1.0,)), illegal=illegal, length=Fixed(3))
    state = played(game, {0: ILLEGAL, 1: (10,)})
    one = state.history[-1]
    assert (one.payoffs, one.claims) == ((0, 0), (None, None))
    assert (one.intended, one.moves) == ((ILLEGAL, 0), (ILLEGAL, ILLEGAL))
    assert state.over == (illegal == "end_match")


# Turns


def test_messages_alternate_before_everybody_claims() -> None:
    game = split((10,), ((1.0,), (1.0,)), messages=2)
    state, order = game.start(0), []
    for number in range(4):
        (turn,) = game.turns(state)
        assert (turn.kind, turn.step, turn.legal) == ("message", number, ())
        assert known(turn).messages == tuple(order)
        order.append((turn.seat, f"m{number}"))
        state = game.step(state, {turn.seat: f"m{number}"})
    assert [seat for seat, _ in order] == [0, 1, 0, 1]
    turns = game.turns(state)
    assert [(t.seat, t.kind, t.step) for t in turns] == [(0, "claim", 4), (1, "claim", 4)]
    assert game.step(state, {0: (5,), 1: (5,)}).history[-1].messages == tuple(order)


def test_three_seats_speak_in_seat_order_from_the_starting_one() -> None:
    game = split((10,), ((1.0,),) * 3, messages=1, starter="by_group_parity")
    state, order = game.start(5), []
    while game.turns(state)[0].kind == "message":
        (turn,) = game.turns(state)
        order.append(turn.seat)
        state = game.step(state, {turn.seat: "Hello"})
    assert order == [2, 0, 1]
    assert [turn.seat for turn in game.turns(state)] == [0, 1, 2]


def test_claims_in_turn_are_known_to_be_made_but_not_what_they_are() -> None:
    game = split((10,), ((1.0,), (1.0,)), finalization="in_turn")
    views = []
    for claim in ((2,), (9,)):
        (turn,) = game.turns(game.step(game.start(0), {0: claim}))
        assert (turn.seat, turn.kind, turn.step) == (1, "claim", 1)
        assert known(turn).claimed == (True, False)
        views.append(known(turn))
    assert views[0] == views[1]


def test_values_are_seen_as_far_as_they_are_open() -> None:
    for open_values in (False, True):
        turns = (game := split((10,), ((3.0,), (4.0,)), open_values=open_values)).turns(
            game.start(0)
        )
        hidden = None if not open_values else (4.0,)
        assert known(turns[0]).seen_values == ((3.0,), hidden)
        assert known(turns[1]).values == (4.0,)


def test_messages_are_cut_and_illegal_ones_are_empty() -> None:
    game = split((10,), ((1.0,), (1.0,)), messages=1, message_limit=5)
    state = played(game, {0: "Hello there"}, {1: ILLEGAL})
    assert state.messages == ((0, "Hello"), (1, ""))


# Starting seats


def rounds(rules: dict[str, Any], seed: int, count: int = 4) -> list[int]:
    game = make_game({"name": "trust_and_split_rps", **rules})
    assert isinstance(game, Split)
    return [game.first_seat(seed, number) for number in range(count)]


def test_starting_seats_are_balanced_over_matches_and_alternate_in_each() -> None:
    first = [rounds({}, seed) for seed in range(1000)]
    assert all(one in ([0, 1, 0, 1], [1, 0, 1, 0]) for one in first)
    assert abs(sum(one[0] for one in first) - 500) < 4 * 16  # deviation sqrt(1000 / 4)


def test_three_starting_seats_are_balanced() -> None:
    game = make_game({"name": "trust_and_split", "seats": 3})
    assert isinstance(game, Split)
    first = [game.first_seat(seed, 0) for seed in range(900)]
    assert all(abs(first.count(seat) - 300) < 4 * 15 for seat in range(3))
    assert [game.first_seat(0, n) for n in range(4)] == [(first[0] + n) % 3 for n in range(4)]


def test_starting_seats_by_parity_or_fixed() -> None:
    assert rounds({"starter": "by_group_parity"}, 6) == [0, 1, 0, 1]
    assert rounds({"starter": "by_group_parity"}, 7) == [1, 0, 1, 0]
    assert {tuple(rounds({"starter": "fixed"}, seed)) for seed in range(9)} == {(0, 0, 0, 0)}


@pytest.mark.parametrize("seats", [2, 3])
def test_groups_begin_with_the_seat_of_their_number(seats: int) -> None:
    game = make_game({"name": "trust_and_split", "seats": seats, "starter": "by_group_parity"})
    assert isinstance(game, Split)
    for group in range(7):
        for seed in (0, 5, 2**62 - 1):
            assert game.first_seat(group_seed(game, seed, group), 0) == group % seats
    alternating = make_game({"name": "trust_and_split"})
    assert group_seed(alternating, 5, 2) == 5
    assert group_seed(make_game({"name": "chicken"}), 5, 2) == 5


# Length


def test_the_coin_for_another_round_is_what_successors_list() -> None:
    game = split((10,), ((1.0,), (1.0,)), length=Geometric(0.5, 3))
    claims = {0: (5,), 1: (5,)}
    ended = 0
    for seed in range(200):
        state = game.step(game.start(seed), claims)
        options = game.successors(game.start(seed), claims)
        assert [p for p, _ in options] == [0.5, 0.5]
        assert state in [after for _, after in options]
        ended += state.over
    assert 60 < ended < 140
    ((_, only),) = game.successors(
        SplitState(0, played(game, claims).history * 2), claims
    )  # the third round is the cap
    assert only.over


# Refusals


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"finalization": "at_once"}, "unknown finalization 'at_once'"),
        ({"payment": "fair"}, "unknown payment 'fair'"),
        ({"starter": "random"}, "unknown starter 'random'"),
        ({"illegal": "ignore"}, "unknown rule for illegal answers 'ignore'"),
        ({"disclosed": ["hands"]}, "unknown disclosure 'hands'"),
        ({"messages": -1}, "messages must not be negative"),
        ({"message_limit": 0}, "message_limit must be at least 1"),
        ({"seats": 3, "finalization": "proposal"}, "a proposal needs two seats"),
        ({"mesages": 2}, "unknown parameter 'mesages'; did you mean messages"),
        ({"disclosed": "claims"}, "disclosed must be a list"),
    ],
)
def test_rules_that_cannot_be_are_refused(parameters: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ComityError) as caught:
        make_game({"name": "trust_and_split", **parameters})
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "replies",
    [{0: (5,)}, {0: (5,), 1: (11,)}, {0: (5,), 1: (-1,)}, {0: (5,), 1: (1, 1)}, {0: (5,), 1: "5"}],
)
def test_replies_that_no_player_may_give_are_errors(replies: dict[int, Any]) -> None:
    game = split((10,), ((1.0,), (1.0,)))
    with pytest.raises(ValueError):
        game.step(game.start(0), replies)
    with pytest.raises(ValueError, match="the match is over"):
        game.step(played(game, {0: (1,), 1: (1,)}), {0: (5,), 1: (5,)})


def test_messages_and_responses_are_of_their_type() -> None:
    with pytest.raises(ValueError, match="a message is text"):
        played(split((10,), ((1.0,), (1.0,)), messages=1), {0: 3})
    with pytest.raises(ValueError, match="a response is"):
        played(split((10,), ((1.0,), (1.0,)), finalization="proposal"), {0: (3,)}, {1: 2})


# Any match


@st.composite
def games(draw: st.DrawFn) -> Split:
    kinds, seats = draw(st.integers(1, 3)), draw(st.integers(2, 3))
    messages = draw(st.integers(0, 2))
    least = draw(st.none() | st.integers(0, messages))
    finalizations = ["together", "in_turn", "visible"]
    finalizations += ["proposal"] * (seats == 2 and least in (None, messages))
    instances = SampledInstances(
        ITEMS[:kinds],
        FixedQuantities(kinds, [draw(st.integers(1, 6)) for _ in range(kinds)]),
        UniformValues(kinds, 0, 9, seats),
    )
    return Split(
        "Any",
        instances,
        messages=messages,
        least_messages=least,
        message_limit=draw(st.sampled_from([1, 20])),
        finalization=draw(st.sampled_from(finalizations)),
        payment=draw(st.sampled_from(["proportional", "exact"])),
        starter=draw(st.sampled_from(["alternate", "by_group_parity", "fixed"])),
        illegal=draw(st.sampled_from(["zero_claim", "zero_all", "end_match"])),
        length=draw(st.sampled_from([Fixed(1), Fixed(3), Geometric(0.5, 4)])),
    )


def answer(draw: st.DrawFn, game: Split, turn: Turn) -> Reply:
    if draw(st.integers(0, 5)) == 0:
        return ILLEGAL
    talks = turn.kind == "message"
    if turn.kind == "talk" or game.spent(turn.seat, known(turn).messages):
        talks = draw(st.booleans())
    if talks:
        return draw(st.text(max_size=25))
    if turn.kind == "respond":
        return draw(st.sampled_from(turn.legal))
    return tuple(draw(st.integers(0, q)) for q in known(turn).instance.stock)


@given(st.data(), games(), st.integers(0, 2**62))
@settings(max_examples=150, deadline=None)
def test_what_holds_in_any_match(data: st.DataObject, game: Split, seed: int) -> None:
    states, steps = [game.start(seed)], []
    while turns := game.turns(states[-1]):
        before = repr(states[-1])
        steps.append({turn.seat: data.draw(st.composite(answer)(game, turn)) for turn in turns})
        states.append(game.step(states[-1], steps[-1]))
        assert repr(states[-2]) == before, "a state was changed"
        assert states[-1] in [s for _, s in game.successors(states[-2], steps[-1])]
    history = game.history(states[-1])
    assert len(steps) <= len(history) * game.seats * (game.messages + 1)
    assert 1 <= len(history) <= game.length.longest
    for number, one in enumerate(history):
        assert one.instance == game.instances.draw(seed, number)
        assert one.starter == game.first_seat(seed, number)
        written = [[who for who, _ in one.messages].count(seat) for seat in range(game.seats)]
        assert all(game.least - 1 <= count <= game.messages for count in written)
        assert max(written) - min(written) <= 1
        if not game.open_ended:
            assert set(written) == {game.messages} and not one.exceeded
        if one.exceeded:
            assert set(one.payoffs) == {0} and set(one.claims) == {None}
            assert all(written[seat] == game.messages for seat in one.exceeded)
            assert all(one.intended[seat] is ILLEGAL for seat in one.exceeded)
        assert all(len(text) <= game.message_limit for _, text in one.messages)
        for item, stock in enumerate(one.instance.stock):
            assert sum(units[item] for units in one.allocation) <= stock + 1e-9
        for seat in range(game.seats):
            assert min(one.allocation[seat]) >= 0
            assert one.payoffs[seat] == pytest.approx(
                sum(
                    v * x
                    for v, x in zip(one.instance.values[seat], one.allocation[seat], strict=True)
                )
            )
            counts = game.illegal == "zero_claim" and not one.exceeded
            if counts and game.finalization != "proposal":
                claim = one.claims[seat]
                assert claim is not None
                assert all(x <= p + 1e-9 for x, p in zip(one.allocation[seat], claim, strict=True))
        assert sum(one.payoffs) <= one.instance.max_welfare() + 1e-9
        if ILLEGAL in one.intended and game.illegal != "zero_claim":
            assert set(one.payoffs) == {0} and set(one.claims) == {None}
    replay = game.start(seed)
    for step in steps:
        replay = game.step(replay, step)
    assert replay == states[-1]
