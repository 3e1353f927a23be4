"""Playing what is missing of a tournament and writing it, batch by batch."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from comity.engines.api.usage import describe as describe_usage
from comity.errors import ComityError
from comity.evaluation.tournament.records import match_files
from comity.evaluation.tournament.schedule import Batch, Schedule
from comity.experiments.agent_plans import AgentPlan
from comity.experiments.agents import Agents
from comity.files import write_atomically
from comity.players.base import Player
from comity.rollout.record_files import conversation_table, decision_table, write_table
from comity.runs.folder import RunFolder
from comity.runs.progress import Progress
from comity.safe_reading import read_object

MISSING = "missing.json"
"""Why matches are missing, with how many: a model behind an API did not answer."""
RETRIES = "api_retries.json"
"""Requests to models behind APIs that had to be sent again, by endpoint, over all sessions."""


def play_and_record(
    plans: Sequence[AgentPlan],
    schedule_of: Callable[[Mapping[str, Player]], Schedule],
    folder: RunFolder,
    title: str = "tournament",
) -> None:
    """Play what is missing of a tournament and write it, batch by batch."""
    number = 1 + max((int(path.stem) for path in match_files(folder.path)), default=-1)
    missing = Counter[str]()
    with Progress() as progress, Agents(plans, folder=folder.path) as agents:
        if agents.identities:  # Else torch is not needed.
            from comity.runs.provenance import note_agents

            note_agents(folder, agents.identities)
        schedule = schedule_of(agents.players)
        played = schedule.read_keys(folder.path)
        done = schedule.settled(played)
        if done == schedule.total:
            progress.say(f"{title}: all {schedule.total} matches are played already")
            return
        api = agents.api

        def usage() -> str:
            return "" if api is None else describe_usage(api.used)

        try:
            with progress.task(title, schedule.total, done, usage) as task:
                for batch in schedule.play(played, task.playing):
                    missing.update(batch.missing.values())
                    if batch.matches:
                        _write(folder, number, batch, schedule)
                        task.add(batch.repeats)
                        number += 1
        finally:
            if api is not None:
                _add_retries(folder.path, api.retries)
        write_atomically(folder.path / MISSING, json.dumps(missing) + "\n")
        if missing:
            progress.warn(
                f"{missing.total()} matches are missing ({missing.most_common(1)[0][0]}); they are "
                f"played by: {folder.resume_with}"
            )


def _add_retries(folder: Path, now: Mapping[str, int]) -> None:
    """Add a session's retries to those of the sessions before."""
    known = Counter(read_retries(folder))
    known.update(now)
    write_atomically(folder / RETRIES, json.dumps(known) + "\n")


def read_retries(folder: Path) -> dict[str, int]:
    """Retries by endpoint; {} where none were counted."""
    return read_counts(folder / RETRIES)


def read_counts(path: Path) -> dict[str, int]:
    """Numbers by name; {} without the file, `ComityError` for a damaged one."""
    found = read_object(path) if path.exists() else {}
    if not all(isinstance(count, int) for count in found.values()):
        raise ComityError(f"{path} is damaged: it must hold numbers")
    return found


def _write(folder: RunFolder, number: int, batch: Batch, schedule: Schedule) -> None:
    """Write a batch; the matches last, because they say that it is complete."""
    folder.check_place()
    if batch.decisions:
        for kind, table in (
            ("conversations", conversation_table(*_with_columns(batch.conversations, batch))),
            ("decisions", decision_table(*_with_columns(batch.decisions, batch))),
        ):
            write_table(folder.path / kind / f"{number:06d}.parquet", table)
    schedule.write(folder.path, number, batch.matches)


def _with_columns(records: Sequence[Any], batch: Batch) -> tuple[Any, dict[str, list[Any]]]:
    """Records and the columns that name their matches."""
    return records, {
        name: [batch.columns[record.match][name] for record in records] for name in batch.columns[0]
    }
