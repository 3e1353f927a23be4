"""Baselines and reference values for the training curves of a two-seat dilemma.

- The range of each phase's reward, so that rewards of different scales can be drawn as shares
  of it (normalized reward; the normalized regret is 1 minus that).
- Payoff-blind baselines: actions and rewards of always cooperating, always defecting and
  reciprocating against the same opponent. All values are exact, by enumeration of all matches.
- The exact optimal memory-one policy of each reward, for a myopic and a patient learner.
- The minimum and maximum payoff of a seat per round (of any matrix game).

Of a split game: the names of what is split, and what scripted pairs get exactly.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from comity.errors import ComityError
from comity.evaluation import payoff_ranges as ranges
from comity.evaluation.moral.metrics import (
    DecisionArrays,
    action_type_masks,
    normalized,
    payoff_table,
    reward_table,
)
from comity.evaluation.moral.policy_tables import PAYOFF_BLIND_POLICIES
from comity.games.base import Game, Observation, PlayedMatches
from comity.games.enumerate import Policy, final_states
from comity.games.matrix.iterated import Iterated
from comity.games.split.expected_payoffs import reference_payoffs
from comity.games.split.game import Split
from comity.rewards.base import Reward

Json = dict[str, Any]
TOO_MANY = 50_000
"""Matches to enumerate, at most."""


WeightedMatches = tuple[np.ndarray, PlayedMatches]
"""Every match that a policy may have, and its probability."""


def reference_policies(
    game: Game,
    rewards: Sequence[tuple[int, str, Reward]],
    opponent: Policy | None,
    seat: int = 0,
    matches: Mapping[str, WeightedMatches] | None = None,
) -> Json:
    """JSON-ready; `{}` where the game is not one table of two seats and two moves.

    Where every match draws its table, see `comity.evaluation.moral.drawn_payoffs`. `matches`: the
    baselines' matches, if known already.

    `rewards`: first iteration, name and reward of every phase. `opponent` None: somebody who
    plays as oneself does (there is no fixed law of one who learns).
    """
    try:
        payoff_table(game)
    except ComityError:
        return {}
    if game.sample_instance(0) is not game:
        return {}
    phases = []
    for first, name, reward in rewards:
        one = reward_table(reward, game, seat)
        (low, high), legal_low = one.range, one.legal[0]
        phases.append(
            {"first": first, "reward": name, "low": low, "high": high, "legal_low": legal_low}
        )
    return {
        "phases": phases,
        "opponent": "itself" if opponent is None else "the training's",
        "payoff_blind": {
            name: _payoff_blind(matches, game, rewards, phases, seat)
            for name, matches in (
                payoff_blind_matches(game, opponent, seat) if matches is None else matches
            ).items()
        },
        "optimal_policies": [_optima(game, reward, opponent, seat) for _, _, reward in rewards],
    }


def same_for_all(game: Game) -> bool:
    """Whether both seats of a two-by-two game see the same payoffs."""
    return np.array_equal(payoff_table(game, 0), payoff_table(game, 1))


def payoff_range(game: Game) -> Json:
    """`{"payoffs": [low, high]}`: the least and the most that a seat can be paid in a round.

    `{}` where payoffs are drawn per match or depend on a deal, and where there are too many
    joint moves to look at.
    """
    if not isinstance(game, Iterated) or game.sample_instance(0) is not game:
        return {}
    found = ranges.payoff_range(game)
    return {} if found is None else {"payoffs": list(found)}


def split_reference_policies(game: Game) -> Json:
    """`items` and `expected_payoffs` of a split game, JSON-ready; `{}` for any other.

    References are `{pair: {"points", "e1", "e2"}}` of `comity.games.split.expected_payoffs`: what a
    pair of scripts gets a round and seat, its split efficiency and its percent of the maximum. `{}`
    where nothing exact is known of the game.
    """
    if not isinstance(game, Split):
        return {}
    found: Json = {}
    with suppress(ComityError):  # Where there are too many deals to list, there are no lines.
        found = dict(reference_payoffs(game))
    return {"items": list(game.items), "expected_payoffs": found}


def _optima(game: Any, reward: Reward, opponent: Policy | None, seat: int) -> Json:
    """Best P(C | state) by discount; empty where it is not known."""
    if opponent is None:
        return {}
    try:
        from comity.evaluation.moral.optimum import DISCOUNTS, optimum  # needs torch

        return {f"{d:g}": optimum(game, reward, opponent, d, seat) for d in DISCOUNTS}
    except ComityError:
        return {}


def _size(game: Any, opponent: Policy | None) -> float:
    """At most this many matches: the opponent may mix, and hands may tremble."""
    ways = (1 if opponent is None else 2) * (4 if game.noise else 1)
    return float(len(game.initial_distribution(0)) * ways**game.length.longest)


def payoff_blind_matches(
    game: Any, opponent: Policy | None, seat: int
) -> dict[str, WeightedMatches]:
    """The matches of each payoff-blind baseline, enumerated; empty if more than `TOO_MANY`."""
    if _size(game, opponent) > TOO_MANY:
        return {}
    return {
        name: _matches_of(table, game, opponent, seat)
        for name, table in PAYOFF_BLIND_POLICIES.items()
    }


def _matches_of(
    table: np.ndarray, game: Any, opponent: Policy | None, seat: int
) -> WeightedMatches:
    """The matches of one payoff-blind baseline."""

    def policy(known: Observation) -> Sequence[float]:
        # Who is shown nothing begins as if the other had cooperated.
        own, other = (0, 0) if known.last is None else known.own_first(known.last)
        chance = float(table[own, other])
        return chance, 1.0 - chance

    other = policy if opponent is None else opponent
    found = final_states(game, [policy, other] if seat == 0 else [other, policy])
    return np.array([p for p, _ in found]), PlayedMatches.from_histories(
        [game.history(state) for _, state in found], [state.prior for _, state in found]
    )


def _payoff_blind(
    matches: WeightedMatches,
    game: Any,
    rewards: Sequence[tuple[int, str, Reward]],
    phases: Sequence[Json],
    seat: int,
) -> Json:
    """Action types, and each phase's mean reward, of one payoff-blind baseline."""
    weights, played = matches
    weights = weights[:, None] * played.alive
    total = float(weights.sum())
    own, shown = played.intended[:, seat], played.shown[:, 1 - seat]
    answered = DecisionArrays(own, played.moves[:, 1 - seat], played.shown[:, seat], shown)
    types = {
        kind: float((weights * mask).sum()) / total
        for kind, mask in action_type_masks(answered).items()
    }
    result: Json = {"action_types": types, "reward": [], "normalized": []}
    for (_, _, reward), phase in zip(rewards, phases, strict=True):
        mean = float((weights * reward(played, game)[:, seat]).sum()) / total
        result["reward"].append(mean)
        span = phase["high"] > phase["low"]
        share = float(normalized(np.array(mean), phase["low"], phase["high"])) if span else None
        result["normalized"].append(share)
    return result
