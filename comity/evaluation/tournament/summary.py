"""The summary of a tournament: every number of its page, as plain values.

The format is that of `comity.reports.tournament.summary_format`. Estimates of a pair are over its
matches; those of an agent are over environment seeds: on each seed its values against all
opponents, on both seats, are averaged with equal weights. Intervals speak of other environment
seeds, with these agents; another training seed would be another agent.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from typing import Any

import numpy as np

from comity.errors import ComityError
from comity.evaluation.metagame.alpha_rank import alpha_rank
from comity.evaluation.metagame.deviation_ratings import deviation_ratings
from comity.evaluation.metagame.elo import elo, win_matrix
from comity.evaluation.metagame.equilibria import equilibria
from comity.evaluation.metagame.replicator import basins, trajectories
from comity.evaluation.payoff_ranges import payoff_range
from comity.evaluation.statistics import Estimate, mean_over_seeds
from comity.evaluation.tournament.comparison import compare, corrected
from comity.evaluation.tournament.metrics import METRICS, TournamentMetric, applicable, bounds
from comity.evaluation.tournament.pair_matches import PairMatches, clean
from comity.evaluation.tournament.records import StoredMatch
from comity.games.base import Game
from comity.games.matrix.iterated import Iterated
from comity.players.scripted.catalog import example_turns

Json = dict[str, Any]

TRANSCRIPTS = 2
"""Matches of a pair that the page shows."""
MAX_TRANSCRIPTS = 400
"""Matches that the page shows in all."""
COMPARED = 8
"""Up to so many agents, every two are compared; of more, neighbours in the ranking."""
MAX_METAGAME = 60
"""Most agents whose meta-game is solved."""
IDENTICAL = "all matches are identical: nothing in them is random"
SCORE = "payoff"
"""The metric that ranks."""
BETTER = {
    **dict.fromkeys(
        ("payoff", "margin", "welfare_share", "rawlsian_minimum", "deal_rate", "surplus_share"),
        "high",
    ),
    **dict.fromkeys(("gini", "envy", "illegal", "below_reserve"), "low"),
}
"""Metrics of which more or less is better; the others only describe."""
UNITS = {"points": "points", "share": "share", "difference": "difference"}


@dataclass(frozen=True)
class Pair:
    """The matches of an ordered pair."""

    matches: PairMatches
    repetitions: tuple[int, ...]
    deterministic: bool
    illegal: np.ndarray
    """int `[match]`: answers of any kind and either seat that could not be read."""

    def legal(self) -> "Pair":
        """Only the matches without a forfeit and without an illegal answer."""
        chosen = clean(self.matches) & (self.illegal == 0)
        kept = tuple(k for k, use in zip(self.repetitions, chosen, strict=True) if use)
        return Pair(self.matches.part(chosen), kept, self.deterministic, self.illegal[chosen])


Pairs = dict[tuple[str, str], Pair]


def group_pairs(matches: Iterable[StoredMatch], game: Game) -> Pairs:
    """The matches of every ordered pair as arrays."""
    found: dict[tuple[str, str], list[StoredMatch]] = defaultdict(list)
    for match in matches:
        found[match.row, match.column].append(match)
    return {
        key: _pair(sorted(some, key=lambda one: one.repetition), game)
        for key, some in found.items()
    }


def _pair(matches: Sequence[StoredMatch], game: Game) -> Pair:
    rounds = max(len(match.payoffs_row) for match in matches)

    def filled(values: Sequence[Sequence[Any]], empty: Any, dtype: Any) -> np.ndarray:
        array = np.full((len(values), rounds), empty, dtype=dtype)
        for m, row in enumerate(values):
            array[m, : len(row)] = row
        return array

    def seats(name: str, empty: Any, dtype: Any) -> np.ndarray:
        return np.stack(
            [
                filled([getattr(match, f"{name}_{seat}") for match in matches], empty, dtype)
                for seat in ("row", "column")
            ],
            axis=1,
        )

    alive = filled([[True] * len(match.payoffs_row) for match in matches], False, bool)
    split = any(len(match.deal) for match in matches)
    best: np.ndarray | None = None
    if split:
        best = filled([match.best_surplus for match in matches], 0.0, float)
    elif isinstance(game, Iterated) and game.sample_instance(0) is game:
        best = np.where(alive, _best_welfare(game), 0.0)
    arrays = PairMatches(
        intended=seats("intended", -1, np.int64),
        moves=seats("moves", -1, np.int64),
        payoffs=seats("payoffs", 0.0, float),
        alive=alive,
        best_welfare=best,
        deal=filled([match.deal for match in matches], False, bool) if split else None,
        surplus=filled([match.surplus for match in matches], 0.0, float) if split else None,
        best_surplus=best if split else None,
    )
    return Pair(
        arrays,
        tuple(match.repetition for match in matches),
        all(match.deterministic for match in matches),
        np.array([match.illegal_row + match.illegal_column for match in matches]),
    )


def _best_welfare(game: Iterated) -> float:
    """The largest sum of payoffs in a round."""
    joint = product(range(len(game.moves)), repeat=game.seats)
    return max(float(sum(game.stage.payoff(moves))) for moves in joint)


def is_symmetric(game: Game) -> bool:
    """Whether both seats have the same choices and payoffs."""
    if isinstance(game, Iterated):
        if game.sample_instance(0) is not game:
            return True  # Drawn tables are symmetric.
        joint = product(range(len(game.moves)), repeat=2)
        payoff = game.stage.payoff
        return all(payoff((a, b))[0] == payoff((b, a))[1] for a, b in joint)
    asked = [{turn.kind for turn in example_turns(game) if turn.seat == s} for s in (0, 1)]
    return asked[0] == asked[1]


def estimate(found: Estimate | None) -> Json:
    """An estimate as the page takes it."""
    if found is None:
        return {"mean": None, "low": None, "high": None, "n": 0, "note": "nothing was counted"}
    note = found.reason or f"95 % interval over {found.units} {found.over}"
    return {"mean": found.mean, "low": found.low, "high": found.high, "n": found.n, "note": note}


def summarize(
    header: Mapping[str, Any],
    matches: Iterable[StoredMatch],
    game: Game,
    repetitions: int,
    references: Json | None = None,
    outcomes: Mapping[str, Json] | None = None,
) -> Json:
    """The summary of a tournament.

    `header`: what the page says of it (title, game, seed, players, version, created, and so on);
    `repetitions`: matches of each ordered pair that were asked for; `outcomes`: how the answers of
    language models ended, by player.
    """
    kept = list(matches)
    names = [player["name"] for player in header["players"]]
    pairs = group_pairs(kept, game)
    payoffs = payoff_range(game)
    used = [name for name in METRICS if any(name in applicable(p.matches) for p in pairs.values())]
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
        "metrics": {name: _defined(name, METRICS[name], payoffs) for name in used},
        **whole,
        "clean": None if is_clean else _tables(legal, names, used, payoffs, repetitions),
        "outcomes": dict(outcomes or {}),
        "usage": {},
        "references": references or {},
        "metagame": _metagame(pairs, names),
        "comparisons": _comparisons(pairs, whole["agents"], payoffs, repetitions),
        "transcripts": _transcripts(kept, game),
    }


def _defined(name: str, metric: TournamentMetric, payoffs: tuple[float, float] | None) -> Json:
    limits = bounds(name, payoffs)
    finite = [None, None] if limits is None else [x if np.isfinite(x) else None for x in limits]
    return {
        "label": metric.title,
        "formula": f"{metric.text} {metric.formula}",
        "source": metric.source,
        "unit": UNITS.get(metric.unit, metric.unit),
        "bounds": finite,
        "better": BETTER.get(name, "none"),
    }


def _tables(
    pairs: Pairs,
    names: Sequence[str],
    metrics: Sequence[str],
    payoffs: tuple[float, float] | None,
    repetitions: int,
) -> Json:
    """The pairs and the agents with their metrics."""
    rows = []
    for (row, column), pair in pairs.items():
        found = {}
        for name in metrics:
            if name in applicable(pair.matches):
                counts = METRICS[name].count(pair.matches)
                exact = IDENTICAL if pair.deterministic else ""
                over = mean_over_seeds([counts], bounds(name, payoffs), "matches", exact)
                found[name] = estimate(over)
        rows.append(
            {
                "row": row,
                "column": column,
                "matches": repetitions if pair.deterministic else len(pair.matches),
                "identical": pair.deterministic,
                "metrics": found,
            }
        )
    agents: list[Json] = []
    for agent in names:
        fixed = all(pair.deterministic for key, pair in pairs.items() if agent in key)
        agents.append(
            {
                "name": agent,
                "metrics": {
                    name: estimate(
                        mean_over_seeds(
                            [_by_seed(pairs, agent, METRICS[name].count, name, repetitions)],
                            bounds(name, payoffs),
                            "environment seeds",
                            IDENTICAL if fixed else "",
                        )
                    )
                    for name in metrics
                },
            }
        )
    order = sorted(agents, key=lambda one: -_score(one))
    for place, one in enumerate(order, 1):
        before = order[place - 2] if place > 1 else None
        tied = before is not None and _score(before) == _score(one)
        one["rank"] = before["rank"] if before is not None and tied else place
    return {"pairs": rows, "agents": agents}


def _score(agent: Json) -> float:
    """What an agent is ranked by; without a match it comes last."""
    mean = agent["metrics"].get(SCORE, {}).get("mean")
    return -np.inf if mean is None else float(mean)


def _by_seed(
    pairs: Pairs,
    agent: str,
    count: Callable[[PairMatches], np.ndarray],
    name: str,
    repetitions: int,
) -> np.ndarray:
    """float64 `[seed]`: the agent's value on each environment seed, averaged over its opponents.

    Against an opponent it is a ratio of sums over both seats. Seeds without a value are left out.
    """
    opponents = sorted({key[1 - key.index(agent)] for key in pairs if agent in key})
    values = np.full((len(opponents), repetitions), np.nan)
    for i, opponent in enumerate(opponents):
        sums = np.zeros((repetitions, 2))
        views = [(pairs.get((agent, opponent)), False)]
        if opponent != agent:
            views.append((pairs.get((opponent, agent)), True))
        for pair, mirrored in views:
            if pair is None or name not in applicable(pair.matches):
                continue
            counts = count(pair.matches.mirrored() if mirrored else pair.matches)
            if pair.deterministic and len(counts):
                sums += counts[0]
            else:
                for k, row in zip(pair.repetitions, counts, strict=True):
                    sums[k] += row
        counted = sums[:, 1] > 0
        values[i, counted] = sums[counted, 0] / sums[counted, 1]
    met = ~np.isnan(values)
    seeds = met.any(axis=0)
    return np.array([values[met[:, k], k].mean() for k in np.flatnonzero(seeds)])


def payoff_matrix(pairs: Pairs, names: Sequence[str]) -> np.ndarray | None:
    """float64 `[agent, agent]`: payoff per round of the row against the column, over both seats.

    None where a pair has no matches.
    """
    found = np.zeros((len(names), len(names)))
    for i, row in enumerate(names):
        for j, column in enumerate(names):
            sums = np.zeros(2)
            for key, mirrored in {((row, column), False), ((column, row), True)}:
                if key not in pairs:
                    return None
                matches = pairs[key].matches
                counts = METRICS[SCORE].count(matches.mirrored() if mirrored else matches)
                sums += counts.sum(axis=0) / counts[:, 1].sum()
            found[i, j] = sums[0] / sums[1]
    return found


def _wins(pairs: Pairs, names: Sequence[str]) -> np.ndarray:
    """float64 `[agent, agent]`: share of matches in which the row got more; ties as 1/2."""
    wins = np.zeros((len(names), len(names)))
    for (row, column), pair in pairs.items():
        totals = pair.matches.payoffs.sum(axis=2)
        i, j = names.index(row), names.index(column)
        for own, other in totals:
            result = win_matrix(np.array([[0.0, own], [other, 0.0]]))
            wins[i, j] += result[0, 1] / len(totals)
            wins[j, i] += result[1, 0] / len(totals)
    return wins


def _metagame(pairs: Pairs, names: Sequence[str]) -> Json:
    """The empirical game over the agents; {} where it is not complete."""
    matrix = payoff_matrix(pairs, names)
    if matrix is None or not 2 <= len(names) <= MAX_METAGAME:
        return {}

    def mixture(shares: Sequence[float] | np.ndarray) -> Json:
        return {n: float(p) for n, p in zip(names, shares, strict=True) if p > 1e-9}

    found: Json = {
        "equilibria": [
            {
                "mixture": mixture(one.row),
                "payoff": float(one.payoffs[0]),
                "symmetric": bool(one.symmetric),
            }
            for one in equilibria(matrix).found
            if one.symmetric
        ],
        "alpha_rank": dict(zip(names, map(float, alpha_rank(matrix).marginal()), strict=True)),
    }
    with suppress(ComityError):  # Too many agents for the linear programs.
        ratings = deviation_ratings(matrix).ratings[0]
        found["deviation_ratings"] = dict(zip(names, map(float, ratings), strict=True))
    rest = basins(matrix)
    paths: list[Any] = []
    if len(names) == 3:
        starts = np.array([[a, b, 6 - a - b] for a in range(1, 5) for b in range(1, 6 - a)]) / 6
        paths = np.round(trajectories(matrix, starts, points=80), 4).tolist()
    found["replicator"] = {
        "points": [{"mixture": mixture(r.shares), "basin": r.basin} for r in rest.rest_points],
        "trajectories": paths,
    }
    rated = elo(_wins(pairs, names))
    found["elo"] = {
        "ratings": dict(zip(names, map(float, rated.ratings), strict=True)),
        "cyclic_share": rated.cyclic_share,
        "warning": rated.warning,
    }
    return found


def _comparisons(
    pairs: Pairs,
    agents: Sequence[Json],
    payoffs: tuple[float, float] | None,
    repetitions: int,
) -> list[Json]:
    """Paired comparisons of payoffs under common environment seeds, corrected by Holm's method."""
    ranked = [one["name"] for one in sorted(agents, key=lambda one: one["rank"])]
    chosen = list(combinations(ranked, 2)) if len(ranked) <= COMPARED else list(pairwise(ranked))
    values = {
        agent: _by_seed(pairs, agent, METRICS[SCORE].count, SCORE, repetitions) for agent in ranked
    }
    limits = None if payoffs is None else (payoffs[0] - payoffs[1], payoffs[1] - payoffs[0])
    made = [
        compare(first, second, values[first] - values[second], limits)
        for first, second in chosen
        if len(values[first]) == len(values[second]) > 0
    ]
    return [
        {
            "first": one.first,
            "second": one.second,
            "difference": estimate(one.difference),
            "p": one.test.p,
            "p_corrected": one.adjusted,
            "verdict": one.verdict,
        }
        for one in corrected(made)
    ]


def _transcripts(matches: Sequence[StoredMatch], game: Game) -> list[Json]:
    """The first matches of every pair, round by round."""
    per_pair = Counter[tuple[str, str]]()
    found: list[Json] = []
    for match in sorted(matches, key=lambda one: one.repetition):
        key = (match.row, match.column)
        if per_pair[key] >= TRANSCRIPTS or len(found) >= MAX_TRANSCRIPTS:
            continue
        per_pair[key] += 1
        found.append(
            {
                "row": match.row,
                "column": match.column,
                "seed": match.seed,
                "rounds": [
                    {"moves": [_named(a, game), _named(b, game)], "payoffs": [float(x), float(y)]}
                    for a, b, x, y in zip(
                        match.moves_row,
                        match.moves_column,
                        match.payoffs_row,
                        match.payoffs_column,
                        strict=True,
                    )
                ],
            }
        )
    return found


def _named(move: int, game: Game) -> str:
    """The name of a move; claims have none."""
    if move < 0:
        return "illegal"
    return game.moves[move] if game.moves else "claim"
