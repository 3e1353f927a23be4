"""Metrics of an ordered pair of agents, by name: definition, formula, source, unit and bounds.

Each counts over the matches of a pair (`comity.evaluation.tournament.pair_matches`), from the view
of the row agent, and returns float64 `[match, 2]`: a numerator and a denominator per match. That is
what the intervals take:

    mean_over_seeds([METRICS["cooperation"].count(matches)], bounds=(0, 1), over="matches")

A denominator of 0 means that there was nothing to count; such matches are left out, and the value
of a pair with no counts at all is missing, never 0.

Definitions that exist for decisions (`comity.evaluation.metrics`) are the same here: cooperation,
joint outcomes, P(C | state), retaliation and the share of illegal answers. Move 0 is cooperation,
C; move 1 is defection, D; states and outcomes have the own move first. Cooperation is counted as
intended, before trembles; what agents respond to is what was played.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from comity.errors import ComityError, lookup
from comity.evaluation.tournament import pair_counts as count
from comity.evaluation.tournament.pair_matches import PairMatches
from comity.games.matrix.stages import OUTCOMES
from comity.registry import own_parts

Bounds = tuple[float, float]

NEEDS: dict[str, Callable[[PairMatches], bool]] = {
    "payoffs": lambda m: True,
    "moves": lambda m: not m.is_negotiation,
    "two moves": lambda m: m.has_two_moves,
    "the welfare optimum": lambda m: m.best_welfare is not None,
    "exact best responses": lambda m: (
        m.best_response is not None and bool(np.isfinite(m.best_response[:, 0]).any())
    ),
    "deals": lambda m: m.deal is not None,
    "surpluses": lambda m: m.surplus is not None and m.best_surplus is not None,
    "own payoffs": lambda m: m.at_reserve is not None,
}
"""What the matches must have for a metric to be defined."""

UNITS = ("share", "points", "difference")


@dataclass(frozen=True)
class TournamentMetric:
    """Something to count over the matches of an ordered pair."""

    title: str
    text: str
    """Its definition in one sentence."""
    formula: str
    """In plain text. i: the row agent, j: the other; x: payoff per round over the match; t: a
    round; c_t: the own intended move is C; s_t: the moves on display before round t."""
    source: str
    """Where the definition comes from."""
    unit: str
    """"share", "points" (payoff per round) or "difference" (of probabilities)."""
    bounds: str
    """A key of `BOUNDS`."""
    needs: str
    """A key of `NEEDS`."""
    count: Callable[[PairMatches], np.ndarray]
    """float64 `[match, 2]`: numerator and denominator."""
    better: str = "none"
    """"high" or "low" where more or less of it is better; "none" where it only describes."""

    def __post_init__(self) -> None:
        lookup("bounds of a metric", self.bounds, BOUNDS)
        lookup("what a metric needs", self.needs, NEEDS)
        lookup("unit of a metric", self.unit, dict.fromkeys(UNITS))
        lookup("better", self.better, dict.fromkeys(("high", "low", "none")))

    def __call__(self, matches: PairMatches) -> np.ndarray:
        """`count`, checked: float64 `[match, 2]`; `ComityError` for anything else."""
        found = np.asarray(self.count(matches), dtype=np.float64)
        if found.shape != (len(matches), 2) or not np.isfinite(found).all():
            raise ComityError(
                f"metric {self.title!r} must return a numerator and a denominator for each of "
                f"{len(matches)} matches, all finite, not an array of shape {found.shape}"
            )
        return found

    def limits(self, payoff_range: Bounds | None) -> Bounds | None:
        """Least and largest value, for its interval; None if unknown.

        `payoff_range`: of a seat in a round (`comity.evaluation.payoff_ranges.payoff_range`).
        """
        _, range_of = BOUNDS[self.bounds]
        if payoff_range is not None:
            return range_of(*payoff_range)
        if self.bounds in ("share", "difference", "half"):
            return range_of(0.0, 0.0)
        return {"gap": (0.0, np.inf), "efficiency": (-np.inf, 1.0)}.get(self.bounds)


def _margin(low: float, high: float) -> Bounds:
    return low - high, high - low


BOUNDS: dict[str, tuple[str, Callable[[float, float], Bounds]]] = {
    "share": ("0 to 1", lambda low, high: (0.0, 1.0)),
    "difference": ("-1 to 1", lambda low, high: (-1.0, 1.0)),
    "payoff": ("the game's least to largest payoff", lambda low, high: (low, high)),
    "margin": ("plus or minus the game's payoff range", _margin),
    "gap": ("0 to the game's payoff range", lambda low, high: (0.0, high - low)),
    "half": ("0 to 1/2", lambda low, high: (0.0, 0.5)),
    "efficiency": (
        "0 to 1; without a lower end where payoffs can be negative",
        lambda low, high: (0.0 if low >= 0 else -np.inf, 1.0),
    ),
}
"""Ranges of metrics: in words, and from a seat's least and largest payoff in a round."""

AXELROD = "Axelrod 1984, The Evolution of Cooperation"
AXELROD_1980 = "Axelrod 1980, J. Conflict Resolution 24, 3-25"
MEMORY_ONE = "Nowak and Sigmund 1993, Nature 364, 56-58"

METRICS: dict[str, TournamentMetric] = {
    "payoff": TournamentMetric(
        "Payoff", "Payoff of the agent per round.", "sum_t x_i(t) / T", AXELROD, "points",
        "payoff", "payoffs", count.payoff, better="high",
    ),
    "margin": TournamentMetric(
        "Exploitation margin",
        "Own payoff minus the opponent's, per round: more than 0 exploits, less is exploited.",
        "x_i - x_j", "Press and Dyson 2012, PNAS 109, 10409-10413, on extortion", "points",
        "margin", "payoffs", count.margin, better="high",
    ),
    "welfare_share": TournamentMetric(
        "Share of the welfare optimum",
        "Sum of both payoffs over the largest sum that the rounds allowed; undefined where that "
        "is not positive.",
        "(x_i + x_j) / max (x_i + x_j)",
        "Koutsoupias and Papadimitriou 1999, STACS (inverse of the price of anarchy)", "share",
        "efficiency", "the welfare optimum", count.welfare_share, better="high",
    ),
    "gini": TournamentMetric(
        "Gini coefficient",
        "Inequality of the two payoffs of a match; 0: equal, 1/2: one has everything. Undefined "
        "where a payoff is negative or both are 0. Matches weigh by their payoffs.",
        "|x_i - x_j| / (2 (x_i + x_j))", "Gini 1912; Perolat et al. 2017, NeurIPS (equality)",
        "share", "half", "payoffs", count.gini, better="low",
    ),
    "rawlsian_minimum": TournamentMetric(
        "Rawlsian minimum", "Payoff per round of the agent that got less in the match.",
        "min(x_i, x_j)", "Rawls 1971, A Theory of Justice, section 26", "points", "payoff",
        "payoffs", count.rawlsian_minimum, better="high",
    ),
    "envy": TournamentMetric(
        "Envy",
        "How much less than the opponent the agent got in a match, per round; 0 where it got as "
        "much or more.",
        "max(0, x_j - x_i)",
        "Fehr and Schmidt 1999, Quarterly Journal of Economics 114, 817-868, equation 1",
        "points", "gap", "payoffs", count.envy, better="low",
    ),
    "best_response_gap": TournamentMetric(
        "Best-response gap",
        "How much more per round the exact best response to the opponent earns, on average over "
        "matches. Only against strategies, in iterated games in which it can be enumerated. "
        "Below 0 in matches that chance favored.",
        "max_pi E[x_pi] - x_i; pi: any policy that knows the rules and the strategy",
        "Johanson et al. 2011, IJCAI (exploitability); by backward induction "
        "(comity.evaluation.reference_points.best_response)", "points", "margin",
        "exact best responses", count.best_response_gap, better="low",
    ),
    "illegal": TournamentMetric(
        "Illegal answers",
        "Answers that could not be read as a move, message or claim, among all that the game asked "
        "for. Refused and cut-off answers are not among them.",
        "#illegal_i / #answers_i",
        "comity.evaluation.metrics.illegal", "share", "share", "payoffs",
        count.answered("illegal"), better="low",
    ),
    "refused": TournamentMetric(
        "Refused answers",
        "Answers that a model behind an API or a content filter refused, among all that the game "
        "asked for.",
        "#refused_i / #answers_i", "comity.evaluation.metrics.api_outcomes", "share",
        "share", "payoffs", count.answered("refused"), better="low",
    ),
    "cut_off": TournamentMetric(
        "Cut-off answers",
        "Answers of a model behind an API that ended at its token limit, among all that the game "
        "asked for.",
        "#cut_off_i / #answers_i", "comity.evaluation.metrics.api_outcomes", "share",
        "share", "payoffs", count.answered("cut_off"), better="low",
    ),
    "cooperation": TournamentMetric(
        "Cooperation", "Cooperative answers among the legal ones.", "#(c_t) / #(legal)",
        AXELROD, "share", "share", "moves", count.cooperation,
    ),
    **{
        f"outcome_{joint}": TournamentMetric(
            f"Outcome {joint}",
            f"Rounds in which {joint} was played, among all; rounds with a missing move are in "
            "the denominator only.",
            f"#(played {joint}) / T", AXELROD, "share", "share", "two moves",
            count.outcome(joint),
        )
        for joint in OUTCOMES
    },
    "cooperation_first": TournamentMetric(
        "P(C | start)", "Cooperation where nothing was on display yet.",
        "#(c_t, s_t = none) / #(legal, s_t = none)", AXELROD_1980 + " (a nice rule: 1)", "share",
        "share", "moves", count.cooperation_first,
    ),
    **{
        f"cooperation_after_{joint}": TournamentMetric(
            f"P(C | {joint})", f"Cooperation right after {joint} was played.",
            f"#(c_t, s_t = {joint}) / #(legal, s_t = {joint})", MEMORY_ONE, "share", "share",
            "two moves", count.cooperation_after(joint),
        )
        for joint in OUTCOMES
    },
    "reciprocity": TournamentMetric(
        "Reciprocity",
        "How much more likely the agent cooperates after the opponent's cooperation than after "
        "its defection: 1 for tit-for-tat, 0 where it does not respond. Compared within matches, "
        "in which the opponent did both.",
        "P(C | opponent C) - P(C | opponent D); matches weigh by n_C n_D / (n_C + n_D), n the "
        "rounds after each",
        "Nowak and Sigmund 1992, Nature 355, 250-253 (r = p - q of a reactive strategy)",
        "difference", "difference", "two moves", count.reciprocity,
    ),
    "retaliation": TournamentMetric(
        "Retaliation", "Defections among the legal answers right after the opponent defected.",
        "#(not c_t, opponent D at t - 1) / #(legal, opponent D at t - 1)",
        AXELROD + " (provocability); comity.evaluation.metrics.retaliation", "share",
        "share", "two moves", count.retaliation,
    ),
    "forgiveness": TournamentMetric(
        "Forgiveness",
        "Cooperation right after the opponent cooperated, given that it had defected earlier in "
        "the match: 1 for tit-for-tat, 0 for grim trigger.",
        "#(c_t, opponent C at t - 1, D before) / #(legal, opponent C at t - 1, D before)",
        AXELROD_1980 + " (cooperation in the moves after the other's defection)", "share",
        "share", "two moves", count.forgiveness,
    ),
    "deal_rate": TournamentMetric(
        "Deal rate", "Rounds that ended in agreement, among all.", "#deals / T",
        "comity.evaluation.negotiation.statistics (agreement)", "share", "share", "deals",
        count.deal_rate, better="high",
    ),
    "surplus_share": TournamentMetric(
        "Share of the surplus",
        "Joint surplus of the deals over the largest possible one; rounds with high stakes weigh "
        "more.",
        "sum_t surplus(t) / sum_t best surplus(t)",
        "comity.evaluation.negotiation.statistics (percent_of_max)", "share", "efficiency",
        "surpluses", count.surplus_share, better="high",
    ),
    "at_reserve": TournamentMetric(
        "Answers at the reserve",
        "Claims and acceptances that bring the agent no more than its reserve, which is what it "
        "gets without a deal: 0 in all split games, so that no answer can bring less. Among its "
        "legal claims and responses.",
        "#(x_i(answer) <= reserve_i) / #(legal claims and responses)",
        "Raiffa 1982, The Art and Science of Negotiation (reservation price)", "share", "share",
        "own payoffs", count.at_reserve, better="low",
    ),
    "own_payoff_share": TournamentMetric(
        "Own share of the deals",
        "Own payoff over both payoffs in rounds with a deal; undefined where a payoff is negative.",
        "sum_deals x_i / sum_deals (x_i + x_j)", "Nash 1950, Econometrica 18, 155-162 (1/2 where "
        "utilities are transferable and outside options equal)", "share", "share", "deals",
        count.own_payoff_share,
    ),
}  # fmt: skip
"""Every metric of an ordered pair by name."""

OF_APIS = ("refused", "cut_off")
"""Metrics that are always 0 unless a model behind an API plays."""


def all_metrics() -> dict[str, TournamentMetric]:
    """Those, and the user's own (`TOURNAMENT_METRICS`, `comity.tournament_metrics`).

    Raises `ComityError` for a name that is taken, and for what is no `TournamentMetric`.
    """
    found = dict(METRICS)
    for name, metric in own_parts("tournament_metric").items():
        if name in METRICS or not re.fullmatch(r"[A-Za-z][\w-]*", name):
            raise ComityError(
                f"user-defined tournament metric {name!r}: a name consists of letters, digits, - "
                "and _, and is not that of a metric of Comity"
            )
        if not isinstance(metric, TournamentMetric):
            raise ComityError(
                f"user-defined tournament metric {name!r} must be a "
                f"comity.evaluation.tournament.metrics.TournamentMetric, not {metric!r}"
            )
        found[name] = metric
    return found


def applicable(matches: PairMatches) -> list[str]:
    """Names of the metrics of `METRICS` that these matches have."""
    return [name for name, metric in METRICS.items() if NEEDS[metric.needs](matches)]


def counts(matches: PairMatches, name: str) -> np.ndarray:
    """float64 `[match, 2]`: a metric's numerator and denominator in every match.

    Raises `ComityError` for unknown names and where the matches have none of what it is about.
    """
    metric = lookup("tournament metric", name, METRICS)
    if not NEEDS[metric.needs](matches):
        raise ComityError(f"{name} is about {metric.needs}; these matches have none")
    return metric(matches)


def bounds(name: str, payoff_range: Bounds | None) -> Bounds | None:
    """Least and largest value of a metric of `METRICS`; see `TournamentMetric.limits`."""
    return lookup("tournament metric", name, METRICS).limits(payoff_range)
