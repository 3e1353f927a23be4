"""Written answers of language models: what is sampled, recorded, retried and learned from."""

import re
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from comity.engines.local import session
from comity.evaluation.metrics import iteration_metrics
from comity.games.base import Game
from comity.players.language_model.player import LanguageModelBackend
from comity.prompts.answer_forms.forms import MessageForm, MessageOrClaimForm, Thinking
from comity.prompts.negotiation.prompt import Negotiation
from comity.rollout.play import Rollout
from tests.players.answer_models import (
    Easy,
    Terse,
    check_conversations,
    check_learning,
    of_kind,
    places,
    sampled,
    split,
    told,
)
from tests.worlds import dilemma, learner, play_matches, tiny_models


def talkers(
    answer: dict[str, Any], prompt: type[Negotiation] = Terse, **parameters: Any
) -> LanguageModelBackend:
    parameters.setdefault("adapters", ("main", "b"))
    return told(
        tiny_models(prompt={"name": "negotiation"}, answer=answer, **parameters),
        prompt,
    )


def played(models: LanguageModelBackend, game: Game, matches: int = 3, seed: int = 0) -> Rollout:
    """A learner with an adapter of its own on each seat."""
    players = (learner(models), learner(models, "b"))
    rollout = play_matches(game, players, matches, seed)
    check_conversations(rollout, models)
    return rollout


CONSTRAINED = {"name": "constrained", "message_tokens": 9}
TRY = {"name": "attempts", "free_attempts": 3, "message_tokens": 9}
VARIANTS = {
    "forced": CONSTRAINED,
    "thinking": {**CONSTRAINED, "thinking": 12},
    "untrained thinking": {**CONSTRAINED, "thinking": 12, "train_thinking": False},
    "attempts": TRY,
    "append": {**TRY, "retry_feedback": "append"},
    "illegal": {**TRY, "fallback": "illegal"},
    "thinking attempts": {**TRY, "thinking": 8, "retry_feedback": "append"},
    "from the start": {**TRY, "free_attempts": -1},
    "free": {"name": "free", "max_tokens": 6},
}


def test_messages_and_claims_under_the_grammar() -> None:
    models = talkers({**CONSTRAINED, "message_tokens": 12})
    rollout = played(models, split(message_limit=18), 4)
    messages, claims = of_kind(rollout, "message"), of_kind(rollout, "claim")
    assert len(messages) == len(claims) == 2 * 2 * 4
    assert {d.finish_reason for d in messages} == {"closed", "grammar"}
    for d in messages:
        form = MessageForm(models.prompt.protocol.message, 18)  # type: ignore[attr-defined]
        assert re.fullmatch(form.pattern, d.text) and form.read(d.text) == d.message_as_read
        assert (d.move, d.move_name, d.played, d.payoff) == (0, "message", -1, 0.0)
        assert d.constrained and d.grammar == form.decoding_pattern and d.stock == []
        assert len(d.tokens) <= 12 + 3
    for d in claims:
        assert re.fullmatch(r"<claim>(10|[0-9])</claim>", d.text)
        assert d.move_name == d.text[7:-8] == str(d.claim[0])
        assert d.constrained and not d.message_as_read and d.finish_reason == "grammar"
        # Only the number is chosen, and that a 1 is no 10; the delimiters are told.
        assert models.text(d.tokens).removesuffix("<") == d.text[7:-8]
        assert d.start + d.offsets[0] > d.start and d.offsets == sorted(set(d.offsets))
    for d in (*messages, *claims):
        talk = rollout.conversations[d.conversation]
        assert d.legal == [] and d.probabilities == [] and d.attempts == 1
        assert models.text(talk.ids[d.start : places(d)[-1] + 1]) in d.text
        assert d.logprob == pytest.approx(sum(d.token_logprobs))
    # What was said is what the other reads next.
    for m in range(4):
        first, second = [d for d in messages if d.match == m and d.round == 0]
        heard = rollout.conversations[second.conversation].pieces[0].text
        name = models.prompt.names[first.seat]  # type: ignore[attr-defined]
        assert (
            f"{name}: {first.message_as_read.strip()}" in heard or not first.message_as_read.strip()
        )


def test_matches_of_different_lengths_and_kinds_share_batches() -> None:
    length = {"name": "geometric", "continue_probability": 0.5, "cap": 3}
    game = split("trust_and_split", length=length, starter="alternate")
    models = talkers(CONSTRAINED)
    players = (learner(models), learner(models, "b"))
    rollout = play_matches(game, players, 5)
    check_conversations(rollout, models)
    assert len(set(rollout.played.alive.sum(axis=1).tolist())) > 1
    assert check_learning(rollout, models) > 0
    alone = play_matches(game, players, 1)
    first = [d.text for d in rollout.decisions if d.match == 0]
    assert [d.text for d in alone.decisions] == first, "whatever is sampled beside it"
    assert all(d.move >= 0 for d in of_kind(rollout, "claim")), "shares add up"


GAMES = {"thinking": "ultimatum", "append": "ultimatum", "forced": "trust_and_split"}
"""Talk and claims together, unless a variant is played in another game."""


@pytest.mark.parametrize("variant", VARIANTS)
def test_learner_and_engine_agree_in_split_games(variant: str) -> None:
    game = GAMES.get(variant, "trust_and_split_rps")
    easy = "attempts" in variant or variant in ("append", "illegal")
    models = talkers(VARIANTS[variant], Easy if easy else Terse)
    rollout = played(models, split(game, 1), 2, seed=3)
    trained = sum(len(d.tokens) if not d.probabilities else 1 for d in learned(rollout))
    assert check_learning(rollout, models) == trained > 0


@pytest.mark.parametrize("prompt", ["conversation", "memory_one"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_learner_and_engine_agree_in_the_dilemma(
    prompt: str, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "MIN_TOKENS_PER_PASS", 0)
    models = replace(
        tiny_models(
            prompt={"name": prompt, "labels": ["d", "m"]},
            answer={**VARIANTS[variant], "claim_tokens": 1}
            if "free" not in variant
            else VARIANTS[variant],
        ),
        record=100_000 if prompt == "memory_one" else 0,
    )
    rollout = play_matches(dilemma(2), (learner(models), learner(models)), 3)
    check_conversations(rollout, models)
    assert (rollout.recording is not None) and rollout.recording.has_recorded("main") == (
        prompt == "memory_one"
    )
    trained = sum(len(d.tokens) if not d.probabilities else 1 for d in learned(rollout))
    assert check_learning(rollout, models) == trained > 0


def learned(rollout: Rollout) -> list[Any]:
    return [d for d in rollout.decisions if d.trained]


def test_a_failed_attempt_is_as_if_it_had_never_been(monkeypatch: pytest.MonkeyPatch) -> None:
    models = talkers(TRY, Easy)
    seen = sampled(monkeypatch)
    rollout = played(models, split(rounds=2), 4)
    failed = of_kind(rollout, "attempt")
    assert failed and all(
        (d.conversation, d.start, d.trained, d.move, d.message_as_read) == (-1, -1, False, -1, "")
        and d.tokens
        and len(d.token_logprobs) == len(d.tokens)
        for d in failed
    )
    counted = of_kind(rollout, "message", "claim")
    tries = Counter((d.match, d.seat, d.round, d.step) for d in failed)
    for d in counted:
        assert d.attempts == 1 + tries[d.match, d.seat, d.round, d.step]
        assert d.constrained == (d.attempts == 4), "after three failures, under the grammar"
    assert {d.attempts for d in counted} == {1, 2, 3, 4}
    # Every attempt was sampled after the same ids, by the same adapter.
    contexts = Counter(seen)
    expected: Counter[Any] = Counter()
    for d in counted:
        ids = tuple(rollout.conversations[d.conversation].ids[: d.start])
        expected[d.adapter, ids] += d.attempts
    assert contexts == expected
    # Attempts differ: each has random numbers of its own.
    assert len({d.text for d in failed}) > len(failed) / 2
    order = [(d.kind, d.match) for d in rollout.decisions if d.round == 0 and d.step == 0]
    assert order == sorted(order, key=lambda one: one[1])


def test_with_feedback_the_failed_attempt_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    models = talkers(VARIANTS["append"], Easy)
    seen = sampled(monkeypatch)
    rollout = played(models, split(rounds=1), 4)
    failed = of_kind(rollout, "attempt")
    assert failed and not any(d.trained for d in failed)
    complaint = models.answer.complaint  # type: ignore[attr-defined]
    for talk in rollout.conversations:
        mine = [d for d in rollout.decisions if d.conversation == talk.conversation]
        assert models.text(talk.ids).count(complaint) == sum(d.kind == "attempt" for d in mine)
        for d in mine:
            assert (d.adapter, tuple(talk.ids[: d.start])) in seen
        kinds = [d.kind for d in sorted(mine, key=lambda d: d.start)]
        assert kinds == [d.kind for d in mine], "in the order of the conversation"
    for d in failed:
        talk = rollout.conversations[d.conversation]
        # Ended turns are closed once: by the model, or by what is told.
        assert models.text(talk.ids[d.start :]).startswith(
            d.text + models.chat.answer_end + models.chat.user_header + complaint
        )
    assert check_learning(rollout, models) == sum(len(d.tokens) for d in learned(rollout))


def test_the_last_attempt_may_stand_illegal() -> None:
    models = talkers({**VARIANTS["illegal"], "free_attempts": 2}, Easy)
    rollout = played(models, split(rounds=2), 4)
    counted = of_kind(rollout, "message", "claim")
    assert {d.attempts for d in counted} == {1, 2} and not any(d.constrained for d in counted)
    illegal = [d for d in counted if d.move < 0]
    assert illegal and all(d.attempts == 2 and d.trained and d.conversation >= 0 for d in illegal)
    assert all(d.message_as_read == "" and d.parse_status == "other" for d in illegal)
    assert all(d.claim == [0] for d in illegal if d.kind == "claim")


def test_free_answers_have_one_attempt_and_room_for_a_whole_message() -> None:
    models = talkers({"name": "free", "max_tokens": None})
    rollout = played(models, split(rounds=1), 3)
    for d in rollout.decisions:
        assert d.kind in ("message", "claim") and d.attempts == 1 and d.trained
        assert not d.grammar and not d.constrained and d.move == -1
        longest = {"message": "<message>" + "x" * 24 + "</message>", "claim": "<claim>10</claim>"}
        assert len(d.tokens) <= models.chat.answer_length(longest[d.kind]) + 5
    sizes = [len(d.tokens) for d in of_kind(rollout, "message")]
    assert max(sizes) > models.chat.answer_length("<message></message>") + 12


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("game", ["split", "dilemma"])
def test_thoughts_come_first_and_nobody_is_paid_for_them(train: bool, game: str) -> None:
    answer = {"name": "constrained", "message_tokens": 6, "thinking": 10, "train_thinking": train}
    rules = split(rounds=2) if game == "split" else dilemma(2)
    models = talkers(answer)
    if game == "dilemma":
        models = tiny_models(answer=answer, adapters=("main", "b"))
    rollout = played(models, rules)
    thoughts = of_kind(rollout, "think")
    answers = of_kind(rollout, "choose", "message", "claim")
    assert len(thoughts) == len(answers) == len(rollout.decisions) / 2
    block = Thinking(10)
    for before, d in zip(rollout.decisions[::2], rollout.decisions[1::2], strict=True):
        assert before.kind == "think" and re.fullmatch(block.pattern, before.text)
        assert (before.match, before.seat, before.step) == (d.match, d.seat, d.step)
        assert before.conversation == d.conversation and before.start < d.start
        assert before.trained == train and d.trained and d.attempts == 1
        assert (before.payoff, before.move, before.message_as_read, before.played) == (
            0.0,
            -1,
            "",
            -1,
        )
        talk = models.text(rollout.conversations[d.conversation].ids[: d.start])
        assert before.text in talk
    paid = sum(d.payoff for d in rollout.decisions)
    assert paid == pytest.approx(rollout.played.payoffs.sum())
    found = iteration_metrics(rollout.decisions)
    assert found["payoff"] == pytest.approx(rollout.played.payoffs.mean())
    assert found["illegal"] == 0
    if game == "dilemma":
        assert sum(found["conditional"]["start"][1:]) == 2 * 3
        assert np.isclose(sum(found["outcomes"].values()), 1)
    else:
        assert found["negotiation"]["pooled"]["retries"] == 0
        assert found["negotiation"]["pooled"]["messages"] == 1
        told_once = models.text(rollout.conversations[0].ids).count(block.format_request())
        assert told_once == 2 * 2, "with every request"
    check_learning(rollout, models)


def test_thoughts_are_the_base_of_scored_choices() -> None:
    """The distribution of a choice is the one after its own thought."""
    models = tiny_models(answer={"name": "constrained", "thinking": 8})
    rollout = play_matches(dilemma(1), (learner(models), learner(models)), 4)
    firsts = [d.probabilities[0] for d in of_kind(rollout, "choose")]
    assert len({round(p, 6) for p in firsts}) == len(firsts)


def test_a_claim_that_is_cut_is_illegal_and_a_message_is_closed() -> None:
    models = talkers({**CONSTRAINED, "message_tokens": 1, "claim_tokens": 1})
    rollout = played(models, split("split_no_talk", 1, items=["hats", "books"]), 3)
    cut = of_kind(rollout, "claim")
    assert cut and all(d.finish_reason == "limit" and d.move == -1 for d in cut)
    assert all(d.claim == [0, 0] and d.payoff == 0 for d in cut)
    said = of_kind(played(models, split(rounds=1)), "message")
    assert all(d.move == 0 and len(d.tokens) <= 1 + 3 for d in said)
    assert any(d.finish_reason == "closed" and d.message_as_read for d in said)


# Talk that may be ended

TALK = {"least": 0, "most": 2}


def test_under_the_grammar_a_turn_of_talk_is_a_message_or_a_claim() -> None:
    models = talkers({**CONSTRAINED, "message_tokens": 3})
    game = split("deal_or_no_deal", 2, messages=TALK, finalization="in_turn")
    rollout = played(models, game, 6)
    messages, claims = of_kind(rollout, "message"), of_kind(rollout, "claim")
    assert messages and len(messages) + len(claims) == len(rollout.decisions)
    assert all(d.move == 0 and d.constrained for d in rollout.decisions)
    assert len(claims) == 2 * 2 * 6 and not any(d.parse_status == "exceeded" for d in claims)
    both = {d.grammar for d in messages} & {d.grammar for d in claims}
    assert both, "one grammar led to either"
    ended = [d for d in claims if d.grammar.startswith("(<message>")]
    assert ended and all(d.message_as_read for d in messages if d.finish_reason == "closed")
    assert any(not d.grammar.startswith("(<message>") for d in claims)
    assert {d.finish_reason for d in claims} == {"grammar"}
    first = next(d for d in messages if d.round == 0 and d.step == 0)
    talk = models.text(rollout.conversations[first.conversation].ids)
    assert "(2 messages left)" in talk and "Or end the talk with your claim." in talk
    assert check_learning(rollout, models) == sum(len(d.tokens) for d in learned(rollout)) > 0


@pytest.mark.parametrize("variant", ["illegal", "append", "attempts"])
def test_free_attempts_may_write_a_message_too_many(variant: str) -> None:
    models = talkers(VARIANTS[variant], Easy)
    game = split(rounds=2, messages={"least": 1, "most": 1 + (variant == "illegal")})
    if variant != "illegal":
        game = split(rounds=2, messages={"least": 0, "most": 1})
    rollout = played(models, game, 8)
    beyond = [d for d in rollout.decisions if d.parse_status == "exceeded"]
    assert beyond
    for d in beyond:
        assert (d.kind, d.move, d.message_as_read, d.claim, d.trained) == (
            "claim",
            -1,
            "",
            [],
            True,
        )
        here = [o for o in rollout.decisions if (o.match, o.round) == (d.match, d.round)]
        assert sum(o.payoff for o in here) == 0
        assert sum(o.kind == "message" and o.seat == d.seat for o in here) == game.messages  # type: ignore[attr-defined]
        assert {o.seat for o in here if o.stock} == {0, 1}
    assert np.isclose(sum(d.payoff for d in rollout.decisions), rollout.played.payoffs.sum())
    found = iteration_metrics(rollout.decisions)["negotiation"]["pooled"]
    rounds = {(d.match, d.round) for d in beyond}
    assert found["exceeded"] == pytest.approx(len(rounds) / 16)
    assert found["illegal_claims"] < 1
    assert check_learning(rollout, models) == sum(len(d.tokens) for d in learned(rollout))


def test_free_answers_in_talk_have_room_for_either() -> None:
    models = talkers({"name": "free", "max_tokens": None})
    game = split(rounds=1, messages={"least": 0, "most": 1})
    rollout = played(models, game, 3)
    form = models.prompt.form(game, game.turns(game.start(0))[0])
    assert isinstance(form, MessageOrClaimForm)
    # A random model writes neither: an empty message each, then an illegal claim.
    kinds = [d.kind for d in rollout.decisions]
    assert kinds.count("message") == kinds.count("claim") == 2 * 3
    assert (
        max(len(d.tokens) for d in rollout.decisions) > models.chat.answer_length(form.longest) + 4
    )
