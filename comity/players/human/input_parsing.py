"""Parsing of a human's input.

The bare answer suffices: a label or a move's name, a message, numbers for a claim. The answer
format of models is accepted as well.
"""

import re
from collections.abc import Sequence

from comity.games.base import Illegal, Reply
from comity.games.split.game import Split
from comity.games.split.state import SplitObservation
from comity.players.base import Request
from comity.prompts.answer_forms.forms import sanitize
from comity.prompts.answer_forms.patterns import singular
from comity.prompts.base import Prompt
from comity.prompts.rendering import join_words

SILENT = "-"
"""Input for an empty message; an empty line may be an accident."""
CLAIM = "claim"
"""First word of a claim that is entered instead of a message."""


class InvalidInputError(Exception):
    """The input is not an answer; the message says why."""


def hint(request: Request, labels: Sequence[str]) -> str:
    """The expected input, in a few words."""
    if request.turn.legal:
        return join_words(_choices(request, labels), "or")
    message = (
        f"your message (at most {_split(request).message_limit} characters; {SILENT} for none)"
    )
    if request.turn.kind == "message":
        return message
    named = list(zip(_split(request).items, _stock(request), strict=True))
    if request.turn.kind == "talk":
        numbers = ", ".join(f"0 to {most} {item}" for item, most in named)
        return f'{message}, or to end the talk "{CLAIM}" and what you take: {CLAIM} {numbers}'
    return f"for you: {', '.join(f'{item} (0 to {most})' for item, most in named)}"


def parse_input(text: str, request: Request, prompt: Prompt, labels: Sequence[str]) -> Reply:
    """The reply that the input stands for; raises `InvalidInputError` if there is none."""
    turn = request.turn
    if turn.legal:
        return _choice(text, request, labels)
    form = prompt.form(request.game, turn)
    as_told = None if form is None else form.read(text)
    if turn.kind == "claim" and isinstance(as_told, str):
        raise InvalidInputError("you have no message left: only your claim is due")
    if as_told is not None and not isinstance(as_told, Illegal):
        return as_told
    if turn.kind == "talk":
        return _message_or_claim(text, request)
    return _message(text, request) if turn.kind == "message" else _claim(text, request)


def _choices(request: Request, labels: Sequence[str]) -> list[str]:
    """Labels of the legal moves; plain names for responses to a proposal."""
    names = request.game.moves if request.turn.kind == "respond" else labels
    return [names[move] for move in request.turn.legal]


def _choice(text: str, request: Request, labels: Sequence[str]) -> int:
    word = text.strip().casefold()
    # Labels take precedence: swapped labels may be names of other moves.
    meant = {request.game.moves[move].casefold(): move for move in request.turn.legal}
    meant |= {labels[move].casefold(): move for move in request.turn.legal}
    if word not in meant:
        raise InvalidInputError(f"type {join_words(_choices(request, labels), 'or')}")
    return meant[word]


def _message_or_claim(text: str, request: Request) -> Reply:
    """A claim needs its first word; numbers alone are rejected as ambiguous."""
    claim = re.fullmatch(rf"\s*{CLAIM}\b[\s:]*(.*)", text, re.IGNORECASE | re.DOTALL)
    if claim:
        return _claim(claim[1], request)
    if re.fullmatch(r"[\s0-9,;.]*[0-9][\s0-9,;.]*", text):
        raise InvalidInputError(f'to end the talk, type "{CLAIM}" before the numbers')
    return _message(text, request)


def _message(text: str, request: Request) -> str:
    text, limit = sanitize(text).strip(), _split(request).message_limit
    if not text:
        raise InvalidInputError(f"type a message, or {SILENT} to send none")
    if len(text) > limit:
        raise InvalidInputError(f"that is {len(text)} characters long; at most {limit} are allowed")
    return "" if text == SILENT else text


def _claim(text: str, request: Request) -> tuple[int, ...]:
    items, stock = _split(request).items, _stock(request)
    bare = re.fullmatch(r"\s*[0-9]+([\s,;]+[0-9]+)*[\s,;.]*", text)
    words = re.findall(r"[0-9]+", text) if bare else _named(text, items)
    if len(words) != len(items):
        example = ", ".join(f"{most // 2} {item}" for item, most in zip(items, stock, strict=True))
        count = "one whole number" if len(items) == 1 else f"{len(items)} whole numbers"
        raise InvalidInputError(f"type {count}, what you claim for yourself: {example}")
    for item, word, most in zip(items, words, stock, strict=True):
        if len(word) > 9 or int(word) > most:
            raise InvalidInputError(f"there are {most} {item}; claim 0 to {most}")
    return tuple(map(int, words))


def _named(text: str, items: Sequence[str]) -> list[str]:
    """The number before each item's name, in the items' order; [] where that is not all there is.

    "2 books and 1 hat" is read in any order, and nothing is guessed.
    """
    names = {name.casefold(): item for item in items for name in (singular(item), item)}
    found: dict[str, str] = {}
    for part in re.split(r"[,;]|\band\b", text.strip().rstrip(".")):
        pair = re.fullmatch(r"\s*([0-9]+)\s+(\S.*?)\s*", part)
        item = names.get(" ".join(pair[2].split()).casefold()) if pair else None
        if pair is None or item is None or item in found:
            return []
        found[item] = pair[1]
    return [found[item] for item in items] if len(found) == len(items) else []


def _split(request: Request) -> Split:
    assert isinstance(request.game, Split)
    return request.game


def _stock(request: Request) -> tuple[int, ...]:
    assert isinstance(request.turn.observation, SplitObservation)
    return request.turn.observation.instance.stock
