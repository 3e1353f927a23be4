"""Parses the entries of a config's `seats`: learners, frozen language models, scripted players.

An entry is a player's name (`learner`, `learner:NAME`, or a name of `comity.config.player_names`),
or a mapping with a scripted player's name and parameters.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from comity.config.api_schema import ApiConfig
from comity.config.errors import plain_errors
from comity.config.limits import check_limits, check_name
from comity.engines.api.settings import is_on_this_machine
from comity.errors import ComityError, lookup
from comity.games.base import Game
from comity.players.scripted.axelrod_index import PREFIX as AXELROD
from comity.players.scripted.axelrod_index import class_name, is_axelrod
from comity.players.scripted.axelrod_players import strategy_player
from comity.players.scripted.catalog import (
    Strategy,
    all_strategies,
    check_can_play,
    make_strategy,
)
from comity.players.scripted.player import StrategyPlayer
from comity.safe_reading import read_object

LEARNER = "learner"
API = "api"
"""A model behind an API."""
HUMAN = "human"
"""A human player, in `comity play` only."""
FROZEN = ("base", "adapter", "run", "model")
"""Kinds of language models that are not trained here."""
MAIN = "main"
"""Adapter name of a plain "learner"."""


def learner_of(seat: Any) -> str | None:
    """Adapter name of a learner ("learner" or "learner:NAME"); None for other players."""
    if isinstance(seat, str) and seat.split(":")[0] == LEARNER:
        return seat.partition(":")[2] or MAIN
    return None


def is_api(seat: Any) -> bool:
    """Whether the seat's player is a model behind an API."""
    name = seat.get("name") if isinstance(seat, Mapping) else seat
    return isinstance(name, str) and name.partition(":")[0] == API


def api_settings(seat: Any, block: ApiConfig | None) -> ApiConfig:
    """The settings of a model behind an API: those of the config's `api`, with the seat's own.

    `api:MODEL@BASE_URL` has a model and an endpoint of its own, `api:MODEL` a model; the mapping
    `{name: api, model: ..., base_url: ...}` any settings. Prices are those of a model at an
    endpoint, and on this machine those of the machine: another model's are unknown unless the
    mapping has them or both are on this machine.
    """
    own: dict[str, Any] = {}
    if isinstance(seat, Mapping):
        own = {key: value for key, value in seat.items() if key != "name"}
        known = dict.fromkeys(one.name for one in fields(ApiConfig))
        for key in own:
            lookup(f"parameter of the seat {API}", str(key), known)
        name = str(seat["name"])
    else:
        name = str(seat)
    model, at, url = name.partition(":")[2].rpartition("@")
    model, url = (model, url) if at else (url, "")
    if name != API and (not model or (at and not url)):
        raise ComityError(f"seat {name!r}: write api:MODEL@BASE_URL, api:MODEL or api")
    own |= {key: value for key, value in (("model", model), ("base_url", url)) if value}
    settings = block or ApiConfig()
    if not _same_prices(settings, own):
        own.setdefault("prices", {})
    with plain_errors(f"seat {participant_name(seat)!r}"):
        given: dict[Any, Any] = {**asdict(settings), **own}
        plain = OmegaConf.merge(OmegaConf.structured(ApiConfig), given)
        merged = OmegaConf.to_object(plain)
    assert isinstance(merged, ApiConfig)
    check_limits(merged, "api.")
    if not merged.model:
        raise ComityError(
            f"seat {participant_name(seat)!r} needs a model behind an API: choose one of `comity "
            "list apis` (api=gpt-4o-mini), or write api:MODEL@BASE_URL"
        )
    return merged


def _same_prices(block: ApiConfig, own: Mapping[str, Any]) -> bool:
    """Whether the prices of `api` are those of a seat with these settings of its own."""
    model, url = (str(own.get(key, getattr(block, key))) for key in ("model", "base_url"))
    if is_on_this_machine(block.base_url) and is_on_this_machine(url):
        return True
    return url == block.base_url and model == block.model


def only_arm(players: Sequence[Any], arms: Collection[str]) -> list[Any]:
    """Players of a cross-play, with `learner` replaced by the study's arm if there is only one."""
    if len(arms) != 1 or LEARNER in arms:
        return list(players)
    (arm,) = arms
    return [
        f"{arm}{player.removeprefix(LEARNER)}" if learner_of(player) is not None else player
        for player in players
    ]


def participant_name(player: Any) -> str:
    """A player's name in the cross-play: `own`, `random(p=0.3)`, `adapter:PATH`."""
    name = player if isinstance(player, str) else str(player["name"])
    if is_axelrod(name):
        name = f"{AXELROD}{class_name(name, not isinstance(player, str))}"
    if isinstance(player, str):
        return name
    parameters = [f"{key}={value}" for key, value in player.items() if key != "name"]
    return f"{name}({', '.join(parameters)})" if parameters else name


def is_scripted(seat: Any) -> bool:
    """Whether the seat's player is scripted."""
    if is_api(seat):
        return False
    return not isinstance(seat, str) or seat.split(":")[0] not in (LEARNER, *FROZEN)


def check_seat(seat: Any) -> None:
    """Raises `ComityError` unless the entry is a valid player; of models behind an API, the name.

    Their settings are checked by `api_settings`.
    """
    if is_api(seat):
        api_settings(seat, ApiConfig(model="any"))
        return
    if isinstance(seat, Mapping) or is_axelrod(seat):
        make_strategy(seat)
        return
    if not isinstance(seat, str):
        raise ComityError(f"a seat must be a player's name or a mapping with a name, not {seat!r}")
    kind, _, rest = seat.partition(":")
    if kind == HUMAN:
        raise ComityError(
            f"seat {seat!r}: humans cannot play in training; to play against the trained run: "
            "comity play GAME --seats human,run:FOLDER"
        )
    if kind in ("run", "model"):
        if not rest:
            raise ComityError(f"seat {seat!r}: something must follow {kind}:")
    elif kind == "adapter":
        file = Path(rest) / "adapter_config.json"
        if not file.is_file():
            raise ComityError(f"seat {seat!r}: no adapter_config.json in the folder {rest!r}")
        try:
            read_object(file)
        except ComityError as error:
            raise ComityError(f"seat {seat!r}: {error}") from error
    elif kind == LEARNER and seat != LEARNER:
        # Checkpoints have a folder of that name.
        if not re.fullmatch(r"[\w-]+", rest):
            raise ComityError(
                f"seat {seat!r}: a learner's name consists of letters, digits, - and _"
            )
        check_name("seats", rest)
    else:
        scripts = all_strategies()
        others = (LEARNER, "base", "adapter:FOLDER", "run:FOLDER", f"{AXELROD}NAME", "api")
        lookup("player", seat, {**scripts, **dict.fromkeys(others)})
        if seat in scripts:
            make_strategy(seat)


def check_strategy(strategy: Strategy, game: Game, seat: int) -> None:
    """Raises `ComityError` unless the strategy can play on that seat of the game."""
    check_can_play(strategy, game, seat)


def scripted_player(seat: Any) -> StrategyPlayer:
    """The scripted player of a seat's entry."""
    name = seat if isinstance(seat, str) else str(seat.get("name"))
    return strategy_player(name, make_strategy(seat))
