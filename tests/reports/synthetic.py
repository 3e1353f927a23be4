"""Made-up runs and studies with the real files, for the tests of the reports.

A policy is a table of P(C | state) that drifts from 0.5 to a target over the iterations.
Answers may be hostile: markup, emoji, very long, illegal.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from comity.rollout.record_files import write_table
from comity.rollout.records import Conversation, Decision, Piece

PAYOFFS = {(0, 0): (3.0, 3.0), (0, 1): (0.0, 5.0), (1, 0): (5.0, 0.0), (1, 1): (1.0, 1.0)}
LABELS = ("A", "B")
RULES = (
    "You play a game with the other player. In every round both of you pick A or B.\n"
    "You pick A, they pick A: you get 3 points, they get 3.\n"
    "You pick A, they pick B: you get 0 points, they get 5.\n"
    "You pick B, they pick A: you get 5 points, they get 0.\n"
    "You pick B, they pick B: you get 1 point, they get 1.\n"
    "Earn as many points as you can in total. Answer with A or B. Round 1: your pick?"
)
HOSTILE = (
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 2'> & \u2028 \u2029 {{ 7 * 7 }}",
    "I pick \N{SMILING FACE WITH HORNS}\N{VARIATION SELECTOR-16} \N{CJK UNIFIED IDEOGRAPH-6211}!",
    "well, " * 1700,
)
FIXED = {
    "always_cooperate": {"start": 1.0, "CC": 1.0, "CD": 1.0, "DC": 1.0, "DD": 1.0},
    "always_defect": {"start": 0.0, "CC": 0.0, "CD": 0.0, "DC": 0.0, "DD": 0.0},
    "tit_for_tat": {"start": 1.0, "CC": 1.0, "CD": 0.0, "DC": 1.0, "DD": 0.0},
}
MODELS = {
    "own": {"start": 0.06, "CC": 0.2, "CD": 0.02, "DC": 0.1, "DD": 0.01},
    "utilitarian": {"start": 0.99, "CC": 0.995, "CD": 0.97, "DC": 0.97, "DD": 0.95},
    "base": {"start": 0.55, "CC": 0.57, "CD": 0.5, "DC": 0.52, "DD": 0.49},
}


def ids_of(text: str) -> list[int]:
    """One made-up token id a word."""
    return [sum(map(ord, word)) % 49152 for word in text.split()] or [0]


class Writer:
    """Plays matches between two policies and keeps the records."""

    def __init__(self, random: np.random.Generator, hostile: bool) -> None:
        self.random = random
        self.hostile = hostile
        self.decisions: list[Decision] = []
        self.conversations: list[Conversation] = []

    def match(
        self,
        iteration: int,
        number: int,
        players: tuple[str, str],
        chances: tuple[dict[str, float], dict[str, float]],
        rounds: int,
        trained: bool,
    ) -> None:
        talks = {}
        for seat, player in enumerate(players):
            if player not in FIXED:
                talks[seat] = Conversation(
                    iteration, len(self.conversations), number, seat, self.adapter(player), []
                )
                self.conversations.append(talks[seat])
        last: tuple[int, int] | None = None
        for r in range(rounds):
            answers = [self.answer(seat, players[seat], chances[seat], last) for seat in (0, 1)]
            first, second = (1 if move < 0 else move for _, move, _ in answers)
            played = (first, second)
            for seat in (0, 1):
                text, move, chance = answers[seat]
                player = players[seat]
                told = RULES if last is None else f"They played {LABELS[last[1 - seat]]}."
                scripted = seat not in talks
                start = -1 if scripted else self.tell(talks[seat], told, text)
                state = [] if last is None else [last[seat], last[1 - seat]]
                payoff = PAYOFFS[played][seat]
                self.decisions.append(
                    Decision(
                        iteration=iteration,
                        match=number,
                        group=number,
                        seed=2**61 + number,
                        seat=seat,
                        round=r,
                        step=0,
                        kind="choose",
                        player="learner" if trained else player,
                        adapter=None if scripted else self.adapter(player),
                        version=-1 if scripted or player == "base" else iteration,
                        controller="scripted" if scripted else "live" if trained else "frozen",
                        trained=trained and not scripted,
                        conversation=-1 if scripted else talks[seat].conversation,
                        start=start,
                        tokens=[] if scripted else ids_of(text),
                        logprob=float(np.log(chance)),
                        token_logprobs=[],
                        legal=[] if scripted else list(LABELS),
                        # Where texts may be hostile they were written freely, as the config has
                        # it, and what is scored then is the fallback after a failed try.
                        attempts=2 if self.hostile else 1,
                        probabilities=[]
                        if scripted
                        else [
                            chance if move == 0 else 1 - chance,
                            1 - chance if move == 0 else chance,
                        ],
                        text=text,
                        move=move,
                        move_name=("cooperate", "defect", "illegal")[move],
                        played=played[seat],
                        state=state,
                        payoff=payoff,
                        reward=payoff if trained else float("nan"),
                        return_=payoff * (rounds - r) if trained else float("nan"),
                        advantage=payoff - 2.0 if trained else float("nan"),
                    )
                )
            last = played

    def adapter(self, player: str) -> str | None:
        return None if player == "base" else "main"

    def tell(self, talk: Conversation, told: str, answer: str) -> int:
        for kind, text in (("prompt", told), ("answer", answer)):
            start = len(talk.ids)
            talk.ids += ids_of(text)
            talk.pieces.append(Piece(kind, start, len(talk.ids), text))
        return talk.pieces[-1].start

    def answer(
        self, seat: int, player: str, chances: dict[str, float], last: tuple[int, int] | None
    ) -> tuple[str, int, float]:
        state = "start" if last is None else "CD"[last[seat]] + "CD"[last[1 - seat]]
        if self.hostile and player not in FIXED and self.random.random() < 0.1:
            return HOSTILE[self.random.integers(len(HOSTILE))], -1, 0.01
        move = int(self.random.random() >= chances[state])
        return LABELS[move], move, chances[state] if move == 0 else 1 - chances[state]

    def save(
        self, decisions: Path, conversations: Path, pairings: dict[int, str] | None = None
    ) -> None:
        rows: list[dict[str, Any]] = [asdict(d) for d in self.decisions]
        if pairings is not None:
            rows = [{**row, "pairing": pairings[row["match"]]} for row in rows]
        schema = pa.schema(
            [
                (name, _type(name, annotation))
                for name, annotation in Decision.__annotations__.items()
            ]
            + ([("pairing", pa.string())] if pairings is not None else [])
        )
        write_table(decisions, pa.Table.from_pylist(rows, schema))
        talks = [asdict(c) for c in self.conversations]
        write_table(conversations, pa.Table.from_pylist(talks))


def _type(name: str, annotation: Any) -> pa.DataType:
    """The column's type for an annotation of `Decision`."""
    plain = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}
    if annotation in plain:
        return plain[annotation]
    if annotation == dict[str, float]:
        return pa.map_(pa.string(), pa.float64())
    lists = {list[int]: pa.int64(), list[float]: pa.float64(), list[str]: pa.string()}
    return pa.list_(lists[annotation]) if annotation in lists else pa.string()


def run(
    folder: Path,
    policy: str = "own",
    seed: int = 0,
    iterations: int = 4,
    matches: int = 3,
    rounds: int = 5,
    hostile: bool = True,
) -> Path:
    """Writes a run folder in which two copies of `policy` play each other."""
    random = np.random.default_rng([seed, *policy.encode()])
    config = {
        "name": "ipd",
        "seed": seed,
        "iterations": iterations,
        "matches": matches,
        "model": {"name": "smollm2-135m", "dtype": "auto"},
        "game": {"name": "prisoners_dilemma", "length": {"name": "fixed", "rounds": rounds}},
        "prompt": {"name": "conversation", "framing": "covert", "labels": list(LABELS)},
        "answer": {"name": "free", "max_tokens": 8} if hostile else {"name": "constrained"},
        "seats": ["learner", "learner"],
        "reward": {"name": policy},
        "algorithm": {"name": "reinforce", "discount": 0.9},
    }
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "versions.json").write_text(
        json.dumps({"comity": "0.1.0", "python": "3.11.9", "torch": "2.13.0", "threads": 2})
    )
    lines = []
    for iteration in range(iterations):
        progress = min(1.0, 1.4 * iteration / max(iterations - 1, 1))
        chances = {s: 0.5 + (p - 0.5) * progress for s, p in MODELS[policy].items()}
        writer = Writer(random, hostile)
        for number in range(matches):
            writer.match(iteration, number, (policy, policy), (chances, chances), rounds, True)
        name = f"{iteration:06d}.parquet"
        writer.save(folder / "decisions" / name, folder / "conversations" / name)
        metrics = {
            "iteration": iteration,
            "reward": float(np.mean([d.reward for d in writer.decisions])),
            "entropy": 0.7 - 0.6 * progress,
            "metrics": {"retaliation": 0.5 * progress, "never_counted": None},
            "kl": 0.5 * progress,
            "gradient_norm": float(random.uniform(0.5, 1.5)),
            "seconds": {"play": 3.0, "learn": 5.0, "total": 8.0},
        }
        lines.append(json.dumps(metrics))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def study(
    folder: Path,
    seeds: tuple[int, ...] = (0, 1),
    iterations: int = 4,
    matches: int = 3,
    rounds: int = 5,
    cross_matches: int = 2,
    hostile: bool = True,
    called: Mapping[str, str] | None = None,
) -> Path:
    """Writes a study with two arms and a cross-play among six players.

    `called`: other names of the arms.
    """
    names = {"own": "own", "utilitarian": "utilitarian", **(called or {})}
    arms: dict[str, list[str]] = {name: [] for name in names.values()}
    for arm, name in names.items():
        for seed in seeds:
            arms[name].append(f"{arm}/seed-{seed}")
            run(folder / arms[name][-1], arm, seed, iterations, matches, rounds, hostile)
    (folder / "study.json").write_text(json.dumps({"arms": arms}))
    (folder / "config.yaml").write_text("name: demo\n")
    writer = Writer(np.random.default_rng(7), hostile)
    players = {**MODELS, **FIXED}
    pairings: dict[int, str] = {}
    everyone = [*names, "base", "tit_for_tat", "always_cooperate", "always_defect"]
    for seed in seeds:
        for i, row in enumerate(everyone):
            for column in everyone[i:]:
                for k in range(cross_matches):
                    number = len(pairings)
                    pairings[number] = f"{names.get(row, row)}|{names.get(column, column)}|{seed}"
                    one, other = (row, column) if k % 2 == 0 else (column, row)
                    chances = (players[one], players[other])
                    pair = (names.get(one, one), names.get(other, other))
                    writer.match(0, number, pair, chances, rounds, False)
    cross = folder / "crossplay"
    writer.save(cross / "decisions.parquet", cross / "conversations.parquet", pairings)
    return folder
