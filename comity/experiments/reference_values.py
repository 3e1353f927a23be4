"""Reference policies and values of a run, which its page draws beside the curves."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from comity.config.schema import Config
from comity.config.seats import is_scripted, learner_of, scripted_player
from comity.evaluation.moral.drawn_payoffs import mean_reference_policies
from comity.evaluation.moral.reference_policies import (
    payoff_range,
    reference_policies,
    same_for_all,
    split_reference_policies,
)
from comity.experiments.rules import Rules
from comity.games.base import Game
from comity.games.enumerate import Policy
from comity.games.matrix.random_tables import RandomTables
from comity.players.scripted.strategies import MatrixStrategy
from comity.rewards.base import Reward


def _reward_name(block: Mapping[str, Any]) -> str:
    """A reward's name; for a weighted sum the names of its terms."""
    return " + ".join(block["terms"]) if "terms" in block else str(block["name"])


def reference_values(config: Config, rules: Rules) -> dict[str, Any]:
    """Baselines, reference policies and the range of payoffs."""
    return _run_reference_policies(config, rules) | payoff_range(rules.game)


def _run_reference_policies(config: Config, rules: Rules) -> dict[str, Any]:
    if found := split_reference_policies(rules.game):
        return found
    rewards = [
        (phase.first, _reward_name(block), phase.reward)
        for phase, block in zip(
            rules.phases, [p.reward for p in config.phases] or [config.reward], strict=True
        )
    ]
    learning = [number for number, one in enumerate(config.seats) if learner_of(one) is not None]
    found = _seat_references(config, rules.game, rewards, learning[0])
    # Seats share their reference values in symmetric games only.
    for seat in learning[1:]:
        if found and not same_for_all(rules.game):
            references = _seat_references(config, rules.game, rewards, seat)
            found.setdefault("by_seat", {})[str(seat)] = references
    return found


def _seat_references(
    config: Config, game: Game, rewards: Sequence[tuple[int, str, Reward]], seat: int
) -> dict[str, Any]:
    """Reference policies and values for a learner on this seat."""
    other = config.seats[1 - seat] if len(config.seats) == 2 else None
    facing: Callable[[Game], Policy] | None = None
    if other is not None and is_scripted(other):
        strategy = scripted_player(other).strategy
        if not isinstance(strategy, MatrixStrategy):
            return {}

        def facing(game: Game) -> Policy:
            return lambda known: strategy.probabilities(known, game)

    if isinstance(game, RandomTables):
        return mean_reference_policies(game, rewards, facing, seat)
    return reference_policies(game, rewards, facing and facing(game), seat)
