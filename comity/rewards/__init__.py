"""The rewards room: pure functions from what happened to a number per seat and round.

A payoff is what the game pays; a reward is what a learner is trained on. To add a reward,
write a file with a frozen dataclass and give it a line in `REWARDS`.
"""

from dataclasses import fields
from typing import Any

import numpy as np

from comity.errors import ComityError
from comity.games.base import Game, Played
from comity.rewards.base import Ruled
from comity.rewards.deontological import AntiDeontological, Deontological
from comity.rewards.legal import Legal
from comity.rewards.own import Altruist, AntiAltruist, Own
from comity.rewards.peers import Peers
from comity.rewards.utilitarian import AntiUtilitarian, Utilitarian
from comity.rewards.virtue import Aggression, Equality, Inequality, Kindness, MixedVirtue
from comity.rewards.weighted import Weighted

REWARDS: dict[str, type[Ruled]] = {
    "own": Own,
    "utilitarian": Utilitarian,
    "deontological": Deontological,
    "weighted": Weighted,
    "equality": Equality,
    "kindness": Kindness,
    "mixed_virtue": MixedVirtue,
    "altruist": Altruist,
    "legal": Legal,
    "peers": Peers,
    "anti_utilitarian": AntiUtilitarian,
    "anti_deontological": AntiDeontological,
    "anti_altruist": AntiAltruist,
    "inequality": Inequality,
    "aggression": Aggression,
}
"""Every reward by name."""

SHARED = (
    "illegal",
    "opponent_illegal",
    "other",
    "cooperate",
    "penalty",
    "bonus",
    "beta",
    "own",
    "others",
)
"""Parameters that the logged rewards take over from the one that is trained."""


def every_reward(trained: Ruled) -> dict[str, Ruled]:
    """Every reward that needs no terms, by name, and own + deontological, alike in `SHARED`."""
    parts = [trained, *(reward for _, reward in getattr(trained, "parts", ()))]
    known = {
        name: getattr(part, name) for part in reversed(parts) for name in SHARED
        if hasattr(part, name)
    }  # fmt: skip

    def parameters(kind: type[Ruled]) -> dict[str, Any]:
        names = {field.name for field in fields(kind)}
        return {name: value for name, value in known.items() if name in names}

    found = {
        name: kind(**parameters(kind)) for name, kind in REWARDS.items() if kind is not Weighted
    }
    found["own_deontological"] = Weighted(
        terms={
            "own": {"other": known.get("other", 0.0)},
            "deontological": parameters(Deontological),
        },
        illegal=known.get("illegal", -6.0),
        opponent_illegal=known.get("opponent_illegal", "carry"),
    )
    return found


def log_rewards(played: Played, game: Game, trained: Ruled) -> dict[str, np.ndarray]:
    """What every reward with a meaning in the game would have been, by name.

    float64 `[match, seat, round]` each.
    """
    return {
        name: reward(played, game)
        for name, reward in every_reward(trained).items()
        if _applies(reward, game)
    }


def _applies(reward: Ruled, game: Game) -> bool:
    try:
        reward.check(game)
    except ComityError:
        return False
    return True
