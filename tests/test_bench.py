"""The benchmark tells the truth about its work, and the peers do the very same work."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from benchmarks.common import Task, padded, quickest
from benchmarks.generate import Generate
from benchmarks.generate import run as run_generate
from benchmarks.padded import padded_gradient, padded_logprobs, terms
from benchmarks.padded import run as run_padded
from benchmarks.peers import plan, ratios
from benchmarks.replay import Replay, steps
from benchmarks.replay import run as run_replay
from comity.commands.bench import WORKLOADS, linear_layers, main, matmul_rate, measure
from comity.config.seats import MAIN
from comity.engines.local import session
from comity.engines.local.engine import Engine
from comity.engines.local.models import load_model
from comity.errors import ComityError
from comity.experiments.backends import shared_engine
from comity.experiments.build import Experiment
from comity.rollout.play import Rollout, play
from comity.train import credit

KEYS = {
    *("workload", "description", "decisions_per_second_playing"),
    *("decisions_per_second_playing_and_learning", "seconds_playing", "seconds_learning"),
    *("fraction_of_matmul_rate", "matmul_gflops", "peak_memory_mb", "tokens_computed"),
    *(
        "tokens_sampled",
        "sampled_tokens_per_second_playing",
        "tokens_played",
        "model",
        "dtype",
        "device",
        "threads",
        "comity",
    ),
}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.tiny import make_tiny

    return str(make_tiny("llama", tmp_path_factory.mktemp("bench") / "llama"))


class World(NamedTuple):
    experiment: Experiment
    rollout: Rollout
    task: Task


def small_world(name: str, model: str, folder: Path) -> Iterator[World]:
    """A workload in small, played with an adapter that is far from its fresh state."""
    with Experiment(WORKLOADS[name].config(True, model, "float32", "cpu")) as experiment:
        shared_engine.cache_clear()  # Other tests' learners get an engine of their own.
        generator = torch.Generator().manual_seed(7)
        for parameter in experiment.engine.adapters.parameters(MAIN).values():
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
        rollout = play(experiment.rules.game, experiment.matches(1), 1)
        credit(rollout, experiment.rules.reward(rollout.played, experiment.rules.game), experiment)
        yield World(experiment, rollout, Task.of(experiment, rollout, folder))


@pytest.fixture(scope="module")
def world(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Workload A: choices."""
    yield from small_world("A", tiny, tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def talks(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Workload C: messages and claims."""
    yield from small_world("C", tiny, tmp_path_factory.mktemp("adapter"))


def test_workloads_give_one_line_each(
    tiny: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        session, "MIN_TOKENS_PER_PASS", 0
    )  # Else B5's passes are too small, now and then.
    output = tmp_path / "lines.jsonl"
    main(["A", "A-distinct"], True, tiny, "float32", "cpu", output)
    main(["B", "B5", "C"], True, tiny, "float32", "cpu", output)
    printed = capsys.readouterr().out
    assert output.read_text() == printed
    lines = {line["workload"]: line for line in map(json.loads, printed.splitlines())}
    assert list(lines) == ["A", "A-distinct", "B", "B5", "C"]
    for line in lines.values():
        assert line.keys() >= KEYS
        assert (line["model"], line["dtype"], line["device"]) == (tiny, "float32", "cpu")
        for part in ("of_matmul_rate", "playing", "learning"):
            assert 0 < line[f"fraction_{part}"] < 1.5
        assert line["tokens_computed"] == line["tokens_played"] + line["tokens_learned"]
        assert line["tokens_played"] < line["tokens_unshared"], "rules are shared"
        playing, learning = line["seconds_playing"], line["seconds_learning"]
        assert line["decisions_per_second_playing"] == pytest.approx(
            line["decisions"] / playing, rel=0.01
        )
        assert line["decisions_per_second_playing_and_learning"] == pytest.approx(
            line["decisions"] / (playing + learning), rel=0.01
        )
        assert line["peak_memory_mb"] > 50
    assert lines["A"]["decisions"] == 4 * 2 * 3, "matches, seats, rounds"
    assert lines["B"]["decisions"] == 4 * 5, "tit-for-tat's are not counted"
    assert lines["B5"]["decisions"] == 5
    assert lines["C"]["decisions"] == 2 * 2 * 2 * 2, "matches, seats, rounds, message and claim"
    for name in ("A", "B"):
        assert lines[name]["tokens_sampled"] == 0, "scored answers are no sampled tokens"
        assert lines[name]["sampled_tokens_per_second_playing"] is None
    assert lines["B5"]["tokens_sampled"] == 5 * 2
    assert 16 <= lines["C"]["tokens_sampled"] <= 8 * (12 + 3) + 8 * 10
    assert lines["C"]["sampled_tokens_per_second_playing"] == pytest.approx(
        lines["C"]["tokens_sampled"] / lines["C"]["seconds_playing"], rel=0.01
    )
    for name in ("B", "B5"):
        assert lines[name]["tokens_reused"] == lines[name]["tokens_played"]
    assert lines["B"]["tokens_learned"] == 0
    assert lines["A"]["tokens_reused"] == 0, "growing conversations are read anew"
    assert lines["A-distinct"]["tokens_played"] >= lines["A"]["tokens_played"]


def test_a_tournament_in_one_batch_plays_the_matches_of_single_pairs(
    tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["F"], True, tiny, "float32", "cpu")
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["matches"] == 3 * 3 * 2 and line["agents"] == 3
    assert line["matches_with_equal_moves"] == line["matches"]
    assert 2 * line["tokens_computed"] < line["tokens_computed_pair_by_pair"]
    assert line["cpu_seconds"] > 0 and line["cpu_seconds_pair_by_pair"] > 0


def test_the_full_workloads_are_as_their_names_say() -> None:
    sizes = {name: work.config(False, "m", "auto", "cpu") for name, work in WORKLOADS.items()}
    for name, rank, decisions in (
        ("A", 16, 640),
        ("A-distinct", 16, 640),
        ("B", 64, 20),
        ("B5", 64, 5),
    ):
        config = sizes[name]
        learners = config.seats.count("learner")
        assert config.adapter.rank == rank
        assert config.matches * learners * config.game["length"]["rounds"] == decisions
        assert config.optimizer.learning_rate == 0
    negotiation = sizes["C"]
    assert (negotiation.matches, negotiation.game["length"]["rounds"]) == (16, 3)
    assert (negotiation.game["name"], negotiation.prompt["name"]) == (
        "trust_and_split_rps",
        "negotiation",
    )
    assert (negotiation.answer["name"], negotiation.answer["message_tokens"]) == ("constrained", 60)
    assert (negotiation.seats, negotiation.adapter.rank) == (["learner", "learner"], 16)
    assert negotiation.algorithm["normalization"] == "tokens"
    assert negotiation.optimizer.learning_rate == 0
    assert sizes["A-distinct"].temperature == 100 > sizes["A"].temperature == 1


def test_a_workload_that_is_not_there_is_refused_before_any_work() -> None:
    with pytest.raises(ComityError, match=r"unknown workload 'A-distnct'; did you mean A-distinct"):
        main(["A", "A-distnct"], True, "no-such-model")


@pytest.mark.parametrize(
    ("architecture", "weights"),
    [
        ("llama", 2 * (32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 48)),
        ("gpt2", 2 * (32 * 96 + 32 * 32 + 2 * 32 * 128)),
    ],
)
def test_the_matmul_rate_is_of_the_models_own_layers(
    architecture: str, weights: int, tiny_model: Callable[[str], Path]
) -> None:
    """Output layer, embeddings and adapters are not among them."""
    engine = Engine(load_model(str(tiny_model(architecture)), "float32", "cpu"))
    before = linear_layers(engine)
    engine.adapters.add("main", rank=4)
    layers = linear_layers(engine)
    assert {id(layer) for layer in before} == {id(layer) for layer in layers}
    assert sum(layer.weight.numel() for layer in layers) == weights
    assert matmul_rate(engine, layers, tokens=8) > 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux and CUDA forget a peak")
def test_peak_memory_remembers_and_forgets_what_was_freed() -> None:
    # In a process of its own: what other tests left half freed would hide the block.
    code = """if True:
        import torch
        from comity.commands.bench import reset_peak_memory, peak_memory_mb
        cpu = torch.device("cpu")
        reset_peak_memory(cpu)
        before = peak_memory_mb(cpu)
        block = torch.ones(100_000_000)  # 400 MB
        del block
        filled = peak_memory_mb(cpu)
        reset_peak_memory(cpu)
        print(before, filled, peak_memory_mb(cpu))
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, filled, after = map(float, run.stdout.split())
    assert filled > before + 350
    assert after < before + 200


def test_padding_goes_where_it_is_asked_for() -> None:
    ids, mask = padded([[1, 2], [3]], pad=9)
    assert (ids.tolist(), mask.tolist()) == ([[1, 2], [3, 9]], [[1, 1], [1, 0]])
    ids, mask = padded([[1, 2], [3]], pad=9, left=True)
    assert (ids.tolist(), mask.tolist()) == ([[1, 2], [9, 3]], [[1, 1], [0, 1]])


def test_the_quickest_size_that_fits_is_taken() -> None:
    def seconds(size: int) -> float:
        if size > 4:
            raise torch.OutOfMemoryError
        return 10 / size

    assert quickest((1, 4, 16), seconds) == 4
    with pytest.raises(ComityError, match="does not fit into memory"):
        quickest((16, 32), seconds)


def test_generate_plays_the_matches_that_we_play(world: World) -> None:
    """In batches of 3 conversations of unlike lengths, and with the same probabilities."""
    generate = Generate(world.task.model(), world.task.pad, batch=3)
    theirs = generate.play(world.task)
    ours = world.rollout
    assert [c.ids for c in theirs.conversations] == [c.ids for c in ours.conversations]
    assert [d.move for d in theirs.decisions] == [d.move for d in ours.decisions]
    assert [d.logprob for d in theirs.decisions] == pytest.approx(
        [d.logprob for d in ours.decisions], abs=1e-3
    )
    assert generate.sampled == len(ours.decisions)
    assert 0 <= generate.illegal <= generate.sampled


@pytest.mark.parametrize("everywhere", [True, False])
@pytest.mark.parametrize("of", ["world", "talks"])
def test_padded_training_has_our_probabilities_and_our_gradient(
    of: str, everywhere: bool, request: pytest.FixtureRequest
) -> None:
    """Sequences of unlike lengths: every second one ends with its first decision."""
    world: World = request.getfixturevalue(of)
    full = world.task.sequences
    sequences = [
        type(one)(one.ids[: one.decisions[0].token_indices[-1] + 1], one.decisions[:1])
        if i % 2
        else one
        for i, one in enumerate(full)
    ]
    decisions = [d for sequence in sequences for d in sequence.decisions]
    assert len({round(d.advantage, 6) for d in decisions}) > 1
    model, pad = world.task.model(), world.task.pad
    logprobs = padded_logprobs(model, sequences, pad, everywhere)
    behavior = torch.tensor([b for d in decisions for b in d.behavior])
    assert len(behavior) == terms(sequences) >= len(decisions)
    torch.testing.assert_close(logprobs.detach(), behavior, atol=1e-3, rtol=0)

    padded_gradient(model, sequences[:3], pad, everywhere, terms(sequences))
    padded_gradient(model, sequences[3:], pad, everywhere, terms(sequences))
    learner = world.experiment.learners[MAIN]
    learner.optimizer.zero_grad(set_to_none=True)
    learner.accumulate_gradients(sequences)
    theirs = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert len(theirs) == len(learner.parameters)
    for name, parameter in learner.parameters.items():
        layer = name.rpartition(".")
        other = theirs[f"base_model.model.{layer[0]}.{layer[2]}.default.weight"]
        torch.testing.assert_close(other, parameter.grad, atol=1e-4, rtol=1e-3)
    learner.optimizer.zero_grad(set_to_none=True)


def test_a_replay_asks_what_our_players_were_asked(talks: World) -> None:
    """Two messages one after the other, then both seats' claims: in every match at once."""
    rollout, chat = talks.rollout, talks.task.chat
    asked = steps(rollout)
    assert [len(step) for step in asked] == [2, 2, 4] * 2
    answers: dict[tuple[int, ...], str] = {
        tuple(rollout.conversations[d.conversation].ids[: d.start]): d.text
        for d in rollout.decisions
    }
    ends = 0
    for one in (one for step in asked for one in step):
        following = next(
            c.ids for c in rollout.conversations if c.ids[: len(one.context)] == one.context
        )
        written = following[len(one.context) : len(one.context) + one.tokens]
        ended = written[-1] in chat.end_ids
        ends += ended
        assert chat.decode(written[: len(written) - ended]) == answers[tuple(one.context)]
    lengths = [len(d.tokens) for d in rollout.decisions]
    assert sum(one.tokens for step in asked for one in step) > sum(lengths), "some are forced"


def test_a_replay_writes_as_much_as_the_longest_answer(
    talks: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In batches of 3 of 4 claims: left-padded, so all end where the answer begins."""
    step = steps(talks.rollout)[-1]
    model = talks.task.model()
    replay, made = Replay(model, talks.task, batch=3), []
    generate = model.generate

    def watched(**given: object) -> torch.Tensor:
        made.append((given["input_ids"], generate(**given)))
        return made[-1][1]

    monkeypatch.setattr(model, "generate", watched)
    replay.answer(step)
    tokens = 0
    for part, (told, result) in zip((step[:3], step[3:]), made, strict=True):
        new = max(one.tokens for one in part)
        assert result.shape == (len(part), told.shape[1] + new)
        assert [row[-len(one.context) :].tolist() for row, one in zip(told, part, strict=True)] == [
            one.context for one in part
        ]
        tokens += told.numel() + len(part) * (new - 1)
    assert replay.tokens == tokens


def test_lines_of_written_answers_say_how_many_tokens_a_second(talks: World) -> None:
    _, ours = measure("C", talks.experiment, quick=True)
    # The same adapter as that of the task, but the measured rollout is another one.
    theirs = {
        "generate": run_replay(talks.task, ours),
        "padded": run_padded(talks.task, ours, everywhere=True),
        "padded, decisions only": run_padded(talks.task, ours, everywhere=False),
    }
    for line in theirs.values():
        assert line.keys() == ours.keys() | {"peer"}
        for key in ("workload", "decisions", "tokens_sampled"):
            assert line[key] == ours[key]
    playing = theirs["generate"]
    assert playing["tokens_played"] > ours["tokens_played"]
    assert playing["sampled_tokens_per_second_playing"] == pytest.approx(
        ours["tokens_sampled"] / playing["seconds_playing"], rel=0.01
    )
    assert ratios({"C": ours}, {"C": theirs}).keys() == {
        "C playing: generate",
        "C learning: padded",
        "C learning: padded, decisions only",
    }


def test_the_peers_lines_have_our_keys_and_give_ratios(world: World) -> None:
    _, ours = measure("A", world.experiment, quick=True)
    theirs = {
        "generate": run_generate(world.task, ours),
        "padded": run_padded(world.task, ours, everywhere=True),
        "padded, decisions only": run_padded(world.task, ours, everywhere=False),
    }
    assert len({line["peer"] for line in theirs.values()}) == 3
    for line in theirs.values():
        assert line.keys() >= ours.keys() - {"tokens_unshared"}
        assert line["decisions"] == ours["decisions"]
        assert line["tokens_computed"] > ours["tokens_played"]
    assert theirs["padded"]["tokens_learned"] == sum(
        len(sequence.ids) - 1 for sequence in world.task.sequences
    )
    assert ratios({"A": ours, "A-distinct": ours}, {"A": theirs}).keys() == {
        f"{work} {part}"
        for work in ("A", "A-distinct")
        for part in ("playing: generate", "learning: padded", "learning: padded, decisions only")
    }


def test_ratios_say_how_many_times_as_long_a_peer_takes() -> None:
    rate = "decisions_per_second_playing_and_learning"
    ours = {
        "A": {"seconds_playing": 2.0, "seconds_learning": 4.0},
        "A-distinct": {"seconds_playing": 4.0, "seconds_learning": 8.0},
        "B": {rate: 30.0},
    }
    theirs = {
        "A": {"generate": {"seconds_playing": 40.0}, "padded": {"seconds_learning": 10.0}},
        "B": {"trl": {rate: 0.5}},
    }
    assert ratios(ours, theirs) == {
        "A playing: generate": 20.0,
        "A learning: padded": 2.5,
        "A-distinct playing: generate": 10.0,
        "A-distinct learning: padded": 1.25,
        "B playing and learning: trl": 60.0,
    }


def test_peers_are_measured_where_they_have_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    both = ["generate", "padded"]
    assert plan(None, ["C"]) == {"C": both}
    assert plan(both, None) == {"A": both, "C": both}
    assert plan(["padded"], ["C", "A"]) == {"C": ["padded"], "A": ["padded"]}
    with pytest.raises(ComityError, match="TRL is not installed"):
        plan(None, None)
    with pytest.raises(ComityError, match="trl is measured on B only"):
        plan(["generate", "trl"], ["C"])
    with pytest.raises(ComityError, match="unknown peer 'pade'; did you mean padded"):
        plan(["pade"], None)
    with pytest.raises(ComityError, match="unknown workload of the peers 'B5'"):
        plan(None, ["B5"])


def test_trl_is_paid_what_the_game_pays(tiny: str, tmp_path: Path) -> None:
    """Beside tit-for-tat, after each of the four joint moves; nonsense counts as defection."""
    pytest.importorskip("trl", reason="needs the extra `peers`: pip install 'comity[peers]'")
    from benchmarks.grpo import Questions

    with Experiment(WORKLOADS["B"].config(True, tiny, "float32", "cpu")) as experiment:
        rollout = play(experiment.rules.game, experiment.matches(0), 0)
        questions = Questions(Task.of(experiment, rollout, tmp_path))
    game = experiment.rules.game
    for seed in range(20):
        prior = game.turns(game.start(seed))[0].observation.prior
        assert prior is not None
        own = prior[0]
        answers = [[{"content": text}] for text in ("A", " B\n", "A or B")]
        expected = [3.0, 5.0, 5.0] if own == 0 else [0.0, 1.0, 1.0]
        assert questions.payoff(answers, [seed] * 3) == expected
    assert (questions.answered, questions.illegal) == (60, 20)
