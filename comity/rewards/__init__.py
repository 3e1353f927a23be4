"""The rewards room: pure functions from what happened to a number per seat and round.

A payoff is what the game pays; a reward is what a learner is trained on. To add a reward,
write a file with a frozen dataclass and give it a line in `REWARDS`.
"""

from collections.abc import Callable

from comity.rewards.base import Reward
from comity.rewards.own import Own
from comity.rewards.utilitarian import Utilitarian
from comity.rewards.weighted import Weighted

REWARDS: dict[str, Callable[..., Reward]] = {
    "own": Own,
    "utilitarian": Utilitarian,
    "weighted": Weighted,
}
"""Every reward by name."""
