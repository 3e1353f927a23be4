"""The types of agents: learners with the reward that they learn from, and fixed strategies.

Types of the studies arXiv 2301.08491 and 2403.04202 stand for rewards of `comity.rewards`.
"""

from collections.abc import Mapping
from typing import Any

from comity.errors import ComityError, lookup
from comity.games.base import Game
from comity.registry import build
from comity.rewards import REWARDS
from comity.rewards.base import BaseReward

XI = 5.0
"""Size of a duty's penalty and of a virtue's bonus in both studies (xi)."""

BETA = 0.5
"""Weight of equality in mixed virtue (beta)."""

LEARNER_TYPES: dict[str, str] = {
    "S": "own",
    "UT": "utilitarian",
    "DE": "deontological",
    "VEe": "equality",
    "VEk": "kindness",
    "VM": "mixed_virtue",
    "AL": "altruist",
    "aUT": "anti_utilitarian",
    "mDE": "anti_deontological",
    "Vie": "inequality",
    "Vagg": "aggression",
    "aAL": "anti_altruist",
}
"""The name of the reward that every type of learner maximizes."""

FIXED_TYPES: dict[str, str] = {
    "AC": "always cooperates",
    "AD": "always defects",
    "TFT": "copies its partner's last move; opens with cooperation",
    "Random": "cooperates with probability 0.5",
    "CD": "alternates; opens at random",
    "GEa": "cooperates with probability 0.99; opens at random",
    "GEb": "cooperates with probability 0.8 until it first defects, then defects; opens at random",
    "GEc": "plays the other move than its last one with probability 0.8; opens at random",
    "GEd": "defects with probability 0.8; opens at random",
    "GEe": "cooperates with probability 0.8; opens at random",
}
"""Every fixed strategy in a sentence. All of them choose partners at random."""

_SIZES = {"deontological": "penalty", "anti_deontological": "penalty"}
_SIZES |= {"kindness": "bonus", "aggression": "bonus"}


def reward_block(kind: str, xi: float = XI, beta: float = BETA) -> dict[str, Any]:
    """The reward of a type as a config block; `ComityError` for an unknown type."""
    names = {**LEARNER_TYPES, **{name: name for name in REWARDS}}
    names |= dict.fromkeys(FIXED_TYPES, "own")
    name = lookup("type of agent", kind, names)
    block: dict[str, Any] = {"name": name}
    if name in _SIZES:
        block[_SIZES[name]] = xi
    elif name == "mixed_virtue":
        block["beta"] = beta
    return block


def type_reward(
    kind: str,
    game: Game,
    overrides: Mapping[str, Any] | None = None,
    xi: float = XI,
    beta: float = BETA,
) -> BaseReward:
    """The reward of a type of learner, or of a reward's own name; fixed strategies: the payoff.

    `overrides`: reward blocks by type, `{"UT": {"name": "peers", "others": -2}}`; a type that is
    none of the studies' gets its meaning there. `xi` and `beta` apply to all types without an
    override. Raises `ComityError` for an unknown type or a reward that the game does not fit.
    """
    given = (overrides or {}).get(kind)
    if given is None:
        given = reward_block(kind, xi, beta)
    reward = build("reward", given, REWARDS)
    try:
        reward.check(game)
    except ComityError as error:
        raise ComityError(f"type {kind}: {error}") from error
    return reward
