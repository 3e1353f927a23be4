"""A run from end to end: what it leaves behind, who learns, and what is refused before."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from comity.cli import main
from comity.config.limits import LARGEST_SEED
from comity.errors import ComityError
from comity.evaluation.metrics import OUTCOMES, STATES
from comity.experiments import backends
from comity.experiments.build import Experiment
from comity.runs.folder import RunFolder, read_decisions
from comity.runs.progress import Progress
from comity.train import credit, play, train, train_run, training_sequences
from tests.train.small import failing, metrics, only_folder, overrides, small
from tests.worlds import tiny_folder

KEYS = {
    *("iteration", "cooperation", "payoff", "outcomes", "conditional", "illegal", "reward"),
    *("loss", "kl", "entropy", "gradient_norm", "learning_rate"),
    *("importance_mean", "importance_max", "decisions", "tokens_played", "tokens_learned"),
    *("phase", "rewards", "by_opponent", "negotiation", "metrics"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, by the command."""
    output = tmp_path_factory.mktemp("runs")
    assert main(["train", "ipd", *overrides(output)]) == 0
    return only_folder(output)


def decisions(run: Path, iteration: int) -> list[Any]:
    return read_decisions(run / "decisions" / f"{iteration:06d}.parquet")


def test_a_run_leaves_everything_behind(trained: Path) -> None:
    tables = [f"{i:06d}.parquet" for i in range(4)]
    for kind in ("decisions", "conversations"):
        assert sorted(p.name for p in (trained / kind).iterdir()) == tables
    assert sorted(p.name for p in (trained / "checkpoints").iterdir()) == ["000002", "000004"]
    for name in ("config.yaml", "versions.json", "report.html", "summary.json"):
        assert (trained / name).stat().st_size > 0
    for number, row in enumerate(metrics(trained)):
        assert row.keys() == KEYS
        assert row["iteration"] == number
        assert row["outcomes"].keys() == set(OUTCOMES)
        assert row["conditional"].keys() == set(STATES)
        assert row["decisions"] == 8 and row["illegal"] == 0 and row["kl"] is None
        found = decisions(trained, number)
        chances = [d.probabilities[0] for d in found]
        assert row["cooperation"] == pytest.approx(sum(chances) / 8)
        assert row["rewards"]["own"] == row["reward"] and row["phase"] == 0
        kind = sum(d.move == 0 for d in found) / 8
        assert row["rewards"]["kindness"] == pytest.approx(3 * kind)
        assert row["payoff"] == row["reward"] == sum(d.payoff for d in found) / 8
        assert {d.version for d in found} == {number}
        assert all(d.trained and d.adapter == "main" for d in found)


def test_peft_loads_the_adapter_and_answers_as_the_engine_would(
    trained: Path, tmp_path: Path
) -> None:
    folder = trained / "checkpoints/000004/main"
    plain = AutoModelForCausalLM.from_pretrained(tiny_folder("llama"), dtype=torch.float32)
    ids = torch.tensor([[5, 17, 40, 99, 7]])
    with Experiment(small(tmp_path)) as experiment, torch.no_grad():
        engine = experiment.engine
        base = plain(ids).logits
        logits = PeftModel.from_pretrained(plain, str(folder))(ids).logits
        engine.adapters.load("again", folder)
        try:
            hidden = engine.hidden_states([ids[0].tolist()], "again", gradients=False).hidden
            assert torch.allclose(engine.head.logits(hidden), logits[0], atol=1e-4)
        finally:
            engine.adapters.remove("again")
    assert not torch.allclose(base, logits, atol=1e-2), "the adapter does nothing"


def test_the_same_seed_gives_the_same_numbers_and_another_one_others(
    trained: Path, tmp_path: Path
) -> None:
    again = train(small(tmp_path), report=False)
    assert metrics(again) == metrics(trained)
    other = train(small(tmp_path, "seed=1"), report=False)
    assert metrics(other) != metrics(trained)


@pytest.mark.parametrize(("draw", "differ"), [("group", True), ("batch", True), ("run", False)])
def test_lengths_are_shared_by_whom_the_config_says(
    draw: str, differ: bool, tmp_path: Path
) -> None:
    length = ["game/length=geometric", "game.length.cap=20", f"game.length.draw={draw}"]
    with Experiment(small(tmp_path, *length, "matches=6", "seed=1")) as experiment:
        found = [
            play(experiment.game(i), experiment.matches(i), i).played.alive.sum(axis=1).tolist()
            for i in range(4)
        ]
    assert (len({rounds for batch in found for rounds in batch}) > 1) is differ
    assert any(len(set(batch)) > 1 for batch in found) is (draw == "group")


def test_the_exact_algorithm_trains_a_run(tmp_path: Path) -> None:
    changes = ("prompt=memory_one", "algorithm=exact", "seats=[learner,always_cooperate]")
    folder = train(small(tmp_path, *changes, "optimizer.learning_rate=0.003"))
    assert (folder / "report.html").is_file()
    chances = []
    for iteration in range(4):
        found = [d for d in decisions(folder, iteration) if d.trained]
        assert found and all(d.advantage != d.advantage for d in found), "NaN: not learned from"
        chances.append(found[0].probabilities[1])
    assert all(later > earlier for earlier, later in itertools.pairwise(chances))
    assert metrics(folder)[-1].keys() == KEYS


def weights(experiment: Experiment, adapter: str) -> list[torch.Tensor]:
    return [p.detach().clone() for p in experiment.engine.adapters.parameters(adapter).values()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("changes", [(), ("algorithm.credit_steps=steps",)], ids=str)
def test_alignment_credits_with_the_scripted_opponents_advantages(
    changes: tuple[str, ...], tmp_path: Path
) -> None:
    """The records hold the credit; recomputed from their payoffs by hand."""
    settings = ("algorithm=advantage_alignment", "algorithm.weight=0.5", "algorithm.discount=0.8")
    seats = "seats=[learner,{name: random, p: 0.5}]"
    run = train(small(tmp_path, "matches=3", *settings, seats, *changes), report=False)
    found = decisions(run, 1)
    payoffs = {(d.match, d.seat, d.round): d.payoff for d in found}
    returns = {
        (m, s, t): payoffs[m, s, t] + (0.8 * payoffs[m, s, 1] if t == 0 else 0.0)
        for m, s, t in payoffs
    }

    def advantage(m: int, s: int, t: int) -> float:
        return returns[m, s, t] - sum(returns[o, s, t] for o in range(3) if o != m) / 2

    for d in found:
        m, s = d.match, d.seat
        own = advantage(m, s, d.round)
        weight = 0.8 * 0.8 * advantage(m, s, 0) if d.round == 1 else 0.0
        expected = own + 0.5 * weight * advantage(m, 1 - s, d.round)
        assert d.advantage == pytest.approx(expected), (m, s, d.round)
        assert d.return_ == pytest.approx(returns[m, s, d.round])
    assert len({round(d.advantage, 9) for d in found}) > 3


def test_a_clipped_run_of_several_steps_says_how_much_was_clipped(tmp_path: Path) -> None:
    settings = ("algorithm=advantage_alignment", "algorithm.epochs=4", "algorithm.ratio_clip=0.01")
    run = train(small(tmp_path, *settings, "optimizer.learning_rate=0.02"), report=False)
    rows = metrics(run)
    assert all(row.keys() == {*KEYS, "clipped"} for row in rows)
    assert all(0 <= row["clipped"] <= 0.75 for row in rows), "the first step is on policy"
    assert max(row["clipped"] for row in rows) > 0
    assert max(row["importance_max"] for row in rows) > 1.01


@pytest.mark.parametrize("answer", ["constrained", "free"])
def test_labels_may_be_reserved_tokens(answer: str, tmp_path: Path) -> None:
    changes = ("prompt=structured", "prompt.labels=reserved", f"answer={answer}")
    run = train(small(tmp_path, *changes))
    found = decisions(run, 0)
    assert {label for d in found for label in d.legal} == {"⟦7⟧", "⟦8⟧"}
    for d in found:
        if answer == "constrained":
            assert list(d.tokens) == [7 + d.move]
        elif d.parse_status == "legal":
            assert d.tokens[0] == 7 + d.move
    assert json.dumps("⟦7⟧")[1:-1] in (run / "report.html").read_text()


def test_a_learner_updates_its_own_adapter_and_nothing_else(tmp_path: Path) -> None:
    config = small(tmp_path, "seats=[learner:a,learner:b]")
    with Experiment(config) as experiment:
        rollout = play(experiment.rules.game, experiment.matches(0))
        credit(rollout, experiment.rules.reward(rollout.played, experiment.rules.game), experiment)
        mine = training_sequences(rollout, "a", 1.0)
        seats = {rollout.conversations[d.conversation].seat for d in rollout.decisions}
        assert seats == {0, 1}
        assert sum(len(one.decisions) for one in mine) == len(rollout.decisions) / 2
        before = {name: weights(experiment, name) for name in "ab"}
        base = [p.clone() for n, p in experiment.engine.model.named_parameters() if "lora" not in n]
        experiment.learners["a"].update(mine)
        assert not same(weights(experiment, "a"), before["a"])
        assert same(weights(experiment, "b"), before["b"])
        after = [p for n, p in experiment.engine.model.named_parameters() if "lora" not in n]
        assert same(after, base)
    assert experiment.engine.adapters.names == []


def test_two_learners_have_a_checkpoint_and_metrics_each(tmp_path: Path) -> None:
    folder = train(small(tmp_path, "seats=[learner:a,learner:b]", "iterations=2"))
    row = metrics(folder)[-1]
    assert row.keys() == KEYS | {"learners"} and set(row["learners"]) == {"a", "b"}
    assert row["decisions"] == 8 and row["learners"]["a"]["decisions"] == 4
    files = [
        (folder / "checkpoints/000002" / name / "adapter_model.safetensors").read_bytes()
        for name in "ab"
    ]
    assert files[0] != files[1]
    assert json.loads((folder / "report.html").with_name("summary.json").read_text())


@pytest.mark.parametrize("opponent", ["base", "tit_for_tat", "{name: random, p: 0.3}"])
def test_opponents_are_never_trained(opponent: str, tmp_path: Path) -> None:
    folder = train(small(tmp_path, f"seats=[{opponent},learner]", "iterations=2"), report=False)
    for iteration in range(2):
        found = decisions(folder, iteration)
        assert {(d.seat, d.trained) for d in found} == {(0, False), (1, True)}
        assert {d.version for d in found if d.seat == 0} == {-1}
    assert metrics(folder)[-1]["decisions"] == 4
    assert [p.name for p in (folder / "checkpoints/000002").iterdir() if p.is_dir()] == ["main"]


def test_a_trained_adapter_plays_as_it_is(trained: Path, tmp_path: Path) -> None:
    seat = f"adapter:{trained / 'checkpoints/000004/main'}"
    config = small(tmp_path, f"seats=[learner,'{seat}']", "iterations=3")
    run = RunFolder.create(config)
    with run, Experiment(config) as experiment, Progress() as progress:
        (handle,) = experiment._loaded.values()
        before = weights(experiment, handle)
        train_run(run, experiment, progress, "test")
        assert same(weights(experiment, handle), before)
    assert not any(d.trained for d in decisions(run.path, 2) if d.seat == 1)


def test_one_adapter_may_sit_twice(trained: Path, tmp_path: Path) -> None:
    link = tmp_path / "dotted.name"
    link.symlink_to(trained / "checkpoints/000004/main")
    config = small(tmp_path, f"seats=['adapter:{link}','adapter:{link}']")
    with Experiment(config) as experiment:
        assert len({player.adapter for player in experiment.players()}) == 1


def test_public_goods_among_four(tmp_path: Path) -> None:
    changes = ("game=public_goods", "seats=[learner,learner,always_defect,base]", "iterations=2")
    folder = train(small(tmp_path, *changes))
    assert metrics(folder)[-1]["decisions"] == 8
    assert metrics(folder)[-1]["outcomes"] == {}


def test_an_adapter_of_another_base_is_refused(trained: Path, tmp_path: Path) -> None:
    seat = f"adapter:{trained / 'checkpoints/000004/main'}"
    with pytest.raises(ComityError, match=r"is of the base model .llama. .*not of .gpt2."):
        train(small(tmp_path, f"seats=[learner,'{seat}']", architecture="gpt2"))
    assert not list(tmp_path.iterdir())
    # What was begun is taken back: the engine serves the next run.
    train(small(tmp_path, "iterations=1", architecture="gpt2"), report=False)


@pytest.mark.parametrize("damage", ["missing", "of another shape", "of no layer"])
def test_an_adapter_must_fit_weight_by_weight(damage: str, trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(trained / "checkpoints/000004/main", folder)
    saved = load_file(folder / "adapter_model.safetensors")
    key = next(key for key in saved if "q_proj.lora_A" in key)
    weight = saved.pop(key)
    if damage == "of another shape":
        saved[key] = weight[:, :-1].contiguous()
    if damage == "of no layer":
        saved |= {key: weight, key.replace("layers.0", "layers.9"): weight.clone()}
    save_file(saved, folder / "adapter_model.safetensors")
    config = small(tmp_path / "runs", f"seats=[learner,'adapter:{folder}']")
    with pytest.raises(ComityError, match="does not fit this model"):
        train(config, report=False)
    with Experiment(small(tmp_path)) as experiment:
        assert experiment.engine.adapters.names == ["main"]


REFUSED: dict[str, tuple[str, ...]] = {
    "unknown player 'tit_for_tit'; did you mean": ("seats=[learner,tit_for_tit]",),
    "unknown player 'base:x'": ("seats=[learner,base:x]",),
    "a learner's name consists of letters": ("seats=['learner:../up',base]",),
    "seats: 'a' and 'A' differ in case only": ("seats=[learner:a,learner:A]",),
    "no seat has a learner": ("seats=[base,tit_for_tat]",),
    "no adapter_config.json in the folder": ("seats=[learner,adapter:nowhere]",),
    "2 seats but `seats` names 1": ("seats=[learner]",),
    "unknown baseline 'bacth'": ("algorithm.baseline=bacth",),
    "unknown schedule": ("optimizer.schedule=quadratic",),
    "unknown rule for illegal answers": ("game.illegal=shrug",),
    "unknown framing": ("prompt.framing=coverd",),
    "needs as many labels": ("prompt.labels=[A,B,C]",),
    "'A' occurs twice": ("prompt.labels=[A,A]",),
    "unknown parameter 'speed'": ("+game.speed=3",),
    "or write one for this game": (
        "game=matrix",
        "game.moves=[a,b,c]",
        "game.payoffs=[[[1,1],[0,0],[0,0]],[[0,0],[1,1],[0,0]],[[0,0],[0,0],[1,1]]]",
        "seats=[learner,tit_for_tat]",
    ),
    "generous_tit_for_tat knows its generosity": (
        "game=stag_hunt",
        "seats=[learner,generous_tit_for_tat]",
    ),
    "exact needs answer=constrained": ("algorithm=exact", "prompt=memory_one", "answer=free"),
    "exact needs prompts that show the last round": ("algorithm=exact",),
    "exact needs a matrix game of two seats, not 4": (
        "algorithm=exact",
        "prompt=memory_one",
        "game=public_goods",
        "seats=[learner,learner,learner,learner]",
    ),
    "this one remembers more": (
        "algorithm=exact",
        "prompt=memory_one",
        "game.length.rounds=5",
        "seats=[learner,grim_trigger]",
    ),
    "exact needs adapter.dropout=0": ("algorithm=exact", "prompt=memory_one", "adapter.dropout=.1"),
    "unknown objective": ("algorithm=exact", "prompt=memory_one", "algorithm.objective=x"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_mistakes_are_told_before_any_model_is_loaded(
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("load_model", "load_tokenizer"):
        failing(monkeypatch, backends, name, 1, AssertionError("a model was loaded"))
    assert main(["train", "ipd", *overrides(tmp_path, *REFUSED[message])]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len(told.strip().splitlines()) == 1
    assert not tmp_path.exists() or not list(tmp_path.iterdir()), "a folder was left behind"


@pytest.mark.parametrize(
    "normalizer, labels",
    [
        ({"type": "Lowercase"}, ["Yes", "yes"]),
        ({"type": "Replace", "pattern": {"String": "No"}, "content": ""}, ["Yes", "No"]),
    ],
    ids=["the same ids", "no ids"],
)
def test_labels_that_the_tokenizer_cannot_tell_are_refused_before_the_model_is_loaded(
    normalizer: dict[str, Any], labels: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_folder("llama").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**tokenizer, "normalizer": normalizer}))
    failing(monkeypatch, backends, "load_model", 1, AssertionError("it was loaded"))
    changes = (f"model.name={folder}", f"prompt.labels=[{','.join(labels)}]")
    with pytest.raises(ComityError, match=labels[1]):
        train(small(tmp_path / "runs", *changes), report=False)


def test_the_largest_seed_ends_in_a_page(tmp_path: Path) -> None:
    """It stands in every record; what is larger is refused (see tests/cli/test_overrides.py)."""
    run = train(small(tmp_path, f"seed={LARGEST_SEED}", "iterations=1"))
    assert (run / "report.html").is_file()
    assert RunFolder.open(run).config.seed == LARGEST_SEED


def test_a_cut_adapter_config_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LO')
    seats = f"seats=[learner,'adapter:{folder}']"
    assert main(["train", "ipd", *overrides(tmp_path / "runs", seats)]) == 2
    assert main(["play", "chicken", "--seats", f"human,adapter:{folder}"]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("comity: ")]
    assert len(told) == 2 and all("adapter_config.json is damaged: invalid" in one for one in told)
    assert not (tmp_path / "runs").exists()
