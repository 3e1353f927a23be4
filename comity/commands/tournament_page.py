"""The page of a tournament, from the records in its folder."""

import json
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comity.commands.tournament import FILE, read_entry
from comity.evaluation.tournament.records import read_matches
from comity.evaluation.tournament.summary import is_symmetric, summarize
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
        "missing_reasons": {},
        "version": str(versions.get("comity", "")),
        "created": time.strftime("%Y-%m-%d", time.localtime((folder / FILE).stat().st_mtime)),
        "players": [{**player, "kind": PAGE_KINDS[player["kind"]]} for player in entry.players],
    }
    summary = summarize(
        header, read_matches(folder), game, entry.matches, outcomes=_outcomes(folder)
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
