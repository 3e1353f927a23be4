"""Games and rewards of the moral-alignment study for tests, written out by hand."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from comity.games import make_game
from comity.games.base import Game, PlayedMatches

GAMES = {
    "IPD": make_game({"name": "prisoners_dilemma_4310"}),
    "ISH": make_game({"name": "stag_hunt"}),
    "ICN": make_game({"name": "chicken"}),
    "BOS": make_game({"name": "bach_or_stravinsky"}),
    "ICD": make_game({"name": "defective_coordination"}),
    "IVD": make_game({"name": "volunteers_dilemma"}),
}
"""The six games, by the names of the published tables."""


@dataclass(frozen=True)
class Judged:
    """A reward by its published key: -6 for an own illegal answer, penalty 3."""

    formula: ClassVar[str] = "as the key says"
    key: str

    def __call__(self, played: PlayedMatches, game: Game) -> np.ndarray:
        other = played.payoffs[:, ::-1]
        broken = (played.intended == 1) & (played.shown[:, ::-1] == 0)
        value = {
            "own": played.payoffs,
            "utilitarian": played.payoffs + other,
            "deontological": -3.0 * broken,
            "own_deontological": played.payoffs - 3.0 * broken,
        }[self.key]
        return np.where(played.intended < 0, -6.0, value)
