"""The plan of an experiment and an estimate of its run time (`comity config`, `--dry-run`).

Invalid configs are refused as at a start. The estimate extrapolates the second of two iterations,
which are run in a temporary folder.
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from comity.commands.study import check_study, one_arm
from comity.config.schema import CheckpointConfig, Config
from comity.config.seats import only_arm, participant_name
from comity.engines.local.models import is_here
from comity.errors import ComityError
from comity.evaluation.crossplay import Participant, pairings
from comity.reports.formats import counted, duration, words
from comity.reports.page.settings import applying, merged, reward_words, rewards
from comity.runs.progress import say
from comity.train import check_training, train

MEASURED_MATCHES = 32
"""Maximum matches of a measured iteration; time is proportional to their number."""
KEYS = (
    "model",
    "game",
    "prompt",
    "answer",
    "seats",
    "api",
    "opponent_pool",
    "algorithm",
    "optimizer",
)

Runs = Mapping[str, Mapping[int, Config]]
"""Configs by arm and seed; a single run's arm is named as the experiment."""


@dataclass(frozen=True)
class Pace:
    """Seconds of one iteration, and of playing one match."""

    iteration: float
    match: float


def runs_of(config: Config) -> Runs:
    """All runs of a config, checked as at a start."""
    if config.study is None and config.crossplay is None:
        check_training(config)
        return {config.name: {config.seed: config}}
    return check_study(one_arm(config))


def plan(config: Config, measure: bool = True) -> list[str]:
    """The lines that `comity config` prints; with `measure`, the last is the estimated time."""
    runs = runs_of(config)
    rows = [("experiment", config.name), ("runs", _runs(config, runs)), *_settings(config, runs)]
    crossplay_matches = 0
    if config.crossplay is not None:
        players = [participant_name(player) for player in only_arm(config.crossplay.players, runs)]
        seeds = config.study.seeds if config.study is not None else [config.seed]
        # The players do not exist yet; only the number of pairings is needed.
        participants: list[Any] = [
            Participant(name, dict.fromkeys(seeds if name.partition(":")[0] in runs else [None]))  # type: ignore[arg-type]
            for name in players
        ]
        crossplay_matches = len(pairings(participants, seeds)) * config.crossplay.matches
        rows.append(("cross-play", f"{', '.join(players)}: {counted(crossplay_matches, 'match')}"))
    rows.append(("output", f"a folder in {config.output}"))
    if measure:
        rows.append(("time", _time(config, runs, crossplay_matches)))
    width = max(len(name) for name, _ in rows)
    return [f"{name:{width}}  {text}" for name, text in rows]


def _runs(config: Config, runs: Runs) -> str:
    every = [one for seeds in runs.values() for one in seeds.values()] or [config]
    length = (
        f"{counted(merged([one.iterations for one in every]), 'iteration')} of "
        f"{counted(merged([one.matches for one in every]), 'match')}"
    )
    count = sum(len(seeds) for seeds in runs.values())
    if config.study is None:
        return f"{counted(count, 'run')}, {length}" if count else "none"
    seeds = " ".join(map(str, config.study.seeds))
    arms = counted(len(runs), "arm")
    return f"{counted(count, 'run')} ({arms}, seeds {seeds}), {length} each"


def _settings(config: Config, runs: Runs) -> list[tuple[str, str]]:
    """A row for each block of the config, and for each arm its reward and overrides."""
    shown = applying(vars(config) | {key: _plain(getattr(config, key)) for key in KEYS})
    rows = [(key, words(shown[key])) for key in KEYS if key in shown]
    for arm, seeds in runs.items():
        one = next(iter(seeds.values()))
        reward = reward_words(rewards(_plain(one)))
        changes = config.study.arms.get(arm, []) if config.study is not None else []
        rows.append(
            (f"arm {arm}", f"{reward}{f' ({chr(32).join(changes)})' if changes else ''}")
            if config.study is not None
            else ("reward", reward)
        )
    return rows


def _plain(value: Any) -> Any:
    """A block of the config as a mapping, recursively."""
    if hasattr(value, "__dataclass_fields__"):
        return {key: _plain(inner) for key, inner in vars(value).items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _time(config: Config, runs: Runs, crossplay_matches: int) -> str:
    first = next((one for seeds in runs.values() for one in seeds.values()), None)
    if first is None:
        return "not measured: no training"
    if not is_here(first.model.name):
        return (
            f"not measured: the model {first.model.name} is not on this machine; download it with "
            f"comity models fetch {first.model.name}"
        )
    pace = measured(first)
    every = [one for seeds in runs.values() for one in seeds.values()]
    iterations = sum(one.iterations * one.matches / first.matches for one in every)
    total = pace.iteration * iterations + pace.match * crossplay_matches
    return (
        f"about {duration(total)} on this machine: {pace.iteration:.1f} s per iteration, "
        "measured in the first two"
    )


def measured(config: Config) -> Pace:
    """The pace of a run on this machine, from its first two iterations."""
    groups = max(1, min(config.matches, MEASURED_MATCHES) // config.group_size)
    matches = groups * config.group_size
    say("measuring two iterations ...")
    with tempfile.TemporaryDirectory(prefix="comity-") as folder:
        short = replace(config, name="measuring", output=folder, iterations=2, matches=matches)
        short = replace(short, sinks=[], study=None, crossplay=None, phases=[])
        short = replace(short, checkpoint=CheckpointConfig(every=2, keep=1))
        path = train(short, report=False)
        lines = (Path(path) / "metrics.jsonl").read_text().splitlines()
    if not lines:
        raise ComityError("nothing was measured")
    seconds = json.loads(lines[-1])["seconds"]
    return Pace(seconds["total"] * config.matches / matches, seconds["play"] / matches)
