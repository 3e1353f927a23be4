"""Who a config's seats name: learners, language models as they are, and scripted players.

A seat is a player's name (`learner`, `learner:NAME`, `base`, `adapter:PATH`, `tit_for_tat`), or
a mapping with a scripted player's name and parameters.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from comity.config.limits import check_name
from comity.errors import ComityError, lookup
from comity.games.base import Game
from comity.players.scripted.catalog import STRATEGIES, Strategy, all_strategies, check_can_play
from comity.players.scripted.player import StrategyPlayer
from comity.registry import build

LEARNER = "learner"
HUMAN = "human"
"""The seat of a person, which only `comity play` has."""
MAIN = "main"
"""Name of the adapter of seats that say only "learner"."""


def learner_of(seat: Any) -> str | None:
    """Adapter name of a learner's seat ("learner" or "learner:NAME"); None for others."""
    if isinstance(seat, str) and seat.split(":")[0] == LEARNER:
        return seat.partition(":")[2] or MAIN
    return None


def only_arm(players: Sequence[Any], arms: Collection[str]) -> list[Any]:
    """Players of a cross-play, `learner` called as a study's arm where there is only one."""
    if len(arms) != 1 or LEARNER in arms:
        return list(players)
    (arm,) = arms
    return [
        f"{arm}{player.removeprefix(LEARNER)}" if learner_of(player) is not None else player
        for player in players
    ]


def entrant_name(player: Any) -> str:
    """What a player is called in the cross-play: `own`, `random(p=0.3)`, `adapter:PATH`."""
    if isinstance(player, str):
        return player
    parameters = [f"{key}={value}" for key, value in player.items() if key != "name"]
    return f"{player['name']}({', '.join(parameters)})" if parameters else str(player["name"])


def is_scripted(seat: Any) -> bool:
    """The seat names a scripted player, and no language model."""
    return not isinstance(seat, str) or seat.split(":")[0] not in (LEARNER, "base", "adapter")


def check_seat(seat: Any) -> None:
    """Raises `ComityError` unless the seat names somebody who can sit there."""
    if isinstance(seat, Mapping):
        build("player", seat, STRATEGIES)
        return
    if not isinstance(seat, str):
        raise ComityError(f"a seat is a player's name or a mapping with a name, not {seat!r}")
    kind, _, rest = seat.partition(":")
    if kind == HUMAN:
        raise ComityError(
            f"seat {seat!r}: people are no players of a training; play with them afterwards: "
            "comity play GAME --seats human,RUN"
        )
    if kind == "adapter":
        file = Path(rest) / "adapter_config.json"
        if not file.is_file():
            raise ComityError(f"seat {seat!r}: there is no adapter in the folder {rest!r}")
        try:
            json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise ComityError(f"seat {seat!r}: {file} is not readable JSON ({error})") from error
    elif kind == LEARNER and seat != LEARNER:
        # The name is that of a folder in every checkpoint.
        if not re.fullmatch(r"[\w-]+", rest):
            raise ComityError(f"seat {seat!r}: a learner's name is of letters, digits, - and _")
        check_name("seats", rest)
    else:
        scripts = all_strategies()
        lookup("player", seat, {**scripts, LEARNER: None, "base": None, "adapter:PATH": None})
        if seat in scripts:
            build("player", seat, scripts)


def check_strategy(strategy: Strategy, game: Game, seat: int) -> None:
    """Raises `ComityError` where it cannot play: asked at the start, and after a bad round."""
    check_can_play(strategy, game, seat)


def scripted_player(seat: Any) -> StrategyPlayer:
    """The scripted player that a seat names."""
    name = seat if isinstance(seat, str) else str(seat.get("name"))
    return StrategyPlayer(name, build("player", seat, STRATEGIES))
