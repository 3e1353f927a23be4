"""Everything that the page states, as one dictionary: the content of summary.json.

Estimates are those of `comity.reports.summary.estimates`, with n decisions (cooperation,
conditional cooperation, illegal) or rounds (payoff).
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from comity.errors import ComityError
from comity.evaluation.metrics import OUTCOMES, STATES, STRATEGIES
from comity.evaluation.payoff_ranges import Range, payoff_range, stored_game
from comity.reports.loading.decisions import DecisionTable, read_crossplay, read_training
from comity.reports.loading.folders import ReportInputs, Run, last_iterations, learner_name, uneven
from comity.reports.summary.api import api_usage
from comity.reports.summary.conduct import by_seat_and_opponent
from comity.reports.summary.crossplay import crossplay_matrix
from comity.reports.summary.estimates import (
    SHARE,
    Json,
    Measure,
    against_all,
    by_seed,
    concatenate,
    conditional,
    cooperation,
    estimate,
    illegal,
    payoff,
    shares_over_seeds,
)
from comity.reports.summary.logged import against, further, over_seeds
from comity.reports.summary.moral import PerIteration, moral_curves
from comity.reports.summary.negotiation import negotiation, negotiation_curves

HEALTH: dict[str, Range | None] = {
    "reward": None,
    "entropy": (0.0, np.inf),
    "kl": None,
    "gradient_norm": (0.0, np.inf),
}
"""Quantities of metrics.jsonl that are drawn beside the learning curves, with their ranges (the
estimate of a divergence can be negative)."""

REFERENCE: dict[str, dict[str, float]] = {
    name: {"start": 0.0 if name == "always_defect" else 1.0, **row}
    for name, row in STRATEGIES.items()
}
"""P(C | state) of the reference strategies, with their first move."""


def joint_outcomes(table: DecisionTable) -> dict[str, float] | None:
    """Shares of one seed's rounds by joint outcome, the policy's own move first.

    The policy's seat is, match by match, that of the decisions marked `trained`; where both are
    (it plays itself), and where no seat was marked in any match, seat 0's move is first. Matches
    without it are left out. "illegal": rounds in which some answer was illegal, or some seat made
    no move. None unless two seats with two moves each played.
    """
    table = table.where(table.choice)
    if not len(table) or set(np.unique(table.seat)) != {0, 1}:
        return None
    if max(table.move.max(), table.played.max()) > 1:
        return None
    _, match = np.unique(table.match, return_inverse=True)
    first = np.full(match.max() + 1, 2)
    np.minimum.at(first, match[table.trained], table.seat[table.trained])
    if not table.trained.any():
        first[:] = 0
    table, first = table.where(first[match] < 2), first[match][first[match] < 2]
    keys, index = np.unique(np.stack([table.match, table.round]), axis=1, return_inverse=True)
    index = index.reshape(-1)
    moves = np.full((keys.shape[1], 2), -1)
    moves[index, np.where(table.seat == first, 0, 1)] = np.where(table.move < 0, -1, table.played)
    legal = (moves >= 0).all(axis=1)
    code = np.where(legal, moves[:, 0] * 2 + moves[:, 1], 4)
    shares = np.bincount(code, minlength=5) / len(code)
    return {name: float(share) for name, share in zip((*OUTCOMES, "illegal"), shares, strict=True)}


def describe(table: DecisionTable, payoffs: Range | None, opponents: bool = False) -> Json:
    """Cooperation, payoff, illegal answers and conditional cooperation of some decisions.

    `payoffs`: their range. `opponents`: in a cross-play; all of them weigh the same.
    """
    mean = against_all if opponents else estimate
    return {
        "cooperation": mean(table, cooperation, SHARE),
        "payoff": mean(table, payoff, payoffs),
        "illegal": estimate(table, illegal),
        "conditional_cooperation": {state: estimate(table, conditional(state)) for state in STATES},
    }


def summarize(inputs: ReportInputs, progress: Callable[[str], None] = lambda line: None) -> Json:
    """All numbers of the report (without the head that says what was run)."""
    policies: Json = {}
    learning: Json = {}
    outcomes: Json = {}
    moral: Json = {}
    talks: Json = {}
    for name in inputs.policies:
        progress(name)
        runs = [run for run in inputs.runs if run.policy == name]
        tables = _tables(runs)
        learners = _by_player(tables, _players(tables, learners=True))
        for player, trained in learners.items():
            learner = learner_name(name, player)
            policies[learner], learning[learner], outcomes[learner] = _trained(
                runs, trained, is_alone=len(learners) == 1
            )
            moral[learner] = moral_curves(runs, trained)
            talks[learner] = negotiation_curves(runs, player)
        if not learners:
            if not any("human" in run.config.get("seats", ()) for run in runs):
                raise ComityError(
                    f"{runs[0].path} has no trained decisions; nothing is left to report"
                )
            for player, seated in _by_player(tables, _players(tables)).items():
                called = f"{player} ({name})" if player in policies else player
                policies[called] = _untrained(runs, seated)
                talks[called] = negotiation_curves(runs, player)
    crossplay: Json = {}
    if inputs.crossplay is not None:
        progress("cross-play")
        table = read_crossplay(inputs.crossplay / "decisions.parquet")
        payoffs = payoff_range(stored_game(inputs.config)) or _payoffs(list(inputs.runs))
        crossplay = crossplay_matrix(table, payoffs)
        for name in crossplay:
            own = table.where(table.player == name)
            described = describe(own, payoffs, opponents=True)
            if name in policies:
                policies[name]["crossplay"] = described
            else:
                policies[name] = {
                    "source": "cross-play",
                    **described,
                    "per_seed": _per_seed(own, payoffs),
                }
    return {
        "policies": policies,
        "learning": learning,
        "outcomes": outcomes,
        "moral": {name: one for name, one in moral.items() if one},
        "negotiation": negotiation(inputs, talks),
        "crossplay": crossplay,
        "api": api_usage(inputs.runs),
        "reference": REFERENCE,
    }


def _tables(runs: list[Run]) -> PerIteration:
    """The decisions of a policy's runs by iteration."""
    tables: PerIteration = {i: [] for i in sorted({i for run in runs for i in run.iterations})}
    for run in runs:
        for iteration in run.iterations:
            tables[iteration].append(read_training(run.decisions(iteration), run.seed))
    return tables


def _players(tables: PerIteration, learners: bool = False) -> list[str]:
    """Names of all who decided, or only of those who were trained."""
    every = [table for at in tables.values() for table in at]
    named = [t.player[t.trained if learners else t.answer] for t in every]
    return sorted({str(player) for players in named for player in np.unique(players)})


def _by_player(tables: PerIteration, players: Iterable[str]) -> dict[str, PerIteration]:
    """For each player the decisions with `trained` marking its rows only.

    Where several learners were trained (an adapter per seat), each is a policy of its own. Where
    nobody was, every player's answers are marked.
    """
    learned = any(t.trained.any() for at in tables.values() for t in at)
    return {
        player: {
            iteration: [
                replace(t, trained=(t.trained if learned else t.answer) & (t.player == player))
                for t in at
            ]
            for iteration, at in tables.items()
        }
        for player in players
    }


def _untrained(runs: list[Run], tables: PerIteration) -> Json:
    """Summary of a player in matches without a learner."""
    marked = concatenate([t.where(t.trained) for at in tables.values() for t in at])
    payoffs = _payoffs(runs)
    return {
        "source": "as played",
        **describe(marked, payoffs),
        "per_seed": _per_seed(marked, payoffs),
    }


def _trained(
    runs: list[Run], tables: PerIteration, is_alone: bool = True
) -> tuple[Json, Json, Json]:
    """Summary, learning curves and joint outcomes of the runs (seeds) of one policy.

    `is_alone`: the runs have no other learner, so that metrics.jsonl speaks of this one and its
    curves can have the iterations too whose decisions were not recorded.
    """
    payoffs = _payoffs(runs)
    measures: dict[str, tuple[Measure, Range | None]] = {
        "cooperation": (cooperation, SHARE),
        "payoff": (payoff, payoffs),
        "illegal": (illegal, SHARE),
    }
    curves: dict[str, list[Json | None]] = {name: [] for name in measures}
    shares: list[dict[str, float] | None] = []
    for at in tables.values():
        whole = concatenate(at)
        trained = whole.where(whole.trained)
        for name, (measure, bounds) in measures.items():
            point = estimate(trained, measure, bounds)
            if point is not None and name != "illegal" and len(runs) > 1:
                point["seeds"] = by_seed(trained, measure)
            curves[name].append(point)
        shares.append(shares_over_seeds(joint_outcomes(one) for one in at))
    last = last_iterations(runs)
    final = concatenate(
        [t for seed, at in last.items() for t in tables[at] if str(t.seed[0]) == seed]
    )
    by = by_seat_and_opponent(final)
    final = final.where(final.trained)
    summary = {
        "source": "last iteration",
        "seeds": sorted(run.seed for run in runs),
        "last_iteration": last,
        "uneven": uneven(runs),
        **describe(final, payoffs),
        **by,
        "per_seed": _per_seed(final, payoffs),
    }
    iterations = sorted({*tables, *(_only_measured(runs, tables) if is_alone else ())})
    for name, (_, bounds) in measures.items():
        curves[name] = _filled(curves[name], list(tables), iterations, runs, name, bounds)
    health = {key: over_seeds(runs, iterations, bounds, key) for key, bounds in HEALTH.items()}
    learning = {
        "iteration": iterations,
        **curves,
        **{key: values for key, values in health.items() if any(v is not None for v in values)},
        **further(runs, iterations),
        **against(runs, iterations, payoffs),
    }
    return summary, learning, _transposed(iterations, shares)


def _only_measured(runs: list[Run], tables: PerIteration) -> set[int]:
    """Iterations that are in metrics.jsonl alone: their decisions were not recorded."""
    lines = [line for run in runs for line in run.metrics if "payoff" in line]
    return {line["iteration"] for line in lines} - set(tables)


def _filled(
    points: list[Json | None],
    recorded: list[int],
    iterations: list[int],
    runs: list[Run],
    name: str,
    bounds: Range | None,
) -> list[Json | None]:
    """A curve on `iterations`: its points where decisions were recorded, else metrics.jsonl's."""
    known = dict(zip(recorded, points, strict=True))
    rest = [iteration for iteration in iterations if iteration not in known]
    measured = dict(zip(rest, over_seeds(runs, rest, bounds, name), strict=True))
    for iteration, point in measured.items():
        if point is None:
            continue
        point["of"] = "metrics"
        if name != "illegal" and len(runs) > 1:
            lines = [(run.seed, line) for run in runs for line in run.metrics]
            point["seeds"] = {
                str(seed): round(float(line[name]), 6)
                for seed, line in lines
                if line["iteration"] == iteration and line.get(name) is not None
            }
    return [{**known, **measured}[iteration] for iteration in iterations]


def _payoffs(runs: list[Run]) -> Range | None:
    """The range of a round's payoff; None where the runs' games have different ones."""
    found = {payoff_range(stored_game(run.config)) for run in runs}
    return found.pop() if len(found) == 1 else None


def _transposed(iterations: list[int], shares: list[dict[str, float] | None]) -> Json:
    """Lists per outcome; empty unless every iteration has joint outcomes."""
    known = [share for share in shares if share is not None]
    if len(known) < len(shares):
        return {}
    return {"iteration": iterations, **{name: [s[name] for s in known] for name in known[0]}}


def _per_seed(table: DecisionTable, payoffs: Range | None) -> Json:
    return {
        str(seed): {
            "cooperation": estimate(table.where(table.seed == seed), cooperation),
            "payoff": estimate(table.where(table.seed == seed), payoff, payoffs),
        }
        for seed in np.unique(table.seed)
    }
