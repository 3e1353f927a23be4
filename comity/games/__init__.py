"""Rules and payoffs of games, without text, models or torch.

- `base`: the interface of a game. `lengths`: the number of rounds. `randomness`: random streams.
- `enumerate`: exact expectations of small games.
- `matrix`: stage games (`stages`), the same repeated (`iterated`), named payoff tables (`tables`)
  and payoff tables sampled per match (`random_tables`).
- `split`: games of messages and claims (`game`), their instances (`instances`) and the named ones
  (`named_games`).

To add a game, write its factory and give it a line in `GAMES`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from comity.games.base import Game
from comity.games.matrix import tables
from comity.games.matrix.random_tables import random_dilemma
from comity.games.split import named_games as negotiations
from comity.registry import build, own_parts

GAMES: dict[str, Callable[..., Game]] = {
    "prisoners_dilemma": tables.prisoners_dilemma,
    "prisoners_dilemma_4310": tables.prisoners_dilemma_4310,
    "stag_hunt": tables.stag_hunt,
    "chicken": tables.chicken,
    "bach_or_stravinsky": tables.bach_or_stravinsky,
    "defective_coordination": tables.defective_coordination,
    "volunteers_dilemma": tables.volunteers_dilemma,
    "random_dilemma": random_dilemma,
    "public_goods": tables.public_goods,
    "matrix": tables.matrix,
    "trust_and_split": negotiations.trust_and_split,
    "trust_and_split_rps": negotiations.trust_and_split_rps,
    "trust_and_split_items": negotiations.trust_and_split_items,
    "split_no_talk": negotiations.split_no_talk,
    "deal_or_no_deal": negotiations.deal_or_no_deal,
    "ultimatum": negotiations.ultimatum,
}
"""Every game by name; a factory's keyword parameters are the game's YAML parameters."""


def make_game(config: Mapping[str, Any]) -> Game:
    """The game of a config block `{name: ..., **parameters}`; `ComityError` if it is invalid."""
    return build("game", config, GAMES, own_games)


def own_games() -> dict[str, Callable[..., Game]]:
    """The user's own games, and games that repeat the user's own stages, by name."""
    stages = {name: tables.repeated(name, kind) for name, kind in own_parts("stage").items()}
    return {**stages, **own_parts("game")}
