"""Runs against past checkpoints: seats, training, what is kept, what is refused."""

import json
import math
import os
import shutil
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import comity.experiments.opponent_pool
import comity.train
from comity.cli import main
from comity.config.compose import arm_configs, compose
from comity.config.seats import scripted_player
from comity.engines.local.adapters.lora import Adapters
from comity.engines.local.identity import base_name
from comity.errors import ComityError, WorkError
from comity.experiments.build import Experiment
from comity.experiments.rules import check_training
from comity.learning.state.snapshots import Snapshots, find_adapters
from comity.rollout.play import play
from comity.rollout.records import Decision
from comity.runs.folder import stored_config
from comity.train import train
from tests.forked import Forked
from tests.train.small import Stopped, decisions, failing, metrics, only_folder, overrides, small

BUFFER = (
    "opponent_pool=buffer",
    "opponent_pool.every=1",
    "opponent_pool.probability=0.7",
    "matches=4",
    "group_size=2",
)
"""From iteration 1 on most of the two groups face a snapshot."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run against its own past."""
    return train(small(tmp_path_factory.mktemp("past"), *BUFFER))


def others(found: list[Decision]) -> list[Decision]:
    return [d for d in found if d.controller != "live"]


def test_one_seat_of_a_group_is_trained_and_the_seats_take_turns(run: Path) -> None:
    for d in decisions(run):
        live = d.group % 2 == d.seat
        assert d.trained == live == (d.controller == "live")
        assert math.isfinite(d.reward) and math.isfinite(d.return_) and math.isfinite(d.advantage)
    for row in metrics(run):
        assert row["decisions"] == 4 * 2, "4 matches of 2 rounds, one trained seat each"


@pytest.mark.parametrize("baseline", ["leave_one_out", "batch", "batch_pooled", "shared"])
def test_what_the_untrained_earn_moves_no_advantage_of_the_trained(
    baseline: str, tmp_path: Path
) -> None:
    config = small(tmp_path, *BUFFER, f"algorithm.baseline={baseline}", "algorithm.discount=1")
    with Experiment(config) as experiment:
        assert experiment.opponent_pool is not None
        experiment.opponent_pool.open(tmp_path, 0)
        experiment.opponent_pool.begin(0)
        rollout = play(experiment.rules.game, experiment.matches(0))
        trained = np.array([[d.seat == d.group % 2] for d in rollout.decisions])
        rewards = experiment.rules.reward(rollout.played, experiment.rules.game)
        found = []
        for extra in (0.0, 100.0):
            given = rewards.copy()
            for match in range(4):
                given[match, 1 - match // 2 % 2] += extra * (match + 1)
            comity.train.credit(rollout, given, experiment)
            found.append(np.array([[d.advantage] for d in rollout.decisions]))
        assert np.allclose(found[0][trained], found[1][trained])
        assert not np.allclose(found[0][~trained], found[1][~trained])
        mine = comity.train.training_sequences(rollout, "main", 1.0)
        assert {d.trajectory for one in mine for d in one.decisions} == {
            (match, match // 2 % 2) for match in range(4)
        }


def test_records_say_who_a_past_agent_is(run: Path) -> None:
    found = others(decisions(run))
    past = [d for d in found if d.controller == "past"]
    assert past, "nobody was drawn: another seed is needed"
    for d in past:
        assert d.version < d.iteration, "an earlier policy"
        assert d.player == f"learner@{d.version:06d}" and d.adapter == f"main@{d.version:06d}"
    for d in found:
        if d.controller != "past":
            assert (d.controller, d.player, d.adapter) == ("frozen", "learner", "main")
            assert d.version == d.iteration, "the present policy"


def test_a_group_faces_one_opponent(run: Path) -> None:
    faced: dict[tuple[int, int], set[str]] = {}
    for d in others(decisions(run)):
        faced.setdefault((d.iteration, d.group), set()).add(d.player)
    assert len(faced) == 4 * 2 and all(len(players) == 1 for players in faced.values())


def test_metrics_tell_the_opponents_apart(run: Path) -> None:
    for row, iteration in zip(metrics(run), range(4), strict=True):
        found = [d for d in decisions(run) if d.iteration == iteration]
        kinds = Counter(d.controller for d in others(found) if d.round == 0)
        for kind, told in row["by_opponent"].items():
            assert told["matches"] == kinds[kind]
            matches = {d.match for d in others(found) if d.controller == kind}
            mine = [d.payoff for d in found if d.trained and d.match in matches]
            assert told["payoff"] == (pytest.approx(sum(mine) / len(mine)) if mine else None)
    assert (run / "report.html").is_file()


def test_snapshots_are_adapters_as_the_checkpoints_are(run: Path) -> None:
    assert sorted(p.name for p in (run / "opponent_pool/main").iterdir()) == [
        "000001",
        "000002",
        "000003",
    ]
    one, other = (
        (run / folder / "adapter_model.safetensors").read_bytes()
        for folder in ("opponent_pool/main/000002", "checkpoints/000002/main")
    )
    assert one == other
    assert sorted(p.name for p in (run / "opponent_pool/main/000001").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "base.json",
        "manifest.json",
    ]


def test_the_same_seed_draws_the_same_and_another_one_others(run: Path, tmp_path: Path) -> None:
    again, other = (
        [(d.iteration, d.match, d.player) for d in others(decisions(folder))]
        for folder in (
            train(small(tmp_path, *BUFFER), report=False),
            train(small(tmp_path, *BUFFER, "seed=1"), report=False),
        )
    )
    assert again == [(d.iteration, d.match, d.player) for d in others(decisions(run))] != other


def test_no_gradient_touches_what_is_past_and_nothing_is_loaded_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loaded: list[str] = []
    load, held = Adapters.load, {}

    def counted(self: Adapters, name: str, folder: Path) -> None:
        load(self, name, folder)
        loaded.append(name)
        held[name] = (self, folder)

    update = comity.train.update

    def watched(*arguments: object) -> object:
        done = update(*arguments)  # type: ignore[arg-type]
        for name, (adapters, folder) in held.items():
            saved = load_file(folder / "adapter_model.safetensors")
            for key, weight in adapters.parameters(name).items():
                assert weight.grad is None
                assert torch.equal(weight, saved[f"base_model.model.{key}.weight"])
        return done

    monkeypatch.setattr(Adapters, "load", counted)
    monkeypatch.setattr(comity.train, "update", watched)
    train(small(tmp_path, *BUFFER, "opponent_pool.probability=1", "group_size=1"), report=False)
    assert len(loaded) >= 2 and len(set(loaded)) == len(loaded)


def test_capacity_and_recent_bound_who_is_drawn_and_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begin, held = comity.experiments.opponent_pool.OpponentPool.begin, []

    def counted(self: comity.experiments.opponent_pool.OpponentPool, iteration: int) -> None:
        begin(self, iteration)
        held.append(set(self._adapters.names) - {"main"})

    monkeypatch.setattr(comity.experiments.opponent_pool.OpponentPool, "begin", counted)
    changes = (
        "opponent_pool=buffer",
        "opponent_pool.every=1",
        "opponent_pool.probability=1",
        "matches=8",
    )
    train(small(tmp_path / "a", *changes, "opponent_pool.capacity=1"), report=False)
    assert [len(names) for names in held] == [0, 0, 1, 1]
    held.clear()
    run = train(
        small(tmp_path / "b", *changes, "opponent_pool.recent=2", "iterations=5"), report=False
    )
    assert held[4] == {"main@000002", "main@000003"}
    assert {d.version for d in others(decisions(run)) if d.iteration == 4} == {2, 3}


def test_scripted_players_may_be_drawn_and_every_match_for_itself(tmp_path: Path) -> None:
    changes = (
        *(
            "opponent_pool=buffer",
            "opponent_pool.every=1",
            "opponent_pool.probability=1",
            "opponent_pool.scripted_probability=0.5",
        ),
        *(
            "opponent_pool.scripted=[tit_for_tat,{name: random, p: 0.3}]",
            "opponent_pool.scope=match",
        ),
        *("matches=8", "group_size=8"),
    )
    run = train(small(tmp_path, *changes))
    found = decisions(run)
    scripted = [d for d in found if d.controller == "scripted"]
    assert {d.player for d in scripted} == {"tit_for_tat", "random"}
    assert all(d.version == -1 and d.adapter is None for d in scripted)
    faced = {d.player for d in others(found) if d.iteration == 3}
    assert len(faced) > 2, "one group, many opponents"
    assert {d.player for d in others(found) if d.controller == "past"} >= {"learner@000001"}
    live = [{d.seat for d in found if d.trained and d.iteration == i} for i in range(4)]
    assert live == [{0}, {1}, {0}, {1}], "with one group an iteration the seats take turns, too"


def test_all_who_live_may_be_trained_where_nobody_is_from_the_past(tmp_path: Path) -> None:
    run = train(small(tmp_path, *BUFFER, "opponent_pool.trained=all_live"), report=False)
    sat: dict[tuple[int, int], list[Decision]] = {}
    for d in decisions(run):
        sat.setdefault((d.iteration, d.match), []).append(d)
    kinds = {tuple(sorted({d.controller for d in match})) for match in sat.values()}
    assert kinds == {("live",), ("live", "past")}
    assert all(d.trained == (d.controller == "live") for match in sat.values() for d in match)


def test_three_seats_of_two_learners(tmp_path: Path) -> None:
    """Each learner's seats are taken from its own buffer; who is no learner stays."""
    changes = (
        "game=public_goods",
        "game.seats=4",
        "opponent_pool=buffer",
        "opponent_pool.every=1",
        "matches=6",
    )
    seats = "seats=[learner:a,learner:b,tit_for_tat,learner:a]"
    run = train(small(tmp_path, *changes, seats, "opponent_pool.probability=0.8"), report=False)
    for d in decisions(run):
        if d.seat == 2:
            assert (d.player, d.controller) == ("tit_for_tat", "scripted")
            continue
        name = "ab"[d.seat == 1]
        assert d.trained == ([0, 1, 3][d.group % 3] == d.seat)
        at = f"@{d.version:06d}" if d.controller == "past" else ""
        assert (d.player, d.adapter) == (f"learner:{name}{at}", f"{name}{at}")
    rounds = {(d.iteration, d.match): set() for d in decisions(run)}
    for d in others(decisions(run)):
        if d.seat in (0, 3):
            rounds[d.iteration, d.match].add(d.player)
    assert all(len(players) <= 1 for players in rounds.values()), "one opponent, on both seats"
    assert {p.name for p in (run / "opponent_pool").iterdir()} == {"a", "b"}


def test_random_seating_permutes_who_was_drawn(tmp_path: Path) -> None:
    run = train(small(tmp_path, *BUFFER, "seat_assignment=random", "group_size=1"), report=False)
    for iteration in range(4):
        for match in range(4):
            found = [d for d in decisions(run) if (d.iteration, d.match) == (iteration, match)]
            assert len({d.seat for d in found if d.trained}) == 1


def test_an_earlier_runs_adapters_are_faced_from_the_beginning(run: Path, tmp_path: Path) -> None:
    for start in ("opponent_pool", "checkpoints", "opponent_pool/main"):
        changes = (
            f"opponent_pool.initial_snapshots={run / start}",
            "opponent_pool.probability=1",
            "opponent_pool.every=3",
        )
        begun = train(small(tmp_path / start, *BUFFER, *changes), report=False)
        names = {p.name for p in (begun / "opponent_pool-initial/main").iterdir()}
        saved = (2, 4) if start == "checkpoints" else (1, 2, 3)
        assert names == {f"{version:06d}" for version in saved}
        first = [d for d in others(decisions(begun)) if d.iteration == 0]
        assert first and {d.controller for d in first} == {"past"}
        for d in first:
            assert d.player == f"learner@start-{d.version:06d}"
            assert d.adapter == f"main@start-{d.version:06d}" and f"{d.version:06d}" in names


def test_ppo_learns_from_the_live_seat_alone(tmp_path: Path) -> None:
    changes = ("prompt=structured", "algorithm=ppo", "answer=free")
    run = train(small(tmp_path, *BUFFER, *changes), report=False)
    assert {d.controller for d in others(decisions(run))} == {"frozen", "past"}
    assert all(row["decisions"] == 8 for row in metrics(run))
    for d in decisions(run):
        assert math.isfinite(d.advantage) == d.trained


def test_an_iteration_is_begun_before_anybody_sits(tmp_path: Path) -> None:
    with (
        Experiment(small(tmp_path, *BUFFER)) as experiment,
        pytest.raises(ValueError, match="begin iteration 0 first"),
    ):
        experiment.matches(0)


# Stopped and resumed

KILLED = """
import os, signal, sys
import comity.learning.state.snapshots, comity.train
from comity.config.compose import (compose)

def killing(owner, name, call):
    original, calls = getattr(owner, name), 0
    def killed(*arguments, **keywords):
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **keywords)
    setattr(owner, name, killed)

place, *changes = sys.argv[1:]
if place == "after a snapshot":
    killing(comity.train, "play", 4)
else:
    killing(comity.learning.state.snapshots, "write_manifest", 3)
comity.train.train(compose("ipd", changes), report=False)
"""


@pytest.mark.parametrize(
    "place", ["after a snapshot", pytest.param("in a snapshot", marks=pytest.mark.slow)]
)
def test_killed_between_a_snapshot_and_a_checkpoint(place: str, run: Path, tmp_path: Path) -> None:
    """In iteration 3, whose checkpoint would be number 4; that of number 2 is resumed."""
    given = overrides(tmp_path, *BUFFER)
    killed = Forked(("-c", KILLED, place, *given), os.environ, Path(__file__).parents[2])
    _, errors = killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL, errors
    folder = only_folder(tmp_path)
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["000002"]
    left = {p.name for p in (folder / "opponent_pool/main").iterdir()}
    assert {"000001", "000002"} < left and ("000003" in left) == (place == "after a snapshot")
    # What is there must not be believed: it is of a run that nobody continues.
    weights = folder / "opponent_pool/main/000002/adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    assert train(stored_config(folder), resume=folder, report=False) == folder
    assert metrics(folder) == metrics(run)
    fields = ("player", "controller", "version", "tokens", "logprob", "advantage")
    one, other = (
        [[getattr(d, name) for name in fields] for d in decisions(which)] for which in (folder, run)
    )
    assert one == other
    for version in (1, 2, 3):
        name = f"opponent_pool/main/{version:06d}/adapter_model.safetensors"
        assert (folder / name).read_bytes() == (run / name).read_bytes()
    assert {p.name for p in (folder / "opponent_pool/main").iterdir()} == {
        f"{v:06d}" for v in (1, 2, 3)
    }


def test_a_run_from_adapters_resumes_without_them(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its copies are what counts, whatever became of the folder that they came from."""
    start = tmp_path / "start"
    shutil.copytree(run / "opponent_pool", start)
    changes = (*BUFFER, f"opponent_pool.initial_snapshots={start}", "opponent_pool.capacity=2")
    whole = train(small(tmp_path / "whole", *changes), report=False)
    with monkeypatch.context() as patch:
        failing(patch, comity.train, "play", 4, Stopped())
        with pytest.raises(Stopped):
            train(small(tmp_path / "stopped", *changes), report=False)
    shutil.rmtree(start)
    folder = only_folder(tmp_path / "stopped")
    train(stored_config(folder), resume=folder, report=False)
    assert metrics(folder) == metrics(whole)


def test_a_damaged_snapshot_is_told_and_not_faced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    changes = (*BUFFER, "opponent_pool.probability=1", "checkpoint.every=1")
    with monkeypatch.context() as patch:
        failing(patch, comity.train, "play", 4, Stopped())
        with pytest.raises(Stopped):
            train(small(tmp_path, *changes), report=False)
    folder = only_folder(tmp_path)
    weights = folder / "opponent_pool/main/000001/adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(WorkError, match=r"000001 is damaged: .* another checksum; restore it"):
        train(stored_config(folder), resume=folder, report=False)


# Refused

REFUSED: dict[str, tuple[str, ...]] = {
    "opponent_pool.every: 0 must be at least 1": ("opponent_pool.every=0",),
    "opponent_pool.capacity: 0 must be at least 1": ("opponent_pool.capacity=0",),
    "opponent_pool.recent: 0 must be at least 1": ("opponent_pool.recent=0",),
    "opponent_pool.probability: 1.5 must be at most 1": ("opponent_pool.probability=1.5",),
    "opponent_pool.scope: 'run' is neither group nor match": ("opponent_pool.scope=run",),
    "opponent_pool.trained: 'none' is neither live_seat nor all_live": (
        "opponent_pool.trained=none",
    ),
    "give both or neither": ("opponent_pool.scripted=[tit_for_tat]",),
    "unknown player 'tit_for_tit'": (
        "opponent_pool.scripted=[tit_for_tit]",
        "opponent_pool.scripted_probability=1",
    ),
    "is a language model": (
        "opponent_pool.scripted=[base]",
        "opponent_pool.scripted_probability=1",
    ),
    "at least two learners, not 1": ("seats=[learner,tit_for_tat]",),
    "opponent_pool: algorithm exact supports current": ("algorithm=exact", "prompt=memory_one"),
    "unknown config key 'opponent_pool.evry'": ("opponent_pool.evry=1",),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(
    message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = overrides(tmp_path / "runs", "opponent_pool=buffer", *REFUSED[message])
    capsys.readouterr()  # Of making the tiny model.
    assert main(["train", "ipd", *changes]) == 2
    told = capsys.readouterr().err.strip()
    assert message in told and len(told.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("fault", ["nothing", "another base", "other shapes", "no weights"])
def test_a_start_that_does_not_fit_is_refused_and_leaves_no_folder(
    fault: str, run: Path, tmp_path: Path
) -> None:
    start = tmp_path / "start"
    shutil.copytree(run / "opponent_pool", start)
    config = start / "main/000003/adapter_config.json"
    told = json.loads(config.read_text())
    if fault == "nothing":
        shutil.rmtree(start / "main")
    elif fault == "another base":
        told["base_model_name_or_path"] = "owner/another"
    elif fault == "other shapes":
        told["r"] = 8
    else:
        config.with_name("adapter_model.safetensors").unlink()
    if fault != "nothing":
        config.write_text(json.dumps(told))
    message = {
        "nothing": "there is no adapter for the learner 'main'",
        "another base": "is of the base model 'another', not of 'llama'",
        "other shapes": "does not fit this model",
        "no weights": "adapter_model.safetensors is missing",
    }[fault]
    with pytest.raises(ComityError, match=message) as error:
        train(
            small(tmp_path / "runs", *BUFFER, f"opponent_pool.initial_snapshots={start}"),
            report=False,
        )
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "runs").exists()
    with Experiment(small(tmp_path)) as experiment:
        assert experiment.engine.adapters.names == ["main"], "what was tried was taken away"


# Small parts


def test_the_buffer_is_off_unless_asked_for() -> None:
    assert compose("ipd").opponent_pool is None
    past = compose("ipd", ["opponent_pool=buffer"]).opponent_pool
    assert past is not None and (past.every, past.capacity, past.probability) == (10, 30, 0.5)


def test_an_arm_may_turn_it_on() -> None:
    past = "['opponent_pool=buffer', 'opponent_pool.every=2']"
    arms = f"study={{seeds: [0], arms: {{now: ['opponent_pool=none'], past: {past}}}}}"
    configs = arm_configs(compose("ipd", [arms]))
    assert configs["now"][0].opponent_pool is None
    assert (
        configs["past"][0].opponent_pool is not None and configs["past"][0].opponent_pool.every == 2
    )


def test_a_base_models_name_is_told_from_where_it_lies() -> None:
    hub = "/home/x/.cache/huggingface/hub/models--Qwen--Qwen2.5-7B-Instruct/snapshots/a09a35"
    assert base_name(hub) == base_name("Qwen/Qwen2.5-7B-Instruct") == "Qwen2.5-7B-Instruct"
    assert base_name("/models/mine/") == "mine"


def test_adapters_are_found_in_any_of_the_layouts(tmp_path: Path) -> None:
    for name in ("opponent_pool/a/000001", "checkpoints/000002/a", "own/x"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "adapter_config.json").write_text("{}")
    (tmp_path / "opponent_pool/a/junk").mkdir()
    for folder, found in (("opponent_pool", "a/000001"), ("checkpoints", "000002/a"), ("own", "x")):
        assert find_adapters(tmp_path / folder, "a") == [tmp_path / folder / found]
    with pytest.raises(ComityError, match="no adapter for the learner 'b'"):
        find_adapters(tmp_path / "opponent_pool", "b")


def test_adapters_that_would_be_called_alike_are_refused(run: Path, tmp_path: Path) -> None:
    for name in ("v1.0", "v1_0"):
        shutil.copytree(run / "opponent_pool/main/000003", tmp_path / "start" / name)
    with pytest.raises(ComityError, match="would both be called v1_0; rename one"):
        train(
            small(
                tmp_path / "runs", *BUFFER, f"opponent_pool.initial_snapshots={tmp_path / 'start'}"
            ),
            report=False,
        )
    assert not (tmp_path / "runs").exists()


def test_snapshots_from_a_number_on_are_forgotten(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path)
    for version in (1, 2, 12):
        snapshots.save("a", version, lambda folder: (folder / "x").write_text("x") and None)
    (tmp_path / "opponent_pool/a/.tmp-1-000003").mkdir()
    snapshots.remove_from(2)
    assert [p.name for p in (tmp_path / "opponent_pool/a").iterdir()] == ["000001"]
    (one,) = snapshots.of("a")
    assert (one.handle, one.version, one.label) == ("a@000001", 1, "000001")


@pytest.mark.parametrize("groups", [1, 2, 3, 4])
def test_the_live_seat_begins_as_often_as_the_other_where_groups_say_who_begins(
    groups: int, tmp_path: Path
) -> None:
    changes = (
        *("game=trust_and_split_rps", "prompt=negotiation", "game.starter=by_group_parity"),
        *(
            "opponent_pool=buffer",
            f"matches={groups}",
            "group_size=1",
            "opponent_pool.probability=0",
        ),
    )
    config = small(tmp_path, *changes)
    seen: Counter[tuple[int, int]] = Counter()
    with Experiment(config) as experiment:
        assert experiment.opponent_pool is not None
        experiment.opponent_pool.open(tmp_path, 0)
        game = experiment.rules.game
        for iteration in range(12):
            experiment.opponent_pool.begin(iteration)
            for match in experiment.matches(iteration):
                (live,) = [n for n, player in enumerate(match.players) if player.trained]
                seen[game.first_seat(match.seed, 0), live] += 1  # type: ignore[attr-defined]
    assert seen == dict.fromkeys([(0, 0), (0, 1), (1, 0), (1, 1)], 12 * groups / 4)


def test_without_a_past_seats_begin_in_turn_over_the_run(tmp_path: Path) -> None:
    """Also with one group an iteration, where the same seat would always begin."""
    for groups in (1, 2, 3):
        changes = ("game=trust_and_split_rps", "prompt=negotiation", "game.starter=by_group_parity")
        with Experiment(small(tmp_path, *changes, f"matches={groups}")) as experiment:
            begins = [
                experiment.rules.game.first_seat(match.seed, 0)  # type: ignore[attr-defined]
                for iteration in range(4)
                for match in experiment.matches(iteration)
            ]
        assert begins == [n % 2 for n in range(4 * groups)]


@pytest.mark.parametrize("refused", ["opponent_pool.scripted=[greedy]", "seats=[learner,greedy]"])
def test_alignment_by_a_critic_has_no_values_of_scripted_players(
    refused: str, tmp_path: Path
) -> None:
    """They would count as advantages of nought, and nothing would be aligned with them."""
    changes = [
        *("game=trust_and_split_rps", "prompt=negotiation", "algorithm=advantage_alignment"),
        *("algorithm.estimator=gae", refused),
    ]
    if refused.startswith("opponent_pool"):
        changes += ["opponent_pool=buffer", "opponent_pool.scripted_probability=0.5"]
    with pytest.raises(ComityError, match="scripted players have none of") as error:
        check_training(compose("ipd", changes))
    assert "\n" not in str(error.value)
    # Naive learning needs nobody else's values.
    check_training(compose("ipd", [*changes, "algorithm.weight=0"]))


def test_a_player_without_a_conversation_is_refused_where_it_is_to_be_valued(
    tmp_path: Path,
) -> None:
    """Whoever seats it: the guard stands where the values are made."""
    changes = (
        *("game=trust_and_split_rps", "prompt=negotiation", "algorithm=advantage_alignment"),
        *("algorithm.estimator=gae", "game.length.rounds=1", "answer.message_tokens=3"),
    )
    with Experiment(small(tmp_path, *changes)) as experiment:
        match = experiment.matches(0)[0]
        scripted = replace(match, players=(match.players[0], scripted_player("greedy")))
        rollout = play(experiment.game(0), [scripted])
        with pytest.raises(ComityError, match="scripted players have none of"):
            comity.train.credit(rollout, rollout.played.payoffs, experiment)


def test_a_capacity_less_the_live_policies(tmp_path: Path) -> None:
    changes = (
        "opponent_pool=buffer",
        "opponent_pool.every=1",
        "opponent_pool.capacity=4",
        "opponent_pool.count_learners=true",
    )
    config = small(tmp_path, *changes, "seats=[learner:a,learner:b]")
    with Experiment(config) as experiment:
        assert experiment.opponent_pool is not None
        experiment.opponent_pool.open(tmp_path, 0)
        for iteration in range(8):
            for one in experiment.learners.values():
                one.version = iteration
            experiment.opponent_pool.begin(iteration)
        assert {len(pool) for pool in experiment.opponent_pool._pool.values()} == {2}
    with pytest.raises(ComityError, match="2 learners leaves no snapshot"):
        check_training(
            compose(
                "ipd",
                [
                    *changes[:3],
                    "opponent_pool.capacity=2",
                    *changes[3:],
                    "seats=[learner:a,learner:b]",
                ],
            )
        )
