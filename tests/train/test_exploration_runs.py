"""Runs with exploration prompts: stopped and resumed, with others at the table, on the page."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import comity.train
from comity.cli import main
from comity.commands.play_setup import play_config
from comity.config.compose import compose
from comity.experiments.backends import without_learners
from comity.experiments.build import Experiment
from comity.experiments.rules import Rules
from comity.prompts.exploration import EXPLORATION, INSTRUCTIONS
from comity.reports.loading.folders import collect
from comity.reports.page.transcripts import transcripts
from comity.rollout.play import play
from comity.runs.folder import stored_config
from comity.train import train
from tests.reports.test_transcripts import decode
from tests.train.small import (
    Stopped,
    decisions,
    failing,
    metrics,
    only_folder,
    overrides,
    short_rules,
    small,
)

HALF = "exploration=[{text:greedy,probability:0.3},{text:welfare_maximizing,probability:0.3}]"
SPLIT = (
    *("game=trust_and_split_rps", "prompt=negotiation", "game.length.rounds=2"),
    *("answer.message_tokens=4", "iterations=2", "checkpoint.every=1"),
)


@pytest.fixture(autouse=True)
def terse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt negotiation tells no rules, so that tiny models have little to read."""
    short_rules(monkeypatch)


def talks(run: Path) -> list[dict[str, Any]]:
    files = sorted((run / "conversations").iterdir())
    return [row for file in files for row in pq.read_table(file).to_pylist()]


VARIANTS: dict[str, tuple[str, ...]] = {
    "dilemma": (HALF, "iterations=2", "checkpoint.every=1"),
    "split": (HALF, *SPLIT, "algorithm.kl=0.1", "algorithm.microbatch_tokens=64"),
    "critic": (HALF, *SPLIT, "algorithm.estimator=gae"),
    "branches": (HALF, *SPLIT, "algorithm.estimator=branches", "algorithm.alternatives=1"),
    "past": (
        *(
            HALF,
            *SPLIT,
            "opponent_pool=buffer",
            "opponent_pool.every=1",
            "opponent_pool.probability=1",
            "matches=4",
        ),
        *("group_size=2", "algorithm=advantage_alignment", "algorithm.baseline=leave_one_out"),
        *(
            "opponent_pool.scripted=[greedy]",
            "opponent_pool.scripted_probability=0.3",
            "seed=1",
            "iterations=4",
        ),
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_that_was_stopped_goes_on_exactly_and_only_learners_are_told(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = VARIANTS[variant]
    whole = train(small(tmp_path / "whole", *changes), report=False)
    with monkeypatch.context() as patch:
        failing(patch, comity.train, "play", 2, Stopped())
        with pytest.raises(Stopped):
            train(small(tmp_path / "cut", *changes), report=False)
    folder = only_folder(tmp_path / "cut")
    train(stored_config(folder), resume=folder)
    assert metrics(folder) == metrics(whole)
    assert str(decisions(folder)) == str(decisions(whole))
    assert talks(folder) == talks(whole)
    live = {(d.iteration, d.conversation) for d in decisions(whole) if d.controller == "live"}
    told = set()
    for talk in talks(whole):
        for piece in talk["pieces"]:
            if piece["kind"] == EXPLORATION:
                told.add((talk["iteration"], talk["conversation"]))
                assert piece["text"].strip() in INSTRUCTIONS.values()
    assert told and told <= live
    if variant == "past":
        others = {d.controller for d in decisions(whole)}
        assert {"past", "scripted"} <= others
    for row in metrics(whole):
        assert np.isfinite(row["loss"]) and row["decisions"] > 0
        assert row["importance_max"] != pytest.approx(1.0, abs=1e-3), "weights correct for it"


REFUSED = {
    "the probabilities add up to 1.2": (
        "exploration=[{text:greedy,probability:0.6},{text:greedy,probability:0.6}]",
    ),
    "exploration.probability: 1.5 must be at most 1": (
        "exploration=[{text:greedy,probability:1.5}]",
    ),
    "exploration.probability: 0.0 must be above 0": ("exploration=[{text:greedy}]",),
    "an instruction has no text": ("exploration=[{probability:0.5}]",),
    "unknown instruction 'gready'; did you mean greedy": (
        "exploration=[{text:gready,probability:0.5}]",
    ),
    "did you mean probability": ("exploration=[{text:greedy,probabilty:0.5}]",),
    "contains '<|im_end|>', a control token": (
        'exploration=[{text:"Do it now <|im_end|> please",probability:0.5}]',
    ),
    "this prompt has no place for extra instructions": (HALF, "prompt=memory_one"),
    "algorithm ppo begin with the learner's own": (HALF, "algorithm=ppo"),
    "algorithm exact learns nothing from matches": (*(HALF, "algorithm=exact"),),
    "with algorithm.importance_cap=null nothing is weighted": (
        HALF,
        "algorithm.importance_cap=null",
    ),
}


@pytest.mark.parametrize("complaint", REFUSED)
def test_what_cannot_be_is_refused_in_a_line(
    complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = REFUSED[complaint]
    if "algorithm=exact" in changes:
        changes = (*changes, "game/length=one")
    assert main(["train", "ipd", *overrides(tmp_path / "runs", *changes)]) == 2
    said = capsys.readouterr().err.strip()
    assert complaint in said and "\n" not in said
    assert not (tmp_path / "runs").exists()


def test_cross_play_and_people_get_none(tmp_path: Path) -> None:
    config = small(tmp_path, HALF, *SPLIT)
    with Experiment(without_learners(config)) as experiment:
        assert not experiment.models.exploration
        rollout = play(experiment.rules.game, experiment.matches(0))
        assert not any(p.kind == EXPLORATION for t in rollout.conversations for p in t.pieces)
    assert play_config("ipd", ["base", "base"], {}, [HALF]).exploration == []


def test_one_shot_passes_are_not_kept_for_learning(tmp_path: Path) -> None:
    """They hold what is not learned from; also of a prompt of one's own that is one-shot."""
    with Experiment(small(tmp_path, "prompt=memory_one")) as experiment:
        assert experiment._record() > 0
        experiment.config.exploration = compose("ipd", [HALF]).exploration
        experiment.rules = Rules.of(experiment.config)
        assert experiment._record() == 0


def test_the_page_shows_instructions_marked_and_harmless(tmp_path: Path) -> None:
    text = "Say </script><script>window.hacked=1</script> <b>now</b> & then."
    run = train(small(tmp_path, f"exploration=[{{text:'{text}',probability:1}}]", "iterations=1"))
    page = (run / "report.html").read_text()
    assert "<script>window.hacked" not in page and "<b>now</b>" not in page
    packed = transcripts(collect([run]), 10**7)
    texts, column = decode(packed["texts"]), {n: i for i, n in enumerate(packed["columns"])}
    marked = 0
    for match in packed["matches"]:
        for values in match["decisions"]:
            flat = packed["conversations"][values[column["conversation"]]]
            before = flat[: 3 * values[column["piece"]]]
            kinds, said = before[::3], [texts[i] for i in before[1::3]]
            assert [k == 2 for k in kinds] == [t.strip() == text for t in said]
            assert kinds.count(2) == values[column["round"]] + 1
            assert flat[3 * values[column["piece"]]] == 1
            marked += kinds.count(2)
    assert marked > 0
