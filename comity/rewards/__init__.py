"""Rewards: pure functions from played matches to a number per seat and round.

A payoff is what the game pays; a reward is what a learner is trained on. To add a reward, write a
file with a frozen dataclass and give it a line in `SIMPLE_REWARDS` (`comity.rewards.catalog`).
"""

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from comity.errors import ComityError
from comity.games.base import Game, PlayedMatches
from comity.rewards.base import BaseReward
from comity.rewards.catalog import SIMPLE_REWARDS
from comity.rewards.deontological import Deontological
from comity.rewards.weighted import Weighted

REWARDS: dict[str, type[BaseReward]] = {**SIMPLE_REWARDS, "weighted": Weighted}
"""Every reward by name."""


def all_rewards(trained: BaseReward) -> dict[str, BaseReward]:
    """All simple rewards by name, and own + deontological, for logging beside the trained one.

    They take the trained reward's rules for illegal answers, and every other parameter that they
    inherit from the same class as the trained reward or one of its terms: `penalty` belongs to the
    deontological rewards alone, not to every reward with a parameter of that name.
    """
    found: dict[str, BaseReward] = {
        name: kind(**_inherited(kind, trained)) for name, kind in SIMPLE_REWARDS.items()
    }
    found["own_deontological"] = Weighted(
        terms={
            "own": {"other": getattr(trained, "other", 0.0)},
            "deontological": _inherited(Deontological, trained),
        },
        **_inherited(BaseReward, trained),
    )
    return found


def _inherited(kind: type[BaseReward], trained: BaseReward) -> dict[str, Any]:
    """Parameters that `kind` inherits from the same class as the trained reward or its terms."""
    terms = [reward for _, reward in getattr(trained, "parts", ())]
    alike = [term for term in terms if type(term) is kind]
    found: dict[str, Any] = {}
    for part in (*terms, *alike, trained):  # The later ones win.
        for base in type(part).__mro__:
            if is_dataclass(base) and issubclass(kind, base):
                names = [field.name for field in fields(base) if field.init]
                found |= {name: getattr(part, name) for name in names}
                break
    return found


def log_rewards(played: PlayedMatches, game: Game, trained: BaseReward) -> dict[str, np.ndarray]:
    """The values of all rewards that apply to the game, by name.

    float64 `[match, seat, round]` each.
    """
    return {
        name: reward(played, game)
        for name, reward in all_rewards(trained).items()
        if _applies(reward, game)
    }


def _applies(reward: BaseReward, game: Game) -> bool:
    try:
        reward.check(game)
    except ComityError:
        return False
    return True
