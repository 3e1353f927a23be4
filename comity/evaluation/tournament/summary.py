"""The summary of a tournament: every number of its page, as plain values.

The format is that of `comity.reports.tournament.summary_format`. Estimates of a pair are over its
matches; those of an agent are over environment seeds: on each seed its values against all
opponents, on both seats, are averaged with equal weights, so that its mean is that of its pairs'
values. An agent that has no match with one of
its opponents is averaged over the others, which its `unmet` says: it is not comparable. Intervals
speak of other environment seeds, with these agents; another training seed would be another agent.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from comity.evaluation.payoff_ranges import payoff_range
from comity.evaluation.statistics import mean_over_seeds, means_over_units
from comity.evaluation.tournament.empirical_game import empirical_game
from comity.evaluation.tournament.exact_responses import exact_responses
from comity.evaluation.tournament.match_arrays import (
    SCORE,
    Pairs,
    by_seed,
    group_pairs,
    is_fixed,
    unmet,
)
from comity.evaluation.tournament.metrics import (
    METRICS,
    NEEDS,
    OF_APIS,
    TournamentMetric,
    all_metrics,
)
from comity.evaluation.tournament.populations import population_payoffs
from comity.evaluation.tournament.records import StoredMatch
from comity.evaluation.tournament.spoken import Spoken
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
from comity.games.matrix.stages import MAX_JOINT_MOVES, interchangeable
from comity.players.scripted.catalog import example_turns

TRANSCRIPTS = 2
"""Matches of a pair that the page shows."""
MAX_TRANSCRIPTS = 400
"""Matches that the page shows in all."""


def is_symmetric(game: Game) -> bool:
    """Whether all seats have the same choices and payoffs."""
    if isinstance(game, Iterated):
        if game.sample_instance(0) is not game:
            return True  # Drawn tables are symmetric.
        if not interchangeable(game.stage):
            return False
        if len(game.moves) ** game.seats > MAX_JOINT_MOVES:
            return True  # A stage of so many seats that calls them interchangeable.
        earned: dict[Any, float] = {}
        for joint in product(range(len(game.moves)), repeat=game.seats):
            for seat, paid in enumerate(game.stage.payoff(joint)):
                place = joint[seat], tuple(sorted(joint[:seat] + joint[seat + 1 :]))
                if earned.setdefault(place, paid) != paid:
                    return False
        return True
    asked = [{turn.kind for turn in example_turns(game) if turn.seat == s} for s in (0, 1)]
    return asked[0] == asked[1]


def summarize(
    header: Mapping[str, Any],
    matches: Iterable[StoredMatch],
    game: Game,
    repetitions: int,
    outcomes: Mapping[str, Json] | None = None,
    usage: Mapping[str, Json] | None = None,
    strategies: Mapping[str, Any] | None = None,
    spoken: Mapping[tuple[str, str, int], Spoken] | None = None,
) -> Json:
    """The summary of a tournament.

    `header`: what the page says of it (title, game, seed, players, version, created, and so on);
    `repetitions`: matches of each ordered pair that were asked for; `outcomes`: how the answers of
    language models ended, by player; `usage`: tokens and cost of models behind APIs;
    `strategies`: those of the scripted players, for exact best responses; `spoken`: what was said
    in negotiations.
    """
    kept = list(matches)
    names = [player["name"] for player in header["players"]]
    pairs = group_pairs(kept, game, exact_responses(game, strategies or {}))
    payoffs = payoff_range(game)
    has_api = any(player["kind"] == "api" for player in header["players"])
    used = {
        name: metric
        for name, metric in all_metrics().items()
        if (has_api or name not in OF_APIS)
        and any(NEEDS[metric.needs](p.matches) for p in pairs.values())
    }
    whole = _tables(pairs, names, used, payoffs, repetitions)
    legal = {key: pair.legal() for key, pair in pairs.items()}
    legal = {key: pair for key, pair in legal.items() if len(pair.matches)}
    is_clean = sum(len(p.matches) for p in legal.values()) == len(kept)
    expected = len(names) ** 2 * repetitions
    played = sum(repetitions if p.deterministic else len(p.matches) for p in pairs.values())
    return {
        "schema": 1,
        "kind": "tournament",
        **header,
        "matches": repetitions,
        "played": played,
        "missing": expected - played,
        "metrics": {name: _defined(metric, payoffs) for name, metric in used.items()},
        **whole,
        "clean": None if is_clean else _tables(legal, names, used, payoffs, repetitions),
        "outcomes": dict(outcomes or {}),
        "usage": dict(usage or {}),
        "references": stage_references(game),
        "metagame": empirical_game(pairs, names),
        "populations": {
            name: {
                mix: estimate(found)
                for mix, found in population_payoffs(
                    pairs, name, names, repetitions, payoffs, IDENTICAL
                ).items()
            }
            for name in names
            if len(names) > 1
        },
        "comparisons": _comparisons(pairs, whole["agents"], payoffs, repetitions),
        "transcripts": transcripts(kept, game, spoken),
    }


def _defined(metric: TournamentMetric, payoffs: tuple[float, float] | None) -> Json:
    limits = metric.limits(payoffs)
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


def _tables(
    pairs: Pairs,
    names: Sequence[str],
    metrics: Mapping[str, TournamentMetric],
    payoffs: tuple[float, float] | None,
    repetitions: int,
) -> Json:
    """The pairs and the agents with their metrics."""
    found: dict[tuple[str, str], Json] = {key: {} for key in pairs}
    for name, metric in metrics.items():
        keys = [key for key, pair in pairs.items() if NEEDS[metric.needs](pair.matches)]
        counts = [metric(pairs[key].matches) for key in keys]
        exact = [IDENTICAL if pairs[key].deterministic else "" for key in keys]
        means = means_over_units(counts, metric.limits(payoffs), "matches", exact)
        for key, mean in zip(keys, means, strict=True):
            found[key][name] = estimate(mean)
    rows = [
        {
            "row": row,
            "column": column,
            "matches": repetitions if pair.deterministic else len(pair.matches),
            "identical": pair.deterministic,
            "metrics": found[row, column],
        }
        for (row, column), pair in pairs.items()
    ]
    agents: list[Json] = []
    for agent in names:
        fixed = IDENTICAL if is_fixed(pairs, agent) else ""
        own = {}
        for name, metric in metrics.items():
            limits = metric.limits(payoffs)
            values = by_seed(pairs, agent, metric, repetitions, limits=limits)
            own[name] = estimate(mean_over_seeds([values], limits, "environment seeds", fixed))
        agents.append({"name": agent, "metrics": own, "unmet": unmet(pairs, agent, names)})
    rank_agents(agents)
    return {"pairs": rows, "agents": agents}


def _comparisons(
    pairs: Pairs,
    agents: Sequence[Json],
    payoffs: tuple[float, float] | None,
    repetitions: int,
) -> list[Json]:
    """Paired comparisons of payoffs on the seeds on which both agents met everybody."""
    ranked = [one["name"] for one in sorted(agents, key=lambda one: one["rank"])]
    score = METRICS[SCORE]
    values = {one: by_seed(pairs, one, score, repetitions, ranked) for one in ranked}
    return compare_agents(values, [agent for agent in ranked if is_fixed(pairs, agent)], payoffs)


def shown_matches(matches: Iterable[StoredMatch]) -> list[StoredMatch]:
    """The first matches of every pair, which the page shows round by round."""
    per_pair = Counter[tuple[str, str]]()
    found: list[StoredMatch] = []
    for match in sorted(matches, key=lambda one: one.repetition):
        key = (match.row, match.column)
        if per_pair[key] < TRANSCRIPTS and len(found) < MAX_TRANSCRIPTS:
            per_pair[key] += 1
            found.append(match)
    return found


def transcripts(
    matches: Sequence[StoredMatch],
    game: Game,
    spoken: Mapping[tuple[str, str, int], Spoken] | None = None,
) -> list[Json]:
    """`shown_matches` as the page takes them; `spoken`: what was said and claimed in them."""
    return [_transcript(one, game, (spoken or {}).get(one.key)) for one in shown_matches(matches)]


def _transcript(match: StoredMatch, game: Game, spoken: Spoken | None) -> Json:
    rounds: list[Json] = []
    played = zip(
        zip(match.moves_row, match.moves_column, strict=True),
        zip(match.payoffs_row, match.payoffs_column, strict=True),
        strict=True,
    )
    for number, (moves, payoffs) in enumerate(played):
        names = [move_name(move, game) for move in moves]
        one: Json = {"moves": names, "payoffs": [float(x) for x in payoffs]}
        if spoken is not None:
            # In a round that ended early, a seat may have claimed nothing.
            one["moves"] = [spoken.answers.get((number, seat), "none") for seat in (0, 1)]
            one["messages"] = spoken.messages.get(number, [])
        rounds.append(one)
    return {"row": match.row, "column": match.column, "seed": match.seed, "rounds": rounds}
