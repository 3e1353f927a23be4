"""In plain text a line break ends an answer, whatever the tokenizer joins it with."""

from typing import Any

import numpy as np
import pytest

from comity.engines.chat import ChatFormat
from comity.engines.grammar import GrammarCompiler
from comity.engines.local.engine import Engine
from comity.evaluation.generalization.policies import ModelPolicy
from comity.evaluation.generalization.questions import Cell, Question
from comity.games.base import ILLEGAL
from comity.players.language_model.player import LanguageModelBackend
from comity.prompts import PROMPTS
from comity.prompts.answers import ANSWERS
from comity.registry import build
from tests.parrots import parrot, tokenizer_with
from tests.players.answer_models import Terse, split, told
from tests.worlds import dilemma, learner, play_matches

ENDS = ("\n", "\n\n", " \n", "\r\n", "\n\n\n", " \n\n", "\n ", "\n\nT")


def models(said: tuple[str, ...], answer: dict[str, Any], **prompt: Any) -> LanguageModelBackend:
    tokenizer = tokenizer_with(*said)
    return LanguageModelBackend(
        Engine(parrot(tokenizer, said)),
        ChatFormat.from_tokenizer(tokenizer),
        build("prompt", {"name": "conversation", "labels": ["A", "B"], **prompt}, PROMPTS),
        build("answer", answer, ANSWERS),
    )


@pytest.mark.parametrize("answer", ["free", "attempts"])
@pytest.mark.parametrize("end", ENDS)
def test_an_answer_and_any_line_break_are_legal(end: str, answer: str) -> None:
    backend = models((" A", end), {"name": answer})
    rollout = play_matches(dilemma(2), (learner(backend, None), learner(backend, None)), 1)
    assert [(d.text, d.move, d.attempts) for d in rollout.decisions] == [(" A", 0, 1)] * 4
    for d in rollout.decisions:
        assert d.finish_reason == "end" and len(d.tokens) == 2 and not d.constrained
        assert backend.text(d.tokens) == f" A{end}"


@pytest.mark.parametrize(
    ("said", "read"),
    [((" <", "A", ">\n\n"), 0), ((" <", "B", ">\r\n"), 1), ((" A", ".\n\n"), ILLEGAL)],
)
def test_what_stands_before_the_line_break_belongs_to_the_answer(
    said: tuple[str, ...], read: Any
) -> None:
    labels = ["<A>", "<B>"] if ">" in said[-1] else ["A", "B"]
    backend = models(said, {"name": "free"}, labels=labels)
    rollout = play_matches(dilemma(1), (learner(backend, None), learner(backend, None)), 1)
    for d in rollout.decisions:
        assert d.text == "".join(said).partition("\n")[0]
        assert d.move == (read if isinstance(read, int) else -1)
        assert d.finish_reason == "end"


def test_messages_and_claims_end_with_a_line_break_too() -> None:
    said = ("<", "m", ">", "h", "i", "</", "m2", ">\n\n")
    tokenizer = tokenizer_with(*said)
    chat = ChatFormat.from_tokenizer(tokenizer)
    ids = [tokenizer.encode(text)[0] for text in said]
    assert ids[-1] in chat.end_ids - chat.closing_ids
    assert chat.answer_text(ids) == "<m>hi</m2>"
    assert chat.answer_text(ids[:-1]) == "<m>hi</m2"


def test_under_a_grammar_every_blank_line_ends_and_none_stands_inside() -> None:
    chat = ChatFormat.from_tokenizer(tokenizer_with(*ENDS, ">\n", "x\n"))
    grammars = GrammarCompiler(chat)
    matcher = grammars.compile(r"(?s:[^<]){1,9}").start()
    texts = {chat.decode([int(t)]) for t in matcher.mask().tokens}
    assert not any("\n" in text for text in texts)
    matcher.accept(chat.encode_text("x")[0])
    ends = {chat.decode([int(t)]) for t in matcher.mask().tokens} - texts
    assert ends == {*ENDS, "<|endoftext|>"}


def test_the_chance_of_an_answer_and_its_end_counts_every_line_break() -> None:
    tokenizer = tokenizer_with(" A", "\n\n", ".\n")
    chat = ChatFormat.from_tokenizer(tokenizer)
    asked = Question(Cell("prisoners_dilemma", "CC"), "A or B?", ("A", "B"))
    for end, share in (("\n\n", 1.0), ("T", 0.0), (".\n", 0.0)):
        engine = Engine(parrot(tokenizer, (" A", end)))
        found = ModelPolicy(engine, chat).answer_probabilities([asked])[0, 0]
        assert np.isclose(found[1] / found[0], share, atol=1e-6)


def test_claims_of_a_base_model_are_read() -> None:
    game = split("split_no_talk", 1)
    form = Terse().form(game, game.turns(game.start(0))[0])
    assert form is not None
    backend = models((form.longest[:-1], form.longest[-1] + "\n\n"), {"name": "attempts"})
    seat = learner(told(backend, Terse), None)
    rollout = play_matches(game, (seat, seat), 1)
    assert len(rollout.decisions) == 2
    for d in rollout.decisions:
        assert (d.text, d.attempts, d.constrained, d.finish_reason) == (
            form.longest,
            1,
            False,
            "end",
        )
        assert tuple(d.claim) == form.read(form.longest)
