"""Alternatives to decisions of language models: conversations, credit and training."""

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import comity.train
from comity.games.base import Game
from comity.games.randomness import ANSWER, generator
from comity.learning.credit.returns import discounted_returns, horizon_returns
from comity.players.base import Request
from comity.players.language_model.player import LanguageModelBackend
from comity.players.language_model.session import LanguageModelSession
from comity.prompts.negotiation import wording as negotiation_words
from comity.rollout.counterfactuals import _counterfactuals, counterfactual_returns
from comity.rollout.play import Match, Rollout, play
from comity.rollout.recording import PAID_KINDS
from comity.runs.folder import stored_config
from comity.train import train
from tests.players.answer_models import Easy, Terse, split, told
from tests.train.small import Stopped, failing, metrics, only_folder, small
from tests.worlds import dilemma, learner, tiny_models

CONSTRAINED = {"name": "constrained", "message_tokens": 5}
TRY = {"name": "attempts", "free_attempts": 2, "message_tokens": 5}
WORLDS: dict[str, tuple[Game, LanguageModelBackend]] = {
    "growing": (dilemma(3), tiny_models(adapters=("main", "b"))),
    "one-shot": (dilemma(3), tiny_models(prompt={"name": "memory_one"}, adapters=("main", "b"))),
    "structured": (
        dilemma(2),
        tiny_models(prompt={"name": "structured", "labels": "random"}, adapters=("main", "b")),
    ),
}


def world(name: str) -> tuple[Game, LanguageModelBackend]:
    """Games with their models: talk and claims unless they are in `WORLDS`."""
    if name in WORLDS:
        return WORLDS[name]
    answer, prompt, game = {
        "split": (CONSTRAINED, Terse, split(rounds=2)),
        "talk": (CONSTRAINED, Terse, split(rounds=2, messages={"least": 0, "most": 2})),
        "ultimatum": ({**CONSTRAINED, "thinking": 6}, Terse, split("ultimatum", 2)),
        "append": ({**TRY, "retry_feedback": "append"}, Easy, split(rounds=2)),
        "attempts": ({**TRY, "thinking": 5}, Easy, split(rounds=2)),
    }[name]
    models = tiny_models(prompt={"name": "negotiation"}, answer=answer, adapters=("main", "b"))
    return game, told(models, prompt)


def kept(game: Game, models: LanguageModelBackend) -> Rollout:
    count = 2 if models.answer.name == "constrained" else 1
    players = (learner(models), learner(models, "b"))
    return play(game, [Match(m, m, m, players, (0, 0, m)) for m in range(count)], keep=True)


ALL = (*WORLDS, "split", "talk", "ultimatum", "append", "attempts")


@pytest.mark.parametrize("name", ALL)
def test_with_the_trunks_random_numbers_every_branch_is_the_trunk(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same context, the same held answers, the same chances: then nothing can differ."""
    game, models = world(name)
    rollout = kept(game, models)

    def rng(self: Request, attempt: int = 0, part: str = "") -> np.random.Generator:
        turn = self.turn
        place = (turn.seat, turn.round, turn.step, attempt)
        return generator(*self.stream[:3], ANSWER, *place, *([part] if part else []))

    monkeypatch.setattr(Request, "rng", rng)
    again = kept(game, models)
    assert [d.text for d in again.decisions] == [d.text for d in rollout.decisions]
    assert again.runner is not None
    for depth in (None, 0, 1):
        found = counterfactual_returns(again.runner, lambda p: p.payoffs, 0.9, 1, depth)
        trunk = horizon_returns(again.played.payoffs, again.played.alive, 0.9, depth)
        assert found == pytest.approx(trunk)
        if depth is None:
            assert np.array_equal(
                trunk, discounted_returns(again.played.payoffs, again.played.alive, 0.9)
            )
            check_same(again, models)


def check_same(rollout: Rollout, models: LanguageModelBackend) -> None:
    """Every conversation of a branch to the end is the trunk's, or the first part of it."""
    assert rollout.runner is not None
    table = rollout.runner.sessions[models]
    trunk = {(t.match, t.conversation): t.ids for t in rollout.conversations}
    for talk in table.transcripts[len(rollout.conversations) :]:
        match = list(_counterfactuals(rollout.runner, 1))[
            talk.match - len(rollout.runner.matches)
        ].match
        candidates = [
            other.ids
            for other in rollout.conversations
            if other.match == match and other.seat == talk.seat
        ]
        assert any(talk.ids == ids for ids in candidates)
        assert [end for _, _, end in talk.pieces][-1] == len(talk.ids)
        assert [start for _, start, _ in talk.pieces[1:]] == [e for _, _, e in talk.pieces[:-1]]
    assert trunk


@pytest.mark.parametrize("name", ALL)
def test_an_alternative_is_asked_what_the_trunk_was_asked(name: str) -> None:
    game, models = world(name)
    rollout = kept(game, models)
    assert rollout.runner is not None
    table = rollout.runner.sessions[models]
    assert isinstance(table, LanguageModelSession)
    before = [(list(talk.ids), list(talk.pieces)) for talk in table.transcripts]
    records = copy.deepcopy([vars(d) for d in rollout.decisions])
    counterfactual_returns(rollout.runner, lambda p: p.payoffs, 0.9, 2)
    assert str([vars(d) for d in rollout.decisions]) == str(records)
    assert [(t.ids, t.pieces) for t in table.transcripts[: len(before)]] == before
    main = {
        (d.match, d.seat, d.round): d for d in rollout.decisions if d.kind in PAID_KINDS
    }  # one of a seat in a round
    first = len(rollout.runner.matches)
    branches = list(_counterfactuals(rollout.runner, 2))
    assert len(branches) == 2 * len(main)
    texts = set()
    for number, branch in enumerate(branches):
        d = main[branch.match, branch.seat, branch.round]
        own = [
            talk
            for talk in table.transcripts[len(before) :]
            if (talk.match, talk.seat) == (first + number, branch.seat)
        ]
        # What was thought or tried before the answer is its own in every branch.
        tells = [
            end
            for kind, _, end in table.transcripts[d.conversation].pieces
            if kind == "prompt" and end <= d.start
        ]
        asked = rollout.conversations[d.conversation].ids
        if models.answer.name == "constrained" and not getattr(models.answer, "thinking", 0):
            assert own[0].ids[: d.start] == asked[: d.start]
        else:
            told_ = _told_until(rollout, d)
            assert own[0].ids[:told_] == asked[:told_]
        assert tells
        texts.add(tuple(own[0].ids[d.start : d.start + 40]))
    assert len(texts) > 1, "alternatives differ"


def _told_until(rollout: Rollout, d: Any) -> int:
    """End of what was told before the first answer of a decision, thoughts and tries included."""
    starts = [
        o.start
        for o in rollout.decisions
        if (o.match, o.seat, o.round, o.step) == (d.match, d.seat, d.round, d.step) and o.start >= 0
    ]
    return min(starts)


SPLIT = (
    *("game=trust_and_split_rps", "prompt=negotiation", "game.length.rounds=1"),
    *("answer.message_tokens=3", "matches=2", "algorithm.reward_scale=10"),
)
ESTIMATORS = {
    "branches": ("algorithm.estimator=branches",),
    "branch form": (*SPLIT, "algorithm=advantage_alignment", "algorithm.branched=true"),
    "both": (
        *("algorithm=advantage_alignment", "algorithm.branched=true", "seats=[learner,base]"),
        *("matches=2", "prompt=memory_one"),
        *("algorithm.estimator=branches", "algorithm.branch_depth=0", "group_size=2"),
        *("algorithm.include_trunk=false", "algorithm.baseline=leave_one_out"),
    ),
}


@pytest.fixture
def terse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt negotiation tells no rules."""
    monkeypatch.setattr(negotiation_words, "rules", lambda *_: "Split.")


@pytest.mark.parametrize("name", ESTIMATORS)
def test_training_runs_and_resumes_exactly(
    name: str, terse: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = (*ESTIMATORS[name], "algorithm.alternatives=2", "iterations=3")
    whole = train(small(tmp_path / "whole", *changes), report=False)
    with monkeypatch.context() as patch:
        failing(patch, comity.train, "play", 3, Stopped())
        with pytest.raises(Stopped):
            train(small(tmp_path / "cut", *changes), report=False)
    folder = only_folder(tmp_path / "cut")
    train(stored_config(folder), resume=folder, report=False)
    assert metrics(folder) == metrics(whole)
    assert all(np.isfinite(row["loss"]) for row in metrics(whole))
    others = [c for c in changes if not re.search("alternatives|branch|include|=adv", c)]
    plain = train(small(tmp_path / "plain", *others), report=False)
    # Until something is learned, the matches are those that are played without alternatives.
    keys = ("payoff", "cooperation", "reward", "tokens_played", "negotiation", "outcomes")
    assert {k: metrics(plain)[0][k] for k in keys} == {k: metrics(whole)[0][k] for k in keys}
