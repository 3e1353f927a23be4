"""The summary of a tournament of N seats: every number of its page, as plain values.

The format is `ManySeatsSummary` in `comity.reports.tournament.seats_format`. All estimates are
over environment seeds: on each, an agent's values in its compositions are averaged with their
weights (`comity.evaluation.tournament.many_seats.compositions`). Intervals speak of other
environment seeds, with these agents and these compositions.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from comity.errors import ComityError
from comity.evaluation.metagame.deviation_ratings import deviation_ratings_of_compositions
from comity.evaluation.payoff_ranges import TOO_MANY, payoff_range
from comity.evaluation.statistics import mean_over_seeds
from comity.evaluation.tournament.many_seats.compositions import Composition, Compositions
from comity.evaluation.tournament.many_seats.metrics import GroupMetric, metrics_of
from comity.evaluation.tournament.many_seats.mixes import PAYOFF, best_visitors, focal_payoffs
from comity.evaluation.tournament.many_seats.records import SeatedMatch
from comity.evaluation.tournament.many_seats.values import Played, by_seed
from comity.evaluation.tournament.match_arrays import balanced, best_welfare
from comity.evaluation.tournament.metrics import OF_APIS
from comity.evaluation.tournament.summary_parts import (
    IDENTICAL,
    Json,
    compare_agents,
    estimate,
    move_name,
    rank_agents,
    stage_references,
)
from comity.games.base import Game
from comity.games.matrix.iterated import Iterated

TRANSCRIPTS = 1
"""Matches of a composition that the page shows."""
MAX_TRANSCRIPTS = 400
"""Matches that the page shows in all."""
MAX_RATED = 1000
"""Most compositions of which deviation ratings are computed: a page must be there in seconds."""

Limits = tuple[float, float] | None


def summarize_seats(
    header: Mapping[str, Any],
    matches: Iterable[SeatedMatch],
    game: Game,
    repetitions: int,
    chosen: Compositions,
    outcomes: Mapping[str, Json] | None = None,
    usage: Mapping[str, Json] | None = None,
) -> Json:
    """The summary; arguments as those of `comity.evaluation.tournament.summary.summarize`.

    `chosen`: the compositions that were to be played, with their weights; others do not count.
    """
    kept = [match for match in matches if match.composition in chosen.weights]
    played = Played.of(kept, repetitions, _best_welfare(game))
    names = [player["name"] for player in header["players"]]
    payoffs = payoff_range(game)
    has_api = any(player["kind"] == "api" for player in header["players"])
    metrics = {
        name: metric
        for name, metric in metrics_of(game.seats).items()
        if (has_api or name not in OF_APIS) and _applies(name, game)
    }
    agents = _agents(played, names, metrics, chosen, payoffs, game.seats)
    legal = played.legal()
    is_clean = sum(map(len, legal.matches.values())) == len(kept)
    total = len(chosen.weights) * repetitions
    done = sum(
        repetitions if some[0].deterministic else len(some) for some in played.matches.values()
    )
    return {
        "schema": 1,
        "kind": "many-seats",
        **header,
        "seats": game.seats,
        "matches": repetitions,
        "played": done,
        "missing": total - done,
        "existing": chosen.existing,
        "drawn": sum(chosen.weights.values()) if chosen.sampled else None,
        "metrics": {
            name: _defined(metric, payoffs, game.seats) for name, metric in metrics.items()
        },
        "agents": agents,
        "clean": None if is_clean else _agents(legal, names, metrics, chosen, payoffs, game.seats),
        "compositions": _compositions(played, chosen, metrics, payoffs, game.seats),
        "mixes": _mixes(played, names, payoffs) if played.matches else {},
        "visitors": [
            {"resident": one.resident, "visitor": one.visitor, "gain": estimate(one.gain)}
            for one in (best_visitors(played, names, payoffs, IDENTICAL) if played.matches else ())
        ],
        "deviation_ratings": _deviation_ratings(played, chosen),
        "comparisons": _comparisons(played, agents, chosen, payoffs),
        "outcomes": dict(outcomes or {}),
        "usage": dict(usage or {}),
        "references": stage_references(game),
        "transcripts": _transcripts(played, game),
    }


def _applies(name: str, game: Game) -> bool:
    """Whether a metric has a meaning: cooperation is the first of two moves."""
    return len(game.moves) == 2 or not name.startswith("cooperation_after")


def _best_welfare(game: Game) -> float | None:
    """The largest sum of payoffs in a round; None where it cannot be enumerated."""
    if not isinstance(game, Iterated) or game.sample_instance(0) is not game:
        return None
    return best_welfare(game) if len(game.moves) ** game.seats <= TOO_MANY else None


def _bounds(metric: GroupMetric, payoffs: Limits, seats: int) -> Limits:
    if payoffs is not None:
        return metric.bounds(*payoffs, seats)
    return metric.bounds(0.0, 0.0, seats) if metric.unit == "share" else None


def _defined(metric: GroupMetric, payoffs: Limits, seats: int) -> Json:
    limits = _bounds(metric, payoffs, seats)
    finite = [None, None] if limits is None else [x if np.isfinite(x) else None for x in limits]
    return {
        "label": metric.title,
        "definition": metric.text,
        "formula": metric.formula,
        "source": metric.source,
        "unit": metric.unit,
        "bounds": finite,
        "better": metric.better,
    }


def weights_of(agent: str, chosen: Compositions) -> dict[Composition, float]:
    """The weight of every composition in the agent's mean: that of its seats."""
    return {one: w * one.count(agent) for one, w in chosen.weights.items() if agent in one and w}


def _agents(
    played: Played,
    names: Sequence[str],
    metrics: Mapping[str, GroupMetric],
    chosen: Compositions,
    payoffs: Limits,
    seats: int,
) -> list[Json]:
    """Every agent over its compositions, with its rank."""
    agents: list[Json] = []
    for agent in names:
        weights = weights_of(agent, chosen)
        fixed = IDENTICAL if played.is_fixed(weights) else ""
        found = {}
        for name, metric in metrics.items():
            limits = _bounds(metric, payoffs, seats)
            values = by_seed(played, agent, metric, weights, limits)
            over = mean_over_seeds([values], limits, "environment seeds", fixed)
            found[name] = estimate(over)
        missing = sum(one not in played.matches for one in weights)
        agents.append({"name": agent, "metrics": found, "without": missing})
    rank_agents(agents)
    return agents


def _compositions(
    played: Played,
    chosen: Compositions,
    metrics: Mapping[str, GroupMetric],
    payoffs: Limits,
    seats: int,
) -> list[Json]:
    """What every composition came to: its welfare, its cooperation, and its agents' payoffs."""
    rows = []
    for composition, some in played.matches.items():
        agents = Counter(composition)
        fixed = IDENTICAL if played.is_fixed([composition]) else ""

        def value(agent: str, name: str, fixed: str = fixed, of: Composition = composition) -> Json:
            metric = metrics[name]
            values = played.counts(of, agent, metric)
            limits = _bounds(metric, payoffs, seats)
            return estimate(mean_over_seeds([values], limits, "environment seeds", fixed))

        rows.append(
            {
                "agents": dict(agents),
                "weight": chosen.weights[composition],
                "matches": played.repetitions if some[0].deterministic else len(some),
                "welfare_share": value(composition[0], "welfare_share"),
                "gini": value(composition[0], "gini"),
                "payoffs": {agent: value(agent, "payoff") for agent in agents},
                "cooperation": {agent: value(agent, "cooperation") for agent in agents},
            }
        )
    return rows


def _mixes(played: Played, names: Sequence[str], payoffs: Limits) -> Json:
    """Focal and background: by agent over all backgrounds, and with each one."""
    found: Json = {}
    for agent in names:
        others = [name for name in names if name != agent]
        backgrounds = {"": others, **{other: [other] for other in others}}
        found[agent] = {
            background: [
                {
                    "focal": one.focal,
                    "own": estimate(one.own),
                    "background": None if one.background is None else estimate(one.background),
                }
                for one in focal_payoffs(played, agent, some, payoffs, IDENTICAL)
            ]
            for background, some in backgrounds.items()
        }
    return found


def _deviation_ratings(played: Played, chosen: Compositions) -> dict[str, float]:
    """Of the empirical game of N seats; {} where it is not known whole, or too large."""
    if (
        chosen.sampled
        or len(chosen.weights) > MAX_RATED
        or set(chosen.weights) - set(played.matches)
    ):
        return {}
    sums = {
        one: {agent: played.counts(one, agent, PAYOFF).sum(axis=0) for agent in set(one)}
        for one in chosen.weights
    }
    payoffs = {
        one: {agent: float(paid / rounds) for agent, (paid, rounds) in of.items()}
        for one, of in sums.items()
    }
    with suppress(ComityError):
        return deviation_ratings_of_compositions(payoffs)
    return {}


def _comparisons(
    played: Played, agents: Sequence[Json], chosen: Compositions, payoffs: Limits
) -> list[Json]:
    """Paired comparisons of payoffs on the seeds on which both agents met everybody."""
    values, fixed = {}, []
    for agent in (one["name"] for one in sorted(agents, key=lambda one: one["rank"])):
        weights = weights_of(agent, chosen)
        sums = np.array([played.counts(one, agent, PAYOFF) for one in weights])
        if len(sums):
            sums[:, (sums[:, :, 1] <= 0).any(axis=0)] = 0.0
            values[agent] = balanced(sums, weights=np.array(list(weights.values())))
        else:
            values[agent] = np.zeros((1, 2))
        if played.is_fixed(weights):
            fixed.append(agent)
    return compare_agents(values, fixed, payoffs)


def _transcripts(played: Played, game: Game) -> list[Json]:
    """The first matches of every composition, round by round."""
    shown = [one for some in played.matches.values() for one in some[:TRANSCRIPTS]]
    return [
        {
            "seats": list(match.agents),
            "seed": match.seed,
            "rounds": [
                {
                    "moves": [move_name(seat[r], game) for seat in match.moves],
                    "payoffs": [float(seat[r]) for seat in match.payoffs],
                }
                for r in range(len(match.moves[0]))
            ],
        }
        for match in shown[:MAX_TRANSCRIPTS]
    ]
