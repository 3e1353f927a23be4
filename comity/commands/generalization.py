"""`comity evaluate generalization`: base and trained policies on prompts not seen in training.

It writes into the folder of the run or study

    generalization.json       every number of the page, with intervals and n
    generalization.parquet    exact probabilities: one row per policy and question
    generalization.html       the page

A quick evaluation, or one with selected games, seeds, labels, layouts or conditions (goal,
temperature, penalty), does not overwrite a full one: it writes `generalization-quick.*` or
`generalization-chosen.*` instead.

Every policy is evaluated under its training conditions: temperature, goal, persona and system
prompt; with the published prompts and with its own training prompt. Invalid requests fail before
a model is loaded: a folder that is no run, a run without a checkpoint, a prompt that does not
support a game.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Any

import pyarrow as pa

from comity.commands.generalization_plan import (
    Options,
    conditions,
    make_plan,
    make_subjects,
    rewards,
    trained_name,
)
from comity.config.schema import Config
from comity.engines.chat import ChatFormat
from comity.engines.local.devices import check_quantization, choose_device
from comity.engines.local.models import load_tokenizer
from comity.errors import ComityError
from comity.evaluation.generalization.measurement import measure, question_count
from comity.evaluation.generalization.plan import Plan, Subject, with_base_seats
from comity.evaluation.generalization.policies import ModelPolicy
from comity.evaluation.generalization.questions import FRAMINGS, ask, fitting
from comity.evaluation.generalization.summary import summarize
from comity.experiments.backends import is_loaded, shared_engine
from comity.experiments.memory_check import check_weights
from comity.experiments.trained import Trained, trained_policies
from comity.files import write_atomically
from comity.games import make_game
from comity.games.split.game import Split
from comity.reports.page.generalization_page import render
from comity.reports.page.run_page import dump
from comity.rollout.record_files import write_table
from comity.runs.progress import Progress
from comity.runs.versions import versions


def evaluate_generalization(folder: Path, options: Options = Options()) -> Path:  # noqa: B008
    """Evaluate a run or study; returns the page's path."""
    policies = trained_policies(folder)
    config = policies[0].config
    if isinstance(make_game(config.game), Split):
        raise ComityError(
            f"{folder} was trained on a split game; generalization needs a game with discrete moves"
        )
    plan = make_plan(options, policies)
    subjects = make_subjects(plan, policies, options)
    for subject in with_base_seats(subjects):
        ask(plan.cells(subject), plan.every_game, plan.prompt)
    began = datetime.now(UTC)
    with ExitStack() as stack:
        progress = stack.enter_context(Progress())
        respond = _policy_factory(config, policies, stack)
        subjects = [replace(one, policy=respond(one)) for one in subjects]
        total = question_count(plan, subjects)
        progress.say(f"{len(policies)} trained policies and the base model: {total} answers")
        with progress.task("questions", total) as task:
            measured = measure(plan, subjects, task.add)
        base = subjects[0].policy
        assert isinstance(base, ModelPolicy)
    own = {policy.name: rewards(policy.config, options.penalty) for policy in policies}
    own |= {subject.name: own[trained_name(subject)] for subject in subjects[1:]
            if not subject.untrained}  # fmt: skip
    found = {
        "title": f"Generalization of {_title(folder.resolve(), config)}",
        "created": began.strftime("%Y-%m-%d %H:%M UTC"),
        "extent": options.extent,
        "setting": {
            "model": config.model.name,
            "precision": f"{str(base.engine.dtype).removeprefix('torch.')} on {base.engine.device}",
            "extent": options.extent,
            "label sets": list(plan.label_sets),
            "evaluation seeds": list(plan.play_seeds),
            "episodes": plan.episodes,
            "rounds": plan.rounds,
            **_left_out(plan),
            "answer budget": base.budget(ask(plan.cells(subjects[0])[:1], plan.games, plan.prompt)),
        },
        "older_checkpoints": list(
            dict.fromkeys(
                f"{one.name}, seed {one.seed}: after {one.iteration} iterations, as {wrong}"
                for one in policies
                for wrong in one.checkpoint.skipped
            )
        ),
        "conditions": conditions(plan, subjects, policies),
        "provenance": {
            "command": " ".join(
                ["comity evaluate generalization", quote(str(folder)), options.command]
            ).strip(),
            "versions": versions(),
            "dtype": str(base.engine.dtype).removeprefix("torch."),
            "device": str(base.engine.device),
        },
        "seconds": round((datetime.now(UTC) - began).total_seconds(), 1),
        **summarize(plan, subjects, measured, rewards(config, options.penalty), own),
    }
    return write(folder, found, measured.rows)


def _left_out(plan: Plan) -> dict[str, str]:
    """The framings that are left out, and why; empty if none is."""
    fits = fitting(plan.games[plan.dilemma])
    framings = [one for one in FRAMINGS[1:] if one not in fits]
    if not framings:
        return {}
    noun = "framing" if len(framings) == 1 else "framings"
    return {"left out": f"{noun} {', '.join(framings)}: contradicting {plan.dilemma}'s payoffs"}


def _title(folder: Path, config: Config) -> str:
    """The experiment's name; for a run of a study also its arm and seed."""
    arm = (folder.parent.parent / "study.json").is_file()
    return f"{config.name}: {folder.parent.name}, seed {config.seed}" if arm else config.name


def write(folder: Path, found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Path:
    """Writes the three files, without overwriting a fuller evaluation; returns the page's path."""
    extent, name = str(found["extent"]), "generalization"
    if extent != "full" and _extent(folder / f"{name}.json") == "full":
        name += f"-{extent}"
    write_table(folder / f"{name}.parquet", pa.Table.from_pylist([dict(row) for row in rows]))
    write_atomically(folder / f"{name}.json", dump(found, indent=2) + "\n")
    page = folder / f"{name}.html"
    write_atomically(page, render(dict(found)))
    return page


def _extent(numbers: Path) -> str | None:
    """The extent of an earlier evaluation; full if not stated, None if there is none."""
    if not numbers.is_file():
        return None
    with suppress(ValueError, OSError, AttributeError):
        return str(json.loads(numbers.read_text(encoding="utf-8")).get("extent", "full"))
    return None  # The file is damaged and may be overwritten.


def _policy_factory(
    config: Config, policies: Sequence[Trained], stack: ExitStack
) -> Callable[[Subject], ModelPolicy]:
    """A function from a subject to its policy; `stack` unloads the adapters."""
    model = config.model
    check_quantization(model.quantization, choose_device(model.device))
    if not is_loaded(model):
        check_weights(model)
    tokenizer = load_tokenizer(model.name)
    formats = {
        system: ChatFormat.from_tokenizer(tokenizer, system)
        for system in {policy.config.model.system for policy in policies}
    }
    engine = shared_engine(model.name, model.dtype, model.device, model.quantization)
    # Checks that need the size of the model's output.
    rows = engine.head.vocabulary
    formats = {system: one.for_vocabulary(rows) for system, one in formats.items()}
    handles: dict[tuple[str, int | None], str | None] = {}
    for number, policy in enumerate(policies):
        handle = f"evaluate:{number}"  # no learner has a colon in its name
        engine.adapters.load(handle, policy.adapter)
        stack.callback(engine.adapters.remove, handle)
        handles[policy.name, policy.seed] = handle
    made: dict[Any, ModelPolicy] = {}

    def respond(subject: Subject) -> ModelPolicy:
        handle = handles.get((trained_name(subject), subject.seed))
        key = handle, subject.conditions.system, subject.conditions.temperature
        # One object for subjects that answer identically, so that equal questions are computed
        # once.
        return made.setdefault(
            key,
            ModelPolicy(
                engine, formats[subject.conditions.system], handle, subject.conditions.temperature
            ),
        )

    return respond
