"""The exact optimum of a reward against tit-for-tat, against full enumeration of histories."""

from itertools import product

import numpy as np
import pytest

from comity.errors import ComityError
from comity.evaluation.moral.optimum import optimum
from comity.evaluation.moral.reference_policies import reference_policies
from comity.games import make_game
from comity.games.base import Observation, PlayedMatches
from comity.games.enumerate import final_states
from comity.games.matrix.iterated import ILLEGAL_RULES, Iterated
from comity.players.scripted.catalog import MATRIX_STRATEGIES
from comity.registry import build
from comity.rewards import REWARDS
from comity.rewards.base import BaseReward

GAME = make_game(
    {
        "name": "prisoners_dilemma_4310",
        "length": {"name": "fixed", "rounds": 5},
        "initial_state": "uniform",
        "illegal": "carry",
    }
)
OWN_DEONTOLOGICAL = {
    "name": "weighted",
    "terms": {"own": {"weight": 1.0}, "deontological": {"weight": 1.0, "penalty": 3.0}},
}


GAMES_2X2 = (
    "prisoners_dilemma",
    "prisoners_dilemma_4310",
    "stag_hunt",
    "chicken",
    "bach_or_stravinsky",
    "defective_coordination",
    "volunteers_dilemma",
)
MEMORY_ONE = (
    "always_cooperate",
    "always_defect",
    "tit_for_tat",
    "suspicious_tit_for_tat",
    "random",
)


def matrix(name: str, rounds: int, start: object = "none") -> Iterated:
    length = {"name": "fixed", "rounds": rounds}
    found = make_game({"name": name, "length": length, "initial_state": start, "illegal": "carry"})
    assert isinstance(found, Iterated)
    return found


def reward(block: dict[str, object] | str) -> BaseReward:
    return build("reward", {"name": block} if isinstance(block, str) else block, REWARDS)


def against(name: str):  # type: ignore[no-untyped-def]
    strategy = build("player", name, MATRIX_STRATEGIES)
    return lambda known: strategy.probabilities(known, GAME)


def enumerated(block: dict[str, object] | str, opponent: str, discount: float) -> set[tuple]:  # type: ignore[type-arg]
    """The best deterministic memory-one policies: every history of every one is played out."""
    found = {}
    for policy in product((0.0, 1.0), repeat=4):

        def law(known: Observation, table: tuple[float, ...] = policy) -> tuple[float, float]:
            own, other = known.own_first(known.last)  # type: ignore[arg-type]
            return table[2 * own + other], 1 - table[2 * own + other]

        states = final_states(GAME, [law, against(opponent)])
        played = PlayedMatches.from_histories(
            [GAME.history(s) for _, s in states], [s.prior for _, s in states]
        )
        values = reward(block)(played, GAME)[:, 0]
        weights = np.array([p for p, _ in states])
        found[policy] = float(weights @ (values @ discount ** np.arange(5)))
    best = max(found.values())
    return {policy for policy, value in found.items() if np.isclose(value, best)}


@pytest.mark.parametrize("discount", [0.0, 0.9])
@pytest.mark.parametrize("opponent", ["tit_for_tat", "always_defect", "always_cooperate", "random"])
@pytest.mark.parametrize(
    "block", ["own", "utilitarian", "deontological", "equality", OWN_DEONTOLOGICAL]
)
def test_it_is_the_best_of_all_histories(
    block: dict[str, object] | str, opponent: str, discount: float
) -> None:
    found = tuple(optimum(GAME, reward(block), against(opponent), discount).values())
    winners = enumerated(block, opponent, discount)
    decided = [i for i, chance in enumerate(found) if chance != 0.5]
    assert any(all(policy[i] == found[i] for i in decided) for policy in winners)


def test_own_and_deontological_against_tit_for_tat() -> None:
    """Discount 0: reciprocate (3 > 4 - 3 after cooperation, 1 > 0 after defection).

    Discount 0.9: after the other's cooperation cooperating stays best. After its defection, by
    hand over five rounds: the own last move decides what tit-for-tat plays now, so cooperating
    first brings cooperation in the next four rounds and is worth its cost.
    """
    chosen = reward(OWN_DEONTOLOGICAL)
    assert optimum(GAME, chosen, against("tit_for_tat"), 0.0) == {
        "CC": 1.0,
        "CD": 0.0,
        "DC": 1.0,
        "DD": 0.0,
    }
    patient = optimum(GAME, chosen, against("tit_for_tat"), 0.9)
    assert patient["CC"] == patient["DC"] == 1.0
    assert patient["DD"] == 1.0


def test_own_payoff_alone_defects_myopically_and_cooperates_patiently() -> None:
    myopic = optimum(GAME, reward("own"), against("tit_for_tat"), 0.0)
    assert set(myopic.values()) == {0.0}
    assert optimum(GAME, reward("own"), against("tit_for_tat"), 0.9)["CC"] == 1.0


def test_indifference_is_said() -> None:
    """Deontological after the other's defection: nothing is worth anything."""
    found = optimum(GAME, reward("deontological"), against("always_defect"), 0.0)
    assert found == {"CC": 1.0, "CD": 0.5, "DC": 1.0, "DD": 0.5}


def test_whoever_remembers_more_is_refused() -> None:
    with pytest.raises(ComityError, match="remembers more"):
        optimum(GAME, reward("own"), against("grim_trigger"), 0.0)


def test_reference_policies_by_hand() -> None:
    """Always defect against tit-for-tat: 2.5 in the first round, then 1, a mean of 1.3."""
    found = reference_policies(GAME, [(0, "own", reward("own"))], against("tit_for_tat"))
    phase = {"first": 0, "reward": "own", "low": -6.0, "high": 4.0, "legal_low": 0.0}
    assert found["phases"] == [phase]
    defect = found["payoff_blind"]["always_defect"]
    assert defect["reward"] == pytest.approx([1.3])
    assert defect["normalized"] == pytest.approx([0.73])
    assert defect["action_types"]["D|C"] == pytest.approx(0.2)
    assert defect["action_types"]["D|D"] == pytest.approx(0.8)
    cooperate = found["payoff_blind"]["always_cooperate"]
    assert cooperate["reward"] == pytest.approx([2.7])
    assert found["optimal_policies"][0]["0"] == {"CC": 0.0, "CD": 0.0, "DC": 0.0, "DD": 0.0}


def test_random_payoffs_and_other_games_have_no_reference_policies() -> None:
    sample_instance = make_game({"name": "random_dilemma"})
    assert reference_policies(sample_instance, [(0, "own", reward("own"))], None) == {}
    goods = make_game({"name": "public_goods"})
    assert reference_policies(goods, [(0, "own", reward("own"))], None) == {}


@pytest.mark.parametrize("name", GAMES_2X2)
@pytest.mark.parametrize("seat", [0, 1])
def test_a_single_round_from_nothing_has_the_best_reply_at_its_start(name: str, seat: int) -> None:
    game = matrix(name, rounds=1)
    for opponent in MEMORY_ONE:
        strategy = build("player", opponent, MATRIX_STRATEGIES)
        law = strategy.probabilities(Observation(1 - seat, 2, 0, (), None), game)
        worth = [
            sum(
                p * game.stage.payoff((own, other) if seat == 0 else (other, own))[seat]
                for other, p in enumerate(law)
            )
            for own in range(2)
        ]
        best = 0.5 if worth[0] == worth[1] else float(worth[0] > worth[1])
        found = optimum(game, reward("own"), lambda k: strategy.probabilities(k, game), 0.9, seat)  # noqa: B023
        assert found == {"start": best}


@pytest.mark.parametrize("discount", [0.0, 0.9])
@pytest.mark.parametrize("opponent", MEMORY_ONE)
@pytest.mark.parametrize("name", ["prisoners_dilemma_4310", "bach_or_stravinsky", "stag_hunt"])
def test_the_first_move_is_the_best_of_all_histories(
    name: str, opponent: str, discount: float
) -> None:
    """Start none: every first move with every memory-one policy after it, played out."""
    game, strategy = matrix(name, rounds=3), build("player", opponent, MATRIX_STRATEGIES)
    found = optimum(game, reward("own"), lambda k: strategy.probabilities(k, game), discount)
    rest = [found[state] for state in ("CC", "CD", "DC", "DD")]
    policies = [p for p in product((0.0, 1.0), repeat=4)
                if all(a == b for a, b in zip(p, rest, strict=True) if b != 0.5)]  # fmt: skip
    worth = []
    for first in (1.0, 0.0):
        values = []
        for table in policies:

            def law(
                known: Observation, first: float = first, table: tuple[float, ...] = table
            ) -> tuple[float, float]:
                own, other = known.own_first(known.last) if known.last else (0, 0)
                c = first if known.last is None else table[2 * own + other]  # type: ignore[operator]
                return c, 1 - c

            ends = final_states(game, [law, lambda k: strategy.probabilities(k, game)])
            payoffs = np.array([[r.payoffs[0] for r in game.history(s)] for _, s in ends])
            values.append(np.array([p for p, _ in ends]) @ (payoffs @ discount ** np.arange(3)))
        worth.append(max(values))
    best = 0.5 if np.isclose(*worth) else float(worth[0] > worth[1])
    assert found["start"] == best


@pytest.mark.parametrize("script", MATRIX_STRATEGIES)
@pytest.mark.parametrize("rule", ILLEGAL_RULES)
def test_every_one_shot_game_has_reference_policies(script: str, rule: str) -> None:
    """Against every script, from every start that a game may have, on both seats."""
    strategy = build("player", script, MATRIX_STRATEGIES)
    for name in ("prisoners_dilemma", "bach_or_stravinsky"):
        first, second = make_game({"name": name}).moves
        for start in ("none", "uniform", ["uniform", first], [second, "uniform"], [first, second]):
            block = {"name": name, "length": {"name": "fixed", "rounds": 1}, "initial_state": start}
            game = make_game({**block, "illegal": rule})
            if script == "generous_tit_for_tat" and name == "bach_or_stravinsky":
                continue  # its generosity is that of a symmetric dilemma
            for seat in (0, 1):
                found = reference_policies(
                    game,
                    [(0, "own", reward("own"))],
                    lambda known: strategy.probabilities(known, game),  # noqa: B023
                    seat,
                )
                states = {"start"} if start == "none" else {"CC", "CD", "DC", "DD"}
                assert set(found["optimal_policies"][0]["0"]) == states
                assert set(found["payoff_blind"]) == {
                    "always_cooperate",
                    "always_defect",
                    "reciprocate",
                }
