"""How an agent fares in populations of itself and the other agents, from pairwise matches.

The focal and background protocol of Melting Pot (Leibo et al. 2021, ICML, "Scalable Evaluation of
Multi-Agent Reinforcement Learning with Melting Pot") for games of two seats: of `MEMBERS` members,
k are the tested (focal) agent and the others are a background population, here all other agents in
equal shares. Members meet in pairs. With s the agent's payoff per round against itself and v the
one against the background, its mean payoff against the N - 1 others is

    ((k - 1) s + (N - k) v) / (N - 1).

k = 1: a *visitor*; k = N - 1: a *resident*, whom few others visit; k = N is the universalization
test: what if everybody were like this agent (Levine et al. 2020, PNAS 117, 26158-26169)?
"""

from collections.abc import Sequence

from comity.evaluation.statistics import Estimate
from comity.evaluation.tournament.match_arrays import SCORE, Pairs, by_seed, is_fixed, values_of
from comity.evaluation.tournament.metrics import METRICS
from comity.evaluation.tournament.summary_parts import over_environments

MEMBERS = 10
"""N, the members of a population."""

MIXES = {"visitor": 1, "half": 5, "resident": MEMBERS - 1, "everybody": MEMBERS}
"""k, the members that are the tested agent, by the name of the mix."""


def population_payoffs(
    pairs: Pairs,
    agent: str,
    names: Sequence[str],
    repetitions: int,
    limits: tuple[float, float] | None,
    identical: str,
) -> dict[str, Estimate | None]:
    """The agent's mean payoff per round in each of `MIXES`, over environment seeds.

    `names`: all agents; `limits`: range of payoffs; `identical`: the reason for no interval where
    nothing is random. Only seeds on which the agent met itself and everybody count; None: there
    are none.
    """
    others = [name for name in names if name != agent]
    own, visited = (
        values_of(by_seed(pairs, agent, METRICS[SCORE], repetitions, against))
        for against in ([agent], others)
    )
    found: dict[str, Estimate | None] = {}
    for name, members in MIXES.items():
        mixed = ((members - 1) * own + (MEMBERS - members) * visited) / (MEMBERS - 1)
        met = [agent] * (members > 1) + others * (members < MEMBERS)
        fixed = identical if is_fixed(pairs, agent, met) else ""
        found[name] = over_environments(mixed, limits, fixed)
    return found
