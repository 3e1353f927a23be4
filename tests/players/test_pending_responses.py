"""Free answers that are illegal already wait for their rests: nothing else changes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from comity.engines.local import session
from comity.engines.local.engine import Engine
from comity.engines.local.session import Session
from comity.rollout.play import Rollout
from tests.worlds import dilemma, learner, play_matches, tiny_models

PROMPT = {"name": "memory_one", "labels": ["action1", "action22"]}
NUMBERS = ("logprob", "token_logprobs")


def played(
    monkeypatch: pytest.MonkeyPatch,
    allow_pause: bool,
    tokens: int,
    illegal: str,
    train: bool = True,
    prompt: dict[str, Any] = PROMPT,
) -> tuple[Rollout, int]:
    """A rollout, and how often the engine was run."""
    continue_sampling, forward = Session.continue_sampling, Engine.forward
    passes = 0

    def counted(*given: Any, **more: Any) -> Any:
        nonlocal passes
        passes += 1
        return forward(*given, **more)

    answer = {"name": "free", "max_tokens": tokens, "train_illegal": train}
    policy = learner(tiny_models(prompt=prompt, answer=answer))
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "forward", counted)
        if not allow_pause:
            patch.setattr(
                Session,
                "continue_sampling",
                lambda self, answers, allow_pause=False: continue_sampling(self, answers),
            )
        game = dilemma(4, illegal=illegal)
        return play_matches(game, (policy, policy), 6), passes


def check_alike(one: Rollout, other: Rollout) -> None:
    assert [c.ids for c in one.conversations] == [c.ids for c in other.conversations]
    assert [c.pieces for c in one.conversations] == [c.pieces for c in other.conversations]
    for a, b in zip(one.decisions, other.decisions, strict=True):
        left, right = vars(a).copy(), vars(b).copy()
        for name in NUMBERS:
            assert left.pop(name) == pytest.approx(right.pop(name), abs=1e-4)
        assert str(left) == str(right), "as texts: NaN is not NaN"
    assert (one.answers, one.masks) == (other.answers, other.masks)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("tokens", [1, 2, 5])
def test_all_that_is_recorded_is_the_same(
    monkeypatch: pytest.MonkeyPatch, tokens: int, train: bool
) -> None:
    plain, many = played(monkeypatch, False, tokens, "carry", train)
    waited, few = played(monkeypatch, True, tokens, "carry", train)
    check_alike(waited, plain)
    assert all(len(d.tokens) <= tokens for d in waited.decisions)
    assert any(len(d.tokens) == tokens for d in waited.decisions)
    assert {d.trained for d in waited.decisions if d.move < 0} == {train}
    # Of two tokens, the first may be part of a character, which settles nothing: in each round
    # somebody's second is sampled at once, and then there are the rests.
    assert few < many if tokens > 2 else few <= many + 1


@pytest.mark.parametrize("illegal", ["carry", "as_defect"])
def test_legal_ones_do_not_wait(monkeypatch: pytest.MonkeyPatch, illegal: str) -> None:
    """Tokens are picked from a few, so that answers of all kinds come about."""
    short = {**PROMPT, "labels": ["A", "B"]}
    chat = tiny_models(prompt=short).chat
    few = [
        *chat.encode_answer("A"),
        *chat.encode_answer("B"),
        *chat.encode_answer("x"),
        *sorted(chat.end_ids),
    ]

    def picked(head: Any, hidden: Any, rows: Sequence[int], heat: Any, points: Any, masks: Any):  # type: ignore[no-untyped-def]
        return [few[int(point * len(few))] for point in points], list(np.log(points))

    monkeypatch.setattr(session, "sample_tokens", picked)
    plain, _ = played(monkeypatch, False, 9, illegal, prompt=short)
    waited, _ = played(monkeypatch, True, 9, illegal, prompt=short)
    check_alike(waited, plain)
    assert {d.move >= 0 for d in waited.decisions} == {True, False}
