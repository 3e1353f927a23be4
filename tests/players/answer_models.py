"""Games to talk in, and what must hold of every rollout of language models."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from comity.engines.local.session import Session
from comity.engines.token_masks import TokenMask
from comity.games import make_game
from comity.games.base import ILLEGAL, Game, Reply, Turn
from comity.games.split.game import Split
from comity.learning.training_batch import compute_terms
from comity.players.language_model.player import LanguageModelBackend
from comity.prompts.answer_forms.forms import Form
from comity.prompts.negotiation.prompt import Negotiation
from comity.rollout.play import Rollout
from comity.rollout.records import Decision
from comity.train import training_sequences


def split(name: str = "trust_and_split_rps", rounds: int = 2, **parameters: Any) -> Game:
    """A split game of a few rounds with short messages."""
    length = {"name": "fixed", "rounds": rounds}
    return make_game({"name": name, "length": length, "message_limit": 24, **parameters})


@dataclass(frozen=True)
class Terse(Negotiation):
    """Tells no rules, so that tiny models have little to read."""

    def opening(self, game: Game, turn: Turn) -> str:
        return f"You are {self.names[turn.seat]}. {self.following(game, turn)}"


@dataclass(frozen=True)
class Lucky:
    """Reads whatever has no "e" in it, so that a random model often succeeds and often fails."""

    answers: tuple[Reply, ...]
    """The text's length picks one; () where the text is the answer."""
    pattern: str = "[^e]{1,12}"
    decoding_pattern: str = "[^e]{1,12}"
    closing: str = ""
    longest: str = "xxxxxxxx"

    def format_text(self) -> str:
        return "x"

    def read(self, text: str) -> Reply:
        if "e" in text or not text:
            return ILLEGAL
        return self.answers[len(text) % len(self.answers)] if self.answers else text


@dataclass(frozen=True)
class Easy(Terse):
    """Asks for `Lucky` answers."""

    def form(self, game: Game, turn: Turn) -> Form:
        if turn.kind == "message":
            return Lucky(())
        if turn.kind == "respond":
            return Lucky((0, 1))
        seen: Any = turn.observation
        stock = seen.instance.stock
        claims = tuple((u,) * len(stock) for u in range(min(stock) + 1))
        assert isinstance(game, Split)
        if turn.kind == "talk" or game.spent(turn.seat, seen.messages):
            return Lucky(("hello", "again", *claims[:1]))
        return Lucky(claims)


def told(models: LanguageModelBackend, prompt: type[Negotiation]) -> LanguageModelBackend:
    """The same models, told the game otherwise."""
    return replace(models, prompt=prompt())


def sampled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str | None, tuple[int, ...]]]:
    """From now on: adapter and ids of every conversation whenever tokens are sampled for it."""
    seen: list[tuple[str | None, tuple[int, ...]]] = []
    original: Callable[..., Any] = Session.continue_sampling

    def continue_sampling(self: Session, answers: Any, *more: Any) -> Any:
        conversations = [one.request.conversation for one in answers]
        seen.extend((one.adapter, tuple(one.ids)) for one in conversations)
        return original(self, answers, *more)

    monkeypatch.setattr(Session, "continue_sampling", continue_sampling)
    return seen


def places(d: Decision) -> list[int]:
    """Where a decision's chosen tokens stand in its conversation."""
    offsets = d.offsets or range(len(d.tokens))
    return [d.start + offset for offset in offsets]


def check_conversations(rollout: Rollout, models: LanguageModelBackend) -> None:
    """Pieces cover all ids once, in order; what was chosen is what the decisions say, no more."""
    chosen: dict[int, dict[int, int]] = {}
    for d in rollout.decisions:
        if d.conversation < 0:
            continue
        talk = rollout.conversations[d.conversation]
        assert (talk.match, talk.seat, talk.adapter) == (d.match, d.seat, d.adapter)
        for place, token in zip(places(d), d.tokens, strict=True):
            assert place not in chosen.setdefault(d.conversation, {})
            chosen[d.conversation][place] = token
    for talk in rollout.conversations:
        covered, answered = [], set()
        for piece in talk.pieces:
            inside = range(piece.start, piece.end)
            assert piece.start < piece.end
            assert piece.text == models.text(talk.ids[piece.start : piece.end])
            covered += inside
            if piece.kind == "answer":
                answered.update(inside)
        assert covered == list(range(len(talk.ids)))
        mine = chosen.get(talk.conversation, {})
        assert answered == set(mine), "chosen ids are those of the decisions"
        assert all(talk.ids[place] == token for place, token in mine.items())


def check_learning(rollout: Rollout, models: LanguageModelBackend, temperature: float = 1.0) -> int:
    """The learner reads every trained term as it was sampled; how many terms there are."""
    terms = 0
    for number, d in enumerate(rollout.decisions):
        d.advantage = d.reward = float(number)
    for adapter in sorted({d.adapter for d in rollout.decisions if d.trained and d.adapter}):
        found = training_sequences(rollout, adapter, temperature)
        behavior = [b for sequence in found for d in sequence.decisions for b in d.behavior]
        for recording in (None, rollout.recording):
            reading = compute_terms(
                models.engine, found, adapter, gradients=False, recording=recording
            )
            np.testing.assert_allclose(reading.logprobs.numpy(), behavior, atol=1e-4)
        read = set()
        for sequence in found:
            for one in sequence.decisions:
                d = rollout.decisions[one.source]
                talk = rollout.conversations[d.conversation]
                assert d.trained and d.adapter == adapter
                assert list(sequence.ids) == talk.ids[: len(sequence.ids)]
                assert list(one.token_indices) == places(d) and list(one.tokens) == d.tokens
                if one.masks:
                    pairs = zip(one.masks, one.tokens, strict=True)
                    assert all(isinstance(m, TokenMask) and token in m for m, token in pairs)
                read.add(one.source)
        trained = {
            i
            for i, d in enumerate(rollout.decisions)
            if d.trained and d.adapter == adapter and d.tokens
        }
        assert read == trained
        terms += len(behavior)
    return terms


def of_kind(rollout: Rollout, *kinds: str) -> list[Decision]:
    return [d for d in rollout.decisions if d.kind in kinds]
