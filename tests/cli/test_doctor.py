"""`comity doctor`: the machine, an experiment's memory, and advice that helps."""

import json
from pathlib import Path
from typing import Any

import pytest

import comity.commands.machine
from comity.cli import main
from comity.commands.doctor import LOADING, advice, needs
from comity.commands.machine import Machine, matmul_gflops, process_bytes, this_machine
from comity.config.compose import compose
from tests.train.small import overrides


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return this_machine(tmp_path)


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["doctor", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def memory(monkeypatch: pytest.MonkeyPatch, available: int) -> None:
    """From now on the machine has so many bytes for a run, beside the program."""
    both = available + LOADING + process_bytes(), available + LOADING
    monkeypatch.setattr(comity.commands.machine, "memory_bytes", lambda: both)


def test_the_machine_without_an_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for word in ("processor", "memory", "GFLOP/s", "torch", "vllm", "CUDA", "disk"):
        assert word in shown
    assert "experiment" not in shown


def test_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, told = asked(capsys)
    assert code == 0 and told["experiments"] == []
    machine = told["machine"]
    assert 0 < machine["available"] <= machine["memory"]
    assert machine["cores"] >= 1
    assert machine["engines"]["torch"].startswith("2")
    assert all(free > 0 for free in machine["disk"].values())


def test_the_rate_of_matrices_is_of_this_type() -> None:
    assert matmul_gflops("float32") > 0 < matmul_gflops("bfloat16")


def test_an_experiment_that_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["ipd", *overrides(tmp_path / "runs")]
    code, told = asked(capsys, *given)
    (one,) = told["experiments"]
    assert code == 0 and one["fits"] is True and one["advice"] == []
    parts = one["memory_mb"]
    assert parts["optimizer"] == pytest.approx(2 * parts["adapters"])
    assert one["total_mb"] == pytest.approx(one["program_mb"] + parts["peak"])
    assert not (tmp_path / "runs").exists()
    assert main(["doctor", *given]) == 0
    assert ": fits" in capsys.readouterr().out


def test_what_does_not_fit_is_said_with_what_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        *overrides(tmp_path, "matches=32", "temperature=20", "game.length.rounds=6"),
        "model.activation_checkpointing=never",
    ]
    memory(monkeypatch, 10_000_000)
    code, told = asked(capsys, "ipd", *given)
    (one,) = told["experiments"]
    assert code == 1 and one["fits"] is False
    (smaller,) = [line for line in one["advice"] if "microbatch_tokens=" in line]
    change = smaller.partition(":")[0].partition(" ")[0]
    _, better = asked(capsys, "ipd", *given, change)
    assert better["experiments"][0]["memory_mb"]["learning"] < one["memory_mb"]["learning"] / 2
    main(["doctor", "ipd", *given, "algorithm.microbatch_tokens=auto"])
    shown = capsys.readouterr().out
    assert "tokens (auto: at most " in shown and "microbatch_tokens=" not in shown
    assert main(["doctor", "ipd", *given]) == 1
    assert "does NOT fit" in capsys.readouterr().out


def test_advice_on_the_cache_makes_play_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = overrides(tmp_path, "matches=64", "answer=free", "seats=[learner,base]")
    memory(monkeypatch, 12_000_000)
    (before,) = needs(compose("ipd", given), this_machine(tmp_path))
    assert before.memory.playing > before.room
    (fewer,) = [line for line in advice(before) if line.startswith("matches=")]
    count = fewer.partition(" ")[0]
    (after,) = needs(compose("ipd", [*given, count]), this_machine(tmp_path))
    assert after.memory.playing <= after.room


def test_too_large_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory(monkeypatch, 1000)
    (need,) = needs(compose("ipd", overrides(tmp_path)), this_machine(tmp_path))
    found = " ".join(advice(need))
    assert "a smaller model" in found and "model.dtype=bfloat16" in found


def test_arms_of_a_study_that_differ_are_told_apart(tmp_path: Path, machine: Machine) -> None:
    arms = "study={seeds:[0,1],arms:{own:['reward=own'],fair:['reward=utilitarian']}}"
    config = compose("ipd", [*overrides(tmp_path), arms])
    assert [need.arm for need in needs(config, machine)] == ["own"]
    arms = "study={seeds:[0],arms:{low:['adapter.rank=2'],high:['adapter.rank=8']}}"
    low, high = needs(compose("ipd", [*overrides(tmp_path), arms]), machine)
    assert (low.arm, high.arm) == ("low", "high")
    assert high.memory.adapters == 4 * low.memory.adapters


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["ipdd"], "unknown experiment 'ipdd'; did you mean ipd"),
        (["ipd", "game=public_goods"], "seats"),
        (["ipd", "model.name=./nowhere"], "is not a folder"),
        (["ipd", "model.name=some/model"], "download it with comity models fetch some/model"),
        (["ipd", "model.device=cuda:7"], "no device 'cuda:7' here"),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert main(["doctor", *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("comity: ") and text in error
