"""`comity tournament`: every ordered pair of players, self-play included, or of every composition.

A tournament is a run folder with, beside the usual files,

    tournament.json                players and matches per ordered pair
    matches/000000.parquet         what happened in each match (`comity.evaluation.tournament`)
    api_answers.jsonl              answers of models behind APIs, from which it goes on

Decisions and conversations are recorded where a language model plays. A tournament that was
stopped plays only what is missing; players and matches can be added to a finished one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from comity.commands.play_setup import play_config
from comity.commands.tournament_play import play_and_record
from comity.config.player_names import KINDS, PlayerName, parse_player
from comity.config.schema import Composition, Config
from comity.errors import ComityError
from comity.evaluation.tournament.many_seats.compositions import LIMIT, choose_compositions
from comity.evaluation.tournament.many_seats.play import ManySeats, check_many_seats
from comity.evaluation.tournament.metrics import all_metrics
from comity.evaluation.tournament.round_robin import RoundRobin
from comity.evaluation.tournament.schedule import Schedule
from comity.experiments.agent_plans import AgentPlan, plan_agent
from comity.experiments.agents import check_servers
from comity.files import write_atomically
from comity.games import make_game
from comity.games.base import Game
from comity.players.base import Player
from comity.runs.folder import RunFolder, stored_config
from comity.safe_reading import read_object

FILE = "tournament.json"
"""Players and matches of a tournament, in its folder."""
SCHEMA = 1
OUTPUT = "tournaments"
"""Parent folder of tournaments."""
MATCHES = 10
"""Matches per ordered pair, unless something else is asked for."""
MOST = 100_000
"""Most of them, and most compositions: more are a slip of the finger, and fill the memory."""


@dataclass(frozen=True)
class Request:
    """What is asked for on the command line."""

    game: str = ""
    """A game, or an experiment whose game and prompt are used; "": that of `resume`."""
    players: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    matches: int | None = None
    seed: int | None = None
    output: str = OUTPUT
    resume: Path | None = None
    compositions: int | None = None
    """Compositions that are drawn in games of more than two seats; None: the default."""


@dataclass
class Entry:
    """What `tournament.json` holds."""

    game: str
    matches: int
    players: list[dict[str, Any]] = field(default_factory=list)
    compositions: int = LIMIT
    """In games of more than two seats: compositions that are drawn where there are more."""
    rules: dict[str, Any] | None = None
    """The settings of the game and the seed; None in folders that do not say."""

    @property
    def names(self) -> list[str]:
        """The players' full names, in order."""
        return [player["name"] for player in self.players]


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Players, and overrides (`key=value`), from the arguments after the game.

    An = inside of parentheses belongs to a player: `random(p=0.3)`.
    """
    players: list[str] = []
    overrides: list[str] = []
    for argument in arguments:
        head = argument.partition("=")[0]
        named = "=" in argument and "(" not in head and not head.startswith(("api:", "run:"))
        (overrides if named else players).append(argument)
    return players, overrides


def run_tournament(request: Request) -> Path:
    """Play a tournament, or what is missing of one; returns its folder.

    Everything that can be checked without a model is checked before one is loaded or a folder
    is made.
    """
    stored = None if request.resume is None else read_entry(request.resume)
    names = [*(stored.names if stored else ()), *request.players]
    parsed = _distinct([parse_player(name) for name in names])
    config = _config(request, parsed)
    matches = request.matches
    if matches is None:
        matches = stored.matches if stored else MATCHES
    check_count("--matches", matches)
    if stored and matches < stored.matches:
        raise ComityError(
            f"{request.resume} has {stored.matches} matches per pair already; --matches can only "
            "add to them"
        )
    if len(parsed) < 2:
        raise ComityError(
            "a tournament needs at least two players: "
            "comity tournament prisoners_dilemma tit_for_tat always_defect"
        )

    game = make_game(config.game)
    compositions = _compositions(request, stored, game)
    plans = _distinct_plans([plan_agent(name, config) for name in parsed])
    _check_players(stored, plans)
    entry = Entry(
        stored.game if stored else request.game,
        matches,
        [describe(plan) for plan in plans],
        compositions,
        rules_of(config),
    )

    def schedule(players: Mapping[str, Player]) -> Schedule:
        if game.seats == 2:
            return RoundRobin(game, players, matches, config.seed)
        chosen = choose_compositions(list(players), game.seats, compositions, config.seed)
        return ManySeats(game, players, list(chosen.weights), matches, config.seed)

    all_metrics()  # Refuses a user's own that is none.
    check_servers(plans)
    with _folder(request, config) as folder:
        folder.resume_with = f"comity tournament --resume {folder.path}"
        write_atomically(folder.path / FILE, json.dumps(_as_json(entry), indent=2) + "\n")
        play_and_record(plans, schedule, folder)
    return folder.path


def _compositions(request: Request, stored: Entry | None, game: Game) -> int:
    """How many compositions are drawn; raises `ComityError` for a game that cannot be played."""
    if game.seats > 2:
        check_many_seats(game)
    elif request.compositions is not None:
        raise ComityError(
            "--compositions is for games of more than two seats; here every ordered pair is played"
        )
    before = stored.compositions if stored else LIMIT
    wanted = before if request.compositions is None else request.compositions
    check_count("--compositions", wanted)
    return wanted


def check_count(option: str, count: int) -> None:
    """Raises `ComityError` for a number of matches or compositions that cannot be played."""
    if not is_count(count):
        limit = "at least 1" if count < 1 else f"at most {MOST:,}"
        raise ComityError(f"{option} must be {limit}, not {count}")


def read_entry(folder: Path) -> Entry:
    """The players and matches of a tournament; `ComityError` for any other folder."""
    if not folder.is_dir():
        raise ComityError(f"there is no tournament folder {folder}")
    if not (folder / FILE).is_file():
        raise ComityError(f"{folder} is not a tournament: it holds no {FILE}")
    found = read_object(folder / FILE)
    if found.get("schema") != SCHEMA:
        raise ComityError(
            f"{folder / FILE} has schema {found.get('schema')}, this Comity reads {SCHEMA}; play "
            "the tournament again"
        )
    players, compositions = found.get("players"), found.get("compositions", LIMIT)
    if not (
        isinstance(found.get("game"), str)
        and isinstance(players, list)
        and all(map(_is_player, players))
        and is_count(found.get("matches"))
        and is_count(compositions)
        and isinstance(found.get("rules"), dict | None)
    ):
        raise ComityError(
            f"{folder / FILE} is damaged: it must hold the game, the players and the numbers of "
            "matches and compositions as Comity wrote them"
        )
    return Entry(found["game"], found["matches"], players, compositions, found.get("rules"))


def _is_player(found: object) -> bool:
    """Whether a value is a player as `describe` writes it."""
    return (
        isinstance(found, dict)
        and all(isinstance(found.get(key), str) for key in ("name", "kind", "description"))
        and found["kind"] in KINDS
        and isinstance(found.get("details"), dict)
    )


def is_count(found: object) -> bool:
    """Whether a value is a possible number of matches or compositions."""
    return isinstance(found, int) and not isinstance(found, bool) and 1 <= found <= MOST


def _as_json(entry: Entry) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "game": entry.game,
        "matches": entry.matches,
        "players": entry.players,
        "compositions": entry.compositions,
        "rules": entry.rules,
    }


def rules_of(config: Config) -> dict[str, Any]:
    """What all matches of a tournament have in common, as it stands in `tournament.json`."""
    found: dict[str, Any] = json.loads(json.dumps({"game": config.game, "seed": config.seed}))
    return found


def config_of(folder: Path, entry: Entry) -> Config:
    """The config of a tournament; `ComityError` if its rules are not those of its matches."""
    config = stored_config(folder)
    now = rules_of(config)
    if entry.rules is not None and now != entry.rules:
        before, after = entry.rules.get("game"), now["game"]
        keys = [
            f"game.{key}"
            for key in {**(before if isinstance(before, dict) else {}), **after}
            if not isinstance(before, dict) or before.get(key) != after.get(key)
        ]
        changed = ", ".join(keys) or "seed"
        raise ComityError(
            f"{folder}/config.yaml was changed since its matches were played ({changed}); change "
            "it back, or start a new tournament"
        )
    return config


def _config(request: Request, names: Sequence[PlayerName]) -> Config:
    """The config of the tournament: the stored one, or a new one for the game."""
    if request.resume is not None:
        entry = read_entry(request.resume)
        config, stored = config_of(request.resume, entry), entry.game
        if request.game not in ("", stored):
            raise ComityError(
                f"{request.resume} is a tournament of {stored}, not of {request.game}; start a new "
                "one without --resume"
            )
        if request.overrides:
            raise ComityError(
                f"--resume keeps the settings of {request.resume}; leave out "
                f"{' '.join(request.overrides)}, or start a new tournament"
            )
        if request.seed not in (None, config.seed):
            raise ComityError(f"{request.resume} has the seed {config.seed}, not {request.seed}")
        return config
    if not request.game:
        raise ComityError("name a game: comity tournament prisoners_dilemma tit_for_tat random")
    runs = _runs(names)
    config = play_config(request.game, ["base"], runs, request.overrides, 1, request.seed or 0)
    config = replace(config, seats=["base"] * make_game(config.game).seats)
    return replace(
        config,
        name=f"tournament-{request.game.replace('/', '-')}",
        output=request.output,
        composition=Composition(config.composition.name, list(request.overrides)),
    )


def _runs(names: Sequence[PlayerName]) -> dict[str, Any]:
    """The trained policies among the players that have the first one's model.

    The base model and the default prompt of the tournament are theirs.
    """
    if all(name.kind != "run" for name in names):
        return {}
    from comity.experiments.trained import run_policy

    found = {
        name.text: run_policy(Path(name.target), name.iteration, name.learner)
        for name in names
        if name.kind == "run"
    }
    first = next(iter(found.values())).config.model
    return {
        text: one
        for text, one in found.items()
        if (one.config.model.name, one.config.model.quantization)
        == (first.name, first.quantization)
    }


def _distinct(names: Sequence[PlayerName]) -> list[PlayerName]:
    """The players without repetitions; adding one that is there already changes nothing."""
    return list({name.text: name for name in names}.values())


def _distinct_plans(plans: Sequence[AgentPlan]) -> list[AgentPlan]:
    return list({plan.name: plan for plan in plans}.values())


def describe(plan: AgentPlan) -> dict[str, Any]:
    """A player as it stands in `tournament.json`."""
    return {
        "name": plan.name,
        "kind": plan.kind,
        "description": plan.description,
        "details": plan.details,
    }


def _check_players(stored: Entry | None, plans: Sequence[AgentPlan]) -> None:
    """Raises `ComityError` where a player is not what it was when its matches were played."""
    now = {plan.name: plan.details for plan in plans}
    for player in stored.players if stored else ():
        check_unchanged(player.get("details", {}), player["name"], now.get(player["name"], {}))


def check_unchanged(before: Mapping[str, Any], name: str, now: Mapping[str, Any]) -> None:
    """Raises `ComityError` where a player's details differ from the stored ones."""
    plain = json.loads(json.dumps(now))
    if plain != before:
        differing = [key for key in {**before, **plain} if plain.get(key) != before.get(key)]
        raise ComityError(
            f"the player {name} changed since its matches were played ({', '.join(differing)}); "
            "start anew without --resume"
        )


def _folder(request: Request, config: Config) -> RunFolder:
    if request.resume is not None:
        return RunFolder.open(request.resume)
    return RunFolder.create(config)
