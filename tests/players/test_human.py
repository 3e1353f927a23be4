"""A person as a player: told what a model is told, asked again, and safe from hostile texts."""

import io
import sys
from typing import Any

import pytest
from rich.console import Console

from comity.games import GAMES
from comity.games.base import Game, Turn
from comity.players.base import Request
from comity.players.human.input_parsing import InvalidInputError, hint, parse_input
from comity.players.human.player import HumanPlayer, NoHumanSeatError, QuitError
from comity.players.human.terminal import STRANGE, Terminal, shown
from comity.players.scripted.catalog import STRATEGIES
from comity.players.scripted.player import StrategyPlayer
from comity.prompts import PROMPTS
from comity.prompts.base import Prompt
from comity.registry import build
from comity.rollout.play import Match, Rollout, play
from tests.players.screens import FakeScreen
from tests.worlds import dilemma

CONVERSATION: Prompt = build("prompt", "conversation", PROMPTS)
NEGOTIATION: Prompt = build("prompt", "negotiation", PROMPTS)


def script(name: str) -> StrategyPlayer:
    return StrategyPlayer(name, build("player", name, STRATEGIES))


def split(**parameters: Any) -> Game:
    fixed = {"name": "fixed", "rounds": 1}
    return build("game", {"name": "deal_or_no_deal", "length": fixed, **parameters}, GAMES)


def played(game: Game, screen: FakeScreen, prompt: Prompt, other: str) -> Rollout:
    players = (HumanPlayer("human", prompt, screen), script(other))
    return play(game, [Match(0, 0, 7, players, (0, 0, 0))])


def test_a_person_reads_what_a_model_reads() -> None:
    game = dilemma(rounds=2)
    screen = FakeScreen(["A", "B"])
    rollout = played(game, screen, CONVERSATION, "always_defect")
    state = game.start(7)
    first = game.turns(state)[0]
    second = game.turns(game.step(state, {0: 0, 1: 1}))[0]
    assert screen.all("show") == [
        f"Round 1\n{CONVERSATION.opening(game, first)}",
        f"Round 2\n{CONVERSATION.following(game, second)}",
    ]
    assert screen.all("hint") == ["A or B", "A or B"]
    mine = [d for d in rollout.decisions if d.seat == 0]
    assert [(d.controller, d.text, d.move, d.payoff) for d in mine] == [
        ("human", "A", 0, 0.0),
        ("human", "B", 1, 1.0),
    ]
    assert all(d.legal == ["A", "B"] and d.adapter is None and not d.trained for d in mine)
    assert rollout.conversations == []


def test_labels_moves_and_letter_case_are_read_and_the_rest_is_asked_again() -> None:
    screen = FakeScreen(["", "C", "A B", " a ", "DEFECT"])
    rollout = played(dilemma(rounds=2), screen, CONVERSATION, "always_defect")
    assert screen.all("complain") == ["type A or B"] * 3
    assert [d.move for d in rollout.decisions if d.seat == 0] == [0, 1]


def test_labels_win_over_names_of_moves() -> None:
    swapped = build(
        "prompt", {"name": "conversation", "framing": "named", "swap_labels": True}, PROMPTS
    )
    rollout = played(dilemma(rounds=1), FakeScreen(["cooperate"]), swapped, "always_defect")
    assert rollout.decisions[0].move == 1


def test_help_shows_the_rules_and_the_question() -> None:
    game = dilemma(rounds=2)
    screen = FakeScreen(["A", "help", "?", "B"])
    played(game, screen, CONVERSATION, "always_cooperate")
    asked = screen.all("show")[2:]
    assert len(asked) == 2 and all("You pick A, they pick B: you get 0" in t for t in asked)


def test_leaving_and_nobody_there() -> None:
    with pytest.raises(QuitError, match="you left") as left:
        played(dilemma(rounds=2), FakeScreen(["A", "Quit"]), CONVERSATION, "always_cooperate")
    assert left.value.exit_code == 130
    with pytest.raises(NoHumanSeatError, match="input ended") as nobody:
        played(dilemma(rounds=2), FakeScreen(["A"]), CONVERSATION, "always_cooperate")
    assert nobody.value.exit_code == 2


def test_two_people_are_told_whose_turn_it_is_and_keep_their_own_texts() -> None:
    screen = FakeScreen(["A", "B", "B", "A"])
    people = tuple(HumanPlayer(f"human:{i}", CONVERSATION, screen, shared=True) for i in (1, 2))
    rollout = play(dilemma(rounds=2), [Match(0, 0, 7, people, (0, 0, 0))])
    assert screen.all("turn") == ["human:1", "human:2"] * 2
    titles = [text.splitlines()[0] for text in screen.all("show")]
    assert titles == [f"human:{i}, round {r}" for r in (1, 2) for i in (1, 2)]
    assert screen.all("show")[2].endswith("You A, they B.")
    assert screen.all("show")[3].endswith("You B, they A.")
    assert [(d.player, d.move) for d in rollout.decisions] == [
        ("human:1", 0),
        ("human:2", 1),
        ("human:1", 1),
        ("human:2", 0),
    ]


# Messages, claims and responses


def asked(game: Game, kind: str) -> Request:
    """The first turn of a kind, for a person."""
    state = game.start(7)
    while (turns := game.turns(state))[0].kind != kind:
        state = game.step(state, {turn.seat: answer(turn) for turn in turns})
    return Request(HumanPlayer("human", NEGOTIATION, FakeScreen([])), 0, game, turns[0], (0,))


def answer(turn: Turn) -> Any:
    known: Any = turn.observation
    return "hello" if turn.kind in ("message", "talk") else known.instance.stock


def reply(typed: str, request: Request) -> Any:
    return parse_input(typed, request, NEGOTIATION, NEGOTIATION.labels(request.game))


def test_messages() -> None:
    request = asked(split(message_limit=20), "message")
    assert hint(request, ()) == "your message (at most 20 characters; - for none)"
    assert reply("  I want hats. ", request) == "I want hats."
    assert reply("<message>help</message>", request) == "help"
    assert reply("-", request) == ""
    assert reply("a<b>\x1b[31m", request) == "a\u2039b\u203a [31m"
    with pytest.raises(InvalidInputError, match="that is 21 characters long; at most 20"):
        reply("x" * 21, request)
    with pytest.raises(InvalidInputError, match="type a message, or -"):
        reply("   ", request)


@pytest.mark.parametrize(
    ("typed", "claim"),
    [
        ("1 2 0", (1, 2, 0)),
        ("1, 2,0", (1, 2, 0)),
        ("2 hats, 1 book and 0 balls", (1, 2, 0)),
        ("1 ball, 0 books, 3 HATS.", (0, 3, 1)),
        ("<claim>1 books, 0 hats, 1 balls</claim>", (1, 0, 1)),
        ("1", "type 3 whole numbers"),
        ("1 2", "type 3 whole numbers"),
        ("1 hat, 2 hats, 0 balls", "type 3 whole numbers"),
        ("-1 2 0", "type 3 whole numbers"),
        ("0.5 2 0", "type 3 whole numbers"),
        ("1 book, 2 hats and most balls", "type 3 whole numbers"),
        ("everything", "type 3 whole numbers"),
        ("1 9 0", "there are 3 hats; claim 0 to 3"),
        ("9" * 5000 + " 1 1", "there are"),
        ("\u0661 2 0", "type 3 whole numbers"),
    ],
)
def test_claims(typed: str, claim: Any) -> None:
    game = split(quantities={"name": "fixed", "units": [1, 3, 1]}, values={"name": "uniform"})
    request = asked(game, "claim")
    assert hint(request, ()) == "for you: books (0 to 1), hats (0 to 3), balls (0 to 1)"
    if isinstance(claim, tuple):
        assert reply(typed, request) == claim
    else:
        with pytest.raises(InvalidInputError, match=claim):
            reply(typed, request)


TALKED = {
    "messages": {"least": 1, "most": 2},
    "message_limit": 30,
    "quantities": {"name": "fixed", "units": [1, 3, 1]},
    "values": {"name": "uniform"},
}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("  You get 2 hats. ", "You get 2 hats."),
        ("-", ""),
        ("claims are for later", "claims are for later"),
        ("I claim 1 3 1", "I claim 1 3 1"),
        ("<message>1 3 1</message>", "1 3 1"),
        ("claim 1 2 0", (1, 2, 0)),
        ("Claim: 1 ball, 0 books, 3 hats", (0, 3, 1)),
        ("<claim>1 books, 0 hats, 1 balls</claim>", (1, 0, 1)),
        ("1 2 0", 'type "claim" before the numbers'),
        ("1, 2, 0.", 'type "claim" before the numbers'),
        ("claim", "type 3 whole numbers"),
        ("claim what you like", "type 3 whole numbers"),
        ("claim 1 9 0", "there are 3 hats; claim 0 to 3"),
        ("", "type a message, or -"),
        ("x" * 31, "that is 31 characters long; at most 30"),
    ],
)
def test_a_message_or_a_claim(typed: str, meant: Any) -> None:
    request = asked(split(**TALKED), "talk")
    assert hint(request, ()) == (
        "your message (at most 30 characters; - for none), or to end the talk "
        '"claim" and what you take: claim 0 to 1 books, 0 to 3 hats, 0 to 1 balls'
    )
    try:
        assert reply(typed, request) == meant
    except InvalidInputError as why:
        assert meant in str(why)


def test_nobody_types_a_message_too_many_by_mistake() -> None:
    request = asked(split(**TALKED), "claim")
    assert hint(request, ()) == "for you: books (0 to 1), hats (0 to 3), balls (0 to 1)"
    with pytest.raises(InvalidInputError, match="you have no message left"):
        reply("<message>but</message>", request)
    with pytest.raises(InvalidInputError, match="type 3 whole numbers"):
        reply("but", request)
    assert reply("1 2 0", request) == (1, 2, 0)


def test_a_person_ends_the_talk() -> None:
    screen = FakeScreen(["Hello", "3 3 3", "claim 1 3 1", "claim 0 0 0", "0 0 0"])
    rollout = played(split(**TALKED), screen, NEGOTIATION, "welfare_maximizing")
    mine = [(d.kind, d.move_name) for d in rollout.decisions if d.seat == 0]
    assert mine[0] == ("message", "message") and mine[-1][0] == "claim" and len(mine) == 2
    assert any("Or end the talk with your claim." in text for text in screen.all("show")) == (
        rollout.decisions[0].seat == 0
    )


def test_responses_are_typed_as_words() -> None:
    request = asked(build("game", "ultimatum", GAMES), "respond")
    assert hint(request, NEGOTIATION.labels(request.game)) == "accept or reject"
    assert (reply("Accept", request), reply("reject", request)) == (0, 1)
    assert reply(NEGOTIATION.labels(request.game)[1], request) == 1
    with pytest.raises(InvalidInputError, match="type accept or reject"):
        reply("yes", request)


# The terminal


HOSTILE = "\x1b[2J\x1b]0;owned\x07 [red]\u202etxt[/red] \x9b31m \r\b\u2028 \ud800 :smile: end\nnext"


def test_nothing_that_is_shown_steers_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdin", io.StringIO("typed \x1b[31m\n"))
    monkeypatch.setattr(sys, "stdout", out)
    terminal = Terminal()
    terminal._console = Console(file=out, markup=False, emoji=False, highlight=False, width=200)
    terminal.show(HOSTILE, HOSTILE)
    terminal.say(HOSTILE)
    terminal.complain(HOSTILE)
    assert terminal.read(HOSTILE) == "typed \x1b[31m"
    printed = out.getvalue()
    assert not set(printed) & set("\x1b\x07\x9b\r\b\u202e\u2028\ud800")
    assert printed.count("[red]") == 5 and printed.count(":smile:") == 5
    assert STRANGE in printed


def test_what_is_harmless_is_shown_as_it_is() -> None:
    text = "A or B? \u2039tag\u203a caf\u00e9 \u4f60\u597d <message>...</message>\nnext"
    assert shown(text) == text


def test_no_input_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for nothing in (io.StringIO(""), None):
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(EOFError):
            Terminal().read("A or B")
