"""Summaries of tournaments and exploit runs, from short matches of memory-one strategies."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

Json = dict[str, Any]

MOVES = ("cooperate", "defect")
PAYOFFS = {(0, 0): (3, 3), (0, 1): (0, 5), (1, 0): (5, 0), (1, 1): (1, 1)}
ROUNDS = 10
CLASSIC = {
    "tit_for_tat": (1.0, 1.0, 0.0, 1.0, 0.0),
    "always_defect": (0.0, 0.0, 0.0, 0.0, 0.0),
    "always_cooperate": (1.0, 1.0, 1.0, 1.0, 1.0),
    "win_stay_lose_shift": (1.0, 1.0, 0.0, 0.0, 1.0),
    "grim_trigger": (1.0, 1.0, 0.0, 0.0, 0.0),
    "generous_tit_for_tat": (1.0, 1.0, 0.33, 1.0, 0.33),
    "run:runs/ipd-seed-0-2026-03-14T09-30-12@120:main": (0.3, 0.4, 0.1, 0.6, 0.1),
    "api:gpt-5-nano@https://api.openai.com/v1": (0.95, 0.9, 0.2, 0.7, 0.3),
}
"""P(C) in the first round and after CC, CD, DC, DD."""
METRICS: Json = {
    "payoff": {
        "label": "Payoff",
        "definition": "What is called Payoff.",
        "formula": "sum_t u_row(t) / T",
        "source": "Axelrod (1984)",
        "unit": "payoff per round",
        "bounds": [0, 5],
        "better": "high",
    },
    "margin": {
        "label": "Margin",
        "definition": "What is called Margin.",
        "formula": "(sum_t u_row(t) - u_column(t)) / T",
        "source": "",
        "unit": "payoff per round",
        "bounds": [-5, 5],
        "better": "none",
    },
    "cooperation": {
        "label": "Cooperation",
        "definition": "What is called Cooperation.",
        "formula": "#C / T",
        "source": "",
        "unit": "share",
        "bounds": [0, 1],
        "better": "none",
    },
    "gini": {
        "label": "Gini coefficient",
        "definition": "What is called Gini coefficient.",
        "formula": "sum_ij |u_i - u_j| / (2 n sum_i u_i)",
        "source": "Gini (1912)",
        "unit": "",
        "bounds": [0, 1],
        "better": "low",
    },
    "best_response_gap": {
        "label": "Best-response gap",
        "definition": "What is called Best-response gap.",
        "formula": "max_s u(s, column) - u(row, column)",
        "source": "",
        "unit": "payoff per round",
        "bounds": [0, None],
        "better": "low",
    },
}


def strategies(count: int, called: Mapping[str, str]) -> dict[str, tuple[float, ...]]:
    """The classic ones first; then random ones with names of the axelrod package's kind."""
    found = dict(list(CLASSIC.items())[:count])
    dice = random.Random(7)
    for number in range(len(found), count):
        cautious = dice.random()
        found[f"axelrod:Stochastic Memory One {number}"] = tuple(
            round(min(1.0, max(0.0, dice.gauss(cautious, 0.4))), 2) for _ in range(5)
        )
    return {called.get(name, name): table for name, table in found.items()}


def play(one: Sequence[float], other: Sequence[float], seed: int) -> list[Json]:
    """The rounds of a match."""
    dice, rounds, last = random.Random(seed), [], None
    for _ in range(ROUNDS):
        chances = (one[0], other[0]) if last is None else _after(one, other, last)
        moves = tuple(int(dice.random() >= chance) for chance in chances)
        last = (moves[0], moves[1])
        names = [MOVES[move] for move in moves]
        rounds.append({"moves": names, "payoffs": list(PAYOFFS[last]), "messages": []})
    return rounds


def _after(
    one: Sequence[float], other: Sequence[float], last: tuple[int, int]
) -> tuple[float, ...]:
    return one[1 + 2 * last[0] + last[1]], other[1 + 2 * last[1] + last[0]]


def estimate(values: Sequence[float | None], note: str = "over matches") -> Json:
    """Mean and a normal interval; none where all values are equal."""
    known = [value for value in values if value is not None]
    if not known:
        return {"mean": None, "low": None, "high": None, "n": 0, "note": "nothing was measured"}
    mean, n = sum(known) / len(known), len(known)
    spread = sum((value - mean) ** 2 for value in known)
    if n < 2 or spread == 0:
        why = "all matches are identical" if n > 1 else "one match"
        return {"mean": mean, "low": None, "high": None, "n": n, "note": f"no interval: {why}"}
    half = 1.96 * math.sqrt(spread / (n - 1) / n)
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": n, "note": note}


def measure(rounds: Sequence[Json]) -> dict[str, float | None]:
    """The metrics of the row player in one match."""
    own = sum(one["payoffs"][0] for one in rounds) / len(rounds)
    theirs = sum(one["payoffs"][1] for one in rounds) / len(rounds)
    return {
        "payoff": own,
        "margin": own - theirs,
        "cooperation": sum(one["moves"][0] == "cooperate" for one in rounds) / len(rounds),
        "gini": abs(own - theirs) / (2 * (own + theirs)) if own + theirs else None,
        "best_response_gap": max(0.0, 5 - own) / 2,
    }


def kind_of(name: str) -> str:
    head = name.split(":", 1)[0]
    return head if ":" in name and head in ("axelrod", "run", "api", "model") else "scripted"


def tournament(
    count: int = 8,
    matches: int = 6,
    kept: int = 2,
    called: Mapping[str, str] | None = None,
    text: str = "Let us both cooperate.",
    parts: bool = True,
) -> Json:
    """A whole summary; without `parts`, all that may be missing is."""
    agents = strategies(count, called or {})
    names = list(agents)
    pairs: list[Json] = []
    transcripts: list[Json] = []
    for r, row in enumerate(names):
        for c, column in enumerate(names):
            played = [
                play(agents[row], agents[column], 1000 * r + 10 * c + m) for m in range(matches)
            ]
            measured = [measure(rounds) for rounds in played]
            sure = all(p in (0.0, 1.0) for name in (row, column) for p in agents[name])
            found = {key: estimate([one[key] for one in measured]) for key in METRICS}
            if row == column:
                del found["margin"]
            pair = {"row": row, "column": column, "matches": matches, "identical": sure}
            pairs.append({**pair, "metrics": found})
            for m in range(kept):
                rounds = played[m]
                if kind_of(row) == "api" and m == 0:
                    rounds[0]["messages"] = [[0, text], [1, "Agreed. \U0001f91d"]]
                seed = 2**60 + m
                transcripts.append({"row": row, "column": column, "seed": seed, "rounds": rounds})
    overall = summarized(names, pairs)
    summary: Json = {
        "schema": 1,
        "kind": "tournament",
        "title": f"Iterated prisoner's dilemma, {count} agents",
        "game": {
            "name": "prisoners_dilemma",
            "description": "The iterated prisoner's dilemma.",
            "settings": {"rounds": {"name": "fixed", "rounds": ROUNDS}, "noise": 0.0},
            "symmetric": True,
            "unit": "payoff per round",
        },
        "seed": 0,
        "matches": matches,
        "played": matches * count**2,
        "missing": 0,
        "missing_reasons": {},
        "version": "0.9.0",
        "created": "2026-03-14",
        "command": f"comity tournament GAME --matches {matches} --seed 0",
        "versions": {"comity": "0.1.0", "gpu": None},
        "players": [
            {
                "name": name,
                "kind": kind_of(name),
                "description": f"P(C) {agents[name]} in the first round and after CC, CD, DC, DD.",
                "details": {"memory": 1, "stochastic": any(0 < p < 1 for p in agents[name])},
            }
            for name in names
        ],
        "metrics": METRICS,
        "pairs": pairs,
        "agents": overall,
        "clean": None,
        "outcomes": {},
        "usage": {},
        "references": {},
        "metagame": {},
        "comparisons": [],
        "transcripts": transcripts,
    }
    return {**summary, **further(names, pairs, overall)} if parts else summary


def summarized(names: Sequence[str], pairs: Sequence[Json]) -> list[Json]:
    """Every agent over its opponents, with its rank."""
    rows: Json = {name: [pair for pair in pairs if pair["row"] == name] for name in names}
    found = {
        name: {
            key: estimate(
                [pair["metrics"].get(key, {}).get("mean") for pair in own], "over opponents"
            )
            for key in METRICS
        }
        for name, own in rows.items()
    }
    order = sorted(names, key=lambda name: -found[name]["payoff"]["mean"])
    return [{"name": n, "rank": order.index(n) + 1, "metrics": found[n]} for n in names]


def further(names: Sequence[str], pairs: Sequence[Json], overall: Sequence[Json]) -> Json:
    """All parts that may be missing."""
    payoff = {one["name"]: one["metrics"]["payoff"]["mean"] for one in overall}
    total = sum(math.exp(value) for value in payoff.values())
    models = [name for name in names if kind_of(name) in ("api", "run")]
    better = [{**pair, "matches": max(1, pair["matches"] - 1)} for pair in pairs]
    first = {name: 1.0 if name == names[0] else 0.0 for name in names}
    half = {names[0]: 0.5, names[-1]: 0.5}
    return {
        "played": pairs[0]["matches"] * len(pairs) - 3,
        "missing": 3,
        "missing_reasons": {"transport failure": 2, "budget": 1},
        "clean": {"pairs": better, "agents": [*overall[1:], overall[0]]},
        "outcomes": {
            n: {"answered": 1180, "illegal": 14, "refused": 3, "cut_off": 2, "failed": 1}
            for n in models
        },
        "usage": {
            n: {
                "requests": 1200,
                "input_tokens": 345678,
                "output_tokens": 9876,
                "cost": None if n.startswith("run") else 0.0371,
                "retries": 17,
            }
            for n in models
        },
        "references": {
            "equilibria": [
                {"strategies": [[0.0, 1.0], [0.0, 1.0]], "payoffs": [1.0, 1.0], "pure": True}
            ],
            "welfare": 6.0,
            "minimax": [1.0, 1.0],
            "price_of_anarchy": 3.0,
            "schelling": {"cooperate": [0.0, 1.0, 2.0, 3.0], "defect": [1.0, 2.3, 3.6, 5.0]},
        },
        "metagame": {
            "equilibria": [
                {"mixture": first, "payoff": 3.0, "symmetric": True},
                {"mixture": half, "payoff": 2.25, "symmetric": False},
            ],
            "replicator": {
                "points": [{"mixture": first, "basin": 0.62}, {"mixture": half, "basin": 0.38}],
                "trajectories": trajectories(pairs, names) if len(names) == 3 else [],
            },
            "alpha_rank": {name: math.exp(value) / total for name, value in payoff.items()},
            "deviation_ratings": {
                name: value - max(payoff.values()) for name, value in payoff.items()
            },
            "elo": {
                "ratings": {name: 1000 + 150 * value for name, value in payoff.items()},
                "cyclic_share": 0.41,
                "warning": "41 % of the results are cyclic: this is no order of strength.",
            },
            "moran": {
                "fixation": {name: math.exp(value) / total for name, value in payoff.items()},
                "members": 20,
                "runs": 2000,
                "fitness": "payoff",
            },
        },
        "populations": {
            name: {
                mix: estimate([value - 0.2, value, value + 0.3])
                for mix in ("visitor", "half", "resident", "everybody")
            }
            for name, value in payoff.items()
        },
        "comparisons": [
            {
                "first": one["name"],
                "second": other["name"],
                "difference": estimate(
                    [payoff[one["name"]] - payoff[other["name"]] + d for d in (-0.3, 0.1, 0.2)]
                ),
                "p": 0.0004 if i % 3 else 0.21,
                "p_corrected": 0.003 if i % 3 else None,
                "verdict": "first is better" if i % 3 else "too few matches to say",
            }
            for i, one in enumerate(overall)
            for other in overall[i + 1 :]
        ],
    }


def trajectories(pairs: Sequence[Json], names: Sequence[str]) -> list[list[list[float]]]:
    """Replicator dynamics of three agents from a grid of starts."""
    value = {(p["row"], p["column"]): p["metrics"]["payoff"]["mean"] for p in pairs}
    paths = []
    for start in [(i, j, 7 - i - j) for i in range(1, 6) for j in range(1, 7 - i)]:
        x = [share / 7 for share in start]
        path = [x]
        for _ in range(80):
            fit = [sum(x[k] * value[row, names[k]] for k in range(3)) for row in names]
            mean = sum(a * b for a, b in zip(x, fit, strict=True))
            x = [a * (1 + 0.3 * (f - mean)) for a, f in zip(x, fit, strict=True)]
            x = [a / sum(x) for a in x]
            path.append(x)
        paths.append(path)
    return paths


def exploit(parts: bool = True) -> Json:
    """The summary of an exploit run."""
    victim, responder = "api:gpt-5-nano@https://api.openai.com/v1", "exploit/runs/x:responder"
    one, other = CLASSIC["always_defect"], CLASSIC[victim]
    curve = [
        {
            "iteration": i,
            "payoff": {
                "mean": 3.6 - 2 * math.exp(-i / 12),
                "low": 3.3 - 2 * math.exp(-i / 12),
                "high": 3.9 - 2 * math.exp(-i / 12),
                "n": 16,
                "note": "over matches",
            },
        }
        for i in range(40)
    ]

    def e(mean: float) -> Json:
        return {
            "mean": mean,
            "low": mean - 0.12,
            "high": mean + 0.15,
            "n": 64,
            "note": "over matches",
        }

    rounds = [play(one, other, seed) for seed in range(4)]
    rounds[0][0]["messages"] = [[1, "Hello."]]
    summary: Json = {
        "kind": "exploit",
        "title": "Exploiting gpt-5-nano in the iterated prisoner's dilemma",
        "game": tournament(2, parts=False)["game"],
        "victim": {"name": victim, "kind": "api", "description": "OpenAI.", "details": {"n": 1}},
        "responder": {"name": responder, "kind": "run", "description": "", "details": {}},
        "learning_curve": curve if parts else [],
        "margin": e(2.9),
        "clean_margin": e(2.5) if parts else None,
        "responder_payoff": e(3.55),
        "victim_payoff": e(0.65),
        "victim_self_play": e(2.7),
        "fair_play": 3.0 if parts else None,
        "best_scripted": {"name": "always_defect", "payoff": e(3.4)},
        "exact_best_response": {"payoff": 3.68, "description": "Memory-one, enumerated."}
        if parts
        else None,
        "share_of_best_response": {"mean": 0.965, "low": 0.93, "high": 1.0, "n": 64, "note": ""}
        if parts
        else None,
        "missing_reasons": {"no answer in 8 tries": 3} if parts else {},
        "outcomes": {
            victim: {"answered": 90, "illegal": 4, "refused": 3, "cut_off": 2, "failed": 3}
        }
        if parts
        else {},
        "usage": {
            victim: {
                "requests": 99,
                "input_tokens": 9900,
                "output_tokens": 198,
                "cost": 0.5,
                "retries": 7,
            }
        }
        if parts
        else {},
        "verdict": "The responder takes 0.55 per round more than fair play (0.43 to 0.70).",
        "transcripts": [
            {"row": responder, "column": victim, "seed": i, "rounds": one}
            for i, one in enumerate(rounds)
        ],
    }
    return summary
