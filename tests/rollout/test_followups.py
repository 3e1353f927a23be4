"""Follow-up questions: a second turn after the own last answer, of whoever gave it."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from comity.players.scripted.catalog import MATRIX_STRATEGIES
from comity.players.scripted.player import StrategyPlayer
from comity.registry import build
from comity.rollout.followups import FOLLOWUP, follow_up
from comity.rollout.play import Match, Rollout, play
from comity.train import train
from tests.train.small import metrics, only_folder, small
from tests.worlds import dilemma, learner, tiny_models

QUESTIONS = {"why": "Why?", "strategy": "By which strategy?"}


def played(prompt: str, answer: str) -> tuple[Rollout, list[Match]]:
    models = tiny_models(prompt={"name": prompt}, answer={"name": answer})
    opponent = StrategyPlayer("tit_for_tat", build("player", "tit_for_tat", MATRIX_STRATEGIES))
    matches = [Match(m, m, m, (learner(models), opponent), (0, 0, m)) for m in range(3)]
    return play(dilemma(2), matches), matches


@pytest.mark.parametrize("prompt", ["memory_one", "conversation"])
@pytest.mark.parametrize("answer", ["constrained", "free"])
def test_it_is_told_after_the_own_last_answer(prompt: str, answer: str) -> None:
    rollout, matches = played(prompt, answer)
    decisions, conversations = follow_up(rollout, matches[:2], QUESTIONS, 7)
    assert [d.move_name for d in decisions] == ["why", "strategy"] * 2, "scripts are not asked"
    for d, talk in zip(decisions, conversations, strict=True):
        last = [x for x in rollout.decisions if (x.match, x.seat) == (d.match, 0)][-1]
        before = rollout.conversations[last.conversation]
        end = last.start + len(last.tokens)
        assert talk.ids[:end] == before.ids[:end]
        assert talk.ids[d.start : d.start + len(d.tokens)] == d.tokens
        assert 1 <= len(d.tokens) <= 7
        assert QUESTIONS[d.move_name] in talk.pieces[-2].text
        assert [(p.start, p.end) for p in talk.pieces] == [
            (a, b)
            for a, b in zip(
                [0, *(p.end for p in talk.pieces)], (p.end for p in talk.pieces), strict=False
            )
        ]
        assert (d.kind, d.trained, d.round, d.player) == (FOLLOWUP, False, last.round, "learner")
        assert d.conversation == talk.conversation >= len(rollout.conversations)
        assert d.logprob == pytest.approx(sum(d.token_logprobs))


def test_questions_are_independent() -> None:
    """What is asked beside a question, and of whom else, changes nothing about its answer."""
    rollout, matches = played("memory_one", "constrained")
    together, _ = follow_up(rollout, matches, QUESTIONS, 5)
    alone, _ = follow_up(rollout, matches[1:2], {"strategy": QUESTIONS["strategy"]}, 5)
    (same,) = [d for d in together if (d.match, d.move_name) == (1, "strategy")]
    assert alone[0].tokens == same.tokens


def followups_on_page(run: Path) -> set[str]:
    """Names of the questions whose answers the page's transcripts hold."""
    text = (run / "report.html").read_text()
    (data,) = re.findall(r'id="match-data">(.*?)</script>', text, flags=re.S)
    packed = json.loads(data)
    kind, name = packed["columns"].index("kind"), packed["columns"].index("name")
    return {
        packed["names"][d[name]]
        for match in packed["matches"]
        for d in match["decisions"]
        if packed["names"][d[kind]] == FOLLOWUP
    }


def test_a_run_keeps_them_and_learns_nothing_from_them(tmp_path: Path) -> None:
    changes = ["seats=[learner,tit_for_tat]", "iterations=3"]
    asking = ["record.followups=1", "record.followup_every=2", "record.followup_tokens=4"]
    train(small(tmp_path / "asked", *changes, *asking))
    train(small(tmp_path / "plain", *changes))
    run, plain = only_folder(tmp_path / "asked"), only_folder(tmp_path / "plain")
    assert metrics(run) == metrics(plain)
    for iteration, expected in ((0, 2), (1, 0), (2, 2)):
        rows = pq.read_table(run / "decisions" / f"{iteration:06d}.parquet").to_pylist()
        found = [row for row in rows if row["kind"] == FOLLOWUP]
        assert len(found) == expected
        assert all(np.isnan(row["payoff"]) for row in found)
    asked, other = (json.loads((folder / "summary.json").read_text()) for folder in (run, plain))
    assert asked["policies"] == other["policies"]
    assert followups_on_page(run) == {"why", "strategy"}
    assert followups_on_page(plain) == set()
