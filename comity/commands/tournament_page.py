"""The page of a tournament, from the records in its folder."""

import json
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comity.commands.tournament import FILE, MISSING, Entry, read_entry
from comity.engines.api.answer_log import AnswerLog
from comity.evaluation.tournament.records import read_matches
from comity.evaluation.tournament.summary import is_symmetric, summarize
from comity.experiments.api_players import ANSWERS_FILE
from comity.files import write_atomically
from comity.games import make_game
from comity.games.base import KINDS, Game
from comity.reports.tournament.tournament_page import write_tournament_page
from comity.rollout.record_files import read_columns
from comity.runs.folder import stored_config
from comity.safe_reading import read_object


def write_page(folder: Path, output: Path | None = None) -> Path:
    """Write the page of a tournament from its records, into `output` or its own folder."""
    entry, config = read_entry(folder), stored_config(folder)
    game = make_game(config.game)
    versions = read_object(folder / "versions.json") if (folder / "versions.json").exists() else {}
    header = {
        "title": f"Tournament: {entry.game}",
        "game": describe_game(config.game, game),
        "seed": config.seed,
        "missing_reasons": _missing(folder),
        "version": str(versions.get("comity", "")),
        "created": time.strftime("%Y-%m-%d", time.localtime((folder / FILE).stat().st_mtime)),
        "players": [{**player, "kind": PAGE_KINDS[player["kind"]]} for player in entry.players],
    }
    summary = summarize(
        header,
        read_matches(folder),
        game,
        entry.matches,
        outcomes=_outcomes(folder),
        usage=_usage(folder, entry),
    )
    output = output or folder
    write_atomically(output / "summary.json", json.dumps(summary, allow_nan=False) + "\n")
    return write_tournament_page(summary, output)


def describe_game(block: Mapping[str, Any], game: Game) -> dict[str, Any]:
    """A game as pages name it, from its config block."""
    return {
        "name": str(block["name"]),
        "description": (type(game).__doc__ or "").strip().split("\n")[0],
        "settings": {key: value for key, value in block.items() if key != "name"},
        "symmetric": is_symmetric(game),
        "unit": "payoff per round",
    }


PAGE_KINDS = {
    **{kind: kind for kind in ("axelrod", "run", "model", "api", "human")},
    "strategy": "scripted",
    "base": "model",
    "adapter": "model",
}
"""Kinds of players as the page names them, by those of `comity.config.player_names`."""


def _missing(folder: Path) -> dict[str, int]:
    """Why matches were missing when the tournament was last played, with how many."""
    path = folder / MISSING
    return {k: int(v) for k, v in read_object(path).items()} if path.exists() else {}


def _usage(folder: Path, entry: Entry) -> dict[str, dict[str, Any]]:
    """Answers, tokens and cost of models behind APIs, by player, from the answer log."""
    path = folder / ANSWERS_FILE
    if not path.exists():
        return {}
    log = AnswerLog(path, read_only=True)
    found = {}
    for player in entry.players:
        if player["kind"] == "api":
            used = log.totals(str(player["name"]).removeprefix("api:"))
            found[player["name"]] = {
                "requests": used.answers,
                "input_tokens": used.input,
                "output_tokens": used.output,
                "cost": used.known_cost,
                "retries": sum(used.retries.values()),
            }
    return found


def _outcomes(folder: Path) -> dict[str, dict[str, int]]:
    """How the answers of language models ended, by player."""
    found: dict[str, Counter[str]] = {}
    for path in sorted((folder / "decisions").glob("*.parquet")):
        columns = read_columns(path, "decision")
        for player, kind, controller, move, status in zip(
            *(columns[name] for name in ("player", "kind", "controller", "move", "parse_status")),
            strict=True,
        ):
            if kind in KINDS and controller != "scripted":
                found.setdefault(player, Counter())[_outcome(move, status)] += 1
    keys = ("answered", "illegal", "refused", "cut_off", "failed")
    return {player: {key: counts[key] for key in keys} for player, counts in found.items()}


def _outcome(move: int, status: str) -> str:
    if status in ("refused", "cut_off"):
        return status
    return "answered" if move >= 0 else "illegal"
