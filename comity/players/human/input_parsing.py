"""What a person types as a reply to a turn: what is asked for, and how it is read.

The bare answer is enough: a label or a move's name, a message, numbers for a claim. The format
that a model is told is read as well.
"""

import re
from collections.abc import Sequence

from comity.games.base import Illegal, Reply
from comity.games.split.game import Split
from comity.games.split.state import SplitObservation
from comity.players.base import Ask
from comity.prompts.answer_forms.forms import normalized
from comity.prompts.answer_forms.patterns import singular
from comity.prompts.base import Prompt
from comity.prompts.rendering import in_a_row

SILENT = "-"
"""What is typed to send no message; an empty line may be a slip."""
CLAIM = "claim"
"""What a claim begins with that is typed instead of a message."""


class UnreadableError(Exception):
    """Why what was typed is no answer."""


def hint(ask: Ask, labels: Sequence[str]) -> str:
    """What to type now, in a few words."""
    if ask.turn.legal:
        return in_a_row(_choices(ask, labels), "or")
    message = f"your message (at most {_split(ask).message_limit} characters; {SILENT} for none)"
    if ask.turn.kind == "message":
        return message
    named = list(zip(_split(ask).items, _stock(ask), strict=True))
    if ask.turn.kind == "talk":
        numbers = ", ".join(f"0 to {most} {item}" for item, most in named)
        return f'{message}, or to end the talk "{CLAIM}" and what you take: {CLAIM} {numbers}'
    return f"for you: {', '.join(f'{item} (0 to {most})' for item, most in named)}"


def read(typed: str, ask: Ask, prompt: Prompt, labels: Sequence[str]) -> Reply:
    """What was typed as a reply; raises `UnreadableError` with the reason where it is none."""
    turn = ask.turn
    if turn.legal:
        return _choice(typed, ask, labels)
    form = prompt.form(ask.game, turn)
    as_told = None if form is None else form.read(typed)
    if turn.kind == "claim" and isinstance(as_told, str):
        raise UnreadableError("you have no message left: only your claim is due")
    if as_told is not None and not isinstance(as_told, Illegal):
        return as_told
    if turn.kind == "talk":
        return _message_or_claim(typed, ask)
    return _message(typed, ask) if turn.kind == "message" else _claim(typed, ask)


def _choices(ask: Ask, labels: Sequence[str]) -> list[str]:
    """How the moves are called; responses by their names, not in the format of models."""
    names = ask.game.moves if ask.turn.kind == "respond" else labels
    return [names[move] for move in ask.turn.legal]


def _choice(typed: str, ask: Ask, labels: Sequence[str]) -> int:
    word = typed.strip().casefold()
    # Labels last, so that they win: exchanged labels may be the names of other moves.
    meant = {ask.game.moves[move].casefold(): move for move in ask.turn.legal}
    meant |= {labels[move].casefold(): move for move in ask.turn.legal}
    if word not in meant:
        raise UnreadableError(f"type {in_a_row(_choices(ask, labels), 'or')}")
    return meant[word]


def _message_or_claim(typed: str, ask: Ask) -> Reply:
    """A claim begins with its word; numbers alone are taken for neither."""
    claim = re.fullmatch(rf"\s*{CLAIM}\b[\s:]*(.*)", typed, re.IGNORECASE | re.DOTALL)
    if claim:
        return _claim(claim[1], ask)
    if re.fullmatch(r"[\s0-9,;.]*[0-9][\s0-9,;.]*", typed):
        raise UnreadableError(f'to end the talk, type "{CLAIM}" before the numbers')
    return _message(typed, ask)


def _message(typed: str, ask: Ask) -> str:
    text, limit = normalized(typed).strip(), _split(ask).message_limit
    if not text:
        raise UnreadableError(f"type a message, or {SILENT} to send none")
    if len(text) > limit:
        raise UnreadableError(f"that is {len(text)} characters long; at most {limit} are allowed")
    return "" if text == SILENT else text


def _claim(typed: str, ask: Ask) -> tuple[int, ...]:
    items, stock = _split(ask).items, _stock(ask)
    bare = re.fullmatch(r"\s*[0-9]+([\s,;]+[0-9]+)*[\s,;.]*", typed)
    words = re.findall(r"[0-9]+", typed) if bare else _named(typed, items)
    if len(words) != len(items):
        example = ", ".join(f"{most // 2} {item}" for item, most in zip(items, stock, strict=True))
        count = "one whole number" if len(items) == 1 else f"{len(items)} whole numbers"
        raise UnreadableError(f"type {count}, what you claim for yourself: {example}")
    for item, word, most in zip(items, words, stock, strict=True):
        if len(word) > 9 or int(word) > most:
            raise UnreadableError(f"there are {most} {item}; claim 0 to {most}")
    return tuple(map(int, words))


def _named(typed: str, items: Sequence[str]) -> list[str]:
    """The number before each item's name, in the items' order; [] where that is not all there is.

    "2 books and 1 hat" is read in any order, and nothing is guessed.
    """
    names = {name.casefold(): item for item in items for name in (singular(item), item)}
    found: dict[str, str] = {}
    for part in re.split(r"[,;]|\band\b", typed.strip().rstrip(".")):
        pair = re.fullmatch(r"\s*([0-9]+)\s+(\S.*?)\s*", part)
        item = names.get(" ".join(pair[2].split()).casefold()) if pair else None
        if pair is None or item is None or item in found:
            return []
        found[item] = pair[1]
    return [found[item] for item in items] if len(found) == len(items) else []


def _split(ask: Ask) -> Split:
    assert isinstance(ask.game, Split)
    return ask.game


def _stock(ask: Ask) -> tuple[int, ...]:
    assert isinstance(ask.turn.observation, SplitObservation)
    return ask.turn.observation.deal.stock
