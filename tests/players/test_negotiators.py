"""Scripted negotiators: what they claim, accept and say, and which games scripts can play."""

from typing import Any

import numpy as np
import pytest

from comity.config.seats import check_seat, check_strategy, scripted_player
from comity.errors import ComityError
from comity.games import GAMES, make_game
from comity.games.base import ILLEGAL, Reply
from comity.games.lengths import Fixed
from comity.games.randomness import generator
from comity.games.split.claim_rules import WelfareMaximizing
from comity.games.split.game import Split
from comity.games.split.instances import SampledInstances
from comity.games.split.payment import ACCEPT, REJECT
from comity.games.split.quantities import FixedQuantities, RandomQuantities
from comity.games.split.state import SplitObservation, SplitState
from comity.games.split.valuations import FixedValues
from comity.players.base import Request
from comity.players.scripted.catalog import (
    MATRIX_STRATEGIES,
    NEGOTIATORS,
    STRATEGIES,
    check_can_play,
    reply_text,
)
from comity.players.scripted.negotiators import ConstantClaimer, Negotiator
from comity.players.scripted.player import StrategyPlayer
from comity.players.scripted.strategies import TitForTat
from comity.registry import build, sentences

RNG = np.random.default_rng(0)
ITEMS = ("hats", "books", "balls")


def split(stock: tuple[int, ...], values: tuple[tuple[float, ...], ...], **rules: Any) -> Split:
    kinds = len(stock)
    instances = SampledInstances(
        ITEMS[:kinds], FixedQuantities(kinds, stock), FixedValues(kinds, values)
    )
    return Split(
        "Test", instances, **{"messages": 0, "length": Fixed(9), "starter": "fixed", **rules}
    )


def after(game: Split, *steps: dict[int, Reply]) -> SplitState:
    state = game.start(0)
    for step in steps:
        state = game.step(state, step)
    return state


def replies(
    name: str, game: Split, state: SplitState, parameters: dict[str, Any] | None = None
) -> dict[int, Reply]:
    """What it answers on every seat that is asked."""
    script = build("player", {"name": name, **(parameters or {})}, NEGOTIATORS)
    return {turn.seat: script.reply(turn, game, RNG) for turn in game.turns(state)}


THREE = split((10, 7, 3), ((10.0, 1.0, 5.0), (1.0, 1.0, 6.0)))


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        # Hats are worth more to seat 0, balls to seat 1, and of seven books four go to seat 0.
        ("welfare_maximizing", {0: (10, 4, 0), 1: (0, 3, 3)}),
        ("greedy", {0: (10, 7, 3), 1: (10, 7, 3)}),
        ("claim", {0: (5, 5, 3), 1: (5, 5, 3)}),
        ("tit_for_tat_claims", {0: (10, 4, 0), 1: (0, 3, 3)}),
    ],
)
def test_first_claims(name: str, claims: dict[int, tuple[int, ...]]) -> None:
    assert replies(name, THREE, THREE.start(0)) == claims


def test_constant_claims_are_of_their_size() -> None:
    assert replies("claim", THREE, THREE.start(0), {"units": 0})[0] == (0, 0, 0)
    with pytest.raises(ComityError, match="units must not be negative"):
        build("player", {"name": "claim", "units": -1}, NEGOTIATORS)


@pytest.mark.parametrize("seats", [2, 3, 4])
@pytest.mark.parametrize("stock", range(1, 9))
def test_cooperators_divide_ties_evenly_without_rest(seats: int, stock: int) -> None:
    values = np.ones((1, seats, 1))
    values[0, -1] = 0.5  # the last one wants it less
    claims = [
        int(WelfareMaximizing().claims(values, np.array([[stock]]), seat)[0][1][0, 0])
        for seat in range(seats)
    ]
    assert sum(claims) == stock and claims[-1] == 0
    assert claims == sorted(claims, reverse=True) and claims[0] - claims[-2] <= 1


def test_random_claims_are_uniform_item_by_item() -> None:
    game = split((2, 3), ((1.0, 1.0), (1.0, 1.0)))
    (turn, _), count = game.turns(game.start(0)), 2400
    script = NEGOTIATORS["uniform_random_claims"]()
    found = [script.reply(turn, game, RNG) for _ in range(count)]
    cells = {c: found.count(c) for c in set(found)}
    assert set(cells) == {(a, b) for a in range(3) for b in range(4)}
    assert all(abs(n - count / 12) < 4.5 * np.sqrt(count / 12) for n in cells.values())


# Tit for tat


def test_tit_for_tat_claims_what_was_claimed() -> None:
    state = after(THREE, {0: (2, 0, 3), 1: (9, 7, 1)})
    assert replies("tit_for_tat_claims", THREE, state) == {0: (9, 7, 1), 1: (2, 0, 3)}


def test_tit_for_tat_scales_to_the_stock_and_rounds_halves_up() -> None:
    """p q / q', where q of an item are there now and p of q' were claimed before."""
    instances = SampledInstances(
        ("hats",), RandomQuantities(1, 1, 30), FixedValues(1, ((1.0,), (2.0,)))
    )
    game = Split("Test", instances, messages=0, length=Fixed(9))
    tried = set()
    for seed in range(60):
        start = game.start(seed)
        before = instances.draw(seed, 0).stock[0]
        for claimed in {0, before // 3, before}:
            state = game.step(start, {0: (0,), 1: (claimed,)})
            now = instances.draw(seed, 1).stock[0]
            expected = int(claimed * now / before + 0.5)
            script = NEGOTIATORS["tit_for_tat_claims"]()
            assert script.reply(game.turns(state)[0], game, RNG) == (expected,)
            tried.add((claimed * now / before) % 1 == 0.5)
    assert tried == {True, False}


def test_tit_for_tat_answers_the_largest_of_several_claims() -> None:
    game = split((10, 10), ((1.0, 2.0),) * 3)
    state = after(game, {0: (1, 9), 1: (2, 3), 2: (7, 0)})
    assert replies("tit_for_tat_claims", game, state) == {0: (7, 3), 1: (7, 9), 2: (2, 9)}


def test_tit_for_tat_looks_past_rounds_in_which_nothing_counted() -> None:
    game = split((10,), ((1.0,), (2.0,)), illegal="zero_all")
    void: dict[int, Reply] = {0: ILLEGAL, 1: (10,)}
    assert replies("tit_for_tat_claims", game, after(game, void)) == {0: (0,), 1: (10,)}
    state = after(game, {0: (3,), 1: (4,)}, void)
    assert replies("tit_for_tat_claims", game, state) == {0: (4,), 1: (3,)}
    # An illegal claim that counts as none is a claim of nothing.
    lenient = split((10,), ((1.0,), (2.0,)))
    assert replies("tit_for_tat_claims", lenient, after(lenient, void)) == {0: (10,), 1: (0,)}


def test_tit_for_tat_maximizes_welfare_where_there_was_nothing() -> None:
    game = make_game({"name": "deal_or_no_deal", "messages": 0})
    assert isinstance(game, Split)
    script, seen = NEGOTIATORS["tit_for_tat_claims"](), False
    for seed in range(40):
        before, now = game.instances.draw(seed, 0), game.instances.draw(seed, 1)
        state = game.step(game.start(seed), {0: before.stock, 1: (0, 0, 0)})
        claim = script.reply(game.turns(state)[0], game, RNG)
        assert isinstance(claim, tuple)
        for item, (then, q) in enumerate(zip(before.stock, now.stock, strict=True)):
            if then == 0 and q and now.values[0][item] > now.values[1][item]:
                assert claim[item] == q
                seen = True
            if then:
                assert claim[item] == 0
    assert seen


# Responses

OFFERS = {
    # By proposal of seat 0; to seat 1 a hat is worth 1 and a book 4.
    "welfare_maximizing": {(2, 2): True, (2, 1): True, (2, 0): True, (1, 2): True, (0, 0): True},
    "greedy": {(2, 2): False, (2, 1): True, (2, 0): True, (1, 2): True, (0, 0): True},
    "claim": {(2, 2): False, (2, 1): False, (2, 0): True, (1, 2): False, (0, 0): True},
    "tit_for_tat_claims": {(2, 1): False, (2, 0): True, (0, 1): False, (1, 2): False},
}


@pytest.mark.parametrize(
    ("name", "proposal", "accepted"),
    [(name, offer, yes) for name, offers in OFFERS.items() for offer, yes in offers.items()],
)
def test_responses(name: str, proposal: tuple[int, int], accepted: bool) -> None:
    """`claim` 1 of each wants 5 points; a cooperative claim on both books wants 8."""
    game = split((2, 2), ((3.0, 0.0), (1.0, 4.0)), finalization="proposal")
    state = game.step(game.start(0), {0: proposal})
    parameters = {"units": 1} if name == "claim" else {}
    assert replies(name, game, state, parameters) == {1: ACCEPT if accepted else REJECT}


def test_welfare_maximizers_reject_only_what_is_worth_nothing() -> None:
    game = split((2, 2), ((0.0, 1.0), (1.0, 0.0)), finalization="proposal")
    for proposal, accepted in (((2, 0), False), ((1, 0), True), ((2, 1), True)):
        state = game.step(game.start(0), {0: proposal})
        expected = ACCEPT if accepted else REJECT
        assert replies("welfare_maximizing", game, state) == {1: expected}


def test_an_illegal_proposal_leaves_everything() -> None:
    game = split((2, 2), ((3.0, 0.0), (1.0, 4.0)), finalization="proposal")
    state = game.step(game.start(0), {0: ILLEGAL})
    assert replies("greedy", game, state) == {1: ACCEPT}


def test_random_responses_are_a_fair_coin() -> None:
    game = split((2,), ((1.0,), (1.0,)), finalization="proposal")
    state = game.step(game.start(0), {0: (1,)})
    found = [replies("uniform_random_claims", game, state)[1] for _ in range(400)]
    assert abs(found.count(ACCEPT) - 200) < 40


# Talk that may be ended, and claims that are seen


@pytest.mark.parametrize("least", [0, 1, 2])
@pytest.mark.parametrize("name", NEGOTIATORS)
def test_they_write_what_they_must_and_claim(name: str, least: int) -> None:
    rules = {"messages": 3, "least_messages": least, "finalization": "in_turn"}
    game = split((10, 7, 3), ((10.0, 1.0, 5.0), (1.0, 1.0, 6.0)), **{**rules, "length": Fixed(1)})
    state, kinds = game.start(0), []
    while turns := game.turns(state):
        kinds += [turn.kind for turn in turns]
        state = game.step(state, replies(name, game, state))
    assert kinds == [*["message"] * 2 * least, "talk", "claim"]
    (one,) = state.history
    assert [seat for seat, _ in one.messages] == [0, 1] * least and not one.exceeded
    if name == "greedy":
        assert one.claims == ((10, 7, 3), (10, 7, 3))


@pytest.mark.parametrize(
    ("name", "proposal", "accepted"),
    [(name, offer, yes) for name, offers in OFFERS.items() for offer, yes in offers.items()],
)
def test_a_division_answers_as_the_response_would(
    name: str, proposal: tuple[int, int], accepted: bool
) -> None:
    """Whoever accepts claims the rest; whoever does not claims what does not fit."""
    rules = {"finalization": "visible", "payment": "exact", "length": Fixed(1)}
    game = split((2, 2), ((3.0, 0.0), (1.0, 4.0)), **rules)
    state = game.step(game.start(0), {0: proposal})
    found = replies(name, game, state, {"units": 1} if name == "claim" else {})
    one = game.step(state, found).history[-1]
    rest = tuple(2 - p for p in proposal)
    assert (found == {1: rest}) == accepted
    worth = (3.0 * proposal[0], rest[0] + 4.0 * rest[1])
    assert one.payoffs == (worth if accepted else (0, 0))


def test_seen_claims_that_leave_too_little_are_met_by_the_own() -> None:
    rules = {"finalization": "visible", "payment": "exact"}
    game = split((4,), ((1.0,),) * 3, **rules)
    state = after(game, {0: (3,)}, {1: (2,)})
    assert replies("greedy", game, state) == {2: (4,)}
    assert replies("greedy", game, after(game, {0: (3,)}, {1: (1,)})) == {2: (4,)}
    assert replies("greedy", game, after(game, {0: (2,)}, {1: (1,)})) == {2: (1,)}
    shared = split((4,), ((1.0,),) * 2, finalization="visible")  # nothing has to fit
    assert replies("greedy", shared, after(shared, {0: (3,)})) == {1: (4,)}


# Messages


@pytest.mark.parametrize("name", NEGOTIATORS)
def test_messages_tell_the_own_hand(name: str) -> None:
    game = make_game({"name": "trust_and_split_rps"})
    assert isinstance(game, Split)
    for seed in range(4):
        state = game.start(seed)
        (turn,) = game.turns(state)
        assert isinstance(turn.observation, SplitObservation)
        hand = turn.observation.instance.hands[turn.seat]
        assert replies(name, game, state) == {turn.seat: f"My hand is {hand}."}


def test_messages_tell_the_own_values_and_keep_to_the_limit() -> None:
    rules = {"messages": 1, "starter": "fixed"}
    game = split((2, 2), ((3.0, 0.5), (1.0, 4.0)), **rules)
    said = replies("greedy", game, game.start(0))[0]
    assert said == "This is what one of each is worth to me: hats 3, books 0.5."
    short = split((2, 2), ((3.0, 0.5), (1.0, 4.0)), message_limit=7, **rules)
    assert replies("greedy", short, short.start(0)) == {0: "This is"}


# As players


SPLITS = [name for name, factory in GAMES.items() if factory.__annotations__["return"] is Split]


@pytest.mark.parametrize("game_name", SPLITS)
@pytest.mark.parametrize("name", NEGOTIATORS)
def test_every_negotiator_plays_every_split_game(name: str, game_name: str) -> None:
    game = make_game({"name": game_name})
    assert isinstance(game, Split)
    for seat in range(game.seats):
        check_strategy(scripted_player(name).strategy, game, seat)
    player = scripted_player(name)
    state = game.start(11)
    while turns := game.turns(state):
        requests = [Request(player, 0, game, turn, (1, 2, 3)) for turn in turns]
        answers = player.open().respond(requests)
        assert answers == player.open().respond(requests)
        for answer in answers:
            assert answer.text and "<" not in answer.text
            assert answer.text == reply_text(answer.action, game)  # type: ignore[arg-type]
        state = game.step(
            state, {turn.seat: a.action for turn, a in zip(turns, answers, strict=True)}
        )
    assert all(ILLEGAL not in one.intended for one in game.history(state))


def test_answers_are_written_as_they_are_read() -> None:
    assert reply_text((3, 0, 1), THREE) == "3 hats, 0 books, 1 balls"
    proposals = split((2,), ((1.0,), (1.0,)), finalization="proposal")
    assert [reply_text(r, proposals) for r in (ACCEPT, REJECT, "Hello", ILLEGAL)] == [
        "accept",
        "reject",
        "Hello",
        "",
    ]


def test_strategies_of_moves_still_choose() -> None:
    game = make_game({"name": "prisoners_dilemma"})
    player = StrategyPlayer("tit_for_tat", TitForTat())
    (turn, _) = game.turns(game.start(0))
    (answer,) = player.open().respond([Request(player, 0, game, turn, (0,))])
    assert (answer.action, answer.text) == (0, "cooperate")


@pytest.mark.parametrize(
    ("name", "game", "complaint"),
    [
        (
            "tit_for_tat",
            "split_no_talk",
            "tit_for_tat cannot play this game, which asks it to claim",
        ),
        ("random", "trust_and_split", "random cannot play this game, which asks it to message"),
        ("tit_for_tat", "ultimatum", "tit_for_tat cannot play this game, which asks it to"),
        ("greedy", "prisoners_dilemma", "greedy cannot play this game, which asks it to choose"),
        ("claim", "public_goods", "claim cannot play this game, which asks it to choose"),
    ],
)
def test_scripts_for_other_games_are_refused(name: str, game: str, complaint: str) -> None:
    made = make_game({"name": game})
    for seat in range(made.seats):
        with pytest.raises(ComityError) as caught:
            check_strategy(scripted_player(name).strategy, made, seat)
        assert complaint in str(caught.value) and "\n" not in str(caught.value)
        other = "tit_for_tat_claims" if name in MATRIX_STRATEGIES else "tit_for_tat,"
        assert other in str(caught.value)


def test_a_strategy_that_fails_in_the_second_round_is_refused_at_the_start() -> None:
    class Forgetful(Negotiator):
        """Cannot go on."""

        def rule(self, known: SplitObservation) -> Any:
            if known.history:
                raise ComityError("I forgot")
            return WelfareMaximizing()

    with pytest.raises(ComityError, match="I forgot"):
        check_can_play(Forgetful(), make_game({"name": "trust_and_split_rps"}), 1)


def test_negotiators_cannot_answer_in_other_games() -> None:
    game = make_game({"name": "prisoners_dilemma"})
    with pytest.raises(ValueError, match="plays split games only"):
        ConstantClaimer().reply(game.turns(game.start(0))[0], game, generator(0))


def test_seats_name_negotiators() -> None:
    check_seat("welfare_maximizing")
    check_seat({"name": "claim", "units": 7})
    assert scripted_player({"name": "claim", "units": 7}).strategy == ConstantClaimer(7)
    with pytest.raises(ComityError, match="unknown parameter 'unit'; did you mean units"):
        check_seat({"name": "claim", "unit": 7})
    with pytest.raises(ComityError, match="did you mean welfare_maximizing"):
        check_seat("welfare_maximising")


def test_every_script_has_a_name_of_its_own_and_a_sentence() -> None:
    assert len(STRATEGIES) == len(MATRIX_STRATEGIES) + len(NEGOTIATORS)
    for sentence in sentences(NEGOTIATORS).values():
        assert sentence.endswith(".") and len(sentence) <= 100
