"""`comity evaluate generalization`: a run's policies before and after, on what they never saw.

Beside the run or study it writes

    generalization.json       every number of the page, with intervals and n
    generalization.parquet    the exact table: one row per policy and question
    generalization.html       the page

Whatever can be refused is refused before a model is loaded: a folder that is no run, a run
without a checkpoint, games and prompts that do not go together.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from comity.config import Config
from comity.engines.chat import ChatFormat
from comity.engines.devices import check_quantization, choose_device
from comity.engines.models import load_tokenizer
from comity.errors import ComityError, lookup
from comity.evaluation.executed import EPISODES, ROUNDS, SEED
from comity.evaluation.generalization import BASE, Plan, Subject, measure, work
from comity.evaluation.generalization_summary import summarize
from comity.evaluation.questions import LABEL_SETS, LAYOUTS, ORDERS, ask
from comity.evaluation.respondents import ModelRespondent
from comity.experiment import shared_engine
from comity.files import write_atomically
from comity.games import make_game
from comity.games.base import Game
from comity.games.split import Split
from comity.learning.checkpoints import damage
from comity.progress import Progress
from comity.registry import build
from comity.reports.generalization import render
from comity.reports.page import dump
from comity.rewards import REWARDS, every_reward
from comity.rewards.base import Reward
from comity.runs import stored_config
from comity.seats import MAIN, learner_of

DILEMMA = "prisoners_dilemma_4310"
GAMES = (
    DILEMMA,
    "stag_hunt",
    "chicken",
    "bach_or_stravinsky",
    "defective_coordination",
    "volunteers_dilemma",
)
"""The games of the moral-alignment study."""
QUICK_GAMES = (DILEMMA, "stag_hunt", "defective_coordination")
SEEDS = (SEED, 101, 102)
"""Evaluation seeds: the published one, and two more."""
JUDGES = ("own", "utilitarian", "deontological", "own_deontological")
"""Rewards that every policy is judged by."""


@dataclass(frozen=True)
class Trained:
    """A learner's last checkpoint."""

    name: str
    """The arm, the run, or one of them and the learner."""
    seed: int
    seat: int
    adapter: Path
    config: Config


def evaluate_generalization(
    folder: Path,
    quick: bool = False,
    games: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> Path:
    """Measure a run or study and return the page's path."""
    policies = trained_policies(folder)
    config = policies[0].config
    if isinstance(make_game(config.game), Split):
        raise ComityError(
            f"{folder} was trained on a split game; generalization is measured from one game of "
            "moves to others"
        )
    plan = make_plan(quick, games, seeds)
    judges = rewards(config)
    for seat in {0, *(policy.seat for policy in policies)}:
        ask(plan.cells(Subject(BASE, _Nobody(), None, seat)), plan.games, plan.prompt)
    began = datetime.now(UTC)
    with ExitStack() as stack:
        progress = stack.enter_context(Progress())
        base = _base(config)
        subjects = [Subject(BASE, base), *_tuned(base, policies, stack)]
        total = work(plan, subjects)
        progress.say(
            f"{len(subjects) - 1} trained and the base model: {total} answers to be computed"
        )
        with progress.task("questions", total) as task:
            measured = measure(plan, subjects, task.add)
    found = {
        "title": f"Generalization of {_title(folder.resolve(), config)}",
        "created": began.strftime("%Y-%m-%d %H:%M UTC"),
        "setting": {
            "model": config.model.name,
            "reward": _names(policy.config.reward for policy in policies),
            "trained on": _names(policy.config.game for policy in policies),
            "evaluation seeds": list(plan.play_seeds),
            "episodes": plan.episodes,
            "rounds": plan.rounds,
            "answer budget": base.budget(ask(plan.cells(subjects[0])[:1], plan.games, plan.prompt)),
        },
        "seconds": round((datetime.now(UTC) - began).total_seconds(), 1),
        **summarize(plan, subjects, measured, judges),
    }
    return write(folder, found, measured.rows)


def _title(folder: Path, config: Config) -> str:
    """The experiment's name, with the arm's and the seed where it is a run of a study."""
    arm = (folder.parent.parent / "study.json").is_file()
    return f"{config.name}: {folder.parent.name}, seed {config.seed}" if arm else config.name


def write(folder: Path, found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Path:
    """The three files; returns the page's path."""
    table = pa.Table.from_pylist([dict(row) for row in rows])
    write_atomically(
        folder / "generalization.parquet",
        lambda file: pq.write_table(table, file, compression="zstd"),
    )
    write_atomically(folder / "generalization.json", dump(found, indent=2) + "\n")
    page = folder / "generalization.html"
    write_atomically(page, render(dict(found)))
    return page


def make_plan(quick: bool, games: Sequence[str] = (), seeds: Sequence[int] = ()) -> Plan:
    """How much is asked. `ComityError` for a game that is not among `GAMES`."""
    for game in games:
        lookup("game of the evaluation", game, dict.fromkeys(GAMES))
    chosen = tuple(dict.fromkeys(games)) or (QUICK_GAMES if quick else GAMES)
    built: dict[str, Game] = {name: make_game({"name": name}) for name in chosen}
    return Plan(
        games=built,
        dilemma=DILEMMA if DILEMMA in built else chosen[0],
        # The exchange of action1 and action2 tells a move that was learned from a label.
        label_sets=LABEL_SETS[:3] if quick else LABEL_SETS,
        layouts=LAYOUTS[:1] if quick else LAYOUTS,
        orders=ORDERS[:1] if quick else ORDERS,
        play_seeds=tuple(seeds) or (SEEDS[:1] if quick else SEEDS),
        episodes=EPISODES,
        rounds=ROUNDS,
    )


def rewards(config: Config) -> dict[str, Reward]:
    """The rewards that every policy is judged by: `JUDGES`, with the trained one's parameters.

    The trained reward itself is among them, under its own name where it is none of `JUDGES`.
    """
    trained = build("reward", config.reward, REWARDS)
    known = every_reward(trained)
    name = str(config.reward["name"])
    found: dict[str, Reward] = {judge: known[judge] for judge in JUDGES}
    if name not in found and trained not in found.values():
        found[name] = trained
    return found


def trained_policies(folder: Path) -> list[Trained]:
    """The last checkpoints of a run, or of all arms and seeds of a study.

    `ComityError` for a folder that is neither, for a run without a good checkpoint, and for
    runs of different models.
    """
    config = stored_config(folder)
    here = folder.resolve()
    arm = (here.parent.parent / "study.json").is_file()
    runs: list[tuple[str, Path]] = [(here.parent.name if arm else config.name, folder)]
    if (folder / "study.json").is_file():
        arms = json.loads((folder / "study.json").read_text())["arms"]
        runs = [(arm, folder / path) for arm, paths in arms.items() for path in paths]
    found = [policy for name, run in runs for policy in _of_run(name, run)]
    for policy in found:
        if policy.config.model.name != found[0].config.model.name:
            raise ComityError(f"{folder} holds runs of different models; evaluate them one by one")
    return found


def _of_run(name: str, run: Path) -> list[Trained]:
    """The learners of one run at its last good checkpoint."""
    config = stored_config(run)
    checkpoints = run / "checkpoints"
    numbers = [p for p in checkpoints.iterdir() if p.name.isdigit()] if checkpoints.is_dir() else []
    for path in sorted(numbers, key=lambda p: int(p.name), reverse=True):
        if damage(path) is None:
            break
    else:
        raise ComityError(f"{run} has no good checkpoint; train it first")
    seats: dict[str, int] = {}
    for number, seat in enumerate(config.seats):
        learner = learner_of(seat)
        if learner is not None:
            seats.setdefault(learner, number)
    name = BASE + " run" if name == BASE else name
    return [
        Trained(
            name if learner == MAIN and len(seats) == 1 else f"{name}:{learner}",
            config.seed,
            seat,
            path / learner,
            config,
        )
        for learner, seat in seats.items()
    ]


def _base(config: Config) -> ModelRespondent:
    """The model that the runs started from."""
    model = config.model
    check_quantization(model.quantization, choose_device(model.device))
    chat = ChatFormat.from_tokenizer(load_tokenizer(model.name), model.system)
    engine = shared_engine(model.name, model.dtype, model.device, model.quantization)
    return ModelRespondent(engine, chat)


def _tuned(
    base: ModelRespondent, policies: Sequence[Trained], stack: ExitStack
) -> Iterator[Subject]:
    """Each policy as a subject; `stack` takes the adapters away again."""
    for number, policy in enumerate(policies):
        handle = f"evaluate:{number}"  # no learner has a colon in its name
        base.engine.adapters.load(handle, policy.adapter)
        stack.callback(base.engine.adapters.remove, handle)
        respondent = ModelRespondent(base.engine, base.chat, handle)
        yield Subject(policy.name, respondent, policy.seed, policy.seat)


class _Nobody:
    """A respondent that is never asked: to see whether all questions can be told."""

    def chances(self, questions: Sequence[Any]) -> Any:
        raise NotImplementedError

    def replies(self, questions: Sequence[Any], streams: Sequence[Any]) -> list[str]:
        raise NotImplementedError


def _names(blocks: Any) -> list[str]:
    """The different names of config blocks, in their order."""
    return list(dict.fromkeys(str(block.get("name")) for block in blocks))
