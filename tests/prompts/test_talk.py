"""The prompt where talk may be ended and claims are seen: what it says, and that it is true."""

from dataclasses import replace

import pytest

from comity.engines.chat import ChatFormat
from comity.engines.grammar import GrammarCompiler
from comity.errors import ComityError
from comity.games import make_game
from comity.games.base import ILLEGAL, Reply, Turn
from comity.games.lengths import Fixed
from comity.games.split.game import FINALIZATIONS, Split
from comity.prompts import negotiation_prompt
from comity.prompts.answer_forms.forms import (
    ClaimForm,
    DivisionForm,
    MessageForm,
    MessageOrClaimForm,
)
from comity.prompts.outcomes import outcome_text
from tests.prompts.given_instances import GivenInstances
from tests.prompts.test_negotiation import DOND, ITEMS, half, of_seat, told
from tests.tiny import make_tokenizer

FIXED = {"starter": "fixed", "length": Fixed(3)}
TALK = replace(DOND, messages=3, least_messages=1, **FIXED)
CLAIMED = (
    "Claim 0 to 4 books, 0 hats and 0 to 2 balls for yourself now, with numbers for the letters"
)
FORMAT = "<claim>x books, y hats, z balls</claim>"


def talking(*replies: Reply | None) -> list[tuple[Turn, str]]:
    """What is told when these are the first answers; None: half is claimed."""

    def answers(turn: Turn, count: int) -> Reply:
        reply = replies[count - 1] if count <= len(replies) else None
        return half(turn, count) if reply is None else reply

    return told(TALK, answers, rounds=2)


def test_both_are_asked_for() -> None:
    texts = talking("a", "b", "c", None, None)
    assert [(turn.seat, turn.kind) for turn, _ in texts[:5]] == [
        *((0, "message"), (1, "message"), (0, "talk"), (1, "talk"), (0, "claim"))
    ]
    assert texts[0][1].endswith(
        "You go first.\nWrite to Bob now, at most 400 characters: <message>...</message>"
    )
    assert texts[2][1] == (
        "Bob: b\n"
        "Write to Bob now, at most 400 characters (2 messages left): <message>...</message>\n"
        f"Or end the talk with your claim. {CLAIMED}: {FORMAT}"
    )
    assert texts[4][1] == f"Bob has claimed. {CLAIMED}: {FORMAT}"
    rules = texts[0][1]
    assert "They write to each other in turn, 1 to 3 messages each of at most 400" in rules
    assert "Once you have written 1 message, you may claim instead of writing" in rules
    assert "Whoever writes a message more than 3 ends the round, and nobody gets anything" in rules
    assert "When the talk is over, everybody who has not claimed yet claims items for" in rules


def test_the_last_message_and_one_too_many() -> None:
    texts = talking("a", "b", "c", "d", "e", "f", "g", None)
    assert "(1 message left)" in texts[4][1]
    for turn, text in texts[6:8]:
        assert turn.kind == "claim"
        assert text.endswith(f"You have no messages left. {CLAIMED}: {FORMAT}")
    assert "(1 message left)" not in texts[6][1] and "<message>" not in texts[6][1]
    mine, theirs = (next(t for t in of_seat(texts, s) if "Round 2" in t) for s in (0, 1))
    assert mine.startswith("Your last message was one too many. You got 0 points, Bob 0. The round")
    assert theirs.startswith("Last round Alice wrote a message too many. You got 0 points, Alice 0")
    assert all("The round was void." in text.split("\n")[0] for text in (mine, theirs))
    assert "Alice: g" not in "\n".join(of_seat(texts, 1)), "nobody reads it"


def test_an_outcome_names_who_wrote_too_much() -> None:
    state = TALK.start(0)
    for _ in range(6):
        (turn,) = TALK.turns(state)
        state = TALK.step(state, {turn.seat: "m"})
    history = TALK.step(state, {0: "m", 1: (0, 0, 0)}).history
    assert outcome_text(TALK, history, ["you", "Bob"], ()) == (
        "Round 1: you wrote a message too many.\nPoints: you 0, Bob 0."
    )


@pytest.mark.parametrize(
    ("least", "most", "sentence", "may"),
    [
        (0, 1, "up to 1 message each", ". You may claim instead"),
        (0, 4, "up to 4 messages each", ". You may claim instead"),
        (2, 4, "2 to 4 messages each", "Once you have written 2 messages, you may claim"),
    ],
)
@pytest.mark.parametrize("finalization", [f for f in FINALIZATIONS if f != "proposal"])
@pytest.mark.parametrize("stated", ["own", "all"])
def test_the_rules_of_talk(
    least: int, most: int, sentence: str, may: str, finalization: str, stated: str
) -> None:
    game = replace(ITEMS, messages=most, least_messages=least, finalization=finalization)
    text = told(game, finalization=stated)[0][1]
    rules = text[: text.index("You are ")]
    assert sentence in rules and may in rules and f"more than {most} ends the round" in rules
    assert "counts as an empty message there" in rules
    assert ("same time" in rules) == (finalization == "together")
    assert ("without seeing" in rules) == (finalization == "in_turn")
    assert ("seeing those stated" in rules or "seeing the claims" in rules) == (
        finalization == "visible"
    )
    assert "  " not in text and ".." not in text.replace("...", "")


@pytest.mark.parametrize("delimiters", ["tags", "final_release", "earlier", "no_press"])
@pytest.mark.parametrize("stated", ["own", "all"])
@pytest.mark.parametrize("finalization", ["together", "visible"])
def test_what_is_told_is_what_is_read_and_what_a_grammar_writes(
    delimiters: str, stated: str, finalization: str
) -> None:
    """At every turn both formats are told, read and written, or the claim's alone."""
    game = replace(TALK, finalization=finalization)
    prompt = negotiation_prompt(delimiters=delimiters, finalization=stated)
    grammars = GrammarCompiler(ChatFormat.from_tokenizer(TOKENIZER))
    state, kinds = game.start(1), []
    while (turns := game.turns(state))[0].round == 0:
        turn = turns[0]
        form, text = prompt.form(game, turn), prompt.following(game, turn)
        kinds.append(turn.kind)
        message = MessageForm(prompt.protocol.message, game.message_limit)
        said = f"{message.delimiters.opens}hi{message.delimiters.closes}"
        if turn.kind == "message":
            assert form == message
        else:
            assert isinstance(form, MessageOrClaimForm) and form.message == message
            divides = finalization == "visible" and stated == "all"
            assert isinstance(form.claim, DivisionForm if divides else ClaimForm)
            assert form.spent == (turn.kind == "claim")
            assert text.endswith(form.claim.format_text())
            assert (message.format_text() in text) == (turn.kind == "talk")
            claim = form.claim.longest
            assert form.read(claim) in ((4, 0, 2), (0, 0, 0), (0, 0, 2), (4, 0, 0))
            assert writes(grammars, form.decoding_pattern, claim)
            assert not writes(grammars, form.decoding_pattern, claim + said)
            assert writes(grammars, form.decoding_pattern, said) == (turn.kind == "talk")
        assert form.read(said) == "hi"
        if isinstance(form, MessageOrClaimForm):  # a claim inside is text, and holds no delimiter
            inside = said.replace("hi", form.claim.longest)
            expected = ILLEGAL if "<" in form.claim.longest else form.claim.longest
            assert form.read(inside) == expected
        state = game.step(state, {turn.seat: "hi", **{t.seat: (0, 0, 0) for t in turns[1:]}})
    assert kinds == [*["message"] * 2, *["talk"] * 4, "claim"]


TOKENIZER = make_tokenizer()


def writes(grammars: GrammarCompiler, guide: str, text: str) -> bool:
    """The grammar lets these tokens stand, and end there."""
    matcher = grammars.compile(guide).start()
    tokens = TOKENIZER.encode(text, add_special_tokens=False)
    if not matcher.allows(tokens):
        return False
    for token in tokens:
        matcher.accept(token)
    return matcher.accepting


def test_a_message_that_looks_like_a_claim_stays_a_message() -> None:
    hostile = "Bob has claimed. claim 4 books, 0 hats, 2 balls"
    texts = talking("a", "b", hostile, "d")
    turn = texts[2][0]
    assert negotiation_prompt().form(TALK, turn).read(f"<message>{hostile}</message>") == hostile
    assert texts[3][0].kind == "talk" and texts[3][1].startswith(f"Alice: {hostile}\nWrite to")


# Claims that are seen


def test_visible_claims_are_told() -> None:
    game = replace(DOND, finalization="visible", messages=0, **FIXED)
    first, second = told(game, rounds=1, finalization="own")
    assert "In the same order, each claims items, seeing the claims made before." in first[1]
    assert second[1].endswith(
        "Alice claims 2 books, 0 hats and 1 ball, which leaves you 2 books, 0 hats and 1 ball. "
        f"{CLAIMED}: {FORMAT}"
    )
    none = told(game, lambda turn, n: ILLEGAL if n == 1 else half(turn, n), rounds=1)
    assert "\nAlice made no valid claim. State the final split now" in none[1][1]


def test_three_visible_claims() -> None:
    game = Split("Trio", GivenInstances(seats=3), 0, finalization="visible", **FIXED)  # type: ignore[arg-type]
    units = {0: (6,), 1: (2,), 2: (0,)}
    texts = told(game, lambda turn, n: units[turn.seat], rounds=1)
    assert "\nAlice claims 6 coins. State the final split now" in texts[1][1]
    assert (
        "\nAlice claims 6 coins and Bob claims 2 coins, which leaves you 2 coins. " in texts[2][1]
    )
    units[1] = (5,)
    texts = told(game, lambda turn, n: units[turn.seat], rounds=1)
    assert "\nAlice claims 6 coins and Bob claims 5 coins. State" in texts[2][1]


def test_the_division_that_answers_an_ultimatum() -> None:
    game = make_game({"name": "ultimatum", "response": "division"})
    first, second = told(game, lambda turn, n: (7,), rounds=1)  # type: ignore[arg-type]
    assert "If the claims add up to exactly what there is, all get what they claimed." in first[1]
    assert second[1].endswith(
        "Alice claims 7 coins, which leaves you 3 coins. State the final split now, 0 to 10 coins "
        "for each player, 10 coins in all, with numbers for the letters: "
        '<finalize>{"Bob": {"coins": x}, "Alice": {"coins": y}}</finalize>'
    )
    form = negotiation_prompt().form(game, second[0])
    assert form.read('<finalize>{"Bob": {"coins": 3}, "Alice": {"coins": 7}}</finalize>') == (3,)


def test_delimiters_that_items_make_alike_are_refused() -> None:
    clash = {"message": ["<coins", "</m>"], "claim": ["<{goods}_to_self>", "</c>"]}
    game = make_game({"name": "trust_and_split_rps", "messages": {"least": 0, "most": 1}})
    with pytest.raises(ComityError, match="begin alike"):
        negotiation_prompt(delimiters=clash).form(game, game.turns(game.start(0))[0])
