"""Questions of later rounds computed in the first pass: the same answers, in fewer passes."""

from typing import Any

import pytest

from comity.engines.local.engine import Engine
from comity.games import make_game
from comity.players.language_model import prefetch as foresight
from comity.rollout.play import Rollout
from tests.worlds import dilemma, learner, play_matches, tiny_models


def played(
    monkeypatch: pytest.MonkeyPatch,
    prefetched: int,
    prompt: dict[str, Any],
    matches: int = 5,
    answer: dict[str, Any] | None = None,
    **game: Any,
) -> tuple[Rollout, list[int]]:
    """A rollout, and the distinct tokens of each of its passes."""
    passes: list[int] = []
    forward = Engine.forward

    def counted(engine: Engine, batch: Any, *rest: Any, **more: Any) -> Any:
        passes.append(len(batch))
        return forward(engine, batch, *rest, **more)

    policy = learner(tiny_models(prompt=prompt, answer=answer or {"name": "constrained"}))
    with monkeypatch.context() as patch:
        patch.setattr(foresight, "MAX_PREFETCHED_MOVES", prefetched)
        patch.setattr(Engine, "forward", counted)
        return play_matches(dilemma(4, **game), (policy, policy), matches), passes


PROMPTS = [
    {"name": "memory_one"},
    {"name": "structured", "mention_order": "given", "answer_order": "reversed"},
]


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt["name"])
@pytest.mark.parametrize(("start", "matches"), [("none", 5), ("uniform", 1)])
def test_the_same_is_played_in_one_pass(
    monkeypatch: pytest.MonkeyPatch, prompt: dict[str, Any], start: str, matches: int
) -> None:
    plain, small = played(monkeypatch, 0, prompt, matches, initial_state=start)
    ahead, large = played(monkeypatch, 9, prompt, matches, initial_state=start)
    assert len(large) == 1 < len(small)
    assert [d.move for d in ahead.decisions] == [d.move for d in plain.decisions]
    assert [c.ids for c in ahead.conversations] == [c.ids for c in plain.conversations]
    for one, other in zip(ahead.decisions, plain.decisions, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_free_answers_of_a_token_are_sampled_after_one_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prompt, answer = {"name": "memory_one"}, {"name": "free", "max_tokens": 1}
    plain, small = played(monkeypatch, 0, prompt, answer=answer)
    ahead, large = played(monkeypatch, 9, prompt, answer=answer)
    assert len(large) == 1 < len(small)
    assert [c.ids for c in ahead.conversations] == [c.ids for c in plain.conversations]
    for one, other in zip(ahead.decisions, plain.decisions, strict=True):
        assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-5)


SHUFFLED = {"name": "structured", "labels": "random"}
"""Orders are drawn in every round."""
CARRIED = {"initial_state": "uniform", "illegal": "carry"}
"""Moves are shown from the first round on, and an illegal answer changes none."""


@pytest.mark.parametrize("answer", ["constrained", "free"])
@pytest.mark.parametrize("matches", [1, 2])
def test_drawn_questions_are_computed_while_the_moves_stay(
    monkeypatch: pytest.MonkeyPatch, answer: str, matches: int
) -> None:
    """Illegal answers, as nearly all free ones of this model are, leave the shown moves."""
    how = {"name": answer, **({"max_tokens": 3} if answer == "free" else {})}
    with monkeypatch.context() as patch:
        patch.setattr(foresight, "FEW_MATCHES", 0)
        plain, small = played(monkeypatch, 9, SHUFFLED, matches, how, **CARRIED)
    ahead, large = played(monkeypatch, 9, SHUFFLED, matches, how, **CARRIED)
    assert [c.ids for c in ahead.conversations] == [c.ids for c in plain.conversations]
    assert [d.move for d in ahead.decisions] == [d.move for d in plain.decisions]
    for one, other in zip(ahead.decisions, plain.decisions, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
        assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-4)
    shown = {(d.match, d.seat, tuple(d.state)) for d in ahead.decisions}
    if answer == "constrained":
        assert len(shown) > 2 * matches, "moves change"
        assert len(large) <= len(small) <= 4
    else:
        assert len(shown) == 2 * matches, "all answers are illegal"
        # All questions are in the first pass; after it there are beginnings and rests of answers.
        assert large[0] > small[0] and max(large[1:]) <= 8 * matches
        assert sum(large) == sum(small)


def test_nothing_is_computed_ahead_of_an_unknown_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor after a first round, whose moves nobody knows."""
    for more in (
        {"initial_state": "uniform", "length": {"name": "geometric", "cap": 4}},
        {"initial_state": "none", "length": {"name": "fixed", "rounds": 2}},
    ):
        policy = learner(tiny_models(prompt=SHUFFLED, answer={"name": "free", "max_tokens": 1}))
        game = make_game({"name": "prisoners_dilemma", **more})
        rollout = play_matches(game, (policy, policy), 1)
        told = {
            ids[: d.start]
            for d in rollout.decisions
            for ids in [tuple(rollout.conversations[d.conversation].ids)]
        }
        distinct = {ids[:n] for ids in told for n in range(1, len(ids) + 1)}
        # Besides what was told: the beginnings of two legal answers after each question.
        assert policy.backend.engine.tokens_computed <= len(distinct) + 8 * len(told)


@pytest.mark.parametrize("prompt", [{"name": "structured"}, {"name": "conversation"}])
def test_nothing_is_foreseen_where_questions_are_drawn_or_grow(
    monkeypatch: pytest.MonkeyPatch, prompt: dict[str, Any]
) -> None:
    _, plain = played(monkeypatch, 0, prompt)
    _, same = played(monkeypatch, 9, prompt)
    assert same == plain


def test_one_round_needs_no_foresight(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = learner(tiny_models(prompt={"name": "memory_one"}))
    game = make_game({"name": "prisoners_dilemma", "length": {"name": "fixed", "rounds": 1}})
    computed = policy.backend.engine.tokens_computed
    rollout = play_matches(game, (policy, policy), 2)
    used = policy.backend.engine.tokens_computed - computed
    assert used <= len(rollout.conversations[0].ids)
