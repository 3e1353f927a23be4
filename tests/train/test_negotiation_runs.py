"""Runs of split games and written answers from end to end, with a tiny model."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import comity.engines.grammar
import comity.train
from comity.cli import main
from comity.config.compose import compose
from comity.config.presets.negotiation import nodes
from comity.errors import ComityError
from comity.runs.folder import stored_config
from comity.train import train
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
from tests.worlds import tiny_folder

PRESETS = [name for name, _ in nodes()]
SMALL = [name for name in PRESETS if "/small/" in name]
SPLIT = (
    *("game=trust_and_split_rps", "prompt=negotiation", "game.length.rounds=1"),
    *("answer.message_tokens=4", "iterations=2", "checkpoint.every=1"),
)


@pytest.fixture(autouse=True)
def terse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt negotiation tells no rules, so that tiny models have little to read."""
    short_rules(monkeypatch)


def tiny(name: str, output: Path) -> list[str]:
    """Overrides that make a preset a matter of a second."""
    config = compose(name)
    changes = [
        f"model.name={tiny_folder('llama')}",
        "model.dtype=float32",
        "model.device=cpu",
        "model.system=null",
        f"output={output}",
        "iterations=1",
        "matches=2",
        f"group_size={min(2, config.group_size)}",
        "adapter.rank=4",
        "answer.message_tokens=4",
    ]
    length = "cap" if config.game["length"]["name"] == "geometric" else "rounds"
    return [*changes, f"game.length.{length}=2"]


QUICK = {
    *("robust/small/ipd_vanilla_ad_align", "robust/small/tas_rps_vanilla_ad_align"),
    *("robust/small/split_no_comm_naive", "robust/small/submission_tas_rps_ad_align_gae"),
    *("robust/small/tas_rps_adv_margin_vs_fixed_ad_align", "myopic/small/ultimatum"),
    *("robust/small/submission_tas_ad_align", "myopic/small/negotiation_game"),
    "myopic/small/ipd_overt",
}
"""One of each kind; the others are tried with the slow tests."""


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in SMALL]
)
def test_every_small_preset_runs_to_its_page(name: str, tmp_path: Path) -> None:
    run = train(compose(name, tiny(name, tmp_path)))
    (row,) = metrics(run)
    assert np.isfinite(row["loss"]) and np.isfinite(row["payoff"]) and np.isfinite(row["reward"])
    found = decisions(run)
    assert {d.match for d in found} == {0, 1} and any(d.trained for d in found)
    page = (run / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    talks = pq.read_table(run / "conversations/000000.parquet").to_pylist()
    for talk in talks:
        ends = [piece["end"] for piece in talk["pieces"]]
        assert ends == sorted(ends) and ends[-1] == len(talk["ids"])


VARIANTS: dict[str, tuple[str, ...]] = {
    "talk": SPLIT,
    "talk that may be ended": (
        *(*SPLIT, "game=deal_or_no_deal", "game.messages={least: 1, most: 2}"),
        *("game.finalization=visible", "prompt.finalization=own"),
        *("algorithm=advantage_alignment", "answer.message_tokens=2"),
    ),
    "thinking attempts": (
        *SPLIT,
        *("answer=attempts", "answer.message_tokens=4", "answer.free_attempts=2"),
        *("answer.thinking=5", "answer.train_thinking=false", "algorithm.kl=0.1"),
    ),
    "past": (
        *(
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
    "ppo": (*SPLIT, "algorithm=ppo", "algorithm.horizon=rounds", "algorithm.epochs=2"),
    "critic by steps": (*SPLIT, "algorithm.estimator=gae", "algorithm.credit_steps=steps"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_split_run_that_was_stopped_goes_on_exactly(
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
    rows = metrics(whole)
    assert all(np.isfinite(row["loss"]) and row["decisions"] > 0 for row in rows)
    assert rows[0] != {**rows[1], "iteration": 0}
    found = decisions(whole)
    if variant == "talk that may be ended":
        kinds = {(d.kind, d.step) for d in found}
        assert {("message", 0), ("message", 1), ("claim", 3)} <= kinds
        assert all(row["negotiation"]["pooled"]["exceeded"] == 0 for row in rows)
    if variant == "past":
        assert {"live", "past", "scripted"} <= {d.controller for d in found}
        for d in found:
            assert d.trained == (d.controller == "live")
    for row in rows:
        # Talk, thoughts and failed tries take no part in means over what was paid.
        counted = [
            d.reward
            for d in found
            if d.iteration == row["iteration"] and d.kind == "claim" and d.trained
        ]
        assert row["reward"] == pytest.approx(np.mean(counted))
        assert row["reward"] == pytest.approx(row["payoff"])


REFUSED = {
    "games that repeat a stage of moves and payoffs, not Ultimatum; choose prompt=negotiation": (
        "game=ultimatum",
    ),
    "has no discrete actions": (*("game=trust_and_split_rps", "prompt=structured"),),
    "supports split games only, not Prisoner's Dilemma": ("prompt=negotiation",),
    "scores moves, and split games have claims": (*SPLIT, "reward=deontological"),
    "exact needs a matrix game of two seats, not another game": (*SPLIT[:2], "algorithm=exact"),
    "exact needs answers without thoughts": (
        *("algorithm=exact", "prompt=memory_one", "answer.thinking=9"),
    ),
    "tit_for_tat cannot play this game": (*SPLIT, "seats=[learner,tit_for_tat]"),
    "greedy cannot play this game": ("seats=[learner,greedy]",),
    "names has 1 names for 2 seats": (*SPLIT, "prompt.names=[Alice]"),
}


@pytest.mark.parametrize("complaint", REFUSED)
def test_what_cannot_be_is_refused_in_a_line(
    complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "ipd", *overrides(tmp_path / "runs", *_once(REFUSED[complaint]))]) == 2
    said = capsys.readouterr().err.strip()
    assert complaint in said and said.count("\n") == 0 and len(said) < 400
    assert not (tmp_path / "runs").exists()


def _once(changes: tuple[str, ...]) -> list[str]:
    """Without those that `overrides` gives itself."""
    return [c for c in changes if not c.startswith(("game.length", "iterations", "checkpoint"))]


def test_an_item_that_the_tokenizer_cannot_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused before a run folder is there; the message before it could be written."""

    class Narrow(comity.engines.grammar._Vocabulary):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self.tokens = [b"" if b"z" in written else written for written in self.tokens]

    monkeypatch.setattr("comity.engines.grammar._Vocabulary", Narrow)
    # Grammars that another test made of this tokenizer can write everything.
    monkeypatch.setattr(
        "comity.engines.grammar._shared", comity.engines.grammar._shared.__wrapped__
    )
    changes = [
        *("game=trust_and_split_items", "prompt=negotiation", "game.items=[zebras, hats]"),
        "answer.message_tokens=3",
    ]
    assert main(["train", "ipd", *overrides(tmp_path / "runs", *changes)]) == 2
    said = capsys.readouterr().err.strip()
    assert "tokenizer cannot write" in said and "zebras" in said and "\n" not in said
    assert not (tmp_path / "runs").exists()
    free = [*changes, "answer=free"]
    with pytest.raises(ComityError, match="message_tokens"):
        small(tmp_path, *free)


def test_generalization_of_a_split_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(small(tmp_path, *SPLIT, "iterations=1"), report=False)
    assert main(["evaluate", "generalization", str(run)]) == 2
    said = capsys.readouterr().err.strip().split("comity: ")[1]
    assert "was trained on a split game" in said and "\n" not in said


def test_the_lists_name_the_parts_of_negotiation(capsys: pytest.CaptureFixture[str]) -> None:
    for section, names in {
        "games": ("trust_and_split_rps", "deal_or_no_deal", "ultimatum", "split_no_talk"),
        "prompts": ("negotiation",),
        "players": ("welfare_maximizing", "greedy", "claim", "tit_for_tat_claims"),
        "answers": ("attempts", "constrained", "free"),
        # A word lists the names one by one; without, they are shown as families.
        "experiments robust": [name for name in PRESETS if name.startswith("robust")],
        "experiments myopic": [name for name in PRESETS if name.startswith("myopic")],
    }.items():
        assert main(["list", *section.split()]) == 0
        listed = capsys.readouterr().out
        assert all(name in listed for name in names)
