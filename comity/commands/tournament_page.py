"""The page of a tournament, from the records in its folder."""

import json
import shlex
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from comity.commands.tournament import FILE, Entry, config_of, read_entry
from comity.commands.tournament_play import MISSING, read_counts, read_retries
from comity.config.player_names import parse_player
from comity.config.schema import Config
from comity.config.seats import is_scripted, scripted_player
from comity.engines.api.answer_log import AnswerLog
from comity.engines.api.usage import Totals
from comity.errors import ComityError
from comity.evaluation.tournament.many_seats.compositions import choose_compositions
from comity.evaluation.tournament.many_seats.records import SeatedMatch
from comity.evaluation.tournament.many_seats.records import read_matches as read_seated
from comity.evaluation.tournament.many_seats.summary import summarize_seats
from comity.evaluation.tournament.records import (
    MATCHES,
    StoredMatch,
    match_files,
    played_by,
    read_matches,
)
from comity.evaluation.tournament.round_robin import environment_seed
from comity.evaluation.tournament.spoken import Spoken, read_spoken
from comity.evaluation.tournament.summary import is_symmetric, shown_matches, summarize
from comity.experiments.api_players import ANSWERS_FILE
from comity.files import write_atomically
from comity.games import make_game
from comity.games.base import KINDS, Game
from comity.games.split.game import Split
from comity.reports.tournament.seats_page import write_seats_page
from comity.reports.tournament.tournament_page import write_tournament_page
from comity.rollout.record_files import read_columns
from comity.runs.integrity import BACK
from comity.safe_reading import read_object


def provenance(folder: Path, words: Sequence[str], config: Config) -> dict[str, Any]:
    """The command that starts the same again, of these words and its settings, and the versions."""
    path = folder / "versions.json"
    command = shlex.join([*words, "--seed", str(config.seed), *config.composition.overrides])
    return {"command": command, "versions": read_object(path) if path.exists() else {}}


def write_page(folder: Path, output: Path | None = None) -> Path:
    """Write the page of a tournament from its records, into `output` or its own folder."""
    entry = read_entry(folder)
    config = config_of(folder, entry)
    game = make_game(config.game)
    words = ["comity", "tournament", entry.game, *entry.names, "--matches", str(entry.matches)]
    words += ["--compositions", str(entry.compositions)] if game.seats > 2 else []
    made = provenance(folder, words, config)
    header = {
        **made,
        "title": f"Tournament: {entry.game}",
        "game": describe_game(config.game, game),
        "seed": config.seed,
        "missing_reasons": read_counts(folder / MISSING),
        "version": str(made["versions"].get("comity", "")),
        "created": time.strftime("%Y-%m-%d", time.localtime((folder / FILE).stat().st_mtime)),
        "players": [{**player, "kind": PAGE_KINDS[player["kind"]]} for player in entry.players],
    }
    scripted = [one["name"] for one in entry.players if one["kind"] in SCRIPTED]
    check_decisions(folder, scripted, entry.names)
    answered = {
        "outcomes": outcomes_of(folder, entry.players),
        "usage": usage_of([folder], entry.players),
    }
    output = output or folder
    if game.seats > 2:
        chosen = choose_compositions(entry.names, game.seats, entry.compositions, config.seed)
        seated = list(read_seated(folder))
        check_matches(folder, seated, entry.matches, game, config.seed)
        summary = summarize_seats(header, seated, game, entry.matches, chosen, **answered)
        write_atomically(output / "summary.json", json.dumps(summary, allow_nan=False) + "\n")
        return write_seats_page(summary, output)
    matches = list(read_matches(folder))
    check_matches(folder, matches, entry.matches, game, config.seed)
    summary = summarize(
        header,
        matches,
        game,
        entry.matches,
        **answered,
        strategies=_strategies(entry),
        spoken=spoken_in(folder, matches, game),
    )
    write_atomically(output / "summary.json", json.dumps(summary, allow_nan=False) + "\n")
    return write_tournament_page(summary, output)


def check_matches(
    folder: Path,
    matches: Sequence[StoredMatch | SeatedMatch],
    asked_for: int,
    game: Game,
    seed: int,
) -> None:
    """Raises `ComityError` for matches that do not belong here.

    That is more repetitions than were asked for, another seed's matches, and a match twice, from
    which intervals would be too narrow.
    """
    found = 1 + max((match.repetition for match in matches), default=0)
    if found > asked_for:
        raise ComityError(
            f"{folder} has {found} matches of a pair or composition, but says that {asked_for} "
            f"were asked for; resume it with --matches {found}"
        )
    seeds = {one: environment_seed(game, seed, one) for one in {m.repetition for m in matches}}
    if any(match.seed != seeds[match.repetition] for match in matches):
        raise ComityError(f"{folder / MATCHES} holds matches of another tournament; {BACK}")
    if len({match.key for match in matches}) < len(matches):
        raise ComityError(f"{folder / MATCHES} holds matches twice; remove the copied file")


def check_decisions(folder: Path, scripted: Collection[str], named: Collection[str] = ()) -> None:
    """Raises `ComityError` where decisions of language models are missing.

    `scripted`: players without decisions; `named`: all players, which `tournament.json` names.
    """
    for path in match_files(folder):
        names = played_by(path)
        if named and names - {*named}:
            raise ComityError(
                f"{path} holds matches of {min(names - {*named})}, which {folder / FILE} does not "
                f"name; {BACK}"
            )
        if names - {*scripted} and not (folder / "decisions" / path.name).exists():
            raise ComityError(f"{folder / 'decisions' / path.name} is missing; {BACK}")


def spoken_in(
    folder: Path, matches: Sequence[StoredMatch], game: Game
) -> dict[tuple[str, str, int], Spoken]:
    """What was said in the matches that the page shows; {} in games without talk and claims."""
    if not isinstance(game, Split):
        return {}
    keys = [match.key for match in shown_matches(matches)]
    return read_spoken(folder, keys, game.instances.items)


def describe_game(block: Mapping[str, Any], game: Game) -> dict[str, Any]:
    """A game as pages name it, from its config block."""
    return {
        "name": str(block["name"]),
        "description": (type(game).__doc__ or "").strip().split("\n")[0],
        "settings": {key: value for key, value in block.items() if key != "name"},
        "symmetric": is_symmetric(game),
        "unit": "payoff per round",
    }


def _strategies(entry: Entry) -> dict[str, Any]:
    """The strategies of the players that are one, by name."""
    found = {}
    for player in entry.players:
        if player["kind"] == "strategy":
            seat = parse_player(player["name"]).seat
            if is_scripted(seat):
                found[player["name"]] = scripted_player(seat).strategy
    return found


PAGE_KINDS = {
    **{kind: kind for kind in ("axelrod", "run", "model", "api", "human")},
    "strategy": "scripted",
    "base": "model",
    "adapter": "model",
}
"""Kinds of players as the page names them, by those of `comity.config.player_names`."""


SCRIPTED = ("strategy", "axelrod")
"""Kinds of players of whose matches no decisions are recorded."""


def usage_of(
    folders: Sequence[Path], players: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Answers, tokens and cost of models behind APIs, by player, from the answer logs."""
    logs = [
        (AnswerLog(folder / ANSWERS_FILE, read_only=True), read_retries(folder))
        for folder in folders
        if (folder / ANSWERS_FILE).exists()
    ]
    found = {}
    for player in players if logs else ():
        if player["kind"] == "api":
            endpoint = str(player["name"]).removeprefix("api:")
            used = reduce(Totals.plus, (log.totals(endpoint) for log, _ in logs))
            found[player["name"]] = {
                "requests": used.answers,
                "input_tokens": used.input,
                "output_tokens": used.output,
                "cost": used.known_cost,
                "retries": sum(retries.get(endpoint, 0) for _, retries in logs),
            }
    return found


def outcomes_of(folder: Path, players: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """How the answers of language models ended, by player.

    A failed one is the first in a match, which is missing then, when it was last played.
    """
    found: dict[str, Counter[str]] = {}
    for reason, matches in read_counts(folder / MISSING).items():
        for player in players:
            # As `comity.players.api.session` begins it.
            if reason.startswith(f"{player['name'].removeprefix('api:')}: "):
                found.setdefault(player["name"], Counter())["failed"] += matches
    for path in sorted((folder / "decisions").glob("*.parquet")):
        columns = read_columns(path, "decision")
        for name, kind, controller, move, status in zip(
            *(columns[name] for name in ("player", "kind", "controller", "move", "parse_status")),
            strict=True,
        ):
            if kind in KINDS and controller != "scripted":
                found.setdefault(name, Counter())[_outcome(move, status)] += 1
    keys = ("answered", "illegal", "refused", "cut_off", "failed")
    return {player: {key: counts[key] for key in keys} for player, counts in found.items()}


def _outcome(move: int, status: str) -> str:
    if status in ("refused", "cut_off"):
        return status
    return "answered" if move >= 0 else "illegal"
